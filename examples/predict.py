"""Score raw rows with a trained checkpoint.

    python examples/predict.py --model OUT --input rows.csv --output scores.csv

Reads .csv, .csv.gz or .parquet, of any size, and writes the same rows in the same order with one more column,
`click_probability`. No labels are needed. Unseen and missing values are scored as such. A run that was cut off goes on
when the same command is given again. With `accelerate launch` in front several processes share the work.
"""

from clickprompt_hf.runs.predict import main

if __name__ == "__main__":
    main()
