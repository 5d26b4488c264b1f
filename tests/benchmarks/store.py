"""What it takes to claim and finish a trial that does nothing, beside plain Optuna with
`study.optimize`.

    python tests/benchmarks/store.py [--quick] [--only sqlite|postgresql] [--seconds 4] [--profile]

All sides draw the same numbers at random, with two objectives and after the same finished trials,
each in a database of its own. Ours is a whole `search`: claim, proposal, freezing, the gate (with
one net for all plans, so that it is built once; engine.py has the real ones), the result, and
telling Optuna. Optuna runs as it comes, and with our settings of the database. Workers are warm
when they are measured, and the sides take turns, round by round.

`ms` is wall-clock time over trials finished by all workers together, `cpu` the workers' processor
time for a trial: it holds on a busy machine, but lacks what a server does. Both are medians over
rounds. `sql` and `tx` count statements and transactions of a trial.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import itertools
import multiprocessing
import os
import pstats
import queue
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

ROOT = Path(__file__).parents[2]
for part in ("tests/support", "plugins", ""):
    sys.path.insert(0, str(ROOT / part))

import numpy as np  # noqa: E402 - the checkout has to be on the path first
import optuna  # noqa: E402
from optuna.distributions import FloatDistribution, distribution_to_json  # noqa: E402
from optuna.samplers import RandomSampler  # noqa: E402
from optuna.storages import RDBStorage, get_storage  # noqa: E402
from optuna.storages._rdb import models as theirs  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from search_world import FakeTask, Line  # noqa: E402
from sqlalchemy import Engine, delete, event, insert, text  # noqa: E402

from automl_sr.plugin.blueprint import Blueprint  # noqa: E402
from automl_sr.plugin.hookspecs import hookimpl  # noqa: E402
from automl_sr.plugin.registry import Registry, discover  # noqa: E402
from automl_sr.plugin.technique import Each, Float, Slot, Technique  # noqa: E402
from automl_sr.search.engine import Options, open_study, search  # noqa: E402
from automl_sr.search.optuna import sync  # noqa: E402
from automl_sr.search.optuna.samplers import quiet_optuna  # noqa: E402
from automl_sr.search.workers.callbacks import SearchCallback  # noqa: E402
from automl_sr.space.search_space import SearchSpace  # noqa: E402
from automl_sr.store import models as ours  # noqa: E402
from automl_sr.store.database import open_engine, optuna_storage, parse  # noqa: E402
from automl_sr.study.spec import LoadedStudy, parse_study  # noqa: E402
from automl_sr.training.recipe import Recipe  # noqa: E402
from automl_sr.trial.types import Outcome  # noqa: E402

STUDY = """
name: world
task: {{kind: fake}}
objectives: [score, params]
budget: {{trials: 1000000, steps: 1000}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  architecture: {{{technique}: {{}}}}
  recipe: {{lr: [0.001, 0.1], batch: 16, patch: 32, loss: l1, ema: 0.0}}
"""
OURS, SAME_SETTINGS, PLAIN = "automl-sr", "Optuna, our settings", "plain Optuna"
SIDES = (OURS, SAME_SETTINGS, PLAIN)
WARM_UP = 3
"""Trials of each worker before the first round: statements are compiled, and the net has passed the
gate.
"""


# The study


class Few(Technique):
    """Two fields; none of them changes the net."""

    slot = Slot.ARCHITECTURE
    name = "few"
    baseline = True
    tasks = frozenset({"fake"})
    factories: ClassVar = Line.factories
    gains: Annotated[tuple[float, ...], Each(Float(0.0, 1.0), count=2, max=2)] = (0.5,) * 2

    def blueprint(self, task: Any, ctx: Any) -> Blueprint:
        return Blueprint("line", {"width": 4})


class Many(Few):
    """Eleven fields."""

    name = "many"
    gains: Annotated[tuple[float, ...], Each(Float(0.0, 1.0), count=11, max=11)] = (0.5,) * 11


class _Plugin:
    __name__ = "benchmark"

    def __init__(self, technique: str) -> None:
        self.technique = {"few": Few, "many": Many}[technique]

    @hookimpl
    def register_techniques(self) -> list[Any]:
        return [self.technique, Recipe]

    @hookimpl
    def register_tasks(self) -> list[Any]:
        return [FakeTask]


def registry(technique: str) -> Registry:
    return discover(entry_points=(), plugins=[_Plugin(technique)])


def load(technique: str) -> LoadedStudy:
    return parse_study(STUDY.format(technique=technique), "store.yaml", registry(technique))


def ranges(technique: str) -> dict[str, FloatDistribution]:
    """Give what a trial draws, by stored name."""
    spec = load(technique).spec
    found = SearchSpace.resolve(spec.space, spec.task.kind, registry(technique)).parameters()
    return {name: item for name, item in found.items() if isinstance(item, FloatDistribution)}


# A trial that does nothing, on both sides


class Pace:
    """Holds a side after each of its rounds until it is told to go on."""

    def __init__(self, together: Callable[[], Any]) -> None:
        self.ends: queue.Queue[Round | BaseException] = queue.Queue()
        self._together = together
        self._go: queue.Queue[tuple[int, cProfile.Profile | None]] = queue.Queue()
        self._left, self._profile = WARM_UP, None
        self._began = clocks()

    def go(self, trials: int, profile: cProfile.Profile | None = None) -> None:
        self._go.put((trials, profile))

    def finished(self) -> None:
        """Count a trial; called by the side after each, in its own thread."""
        self._left -= 1
        if self._left == 0:
            ended = clocks()
            if self._profile is not None:
                self._profile.disable()
            self.ends.put(Round(self._began[0], ended[0], ended[1] - self._began[1]))
            self._left, self._profile = self._go.get()
            self._together()
            self._began = clocks()
            if self._profile is not None:
                self._profile.enable()


class Round(NamedTuple):
    """When a worker's round began and ended by a clock that all processes share, and its processor
    time.
    """

    began: float
    ended: float
    processor: float


def clocks() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


class _Ticker(SearchCallback):
    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def finished(self, number: int, result: Any, seconds: float) -> None:
        assert result.state == "complete", result
        self._pace.finished()


def run_nothing(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    return Outcome("complete", {"score": plan.params["recipe.lr"], "params": 1.0}, {}, {})


def run_ours(url: str, technique: str, folder: Path, pace: Pace) -> None:
    options = Options(store=url, artifacts=str(folder / "artifacts"))
    end = search(
        load(technique), registry(technique), options, run=run_nothing, callback=_Ticker(pace)
    )
    raise RuntimeError(f"the search ended: {end.error or end.note}")


def run_optuna(url: str, technique: str, pace: Pace, *, our_settings: bool) -> None:
    quiet_optuna()
    asked = ranges(technique)
    storage = (
        optuna_storage(open_engine(url, write=True)) if our_settings else RDBStorage(plain_url(url))
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        drawn = {
            name: trial.suggest_float(name, item.low, item.high, log=item.log)
            for name, item in asked.items()
        }
        return drawn["recipe.lr"], 1.0

    study = optuna.load_study(
        study_name="world", storage=get_storage(storage), sampler=RandomSampler(seed=os.getpid())
    )
    study.optimize(objective, callbacks=[lambda *_: pace.finished()])


def plain_url(url: str) -> str:
    return parse(url).render_as_string(hide_password=False)


# What is there already


def write_history(url: str, technique: str, folder: Path, count: int, *, side: str) -> None:
    """Make the study with finished trials: as many rows as trials write, but in bulk."""
    engine = open_engine(url, write=True)
    if side == OURS:
        opened = open_study(
            load(technique), registry(technique), Options(url, str(folder / "artifacts"))
        )
        plan = opened.space.suggest(_Middle()).to_json()
        _write_ours(engine, opened.record.id, plan, count)
        opened.store.close()
    else:
        optuna.create_study(
            study_name="world", storage=optuna_storage(engine), directions=["maximize", "minimize"]
        )
    _write_theirs(engine, ranges(technique), count, slots=side == OURS)
    _settle_down(engine)
    engine.dispose()


class _Middle:
    """Stands for a trial: the lower end of each range."""

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[0]


def _write_ours(engine: Engine, study: int, plan: dict[str, Any], count: int) -> None:
    row = {
        "study_id": study,
        "state": "complete",
        "plan": plan,
        "asked": {"params": plan["params"], "notes": {}},
        "values": {"score": 0.5, "params": 1.0},
        "costs": {"params": 1.0},
        "seconds": 0.01,
        "fence": 1,
        "started": 1.0,
        "finished": 2.0,
        "created": 1.0,
    }
    rows = [
        row | {"number": number, "slot": _slot(number), "fingerprint": uuid.uuid4().hex * 2}
        for number in range(count)
    ]
    with engine.begin() as connection:
        connection.execute(delete(ours.Trial))  # the baseline, which waits
        connection.execute(insert(ours.Trial), rows)


def _slot(number: int) -> str:
    return uuid.UUID(int=number).hex


def _write_theirs(
    engine: Engine, asked: dict[str, FloatDistribution], count: int, *, slots: bool
) -> None:
    drawn = np.random.default_rng(0)
    trials, params, values, notes = [], [], [], []
    written = {name: distribution_to_json(item) for name, item in asked.items()}
    for trial in range(1, count + 1):
        trials.append(
            {"trial_id": trial, "number": trial - 1, "study_id": 1, "state": TrialState.COMPLETE}
        )
        params += [
            {
                "trial_id": trial,
                "param_name": name,
                "param_value": value,
                "distribution_json": written[name],
            }
            for name, value in zip(
                asked, drawn.uniform(0.01, 0.1, len(asked)).tolist(), strict=True
            )
        ]
        values += [
            {"trial_id": trial, "objective": index, "value": 0.5 + index, "value_type": "FINITE"}
            for index in (0, 1)
        ]
        known = {sync.KEY_ATTRIBUTE: f'"{_slot(trial - 1)}"', sync.NUMBER_ATTRIBUTE: str(trial - 1)}
        notes += [
            {"trial_id": trial, "key": key, "value_json": value}
            for key, value in known.items()
            if slots
        ]
    with engine.begin() as connection:
        connection.execute(insert(theirs.TrialModel), trials)
        connection.execute(insert(theirs.TrialParamModel), params)
        connection.execute(insert(theirs.TrialValueModel), values)
        if notes:
            connection.execute(insert(theirs.TrialUserAttributeModel), notes)


def _settle_down(engine: Engine) -> None:
    """Let PostgreSQL do what it would have done while the trials came one by one, and let go of the
    database.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(
                text("SELECT setval('trials_trial_id_seq', (SELECT max(trial_id) FROM trials))")
            )
            connection.execute(text("VACUUM ANALYZE"))
            # a database in use cannot be copied
            others = "datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(
                text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            )


class Databases:
    """Databases with the same history, as many as are asked for."""

    def __init__(self, folder: Path, server: Any = None) -> None:
        self.folder = folder
        self._server = server
        self._templates: dict[tuple[str, str, int], str] = {}
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def copies(self, technique: str, count: int) -> Iterator[dict[str, str]]:
        """Give a database for each side, by URL."""
        made = {}
        for side in SIDES:
            kind = (OURS if side == OURS else PLAIN, technique, count)
            if kind not in self._templates:
                self._templates[kind] = self._new()
                write_history(self._templates[kind], technique, self.folder, count, side=kind[0])
            made[side] = self._new(like=self._templates[kind])
            if side == PLAIN and self._server is None:
                with contextlib.closing(sqlite3.connect(_path(made[side]))) as database:
                    database.execute("PRAGMA journal_mode=DELETE")  # as a file is that SQLite makes
        yield made
        if self._server is not None:
            for url in made.values():
                self._server.drop(url)

    def _new(self, like: str | None = None) -> str:
        if self._server is not None:
            return str(self._server.new_database(like))
        url = f"sqlite:///{self.folder}/{next(self._numbers)}.db"
        if like is not None:
            opened = [contextlib.closing(sqlite3.connect(_path(place))) for place in (like, url)]
            with opened[0] as source, opened[1] as copy:
                source.backup(copy)
        return url


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


# Worker processes


class Job(NamedTuple):
    """What the processes of one line of the table work on."""

    urls: dict[str, str]
    technique: str
    folder: Path


class Counts(NamedTuple):
    """Statements and transactions of a trial."""

    statements: float
    transactions: float


def serve(job: Job, together: Any, parent: Connection) -> None:
    """Let one worker of each side begin, then run a round of a side at each word of the parent."""
    paces = {side: Pace(together.wait) for side in job.urls}
    for side, pace in paces.items():
        threading.Thread(target=_work, args=(job, side, pace), daemon=True).start()
        parent.send(_end(pace))
    while True:
        side, trials, how = parent.recv()
        parent.send(
            {"time": _timed, "count": _counted, "profile": _profiled}[how](paces[side], trials)
        )


def _timed(pace: Pace, trials: int) -> Round | str:
    pace.go(trials)
    return _end(pace)


def _counted(pace: Pace, trials: int) -> Counts:
    """Count what all engines of this process do."""
    seen: Counter[str] = Counter()

    def statement(_connection: Any, _cursor: Any, words: str, *_: Any) -> None:
        seen["statements"] += not words.startswith("BEGIN")

    def end(_connection: Any) -> None:
        seen["transactions"] += 1

    listeners = [("before_cursor_execute", statement), ("commit", end), ("rollback", end)]
    for name, function in listeners:
        event.listen(Engine, name, function)
    _timed(pace, trials)
    for name, function in listeners:
        event.remove(Engine, name, function)
    return Counts(seen["statements"] / trials, seen["transactions"] / trials)


def _profiled(pace: Pace, trials: int) -> str:
    profile, written = cProfile.Profile(), io.StringIO()
    pace.go(trials, profile)
    _end(pace)
    pstats.Stats(profile, stream=written).sort_stats("cumulative").print_stats(60)
    return written.getvalue()


def _work(job: Job, side: str, pace: Pace) -> None:
    try:
        if side == OURS:
            run_ours(job.urls[side], job.technique, job.folder, pace)
        else:
            run_optuna(job.urls[side], job.technique, pace, our_settings=side == SAME_SETTINGS)
    except BaseException as error:  # noqa: BLE001 - Optuna with its own settings may fail here: that is a result
        pace.ends.put(error)


def _end(pace: Pace) -> Round | str:
    """Give a round, or in a few words why there is none."""
    end = pace.ends.get()
    return (
        end
        if isinstance(end, Round)
        else f"{type(end).__name__}: {' '.join(str(end.__cause__ or end).split())}"
    )


@contextlib.contextmanager
def _watched(how: str) -> Iterator[Counter[str]]:
    """Count what all engines of this process do, if that is asked: it takes time itself."""
    seen: Counter[str] = Counter()

    def statement(_connection: Any, _cursor: Any, words: str, *_: Any) -> None:
        seen["statements"] += not words.startswith("BEGIN")

    def end(_connection: Any) -> None:
        seen["transactions"] += 1

    listeners = (
        [("before_cursor_execute", statement), ("commit", end), ("rollback", end)]
        if how == "count"
        else []
    )
    for name, function in listeners:
        event.listen(Engine, name, function)
    yield seen
    for name, function in listeners:
        event.remove(Engine, name, function)


class LocalWorkers:
    """Worker processes for one line of the table."""

    def __init__(self, job: Job, workers: int) -> None:
        self.workers = workers
        context = multiprocessing.get_context("forkserver")
        together = context.Barrier(workers)
        self._pipes, self._processes = [], []
        for _ in range(workers):
            here, there = context.Pipe()
            self._pipes.append(here)
            self._processes.append(
                context.Process(target=serve, args=(job, together, there), daemon=True)
            )
        for process in self._processes:
            process.start()
        self.failures: dict[str, str] = {}
        for side in job.urls:
            self._note(side, self._answers())

    def round(self, side: str, trials: int, how: str = "time") -> list[Any] | None:
        """Let all workers finish so many trials each; nothing where the side has failed."""
        if side in self.failures:
            return None
        for pipe in self._pipes:
            pipe.send((side, trials, how))
        answers = self._answers()
        self._note(side, answers)
        return None if side in self.failures else answers

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def _answers(self) -> list[Any]:
        return [pipe.recv() for pipe in self._pipes]

    def _note(self, side: str, answers: list[Any]) -> None:
        failed = [answer for answer in answers if isinstance(answer, str)]
        if failed:
            self.failures[side] = failed[0]


# The table


class Case(NamedTuple):
    """One group of lines in the table."""

    database: str
    technique: str
    finished: int
    workers: int


CASES = (
    *[Case("sqlite", "few", finished, workers) for finished in (10, 1000) for workers in (1, 4)],
    Case("sqlite", "many", 1000, 1),
    *[
        Case("postgresql", "few", finished, workers)
        for finished in (10, 1000, 10_000)
        for workers in (1, 4, 16)
    ],
    Case("postgresql", "many", 1000, 1),
)
QUICK = (
    *[Case("sqlite", "few", 1000, workers) for workers in (1, 4)],
    Case("postgresql", "few", 1000, 1),
)
LEAST_ROUNDS = 3
EACH = {1: 10, 4: 5, 16: 2}
"""Trials of each worker in a round, by number of workers."""


def measure(case: Case, databases: Databases, seconds: float, *, profile: bool) -> None:
    """Measure one group of lines, as many rounds as fit into the time, and print them."""
    with databases.copies(case.technique, case.finished) as urls:
        crew = LocalWorkers(Job(urls, case.technique, databases.folder), case.workers)
        try:
            each = EACH[case.workers]
            found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
            end = time.monotonic() + seconds
            for number in itertools.count():
                if number >= LEAST_ROUNDS and time.monotonic() > end:
                    break
                turn = number % len(SIDES)
                for side in (*SIDES[turn:], *SIDES[:turn]):
                    ends = crew.round(side, each)
                    if ends:
                        found[side].append(_by_trial(ends, each))
            counts = {
                side: (crew.round(side, each, "count") or [None])[0]
                for side in SIDES
                if case.workers == 1
            }
            _print(case, found, counts, crew.failures)
            for side in SIDES if profile and case.workers == 1 else ():
                print(side, *(crew.round(side, 50, "profile") or []))
        finally:
            crew.end()


def _by_trial(ends: Sequence[Round], each: int) -> tuple[float, float]:
    """Give wall-clock and processor time in ms by finished trial."""
    trials = each * len(ends)
    wall = max(end.ended for end in ends) - min(end.began for end in ends)
    return 1000 * wall / trials, 1000 * sum(end.processor for end in ends) / trials


def _print(
    case: Case, found: dict[str, list[tuple[float, float]]], counts: Any, failures: dict[str, str]
) -> None:
    for side, times in found.items():
        where = (
            f"{case.database:10} {case.finished:8} {case.workers:7} {PARAMETERS[case.technique]:10}"
            f"  {side:20}"
        )
        if side in failures:
            print(f"{where} failed: {failures[side][:90]}")
            continue
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        seen = counts.get(side)
        shown = f"{seen.statements:5.1f} {seen.transactions:5.1f}" if seen else " " * 11
        ratios = "" if side == OURS or OURS in failures else _ratios(found[OURS], times)
        print(f"{where} {wall:7.2f} {cpu:7.2f} {shown} {ratios}", flush=True)


def _ratios(own: list[tuple[float, float]], others: list[tuple[float, float]]) -> str:
    """Compare round by round: what else the machine does is then nearly the same for both."""
    pairs = [
        (ours[0] / other[0], ours[1] / other[1]) for ours, other in zip(own, others, strict=True)
    ]
    return " ".join(f"{statistics.median(column):6.2f}" for column in zip(*pairs, strict=True))


PARAMETERS = {"few": 3, "many": 12}


def prepared() -> None:
    """Let worker processes begin with everything imported, so that no imports are measured."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    modules = [
        "torch",
        "torch.utils.flop_counter",
        "sympy",
        "search_world",
        "automl_sr.search.engine",
        "psycopg",
    ]
    multiprocessing.set_forkserver_preload(modules)


@contextlib.contextmanager
def database_kinds(folder: Path, kinds: Sequence[str]) -> Iterator[dict[str, Databases]]:
    """Give what makes databases, by kind; PostgreSQL is a server of our own, which does not wait
    for the disk.
    """
    with contextlib.ExitStack() as stack:
        made = {"sqlite": Databases(folder)} if "sqlite" in kinds else {}
        if "postgresql" in kinds:
            from postgres import running

            server = stack.enter_context(running())
            server.set("max_connections", "400")  # the sides are open at the same time
            server.restart()
            made["postgresql"] = Databases(folder, server)
        yield made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three cases, for a glance")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--seconds", type=float, default=4, help="for the rounds of each case")
    parser.add_argument(
        "--profile", action="store_true", help="where the time goes, with one worker"
    )
    asked = parser.parse_args()
    prepared()
    cases = [
        case for case in (QUICK if asked.quick else CASES) if asked.only in (None, case.database)
    ]
    print(f"{'':60}     a trial               ours / this")
    print(
        f"{'database':10} {'finished':>8} {'workers':>7} {'parameters':10}  {'side':20} "
        f"{'ms':>7} {'cpu':>7} {'sql':>5} {'tx':>5} {'ms':>6} {'cpu':>6}"
    )
    with (
        tempfile.TemporaryDirectory() as name,
        database_kinds(Path(name), {case.database for case in cases}) as kinds,
    ):
        for case in cases:
            measure(case, kinds[case.database], asked.seconds, profile=asked.profile)


if __name__ == "__main__":
    main()
