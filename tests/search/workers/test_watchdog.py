"""Trials that take too long or stand still are stopped, recorded and not waited for."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from automl_sr.search.workers import watchdog
from automl_sr.search.workers.watchdog import EXIT_HUNG, OverdueError, Watchdog

ROOT = Path(__file__).parents[3]

HUNG_IN_C = """
import ctypes, sys
from automl_sr.search.workers.watchdog import Watchdog

def evaluate_net():
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)  # waits for itself, and goes on waiting after a signal

def record(reason):
    with open(sys.argv[1], "w") as file:
        file.write(reason)

dog = Watchdog(None, 0.2, record, grace=0.05, last_grace=0.2, name="trial 7")
with dog.watching():
    dog.alive("evaluate")
    evaluate_net()
"""

BLOCKED = """
import itertools, os, select, signal, sys
from automl_sr.search.workers import watchdog
from automl_sr.search.workers.watchdog import OverdueError, Watchdog

watchdog.TICK = 0.05  # what a stop may cost at most
dog = Watchdog(1.0, None, print, grace=0.2) if sys.argv[1] == "limit" else Watchdog(None, 1.0, print)
try:
    with dog.watching():
        for look in itertools.count():
            print("look", look, flush=True)
            if look == 1:
                os.kill(os.getpid(), signal.SIGSTOP)  # by itself: somebody else may come too late
            select.select([], [], [], 0.02)
except OverdueError:
    print("overdue", flush=True)
"""


def make(
    limit: float | None = None, stall: float | None = None, record: Any = None, **changes: Any
) -> Watchdog:
    def nothing(reason: str) -> None:
        pytest.fail(f"{reason} was recorded")

    times = {"grace": 0.1, "last_grace": 20.0, **changes}
    return Watchdog(limit, stall, record or nothing, **times)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Whatever happens, no thread and no handler stay behind."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    assert signal.getsignal(signal.SIGUSR1) is before
    assert not watchdogs()


def watchdogs() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "automl-sr watchdog"]


def overdue_in(dog: Watchdog, work: Callable[[], object]) -> OverdueError:
    """Do work that has to be ended."""

    def watched() -> None:
        with dog.watching():
            work()

    with pytest.raises(OverdueError) as stopped:
        watched()
    return stopped.value


def spin(seconds: float) -> None:
    """Run Python code, which any signal interrupts."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


# The first step: the trial is asked


def test_at_its_limit_a_trial_is_asked_to_stop_and_has_time_to() -> None:
    dog = make(limit=0.1, grace=20.0, minutes=5)
    with dog.watching():
        dog.alive("train")
        assert (dog.overdue(), dog.reason) == (False, "")
        while not dog.overdue():
            dog.alive()
    assert dog.reason == "it took longer than budget.trial_minutes (5) (stage train)"


def test_a_trial_whose_former_attempts_used_its_time_up_is_overdue_from_the_beginning() -> None:
    dog = make(limit=-60.0, grace=20.0, minutes=5)
    with dog.watching():
        while not dog.overdue():
            pass
    assert dog.reason == "it took longer than budget.trial_minutes (5) (before its first stage)"


def test_without_limits_nothing_is_watched() -> None:
    with make().watching():
        assert not watchdogs()


def test_progress_keeps_a_trial_going() -> None:
    dog = make(stall=0.3)
    with dog.watching():
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            dog.alive()
    assert not dog.overdue()


# The second step: an exception


def test_an_endless_loop_is_ended() -> None:
    dog = make(limit=0.1, minutes=5)

    def work() -> None:
        dog.alive("select")
        while True:
            dog.alive()

    assert str(overdue_in(dog, work)) == dog.reason
    assert (
        dog.reason
        == "it took longer than budget.trial_minutes (5) and did not stop for 0.1 s more (stage"
        " select)"
    )


def test_a_system_call_that_never_returns_is_ended() -> None:
    reading, writing = os.pipe()
    dog = make(stall=0.1)
    dog.alive("evaluate")
    overdue = overdue_in(dog, lambda: os.read(reading, 1))
    assert str(overdue) == "it made no progress for 0.1 s (stage evaluate): budget.stall_minutes"
    os.close(reading)
    os.close(writing)


def test_waiting_for_another_thread_for_ever_is_ended() -> None:
    overdue_in(make(stall=0.1), threading.Event().wait)


def test_a_technique_that_survives_its_own_errors_does_not_survive_this() -> None:
    survived = []

    def work() -> None:
        try:
            spin(60)
        except Exception as error:  # noqa: BLE001 - as some techniques do
            survived.append(error)

    overdue_in(make(stall=0.1), work)
    assert not survived


def test_a_technique_that_swallows_the_exception_is_asked_to_stop_and_gets_it_again() -> None:
    dog, asked = make(stall=0.1), []

    def work() -> None:
        while len(asked) < 2:
            with suppress(BaseException):
                spin(60)
            asked.append(dog.overdue())
        spin(60)

    overdue_in(dog, work)
    assert asked == [True, True]


def test_the_exception_is_not_repeated_while_it_is_handled() -> None:
    cleaned = []

    def work() -> None:
        try:
            spin(60)
        finally:
            spin(0.3)
            cleaned.append("everything")

    overdue_in(make(stall=0.05, grace=20.0), work)
    assert cleaned == ["everything"]


def test_other_users_of_the_signal_get_theirs() -> None:
    seen: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        with make(stall=20.0).watching():
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert seen == [signal.SIGUSR1] * 2


# Just in time


@pytest.fixture
def in_turns() -> Iterator[None]:
    """Threads change every few instructions, not every 5 ms."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("in_turns")
def test_nothing_is_raised_once_the_block_is_left() -> None:
    raised = 0
    for attempt in range(400):
        dog = make(limit=0.0, grace=0.001 * (attempt % 3), last_grace=20.0)
        try:
            with dog.watching():
                spin(0.00025 * (attempt % 16))
        except OverdueError:
            raised += 1
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL, (
            "a late signal would end the process"
        )
        spin(0.0005)
    assert 0 < raised < 400


def test_a_signal_at_any_instruction_of_entering_and_leaving_raises_nothing() -> None:
    """Between the last instruction of the block and the first after it, nothing may come up, nor be
    left undone.
    """
    instructions, strays = 1, 0
    former = signal.signal(
        signal.SIGUSR1, lambda *_: None
    )  # so that those outside do not end this process
    tracing = sys.gettrace()
    try:
        target = 0
        while target < instructions:
            dog = make(stall=20.0)
            dog._block._interrupted = True
            tracer = AtInstruction(target)
            sys.settrace(tracer)
            with dog.watching():
                strays += 1
            sys.settrace(tracing)
            assert not watchdogs()
            instructions, target = tracer.seen, target + 1
    finally:
        sys.settrace(tracing)
        signal.signal(signal.SIGUSR1, former)
    assert strays == target > 100


class AtInstruction:
    """Sends the signal before one instruction of what a block does when it is entered and left."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.seen = 0
        self._depth = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        edge = frame.f_code in (
            watchdog._Block.__enter__.__code__,
            watchdog._Block.__exit__.__code__,
        )
        if event == "call" and not (edge or self._depth):
            return None
        frame.f_trace_opcodes = True
        if event == "call":
            self._depth += 1
        elif event == "return":
            self._depth -= 1
        elif event == "opcode":
            if self.seen == self.target:
                signal.raise_signal(signal.SIGUSR1)
            self.seen += 1
        return self


# Imports are left to end

SLOW_MODULE = """
import builtins
import slow_inner
builtins.while_importing(slow_inner)
complete = True
"""


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module with another one below it, whose import takes as long as `while_importing` does."""
    (tmp_path / "slow_module.py").write_text(SLOW_MODULE)
    (tmp_path / "slow_inner.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("slow_module", "slow_inner"):
        sys.modules.pop(name, None)


def import_slow_module() -> Any:
    return importlib.import_module("slow_module")


@pytest.mark.usefixtures("slow_module")
def test_an_import_ends_before_the_exception_comes_and_leaves_a_whole_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dog = make(stall=0.05, last_grace=0.2)

    def long_enough(_: Any) -> None:
        while not dog._block.importing:
            pass
        spin(0.5)  # longer than anything but an import may take

    monkeypatch.setattr("builtins.while_importing", long_enough, raising=False)

    def work() -> None:
        import_slow_module()
        spin(60)

    overdue_in(dog, work)
    assert sys.modules["slow_module"].complete
    assert import_slow_module().complete, "the next trial finds it"


@pytest.mark.usefixtures("slow_module")
def test_a_search_that_is_started_by_an_import_is_watched_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def watched(_: Any) -> None:
        overdue_in(make(stall=0.05), lambda: spin(60))

    monkeypatch.setattr("builtins.while_importing", watched, raising=False)
    assert import_slow_module().complete


@pytest.mark.usefixtures("slow_module")
def test_an_import_that_never_ends_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[str] = []
    ended = threading.Event()
    monkeypatch.setattr(watchdog, "IMPORT_SECONDS", 0.2)
    dog = make(stall=0.05, record=recorded.append, last_grace=0.05, exit=lambda _: ended.set())
    monkeypatch.setattr("builtins.while_importing", lambda _: ended.wait(60), raising=False)
    overdue_in(dog, import_slow_module)
    assert "could not be interrupted, so the process was ended" in recorded[0]


# What a technique does to signals


def test_a_technique_that_blocks_the_signal_does_not_let_it_end_the_process_later() -> None:
    dog = make(stall=0.05, grace=0.02)
    with dog.watching():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        while signal.SIGUSR1 not in signal.sigpending():
            pass
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_technique_that_takes_the_signal_for_itself_does_not_keep_it() -> None:
    dog = make(stall=20.0)
    with dog.watching():
        signal.signal(signal.SIGUSR1, lambda *_: None)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


# The third step: the process ends


def test_a_trial_that_hangs_in_c_is_recorded_and_its_process_ends(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HUNG_IN_C, str(tmp_path / "row")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == EXIT_HUNG == 70
    reason = (
        "it made no progress for 0.2 s (stage evaluate): budget.stall_minutes; "
        "evaluate_net (<string>:8) could not be interrupted, so the process was ended"
    )
    assert (tmp_path / "row").read_text() == reason
    assert (
        ended.stderr
        == f"automl-sr: trial 7 hung: {reason}. That is recorded. The same command goes on with the"
        " study.\n"
    )


class InAThread:
    """A trial that hangs beside the main thread, where nothing can be raised, until its process
    would have ended.
    """

    def __init__(self, record: Callable[[str], object], **changes: Any) -> None:
        self.exits: list[int] = []
        self.ended = threading.Event()
        self.raised: OverdueError | None = None
        times = {"grace": 0.05, "last_grace": 0.05, **changes}
        self.dog = make(stall=0.05, record=record, exit=self._exit, **times)
        self.thread = threading.Thread(target=self._work)

    def _exit(self, code: int) -> None:
        self.exits.append(code)
        self.ended.set()

    def _work(self) -> None:
        try:
            with self.dog.watching():
                self.dog.alive("export")
                assert self.ended.wait(60)
        except OverdueError as overdue:
            self.raised = overdue

    def run(self) -> InAThread:
        self.thread.start()
        self.thread.join()
        return self


def test_beside_the_main_thread_the_process_ends_without_an_exception_before() -> None:
    recorded: list[str] = []
    trial = InAThread(recorded.append).run()
    assert trial.exits == [EXIT_HUNG]
    assert recorded == [trial.dog.reason]
    assert "(stage export): budget.stall_minutes; wait (threading.py:" in trial.dog.reason


@pytest.mark.parametrize("collecting", [True, False])
def test_nothing_is_collected_while_it_looks_where_a_trial_hangs(
    collecting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection there can stop the whole process for ever, and who had switched it off wants it
    off.
    """
    looked: list[bool] = []
    look = sys._current_frames

    def watched() -> dict[int, Any]:
        looked.append(gc.isenabled())
        return look()

    monkeypatch.setattr(sys, "_current_frames", watched)
    (gc.enable if collecting else gc.disable)()
    try:
        trial = InAThread(lambda _: None).run()
        after = gc.isenabled()
    finally:
        gc.enable()
    assert looked
    assert not any(looked)
    assert after is collecting
    assert "wait (threading.py:" in trial.dog.reason


@pytest.mark.parametrize(
    ("answer", "problem"),
    [("refuse", "ConnectionError: the store is gone"), ("hang", "no answer for 0.1 s")],
)
def test_the_process_ends_although_the_store_does_not_answer(
    capfd: pytest.CaptureFixture[str], answer: str, problem: str
) -> None:
    released = threading.Event()

    def record(_: str) -> None:
        if answer == "refuse":
            raise ConnectionError("the store\nis gone")
        released.wait()

    trial = InAThread(record, record_within=0.1 if answer == "hang" else 60.0).run()
    released.set()
    assert trial.exits == [EXIT_HUNG]
    assert f"could not be recorded ({problem}). The same command goes on" in capfd.readouterr().err


@pytest.mark.usefixtures("in_turns")
def test_a_trial_that_ends_at_the_last_moment_is_recorded_by_one_side_only() -> None:
    outcomes = set()
    for attempt in range(200):
        recorded: list[str] = []
        trial = InAThread(recorded.append, last_grace=0.001)
        trial.dog._stall = 0.0
        threading.Timer(0.0004 * (attempt % 8), trial.ended.set).start()
        trial.run()
        outcomes.add((len(recorded), len(trial.exits), trial.raised is not None))
    assert outcomes == {(0, 0, False), (1, 1, True)}


# What is counted


@pytest.mark.ci
@pytest.mark.parametrize("which", ["limit", "stall"])
def test_a_process_that_was_stopped_is_not_overdue_for_that(which: str) -> None:
    program = [sys.executable, "-c", BLOCKED, which]
    with subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as child:
        assert child.stdout
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        time.sleep(1.5)  # not for something: the passing of time is what is tested
        child.send_signal(signal.SIGCONT)
        said = child.stdout.read().decode().splitlines()
    looks = said.index("overdue") - said.index("look 1")
    assert looks >= 5, "it went on for what was left of its time before it was stopped again"
    assert child.returncode == 0


def test_work_that_keeps_the_watchdog_from_looking_counts_as_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "TICK", 0.01)
    dog = make(limit=0.3, grace=60.0)
    began = time.process_time()
    with dog.watching():
        while not dog.overdue():
            sum(range(3_000_000))  # one call that holds the interpreter's lock
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "0.25 s"), (60, "1 minute"), (90, "1.5 minutes")]
)
def test_times_are_written_for_people(seconds: float, words: str) -> None:
    assert watchdog._span(seconds) == words
