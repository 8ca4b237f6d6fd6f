"""Stage 2: finetuning for clicks, with the PLM or without it.

After PA-MLM, on the same split, which is checked:

    python examples/run_ctr.py --model_name_or_path OUT --data_path ml-1m.zip --output_dir OUT_CTR
    python examples/run_ctr.py --model_name_or_path OUT --data_path ml-1m.zip --without_plm --output_dir OUT_PLAIN

Without PA-MLM, and a backbone alone:

    python examples/run_ctr.py --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 \\
        --plm_name_or_path scratch-small --plm_learning_rate 5e-4 --output_dir OUT_FRESH
    python examples/run_ctr.py --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 --ctr_only \\
        --per_device_train_batch_size 1024 --output_dir OUT_ALONE

A finished checkpoint on another table, whose new users and items get ids of their own:

    python examples/run_ctr.py --model_name_or_path OUT_CTR --extend_vocabulary --dataset csv --data_path new.csv \\
        --output_dir OUT_NEW

or the same with `accelerate launch` in front. Ends with AUC and log loss on the test split, in OUT/all_results.json.
"""

from clickprompt_hf.runs.finetune import main

if __name__ == "__main__":
    main()
