"""Warnings point at the user's line, whichever way a call takes to the package."""

import re
import threading
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.model_selection import cross_val_score
from tiny_models import tiny_config
from transformers import AutoModelForSequenceClassification

import clickprompt_hf
from clickprompt_hf import ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.estimator import ClickPromptClassifier
from clickprompt_hf.warnings_clickprompt import warn_at_caller

TITLES = [f"the {n}th review says that film {n * 7} is worth seeing twice" for n in range(60)]
TRAIN = {"user": [1, 2, 3] * 20, "price": [float(n) for n in range(60)], "title": TITLES}
CLICKS = [0, 1] * 30


def files_of_warnings(call, match):
    """Files that the warnings of a call point at; at least one warning has the given words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert any(match in str(warning.message) for warning in caught), [str(warning.message) for warning in caught]
    return {warning.filename for warning in caught}


def classifier():
    ctr_config = {"embedding_size": 4, "dnn_hidden_sizes": [8], "num_cross_layers": 1}
    return ClickPromptClassifier(
        max_epochs=1, batch_size=16, validation_fraction=0, ctr_config=ctr_config, random_state=0
    )


def test_warnings_of_the_estimator():
    assert files_of_warnings(lambda: classifier().fit(TRAIN, CLICKS), "hold free text") == {__file__}
    one_click = [1, *[0] * 59]
    unsplit = classifier().set_params(validation_fraction=0.1)
    assert files_of_warnings(lambda: unsplit.fit(TRAIN, one_click), "A class has 1 row") == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = classifier().fit(TRAIN, CLICKS)
    # by way of torch's `inference_mode`
    unknown = {**TRAIN, "user": [9] * 60, "price": ["cheap"] * 60}
    assert files_of_warnings(lambda: fitted.predict_proba(unknown), "training had values such as") == {__file__}


def test_warnings_by_way_of_scikit_learn():
    rows = pd.DataFrame(TRAIN)
    assert files_of_warnings(lambda: cross_val_score(classifier(), rows, CLICKS, cv=2), "left out") == {__file__}


def test_warnings_by_way_of_transformers(tmp_path):
    ClickPromptForPAMLM(tiny_config()).save_pretrained(tmp_path)
    load = AutoModelForSequenceClassification.from_pretrained
    assert files_of_warnings(lambda: load(tmp_path), "was saved without ctr_head") == {__file__}


def test_warnings_by_way_of_datasets_that_torch_reads():
    processor = ClickPromptProcessor.fit(
        {"price": [1, 2, 3]}, {"fields": [{"column": "price", "kind": "numeric"}], "label": "click"}
    )
    loader = torch.utils.data.DataLoader([{"price": "cheap"}] * 4, batch_size=2, collate_fn=processor)
    assert files_of_warnings(lambda: list(loader), "cheap") == {__file__}


def test_a_warning_of_a_thread_of_the_package_is_given():
    thread = threading.Thread(target=warn_at_caller, args=("from a thread",))
    assert files_of_warnings(lambda: (thread.start(), thread.join()), "from a thread")


@pytest.mark.parametrize("names", [{}, {"__name__": None}])
def test_a_warning_of_code_without_a_module_is_given(names):
    code = compile("warn('from nowhere')", "<rules>", "exec")
    assert files_of_warnings(lambda: exec(code, {"warn": warn_at_caller, **names}), "from nowhere") == {"<rules>"}


def test_no_warning_counts_frames():
    package = Path(clickprompt_hf.__file__).parent
    counting = [
        str(path.relative_to(package))
        for path in sorted(package.rglob("*.py"))
        if re.search(r"warnings\.warn\(|stacklevel=", path.read_text(encoding="utf-8"))
    ]
    assert counting == [], "`warn_at_caller` finds the user's line; a count of frames depends on the way in."
