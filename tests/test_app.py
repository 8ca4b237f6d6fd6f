"""The page that looks inside a checkpoint: its widgets, what it computes, and what a browser shows of it."""

import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageColor
from tiny_data import tiny_roberta_tokenizer, tiny_rows, tiny_schema
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import AutoModelForSequenceClassification, AutoProcessor

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.evaluation import permutation_importance
from clickprompt_hf.inspection import logit_parts, prompt_attention, what_if
from clickprompt_hf.schema_clickprompt import TableSchema
from clickprompt_hf.scoring import score_table
from clickprompt_hf.tables_clickprompt import JoinedTable, JoinedTables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOOK_UPS = {"/look_up": ["1", "2", "9"], "/look_up_2": ["a", "b", "c"]}
ROW = {"user": "3", "price": 2.5, "tags": ["new", "rare"], "title": "Up"}


@pytest.fixture(scope="module", autouse=True)
def gradio():
    """Loaded by these tests alone, because it takes seconds."""
    return pytest.importorskip("gradio", reason="needs gradio: pip install 'clickprompt_hf[app]'")


@pytest.fixture(scope="module")
def app_page(gradio):
    from clickprompt_hf.runs import app_page

    return app_page


@pytest.fixture(scope="module", params=["with the PLM", "CTR part alone"])
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "click-model"
    tokenizer, text_config = None, None
    if request.param == "with the PLM":
        tokenizer = tiny_roberta_tokenizer()
        text_config = tiny_text_config(vocab_size=len(tokenizer), max_position_embeddings=100)
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer)
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    fusion = "weighted" if text_config else "ctr"
    torch.manual_seed(0)
    config = ClickPromptConfig(text_config=text_config, ctr_config=ctr_config, prompt_length=2, fusion=fusion)
    ClickPromptForCTR(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def page(checkpoint, app_page):
    page = app_page.launch(str(checkpoint), port=None, block=False)
    yield page
    page.close()


def plotted(update) -> pd.DataFrame:
    """The table of a plot, as the page's server sends it."""
    return pd.DataFrame(update["value"]["data"], columns=update["value"]["columns"])


def test_what_the_page_shows_of_a_row(page, checkpoint):
    client = pytest.importorskip("gradio_client").Client(page.local_url, verbose=False)
    probability, parts, changes, attention, text = client.predict("title", *ROW.values(), api_name="/show")

    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    inputs = processor([ROW], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    assert probability["label"] == f"{torch.sigmoid(outputs.logits).item():.1%}"

    sides = {"ctr": "CTR side", "text": "text side"}
    expected = {sides[side]: logit.item() for side, logit in logit_parts(model, outputs).items()}
    expected["together"] = outputs.logits.item()
    assert dict(plotted(parts).itertuples(index=False)) == pytest.approx(expected)

    table = plotted(changes)
    # the row's value first, each value once, no missing value
    assert table["value"].tolist()[0] == "Up"
    assert sorted(table["value"]) == sorted(set(processor.vocabularies[3]) - {""})
    expected = what_if(model, processor, ROW, "title", table["value"].tolist())
    assert table["click probability"].tolist() == pytest.approx(expected)
    assert table["row"].tolist() == ["unchanged", *["changed"] * (len(table) - 1)]

    assert text == "User ID is 3. Price is 2.5. Tags is new, rare. Title is Up."
    if model.config.use_plm:
        assert plotted(attention)["attention"].tolist() == pytest.approx(prompt_attention(model, **inputs)[0].tolist())
    else:
        assert attention is None


def test_importance_of_the_fields_on_an_uploaded_file(page, checkpoint, app_page, tmp_path):
    rows = {**tiny_rows(40, seed=5), "unused": ["x"] * 40}
    pd.DataFrame(rows).to_csv(tmp_path / "labeled.csv", index=False)
    gradio_client = pytest.importorskip("gradio_client")
    client = gradio_client.Client(page.local_url, verbose=False)
    chart = client.predict(gradio_client.handle_file(tmp_path / "labeled.csv"), api_name="/show_importance")

    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    expected = permutation_importance(
        lambda table: score_table(table, processor, model, 8),
        pa.table({name: list(map(str, values)) for name, values in pd.read_csv(tmp_path / "labeled.csv").items()}),
        rows["click"],
        processor.schema.fields,
        repeats=app_page.IMPORTANCE_REPEATS,
    )
    assert "40 rows" in chart["title"]
    table = plotted(chart)
    assert sorted(table["field"]) == ["Price", "Tags", "Title", "User ID"]
    assert table["field"].tolist() == list(expected)
    assert table["drop in AUC"].tolist() == pytest.approx(list(expected.values()))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.csv", "user,price,tags,click\n1,2,new,1\n", "rows.csv must have the column 'title'"),
        ("rows.csv", "user,price,tags,title,click\n", "rows.csv must have rows"),
        ("rows.csv", "user,price,tags,title,click\n1,2,new,Up,5\n", "must be 0 or 1, got '5'"),
        ("rows.txt", "user\n1\n", "must end in .csv"),
    ],
)
def test_files_without_labeled_rows_are_refused(name, text, message, app_page, tmp_path):
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema())
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        app_page.labeled_rows(processor, tmp_path / name)


def test_a_sample_of_many_rows_is_scored(app_page, tmp_path, monkeypatch):
    monkeypatch.setattr(app_page, "IMPORTANCE_ROWS", 7)
    pd.DataFrame(tiny_rows(40)).to_csv(tmp_path / "rows.csv", index=False)
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema())
    table, clicks = app_page.labeled_rows(processor, tmp_path / "rows.csv")
    assert len(table) == len(clicks) == 7
    assert table.column("click").to_pylist() == list(map(str, clicks))


def test_importance_leaves_out_free_text_that_nothing_reads(app_page, tmp_path):
    rows = tiny_rows(40)
    fields = (*tiny_schema().fields[:3], FieldSchema("title", "Title", "text"))
    processor = ClickPromptProcessor.fit(rows, Schema(fields, label="click"))
    sizes = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(**sizes), fusion="ctr"))
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    chart = app_page.importance_chart(model, processor, tmp_path / "rows.csv")
    assert sorted(plotted({"value": chart.value})["field"]) == ["Price", "Tags", "User ID"]


def test_one_widget_per_field(gradio, app_page):
    rows = {**tiny_rows(), "user": list(range(60))}
    processor = ClickPromptProcessor.fit(rows, tiny_schema())
    user, price, tags, title = (app_page.field_widget(processor, field) for field in processor.schema.fields)
    assert [widget.label for widget in (user, price, tags, title)] == ["User ID", "Price", "Tags", "Title"]
    # 60 users are too many to choose from
    assert isinstance(user, gradio.Textbox)
    assert isinstance(price, gradio.Number)
    assert price.value in processor.boundaries[1]
    assert tags.multiselect
    assert [value for _, value in tags.choices] == [value for value in processor.vocabularies[2] if value]
    assert tags.max_choices == 2
    assert isinstance(title, gradio.Dropdown)
    assert title.value == next(value for value in processor.vocabularies[3] if value)


@pytest.fixture(scope="module")
def with_tables(tmp_path_factory):
    """A checkpoint whose schema joins a table of users, with a key that is a field, and one of items, with another."""
    folder = tmp_path_factory.mktemp("with-tables")
    users = {"user": [1, 2], "price": [2.5, None], "since": [date(2024, 1, 31), None]}
    pq.write_table(pa.table(users), folder / "users.parquet")
    pq.write_table(
        pa.table({"item": ["a", "b"], "tags": ["new|rare", None], "title": ["Up", "Heat"]}), folder / "items.parquet"
    )
    since = FieldSchema("since", "Since", "weekday", time_format="%d.%m.%Y")
    tables = [TableSchema(str(folder / "users.parquet"), "user"), TableSchema(str(folder / "items.parquet"), "item")]
    schema = Schema((*tiny_schema().fields, since), label="click", tables=tables)
    rows = {**tiny_rows(), "since": [date(2024, 1, 30 + number % 2) for number in range(len(tiny_rows()["user"]))]}
    processor = ClickPromptProcessor.fit(rows, schema)
    torch.manual_seed(0)
    sizes = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(**sizes), fusion="ctr")).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_keys_of_tables_fill_in_what_is_known_of_them(with_tables, app_page):
    page = app_page.launch(str(with_tables), port=None, block=False)
    try:
        assert [widget.label for widget in page.blocks.values() if getattr(widget, "label", None) == "item"] == [
            "item"
        ]
        client = pytest.importorskip("gradio_client").Client(page.local_url, verbose=False)
        values = [client.predict(key, api_name=name) for name, keys in LOOK_UPS.items() for key in keys]
        # as the processor itself joins the row
        row = dict(zip(["user", "price", "tags", "title", "since"], ["1", *values[0][:1], *values[3], values[0][1]]))
        assert row == {"user": "1", "price": 2.5, "tags": ["new", "rare"], "title": "Up", "since": "31.01.2024"}
        processor = AutoProcessor.from_pretrained(with_tables)
        assert processor(row)["feature_ids"] == processor({"user": 1, "item": "a"})["feature_ids"]
        # users and items of which some or nothing is known
        assert values[1:3] == [(None, None), (None, None)]
        assert values[4:] == [([], "Heat"), ([], None)]
    finally:
        page.close()


def test_tables_of_one_column_fill_in_their_values(with_tables, app_page, tmp_path):
    processor = AutoProcessor.from_pretrained(with_tables)
    users, items = processor.tables.tables
    kept = ((users, "price"), (items, "tags"))
    processor.tables = JoinedTables([JoinedTable(of.key, of.keys, {name: of.columns[name]}) for of, name in kept])
    shutil.copytree(with_tables, tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    page = app_page.launch(str(tmp_path / "model"), port=None, block=False)
    try:
        client = pytest.importorskip("gradio_client").Client(page.local_url, verbose=False)
        assert client.predict("1", api_name="/look_up") == 2.5
        assert client.predict("a", api_name="/look_up_2") == ["new", "rare"]
    finally:
        page.close()


def test_columns_of_tables_are_looked_up_for_the_importance_of_fields(with_tables, app_page, tmp_path):
    processor = AutoProcessor.from_pretrained(with_tables)
    log = {"user": [1, 2, 3], "item": ["b", "a", "a"], "click": [0, 1, 0]}
    pd.DataFrame(log).to_csv(tmp_path / "log.csv", index=False)
    table, _ = app_page.labeled_rows(processor, tmp_path / "log.csv")
    assert table.column("title").to_pylist() == ["Heat", "Up", "Up"]
    assert table.column("price").to_pylist() == [2.5, None, None]
    model = AutoModelForSequenceClassification.from_pretrained(with_tables)
    chart = app_page.importance_chart(model, processor, tmp_path / "log.csv")
    assert sorted(plotted({"value": chart.value})["field"]) == ["Price", "Since", "Tags", "Title", "User ID"]
    # the file's own columns take precedence
    pd.DataFrame({**log, "title": ["Up"] * 3}).to_csv(tmp_path / "log.csv", index=False)
    table, _ = app_page.labeled_rows(processor, tmp_path / "log.csv")
    assert table.column("title").to_pylist() == ["Up"] * 3
    pd.DataFrame({"user": [1], "click": [0]}).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(ValueError, match="log.csv must have the column 'item'"):
        app_page.labeled_rows(processor, tmp_path / "log.csv")


def test_nothing_leaves_the_machine(page):
    assert not page.analytics_enabled
    assert not page.share
    assert page.local_url.startswith("http://127.0.0.1:")


def fewest_pixels_of_bars(picture: Path) -> int:
    """Number of pixels of the rarer of the two colors of bars."""
    image = Image.open(picture).convert("RGB")
    colors = {color: count for count, color in image.getcolors(maxcolors=image.width * image.height)}
    return min(colors.get(ImageColor.getrgb(bar), 0) for bar in ("#f97316", "#94a3b8"))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH: apt-get install chromium")
def test_in_a_browser(page, checkpoint, tmp_path):
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,1200"]
    # a busy machine draws the bars later
    for budget in (20_000, 60_000, 180_000):
        command = [CHROMIUM, *options, f"--virtual-time-budget={budget}", f"--user-data-dir={tmp_path}"]
        command += [f"--screenshot={picture}", "--dump-dom", page.local_url]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        if fewest_pixels_of_bars(picture) > 1000:
            break
    has_plm = ClickPromptConfig.from_pretrained(checkpoint).use_plm
    for words in (
        "click-model",
        "User ID",
        "What if this field changes?",
        "CTR side",
        "together",
        "click probability",
        "Which fields matter?",
    ):
        assert words in shown
    assert ("text side" in shown) == has_plm
    assert ("Share of each PLM layer" in shown) == has_plm
    # the first row's, computed without a click
    assert re.search(r"\d\d?\.\d%", shown)
    # the page loads nothing from elsewhere
    assert not re.findall(rf'(?:src|href)="(?!{page.local_url}|https://gradio.app)https?://[^"]*', shown)

    assert Image.open(picture).size == (1280, 1200)
    assert fewest_pixels_of_bars(picture) > 1000
