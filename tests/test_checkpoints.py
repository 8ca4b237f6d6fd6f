"""Which checkpoints are whole: of any layout, judged by their contents, file by file."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from tiny_data import tiny_rows, tiny_schema

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.runs.output_folder import check_output_dir
from clickprompt_hf.training import ClickPromptTrainingArguments
from clickprompt_hf.training.checkpoints import fault_of, newest_whole_checkpoint

STATE = {"trainer_state.json": "json", "rng_state.pth": "torch", "scheduler.pt": "torch"}
SHARDS = {"0": "model-00001-of-00002.safetensors", "1": "model-00002-of-00002.safetensors"}
# name of each layout's files, and how each is written
LAYOUTS = {
    "one process": {
        "model.safetensors": "safetensors",
        "optimizer.pt": "torch",
        **STATE,
        "training_args.bin": "torch",
    },
    "with pickled weights": {"pytorch_model.bin": "torch", "optimizer.pt": "torch", **STATE},
    "with sharded weights": {
        **{"model.safetensors.index.json": {"weight_map": SHARDS}, **dict.fromkeys(SHARDS.values(), "safetensors")},
        **{"optimizer.pt": "torch", **STATE},
    },
    "with an adapter": {"adapter_model.safetensors": "safetensors", "optimizer.pt": "torch", **STATE},
    "two processes": {
        **{"model.safetensors": "safetensors", "optimizer.pt": "torch", **STATE, "rng_state_0.pth": "torch"},
        **{"rng_state_1.pth": "torch", "run_progress.json": {"num_processes": 2}},
    },
    "FSDP": {
        **{"model.safetensors": "safetensors", "pytorch_model_fsdp.bin": "torch", "optimizer.bin": "torch", **STATE},
    },
    "FSDP with sharded states": {
        **{"pytorch_model_fsdp_0/.metadata": "pickle", "pytorch_model_fsdp_0/__0_0.distcp": "torch"},
        **{"optimizer_0/.metadata": "pickle", "optimizer_0/__0_0.distcp": "torch", **STATE},
    },
    "FSDP with a file per process": {
        **{"pytorch_model_fsdp_rank0.bin": "torch", "optimizer_0_rank0.bin": "torch", **STATE},
    },
    "DeepSpeed": {
        **{"latest": "global_step3", "global_step3/mp_rank_00_model_states.pt": "torch", "zero_to_fp32.py": "text"},
        **{"global_step3/zero_pp_rank_0_mp_rank_00_optim_states.pt": "torch"},
        **{"trainer_state.json": "json", "rng_state.pth": "torch"},
    },
}
OPTIONAL = {"training_args.bin", "zero_to_fp32.py", "run_progress.json", "model.safetensors"}


def write(folder, files):
    for name, kind in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "safetensors":
            save_file({"a": torch.ones(100), "b": torch.ones(3)}, path)
        elif kind == "torch":
            torch.save({"a": torch.ones(100)}, path)
        elif kind == "pickle":
            path.write_bytes(b"\x80\x04.")
        elif kind == "json":
            path.write_text(json.dumps({"global_step": 3}))
        elif isinstance(kind, dict):
            path.write_text(json.dumps(kind))
        else:
            path.write_text(kind)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_checkpoints_of_each_layout(layout, tmp_path):
    files = LAYOUTS[layout]
    assert fault_of(write(tmp_path / "checkpoint-3", files)) is None
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    for missing in files.keys() - OPTIONAL if layout != "one process" else files.keys() - {"training_args.bin"}:
        if layout == "two processes" and missing == "rng_state.pth":
            continue
        folder = write(tmp_path / "checkpoint-4", files)
        (folder / missing).unlink()
        assert fault_of(folder).startswith("lacks "), missing
        shutil.rmtree(folder)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_file_that_is_cut_off_anywhere_is_found(layout, kept, tmp_path, caplog):
    write(tmp_path / "checkpoint-2", LAYOUTS[layout])
    for name, kind in LAYOUTS[layout].items():
        if kind in ("text", "pickle", "global_step3"):
            continue
        folder = write(tmp_path / "checkpoint-10", LAYOUTS[layout])
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * kept)])
        assert name in fault_of(folder), name
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_only_checkpoints_are_looked_at(tmp_path):
    assert newest_whole_checkpoint(tmp_path / "nowhere") is None
    for name in ("checkpoint-x", "checkpoint-5-old", ".partial/checkpoint-9", "my-checkpoint-7"):
        write(tmp_path / name, LAYOUTS["one process"])
    (tmp_path / "checkpoint-11").write_text("a file")
    assert newest_whole_checkpoint(tmp_path) is None
    for number in (2, 10, 9):
        write(tmp_path / f"checkpoint-{number}", LAYOUTS["one process"])
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_vocabularies_that_are_cut_off_or_of_another_processor_are_found(tmp_path):
    folder = write(tmp_path / "checkpoint-3", LAYOUTS["one process"])
    ClickPromptProcessor.fit(tiny_rows(40), tiny_schema()).save_pretrained(folder)
    assert fault_of(folder) is None
    vocabularies = folder / "feature_vocabularies.txt"
    content = vocabularies.read_bytes()
    vocabularies.write_bytes(content[:-1])
    assert "damaged feature_vocabularies.txt" in fault_of(folder)
    vocabularies.unlink()
    assert fault_of(folder) == "lacks feature_vocabularies.txt"


def test_an_unfinished_run_is_neither_lost_nor_continued_without_being_asked(tmp_path):
    write(tmp_path / "checkpoint-3", LAYOUTS["one process"])
    options = {"output_dir": str(tmp_path), "report_to": "none", "use_cpu": True}
    with pytest.raises(
        FileExistsError, match="holds checkpoint-3 of an unfinished run. Pass --resume_from_checkpoint"
    ):
        check_output_dir(ClickPromptTrainingArguments(**options))
    check_output_dir(ClickPromptTrainingArguments(**options, overwrite_output_dir=True))
    resuming = ClickPromptTrainingArguments(**options)
    resuming.resume_from_checkpoint = True
    check_output_dir(resuming)
    assert resuming.resume_from_checkpoint == str(tmp_path / "checkpoint-3")
