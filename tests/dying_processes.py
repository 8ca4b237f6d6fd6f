"""Kills one of two processes at a stage of its work; prints how the other one ends, and after how long, as JSON.

python dying_processes.py FOLDER; launched as several processes, it scores the files that it has made there
"""

import json
import os
import signal
import sys
import warnings
from pathlib import Path

from processes import in_processes, model_of, trainer_of
from sharded_processes import prepared_rows
from transformers import TrainerCallback

from clickprompt_hf.data import text_states
from clickprompt_hf.runs import finetune, predict, preparation
from clickprompt_hf.scoring import file_scoring
from clickprompt_hf.training import ClickPromptTrainer, resuming


class Dying:
    """Kills the process of a rank when a function is called."""

    def __init__(self, folder, rank):
        self.mark, self.rank = folder / "died", rank

    def __call__(self, *args, **kwargs):
        if int(os.environ["RANK"]) == self.rank:
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner, name):
        function = getattr(owner, name)

        def dies_first(*args, **kwargs):
            self()
            return function(*args, **kwargs)

        setattr(owner, name, dies_first)


class DiesAtStep(TrainerCallback):
    def __init__(self, die):
        self.die = die

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.die()


def train(folder, prepared, kind="alone", callback=None, **options):
    depth = {"prompt_depth": 1} if "cache_text_states" in options else {}
    trainer = trainer_of(folder / "out", prepared, model_of(kind, prepared[1], **depth), 2, 14, **options)
    if callback is not None:
        trainer.add_callback(callback)
    trainer.train()


def in_training(folder, prepared, die):
    train(folder, prepared, callback=DiesAtStep(die))


def in_evaluation(folder, prepared, die):
    die.before(ClickPromptTrainer, "prediction_step")
    train(folder, prepared)


def while_saving(folder, prepared, die):
    die.before(resuming, "publish_folder")
    train(folder, prepared)


def while_caching_texts(folder, prepared, die):
    """A process dies once it has encoded texts. The lock that it may hold goes to the other one."""
    die.before(text_states.filelock.FileLock, "release")
    train(folder, prepared, "ctr", cache_text_states=True)


def in_preparation(folder, prepared, die):
    die.before(preparation, "files_of")
    arguments = ["--dataset", "synthetic", "--ctr_only", "--output_dir", str(folder / "out"), "--use_cpu", "true"]
    finetune.main([*arguments, "--report_to", "none"])


def in_scoring(folder, prepared, die):
    die.before(file_scoring, "score_table")
    score(folder.parent, folder / "scores.csv")


def score(data, output):
    arguments = ["--model", str(data / "model"), "--input", str(data / "rows.csv"), "--output", str(output)]
    predict.main([*arguments, "--piece_rows", "10"])


def before_scoring(folder, output):
    """What a launcher runs: the second process dies before it meets the first one."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    score(folder, output)


STAGES = {
    "training": (in_training, 1),
    "training, the first process": (in_training, 0),
    "evaluation": (in_evaluation, 1),
    "saving": (while_saving, 0),
    "text states": (while_caching_texts, 0),
    "preparation": (in_preparation, 0),
    "scoring": (in_scoring, 1),
    "scoring, the first process": (in_scoring, 0),
}


def survivor(name, folder, prepared):
    """How the surviving process ends, and how many seconds after the other one."""
    stage, rank = STAGES[name]
    folder = folder / name.replace(", ", "-").replace(" ", "-")
    folder.mkdir()
    die = Dying(folder, rank)
    ends = in_processes(2, lambda: stage(folder, prepared, die) or "ended", folder)
    seconds = (folder / f"result-{1 - rank}.json").stat().st_mtime - die.mark.stat().st_mtime
    return {"killed": ends[rank], "other": ends[1 - rank], "seconds": seconds}


def main():
    warnings.simplefilter("ignore")
    os.environ["ACCELERATE_USE_CPU"] = "true"
    folder = Path(sys.argv[1])
    if "RANK" in os.environ:
        before_scoring(folder, folder / "launched.csv")
        return
    prepared = prepared_rows(folder)
    model_of("alone", prepared[1]).save_pretrained(folder / "model")
    prepared[1].save_pretrained(folder / "model")
    (folder / "rows.csv").write_text("user,price,tags,title\n" + "1,2.5,new,Up\n" * 100)
    print(json.dumps({name: survivor(name, folder, prepared) for name in STAGES}))


if __name__ == "__main__":
    main()
