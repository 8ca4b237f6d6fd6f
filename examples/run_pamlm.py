"""Stage 1: PA-MLM, or PA-CLM if the PLM is a decoder.

    python examples/run_pamlm.py --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 \\
        --plm_name_or_path scratch-small --plm_learning_rate 5e-4 --prompt_length 5 \\
        --per_device_train_batch_size 32 --num_train_epochs 3 --output_dir OUT

The same as clickprompt pretrain. For several processes, run it with accelerate launch instead of python.
"""

from clickprompt_hf.runs.command import run_command
from clickprompt_hf.runs.pretrain import main

if __name__ == "__main__":
    run_command("pretrain", main)
