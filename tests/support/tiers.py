"""Two tiers of tests: what runs every day, and what continuous integration runs besides.

A test that is marked `ci`, itself or with its module, runs with `--tier ci`, which runs everything.
A run without it leaves such tests out but for those that are marked `everyday`, tries fewer
examples where hypothesis draws them, and says at its end how many tests it left out.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

EVERYDAY, CI = "everyday", "ci"
COMMAND = f"python -m pytest -n 2 --tier {CI}"
EXAMPLES = {EVERYDAY: 20, CI: 100}
"""How many examples hypothesis draws for a test that says nothing about it."""
LEFT_OUT = pytest.StashKey[int]()
OUTPUT = "left_out"
"""Under which name a process of xdist reports what it left out."""


def examples(in_ci: int) -> settings:
    """Draw as many examples in CI's tier, and the everyday share of them otherwise."""
    return settings(max_examples=max(5, in_ci * settings.default.max_examples // EXAMPLES[CI]))


def tier_of(item: pytest.Item) -> str:
    """Give the tier that the marker says which is closest to a test."""
    return next(
        (mark.name for mark in item.iter_markers() if mark.name in (EVERYDAY, CI)), EVERYDAY
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the tier."""
    parser.addoption(
        "--tier",
        choices=[EVERYDAY, CI],
        default=EVERYDAY,
        help="which tests to run: ci runs all of them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose what hypothesis does before a test module is read."""
    # A busy machine makes single examples slow; pytest-timeout bounds whole tests instead.
    for tier, count in EXAMPLES.items():
        settings.register_profile(
            tier, settings.get_profile("default"), deadline=None, max_examples=count
        )
    settings.load_profile(config.getoption("tier"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is of CI's tier, once `-k` and others have chosen and all markers are
    there.
    """
    if config.getoption("tier") == CI:
        return
    left_out = [item for item in items if tier_of(item) == CI]
    config.stash[LEFT_OUT] = len(left_out)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if tier_of(item) == EVERYDAY]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints, where this one does not."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[OUTPUT] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of xdist left out: each collects all tests, so that one of them says
    enough.
    """
    output: dict[str, Any] = getattr(node, "workeroutput", {})  # a process that crashed has none
    if OUTPUT in output:
        node.config.stash[LEFT_OUT] = output[OUTPUT]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line what was left out."""
    count = config.stash.get(LEFT_OUT, 0)
    if count:
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(f"left out: {tests} of CI's tier ({COMMAND})")
