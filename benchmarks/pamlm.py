"""Stage 1: samples per second and peak memory of PA-MLM steps (PA-CLM for decoders), our way and the plain way.

python benchmarks/pamlm.py --dataset ml-1m --data_path ml-1m.zip
python benchmarks/pamlm.py --plms T5-base BERT-large --batch_sizes 8 --prompt_encoders low_rank --no_plain
"""

from plm_steps import main

if __name__ == "__main__":
    main("pamlm", __doc__)
