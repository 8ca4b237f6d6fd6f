"""Files and folders appear whole or not at all: kills at every moment, full disks, folders with an older model."""

import errno
import functools
import itertools
import json
import os
import re
import resource
import signal
import sys
from pathlib import Path

import pytest
import torch
from forks import exit_code, start_fork
from tiny_data import tiny_rows, tiny_schema
from tiny_models import tiny_config, tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, whole_files
from clickprompt_hf.pipeline_clickprompt import ClickPromptPipeline
from clickprompt_hf.whole_files import PARTIAL_FOLDER, whole_contents, whole_file, whole_folder


def killed_in_fork(work, prepare):
    """Run `work` in a fork after `prepare`; whether it was killed."""

    def prepared_work():
        prepare()
        work()

    return exit_code(start_fork(prepared_work)) < 0


def kill_at(moment, folder):
    """Make this process kill itself at an operation on files below `folder`."""
    done = 0

    def hook(event, arguments):
        nonlocal done
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(arguments[0]).startswith(
            folder
        ):
            done += 1
            if done == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def limit_files(size):
    """Make this process die in the first write beyond `size` bytes of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def full_disk():
    """Limit the size of files as a full disk would: with errors, not signals."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def alone(seed, **options):
    torch.manual_seed(seed)
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(**options), fusion="ctr"))


@pytest.fixture
def without_code(monkeypatch):
    """Checkpoints without Python files, each of which would be a few more operations to die at."""
    for shipped in (ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor):
        monkeypatch.setattr(shipped, "_auto_class", None)


def kill_everywhere(work, folder):
    """Kill `work` at each of its operations on files in turn, until it survives."""
    for moment in itertools.count(1):
        if not killed_in_fork(work, functools.partial(kill_at, moment, str(folder))):
            assert moment > 10
            return
        yield moment


def missing_file(load, *arguments):
    """The message if a file is missing, else `None`."""
    try:
        load(*arguments)
    except OSError as error:
        return str(error)
    return None


def test_a_killed_save_leaves_the_old_model_the_new_one_or_none(without_code, tmp_path):
    """The new weights fit the old configuration, so only their absence keeps them from being mixed."""
    models = [alone(0, dnn_dropout=0.1), alone(1, dnn_dropout=0.4)]
    wanted = [model.clickprompt.ctr.embedding.table.weight for model in models]
    models[0].save_pretrained(tmp_path)
    seen = set()
    for _ in kill_everywhere(lambda: models[1].save_pretrained(tmp_path), tmp_path):
        if message := missing_file(ClickPromptForCTR.from_pretrained, tmp_path):
            assert re.search("its config.json is missing\\. It is written last", message)
            assert missing_file(ClickPromptConfig.from_pretrained, tmp_path) == message
            seen.add(None)
        else:
            loaded = ClickPromptForCTR.from_pretrained(tmp_path)
            number = {0.1: 0, 0.4: 1}[loaded.config.ctr_config.dnn_dropout]
            assert torch.equal(loaded.clickprompt.ctr.embedding.table.weight, wanted[number])
            seen.add(number)
        models[0].save_pretrained(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert seen == {0, 1, None}


def test_a_killed_save_leaves_the_old_processor_and_model_the_new_ones_or_none(without_code, tmp_path):
    """Both processors have as many ids, so nothing else tells that model and processor do not belong together."""
    pipelines = []
    for seed in (0, 1):
        columns = tiny_rows(40, seed)
        columns["user"] = [user + 10 * seed for user in range(1, 9)] * 5
        processor = ClickPromptProcessor.fit(columns, tiny_schema())
        model = alone(seed, field_sizes=[9, 6, 5, 8], max_values=processor.max_values)
        pipelines.append(ClickPromptPipeline(model=model, processor=processor))
    pipelines[0].save_pretrained(tmp_path)
    seen = set()
    for _ in kill_everywhere(lambda: pipelines[1].save_pretrained(tmp_path), tmp_path):
        if missing_file(ClickPromptForCTR.from_pretrained, tmp_path):
            seen.add(None)
        else:
            weights = ClickPromptForCTR.from_pretrained(tmp_path).clickprompt.ctr.embedding.table.weight
            number = int(torch.equal(weights, pipelines[1].model.clickprompt.ctr.embedding.table.weight))
            loaded = ClickPromptProcessor.from_pretrained(tmp_path)
            assert loaded.fingerprint == pipelines[number].processor.fingerprint
            seen.add(number)
        pipelines[0].save_pretrained(tmp_path)
    assert seen == {0, 1, None}


def test_shards_of_an_earlier_save_are_not_mixed_with_new_weights(tmp_path):
    first, second = alone(0), alone(1)
    for sizes in (("50KB", "1KB"), ("1KB", "50KB"), ("1KB", "2KB")):
        for model, size in zip((first, second), sizes):
            model.save_pretrained(tmp_path, max_shard_size=size)
        loaded = ClickPromptForCTR.from_pretrained(tmp_path).state_dict()
        for name, tensor in second.state_dict().items():
            assert torch.equal(loaded[name], tensor)
        names = {path.name for path in tmp_path.glob("*.safetensors*")}
        assert ("model.safetensors" in names) == (sizes[1] == "50KB")
        if sizes[1] != "50KB":
            index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
            assert names == {*index["weight_map"].values(), "model.safetensors.index.json"}


def test_other_files_and_other_variants_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    alone(0).save_pretrained(tmp_path, variant="fp16")
    alone(1).save_pretrained(tmp_path)
    found = {path.name for path in tmp_path.iterdir() if path.suffix != ".py"}
    assert found == {"notes.txt", "config.json", "model.fp16.safetensors", "model.safetensors"}


@pytest.mark.parametrize("size", [100, 3000, 20_000])
def test_a_full_disk_names_the_file_and_keeps_the_old_model(size, full_disk, tmp_path):
    old, new = (ClickPromptForCTR(tiny_config(fusion="sum")) for _ in range(2))
    old.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    full_disk(size)
    with pytest.raises(OSError, match=r"/[\w.]+ cannot be written: File too large") as raised:
        new.save_pretrained(tmp_path)
    assert raised.value.errno == errno.EFBIG
    assert PARTIAL_FOLDER not in str(raised.value)
    full_disk(resource.RLIM_INFINITY)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("limit", [50, 500, 5000])
def test_a_process_that_dies_within_a_write_leaves_the_old_model(limit, tmp_path):
    old = alone(0)
    old.save_pretrained(tmp_path)
    assert killed_in_fork(lambda: alone(1).save_pretrained(tmp_path), lambda: limit_files(limit))
    loaded = ClickPromptForCTR.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in old.state_dict().items())


def write_in_part(path, error=None):
    with whole_file(path) as partial:
        partial.write_text("ne")
        if error is not None:
            raise error


def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")
    for error in (KeyboardInterrupt(), ValueError("no")):
        with pytest.raises(type(error)):
            write_in_part(path, error)
        assert path.read_text() == "old"

    def no_space(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match=r"results.json cannot be written: No space left on device") as raised:
            write_in_part(path)
        assert raised.value.errno == errno.ENOSPC
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("results.json", "old")]
    with whole_file(path) as partial:
        partial.write_text("new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("results.json", "new")]


def test_errors_of_reading_are_not_called_errors_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere") as raised, whole_file(tmp_path / "a") as partial:
        partial.write_text(Path("nowhere").read_text())
    assert "cannot be written" not in str(raised.value)


def test_folders_replace_folders(tmp_path):
    target = tmp_path / "target"
    for content in ("old", "new"):
        with whole_folder(target) as partial:
            (partial / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["new"]
    with pytest.raises(ZeroDivisionError), whole_folder(target) as partial:
        (partial / "newer").write_text(str(1 / 0))
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert [path.name for path in target.iterdir()] == ["new"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    (tmp_path / PARTIAL_FOLDER / "checkpoint-3").mkdir(parents=True)
    (tmp_path / ".README.md.partial").write_text("")
    (tmp_path / ".checkpoint-1.replaced").mkdir()
    (tmp_path / ".mine").write_text("")
    whole_files.remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mine"]
    (tmp_path / PARTIAL_FOLDER).mkdir()
    (tmp_path / PARTIAL_FOLDER / "config.json").write_text("{")
    with whole_contents(tmp_path) as partial:
        (partial / "a").write_text("")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "a"]
