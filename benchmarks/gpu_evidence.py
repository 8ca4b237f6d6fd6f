"""What one GPU should show, within a stated number of minutes: speed against the matrix rate, and every arm on ML-1M.

    make gpu-evidence PLM=all-mpnet-base-v2 DATA_PATH=ml-1m.zip MINUTES=120

1. PA-MLM and finetuning steps at RoBERTa's and MiniLM's shapes, scoring, and late prompts next to prompts in all
   layers: share of the bf16 matrix rate.
2. `clickprompt compare`, all arms, on ML-1M by time with --plm, at the published settings: batch 1024, prompts in all
   layers, three seeds.

Each step starts if its least time is left, and is stopped when the minutes are over. If stopped, run it again:
finished figures, arms and seeds are kept. --quick tries everything at tiny size, also without a GPU.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).parent
# Time for a step to save what it has, before it is killed.
SECONDS_TO_STOP = 60
# Arms and seeds trained at a time.
JOBS = 4


@dataclass(frozen=True)
class Step:
    """One command.

    Args:
        name: Its name, and that of its log.
        command: Arguments of Python.
        least_minutes: It does not start with less time left.
        finished: File that exists once it has finished.
    """

    name: str
    command: list[str]
    least_minutes: float
    finished: Path


def steps(args: argparse.Namespace) -> list[Step]:
    """The steps, in order."""
    output = args.output_dir
    data = ["--quick"] if args.quick else ["--dataset", "ml-1m", "--data_path", str(args.data_path)]
    plms = ["--plms", "RoBERTa-base", "RoBERTa-large", "6 x 384 (MiniLM)"]
    # the paper's batches
    training = [*plms, "--batch_sizes", "1024", "--prompt_encoders", "low_rank", "--no_plain"]
    late = ["--plm_name_or_path", "RoBERTa-base", "--text_fields", "title", "genre", "--bf16", "--threads", "4"]
    late += ["--batch_size", "1024", "--full_batch_size", "1024", "--scoring_batch_size", "1024"]
    of_steps = {"pamlm": training, "finetune": training, "late_prompts": late, "inference": plms}
    speed = []
    for name, options in of_steps.items():
        figures = output / f"{name}.json"
        command = [str(BENCHMARKS / f"{name}.py"), *data, *options, "--output", str(figures)]
        speed.append(Step(name, command, 3, figures))
    folder = output / "compare"
    compare = ["-m", "clickprompt_hf.runs.compare", "--output_dir", str(folder), "--trials", "1"]
    if args.quick:
        compare += ["--dataset", "synthetic", "--max_train_rows", "300", "--plm_name_or_path", "scratch-tiny"]
        compare += ["--seeds", "1", "--arms", "constant", "backbone", "clickprompt"]
    else:
        compare += [*data, "--split", "time", "--plm_name_or_path", str(args.plm), "--seeds", "3", "--bf16"]
        # one process leaves the GPU idle most of the time
        compare += ["--jobs", str(JOBS)]
    return [*speed, Step("compare", compare, 10, folder / "results.json")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plm", type=Path, help="folder of a PLM of RoBERTa's size, such as MPNet-base")
    parser.add_argument("--data_path", type=Path, help="ml-1m.zip")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/gpu-evidence"))
    parser.add_argument("--quick", action="store_true", help="use tiny sizes, only to check that it runs")
    args = parser.parse_args(arguments)
    if not args.quick and not (args.plm and args.data_path):
        raise ValueError("give --plm and --data_path, or --quick")
    args.output_dir.mkdir(parents=True, exist_ok=True)

    deadline, left_out = time.monotonic() + 60 * args.minutes, []
    for step in steps(args):
        left = deadline - time.monotonic()
        if step.finished.exists():
            print(f"{step.name}: finished before", flush=True)
        elif left < 60 * step.least_minutes or not run(step, left, args.output_dir):
            left_out.append(step.name)
    print(f"Not finished: {', '.join(left_out)}. Run the same command again." if left_out else "All have finished.")
    return len(left_out)


def run(step: Step, seconds: float, output_dir: Path) -> bool:
    """Run a step for at most `seconds`, with its output in a log; return whether it has finished.

    Raises:
        RuntimeError: If it fails by itself.
    """
    log = output_dir / f"{step.name}.log"
    print(f"{step.name}: running, log in {log}", flush=True)
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, *step.command], stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(timeout=SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return False
    if code:
        raise RuntimeError(f"{step.name} failed with exit code {code}; see {log}")
    return True


if __name__ == "__main__":
    sys.exit(min(main(), 1))
