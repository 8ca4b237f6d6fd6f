"""Rules for the whole suite: deprecations are errors, and continuous integration accepts no unexpected skip."""

import gc
import logging
import os
import warnings

import pytest

# Libraries that log their deprecations instead of warning about them.
LOGGED_DEPRECATIONS = ("accelerate", "datasets", "huggingface_hub", "peft", "transformers")

# Beginnings of the reasons that may skip a test in continuous integration, and why. `--expect-skip` adds to them.
EXPECTED_SKIPS: dict[str, str] = {
    "needs an NVIDIA GPU": "continuous integration runs on CPUs",
    "SCIPY_ARRAY_API is not set": "scikit-learn checks arrays of other libraries only where scipy accepts them",
}


def pytest_addoption(parser):
    parser.addoption("--fail-on-skip", action="store_true", help="fail tests that are skipped unexpectedly")
    parser.addoption(
        "--expect-skip",
        action="append",
        default=[],
        metavar="REASON",
        help="beginning of a reason that may skip tests in spite of --fail-on-skip",
    )


class DeprecationHandler(logging.Handler):
    """Turns log messages about deprecations into warnings, which pytest's `filterwarnings` makes errors."""

    def emit(self, record: logging.LogRecord):
        message = record.getMessage()
        if record.levelno >= logging.WARNING and "deprecat" in message.lower():
            warnings.warn(f"{record.name}: {message}", FutureWarning, stacklevel=2)


def pytest_configure():
    for name in LOGGED_DEPRECATIONS:
        logging.getLogger(name).addHandler(DeprecationHandler())


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk():
    """No test takes the power away, so files need not be on the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def only_new_objects_are_collected():
    """`Trainer` collects garbage twice per training: leave out what imports made, which takes longer than training."""
    gc.collect()
    gc.freeze()


def fail_unexpected_skip(report, config):
    """Changes the report of an unexpected skip into that of a failure."""
    # expected failures (xfail) are reported as skipped too
    if not config.getoption("fail_on_skip") or not report.skipped or hasattr(report, "wasxfail"):
        return report
    path, line, message = report.longrepr
    reason = message.removeprefix("Skipped: ")
    if not reason.startswith((*EXPECTED_SKIPS, *config.getoption("expect_skip"))):
        report.outcome = "failed"
        report.longrepr = (
            f"{path}:{line}: skipped unexpectedly: {reason}\n"
            "Install what is missing. If the skip is right, add its reason to EXPECTED_SKIPS in tests/conftest.py."
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return fail_unexpected_skip((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return fail_unexpected_skip((yield), collector.config)
