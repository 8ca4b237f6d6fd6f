"""From a table that no code of ours knows to its scores: the guide as it stands, and tables of three domains."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from own_tables import clinic, loans, shop

from clickprompt_hf import ClickPromptConfig, ClickPromptProcessor
from clickprompt_hf.runs import finetune as run_ctr
from clickprompt_hf.runs import predict
from clickprompt_hf.runs.draft_schema import draft_schema, main

GUIDE = (Path(__file__).parent.parent / "docs" / "own-table.md").read_text(encoding="utf-8")
QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--num_train_epochs", "1"]
TINY = ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "8", "--num_cross_layers", "2"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)


def arguments_of(command: str) -> list[str]:
    """Arguments of a `clickprompt SUBCOMMAND` line of the guide."""
    return shlex.split(command.replace("\\\n", " "))[2:]


def test_guide(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (table,) = blocks("python")
    exec(table, {})
    draft_command, ctr_only, with_plm, predict_command = blocks("bash")
    draft, schema = blocks("yaml")
    new_rows, scores = blocks("csv")

    assert draft_command == "clickprompt draft-schema loans.csv > schema.yaml\n"
    main(["loans.csv"])
    assert capsys.readouterr().out == draft

    Path("schema.yaml").write_text(schema)
    alone = run_ctr.main([*arguments_of(ctr_only), *TINY, *QUICK])
    # an eighth of the rows, for time
    quick = [*QUICK, "--max_train_rows", "400"]
    results = run_ctr.main([*arguments_of(with_plm), *TINY, *quick])
    assert results["test_baseline_auc"] == pytest.approx(alone["test_auc"])
    (shown,) = blocks("text")
    assert {line.split()[0] for line in shown.splitlines()} <= set(results)

    Path("new.csv").write_text(new_rows)
    predict.main(arguments_of(predict_command))
    scored, expected = pd.read_csv("scores.csv", dtype={"zip": str}), pd.read_csv("new.csv", dtype={"zip": str})
    assert scored["click_probability"].between(0, 1).all()
    pd.testing.assert_frame_equal(scored.drop(columns="click_probability"), expected)
    assert scores.splitlines()[0] == Path("scores.csv").read_text().splitlines()[0]

    # as the guide says, without the PLM the purpose is not read
    expected.drop(columns="purpose").to_csv("new.csv", index=False)
    predict.main(["--model", "runs/loans", "--input", "new.csv", "--output", "scores.csv"])
    assert pd.read_csv("scores.csv")["click_probability"].between(0, 1).all()


@pytest.mark.parametrize("table", [loans, clinic, shop])
def test_drafts_train_unchanged(table, tmp_path):
    ending = "parquet" if table is shop else "csv"
    path, schema, out = tmp_path / f"table.{ending}", tmp_path / "schema.yaml", tmp_path / "out"
    rows = table()
    rows.to_parquet(path, index=False) if ending == "parquet" else rows.to_csv(path, index=False)
    schema.write_text(draft_schema(path), encoding="utf-8")
    data = ["--dataset", ending, "--data_path", str(path), "--schema", str(schema), "--split", "time"]
    run_ctr.main([*data, "--ctr_only", *TINY, *QUICK, "--output_dir", str(out)])
    processor = ClickPromptProcessor.from_pretrained(out)
    config = ClickPromptConfig.from_pretrained(out)
    assert config.ctr_config.num_fields == sum(member.kind != "text" for member in processor.schema.fields)

    # without the label, and in a file of the other kind
    label = processor.schema.label
    other = tmp_path / ("rows.csv" if ending == "parquet" else "rows.parquet")
    rows = rows.drop(columns=label)
    if ending == "parquet":
        rows.assign(tags=rows["tags"].map("|".join)).to_csv(other, index=False)
    else:
        rows.to_parquet(other, index=False)
    probabilities = []
    for file in (path, other):
        scores = tmp_path / f"scores{file.suffix}"
        predict.main(["--model", str(out), "--input", str(file), "--output", str(scores)])
        scored = pd.read_csv(scores) if file.suffix == ".csv" else pd.read_parquet(scores)
        probabilities.append(scored["click_probability"].tolist())
    assert probabilities[0] == pytest.approx(probabilities[1], abs=1e-6)


def test_a_draft_trains_with_a_language_model(tmp_path):
    path, schema, out = (tmp_path / name for name in ("table.csv", "schema.yaml", "out"))
    loans().to_csv(path, index=False)
    schema.write_text(draft_schema(path), encoding="utf-8")
    data = ["--dataset", "csv", "--data_path", str(path), "--schema", str(schema), "--max_train_rows", "64"]
    plm = ["--plm_name_or_path", "scratch-tiny", "--prompt_length", "1"]
    run_ctr.main([*data, *plm, *TINY, *QUICK, "--output_dir", str(out)])
    predict.main(["--model", str(out), "--input", str(path), "--output", str(tmp_path / "scores.csv")])
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["click_probability"].between(0, 1).all()
    # rows that differ in the free text alone differ
    rows = loans().iloc[[0, 0]].assign(purpose=["buy a car", "repair a house"])
    rows.to_csv(path, index=False)
    predict.main(["--model", str(out), "--input", str(path), "--output", str(tmp_path / "scores.csv")])
    first, second = pd.read_csv(tmp_path / "scores.csv")["click_probability"]
    assert first != second
