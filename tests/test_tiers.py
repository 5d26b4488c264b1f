"""A run of tests is everyday's or CI's, and says at its end what it left out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from tiers import CI, COMMAND, EVERYDAY, EXAMPLES, examples

SUPPORT = Path(__file__).parent / "support"
MIXED = """
import pytest
from hypothesis import settings

def test_it_runs_always(request):
    assert settings.default.max_examples == {"everyday": 20, "ci": 100}[request.config.getoption("tier")]

@pytest.mark.ci
def test_it_runs_in_ci(): pass

@pytest.mark.parametrize("case", ["short", pytest.param("long", marks=pytest.mark.ci)])
def test_one_of_its_cases_runs_in_ci(case): pass
"""
OF_CI = """
import pytest

pytestmark = pytest.mark.ci

def test_it_runs_in_ci_as_its_module_does(): pass

@pytest.mark.everyday
def test_it_runs_always_all_the_same(): pass
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases, of which three run always."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    ci: is CI's\n    everyday: runs always\n"
    )
    (folder / "test_mixed.py").write_text(MIXED)
    (folder / "test_of_ci.py").write_text(OF_CI)
    return folder


def outcome(suite: Path, *arguments: str) -> list[str]:
    """Give the last lines of a run: what was left out, if anything was, and the counts."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tiers", "-p", "no:cacheprovider", "-q", *arguments],
        cwd=suite,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED), done.stdout + done.stderr
    found = [
        line
        for line in done.stdout.splitlines()
        if re.match(r"left out|\d+ passed|no tests ran", line)
    ]
    return [re.sub(r"(, \d deselected)? in .*", "", line) for line in found]


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["alone", "under xdist"])
def test_a_run_leaves_out_what_is_of_ci_and_says_so_once(suite: Path, processes: list[str]) -> None:
    assert outcome(suite, *processes) == [f"left out: 3 tests of CI's tier ({COMMAND})", "3 passed"]


def test_in_ci_everything_runs(suite: Path) -> None:
    assert outcome(suite, "--tier", "ci") == ["6 passed"]


def test_what_nobody_asked_for_is_not_left_out(suite: Path) -> None:
    assert outcome(suite, "-k", "always") == ["2 passed"]
    assert outcome(suite, "-k", "test_it_runs_in_ci and not module") == [
        f"left out: 1 test of CI's tier ({COMMAND})"
    ]


def test_a_test_draws_its_share_of_examples_every_day_and_never_less_than_five() -> None:
    share = settings.default.max_examples / EXAMPLES[CI]
    assert examples(200).max_examples == 200 * share
    assert examples(20).max_examples == max(5, 20 * share)
    assert EXAMPLES[EVERYDAY] < EXAMPLES[CI]
