"""Workers of a real study that are killed, stopped and suspended at random, and a server that
restarts meanwhile.

    python tests/chaos.py --seconds 60 --trials 48 --database postgresql --restarts 2

Compares with an undisturbed run of the same study and says what happened. Leases are shortened to
two seconds, so that suspended workers lose theirs; checkpoints are written every 0.2 s, so that
short trials have some.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / part) for part in (".", "plugins", "tests/support")]

from photographs import write_photographs  # noqa: E402 - the checkout has to be on the path first

from automl_sr.errors import StoreError  # noqa: E402
from automl_sr.store.reading import Reader  # noqa: E402
from automl_sr.testing.tiny import DEVICE  # noqa: E402

if TYPE_CHECKING:
    from postgres import Server

STUDY = """
name: chaos
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid}}
objectives: [psnr_y, params]
budget: {{trials: {trials}, steps: {steps}}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{fsrcnn: {{d: [8, 16], s: 8, m: [1, 2]}}, espcn: {{}}}}
  recipe: {{lr: [1.0e-3, 4.0e-3], batch: 8, patch: 16, precision: fp32}}
"""
PROGRAM = """
import sys
from automl_sr.training import loop
loop.CHECKPOINT_SECONDS = 0.2
from automl_sr.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
LEASE_SECONDS = 2.0
SUSPENDED_SECONDS = (1.0, 6.0)
"""For so long a worker is suspended: for less or for more than its lease."""


@dataclass
class Chaos:
    """Workers, and what is done to them."""

    study: Path
    store: str
    seed: int = 0
    workers: list[subprocess.Popen[str]] = field(default_factory=list)
    waking: list[tuple[float, subprocess.Popen[str]]] = field(default_factory=list)
    done: collections.Counter[str] = field(default_factory=collections.Counter)
    words: list[str] = field(default_factory=list)
    """What workers said that ended with an error."""

    def disturb(self, seconds: float, count: int, server: Server | None, restarts: int) -> None:
        """Strike one of the workers each second for so long, once all work; then let them run to
        their end.
        """
        numbers = random.Random(self.seed)
        self.workers = [search(self.study, self.store) for _ in range(count)]
        while self.begun() < count:
            time.sleep(0.1)
            self.replace()
        began = time.monotonic()
        due = [began + seconds * (index + 1) / (restarts + 1) for index in range(restarts)]
        while time.monotonic() < began + seconds and not self.over():
            time.sleep(1.0)  # the beat of the blows, not a wait for anything
            self.strike(numbers)
            self.wake(time.monotonic())
            if due and server is not None and time.monotonic() >= due[0]:
                due.pop(0)
                server.restart("immediate" if len(due) % 2 else "fast")
                self.done["restarts"] += 1
            self.replace()
        self.wake(float("inf"))
        while not self.over():
            self.replace()
            self.workers[0].wait()

    def strike(self, numbers: random.Random) -> None:
        """Send one signal to one worker."""
        victim = numbers.choice(self.workers)
        number = numbers.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
        suspended = numbers.uniform(*SUSPENDED_SECONDS)
        if victim.poll() is not None or any(worker is victim for _, worker in self.waking):
            return
        victim.send_signal(number)
        self.done[signal.Signals(number).name] += 1
        if number == signal.SIGSTOP:
            self.waking.append((time.monotonic() + suspended, victim))

    def wake(self, until: float) -> None:
        """Let suspended workers go on whose time has come."""
        for at, worker in list(self.waking):
            if at <= until:
                worker.send_signal(signal.SIGCONT)
                self.waking.remove((at, worker))

    def begun(self) -> int:
        """Count the workers that have opened the study."""
        with contextlib.suppress(StoreError):
            return events(self.store)["worker"]
        return 0

    def over(self) -> bool:
        """Whether a worker has found that nothing is left to do."""
        return bool(self.workers) and all(worker.poll() == 0 for worker in self.workers)

    def replace(self) -> None:
        """Put another worker in the place of each that was killed or stopped."""
        for index, worker in enumerate(self.workers):
            if worker.poll() in (None, 0):
                continue
            if worker.returncode not in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
                assert worker.stderr
                self.words.append(f"{worker.returncode}: {worker.stderr.read()}")
            self.workers[index] = join(self.store)

    @contextlib.contextmanager
    def ended(self) -> Iterator[Chaos]:
        """Leave no worker behind."""
        try:
            yield self
        finally:
            for worker in self.workers:
                worker.kill()
                worker.communicate()


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start the command line with short leases, and checkpoints close to each other."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "plugins")),
        "AUTOML_SR_LEASE_SECONDS": str(LEASE_SECONDS),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_study(folder: Path, trials: int, steps: int = 200) -> Path:
    """Write photographs and a study of them."""
    write_photographs(folder)
    study = folder / "study.yaml"
    study.write_text(STUDY.format(folder=folder, trials=trials, steps=steps))
    return study


def search(study: Path, store: str) -> subprocess.Popen[str]:
    """Start a search; the files of each store go into a folder of their own."""
    files = study.parent / f"files-{sum(store.encode())}"
    return start(
        [
            "search",
            str(study),
            "--store",
            store,
            "--artifacts",
            str(files),
            "--device",
            DEVICE,
            "--quiet",
        ]
    )


def join(store: str) -> subprocess.Popen[str]:
    """Start a worker in the place of another one, as a supervisor does: it waits for a database
    that restarts.
    """
    return start(["worker", "chaos", "--attended", "--store", store, "--device", DEVICE, "--quiet"])


def search_alone(study: Path, store: str) -> None:
    """Run a study to its end, in one process."""
    process = search(study, store)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def results(store: str) -> list[tuple[Any, ...]]:
    """Give everything that must not depend on what happened: plans, values, files, curves."""
    opened = Reader.open(store)
    study = opened.study("chaos")
    return [
        (
            row.number,
            row.state,
            dict(row.plan or {}),
            dict(row.values),
            {kind: file.sha256 for kind, file in row.artifacts.items()},
            sorted((point.phase, point.step, point.loss) for point in opened.curve(row)),
        )
        for row in opened.trials(study)
    ]


def told(store: str) -> list[tuple[int, str, list[float]]]:
    """Give what Optuna knows, by our numbers; trials that a worker made that had lost its lease do
    not count.
    """
    import optuna

    from automl_sr.search.optuna.sync import NUMBER_ATTRIBUTE
    from automl_sr.store.database import optuna_storage
    from automl_sr.store.repository import Store

    trials = optuna.load_study(
        study_name="chaos", storage=optuna_storage(Store.open(store).engine)
    ).trials
    return sorted(
        (t.user_attrs[NUMBER_ATTRIBUTE], t.state.name, t.values)
        for t in trials
        if t.state.name != "FAIL"
    )


def events(store: str) -> collections.Counter[str]:
    """Count what happened to the study, by kind."""
    opened = Reader.open(store)
    return collections.Counter(event.kind for event in opened.events(opened.study("chaos")))


def run(study: Path, store: str, seconds: float, server: Server | None, restarts: int) -> Chaos:
    """Disturb four workers of a study, and see it through."""
    with Chaos(study, store).ended() as chaos:
        chaos.disturb(seconds, 4, server, restarts)
    return chaos


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--restarts", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder, server = Path(place), None
        store = f"sqlite:///{folder}/store.db"
        if asked.database == "postgresql":
            from postgres import running

            server = stack.enter_context(running())
            store = server.new_database()
        study, undisturbed = write_study(folder, asked.trials), f"sqlite:///{folder}/undisturbed.db"
        search_alone(study, undisturbed)
        began = time.monotonic()
        chaos = run(study, store, asked.seconds, server, asked.restarts)
        print(
            f"{asked.database}: {asked.trials} trials by 4 workers in"
            f" {time.monotonic() - began:.0f} s,"
        )
        print(
            f"of which {asked.seconds:g} s with a blow each second (or to the end of the study, if"
            " that came first)"
        )
        print(
            "blows:",
            dict(chaos.done),
            "| events:",
            dict(events(store)),
            "| errors of workers:",
            chaos.words,
        )
        print("equal to the undisturbed run:", results(store) == results(undisturbed))
        print("equal in Optuna's tables:", told(store) == told(undisturbed))


if __name__ == "__main__":
    main()
