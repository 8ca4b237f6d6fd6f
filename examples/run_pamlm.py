"""Stage 1: prompt-augmented masked language modelling (PA-MLM), or causal (PA-CLM) where the PLM is a decoder.

    python examples/run_pamlm.py --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 \\
        --plm_name_or_path scratch-small --plm_learning_rate 5e-4 --prompt_length 5 \\
        --per_device_train_batch_size 32 --num_train_epochs 3 --bf16 --output_dir OUT

or the same with `accelerate launch` in front. Arguments of transformers' TrainingArguments work as usual.
Trains on training and validation rows, so the validation figures are in-sample; the test rows stay unseen.
Finetune OUT with run_ctr.py.
"""

from clickprompt_hf.runs.pretrain import main

if __name__ == "__main__":
    main()
