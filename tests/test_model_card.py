"""The text of model cards, and that the Hub's classes read their metadata back."""

import ast
import html
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from tiny_data import tiny_roberta_tokenizer, tiny_schema, tiny_splits
from tiny_models import tiny_ctr_config, tiny_text_config

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPAMLM,
    ClickPromptModel,
    ClickPromptProcessor,
    FieldSchema,
    Schema,
)
from clickprompt_hf.evaluation.markdown import code, escaped
from clickprompt_hf.evaluation.model_card import model_card, run_card
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments

TRAINING_DATA = {
    "dataset": "csv",
    "split": "random",
    "split_seed": 7,
    "max_train_rows": None,
    "min_count": 1,
    "num_rows": {"test": 2000, "train": 16000, "validation": 2000},
    "test_rows_sha256": "ab" * 32,
}
METRICS = {
    "test_auc": 0.71234567,
    "test_auc_low": 0.7,
    "test_auc_high": 0.7246,
    "test_log_loss": 0.4,
    "test_log_loss_low": 0.39,
    "test_log_loss_high": 0.41,
    "test_gauc": float("nan"),
    "test_runtime": 3.0,
    "train_loss": 0.5,
}


@pytest.fixture(scope="module")
def processor():
    return ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema(), tiny_roberta_tokenizer())


def tiny_model(model_class=ClickPromptForCTR, plm="", with_plm=True, **data):
    options = {"fusion": "ctr"}
    if with_plm:
        options = {"text_config": tiny_text_config(), "prompt_length": 3}
        options["text_config"]._name_or_path = plm
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(), training_data={**TRAINING_DATA, **data}, **options)
    return model_class(config)


def test_card_of_a_run(processor, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "training_curves.png").touch()
    card = model_card(
        tiny_model(plm="FacebookAI/roberta-base"),
        processor,
        name="mine",
        checkpoint="someone/mine",
        metrics=METRICS,
        training={"Learning rate": 0.001, "Seed": 42},
        folder=tmp_path,
        license="cc-by-nc-4.0",
        tags=["shop"],
    )
    card.save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.base_model, data.pipeline_tag, data.library_name) == (
        *("cc-by-nc-4.0", "FacebookAI/roberta-base", "tabular-classification", "transformers"),
    )
    assert {"clickprompt", "shop"} <= set(data.tags)
    auc, log_loss = data.eval_results
    assert (data.model_name, auc.metric_type, auc.metric_value, auc.dataset_name, auc.dataset_split) == (
        *("mine", "roc_auc", 0.712346, "csv", "test"),
    )
    assert (log_loss.metric_type, log_loss.metric_value, log_loss.task_type) == (
        *("log_loss", 0.4, "tabular-classification"),
    )

    text = card.content
    for line in (
        "| AUC | 0.7123 | 0.7000 to 0.7246 |",
        "| Log loss (nats) | 0.4000 | 0.3900 to 0.4100 |",
        "| Rows | train 16,000, validation 2,000, test 2,000 |",
        "| Split | 8:1:1 at random, seed 7 |",
        "| Prompts | 3, layerwise, encoder `released` |",
        "| price | Price | numeric, up to 4 buckets |  |",
        "| tags | Tags | up to 2 values, separated by `\\|` | 3 |",
        "| user | User ID | categorical | 8 |",
        "| Learning rate | 0.001 |",
        "![Training curves](plots/training_curves.png)",
        'score = pipeline("ctr-prediction", model="someone/mine", trust_remote_code=True)',
        'model = AutoModelForSequenceClassification.from_pretrained("someone/mine")',
        "Label: `click`. Each field is rendered as `{name} is {value}.`; the row above reads",
    ):
        assert f"\n{line}" in text
    assert "| GAUC" not in text
    assert "calibration.png" not in text
    assert "{{" not in re.sub(r"```bibtex.*", "", text, flags=re.DOTALL)
    assert "The split is random: test rows share users" in text
    assert "\n\n\n" not in text


def test_card_of_late_prompts(processor):
    model = tiny_model()
    model.config.prompt_depth = 1
    text = model_card(model, processor, name="late").content
    assert "\n| Prompts | 3, layerwise, encoder `released`, in the last 1 of 2 layers |" in text
    assert "with soft prompts made from the ids in its last layer" in text


def test_card_of_pretraining_says_in_sample(processor):
    card = model_card(
        tiny_model(ClickPromptForPAMLM), processor, name="p", metrics={"eval_masked_accuracy": 0.25, "eval_loss": 3.0}
    )
    assert "On the validation split, which training used too (in-sample):" in card.content
    assert "its validation figures are in-sample" in card.content
    assert "It does not predict clicks yet: pass it to finetuning as `model_name_or_path`" in card.content
    assert "AutoModelForMaskedLM" in card.content
    accuracy, loss = card.data.eval_results
    assert (accuracy.dataset_split, accuracy.metric_value, accuracy.task_type) == ("validation", 0.25, "fill-mask")
    assert accuracy.metric_name.endswith("in-sample")
    assert loss.metric_value == 3.0
    assert card.data.pipeline_tag is None


def test_card_without_plm_text_or_results():
    processor = ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema())
    model = tiny_model(with_plm=False, split="time", min_count=3)
    model.config.ctr_config.backbone = "mine"
    text = model_card(model, processor, name="alone").content
    assert "Predicts clicks from a row's feature ids with the backbone `mine`" in text
    assert "does not include its code" in text
    assert "the row above reads" not in text
    assert "No results were recorded." in text
    assert "latest tenth" in text
    assert "share one id with those that occur in fewer than 3 of them" in text
    assert "the publisher has not chosen a license" in text
    assert "model-index" not in text

    model.config.training_data = None
    text = model_card(model, name="bare").content
    assert "does not record its training data" in text
    assert "## Schema" not in text


@pytest.mark.parametrize(
    ("data", "line", "limit"),
    [
        ({"own_splits": ["train", "validation", "test"]}, "the dataset's own", None),
        (
            {"own_splits": ["train", "test"]},
            "8:1:1 at random, seed 7; the dataset's own for train and test",
            None,
        ),
        (
            {"split": "user", "split_column": "user|id", "split_fractions": [0.6, 0.2, 0.2], "own_splits": []},
            "0.6:0.2:0.2 by the values of user\\|id, seed 7",
            "Test rows share no value of user\\|id with training rows",
        ),
        (
            {"split": "time", "split_fractions": [0.5, 0.2, 0.3], "own_splits": []},
            "0.5:0.2:0.3 by time",
            "The test rows are the latest rows;",
        ),
        # a record of an earlier version
        (
            {"dataset": "owner/clicks"},
            "8:1:1 at random, seed 7, unless the dataset has its own",
            "The split is random",
        ),
    ],
)
def test_the_card_says_how_rows_were_split(data, line, limit):
    text = model_card(tiny_model(with_plm=False, **data), name="x").content
    assert f"| Split | {line} |" in text
    if limit is None:
        assert "The split is random" not in text
    else:
        assert limit in text


def test_a_card_reveals_no_paths_and_keeps_its_tables_intact(tmp_path):
    (tmp_path / "clicks").mkdir()
    schema = Schema((FieldSchema("a|b", "A | B"), FieldSchema('say "hi"')), label="click")
    rows = {"a|b": ["x|y\nz", "x|y\nz"], 'say "hi"': ['"', "\\"], "click": [0, 1]}
    processor = ClickPromptProcessor.fit(rows, schema, tiny_roberta_tokenizer())
    model = tiny_model(plm=str(tmp_path), dataset=str(tmp_path / "clicks"))
    card = model_card(model, processor, name="n")
    assert str(tmp_path) not in card.content
    assert card.data.base_model is None
    assert card.data.datasets is None
    assert "| Dataset | clicks |" in card.content
    assert "| a\\|b | A \\| B | categorical | 1 |" in card.content
    namespace = {}
    exec(re.search(r"^row = \{.*?^\}", card.content, flags=re.DOTALL | re.MULTILINE).group(), namespace)
    assert processor.encode({column: [cell] for column, cell in namespace["row"].items()}).min() > 0
    assert model_card(tiny_model(dataset="owner/clicks"), name="n").data.datasets == ["owner/clicks"]
    assert "GroupLens provides" in model_card(tiny_model(dataset="ml-100k"), name="n").content


@pytest.mark.parametrize(("keeps_best", "auc"), [(True, 0.8), (False, 0.7)])
def test_card_of_a_training_run_shows_the_evaluation_of_its_weights(keeps_best, auc, processor, tmp_path):
    args = ClickPromptTrainingArguments(str(tmp_path), load_best_model_at_end=keeps_best, hub_license="mit")
    rows = {"eval_dataset": tiny_splits()["validation"]}
    trainer = ClickPromptTrainer(tiny_model(), args, processing_class=processor, model_card=run_card, **rows)
    trainer.state.log_history = [
        {"eval_loss": 0.5, "eval_auc": 0.8, "epoch": 1, "step": 10},
        {"eval_loss": 0.6, "eval_auc": 0.7, "epoch": 2, "step": 20},
    ]
    trainer.state.best_global_step, trainer.state.epoch = 10, 2
    trainer.create_model_card(model_name="mine", tags="shop", dataset="owner/clicks")
    card = ModelCard.load(tmp_path / "README.md")
    assert [(result.metric_type, result.metric_value) for result in card.data.eval_results] == [("roc_auc", auc)]
    assert ("weights of epoch 1 kept" in card.content) == keeps_best
    assert (card.data.license, card.data.datasets, "shop" in card.data.tags) == ("mit", ["owner/clicks"], True)
    assert "\n# mine\n" in card.content


def test_without_model_card_the_trainer_writes_the_card_of_transformers(processor, tmp_path):
    args, rows = ClickPromptTrainingArguments(str(tmp_path)), {"eval_dataset": tiny_splits()["validation"]}
    trainer = ClickPromptTrainer(tiny_model(), args, processing_class=processor, **rows)
    trainer.create_model_card()
    assert "generated_from_trainer" in (tmp_path / "README.md").read_text()


def test_card_of_a_model_without_a_head_is_refused():
    with pytest.raises(ValueError, match="`model` must be one of .*'ClickPromptForCTR'.*got ClickPromptModel"):
        model_card(tiny_model(ClickPromptModel), name="n")


def test_kinds_of_free_text_and_of_parts_of_a_time(tmp_path):
    fields = [FieldSchema("at", kind="hour"), FieldSchema("at", kind="weekday"), FieldSchema("note", kind="text")]
    processor = ClickPromptProcessor.fit(
        {"at": ["2024-01-31 14:05:00"], "note": ["x"]}, Schema(tuple(fields), label="click")
    )
    ctr_config = tiny_ctr_config("fm", field_sizes=processor.field_sizes)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr"))
    # without a tokenizer, nothing reads the free text
    assert "free text" not in model_card(model, processor, name="m").content
    processor.tokenizer = tiny_roberta_tokenizer()
    content = model_card(model, processor, name="m").content
    for words in ("hour of a time", "weekday of a time", "free text, without ids"):
        assert words in content
    # the processor accepts the example row unchanged
    row = eval(re.search(r"^row = (\{.*?^\})", content, flags=re.DOTALL | re.MULTILINE)[1])
    assert processor([row])["feature_ids"] == [[1, 1]]


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</td></table><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](http://a/b.png)",
    "a|b",
    "`code`",
    "``` \n# heading",
    "**bold** ~~no~~ *it*",
    "# heading",
    "- item",
    "---",
    "a\n\n| x | y |\r\n\u2028z",
    "{{ name }} {% raw %}",
    "&lt;b&gt; &amp;",
    "back\\slash \\| \\`",
    '"quoted": {yaml: [1]}',
    "$x$",
)


def shown(markdown: str) -> str:
    """The text that a line of escaped Markdown shows."""
    return html.unescape(re.sub(r"\\(.)", r"\1", markdown))


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_value_is_markup(text):
    line = " ".join(text.split())
    made = escaped(text)
    assert shown(made) == line
    assert not re.search(r"(?<!\\)[`*\[\]|~]|[<>]|\n", made.replace("\\\\", ""))
    assert not re.match(r"[#+=-]", made)
    span = code(text, in_table=True)
    assert span in (f"`{line}`", "`{}`".format(line.replace("|", "\\|")), made)
    assert "<" not in span


@pytest.mark.parametrize("text", HOSTILE)
def test_a_card_shows_fields_and_values_as_they_are(text):
    line = " ".join(text.split())
    fields = (FieldSchema(line, line), FieldSchema("tags", "Tags", "multi_valued", separator=text))
    schema = Schema(fields, label=f"label {line}", positive=f"yes {line}", template=f"{{name}} {line} {{value}}.")
    rows = {line: [text, text], "tags": ["x", "y"], schema.label: [f"yes {line}", "no"]}
    processor = ClickPromptProcessor.fit(rows, schema)
    model = ClickPromptForCTR(
        ClickPromptConfig(
            ctr_config=tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values),
            fusion="ctr",
            training_data={
                **{"dataset": text.replace("/", " "), "split": "random", "split_seed": 1, "min_count": 1},
                **{"num_rows": {"train": 1, "validation": 1, "test": 1}, "max_train_rows": None},
                "test_rows_sha256": text,
            },
        )
    )
    card = model_card(
        model, processor, name=text, checkpoint=text, license=text, tags=[text], training={text: text}, language=None
    )
    body = card.content.split("\n---\n", 1)[1]
    for tag in ("<img", "<script", "</td"):
        assert tag not in body
    # a cell each, whatever the values hold
    outside_code = re.sub(r"^```.*?^```$", "", body, flags=re.DOTALL | re.MULTILINE)
    outside_code = re.sub(r"`[^`]*`", "", re.sub(r"\\.", "", outside_code))
    assert not re.search(r"\]\(javascript|^# heading|^- item", outside_code, flags=re.MULTILINE)
    table = [row for row in outside_code.splitlines() if row.startswith("|")]
    assert {row.count("|") for row in table} <= {3, 4, 5}
    # the code is code, and gives the values back
    for block in re.findall(r"^```python\n(.*?)^```$", body, flags=re.DOTALL | re.MULTILINE):
        namespace: dict = {}
        exec(re.search(r"^row = \{.*?^\}", block, flags=re.DOTALL | re.MULTILINE).group(), namespace)
        assert namespace["row"][line] == processor.vocabularies[0][0]
        ast.parse(block)
        assert [
            node.value for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Constant) and node.value == text
        ]
    metadata = yaml.safe_load(card.content.split("\n---\n", 1)[0].removeprefix("---\n"))
    assert metadata["license"] == text
    assert text in metadata["tags"]
