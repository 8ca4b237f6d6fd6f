"""A page that looks inside a trained checkpoint.

    python -m clickprompt_hf.runs.app --model OUT

Opens on http://127.0.0.1:7860: a row to fill in, its click probability, what the CTR side and the text side add to it,
what happens when one field changes, and how much each layer of the language model attends to the prompts. Takes any
click model, one without a language model too. Nothing leaves this machine. Needs `pip install "clickprompt_hf[app]"`.
"""

import argparse
import os
from typing import Any

import gradio as gr
import pandas as pd
import torch
from transformers import AutoProcessor

from ..inspection import frequent_values, logit_parts, other_times, prompt_attention, what_if
from ..schema_clickprompt import TIME_PARTS
from .backbone_modules import import_backbone_module
from .paths import check_folder_or_hub_id
from .predict import load_model

LONGEST_DROPDOWN = 50
WHAT_IF_VALUES = 10
SIDES = {"ctr": "CTR side", "text": "text side"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--backbone_module", help="Python file or module that registers the model's own backbone")
    args = parser.parse_args(arguments)
    check_folder_or_hub_id(args.model, "--model")
    if args.backbone_module:
        import_backbone_module(args.backbone_module)
    launch(args.model, args.port)


def launch(name_or_path: str, port: int | None, **options: Any) -> gr.Blocks:
    """Serves the page of a checkpoint to this machine; a port of `None` is any free one from 7860 on."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    page = make_page(name_or_path)
    # fonts of the reader's system: others would be fetched
    theme = gr.themes.Default(font="sans-serif", font_mono="monospace")
    page.launch(
        server_name="127.0.0.1", server_port=port, share=False, ssr_mode=False, theme=theme, show_error=True, **options
    )
    return page


def make_page(name_or_path: str) -> gr.Blocks:
    """The page, with a first row of frequent values."""
    # 1. The checkpoint: a processor that reads raw rows, and a model.
    processor = AutoProcessor.from_pretrained(name_or_path)
    model = load_model(name_or_path)
    processor.check_model(model.config)
    # parts of one time share a widget
    fields = list({member.column: member for member in reversed(processor.schema.fields)}.values())[::-1]
    num_prompts = model.config.num_prompts if model.config.use_plm else 0

    # 2. From a row to what is shown of it.
    @torch.no_grad()
    def show(column: str, *values: Any) -> tuple:
        row = {member.column: value for member, value in zip(fields, values)}
        inputs = processor([row], return_tensors="pt").to(model.device)
        outputs = model(**inputs)
        parts = {SIDES[side]: logit.item() for side, logit in logit_parts(model, outputs).items()}
        parts_table = pd.DataFrame([*parts.items(), ("together", outputs.logits.item())], columns=["part", "logit"])
        attention_chart = None
        if num_prompts:
            layers = prompt_attention(model, **inputs)[0].tolist()
            table = pd.DataFrame({"layer": [str(n) for n in range(1, len(layers) + 1)], "attention": layers})
            share = num_prompts / (num_prompts + inputs["input_ids"].shape[1])
            title = (
                f"Share of each PLM layer's attention that the prompts get ({share:.0%} if all positions got the same)"
            )
            attention_chart = gr.BarPlot(table, title=title)
        return (
            f"{torch.sigmoid(outputs.logits).item():.1%}",
            gr.BarPlot(parts_table, sort=parts_table["part"].tolist(), y_lim=with_zero(parts_table["logit"])),
            changes_chart(model, processor, row, column),
            attention_chart,
            processor.render([row])[0],
        )

    # 3. The page: a widget a field, and the charts.
    with gr.Blocks(title="ClickPrompt", analytics_enabled=False) as page:
        gr.Markdown(f"## What `{os.path.basename(os.path.normpath(name_or_path))}` makes of a row")
        with gr.Row():
            with gr.Column(scale=1):
                widgets = [field_widget(processor, member) for member in fields]
                text = gr.Textbox(label="What the language model reads", visible=processor.reads_text, lines=3)
            with gr.Column(scale=2):
                with gr.Row():
                    probability = gr.Label(label="Click probability")
                    title = "The logit, and what adds up to it"
                    parts = gr.BarPlot(x="part", y="logit", title=title, x_title=" ", height=220)
                changed = gr.Dropdown([(f.name, f.column) for f in fields], label="What if this field changes?")
                title = "Click probability with this value and with others of the field"
                colors = {"color": "row", "color_map": {"as it is": "#f97316", "changed": "#94a3b8"}, "x_title": " "}
                axes = {"x": "value", "y": "click probability", "y_lim": [0, 1], "x_label_angle": -30}
                changes = gr.BarPlot(**axes, **colors, title=title, height=320)
                axes = {"x": "layer", "y": "attention", "y_lim": [0, 1]}
                attention = gr.BarPlot(**axes, height=220, visible=num_prompts > 0)
        triggers = [page.load, changed.input, *(widget.input for widget in widgets)]
        shown = [probability, parts, changes, attention, text]
        gr.on(triggers, show, [changed, *widgets], shown, trigger_mode="always_last", queue=False)
    return page


def field_widget(processor, member) -> gr.components.Component:
    """What a value of the field is chosen or typed with; it starts at a frequent one."""
    values = frequent_values(processor, member.column, LONGEST_DROPDOWN + 1)
    if member.kind == "numeric":
        return gr.Number(values[len(values) // 2] if values else None, label=member.name)
    if member.kind == "multi_valued":
        choices = [value for (value,) in values]
        options = {"multiselect": True, "max_choices": member.max_values, "allow_custom_value": True}
        return gr.Dropdown(choices, value=choices[:1], label=member.name, **options)
    if 0 < len(values) <= LONGEST_DROPDOWN:
        return gr.Dropdown(values, value=values[0], label=member.name, allow_custom_value=True)
    return gr.Textbox(values[0] if values else "", label=member.name)


def with_zero(numbers: pd.Series) -> list[float]:
    """Limits of an axis of bars, which start at zero."""
    return [min(0.0, numbers.min()), max(0.0, numbers.max())]


def changes_chart(model, processor, row: dict, column: str) -> gr.BarPlot:
    """The probability with the row's own value, and with each of the most frequent others, or of other times."""
    field_index = processor.schema.columns.index(column)
    before, after = processor.affixes(field_index)
    values: dict[str, Any] = {}
    member = processor.schema.fields[field_index]
    if member.kind in TIME_PARTS:
        others: list = other_times(member, row[column])
    else:
        others = frequent_values(processor, column, WHAT_IF_VALUES)
    for value in [row[column], *others]:
        (clause,) = processor.render_values(field_index, [value])
        # one spelling a value
        values.setdefault(clause[len(before) : len(clause) - len(after)], value)
    probabilities = what_if(model, processor, row, column, list(values.values()))
    rows = ["as it is", *["changed"] * (len(values) - 1)]
    table = pd.DataFrame({"value": values.keys(), "click probability": probabilities, "row": rows})
    return gr.BarPlot(table, sort=list(values))


if __name__ == "__main__":
    main()
