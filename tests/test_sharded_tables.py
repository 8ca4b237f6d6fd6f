"""Id tables that are sharded across processes train, save and resume as whole ones do, and the rest is refused."""

import json
import struct

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from test_processes import report_of
from tiny_models import tiny_config, tiny_ctr_config
from torch import nn

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.modeling_ctr import BACKBONES, DCNv2, register_backbone
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments, table_rows
from clickprompt_hf.training.processes import failing_together, rank_and_world_size
from clickprompt_hf.training.sharded_tables import num_parameters, shard_id_tables


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    found = report_of("table_processes.py", tmp_path_factory.mktemp("tables"))
    assert "errors" not in found, found
    return found


@pytest.mark.parametrize("case", ["alone", "deepfm", "pamlm"])
def test_fifty_steps_of_two_processes_equal_those_of_one(case, report):
    """With accumulation, clipping and L2; a linear term and a multi-valued field; prompts and a tied LM head."""
    outcome = report["cases"][case]
    assert outcome["steps"] == 50
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-5
    assert outcome["same names"]


def test_the_saved_model_scores_the_same_in_one_process(report):
    together, loaded = report["scores"]
    assert len(set(together)) > 10
    assert loaded == pytest.approx(together, abs=1e-6)


@pytest.mark.parametrize("way", ["2 to 2", "2 to 1", "1 to 2"])
def test_killed_runs_are_resumed_by_any_number_of_processes(way, report):
    outcome = report["resumed"][way]
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-5
    # the best weights are loaded at the end
    assert outcome["best"][0] == outcome["best"][1]


def test_checkpoints_have_the_moments_in_a_file_of_their_own(report):
    assert {"model.safetensors", "optimizer.pt", "id_table_moments.safetensors"} <= set(report["resumed"]["files"])


def test_rows_do_not_depend_on_the_number_of_processes(report):
    one, two = report["built"]
    assert one == two
    (rows,) = one["fresh"].values()
    values = torch.tensor(rows)
    assert sum(not row.any() for row in values) == 4
    assert 0.3 < values.std() < 0.7
    assert len(values.unique()) > 90


def test_checkpoints_are_loaded_sharded_and_with_more_ids(report):
    for kind in ("loaded", "grown"):
        assert report["built"][1][kind] == report["whole"][kind]


def test_processes_fail_together(report):
    first, second = report["failures"]
    for outcome in (first, second):
        assert "RuntimeError: Id tables are sharded across 2 processes, so all of them must call" in outcome["alone"]
        assert "failing/model.safetensors cannot be written: No space left on device" in outcome["full disk"]
        assert "has no room for the id tables: 0.0 MB needed, 0.0 MB free" in outcome["small disk"]
        assert outcome["unchanged"]
        assert "OSError: [Errno 28] No space left on device" in outcome["not read"]
        assert "ValueError: Training diverged: after 3 steps" in outcome["spoiled"]
        assert outcome["frozen"]
        assert "ValueError: The table must have all 28 rows to get more ids, got 14" in outcome["grown"]
        # a shard must not be saved as the whole
        assert "ValueError: `state_dict` must be given to save a model whose id tables are sharded" in outcome["saved"]
        assert not any("table" in name for name in outcome["state"])
        assert outcome["rows"] == [14, 28]


def test_saving_in_one_process_alone_ends(report):
    """Whether the other process goes on with something else or has ended: it must not wait forever."""
    waiting, ended = report["saved alone"]["errors"]
    told = (
        "RuntimeError: `save_model` must be called in all 2 processes, because each holds a part of the id tables, "
        "but "
    )
    assert waiting.startswith(f"{told}process 0 waited in vain for the others, for 1 seconds")
    assert ended.startswith(f"{told}process 0 waited in vain for the others, for 300 seconds")
    assert report["saved alone"]["files"] == []


def test_a_file_is_laid_out_beside_other_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "_BYTES_PER_PIECE", 24)
    others = {"step": torch.tensor([7]), "half": torch.ones(3, dtype=torch.float16), "none": torch.zeros(0, 2)}
    save_file(others, tmp_path / "small", metadata={"format": "pt", "by": "test"})
    table, narrow = torch.randn(7, 2), torch.randn(7, 1, dtype=torch.float64).bfloat16()
    path = tmp_path / "whole.safetensors"
    table_rows.lay_out(path, {"table": (7, table[:3]), "narrow": (7, narrow[:0])}, tmp_path / "small")
    for first, last in ((4, 7), (0, 4)):
        table_rows.write_rows(path, "table", table[first:last], first)
        table_rows.write_rows(path, "narrow", narrow[first:last], first)
    loaded = load_file(path)
    assert loaded.keys() == {"table", "narrow", *others}
    assert all(loaded[name].equal(tensor) for name, tensor in {**others, "table": table, "narrow": narrow}.items())
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    assert size % 8 == 0
    header = json.loads(content[8 : 8 + size])
    assert header["__metadata__"] == {"format": "pt", "by": "test"}
    # the widest first, so that each is aligned
    assert [header[name]["data_offsets"][0] for name in ("step", "table")] == [0, 8]

    rows = torch.zeros(4, 2)
    assert table_rows.read_rows(path, "table", rows, 2)
    assert rows.equal(table[2:6])
    table[3, 1] = float("nan")
    table_rows.write_rows(path, "table", table[3:4], 3)
    assert not table_rows.read_rows(path, "table", rows, 2)
    assert table_rows.read_rows(path, "table", rows[:3], 4)


def test_fields_grow_between_rows(tmp_path):
    old, new = [2, 3], [4, 3]
    table = torch.arange(10.0).reshape(5, 2)
    save_file({"table": table}, tmp_path / "table")
    expected = table[[0, 1, 0, 0, 2, 3, 4]]
    for first in range(7):
        for last in range(first, 8):
            rows = torch.full((last - first, 2), -1.0)
            assert table_rows.read_grown_rows(tmp_path / "table", "table", rows, first, old, new)
            assert rows.equal(expected[first:last])


def ctr_model(**options):
    torch.manual_seed(0)
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(**options), fusion="ctr"))


def no_ids():
    """Two rows of out-of-vocabulary ids."""
    return torch.zeros(
        2, sum(tiny_ctr_config().max_values or [1] * len(tiny_ctr_config().field_sizes)), dtype=torch.int64
    )


def arguments(tmp_path, **options):
    settings = {"report_to": "none", "eval_strategy": "no", "use_cpu": True, "shard_id_tables": True, **options}
    return ClickPromptTrainingArguments(str(tmp_path), **settings)


def test_one_process_keeps_the_whole_table_and_warns(tmp_path):
    model = ctr_model()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = no_ids()
    before, count = model(ids).logits, model.num_parameters()
    with pytest.warns(UserWarning, match="`shard_id_tables` has no effect in a single process"):
        trainer = ClickPromptTrainer(model, arguments(tmp_path))
    assert trainer.settings.sparse_embedding_updates
    assert all(tensor.equal(weights[name]) for name, tensor in model.state_dict().items())
    assert model(ids).logits.equal(before)
    assert num_parameters(model) == count
    with pytest.raises(ValueError, match="`shard_id_tables` must be True for a model whose id tables are sharded"):
        ClickPromptTrainer(model, arguments(tmp_path, shard_id_tables=False))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fp16": True}, "`fp16`: processes would skip different steps"),
        ({"save_on_each_node": True}, "`save_on_each_node`: all processes write into one file"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(options, reason, tmp_path):
    with pytest.raises(ValueError, match=rf"`shard_id_tables` must be False with {reason}"):
        ClickPromptTrainer(ctr_model(), arguments(tmp_path, **options))


@pytest.mark.parametrize(("engine", "name"), [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed")])
def test_other_kinds_of_sharding_are_refused(engine, name, tmp_path, monkeypatch):
    args = arguments(tmp_path)
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(ValueError, match=rf"`shard_id_tables` must be False with {name}, which shards all weights"):
        ClickPromptTrainer(ctr_model(), args)


def test_updates_that_are_not_sparse_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`sparse_embedding_updates` must be True with `shard_id_tables`.*got False"):
        arguments(tmp_path, sparse_embedding_updates=False)
    assert not arguments(tmp_path, shard_id_tables=False).sparse_embedding_updates
    model = ctr_model()
    given = (torch.optim.SGD(model.parameters(), lr=0.1), None)
    with pytest.raises(ValueError, match="`shard_id_tables` must be False with `optimizers`"):
        ClickPromptTrainer(model, arguments(tmp_path), optimizers=given)
    with pytest.raises(ValueError, match="`shard_id_tables` must be False with `model_init`"):
        ClickPromptTrainer(None, arguments(tmp_path), model_init=ctr_model)


def test_adapters_are_refused(tmp_path):
    model = get_peft_model(ClickPromptForCTR(tiny_config()), LoraConfig(r=2, target_modules=["query"]))
    with pytest.raises(ValueError, match="`shard_id_tables` must be False with PEFT adapters"):
        ClickPromptTrainer(model, arguments(tmp_path))


def test_other_tables_are_refused(tmp_path, monkeypatch):
    class WithTable(DCNv2):
        def __init__(self, config):
            super().__init__(config)
            self.positions = nn.Embedding(3, 4)

    monkeypatch.setattr("clickprompt_hf.modeling_ctr.BACKBONES", dict(BACKBONES))
    register_backbone("with_table")(WithTable)
    reason = r"tables other than `FeatureEmbedding`, got True with clickprompt\.ctr\.positions"
    with pytest.raises(ValueError, match=reason):
        ClickPromptTrainer(ctr_model(backbone="with_table"), arguments(tmp_path))
    text = ClickPromptForCTR(tiny_config(fusion="text", prompt_strategy="none"))
    with pytest.raises(ValueError, match="`shard_id_tables` must be False for a model without feature ids"):
        ClickPromptTrainer(text, arguments(tmp_path))


def test_field_sizes_are_for_models_with_one_id_per_field():
    with pytest.raises(ValueError, match="must be built with one id per field for 2 `field_sizes`, got"):
        shard_id_tables(ctr_model(), [10, 20])


def test_tables_are_sharded_after_the_processes_have_met(monkeypatch):
    assert rank_and_world_size() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="after the process group of 2 processes is initialized: create the"):
        rank_and_world_size()


@pytest.mark.filterwarnings("ignore:`shard_id_tables` has no effect")
def test_checkpoints_with_and_without_sharding_do_not_resume_each_other(tmp_path):
    rows = [{"feature_ids": no_ids()[0], "labels": 1.0}] * 4
    steps = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "sparse_embedding_updates": True}
    for folder, divided in (("divided", True), ("whole", False)):
        args = arguments(tmp_path / folder, shard_id_tables=divided, **steps)
        ClickPromptTrainer(ctr_model(), args, train_dataset=rows).train()
    for folder, divided in (("divided", False), ("whole", True)):
        args = arguments(tmp_path / folder, shard_id_tables=divided, **{**steps, "max_steps": 2})
        trainer = ClickPromptTrainer(ctr_model(), args, train_dataset=rows)
        with pytest.raises(
            ValueError, match=f"`shard_id_tables` must be {not divided}, as it was when .*, got {divided}"
        ):
            trainer.train(resume_from_checkpoint=True)


def test_errors_are_raised_as_they_are():
    with pytest.raises(KeyError), failing_together():
        raise KeyError
