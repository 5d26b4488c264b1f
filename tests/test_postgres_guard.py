"""A run of tests that is ended from outside leaves no PostgreSQL behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import has_ended, wait_until

ROOT = Path(__file__).parents[1]
WAITS = ROOT / "tests" / "support" / "waits_with_postgres.py"

pytestmark = pytest.mark.usefixtures("postgres")  # who cannot have one here is told so


@pytest.mark.parametrize(
    ("arguments", "struck", "number"),
    [
        pytest.param([], "pytest", signal.SIGTERM, id="pytest is terminated"),
        pytest.param([], "pytest", signal.SIGKILL, id="pytest is killed", marks=pytest.mark.ci),
        pytest.param(
            ["-n", "1"], "pytest", signal.SIGTERM, id="xdist is terminated", marks=pytest.mark.ci
        ),
        pytest.param(
            ["-n", "1"],
            "tester",
            signal.SIGTERM,
            id="its worker is terminated",
            marks=pytest.mark.ci,
        ),
    ],
)
def test_the_server_goes_with_its_tests(
    arguments: list[str], struck: str, number: int, tmp_path: Path
) -> None:
    place = tmp_path / "running.json"
    command = [sys.executable, "-m", "pytest", str(WAITS), "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "AUTOML_SR_TEST_PLACE": str(place)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        try:
            wait_until(lambda: place.exists() or run.poll() is not None, "its test runs")
            running: dict[str, Any] = json.loads(place.read_text())
            assert not has_ended(running["server"])
            os.kill({**running, "pytest": run.pid}[struck], number)
            wait_until(lambda: has_ended(running["server"]), "the server ends")
            wait_until(lambda: not Path(running["folder"]).exists(), "its folder is removed")
        finally:
            run.kill()
