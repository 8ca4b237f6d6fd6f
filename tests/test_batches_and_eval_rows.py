"""The default batch size, and the validation rows that training evaluates on."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.data.columnar import ColumnarDataset
from clickprompt_hf.runs import finetune
from clickprompt_hf.runs.arguments import DataArguments
from clickprompt_hf.runs.preparation import PreparedData
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments, trainer
from clickprompt_hf.training.arguments import ClickPromptSettings
from clickprompt_hf.training.batch_size import default_batch_size


@pytest.mark.parametrize(
    ("num_rows", "size"),
    [(1, 64), (16_383, 64), (16_384, 128), (65_535, 256), (131_071, 512), (131_072, 1024), (10**8, 1024)],
)
def test_batches_grow_with_the_rows_without_a_plm(num_rows, size):
    assert default_batch_size(num_rows, has_plm=False) == size
    assert default_batch_size(num_rows, has_plm=True) == 64


def rows_of(labels) -> ColumnarDataset:
    labels = np.asarray(labels, dtype=np.int8)
    return ColumnarDataset(np.zeros((len(labels), 3), dtype=np.int32), labels, np.arange(len(labels)))


def arguments(folder, **options) -> ClickPromptTrainingArguments:
    return ClickPromptTrainingArguments(str(folder), report_to=[], use_cpu=True, **options)


def test_the_trainer_sets_the_default_for_its_rows_and_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(trainer.logger, "warning", said.append)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr"))
    rows = rows_of(np.arange(20_000) % 2)
    args = arguments(tmp_path)
    assert args.per_device_train_batch_size == 64
    made = ClickPromptTrainer(model, args, train_dataset=rows, eval_dataset=rows)
    assert made.args.per_device_train_batch_size == 128
    assert made.args.train_batch_size == 128
    # the caller's arguments stay as they were
    assert args.per_device_train_batch_size == 64
    (text,) = said
    assert "Training batches have 128 rows per device, the default for 20,000 rows without a PLM" in text
    for size in (8, 64, 512):
        args = arguments(tmp_path, per_device_train_batch_size=size)
        made = ClickPromptTrainer(model, args, train_dataset=rows, eval_dataset=rows)
        assert made.args.per_device_train_batch_size == size
    # set in code after they were built
    args = arguments(tmp_path)
    args.per_device_train_batch_size = 32
    made = ClickPromptTrainer(model, args, train_dataset=rows, eval_dataset=rows)
    assert made.args.per_device_train_batch_size == 32
    assert len(said) == 1


@pytest.mark.parametrize(
    "copied",
    [
        lambda args: dataclasses.replace(args, seed=1),
        lambda args: ClickPromptTrainingArguments(**{**args.to_dict(), "seed": 1}),
        copy.deepcopy,
    ],
)
def test_an_unset_batch_size_stays_unset_in_copies(copied, tmp_path):
    unset, given = arguments(tmp_path), arguments(tmp_path, per_device_train_batch_size=64)
    assert unset.has_default_batch_size
    assert not given.has_default_batch_size
    assert copied(unset).has_default_batch_size
    assert not copied(given).has_default_batch_size
    assert not dataclasses.replace(unset, per_device_train_batch_size=64).has_default_batch_size
    assert json.loads(unset.to_json_string())["per_device_train_batch_size"] == 64


def test_copies_may_shard_tables(tmp_path):
    args = dataclasses.replace(arguments(tmp_path), shard_id_tables=True)
    assert ClickPromptSettings.of(args).sparse_embedding_updates
    assert not ClickPromptSettings.of(arguments(tmp_path)).sparse_embedding_updates


def data_with(validation: ColumnarDataset, most: int | None, seed: int = 42) -> PreparedData:
    record = {"max_eval_rows": most, "split_seed": seed}
    return PreparedData({"validation": validation}, None, record)  # type: ignore[arg-type]


def test_validation_rows_are_drawn_once_with_the_click_rate_of_all():
    validation = rows_of(np.arange(200) % 10 == 0)
    drawn = data_with(validation, 40).evaluated(validation)
    assert len(drawn) == 40
    assert drawn.labels.sum() == 4
    assert (np.diff(drawn.row_ids) > 0).all()
    # of all rows, and not the first ones
    assert drawn.row_ids.max() > 150
    again, other = (data_with(validation, 40, seed).evaluated(validation) for seed in (42, 43))
    assert drawn.row_ids.tolist() == again.row_ids.tolist()
    assert drawn.row_ids.tolist() != other.row_ids.tolist()
    for most in (None, 200, 500):
        assert data_with(validation, most).evaluated(validation) is validation


@pytest.mark.parametrize("most", [2, 5, 198, 199])
def test_both_classes_are_among_the_drawn_rows(most):
    for clicks in (np.arange(200) == 7, np.arange(200) != 7):
        validation = rows_of(clicks)
        labels = data_with(validation, most).evaluated(validation).labels
        assert len(labels) == most
        assert 0 < labels.sum() < most
    assert len(data_with(rows_of(np.ones(200)), most).evaluated(rows_of(np.ones(200)))) == most


@pytest.mark.parametrize("given", [0, -3, 1, 2.5])
def test_other_numbers_of_validation_rows_are_refused(given):
    with pytest.raises(ValueError, match=r"`max_eval_rows` must be (at least 2|an integer), got "):
        DataArguments(max_eval_rows=given)


def test_finetuning_evaluates_on_the_drawn_rows_and_tests_on_all(tmp_path, monkeypatch):
    table = tmp_path / "rows.csv"
    table.write_text("user,click\n" + "".join(f"u{n % 7},{n % 3 // 2}\n" for n in range(400)))
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"fields": ["user"], "label": "click"}))
    sizes = []

    class Spy(ClickPromptTrainer):
        def __init__(self, *args, eval_dataset, **kwargs):
            sizes.append(len(eval_dataset))
            super().__init__(*args, eval_dataset=eval_dataset, **kwargs)

        def predict(self, test_dataset, *args, **kwargs):
            if kwargs.get("metric_key_prefix") == "test":
                sizes.append(len(test_dataset))
            return super().predict(test_dataset, *args, **kwargs)

    monkeypatch.setattr(finetune, "ClickPromptTrainer", Spy)
    run = ["--dataset", "csv", "--data_path", str(table), "--schema", str(schema), "--ctr_only", "--backbone", "lr"]
    run += ["--num_train_epochs", "1", "--report_plots", "false", "--output_dir", str(tmp_path / "out")]
    finetune.main([*run, "--max_eval_rows", "10"])
    assert sizes == [10, 40]
    record = ClickPromptConfig.from_pretrained(tmp_path / "out").training_data
    assert record["max_eval_rows"] == 10
    assert record["num_rows"]["validation"] == 40
    assert "limited to 10" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")

    resumed = [*run, "--num_train_epochs", "2", "--resume_from_checkpoint", "true", "--overwrite_output_dir", "true"]
    with pytest.raises(ValueError, match="`--max_eval_rows` must be 10, as in the run being resumed, .* got 12"):
        finetune.main([*resumed, "--max_eval_rows", "12"])
    finetune.main(resumed)
    assert sizes == [10, 40, 10, 40]
