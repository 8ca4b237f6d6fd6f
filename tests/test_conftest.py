"""The rules of `conftest.py`, tried on small suites."""

import gc
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

WARNINGS_ARE_ERRORS = ("-W", "error::DeprecationWarning", "-W", "error::FutureWarning")
SKIPPED = """
    import pytest

    @pytest.mark.skip(reason="needs a unicorn: buy one")
    def test_marked():
        pass

    def test_inside():
        pytest.importorskip("a_unicorn")

    @pytest.mark.xfail
    def test_expected_to_fail():
        assert False

    def test_run():
        pass
"""


@pytest.fixture
def suite(pytester):
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    return pytester


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_an_unexpected_skip_fails(suite, workers):
    suite.makepyfile(SKIPPED, test_module="import pytest\npytest.importorskip('another_unicorn')\n")
    options = [*workers, "--fail-on-skip", "--continue-on-collection-errors"]
    run = suite.runpytest(*options)
    run.assert_outcomes(passed=1, failed=1, errors=2, xfailed=1)
    run.stdout.fnmatch_lines(["*skipped unexpectedly: needs a unicorn: buy one"])
    run.stdout.fnmatch_lines(["*skipped unexpectedly: could not import 'another_unicorn'*"])


def test_expected_skips_stay_skips(suite):
    suite.makepyfile(SKIPPED)
    expected = ["--expect-skip", "needs a unicorn", "--expect-skip", "could not import 'a_unicorn'"]
    suite.runpytest("--fail-on-skip", *expected).assert_outcomes(passed=1, skipped=2, xfailed=1)
    suite.runpytest("--fail-on-skip", *expected[:2]).assert_outcomes(passed=1, skipped=1, failed=1, xfailed=1)


def test_skips_are_fine_unless_refused(suite):
    suite.makepyfile(SKIPPED)
    suite.runpytest().assert_outcomes(passed=1, skipped=2, xfailed=1)


def test_a_logged_deprecation_fails_its_test(suite):
    suite.makepyfile("""
        import logging

        def test_deprecated():
            logging.getLogger("transformers.trainer").warning("`x` is deprecated and will be removed")

        def test_other():
            logging.getLogger("transformers.trainer").warning("`x` is unused")
            logging.getLogger("mine").warning("`x` is deprecated")
    """)
    run = suite.runpytest(*WARNINGS_ARE_ERRORS)
    run.assert_outcomes(passed=1, failed=1)
    run.stdout.fnmatch_lines(["*FutureWarning: transformers.trainer: `x` is deprecated and will be removed"])


@pytest.mark.parametrize("category", ["DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"])
def test_this_suite_fails_on_deprecations(pytestconfig, category):
    assert f"error::{category}" in pytestconfig.getini("filterwarnings")


def test_garbage_collection_leaves_out_what_imports_made():
    assert gc.get_freeze_count() > 10 * len(gc.get_objects())
