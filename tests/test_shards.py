"""Shards of encoded rows, joined to what training maps: the rows, text and vocabularies of one machine."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_data import tiny_roberta_tokenizer, tiny_schema, tiny_splits

from clickprompt_hf import ClickPromptConfig, ClickPromptProcessor
from clickprompt_hf.cluster.shards import COUNTS_FOLDER, join_shards
from clickprompt_hf.cluster.spark_encoding import encoded_batch
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.runs import compare, finetune, pretrain


def fitted(with_text: bool) -> ClickPromptProcessor:
    tokenizer = tiny_roberta_tokenizer() if with_text else None
    return ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema(), tokenizer, max_text_length=30)


def write_shards(folder, table: pa.Table, processor: ClickPromptProcessor, rows_per_shard: int = 13):
    """What a cluster writes, in this process."""
    (folder / COUNTS_FOLDER).mkdir(parents=True)
    lines = []
    for number, start in enumerate(range(0, len(table), rows_per_shard)):
        part = table.slice(start, rows_per_shard)
        name = f"part-{number:05}-of-a-job.parquet"
        pq.write_table(pa.Table.from_batches([encoded_batch(part, processor)]), folder / name)
        lines.append(json.dumps({"file": name, "rows": len(part), "processor": processor.fingerprint}))
    (folder / COUNTS_FOLDER / "part-0.json").write_text("\n".join(lines))
    (folder / COUNTS_FOLDER / "_SUCCESS").touch()


@pytest.fixture(params=[False, True], ids=["ids", "text"])
def processor(request):
    return fitted(request.param)


@pytest.fixture
def shards(processor, tmp_path):
    for name, table in tiny_splits().items():
        write_shards(tmp_path / "shards" / name, table, processor)
    return {name: tmp_path / "shards" / name for name in ("train", "validation", "test")}


def test_joined_shards_are_the_rows_that_one_machine_prepares(shards, processor, tmp_path):
    sizes = join_shards(shards, processor, tmp_path / "joined")
    prepare_splits(tiny_splits(), processor, tmp_path / "prepared")
    joined, of_shards = load_prepared(tmp_path / "joined")
    expected, of_table = load_prepared(tmp_path / "prepared")
    assert sizes == {name: len(split) for name, split in expected.items()}
    assert of_shards.fingerprint == of_table.fingerprint
    assert of_shards.trained_values == of_table.trained_values
    everywhere = []
    for name, split in expected.items():
        assert (joined[name].clause_ids is not None) == processor.reads_text
        for array in ("feature_ids", "labels", "row_ids", "clause_ids", "text_ids"):
            if (wanted := getattr(split, array)) is not None:
                np.testing.assert_array_equal(getattr(joined[name], array), wanted, err_msg=array)
        if processor.reads_text:
            rows = range(len(split))
            for key, wanted in split.__getitems__(rows)[0].items():
                np.testing.assert_array_equal(joined[name].__getitems__(rows)[0][key], wanted, err_msg=key)
        everywhere.append((split.value_ids, joined[name].value_ids))
    # other numbers for the same values
    wanted, found = (np.concatenate(of_splits) for of_splits in zip(*everywhere))
    for column in range(wanted.shape[1]):
        pairs = np.unique(np.stack([wanted[:, column], found[:, column]]), axis=1)
        assert pairs.shape[1] == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
    assert {path.name for path in (tmp_path / "joined").iterdir()} - {"prepared.json", "facts.json"} == {
        path.name for path in (tmp_path / "prepared").iterdir()
    }


def test_an_empty_shard_that_spark_did_not_count_changes_nothing(tmp_path):
    processor = fitted(with_text=False)
    for name, table in tiny_splits().items():
        write_shards(tmp_path / name, table, processor)
        shard = tmp_path / name / "part-00000-of-a-job.parquet"
        pq.write_table(pq.read_table(shard).slice(0, 0), tmp_path / name / "part-00000-of-an-empty-part.parquet")
    sizes = join_shards({name: tmp_path / name for name in tiny_splits()}, processor, tmp_path / "joined")
    assert sizes == {name: len(table) for name, table in tiny_splits().items()}


def damage_missing_shard(train):
    (train / "part-00002-of-a-job.parquet").unlink()


def damage_rows(train):
    path = train / "part-00001-of-a-job.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def damage_columns(train):
    path = train / "part-00001-of-a-job.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["label"]), path)


def damage_foreign_shard(train):
    (train / "part-00009-of-a-job.parquet").write_bytes((train / "part-00001-of-a-job.parquet").read_bytes())


def damage_unfinished_shard(train):
    (train / "part-00009-of-a-job.parquet").write_bytes(b"PAR1")


def damage_counts(train):
    (train / COUNTS_FOLDER / "part-0.json").unlink()


def damage_processor(train):
    path = train / COUNTS_FOLDER / "part-0.json"
    path.write_text(path.read_text().replace('"processor": "', '"processor": "0'))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            damage_missing_shard,
            FileNotFoundError,
            "must have the shard part-00002.*, but it is missing",
        ),
        (damage_rows, ValueError, "part-00001.* must have the 13 rows that were written, got 12"),
        (damage_columns, ValueError, r"part-00001.* must have the columns .*, got \['feature_ids', 'value_keys'"),
        (damage_foreign_shard, ValueError, "were written together, but part-00009-of-a-job.parquet was not"),
        (damage_unfinished_shard, ValueError, "were written together, but part-00009-of-a-job.parquet was not"),
        (damage_counts, FileNotFoundError, f"has no counts in {COUNTS_FOLDER}: it is missing or incomplete"),
        (damage_processor, ValueError, "must come from the processor with fingerprint .*, but come from 0"),
    ],
)
def test_shards_that_are_not_as_written_are_refused(damage, error, message, tmp_path):
    processor = fitted(with_text=False)
    for name, table in tiny_splits().items():
        write_shards(tmp_path / name, table, processor)
    damage(tmp_path / "train")
    with pytest.raises(error, match=message):
        join_shards({name: tmp_path / name for name in tiny_splits()}, processor, tmp_path / "joined")
    assert not list(tmp_path.glob("*joined*"))


def test_every_split_must_be_there(shards, processor, tmp_path):
    del shards["test"]
    with pytest.raises(ValueError, match=r"a folder for each of .*, got \['train', 'validation'\]"):
        join_shards(shards, processor, tmp_path / "joined")


QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--num_train_epochs", "1", "--report_plots", "false"]
QUICK += ["--per_device_train_batch_size", "20", "--embedding_size", "4", "--dnn_hidden_sizes", "8"]


@pytest.mark.filterwarnings("ignore")
def test_training_maps_joined_shards(tmp_path):
    processor = fitted(with_text=True)
    for name, table in tiny_splits().items():
        write_shards(tmp_path / name, table, processor)
    join_shards({name: tmp_path / name for name in tiny_splits()}, processor, tmp_path / "joined")
    arguments = [*QUICK, "--prepared", str(tmp_path / "joined")]

    def record_of(name):
        return ClickPromptConfig.from_pretrained(tmp_path / name).training_data

    metrics = finetune.main([*arguments, "--ctr_only", "--output_dir", str(tmp_path / "alone")])
    assert 0 <= metrics["test_auc"] <= 1
    assert record_of("alone")["dataset"] == "shards"
    assert record_of("alone")["num_rows"] == {"train": 60, "validation": 20, "test": 20}
    assert ClickPromptProcessor.from_pretrained(tmp_path / "alone").fingerprint == processor.fingerprint
    plm = ["--plm_name_or_path", "scratch-tiny", "--prompt_length", "1"]
    pretrain.main([*arguments, *plm, "--output_dir", str(tmp_path / "pamlm")])
    start = ["--model_name_or_path", str(tmp_path / "pamlm"), "--without_plm"]
    finetune.main([*arguments, *start, "--output_dir", str(tmp_path / "ctr")])
    assert record_of("ctr") == record_of("pamlm")
    for more, message in (
        ([*QUICK, *start], "`--prepared` must name the folder of joined shards that the checkpoint was trained on"),
        (
            [*arguments, "--ctr_only", "--split", "time"],
            "`--split` must be left out: the rows in .* are already split",
        ),
        ([*arguments, "--ctr_only", "--dataset", "csv"], "`--dataset` must be left out"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune.main([*more, "--output_dir", str(tmp_path / "other")])
    with pytest.raises(ValueError, match="`--prepared` must be left out, got .*/joined: .* need the raw rows"):
        compare.main(["--prepared", str(tmp_path / "joined"), "--output_dir", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


@pytest.mark.filterwarnings("ignore")
def test_rows_without_text_or_with_that_of_another_tokenizer_are_refused(shards, processor, tmp_path):
    join_shards(shards, processor, tmp_path / "joined")
    arguments = [*QUICK, "--prepared", str(tmp_path / "joined"), "--output_dir", str(tmp_path / "out")]
    message = "have no text. Encode them"
    prompts = "1"
    if processor.reads_text:
        message, prompts = "were encoded with max_text_length=30. Encode them with max_text_length=12", "500"
    with pytest.raises(ValueError, match=message):
        pretrain.main([*arguments, "--plm_name_or_path", "scratch-tiny", "--prompt_length", prompts])
