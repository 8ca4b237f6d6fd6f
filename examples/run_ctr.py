"""Stage 2: finetuning for clicks, with or without the PLM.

    python examples/run_ctr.py --model_name_or_path OUT --data_path ml-1m.zip --output_dir OUT_CTR
    python examples/run_ctr.py --model_name_or_path OUT --data_path ml-1m.zip --without_plm --output_dir OUT_PLAIN
    python examples/run_ctr.py --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 --ctr_only --output_dir OUT_ALONE

The same as clickprompt finetune. For several processes, run it with accelerate launch instead of python.
"""

from clickprompt_hf.runs.command import run_command
from clickprompt_hf.runs.finetune import main

if __name__ == "__main__":
    run_command("finetune", main)
