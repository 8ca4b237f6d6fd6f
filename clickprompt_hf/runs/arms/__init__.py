# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How each arm of a comparison is tuned, trained and scored, on the same rows for all."""

from collections.abc import Callable
from functools import partial

from ...comparison.baselines import BestColumn, ConstantRate, GradientBoosting, OneHotLogisticRegression
from ...comparison.results import ARMS
from ..tuning import Parameter
from .arm import Arm
from .baseline_arm import BaselineArm
from .bench import Bench
from .neural_arm import NeuralArm, TextVectorArm

_BOOSTING_SPACE = {
    "learning_rate": Parameter(0.05, 0.02, 0.2, log=True),
    "num_leaves": Parameter(31, 7, 127, log=True),
    "min_data_in_leaf": Parameter(20, 5, 200, log=True),
    "feature_fraction": Parameter(0.8, 0.4, 1.0),
    "bagging_fraction": Parameter(0.8, 0.5, 1.0),
    "lambda_l2": Parameter(1.0, 1e-2, 100.0, log=True),
    "cat_smooth": Parameter(10.0, 1.0, 200.0, log=True),
}
_MAKERS: dict[str, Callable[[str, Bench], Arm]] = {
    "constant": partial(BaselineArm, make=ConstantRate, space={}),
    "best_column": partial(BaselineArm, make=BestColumn, space={}),
    "logistic_regression": partial(
        BaselineArm, make=OneHotLogisticRegression, space={"C": Parameter(1.0, 1e-3, 10.0, log=True)}
    ),
    "gradient_boosting": partial(BaselineArm, make=GradientBoosting, space=_BOOSTING_SPACE),
    "gradient_boosting_text": partial(
        BaselineArm, make=partial(GradientBoosting, with_text=True), space=_BOOSTING_SPACE
    ),
    "backbone": partial(NeuralArm, with_plm=False),
    "backbone_text_vectors": TextVectorArm,
    "backbone_plm": partial(NeuralArm, with_plm=True, prompt_strategy="none"),
    "clickprompt": partial(NeuralArm, with_plm=True),
    "clickprompt_pamlm": partial(NeuralArm, with_plm=True, after_pamlm=True),
    "clickprompt_pamlm_without_plm": partial(NeuralArm, with_plm=False, after_pamlm=True),
}


def make_arm(name: str, bench: Bench) -> Arm:
    """Make the arm of this name in `ARMS`."""
    if name not in _MAKERS:
        raise ValueError(f"`arms` must be among {list(ARMS)}, got {name!r}.")
    return _MAKERS[name](name, bench)
