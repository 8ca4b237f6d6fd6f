"""Kills commands at seeded moments and runs them again; prints the outcomes as JSON.

    python kills.py FOLDER KILLS_PER_COMMAND

Everything is imported once; each command runs in a fork. An audit hook counts the operations on files below FOLDER. At
the seeded one the process either kills itself, or limits the size of files, so that the system kills it within a later
write.
"""

import atexit
import gc
import json
import os
import random
import resource
import signal
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pandas as pd
import torch
import yaml
from forks import exit_code, start_fork
from tiny_data import tiny_rows, tiny_schema
from tqdm import tqdm

from clickprompt_hf import ClickPromptForCTR
from clickprompt_hf.runs import finetune, predict, pretrain
from clickprompt_hf.runs.plms import SCRATCH_SIZES, ScratchSize

# The forks would wait for threads that only their parent has, or for locks that these hold.
torch.set_num_threads(1)
tqdm.monitor_interval = 0
# Forks would share the lock of progress bars, and one that is killed while it writes a bar would keep it.
tqdm.set_lock(threading.RLock())
# `Trainer` collects garbage when training begins, which need not visit what is imported.
gc.freeze()

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
SMALL = ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "--num_cross_layers", "1", "--report_plots", "false"]
QUICK = [
    "--report_to",
    "none",
    "--disable_tqdm",
    "True",
    "--per_device_train_batch_size",
    "32",
    "--dnn_dropout",
    "0.1",
]


def in_fork(main, arguments, folder, kill_at=None, limit=None):
    """Run a command in a fork; the number of its operations on files, or `None` if it was killed.

    Raises:
        RuntimeError: If it failed.
    """
    log, counted = folder / "log.txt", folder / "count.txt"

    def work():
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        done = count_operations(folder, kill_at, limit)
        main(arguments)
        counted.write_text(str(done[0]))
        atexit._run_exitfuncs()

    code = exit_code(start_fork(work))
    if code < 0:
        return None
    if code > 0:
        raise RuntimeError(log.read_text()[-2000:])
    return int(counted.read_text())


def count_operations(folder, kill_at, limit):
    """Count the operations below `folder` from now on, and die at number `kill_at`."""
    done, inside = [0], str(folder)

    def hook(event, arguments):
        if event not in OPERATIONS or not str(arguments[0]).startswith(inside):
            return
        done[0] += 1
        if done[0] != kill_at:
            return
        if limit is None:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    sys.addaudithook(hook)
    return done


def digest(path):
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def outcome(main, arguments, output, folder, draw, moments):
    """Kill a command at seeded moments, and run it again each time.

    Returns:
        Per kill: whether the process died, and the problem of the run after it, `None` if it ended as a whole run.
    """

    def finished(target):
        return target if main is predict.main else target / "model.safetensors"

    def command(target):
        return [*arguments, *(["--output"] if main is predict.main else ["--output_dir"]), str(target)]

    operations = in_fork(main, command(output), folder)
    expected, kills = digest(finished(output)), []
    for number in range(moments):
        target = output.with_name(f"{number}-{output.name}")
        limit = None if number % 3 else draw.randrange(100, 2000)
        died = in_fork(main, command(target), folder, draw.randrange(1, operations + 1), limit) is None
        problem = None
        again = command(target)
        if main is not predict.main and target.is_dir():
            again += ["--resume_from_checkpoint", "true"]
        try:
            in_fork(main, again, folder)
            if digest(finished(target)) != expected:
                problem = "the result differs"
            elif left := [path.name for path in target.parent.glob(f"{target.name}/.*")]:
                problem = f"left {left}"
        except RuntimeError as error:
            problem = str(error).strip().splitlines()[-1]
        kills.append({"died": died, "problem": problem})
    return kills


def main():
    folder, moments = Path(sys.argv[1]), int(sys.argv[2])
    draw = random.Random(0)
    pd.DataFrame(tiny_rows(160)).to_csv(folder / "rows.csv", index=False)
    (folder / "schema.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(tiny_schema().to_dict()))))
    data = ["--data_path", str(folder / "rows.csv")]
    fresh = [*data, "--dataset", "csv", "--schema", str(folder / "schema.yaml"), *SMALL]
    steps = ["--save_strategy", "steps", "--save_steps", "3", "--eval_strategy", "steps", "--eval_steps", "3"]
    plm = ["--plm_name_or_path", "scratch-tiny", "--prompt_length", "1"]
    pretrained = ["--model_name_or_path", str(folder / "pretrain"), *data, "--report_plots", "false"]
    SCRATCH_SIZES["scratch-tiny"] = ScratchSize(1, 64, 300)
    commands = {
        "pretrain": (pretrain.main, [*fresh, *plm, *QUICK, "--num_train_epochs", "2"]),
        "finetune": (finetune.main, [*pretrained, *QUICK, *steps, "--max_steps", "7"]),
        "finetune without the PLM": (
            finetune.main,
            [*pretrained, "--without_plm", *QUICK, "--num_train_epochs", "2.5", "--save_total_limit", "1"],
        ),
        "predict": (
            predict.main,
            ["--model", str(folder / "finetune"), "--input", str(folder / "rows.csv"), "--piece_rows", "40"],
        ),
    }
    report = {}
    for name, (command, arguments) in commands.items():
        output = folder / ("scores.csv" if command is predict.main else name)
        report[name] = outcome(command, arguments, output, folder, draw, moments)
        if command is pretrain.main:
            # so that the forks need not compile what transformers compiles once to load weights
            ClickPromptForCTR.from_pretrained(output)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
