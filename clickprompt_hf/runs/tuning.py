# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tunes an arm of a comparison with Optuna: the same number of trials for each, judged on validation rows.

Each finished trial is kept in a file, so that an interrupted search goes on with the next one.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..whole_files import whole_file

_STARTUP_TRIALS = 4


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter: its default, and where trials look for better values.

    Args:
        default: The value of the first trial.
        low, high: Range of numbers.
        log: Whether the range is logarithmic.
        choices: Values to choose from, instead of a range.
    """

    default: Any
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def distribution(self) -> Any:
        """The range or the choices, always with the default, as Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(tuple(dict.fromkeys((self.default, *self.choices))))
        low, high = min(self.low, self.default), max(self.high, self.default)
        if isinstance(self.default, int):
            return IntDistribution(int(low), int(high), log=self.log)
        return FloatDistribution(low, high, log=self.log)

    def suggest(self, name: str, trial: Any) -> Any:
        """The value of an Optuna trial. Suggesting it twice returns the same value."""
        found = self.distribution
        if self.choices:
            return trial.suggest_categorical(name, found.choices)
        draw = trial.suggest_int if isinstance(self.default, int) else trial.suggest_float
        return draw(name, found.low, found.high, log=found.log)


Space = Mapping[str, Parameter]
# Takes the arguments of `optuna.create_study` and runs one trial of the study.
RunTrial = Callable[..., Any]


def suggest(space: Space, trial: Any) -> dict[str, Any]:
    """The values of all hyperparameters in an Optuna trial."""
    return {name: parameter.suggest(name, trial) for name, parameter in space.items()}


def defaults(space: Space) -> dict[str, Any]:
    """The values of the first trial."""
    return {name: parameter.default for name, parameter in space.items()}


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Args:
        hyperparameters: By name.
        value: What was minimized or maximized; `None` if training diverged.
        seconds: Time it took.
    """

    hyperparameters: dict[str, Any]
    value: float | None
    seconds: float


def tune(
    space: Space,
    run_trial: RunTrial,
    num_trials: int,
    maximize: bool,
    seed: int,
    folder: Path,
    report: Callable[[int, Trial], None],
) -> dict[str, Any]:
    """Run the trials that are missing, and return the best hyperparameters.

    The first trial has the defaults. With one trial, nothing is run.

    Args:
        space: The hyperparameters.
        run_trial: Runs one trial, as `Trainer.hyperparameter_search` with these keyword arguments does.
        num_trials: Number of trials, at least 1.
        maximize: Whether the larger value is better.
        seed: Seed of the sampler. Trials depend only on it and on the earlier trials, even if the search is
            interrupted.
        folder: Keeps the finished trials.
        report: Called with the number of each trial, from 1, and the trial, including kept ones.

    Raises:
        ValueError: If training diverged in all trials.
    """
    if num_trials == 1 or not space:
        return defaults(space)
    folder.mkdir(parents=True, exist_ok=True)
    trials: list[Trial] = []
    for number in range(num_trials):
        path = _trial_file(folder, number)
        if path.is_file():
            trials.append(_read_trial(path))
        else:
            trials.append(_run(space, run_trial, maximize, seed + number, trials))
            with whole_file(path) as partial:
                partial.write_text(json.dumps(vars(trials[-1]), indent=2), encoding="utf-8")
        report(number + 1, trials[-1])
    best = _best(trials, maximize)
    if best is None:
        raise ValueError(f"Training diverged in all {num_trials} trials. Lower `--learning_rate`.")
    return best


def finished_search(folder: Path, num_trials: int, maximize: bool) -> dict[str, Any] | None:
    """The best hyperparameters of a search that `tune` finished in a folder; `None` if it did not.

    Args:
        folder, num_trials, maximize: As in `tune`.
    """
    paths = [_trial_file(folder, number) for number in range(num_trials)]
    if not all(path.is_file() for path in paths):
        return None
    return _best(list(map(_read_trial, paths)), maximize)


def _trial_file(folder: Path, number: int) -> Path:
    return folder / f"trial-{number + 1}.json"


def _read_trial(path: Path) -> Trial:
    return Trial(**json.loads(path.read_text(encoding="utf-8")))


def _best(trials: Sequence[Trial], maximize: bool) -> dict[str, Any] | None:
    """The best hyperparameters; `None` if training diverged in all trials."""
    finished = [trial for trial in trials if trial.value is not None]
    if not finished:
        return None
    return (max if maximize else min)(finished, key=lambda trial: trial.value).hyperparameters  # type: ignore


def _run(space: Space, run_trial: RunTrial, maximize: bool, seed: int, earlier: list[Trial]) -> Trial:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction: Any = "maximize" if maximize else "minimize"
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="arm", direction=direction)
    for trial in earlier:
        study.add_trial(_frozen(space, trial))
    if not earlier:
        study.enqueue_trial(defaults(space))
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
    start = time.perf_counter()
    run_trial(direction=direction, storage=storage, study_name="arm", load_if_exists=True, sampler=sampler)
    last = study.trials[-1]
    value = last.value if last.state == optuna.trial.TrialState.COMPLETE else None
    return Trial(dict(last.params), value, round(time.perf_counter() - start, 1))


def _frozen(space: Space, trial: Trial) -> Any:
    """A finished trial as Optuna keeps it."""
    import optuna

    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED if trial.value is None else optuna.trial.TrialState.COMPLETE,
        value=trial.value,
        params=trial.hyperparameters,
        distributions={name: parameter.distribution for name, parameter in space.items()},
    )
