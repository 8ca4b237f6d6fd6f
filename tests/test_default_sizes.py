"""Sizes and training settings by the rows of a table: what is chosen, what wins over it, what a run records."""

import json

import pytest
from own_tables import write_clicks

from clickprompt_hf.presets import LARGE_ROWS, SMALL_ROWS, ctr_preset, table_preset
from clickprompt_hf.runs import finetune

SIZES = ("embedding_size", "dnn_hidden_sizes", "num_cross_layers", "dnn_dropout", "embedding_dropout")


def test_presets_grow_with_the_rows():
    small, medium = table_preset(8_000, 8, 6_000), table_preset(SMALL_ROWS, 8, 6_000)
    assert small.name == "small"
    assert medium.name == "medium"
    assert small.sizes["embedding_size"] <= medium.sizes["embedding_size"]
    assert max(small.sizes["dnn_hidden_sizes"]) <= max(medium.sizes["dnn_hidden_sizes"])
    assert "8,000 training rows" in small.reason
    assert "6,000 values" in small.reason
    assert table_preset(LARGE_ROWS - 1, 8, 6_000).name == "medium"
    assert table_preset(LARGE_ROWS, 8, 6_000) is None


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Files of 3,000 rows, and the options of a run on them."""
    folder = tmp_path_factory.mktemp("table")
    options = write_clicks(folder, num_rows=3_000, num_users=200, num_items=40, rate=0.2, gain=0.5)
    return [*options, "--disable_tqdm", "true", "--report_to", "none", "--report_plots", "false"]


def run(options, folder, caplog):
    """Config, training log and warnings about defaults of a run."""
    caplog.clear()
    finetune.main([*options, "--output_dir", str(folder)])
    log = json.loads((folder / "trainer_state.json").read_text()) if (folder / "trainer_state.json").exists() else {}
    shown = [record.message for record in caplog.records if record.message.startswith("Defaults for")]
    return json.loads((folder / "config.json").read_text())["ctr_config"], log, shown


def test_a_run_takes_and_prints_the_preset(table, tmp_path, caplog):
    preset = table_preset(2_400, 2, 240)
    config, _, (shown,) = run([*table, "--ctr_only", "--num_train_epochs", "1"], tmp_path / "out", caplog)
    assert {name: config[name] for name in preset.sizes} == preset.sizes
    for words in ("2,400 training rows", "2 fields", "240 values", f"--embedding_size {config['embedding_size']}"):
        assert words in shown
    # given, so not chosen
    assert "--num_train_epochs" not in shown
    # 2,400 rows in batches of 64 are 37 whole steps: several evaluations per epoch are too close, and so left out
    checkpoints = sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
    assert checkpoints == [f"checkpoint-{-(-2_400 // 64)}"]


def test_flags_win(table, tmp_path, caplog):
    given = [
        "--dnn_dropout",
        "0",
        "--learning_rate",
        "0.002",
        "--per_device_train_batch_size",
    ]
    given += ["32", "--num_train_epochs", "1", "--ctr_only"]
    config, _, (shown,) = run([*table, *given], tmp_path / "out", caplog)
    assert config["dnn_dropout"] == 0
    assert config["dnn_hidden_sizes"] == table_preset(2_400, 2, 240).sizes["dnn_hidden_sizes"]
    assert "--dnn_dropout" not in shown
    assert "--learning_rate" not in shown
    # 75 steps per epoch: an evaluation every 37, which the last epoch's end need not be
    assert "--eval_steps 37" in shown
    assert (tmp_path / "out" / "checkpoint-37").exists() or (tmp_path / "out" / "checkpoint-74").exists()


@pytest.mark.parametrize("given", [["--preset", "ml-1m"], ["--num_cross_layers", "6"]])
def test_a_named_preset_or_size_leaves_the_published_ones(given, table, tmp_path, caplog):
    config, _, shown = run([*table, "--ctr_only", *given, "--max_steps", "2"], tmp_path / "out", caplog)
    published = ctr_preset("dcnv2", "ml-1m")
    assert {name: config[name] for name in SIZES} == {name: getattr(published, name) for name in SIZES}
    assert not shown


@pytest.mark.parametrize("backbone", ["fm", "fignn", "lr"])
def test_a_backbone_takes_what_it_has(backbone, table, tmp_path, caplog):
    options = [*table, "--ctr_only", "--backbone", backbone, "--max_steps", "2", "--eval_strategy", "no"]
    config, _, shown = run(options, tmp_path / "out", caplog)
    small = table_preset(2_400, 2, 240).sizes
    expected = ctr_preset("lr").embedding_size if backbone == "lr" else small["embedding_size"]
    assert config["embedding_size"] == expected
    assert "--dnn_hidden_sizes" not in "".join(shown)
