"""Stage 2 with the PLM: samples per second and peak memory of finetuning steps, our way and the plain way.

python benchmarks/finetune.py --dataset ml-1m --data_path ml-1m.zip
"""

from plm_steps import main

if __name__ == "__main__":
    main("finetune", __doc__)
