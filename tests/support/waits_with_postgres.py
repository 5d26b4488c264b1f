"""A test that has a PostgreSQL and never ends; `test_postgres_guard.py` runs it in processes that
it ends.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postgres import Server


def test_it_waits(postgres: Server) -> None:
    place = Path(os.environ["AUTOML_SR_TEST_PLACE"])
    half = place.with_suffix(".half")
    half.write_text(
        json.dumps({"tester": os.getpid(), "server": postgres.pid, "folder": str(postgres.folder)})
    )
    half.rename(place)
    signal.pause()
