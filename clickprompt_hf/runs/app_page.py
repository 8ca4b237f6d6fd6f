# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The web page of `clickprompt app`; needs gradio."""

import os
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from transformers import AutoProcessor

from ..click_probabilities import corrected_probabilities
from ..data.table_files import ENDINGS, check_columns, needed_columns, open_table_file
from ..evaluation.importance import permutation_importance
from ..evaluation.markdown import code
from ..inspection import frequent_values, logit_parts, other_times, prompt_attention, unknown_fields, what_if
from ..labels_clickprompt import check_labels
from ..lists_clickprompt import cell_values, kept_values
from ..modeling_clickprompt import ClickPromptForCTR
from ..pipeline_clickprompt import scoring_batch_size
from ..processing_clickprompt import ClickPromptProcessor
from ..recent_texts import RecentTexts
from ..schema_clickprompt import TIME_PARTS, FieldSchema
from ..scoring import score_table
from ..scoring.table_scoring import with_joined_columns
from ..unknown_values_clickprompt import UnknownValues
from ..values_clickprompt import canonical, number_of, read_time
from .predict import load_model

LONGEST_DROPDOWN = 50
WHAT_IF_VALUES = 10
PARTS_TITLE = "The logit and its parts"
# Of an uploaded file, the first rows are read, and a sample of them is scored several times per field.
READ_ROWS, IMPORTANCE_ROWS, IMPORTANCE_REPEATS = 100_000, 1_000, 3
SIDES = {"ctr": "CTR side", "text": "text side"}


def launch(name_or_path: str, port: int | None, block: bool = True) -> gr.Blocks:
    """Serve the page of a checkpoint to this machine.

    Args:
        name_or_path: Folder or Hub id of the checkpoint.
        port: `None` for the first free one from 7860 on.
        block: Whether to serve until interrupted, instead of returning at once.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    page = make_page(name_or_path)
    page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        ssr_mode=False,
        # the reader's own fonts: gradio's would be downloaded
        theme=gr.themes.Default(font="sans-serif", font_mono="monospace"),
        show_error=True,
        prevent_thread_lock=not block,
        quiet=not block,
    )
    return page


class Explanations:
    """What the page shows of a checkpoint's rows. Its methods are the functions that gradio calls.

    Args:
        name_or_path: Folder or Hub id of the checkpoint.
    """

    def __init__(self, name_or_path: str):
        self.processor: Any = AutoProcessor.from_pretrained(name_or_path)
        self.model: Any = load_model(name_or_path)
        self.processor.check_model(self.model.config)
        # parts of the same time share a widget, and the vector of several fields' text has none
        own = [field for field in self.processor.schema.fields if not field.columns]
        self.fields = list({field.column: field for field in reversed(own)}.values())[::-1]
        # by key of the joined tables, the columns that it looks up
        self.keys: dict[str, list[str]] = {}
        for name, key in self.processor.columns_to_join({}).items():
            self.keys.setdefault(key, []).append(name)
        self.num_prompts = self.model.config.num_prompts if self.model.config.use_plm else 0
        # what changes on the page is often not in the text
        self.recent_texts = RecentTexts()

    @torch.no_grad()
    def show(self, column: str, *values: Any) -> tuple:
        """The charts and the text of a row, given the column to change and the row's values."""
        model, processor = self.model, self.processor
        row = {field.column: value for field, value in zip(self.fields, values)}
        inputs = processor([row], return_tensors="pt").to(model.device)
        outputs = model(**self.recent_texts.shared(model, inputs))
        return (
            f"{corrected_probabilities(outputs.logits, model.config).item():.1%}",
            parts_chart(model, processor, row, outputs),
            changes_chart(model, processor, row, column, self.recent_texts),
            attention_chart(model, inputs, self.num_prompts) if self.num_prompts else None,
            processor.render([row])[0],
        )

    def show_importance(self, path: str, progress: gr.Progress = gr.Progress()) -> gr.BarPlot:  # noqa: B008  # gradio's way
        """How much each field matters on an uploaded file."""
        progress(0, "Scoring shuffled rows")
        return importance_chart(self.model, self.processor, Path(path), self.recent_texts)

    def look_up(self, key: str, cell: Any) -> Any:
        """The values of the widgets of a joined table's columns, given its key."""
        found = self.processor.tables.joined({key: [cell]}, self.keys[key])
        by_column = {field.column: field for field in self.fields}
        values = [widget_value(by_column[name], *found[name]) for name in self.keys[key]]
        # gradio wraps the value of a single widget itself
        return values if len(values) > 1 else values[0]


def make_page(name_or_path: str) -> gr.Blocks:
    """Build the page, a widget per field and the charts; its first row holds frequent values."""
    explanations = Explanations(name_or_path)
    processor, fields, keys = explanations.processor, explanations.fields, explanations.keys
    with gr.Blocks(title="ClickPrompt", analytics_enabled=False) as page:
        gr.Markdown(f"## What {code(os.path.basename(os.path.normpath(name_or_path)))} makes of a row")
        with gr.Row():
            with gr.Column(scale=1):
                # keys of joined tables that are not fields
                key_widgets = {key: key_widget(processor, key) for key in keys if key not in processor.schema.columns}
                widgets = [field_widget(processor, field) for field in fields]
                text = gr.Textbox(label="What the language model reads", visible=processor.reads_text, lines=3)
            with gr.Column(scale=2):
                with gr.Row():
                    probability = gr.Label(label="Click probability")
                    parts = gr.BarPlot(x="part", y="logit", title=PARTS_TITLE, x_title=" ", height=220)
                changed = gr.Dropdown(
                    [(field.name, field.column) for field in fields], label="What if this field changes?"
                )
                changes = gr.BarPlot(
                    x="value",
                    y="click probability",
                    y_lim=[0, 1],
                    x_label_angle=-30,
                    color="row",
                    color_map={"unchanged": "#f97316", "changed": "#94a3b8"},
                    x_title=" ",
                    title="Click probability with this value and with other values of the field",
                    height=320,
                )
                attention = gr.BarPlot(
                    x="layer", y="attention", y_lim=[0, 1], height=220, visible=explanations.num_prompts > 0
                )
        gr.Markdown("## Which fields matter?")
        with gr.Row():
            labeled = gr.File(
                label=f"Labeled rows with column {processor.schema.label}, a file that ends in {ENDINGS}", scale=1
            )
            with gr.Column(scale=2):
                importance = gr.BarPlot(
                    x="field",
                    y="drop in AUC",
                    x_label_angle=-30,
                    x_title=" ",
                    title="How far the AUC drops when one field is shuffled among the rows",
                    height=320,
                )
        labeled.upload(explanations.show_importance, [labeled], [importance])
        by_column = {field.column: widget for field, widget in zip(fields, widgets)}
        row_and_charts = {
            "fn": explanations.show,
            "inputs": [changed, *widgets],
            "outputs": [probability, parts, changes, attention, text],
            "queue": False,
        }
        others = [widget for column, widget in by_column.items() if column not in keys]
        gr.on([changed.input, *(widget.input for widget in others)], **row_and_charts, trigger_mode="always_last")
        look_up_tables(page, explanations, {**key_widgets, **by_column}, row_and_charts)
    return page


def look_up_tables(
    page: gr.Blocks, explanations: Explanations, widgets: dict[str, Any], row_and_charts: dict[str, Any]
) -> None:
    """Fill in the columns of joined tables when the page loads and when a key changes, then show the row.

    Args:
        page: The page.
        explanations: The checkpoint.
        widgets: The widgets of keys and fields, by column.
        row_and_charts: Arguments of the event that shows the row.
    """
    # one after the other, so that the row is shown when all of it is known
    on_load = page.load
    for key, columns in explanations.keys.items():
        lookup: dict[str, Any] = {
            "fn": partial(explanations.look_up, key),
            "inputs": [widgets[key]],
            "outputs": [widgets[name] for name in columns],
            "queue": False,
            "api_name": "look_up",
        }
        widgets[key].input(**lookup, trigger_mode="always_last").then(**row_and_charts)
        on_load = on_load(**lookup).then
    on_load(**row_and_charts)


def key_widget(processor: ClickPromptProcessor, key: str) -> Any:
    """The widget for the key of a joined table; it starts at the key of the table's first row."""
    known = next(table.keys for table in processor.tables.tables if table.key == key)
    if 0 < len(known) <= LONGEST_DROPDOWN:
        return gr.Dropdown(list(known), value=known[0], label=key, allow_custom_value=True)
    return gr.Textbox(known[0] if known else "", label=key)


def widget_value(field: FieldSchema, cell: Any) -> Any:
    """A cell of a joined table as the field's widget holds it; `None` if it is missing."""
    if field.kind == "multi_valued":
        return kept_values(cell_values(cell, field), field)
    if field.kind == "numeric":
        return number if np.isfinite(number := number_of(cell)) else None
    if field.is_vector and cell is not None and not isinstance(cell, str):
        return str(list(cell))
    if field.time_format is not None and isinstance(cell, (date, np.datetime64)):
        # the format is for strings only
        moment = read_time(cell)
        return moment and moment.strftime(field.time_format)
    return canonical(cell) or None


def field_widget(processor: ClickPromptProcessor, field: FieldSchema) -> Any:
    """The widget for a field's value; it starts at a frequent one."""
    values = frequent_values(processor, field.column, LONGEST_DROPDOWN + 1)
    if field.kind == "numeric":
        return gr.Number(values[len(values) // 2] if values else None, label=field.name)
    if field.kind == "multi_valued":
        choices = [value for (value,) in values]
        return gr.Dropdown(
            choices,
            value=choices[:1],
            label=field.name,
            multiselect=True,
            max_choices=field.max_values,
            allow_custom_value=True,
        )
    if 0 < len(values) <= LONGEST_DROPDOWN:
        return gr.Dropdown(values, value=values[0], label=field.name, allow_custom_value=True)
    return gr.Textbox(values[0] if values else "", label=field.name)


def parts_chart(
    model: ClickPromptForCTR, processor: ClickPromptProcessor, row: dict[str, Any], outputs: Any
) -> gr.BarPlot:
    """The logit of a row and what each side adds to it; the title names values that training did not have."""
    parts = {SIDES[side]: logit.item() for side, logit in logit_parts(model, outputs).items()}
    table = pd.DataFrame([*parts.items(), ("together", outputs.logits.item())], columns=["part", "logit"])
    unknown = ", ".join(unknown_fields(processor, row))
    title = f"{PARTS_TITLE}; not seen in training: {unknown}" if unknown else PARTS_TITLE
    return gr.BarPlot(table, title=title, sort=table["part"].tolist(), y_lim=with_zero(table["logit"]))


def attention_chart(model: ClickPromptForCTR, inputs: Any, num_prompts: int) -> gr.BarPlot:
    """Attention that each PLM layer pays to the prompts."""
    layers = prompt_attention(model, **inputs)[0].tolist()
    table = pd.DataFrame({"layer": [str(n) for n in range(1, len(layers) + 1)], "attention": layers})
    share = num_prompts / (num_prompts + inputs["input_ids"].shape[1])
    title = f"Share of each PLM layer's attention that goes to the prompts ({share:.0%} if spread evenly)"
    return gr.BarPlot(table, title=title)


def with_zero(values: pd.Series) -> list[float | None]:
    """Limits of a bar chart's axis, which must include zero."""
    return [min(0.0, values.min()), max(0.0, values.max())]


def changes_chart(
    model: ClickPromptForCTR,
    processor: ClickPromptProcessor,
    row: dict[str, Any],
    column: str,
    recent_texts: RecentTexts | None = None,
) -> gr.BarPlot:
    """The probability with the row's own value, and with the most frequent other values or other times."""
    field_index = processor.schema.columns.index(column)
    before, after = processor.affixes(field_index)
    field = processor.schema.fields[field_index]
    if field.kind in TIME_PARTS:
        others: list[Any] = other_times(field, row[column])
    else:
        others = frequent_values(processor, column, WHAT_IF_VALUES)
    # each value once, by how it reads in the text
    values: dict[str, Any] = {}
    for value in [row[column], *others]:
        (clause,) = processor.render_values(field_index, [value])
        values.setdefault(clause[len(before) : len(clause) - len(after)], value)
    table = pd.DataFrame(
        {
            "value": list(values),
            "click probability": what_if(model, processor, row, column, list(values.values()), recent_texts),
            "row": ["unchanged", *["changed"] * (len(values) - 1)],
        }
    )
    return gr.BarPlot(table, sort=list(values))


def importance_chart(
    model: ClickPromptForCTR, processor: ClickPromptProcessor, path: Path, recent_texts: RecentTexts | None = None
) -> gr.BarPlot:
    """How much of the model's AUC rests on each field, on labeled rows of a file.

    Raises:
        ValueError: If the file is not a table, lacks a column or has labels of one class.
    """
    table, clicks = labeled_rows(processor, path)
    # shuffled values need no warning
    unknown, batch_size = UnknownValues(processor), scoring_batch_size(model.config)

    def score(rows: pa.Table) -> np.ndarray:
        return score_table(rows, processor, model, batch_size, unknown=unknown, recent_texts=recent_texts)

    # without a PLM, free text is not read
    fields = [field for field in processor.schema.fields if field.column in processor.read_columns]
    drops = permutation_importance(score, table, clicks, fields, repeats=IMPORTANCE_REPEATS)
    shown = pd.DataFrame({"field": list(drops), "drop in AUC": list(drops.values())})
    return gr.BarPlot(
        shown,
        title=f"How far the AUC drops when one field is shuffled among {len(table):,} rows",
        sort=list(drops),
        y_lim=with_zero(shown["drop in AUC"]),
    )


def labeled_rows(processor: ClickPromptProcessor, path: Path) -> tuple[pa.Table, np.ndarray]:
    """Read a file's first rows and draw a sample of them, with their clicks (N,).

    Raises:
        ValueError: If the file is not a table, has no rows or lacks a column, or a label is neither 0 nor 1.
    """
    schema = processor.schema
    file = open_table_file(path, schema.csv, numeric_columns=schema.numeric_columns)
    to_join = processor.columns_to_join(dict.fromkeys(file.schema.names))
    known = needed_columns(schema)
    names = dict.fromkeys([*processor.needed_columns(to_join), schema.label])
    columns = {name: known.get(name, "a `key` of the `tables` of the schema") for name in names}
    check_columns(file.schema.names, columns, path.name, file.advise_on_columns())
    read: list[pa.RecordBatch] = []
    for batch in file.batches(list(columns)):
        read.append(batch)
        if sum(map(len, read)) >= READ_ROWS:
            break
    table = pa.Table.from_batches(read, pa.schema([file.schema.field(name) for name in columns])).slice(0, READ_ROWS)
    if not len(table):
        raise ValueError(f"{path.name} must have rows, but it has none.")
    chosen = np.sort(np.random.default_rng(0).permutation(len(table))[:IMPORTANCE_ROWS])
    table = with_joined_columns(table.take(pa.array(chosen)), processor)
    clicks = check_labels(
        table.column(schema.label).to_pylist(), schema.label, schema.positive, where="the sample that was drawn"
    )
    return table, clicks
