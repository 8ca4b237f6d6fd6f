# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From command-line arguments to prepared data."""

import json
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig
from ..data.collators import Masking
from ..data.columnar import ColumnarDataset, load_prepared, prepare_splits
from ..data.prepared_notes import FACTS_FILE, SHARDS
from ..data.reading import file_kind
from ..data.shared_rows import count_shared_rows
from ..data.sources.source import SPLIT_NAMES
from ..data.splits import (
    check_split_arguments,
    choose_split_column,
    draw_validation_rows,
    split_source,
)
from ..data.streaming.prepare import StreamedTable
from ..data.streaming.table_stream import TableStream
from ..data.table_files import joined_tables, several
from ..modeling_ctr import backbone_class
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import Schema
from ..text_encoder_clickprompt import TextEncoder
from ..training.arguments import ClickPromptTrainingArguments
from .arguments import DataArguments, ModelArguments
from .data_record import (
    CHECKPOINT,
    SPLIT_ARGUMENTS,
    TEACHER,
    check_same_fields,
    check_same_processor,
    check_same_rows,
    record_of,
    resolve_against,
    resolve_max_eval_rows,
    saved_records,
)
from .encoded_elsewhere import check_fits_plm, kept_shards
from .kept_data import KeptData, files_state
from .output_folder import checkpoint_to_resume
from .plms import ROWS_FOR_TOKENIZER, add_tokenizer, limit_text_length
from .prepared_folder import (
    claim_prepared_folder,
    claimed_prepared_folder,
    prepared_data,
    remove_left_folders,
    spill_folder,
)
from .raw_rows import files_of, files_to_stream, read_rows_of, schema_to_read
from .text_encoders import reuse_text_encoder, text_encoder_of
from .text_fields import choose_text_fields, choose_vector_fields, show_texts

logger = logging.get_logger(__name__)


@dataclass
class PreparedData:
    """Encoded splits, and the processor that encoded them.

    Args:
        splits: `train`, `validation` and `test`.
        processor: The processor that encoded them.
        training_data: Record of the data, as in `ClickPromptConfig.training_data`.
    """

    splits: dict[str, ColumnarDataset]
    processor: ClickPromptProcessor
    training_data: dict[str, Any]

    def pamlm_splits(self, masking: Masking = "token") -> tuple[ColumnarDataset, ColumnarDataset]:
        """Return the rows that PA-MLM trains on (training and validation rows, never test rows) and validates on.

        With `max_train_rows`, validation rows are cut to an eighth of the training rows, their share in the full data.
        """
        train, validation = self.splits["train"], self.splits["validation"]
        if self.training_data["max_train_rows"] is not None:
            validation = validation.slice(0, max(1, len(train) // 8))
        validation_rows = self.evaluated(validation)
        by_field = masking == "field"
        trained_on = ColumnarDataset.concatenate([train, validation])
        return replace(trained_on, with_value_fields=by_field), replace(validation_rows, with_value_fields=by_field)

    def evaluated(self, validation: ColumnarDataset) -> ColumnarDataset:
        """The rows of a validation split that training evaluates on, as `draw_validation_rows` draws them."""
        most = self.training_data["max_eval_rows"]
        if most is None or most >= len(validation):
            return validation
        return validation.take(draw_validation_rows(validation.labels, most, self.training_data["split_seed"]))


def prepare_data(
    data_args: DataArguments,
    training_args: ClickPromptTrainingArguments,
    model_args: ModelArguments,
    checkpoint: ClickPromptConfig | None = None,
    processor: ClickPromptProcessor | None = None,
    extend_vocabulary: bool = False,
    teacher: ClickPromptConfig | None = None,
    was_split_by: str | None = None,
) -> PreparedData:
    """Load, split and encode the data, once per machine; other processes map the encoded files.

    Args:
        data_args: Which rows to use.
        training_args: Names the output folder, which holds the encoded files during training, and the checkpoint to
            resume, whose split is kept.
        model_args: Names the PLM, whose tokenizer is used, and the number of prompts, which take up positions of the
            PLM.
        checkpoint: Configuration of the checkpoint that training starts from, if any; its split is kept.
        processor: The checkpoint's processor, which is not fitted again.
        extend_vocabulary: Whether the processor appends ids for new values of the training rows. `checkpoint` must
            then have no record of its data, as `load_checkpoint` returns it.
        teacher: Configuration of the model to distill, if any; its split is kept, and `processor` is its processor.
        was_split_by: Column whose values no two predefined splits share, if any. That they are unknown is expected.

    Raises:
        ValueError: If the data or an argument is wrong; the message names it.
        OSError: If a file is missing or broken.
    """
    resumed = checkpoint_to_resume(training_args)
    records = saved_records(checkpoint, teacher, resumed)
    resolved = resolve_against(data_args, records)
    for name in ("text_fields", "vector_fields"):
        resolved[name] = records[0][1].get(name) if records else None
    if checkpoint is None:
        backbone_class(model_args.fresh_backbone)

    output_dir = str(training_args.output_dir)
    is_of_shards = resolved["dataset"] == SHARDS
    if training_args.process_index == 0:
        remove_left_folders(output_dir)
    # other machines make their folders later
    training_args.distributed_state.wait_for_everyone()
    folder = prepared_data(output_dir) if data_args.prepared is None else Path(data_args.prepared).absolute()
    request = _Request(
        data_args=data_args,
        model_args=model_args,
        resolved=resolved,
        records=records,
        processor=processor,
        # with a teacher, the processor is the teacher's
        owner=CHECKPOINT if teacher is None else TEACHER,
        max_text_length=data_args.max_text_length if teacher is None else None,
        extend_vocabulary=extend_vocabulary,
        output_dir=output_dir,
        folder=folder,
        was_split_by=was_split_by,
    )
    with training_args.main_process_first(desc="preparing the data"):
        if training_args.local_process_index == 0:
            _encode(request)
        reads_text = model_args.plm_name_or_path is not None if processor is None else processor.reads_text
        is_fresh = processor is None
        data, processor = _load_encoded(folder, reads_text)
        if is_of_shards and is_fresh and reads_text:
            check_fits_plm(processor, model_args, folder)
        resolved.update(_recorded_facts(folder, resolved["stream"]))

    if training_args.process_index == 0:
        warn_of_shared_rows(data, resolved["split"], resolved["own_splits"])
        if processor.reads_text:
            show_texts(data, processor.schema)

    is_checked = (checkpoint is not None and not extend_vocabulary) or teacher is not None
    # the length of shards was chosen when they were encoded
    if data_args.max_text_length is None and not (is_checked or is_of_shards) and processor.reads_text:
        prompt_length = model_args.fresh_prompt_length if checkpoint is None else checkpoint.prompt_length
        check_text_lengths(data, processor, prompt_length)
    resolved["max_eval_rows"] = resolve_max_eval_rows(data_args.max_eval_rows, resumed)
    training_data = record_of(data, processor, resolved)
    for owner, record in records:
        check_same_rows(record, training_data, owner)
    if resumed is not None:
        check_same_processor(resumed, processor)
    return PreparedData(data, processor, training_data)


def _load_encoded(folder: Path, reads_text: bool) -> tuple[dict[str, ColumnarDataset], ClickPromptProcessor]:
    """Map the encoded rows; the text of rows that another run kept is left out if this run does not read it."""
    data, processor = load_prepared(folder)
    if not reads_text and processor.reads_text:
        data = {name: split.without_text() for name, split in data.items()}
        processor.tokenizer = None
    return data, processor


def _recorded_facts(folder: Path, stream: bool | None) -> dict[str, Any]:
    """What was found out about the rows when they were encoded.

    Raises:
        ValueError: If `--stream` is given and contradicts it.
    """
    facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    if stream not in (None, facts["stream"]):
        raise ValueError(
            f"`--stream` must be {facts['stream']} or left out, as for the rows in {folder}; got {stream}."
        )
    return facts


@dataclass(frozen=True)
class _Request:
    """What to prepare: the arguments of `prepare_data`, resolved.

    Args:
        owner: What messages call the owner of the processor.
        max_text_length: Number of tokens that texts are truncated to; `None` to keep the processor's.
        folder: Where the encoded rows go.
        was_split_by: As in `prepare_data`.
        kept: What is known of that folder if the rows are kept.
    """

    data_args: DataArguments
    model_args: ModelArguments
    resolved: dict[str, Any]
    records: list[tuple[str, dict[str, Any]]]
    processor: ClickPromptProcessor | None
    owner: str
    max_text_length: int | None
    extend_vocabulary: bool
    output_dir: str
    folder: Path
    was_split_by: str | None = None
    kept: KeptData | None = None

    def notes(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Plain data to write beside the encoded rows, by name of the file."""
        return {FACTS_FILE: facts, **(self.kept.notes() if self.kept is not None else {})}

    def choose_text(self, schema: Schema) -> tuple[Schema, list[str] | None]:
        """Call `_chosen_text` for this request."""
        reads_text = self.model_args.plm_name_or_path is not None
        if self.processor is not None:
            reads_text = self.processor.reads_text
        return _chosen_text(schema, self.data_args, self.records, self.processor, reads_text, self.owner)


def _encode(request: _Request) -> None:
    """Encode the rows, unless `--prepared` names a folder that has them."""
    data_args, resolved, processor = request.data_args, request.resolved, request.processor
    schema, files = None, {}
    if resolved["dataset"] == SHARDS:
        kept: KeptData | None = kept_shards(data_args, processor)
    else:
        schema = schema_to_read(data_args, resolved, processor, request.owner)
        files = files_of(data_args, resolved)
        kept = _kept_data(request, schema, files)
    if kept is not None and request.extend_vocabulary:
        raise ValueError("`--prepared` must be left out with `--extend_vocabulary`.")
    request = replace(request, kept=kept)
    with kept.locked() if kept is not None else nullcontext():
        if kept is None or not kept.is_there():
            streamed = files_to_stream(data_args, resolved, schema, files, request.extend_vocabulary)
            if schema is None or not streamed:
                _prepare_in_memory(request)
            else:
                _stream(request, schema, streamed)
    if kept is not None:
        # for other files that the run maps
        claim_prepared_folder(request.output_dir)
        prepared_data(request.output_dir).mkdir()


def _prepare_in_memory(request: _Request) -> None:
    """Read all rows into memory and encode them."""
    resolved, processor, output_dir = request.resolved, request.processor, request.output_dir
    source = read_rows_of(request.data_args, resolved, processor, request.owner)
    schema, chosen = request.choose_text(source.schema)
    own = source.table if isinstance(source.table, dict) else {}
    table = own["train"] if isinstance(source.table, dict) else source.table
    facts = {**_facts(own, table.column_names, source.schema, resolved), "text_fields": chosen, "stream": False}
    facts["vector_fields"] = list(schema.text_vector_fields) or None
    splits = split_source(source, **{name: {**resolved, **facts}[name] for name in SPLIT_ARGUMENTS})
    if processor is None:
        encoder = text_encoder_of(schema, request.data_args, request.model_args, output_dir)
        processor = _fit_processor(splits["train"], schema, resolved["min_count"], request.model_args, encoder)
    else:
        reuse_text_encoder(processor, request.data_args, output_dir)
        _renew_tables(processor, schema)
    if request.extend_vocabulary:
        _extend_processor(processor, splits["train"], schema, resolved["min_count"])
    if request.max_text_length is not None:
        limit_text_length(processor, request.max_text_length)
    # not before: a mistake in the data must not create the output folder
    claim_prepared_folder(output_dir)
    split_column = request.was_split_by or _column_of_users(resolved, facts)
    prepare_splits(splits, processor, request.folder, split_column, request.notes(facts))


def _stream(request: _Request, schema: Schema, files: dict[str, list[Path]]) -> None:
    """Encode the rows of files chunk by chunk."""
    resolved, processor, output_dir = request.resolved, request.processor, request.output_dir
    check_split_arguments(resolved["split"], resolved["split_seed"], resolved["split_fractions"])
    schema, chosen = request.choose_text(schema)
    split_column = resolved["split_column"] if resolved["split"] == "user" else None
    kind = file_kind(resolved["dataset"])
    stream = TableStream(files, schema, kind, split_column, with_time=resolved["split"] == "time")
    with claimed_prepared_folder(output_dir), StreamedTable(stream, schema, spill_folder(output_dir)) as rows:
        facts = _facts(rows.own_splits, stream.columns, schema, resolved)
        facts |= {"text_fields": chosen, "stream": True}
        rows.split(**{name: {**resolved, **facts}[name] for name in SPLIT_ARGUMENTS})
        if processor is None:
            processor = rows.fit(resolved["min_count"])
            if request.model_args.plm_name_or_path is not None:
                add_tokenizer(processor, rows.sample(ROWS_FOR_TOKENIZER), request.model_args)
        else:
            _renew_tables(processor, schema)
        if request.max_text_length is not None:
            limit_text_length(processor, request.max_text_length)
        rows.write(processor, request.folder, _column_of_users(resolved, facts), request.notes(facts))


def _kept_data(request: _Request, schema: Schema | None, files: dict[str, list[Path]]) -> KeptData | None:
    """The folder of `--prepared`, and what its rows must have been made of; `None` without it."""
    data_args, model_args, resolved = request.data_args, request.model_args, request.resolved
    if data_args.prepared is None:
        return None
    paths: list[Path] = [*chain(*files.values())] or list(map(Path, several(data_args.data_path or [])))
    if not paths and resolved["dataset"] != "synthetic":
        raise ValueError(
            f"`--prepared` must be left out unless the dataset is read from files, got {resolved['dataset']}."
        )
    split = {name: resolved[name] for name in ("dataset", *SPLIT_ARGUMENTS)}
    rows: dict[str, Any] = {
        "files": [files_state(paths_of_split) for paths_of_split in files.values()] or files_state(paths),
        "split": split,
    }
    joined = [Path(table.file) for table in schema.tables] if schema is not None else []
    rows["tables"] = files_state(joined) if joined else None
    fitted = {
        "schema": None if schema is None else replace(schema, csv=None, tables=()).to_dict(),
        "text_fields": data_args.text_fields or resolved["text_fields"],
        "vector_fields": data_args.vector_fields or resolved["vector_fields"],
        "min_count": resolved["min_count"],
        "plm": [model_args.plm_name_or_path, data_args.text_encoder],
        "prompts": model_args.fresh_prompt_length if model_args.plm_name_or_path else None,
        "limit": data_args.max_text_length,
    }
    processor = request.processor
    kept_length = None if processor is None else request.max_text_length or processor.max_text_length
    return KeptData(Path(data_args.prepared).absolute(), rows, fitted, processor, kept_length)


def _column_of_users(resolved: dict[str, Any], facts: dict[str, Any]) -> str | None:
    """The column whose values no two splits share, if any."""
    is_split_by_user = resolved["split"] == "user" and not facts["own_splits"]
    return facts["split_column"] if is_split_by_user else None


def _chosen_text(
    schema: Schema,
    data_args: DataArguments,
    records: list[tuple[str, dict[str, Any]]],
    processor: ClickPromptProcessor | None,
    reads_text: bool,
    owner: str,
) -> tuple[Schema, list[str] | None]:
    """Choose the fields of the text and of its vector: as in the checkpoint, else the flags, else the schema's.

    Returns:
        The schema, and the keys of the fields that `--text_fields` chose, now or in the checkpoint's training.
    """
    recorded, vector_keys = (records[0][1].get(name) if records else None for name in ("text_fields", "vector_fields"))
    if processor is not None:
        vector_keys = processor.schema.text_vector_fields
    elif records:
        vector_keys = vector_keys or ()
    # first: a text that is only part of a vector stays in the schema
    schema = choose_vector_fields(schema, data_args.vector_fields, vector_keys, owner)
    saved = recorded if processor is None else processor.schema.text_keys
    given = data_args.text_fields if reads_text else None
    schema = choose_text_fields(schema, given, saved, owner)
    if reads_text:
        schema.check_has_text()
    return schema, recorded if given is None else schema.text_keys


def _facts(
    own_splits: Collection[str], columns: list[str], schema: Schema, resolved: dict[str, Any]
) -> dict[str, Any]:
    """What the data record holds beyond the arguments: the source's own splits, and the column to split by."""
    column = resolved["split_column"]
    if resolved["split"] == "user":
        column = choose_split_column(schema, columns, column)
    return {"own_splits": [name for name in SPLIT_NAMES if name in own_splits], "split_column": column}


def warn_of_shared_rows(data: dict[str, ColumnarDataset], split: str, own_splits: Collection[str]) -> None:
    """Warn if a random split put copies of the same row on both sides.

    Args:
        data: The encoded rows of all splits.
        split: How rows were split.
        own_splits: Splits that came with the data, so they were not drawn.
    """
    drawn = [name for name in ("test", "validation") if name not in own_splits]
    if split != "random" or not drawn:
        return
    found = count_shared_rows(data["train"], data[drawn[0]])
    if found.suspicious:
        logger.warning(
            f"{found.shared:,} of the {found.rows:,} {drawn[0]} rows ({found.shared / found.rows:.1%}) equal a "
            f"training row in all fields, and {found.with_label:,} of them have its label too. A model can memorize "
            f"such rows, so metrics on the {drawn[0]} split would be too optimistic. Remove duplicates, or keep "
            "them in one split: --split user, with --split_column COLUMN if it is not the user."
        )


def _fit_processor(
    train: pa.Table, schema: Schema, min_count: int, model_args: ModelArguments, text_encoder: TextEncoder | None
) -> ClickPromptProcessor:
    processor = ClickPromptProcessor.fit(train, schema, min_count=min_count, text_encoder=text_encoder)
    if model_args.plm_name_or_path is not None:
        add_tokenizer(processor, train, model_args)
    return processor


def _renew_tables(processor: ClickPromptProcessor, schema: Schema) -> None:
    """Let the processor of a checkpoint join the tables that this run reads, which may have changed since."""
    processor.tables = joined_tables(schema)
    processor.schema = replace(processor.schema, tables=schema.tables)


def _extend_processor(processor: ClickPromptProcessor, train: pa.Table, schema: Schema, min_count: int) -> None:
    check_same_fields(schema, processor.schema)
    before = processor.field_sizes
    after = processor.extend(train, min_count)
    keys = [field.key for field in processor.schema.fields if field.num_columns]
    added = [f"{key} {new - old:,}" for key, old, new in zip(keys, before, after) if new > old]
    # A warning, because the default level hides anything less.
    logger.warning(f"--extend_vocabulary added ids for new values: {', '.join(added) or 'none found'}.")


def check_text_lengths(data: dict[str, ColumnarDataset], processor: ClickPromptProcessor, prompt_length: int) -> None:
    """Refuse rows whose text would be truncated.

    Raises:
        ValueError: If a text is longer than the PLM's positions minus the prompts; the message names the longest.
    """
    limit = processor.max_text_length
    for name, split in data.items():
        lengths = split.text_lengths()
        longest = int(lengths.argmax())
        if limit is not None and lengths[longest] > limit:
            raise ValueError(
                f"Row {longest} of the {name} split has {lengths[longest]} text tokens; with {prompt_length} prompts "
                f"the PLM's positions leave {limit}. Reduce `--prompt_length`, or pass --max_text_length {limit} to "
                "truncate."
            )
