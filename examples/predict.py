"""Score raw rows with a trained checkpoint.

    python examples/predict.py --model OUT --input rows.csv --output scores.csv

The same as clickprompt predict. For several processes, run it with accelerate launch instead of python.
"""

from clickprompt_hf.runs.command import run_command
from clickprompt_hf.runs.predict import main

if __name__ == "__main__":
    run_command("predict", main)
