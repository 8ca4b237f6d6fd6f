"""Both stages in your own code: PA-MLM, finetuning for clicks, and the scores of raw rows.

    python examples/train_with_trainer.py --plm_name_or_path sentence-transformers/all-MiniLM-L6-v2 --output_dir OUT
    python examples/train_with_trainer.py --plm_name_or_path MODEL --data_path table.csv --schema schema.yaml \\
        --num_train_epochs 5 --output_dir OUT

Without a table, it trains on generated rows. The flags of `TrainingArguments` work as usual.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import AutoTokenizer, HfArgumentParser, pipeline, set_seed

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor, CTRConfig
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.calibration import calibrate


@dataclass
class DataAndModelArguments:
    plm_name_or_path: str = field(metadata={"help": "Hub id or folder of an encoder."})
    data_path: str | None = field(default=None, metadata={"help": "CSV, JSON lines or Parquet file."})
    schema: str | None = field(default=None, metadata={"help": "YAML file that says what its columns mean."})
    backbone: str = field(default="dcnv2", metadata={"help": "CTR backbone."})
    prompt_length: int = field(default=5, metadata={"help": "Prompts per PLM layer."})
    max_text_length: int = field(default=128, metadata={"help": "Tokens that the text of a row is truncated to."})


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = HfArgumentParser((DataAndModelArguments, ClickPromptTrainingArguments), description=__doc__)
    args, training_args = parser.parse_args_into_dataclasses(arguments)
    output = Path(training_args.output_dir)
    set_seed(training_args.seed)

    # 1. Raw rows: Arrow tables named train, validation and test, and the schema of their columns.
    dataset = "synthetic" if args.data_path is None else None
    tables, schema = load_splits(dataset, args.data_path, args.schema)

    # 2. The processor turns raw rows into model inputs. Its vocabularies come from the training rows alone.
    tokenizer = AutoTokenizer.from_pretrained(args.plm_name_or_path)
    processor = ClickPromptProcessor.fit(tables["train"], schema, tokenizer, max_text_length=args.max_text_length)

    # 3. Encode every distinct value and tokenize every distinct clause once; training maps the files. A
    # `datasets.Dataset` of `processor(rows)` works too, but each row is then tokenized on its own.
    prepared = output / "_prepared"
    with training_args.main_process_first():
        if training_args.process_index == 0:
            prepare_splits(tables, processor, prepared)
    splits, processor = load_prepared(prepared)

    # 4. Stage 1, PA-MLM: a fresh backbone and prompt encoder, and the pretrained PLM.
    ctr_config = CTRConfig(
        backbone=args.backbone,
        field_sizes=processor.field_sizes,
        max_values=processor.max_values,
        vector_sizes=processor.vector_sizes,
    )
    model = ClickPromptForPAMLM.from_plm_pretrained(
        args.plm_name_or_path, ctr_config=ctr_config, prompt_length=args.prompt_length
    )
    pretrainer = ClickPromptTrainer(
        model,
        replace(training_args, output_dir=str(output / "pamlm")),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=processor,
    )
    pretrainer.train()
    pretrainer.save_model()

    # 5. Stage 2, finetuning: the pretrained trunk with fresh click heads. With `use_plm=False`, only the backbone is
    # kept, to be served at the cost of a plain CTR model.
    trainer = ClickPromptTrainer(
        ClickPromptForCTR.from_pretrained(output / "pamlm"),
        replace(training_args, output_dir=str(output / "ctr")),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=processor,
    )
    trainer.train()
    calibrate(trainer, splits["validation"])
    metrics = trainer.evaluate(splits["test"], metric_key_prefix="test")
    trainer.log_metrics("test", metrics)
    trainer.save_model()

    # 6. The checkpoint has its processor with it, so it scores raw rows.
    if trainer.is_world_process_zero():
        score = pipeline("ctr-prediction", model=str(output / "ctr"))
        for row in tables["test"].slice(0, 3).to_pylist():
            print(row, score(row))
    return metrics


if __name__ == "__main__":
    main()
