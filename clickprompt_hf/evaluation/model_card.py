# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The model card of a checkpoint: what it is, how to load it, its schema, data, results, limits and license.

This module gathers the facts, `model_card.md.jinja` holds the text, and `huggingface_hub` writes the metadata.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import SchedulerType

from ..configuration_clickprompt import ClickPromptConfig
from ..data.sources.source import SPLIT_NAMES
from ..data.splits import DEFAULT_FRACTIONS
from ..modeling_clickprompt import ClickPromptPreTrainedModel
from ..presets import preset_backbones
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import TIME_PARTS, FieldSchema, named_parts
from ..training.sharded_tables import num_parameters
from ..training.trainer import ClickPromptTrainer
from .markdown import code, escaped
from .plots import PLOTS, PLOTS_FOLDER

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
_PAPER = "[ClickPrompt](https://arxiv.org/abs/2310.09234)"
_FRACTIONS = list(DEFAULT_FRACTIONS)
_TAGS = ("clickprompt", "click-through-rate", "ctr-prediction", "recommendation")


@dataclass(frozen=True)
class _Head:
    """What the card says about a model class.

    Args:
        auto_class: Auto class that loads it.
        task_type: The Hub's name for its task.
        task_name: The task in words.
        use: Line of code that shows an output.
        pipeline_tag: The Hub's name for its pipeline; click models only.
    """

    auto_class: str
    task_type: str
    task_name: str
    use: str
    pipeline_tag: str | None = None

    @property
    def predicts_clicks(self) -> bool:
        return self.pipeline_tag is not None


# by name: models loaded with a checkpoint's own code have another class object
_HEADS = {
    "ClickPromptForCTR": _Head(
        auto_class="AutoModelForSequenceClassification",
        task_type="tabular-classification",
        task_name="Click-through-rate prediction",
        use='print(model(**processor(row, return_tensors="pt")).logits.sigmoid().item())  # P(click)',
        pipeline_tag="tabular-classification",
    ),
    "ClickPromptForPAMLM": _Head(
        auto_class="AutoModelForMaskedLM",
        task_type="fill-mask",
        task_name="Prompt-augmented masked language modeling",
        use='print(model(**processor(row, return_tensors="pt")).logits.shape)  # (rows, tokens, vocabulary)',
    ),
    "ClickPromptForPACLM": _Head(
        auto_class="AutoModelForCausalLM",
        task_type="text-generation",
        task_name="Prompt-augmented causal language modeling",
        use='print(model(**processor(row, return_tensors="pt")).logits.shape)  # (rows, tokens, vocabulary)',
    ),
}
# metric, label, the Hub's name, whether it belongs to pretraining
_METRICS = (
    ("auc", "AUC", "roc_auc", False),
    ("log_loss", "Log loss (nats)", "log_loss", False),
    ("gauc", "GAUC (AUC within groups, weighted by rows)", "gauc", False),
    ("calibration_error", "Calibration error (mean gap to the click rate over ten bins)", "calibration_error", False),
    ("predicted_to_observed", "Expected over observed clicks", "predicted_to_observed", False),
    ("masked_accuracy", "Accuracy on predicted tokens, in-sample", "accuracy", True),
    ("loss", "Loss (nats per predicted token), in-sample", "loss", True),
)
_GROUPLENS = (
    "GroupLens provides MovieLens for research, with acknowledgement; redistribution is not allowed, and commercial "
    "use requires permission ([terms](https://files.grouplens.org/datasets/movielens/{}-README.txt))."
)
_DATA_TERMS = {
    "ml-1m": _GROUPLENS.format("ml-1m"),
    "ml-100k": _GROUPLENS.format("ml-100k"),
    "bookcrossing": "Book-Crossing (Ziegler et al. 2005) is free for research, with acknowledgement.",
    "amazon-toys": "McAuley et al. published the Amazon reviews for research, without a license.",
    "goodreads": "UCSD Book Graph is for academic use only; redistribution and commercial use are not allowed.",
    "synthetic": "clickprompt_hf generated the rows; only its own license, Apache-2.0, applies.",
}
_INTERVALS = (
    "Intervals: DeLong's for AUC, a normal approximation for the mean log loss. They only cover the sampling of "
    "test rows; training with another seed changes the results as well."
)
_OTHER_TERMS = "The publisher is responsible for checking what the terms of the data allow for models trained on it."


def model_card(
    model: ClickPromptPreTrainedModel,
    processor: ClickPromptProcessor | None = None,
    *,
    name: str,
    checkpoint: str | None = None,
    metrics: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    license: str | None = None,
    language: str | None = None,
    tags: Sequence[str] = (),
    base_model: str | None = None,
    datasets: Sequence[str] | None = None,
) -> ModelCard:
    """Make the card of a model; `card.save("README.md")` writes it, `card.push_to_hub(id)` publishes it.

    Args:
        model: A click or pretraining model. The card describes its backbone, PLM, prompts, fusion and data.
        processor: Processor whose schema the card describes.
        name: Name of the model.
        checkpoint: Hub id or folder in the code that loads it; default `name`.
        metrics: Results, named as in `all_results.json`: `test_auc`, `test_auc_low`, `test_auc_high`, ... Without
            results on the test split, those on the validation split are shown: `eval_auc`, ...
        training: Training settings to list, in order.
        folder: Folder of the run, whose plots the card shows.
        license: License of the weights, as the Hub spells it. Without one, the card says that none was chosen.
        language: Language of the text, as the Hub spells it.
        tags: Further tags.
        base_model: Hub id of the PLM; default: the PLM that the model was made with, if that is a Hub id.
        datasets: Hub ids of the data; default: the dataset that the model was trained on, if that is a Hub id.

    Raises:
        ValueError: If the model has no head.
    """
    config, head = model.config, _head(model)
    data = config.training_data or {}
    source = _public_name(str(data.get("dataset", "unknown")))
    metrics = metrics or {}
    split = "test" if any(metric.startswith("test_") for metric in metrics) else "validation"
    results = _results(metrics, "test" if split == "test" else "eval", pretraining=not head.predicts_clicks)
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag=head.pipeline_tag,
        tags=[*_TAGS, *tags],
        license=license,
        language=language,
        base_model=base_model or _hub_id(getattr(config.text_config, "_name_or_path", "")),
        datasets=list(datasets or filter(None, [_hub_id(source)])) or None,
        metrics=[result["type"] for result in results] or None,
        model_name=name,
        eval_results=_eval_results(head, results, source, split),
    )
    backbone = config.ctr_config.backbone
    return ModelCard.from_template(
        card_data,
        template_path=str(_TEMPLATE),
        name=escaped(name),
        what=_what(config, head),
        facts=_facts(model, head),
        custom_backbone=None if backbone in preset_backbones() else code(backbone),
        auto_class=head.auto_class,
        checkpoint=_literal(checkpoint or name),
        use=_use(head, config),
        predicts_clicks=head.predicts_clicks,
        **_rows(processor),
        data=_data_table(data, source),
        split="test split" if split == "test" else _validation_name(head),
        results=results,
        intervals=_INTERVALS if split == "test" else "",
        plots=[] if folder is None else _plots(Path(folder)),
        training=[(escaped(label), escaped(value)) for label, value in (training or {}).items()],
        limits=_limits(head, config, processor, data),
        license_text=_license(license, data),
    )


def _rows(processor: ClickPromptProcessor | None) -> dict[str, Any]:
    """What the template shows of the rows that a model reads: an example, the columns, the label and the text."""
    row = {} if processor is None else _example_row(processor)
    cells = (f"    {_literal(column)}: {_literal(cell)}," for column, cell in row.items())
    shown: dict[str, Any] = {"row": "\n".join(["row = {", *cells, "}"]), "schema": []}
    if processor is None:
        return {**shown, "label": None, "positive": None, "template": None, "text": None}
    schema = processor.schema
    return {
        **shown,
        "schema": _schema_table(processor),
        "label": code(schema.label),
        "positive": code(schema.positive) if schema.positive else None,
        "template": code(schema.template),
        "text": escaped(processor.render([row])[0]) if processor.reads_text else None,
    }


def _eval_results(head: _Head, results: list[dict[str, Any]], dataset: str, split: str) -> list[EvalResult] | None:
    """The results as the Hub shows them beside a card; `None` without results."""
    return [
        EvalResult(
            task_type=head.task_type,
            task_name=head.task_name,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=result["type"],
            metric_name=result["label"],
            metric_value=round(result["number"], 6),
        )
        for result in results
    ] or None


def run_card(
    trainer: ClickPromptTrainer,
    *,
    language: str | None = None,
    license: str | None = None,
    tags: str | Sequence[str] | None = None,
    model_name: str | None = None,
    finetuned_from: str | None = None,
    dataset: str | Sequence[str] | None = None,
    teacher: str | None = None,
) -> ModelCard:
    """Make the card of a training run: `ClickPromptTrainer(..., model_card=run_card)`.

    Args:
        trainer: Trainer of the run.
        language: Language of the text, as the Hub spells it.
        license: License of the weights, as the Hub spells it; default `args.hub_license`.
        tags: Further tags.
        model_name: Name of the model; default: the name in `args.hub_model_id`, or that of the output folder.
        finetuned_from: Hub id of the PLM.
        dataset: Hub ids of the data.
        teacher: Name of the model whose logits the model learned from, in distillation.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    processor: Any = trainer.processing_class
    folder = Path(str(trainer.args.output_dir))
    hub_id = trainer.hub_model_id or trainer.args.hub_model_id
    name = model_name or (hub_id.split("/")[-1] if hub_id else folder.absolute().name)
    evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    kept_evaluations = [entry for entry in evaluations if entry["step"] == trainer.kept_step]
    return model_card(
        model,
        processor,
        name=name,
        checkpoint=hub_id or name,
        metrics=trainer.run_metrics or (kept_evaluations or evaluations or [{}])[-1],
        training=_training_settings(trainer, model, kept_evaluations, teacher),
        folder=folder,
        license=license or trainer.settings.hub_license,
        language=language,
        tags=[tags] if isinstance(tags, str) else tags or (),
        base_model=finetuned_from,
        datasets=[dataset] if isinstance(dataset, str) else dataset,
    )


def _training_settings(
    trainer: ClickPromptTrainer, model: Any, kept_evaluations: Sequence[Mapping[str, float]], teacher: str | None
) -> dict[str, Any]:
    args, settings = trainer.args, trainer.settings
    kept = f"; weights of epoch {kept_evaluations[0]['epoch']:g} kept" if kept_evaluations else ""
    has_own_rate = model.config.use_plm and settings.plm_learning_rate is not None
    masks = trainer.is_pretraining and not model.config.causal
    shares = f"weight {settings.distill_weight:g}, temperature {settings.distill_temperature:g}"
    return {
        "Learning rate": args.learning_rate,
        **({"Learning rate of the PLM": settings.plm_learning_rate} if has_own_rate else {}),
        "Schedule": f"{SchedulerType(args.lr_scheduler_type).value}, warm-up {args.warmup_steps}",
        "Weight decay": args.weight_decay,
        "Rows per step": trainer.step_rows,
        "Epochs": f"{trainer.state.epoch or 0:g} of {args.num_train_epochs:g}{kept}",
        **({} if teacher is None else {"Distilled from": f"{teacher}, {shares}"}),
        **({"Masked": f"{settings.mlm_probability:.0%} by {settings.masking}"} if masks else {}),
        "Precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "Seed": args.seed,
    }


def _plots(folder: Path) -> list[tuple[str, str]]:
    """Captions and paths, relative to `folder`, of the plots in it."""
    paths = {f"{PLOTS_FOLDER}/{name}": caption for name, caption in PLOTS.items()}
    return [(caption, path) for path, caption in paths.items() if (folder / path).exists()]


def _head(model: ClickPromptPreTrainedModel) -> _Head:
    names = [base.__name__ for base in type(model).__mro__]
    if not (known := [name for name in names if name in _HEADS]):
        raise ValueError(f"`model` must be one of {sorted(_HEADS)}, got {names[0]}.")
    return _HEADS[known[0]]


def _what(config: ClickPromptConfig, head: _Head) -> str:
    backbone = config.ctr_config.backbone
    if not config.use_plm:
        return (
            f"Predicts clicks from a row's feature ids with the backbone {code(backbone)} of {_PAPER} alone, without "
            "a language model."
        )
    prompted = "every layer"
    if config.num_lower_layers:
        prompted = "its last layer" if config.prompt_depth == 1 else f"its last {config.prompt_depth} layers"
    prompts = {
        "layerwise": f", with soft prompts made from the ids in {prompted}",
        "shallow": ", with soft prompts made from the ids in front of it",
        "none": ", without prompts",
    }[config.prompt_strategy]
    parts = f"the backbone {code(backbone)} reads the ids, `{config.text_config.model_type}` reads the text{prompts}"
    if head.predicts_clicks:
        return f"Predicts clicks from a row's feature ids and text with {_PAPER}: {parts}."
    return (
        f"A pretraining checkpoint of {_PAPER} ({head.task_name[0].lower()}{head.task_name[1:]}): {parts}. It does "
        "not predict clicks yet: pass it to finetuning as `model_name_or_path` first."
    )


def _use(head: _Head, config: ClickPromptConfig) -> str:
    """Line of code that shows an output; probabilities are calibrated and corrected as in the pipeline."""
    if not head.predicts_clicks:
        return head.use
    shift = config.calibration_shift + math.log(config.negative_sampling_rate)
    scaled = "" if config.calibration_scale == 1 else f".mul({config.calibration_scale:.6f})"
    shifted = "" if shift == 0 else f".add({shift:.6f})"
    return head.use.replace(".logits.sigmoid()", f".logits{scaled}{shifted}.sigmoid()")


def _facts(model: ClickPromptPreTrainedModel, head: _Head) -> list[tuple[str, str]]:
    config = model.config
    facts = [
        ("Parameters", f"{num_parameters(model):,}"),
        ("Backbone", code(config.ctr_config.backbone, in_table=True)),
    ]
    if not config.use_plm:
        return facts
    plm = config.text_config
    facts.append(("Language model", f"`{plm.model_type}`, {plm.num_hidden_layers} layers × {plm.hidden_size}"))
    if config.prompt_strategy != "none":
        encoder = f", encoder `{config.prompt_encoder}`" if config.prompt_strategy == "layerwise" else ""
        depth = (
            f", in the last {config.prompt_depth} of {plm.num_hidden_layers} layers" if config.num_lower_layers else ""
        )
        facts.append(("Prompts", f"{config.prompt_length}, {config.prompt_strategy}{encoder}{depth}"))
    if head.predicts_clicks:
        facts.append(("Fusion", f"`{config.fusion}`, pooling `{config.pooling}`"))
    return facts


def _schema_table(processor: ClickPromptProcessor) -> list[dict[str, str]]:
    sizes = {f: scale.size for f, scale in processor.scales.items()}
    return [
        {
            "column": escaped(field.column),
            "name": escaped(field.name),
            "kind": _kind(field, sizes.get(f), _names_of_parts(field, processor))
            + (", not in the text" if processor.reads_text and not (field.in_text or named_parts(field)) else ""),
            "distinct": f"{sum(map(bool, vocabulary)):,}" if field.kind not in ("numeric", "text", "vector") else "",
        }
        for f, (field, vocabulary) in enumerate(zip(processor.schema.fields, processor.vocabularies))
        if _is_read(field, processor)
    ]


def _names_of_parts(field: FieldSchema, processor: ClickPromptProcessor) -> list[str]:
    parts = processor.schema.parts_of(field) if named_parts(field) else []
    return [processor.schema.fields[part].name for part in parts]


def _is_read(field: FieldSchema, processor: ClickPromptProcessor) -> bool:
    # a schema may have free text for a teacher or for another model
    return field.kind != "text" or field.column in processor.read_columns or bool(named_parts(field))


def _kind(field: FieldSchema, size: int | None = None, parts: Sequence[str] = ()) -> str:
    """Words for a field's kind; `size` is the number of entries of its vectors, `parts` are the fields of its text."""
    if parts:
        return f"a vector of {size} numbers, of the text of {', '.join(map(escaped, parts))}"
    if field.is_vector:
        return f"{'free text, also ' if field.as_vector else ''}a vector of {size} numbers"
    if field.kind == "numeric":
        return f"numeric, up to {field.num_buckets} buckets"
    if field.kind == "multi_valued":
        return f"up to {field.max_values} values, separated by {_separator(field.separator)}"
    if field.kind == "text":
        return "free text, without ids"
    return f"{field.kind} of a time" if field.kind in TIME_PARTS else "categorical"


def _separator(separator: str) -> str:
    # white space would vanish
    return code(separator if separator.strip() else json.dumps(separator), in_table=True)


def _example_row(processor: ClickPromptProcessor) -> dict[str, Any]:
    """A row with each field's most frequent value, a numeric field's middle boundary, and any time and text."""
    row: dict[str, Any] = {}
    for field, vocabulary, boundaries in zip(processor.schema.fields, processor.vocabularies, processor.boundaries):
        if named_parts(field) or not _is_read(field, processor):
            continue
        if field.kind == "numeric":
            # The boundary right above zero, 2e-308, is shown as 0.
            row[field.column] = round(float(f"{boundaries[len(boundaries) // 2]:.3g}"), 300) if boundaries else 0
        elif field.kind == "vector":
            # a missing one: a whole vector would fill the page
            row[field.column] = None
        elif field.kind in TIME_PARTS:
            row[field.column] = datetime(2024, 1, 31, 14, 5).strftime(field.time_format or "%Y-%m-%d %H:%M:%S")
        else:
            row[field.column] = next(filter(None, vocabulary), "a few words" if field.kind == "text" else "")
    return row


def _data_table(data: Mapping[str, Any], source: str) -> list[tuple[str, str]]:
    if not data:
        return []
    rows = ", ".join(f"{name} {data['num_rows'][name]:,}" for name in ("train", "validation", "test"))
    table = [("Dataset", escaped(source)), ("Rows", rows), ("Split", _split(data))]
    # records of earlier versions do not say
    if data.get("max_eval_rows") is not None:
        table.append(("Validation rows in training", f"limited to {data['max_eval_rows']:,}"))
    if data["max_train_rows"] is not None:
        table.append(("Training rows", f"limited to {data['max_train_rows']:,}"))
    table.append(("Rows needed for a value to get an id", str(data["min_count"])))
    table.append(("SHA-256 of the test rows", code(data["test_rows_sha256"], in_table=True)))
    return table


def _split(data: Mapping[str, Any]) -> str:
    """How the rows were split. Records of earlier versions do not say which splits the dataset had itself."""
    fractions = data.get("split_fractions", _FRACTIONS)
    shares = "8:1:1" if fractions == _FRACTIONS else ":".join(f"{fraction:g}" for fraction in fractions)
    how = {
        "random": f"{shares} at random, seed {data['split_seed']}",
        "time": f"{shares} by time",
        "user": f"{shares} by the values of {escaped(data.get('split_column'))}, seed {data['split_seed']}",
    }[data["split"]]
    own = data.get("own_splits")
    if own is None:
        return how + (", unless the dataset has its own" if "/" in data["dataset"] else "")
    if len(own) == len(SPLIT_NAMES):
        return "the dataset's own"
    return f"{how}; the dataset's own for {' and '.join(own)}" if own else how


def _results(metrics: Mapping[str, float], prefix: str, pretraining: bool) -> list[dict[str, Any]]:
    """The metrics that the card shows, with their intervals if known; values that are not finite are left out."""
    results = []
    for name, label, hub_name, is_pretraining in _METRICS:
        value = metrics.get(f"{prefix}_{name}")
        if is_pretraining != pretraining or value is None or not math.isfinite(value):
            continue
        low, high = (metrics.get(f"{prefix}_{name}_{end}", math.nan) for end in ("low", "high"))
        interval = f"{low:.4f} to {high:.4f}" if math.isfinite(low + high) else ""
        results.append(
            {"label": label, "type": hub_name, "number": value, "value": f"{value:.4f}", "interval": interval}
        )
    return results


def _validation_name(head: _Head) -> str:
    return "validation split" if head.predicts_clicks else "validation split, which training used too (in-sample)"


def _limits(
    head: _Head, config: ClickPromptConfig, processor: ClickPromptProcessor | None, data: Mapping[str, Any]
) -> list[str]:
    limits = []
    own_test = "test" in data.get("own_splits", ())
    if data.get("split") == "random" and not own_test:
        limits.append(
            "The split is random: test rows share users, items and days with training rows. Expect lower quality "
            "on later traffic."
        )
    elif data.get("split") == "user" and not own_test:
        limits.append(
            f"Test rows share no value of {escaped(data['split_column'])} with training rows, but they do share "
            "items and days: the results apply to new values of that column."
        )
    elif data.get("split") == "time" and not own_test:
        latest = "tenth" if data.get("split_fractions", _FRACTIONS) == _FRACTIONS else "rows"
        limits.append(f"The test rows are the latest {latest}; the click rate may have drifted since.")
    if data and data["min_count"] == 1:
        limits.append(
            "Values that are not in the training rows share an untrained id: the model knows them only by their "
            "text, if it reads text."
        )
    elif data:
        limits.append(
            "Values that are not in the training rows share one id with those that occur in fewer than "
            f"{data['min_count']} of them."
        )
    if head.predicts_clicks:
        limits.append("Probabilities reflect the click rate of the training data; recalibrate them for other traffic.")
        if config.is_calibrated:
            limits.append(
                f"Probabilities are calibrated on the validation rows: the sigmoid of {config.calibration_scale:.4g} "
                f"times the logit plus {config.calibration_shift:.4g}. Logits are not calibrated."
            )
        if config.negative_sampling_rate < 1:
            limits.append(
                f"The data keep a fraction of {config.negative_sampling_rate:g} of the rows without a click. The "
                "pipeline, `clickprompt predict` and the export correct probabilities to the click rate before "
                "this sampling. Logits and the results above refer to the sampled rows."
            )
    else:
        limits.append(
            "Pretraining uses the validation rows too, so its validation figures are in-sample. Test rows stay unseen."
        )
    if processor is not None:
        limits.append(
            "`feature_vocabularies.txt` lists every field's values in the training rows, user ids included, and "
            "`model.safetensors` holds a vector for each."
        )
    limits.append("The model reproduces biases in the logged clicks.")
    return limits


def _license(license: str | None, data: Mapping[str, Any]) -> str:
    weights = f"Weights: {code(license)}." if license else "Weights: the publisher has not chosen a license."
    terms = _DATA_TERMS.get(str(data.get("dataset")), _OTHER_TERMS)
    return f"{weights} Code of clickprompt_hf: Apache-2.0. Data: {terms}"


def _hub_id(name: str) -> str | None:
    """`name` if it looks like a Hub id and no local folder has that name, else `None`."""
    is_id = name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not Path(name).exists()
    return name if is_id else None


def _public_name(dataset: str) -> str:
    """The dataset's name for publication: of a local path, only the last part."""
    return dataset if _hub_id(dataset) else Path(dataset).name


def _literal(value: str | float) -> str:
    """Python literal of a string, in double quotes and without HTML tags, or of a number."""
    literal = json.dumps(value, ensure_ascii=False)
    return literal.replace("<", "\\u003c").replace(">", "\\u003e")
