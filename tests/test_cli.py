"""The command `clickprompt`: what it prints, what it loads, and how it reports mistakes."""

import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hub_server import HubServer
from huggingface_hub import constants
from tiny_data import tiny_rows
from tiny_models import tiny_ctr_config
from warm_python import run_python

import clickprompt_hf
from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptProcessor,
    Schema,
    __version__,
    cli,
    public_names,
)
from clickprompt_hf.runs import command, finetune, paths
from clickprompt_hf.runs.command import COMMANDS, MISTAKE_EXIT_CODE, CommandParser, require, run_command
from clickprompt_hf.runs.help_files import FOLDER, help_text

ROOT = Path(__file__).parent.parent
# What the package itself must not load when it is imported, unless transformers does.
HEAVY = ("datasets", "pandas", "pyarrow", "peft", "sklearn", "evaluate", "matplotlib", "gradio", "accelerate")
# The modules that transformers loads, and those after the package is imported as well.
REPORT_MODULES = """
import json, sys
from transformers import PreTrainedModel, AutoProcessor, ProcessorMixin, pipeline, Cache
of_transformers = sorted(sys.modules)
import clickprompt_hf
print(json.dumps([of_transformers, sorted(sys.modules)]))
"""


# with this package on its path
SEARCH_PATH = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def python(*arguments, cwd=None, **environment):
    """A finished Python process that imports for itself."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": SEARCH_PATH, **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def warm_python(*arguments, cwd=None, **environment):
    """A finished Python process that began with torch and transformers, but without this package."""
    return run_python(*arguments, cwd=cwd, PYTHONPATH=SEARCH_PATH, **environment)


@pytest.fixture
def program(tmp_path):
    """The script that pip writes for the entry point; it ends by listing what was loaded.

    `--then` separates commands that run one after the other.
    """
    path = tmp_path / "bin" / "clickprompt"
    path.parent.mkdir()
    path.write_text(
        "import json, os, sys\nfrom clickprompt_command import main\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        while '--then' in sys.argv:\n"
        "            end = sys.argv.index('--then')\n"
        "            main(sys.argv[1:end])\n"
        "            del sys.argv[1:end + 1]\n"
        "        sys.exit(main())\n"
        "    finally:\n        print(json.dumps(sorted(sys.modules)), file=open(os.environ['LOADED'], 'w'))\n"
    )
    return path


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_no_torch(program, tmp_path, arguments):
    loaded = tmp_path / "loaded.json"
    finished = python(str(program), *arguments, LOADED=str(loaded))
    assert finished.returncode == 0, finished.stderr
    if arguments == ["--version"]:
        assert finished.stdout == f"clickprompt {__version__}\n"
    elif len(arguments) == 2:
        assert finished.stdout == (FOLDER / f"{arguments[0]}.txt").read_text(encoding="utf-8")
    else:
        assert all(name in finished.stdout for name in COMMANDS)
    modules = json.loads(loaded.read_text())
    assert "clickprompt_hf.cli" in modules
    assert not {"torch", "transformers", "numpy", *HEAVY} & set(modules)


def test_the_package_runs_as_the_command():
    assert python("-m", "clickprompt_hf", "--version").stdout == f"clickprompt {__version__}\n"
    refused = warm_python("-m", "clickprompt_hf", "predikt")
    assert refused.returncode == MISTAKE_EXIT_CODE
    assert "Did you mean predict?" in refused.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_files_are_what_the_parsers_generate(name):
    """After a change of a flag: python -m clickprompt_hf.runs.help_files"""
    assert (FOLDER / f"{name}.txt").read_text(encoding="utf-8") == help_text(name)
    assert "examples/" not in help_text(name)


def test_all_flags_of_transformers_are_listed_on_request(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["finetune", "--help_all"])
    assert end.value.code == 0
    everything = capsys.readouterr().out
    assert "--adam_beta1" in everything
    assert "--adam_beta1" not in help_text("finetune")
    for flag in ("--prompt_length", "--num_cross_layers", "--gauc_field", "--plm_learning_rate", "--dataset"):
        assert flag in everything
        assert flag in help_text("finetune")


def test_runs_through_the_command(program, tmp_path):
    """Auto classes are registered before the first run, though not when the package is imported."""
    rows = tiny_rows(100)
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "schema.yaml").write_text("{fields: [user, title], label: click}")
    processor = ClickPromptProcessor.fit(rows, Schema.from_dict({"fields": ["user", "title"], "label": "click"}))
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes)
    ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr")).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    options = ["--dataset", "csv", "--data_path", "rows.csv", "--schema", "schema.yaml", "--ctr_only"]
    options += ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "--num_train_epochs", "1", "--output_dir", "out"]
    options += ["--report_to", "none", "--disable_tqdm", "true", "--report_plots", "false"]
    commands = ["predict", "--model", "model", "--input", "rows.csv", "--output", "scores.csv", "--then"]
    commands += ["finetune", *options, "--then"]
    commands += ["predict", "--model", "out", "--input", "rows.csv", "--output", "finetuned.csv"]
    finished = warm_python(str(program), *commands, cwd=tmp_path, LOADED=str(tmp_path / "loaded.json"))
    assert finished.returncode == 0, finished.stderr
    for scores in ("scores.csv", "finetuned.csv"):
        assert len(pd.read_csv(tmp_path / scores)) == 100
    # the training rows go with the process
    assert not list((tmp_path / "out").glob("*prepared*"))


def test_a_public_name_is_loaded_on_first_use_in_the_command(tmp_path):
    path = tmp_path / "clickprompt"
    path.write_text(
        "import sys, clickprompt_command, clickprompt_hf\nassert 'torch' not in sys.modules\n"
        "from clickprompt_hf import ClickPromptConfig\nfrom transformers import AutoConfig\n"
        "assert type(AutoConfig.for_model('clickprompt')) is ClickPromptConfig\n"
        "assert clickprompt_hf.ClickPromptTrainer.__module__ == 'clickprompt_hf.training.trainer'\n"
    )
    finished = python(str(path))
    assert finished.returncode == 0, finished.stderr


def test_importing_the_package_loads_torch_transformers_and_numpy_only():
    finished = python("-c", REPORT_MODULES)
    assert finished.returncode == 0, finished.stderr
    of_transformers, of_ours = map(set, json.loads(finished.stdout))
    assert "clickprompt_hf" in of_ours - of_transformers
    assert not set(HEAVY) & (of_ours - of_transformers)
    rooms = ("data", "training", "evaluation", "scoring", "export", "runs", "presets", "inspection")
    assert not {f"clickprompt_hf.{room}" for room in rooms} & of_ours


def test_public_names_are_listed_and_exist():
    assert set(clickprompt_hf.__all__) == {
        *(name for name in vars(public_names) if name[0].isalpha()),
        *("ClickPromptClassifier", "ClickPromptTrainer", "ClickPromptTrainingArguments"),
    }
    assert set(clickprompt_hf.__all__) <= set(dir(clickprompt_hf))
    assert all(getattr(clickprompt_hf, name).__name__ == name for name in clickprompt_hf.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'ClickPromptTrainr'"):
        clickprompt_hf.ClickPromptTrainr  # noqa: B018


@pytest.mark.parametrize("name", ["clickprompt", "clickprompt.py", "clickprompt.exe", "clickprompt_command.py"])
def test_a_script_called_like_the_command_registers_the_auto_classes(tmp_path, name):
    script = tmp_path / name
    script.write_text("import clickprompt_hf, transformers\ntransformers.AutoConfig.for_model('clickprompt')\n")
    finished = warm_python(str(script))
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("error", "is_mistake"),
    [
        (ValueError("`x` must be 1, got 2."), True),
        (FileNotFoundError("no file"), True),
        (TypeError("`rows` must be a table, got int."), True),
        (TypeError("unsupported operand type(s) for +: 'int' and 'str'"), False),
        (ImportError('needs gradio: pip install "clickprompt_hf[app]"'), True),
        (ModuleNotFoundError("No module named 'torch.gone'", name="torch.gone"), False),
        (RuntimeError("bug"), False),
        (AttributeError("bug"), False),
        (KeyError("bug"), False),
    ],
)
def test_mistakes_print_one_message_and_bugs_their_traceback(error, is_mistake, capsys):
    def main(arguments):
        raise error

    if not is_mistake:
        with pytest.raises(type(error)):
            run_command("finetune", main, [])
        return
    with pytest.raises(SystemExit) as end:
        run_command("finetune", main, [])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"clickprompt finetune: error: {error}\n"
    with pytest.raises(type(error)):
        run_command("finetune", main, ["--debug"])


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("compare", " Run the same command again: finished trials and seeds are kept."),
        ("finetune", " The same command with --resume_from_checkpoint true continues from the last checkpoint."),
        ("demo", ""),
    ],
)
def test_ctrl_c_prints_one_line_that_says_how_to_continue(command, advice, capsys):
    def main(arguments):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_command(command, main, [])
    assert end.value.code == 130
    assert capsys.readouterr().err == f"\nclickprompt {command}: interrupted.{advice}\n"
    with pytest.raises(KeyboardInterrupt):
        run_command(command, main, ["--debug"])


@pytest.mark.parametrize(
    "bug", [lambda: int("x"), lambda: np.ones(2) + np.ones(3), lambda: dict([()]), lambda: [].remove(1)]
)
def test_value_errors_that_no_statement_raised_are_bugs(bug):
    with pytest.raises(ValueError):
        run_command("finetune", lambda arguments: bug(), [])


def test_garbage_collection_in_a_command_leaves_out_what_was_imported():
    before, frozen = gc.get_freeze_count(), []
    imported = [[] for _ in range(1000)]
    run_command("finetune", lambda arguments: frozen.append(gc.get_freeze_count()), [])
    assert frozen[0] >= before + len(imported)


def test_debug_is_taken_from_the_arguments_but_that_of_transformers_is_not():
    given = []
    run_command("finetune", given.extend, ["--debug", "--seed", "1", "--debug", "underflow_overflow"])
    assert given == ["--seed", "1", "--debug", "underflow_overflow"]


def test_warnings_are_shown_without_source_lines(tmp_path):
    script = tmp_path / "clickprompt"
    script.write_text(
        "import sys, warnings\nfrom clickprompt_hf.runs.command import run_command\n"
        "run_command('predict', lambda arguments: warnings.warn('mind the gap'), [])"
    )
    assert warm_python(str(script)).stderr == "Warning: mind the gap\n"


def test_a_module_reports_mistakes_as_the_command_does(tmp_path):
    finished = warm_python("-m", "clickprompt_hf.runs.finetune", "--optput_dir", "out", cwd=tmp_path)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("clickprompt finetune: error: ")


@pytest.mark.parametrize(
    ("script", "name"), [("run_ctr.py", "finetune"), ("run_pamlm.py", "pretrain"), ("predict.py", "predict")]
)
def test_examples_report_mistakes_as_the_command_does(script, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--optput_dir", "out"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"clickprompt {name}: error: ")


def test_several_processes_print_one_message(tmp_path):
    port = str(29500 + os.getpid() % 1000)
    config = str(ROOT / "examples" / "accelerate_configs" / "two_processes_cpu.yaml")
    launcher = ["-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", port]
    arguments = ["--ctr_only", "--dataset", "csv", "--data_path", "nowhere.csv", "--output_dir", "out"]
    finished = warm_python(*launcher, "-m", "clickprompt_hf.runs.finetune", *arguments, cwd=tmp_path)
    assert finished.returncode != 0
    assert finished.stderr.count("clickprompt finetune: error: ") == 1, finished.stderr
    # the launcher shows a traceback of its own, which names no line of ours
    assert "clickprompt_hf/" not in finished.stderr.replace(str(ROOT), "")


def test_an_unknown_subcommand_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["finetine"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("clickprompt: error: 'finetine' must be one of pretrain, finetune")


def test_unknown_flags_are_named_with_the_likeliest_alternatives():
    parser = CommandParser("predict", "", "")
    parser.add_argument("--batch_size", type=int)
    with pytest.raises(ValueError, match=r"unknown arguments: --batch_siz=3 x\. Did you mean --batch_size\?"):
        parser.parse_args(["--batch_siz=3", "x"])
    with pytest.raises(ValueError, match=r"unknown arguments: --zzz\. See clickprompt predict --help\."):
        parser.parse_args(["--zzz"])
    with pytest.raises(ValueError, match="argument --batch_size: invalid int value: 'x'"):
        parser.parse_args(["--batch_size", "x"])


def test_a_misspelt_flag_is_named_before_the_required_one_that_it_hides():
    parser = CommandParser("predict", "", "")
    parser.add_argument("--input", required=True)
    with pytest.raises(ValueError, match=r"unknown arguments: --inptu\. Did you mean --input\?"):
        parser.parse_args(["--inptu", "rows.csv"])
    with pytest.raises(ValueError, match="the following arguments are required: --input"):
        parser.parse_args([])


def test_a_missing_extra_is_named(monkeypatch):
    require(["json"], "app", "The page")
    with pytest.raises(ImportError, match=r'^The page needs nothing_here, .*: pip install "clickprompt_hf\[app\]"$'):
        require(["json", "nothing_here"], "app", "The page")
    find_spec = command.importlib.util.find_spec
    missing = ("gradio", "onnx", "tensorboard", "tensorboardX", "matplotlib")
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name, *rest: None if name in missing else find_spec(name, *rest)
    )
    for arguments, extra in (
        (["app", "--model", "x"], "app"),
        (["export", "checkpoint", "folder"], "onnx"),
        (["finetune", "--ctr_only", "--output_dir", "x", "--report_to", "tensorboard"], "tensorboard"),
        (["finetune", "--ctr_only", "--output_dir", "x", "--report_plots", "true"], "plots"),
    ):
        with pytest.raises(ImportError, match=rf'pip install "clickprompt_hf\[{extra}\]"'):
            cli.main([*arguments, "--debug"])
    # training works without them
    assert "tensorboard" not in str(finetune.make_parser().get_default("report_to"))


@pytest.mark.parametrize("name", ["./nope", "/nope", "~/nope", "a/b/c", "runs/nope", "runs\\nope"])
def test_a_misspelt_folder_is_not_looked_up_on_the_hub(name, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "cached_file", lambda *args, **options: pytest.fail("the Hub was asked"))
    monkeypatch.setattr(paths, "get_hf_file_metadata", lambda *args: pytest.fail("the Hub was asked"))
    with pytest.raises(
        FileNotFoundError, match="`--model` must be a local folder or a Hub id, but there is no folder"
    ):
        paths.check_folder_or_hub_id(name, "--model")
    message = "`--model` must be the folder of a model, but runs has no config.json"
    with pytest.raises(FileNotFoundError, match=message):
        paths.check_folder_or_hub_id("runs", "--model")
    (tmp_path / "runs" / "config.json").touch()
    paths.check_folder_or_hub_id("runs", "--model")


def use_hub(url, monkeypatch):
    """Look for models on the Hub at `url`."""
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        use_hub(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waits for another try"))
        with pytest.raises(OSError, match="no folder robrta-base, and it cannot be read from the Hub"):
            paths.check_folder_or_hub_id("robrta-base", "--model")


def test_an_unknown_hub_id_is_reported_as_neither_folder_nor_repository(tmp_path, monkeypatch, capsys):
    (tmp_path / "rows.csv").write_text("user\n1\n")
    arguments = ["--model", "owner/nope", "--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "out.csv")]
    with HubServer() as server:
        use_hub(server.url, monkeypatch)
        with pytest.raises(SystemExit) as end:
            cli.main(["predict", *arguments])
    assert end.value.code == 2
    message = "there is no folder owner/nope, and it cannot be read from the Hub: owner/nope is not"
    assert message in capsys.readouterr().err
