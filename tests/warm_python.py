"""Python programs in forks of a process that has imported torch and transformers, which saves each program seconds.

Variables of the environment that these libraries read when they are imported (`HF_HOME`, `HF_HUB_OFFLINE`,
`OMP_NUM_THREADS`) come too late in a fork: programs that set them need a process of their own.
"""

import atexit
import functools
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# seconds until a program is killed
TIME_LIMIT = 1800


@functools.cache
def warm_process() -> subprocess.Popen:
    """The process that forks; it ends with this one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run_python(*arguments: object, cwd=None, **environment: str) -> subprocess.CompletedProcess:
    """Run `python ARGUMENTS` in a fork: `-c CODE`, `-m MODULE` or a script, each with arguments of its own."""
    process, given = warm_process(), list(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        request = [given, str(cwd or Path.cwd()), {**os.environ, **environment}, list(map(str, outputs))]
        print(json.dumps(request), file=process.stdin, flush=True)
        code = int(process.stdout.readline())
        return subprocess.CompletedProcess(given, code, *(path.read_text() for path in outputs))


def run_program(kind: str, *arguments: str) -> None:
    """Run a program as `python KIND ARGUMENTS` does."""
    if kind == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[1:]], ""
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv, sys.path[0] = ["-m", *arguments[1:]], str(Path.cwd())
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [kind, *arguments], str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


def answer(arguments: list[str], cwd: str, environment: dict[str, str], outputs: list[str]) -> None:
    """Become the program of a request."""
    signal.alarm(TIME_LIMIT)
    for stream, path in enumerate([os.devnull, *outputs]):
        os.dup2(os.open(path, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    code = 0
    try:
        run_program(*arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    import datasets  # noqa: F401
    import pandas  # noqa: F401
    import torch
    import transformers
    from forks import exit_code, start_fork

    torch.set_num_threads(1)
    # as in conftest.py
    os.fsync = lambda descriptor: None
    for name in ("AutoProcessor", "PreTrainedModel", "ProcessorMixin", "Trainer", "pipeline"):
        getattr(transformers, name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(exit_code(start_fork(functools.partial(answer, *json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
