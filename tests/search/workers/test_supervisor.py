"""Keeping workers alive: what happens when they end, die, hang, or are asked to stop.

The workers are tiny programs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from processes import has_ended, wait_until

from automl_sr.errors import AutomlSRError, Offer, StoreUnreachableError
from automl_sr.search.workers.supervisor import Patience, State, Supervisor

QUICK = Patience(pause=0.01, longest=0.02, look=0.02, deaths=3, silence=0.05, leave=0.05)
PRELUDE = """
import json, os, pathlib, signal, sys
folder = pathlib.Path(os.environ["FOLDER"])
me = os.environ["ME"]
attempt = sum(1 for path in folder.iterdir() if path.name.startswith(f"{me}."))
(folder / f"{me}.{attempt}").touch()
def say(note="", error="", **more):
    print(json.dumps({"note": note, "error": error, **more}), flush=True)
"""
UNTIL_ASKED = (
    "print('ready', file=sys.stderr, flush=True); sys.stdin.read(); print('checkpointed',"
    " file=sys.stderr)"
)


class LocalWorkers:
    """A supervisor of tiny programs, with what it said and what the store is to say."""

    def __init__(
        self,
        folder: Path,
        program: str,
        count: int = 2,
        look: Callable[[], State] = State,
        **patience: Any,
    ) -> None:
        self.said: list[str] = []
        self.seen: list[Mapping[int, str]] = []
        self.reactions: dict[str, Callable[[], None]] = {}
        self._look = look
        environments = [
            {**os.environ, "FOLDER": str(folder), "ME": str(number)}
            for number in range(1, count + 1)
        ]
        self.supervisor = Supervisor(
            [sys.executable, "-c", PRELUDE + program],
            environments,
            look=self.look,
            say=self.say,
            patience=Patience(**{**vars(QUICK), **patience}),
        )

    def look(self, names: Mapping[int, str]) -> State:
        self.seen.append(dict(names))
        return self._look()

    def say(self, text: str) -> None:
        self.said.append(text)
        self.reactions.get(text, lambda: None)()

    def run(self) -> Supervisor:
        self.supervisor.run()
        assert all(place.process is None for place in self.supervisor.places)
        return self.supervisor

    def pids(self) -> dict[str, int]:
        return {place.name: place.process.pid for place in self.supervisor.places if place.process}


def attempts(folder: Path, worker: int) -> int:
    return len(list(folder.glob(f"{worker}.*")))


def test_workers_that_end_are_done_and_the_last_note_counts(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, "say('The time is up.')")
    supervisor = crew.run()
    assert (supervisor.error, supervisor.note) == (None, "The time is up.")
    assert [attempts(tmp_path, worker) for worker in (1, 2)] == [1, 1]
    assert crew.said == []


def test_lines_on_standard_error_are_passed_on_under_the_workers_name(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, "print(f'hello from {me}', file=sys.stderr); say()")
    crew.run()
    assert sorted(crew.said) == ["worker 1: hello from 1", "worker 2: hello from 2"]


def test_the_store_is_looked_at_meanwhile_and_once_more_at_the_end(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, UNTIL_ASKED, count=1)

    def look() -> State:
        if "worker 1" in crew.seen[-1].values():
            crew.supervisor.stop.signal_number = signal.SIGTERM
        return State()

    crew._look = look
    crew.run()
    assert list(crew.seen[0].values()) == ["worker 1"]
    assert crew.seen[-1] == {}


@pytest.mark.parametrize(
    ("death", "how"),
    [
        ("sys.exit(7)", "ended with code 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"),
        ("say(error='Stopped.'); sys.exit(143)", "ended with code 143"),
        ("sys.exit(0)", "ended with code 0"),
        ("os._exit(0)", "ended with code 0"),
        ("print('error: odd', file=sys.stderr); os._exit(2)", "ended with code 2"),
    ],
)
def test_a_worker_that_dies_is_replaced_whatever_its_exit_code(
    tmp_path: Path, death: str, how: str
) -> None:
    crew = LocalWorkers(tmp_path, f"if me == '2' and attempt == 0: {death}\nsay()")
    assert crew.run().error is None
    assert [attempts(tmp_path, worker) for worker in (1, 2)] == [1, 2]
    assert crew.said[-1] == f"worker 2 {how}; another takes its place in 0.01 s"


def test_a_worker_that_dies_when_all_is_done_is_not_replaced(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, "sys.exit(9)", count=1, look=lambda: State(over=True))
    assert crew.run().error is None
    assert attempts(tmp_path, 1) == 1


def test_workers_that_die_again_and_again_stop_everything_with_their_last_line(
    tmp_path: Path,
) -> None:
    program = f"""
if me == '1':
    {UNTIL_ASKED}
else:
    print('error: no memory', file=sys.stderr)
    sys.exit(1)
"""
    crew = LocalWorkers(tmp_path, program)
    supervisor = crew.run()
    assert str(supervisor.error) == "worker 2 died 3 times in a row, at last with: error: no memory"
    assert [attempts(tmp_path, worker) for worker in (1, 2)] == [1, 3]
    pauses = [line.rpartition(" in ")[2] for line in crew.said if "takes its place" in line]
    assert pauses == ["0.01 s", "0.02 s"], "the pauses grow"


def test_deaths_do_not_add_up_while_trials_end(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, "attempt < 6 and sys.exit(1); say()", count=1)
    crew._look = lambda: State(ended=len(crew.seen))
    assert crew.run().error is None
    assert attempts(tmp_path, 1) == 7


def test_deaths_do_not_add_up_while_they_bring_a_trial_closer_to_failing(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, "attempt < 6 and os._exit(0); say()", count=1)
    crew._look = lambda: State(deaths=attempts(tmp_path, 1))
    assert crew.run().error is None
    assert attempts(tmp_path, 1) == 7


def test_what_the_store_tells_may_end_all_workers(tmp_path: Path) -> None:
    crew = LocalWorkers(
        tmp_path, UNTIL_ASKED, look=lambda: State(error=AutomlSRError("All trials fail."))
    )
    assert str(crew.run().error) == "All trials fail."


def test_bad_use_ends_all_workers_where_a_worker_says_so(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, "say(error='There is no study.'); sys.exit(2)")
    assert str(crew.run().error) == "There is no study."


@pytest.mark.parametrize(
    ("said", "offer"),
    [
        ({"words": "See:", "command": "trials a"}, Offer("See:", "trials a")),
        ({"words": "See:"}, None),
        ("trials a", None),
    ],
)
def test_the_command_that_a_workers_error_offers_is_kept_as_data(
    tmp_path: Path, said: object, offer: Offer | None
) -> None:
    crew = LocalWorkers(tmp_path, f"say(error='None.', offer={said!r}); sys.exit(1)", count=1)
    error = crew.run().error
    assert error is not None
    assert error.message == "None."
    assert error.offer == offer


def test_deaths_do_not_add_up_where_workers_lived_long(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, "attempt < 4 and sys.exit(1); say()", count=1, quick=0.0)
    assert crew.run().error is None
    assert attempts(tmp_path, 1) == 5


def test_an_error_that_ends_the_search_ends_all_workers(tmp_path: Path) -> None:
    program = f"""
if me == '1':
    {UNTIL_ASKED}
else:
    print("a line of some library")
    say(error="5 trials in a row failed with the same cause.")
    sys.exit(1)
"""
    crew = LocalWorkers(tmp_path, program)
    assert str(crew.run().error) == "5 trials in a row failed with the same cause."
    assert attempts(tmp_path, 2) == 1


def test_a_program_that_cannot_be_started_counts_as_a_death() -> None:
    said: list[str] = []
    supervisor = Supervisor(
        ["/no/such/program"], [{}], look=lambda _: State(), say=said.append, patience=QUICK
    )
    supervisor.run()
    assert "it cannot be started: No such file" in str(supervisor.error)
    assert len(said) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_workers_to_stop_and_waits_for_them(tmp_path: Path, number: int) -> None:
    crew = LocalWorkers(tmp_path, f"{UNTIL_ASKED}; sys.exit(143)", count=1)
    crew.reactions["worker 1: ready"] = lambda: os.kill(os.getpid(), number)
    supervisor = crew.run()
    assert (supervisor.stop.signal_number, supervisor.error) == (number, None)
    assert crew.said[-2:] == [
        "stopping: the workers checkpoint their trials (once more to quit at once)",
        "worker 1: checkpointed",
    ]
    assert attempts(tmp_path, 1) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "handlers are given back"


def test_a_ctrl_c_that_is_ignored_stays_so_here_and_in_the_workers_and_sigterm_stops_them(
    tmp_path: Path,
) -> None:
    """As in the background of a script, where shells ignore SIGINT for what they start."""
    program = (
        f"print(signal.getsignal(signal.SIGINT).name, file=sys.stderr, flush=True); {UNTIL_ASKED}"
    )
    crew = LocalWorkers(tmp_path, program, count=1)

    def both() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    crew.reactions["worker 1: ready"] = both
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        supervisor = crew.run()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)
    assert supervisor.stop.signal_number == signal.SIGTERM
    assert crew.said[0] == "worker 1: SIG_IGN"
    assert crew.said[-1] == "worker 1: checkpointed"


def test_a_second_signal_kills_the_workers_and_what_they_started(tmp_path: Path) -> None:
    program = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=sys.stderr, flush=True)
signal.pause()
"""
    crew = LocalWorkers(tmp_path, program, count=1)
    said = crew.say
    below: list[int] = []

    def say(text: str) -> None:
        said(text)
        if text.startswith("worker 1: "):
            below.append(int(text.rsplit(maxsplit=1)[-1]))
        os.kill(os.getpid(), signal.SIGINT)

    crew.supervisor._say = say
    assert crew.run().stop.signal_number == signal.SIGINT
    wait_until(lambda: has_ended(below[0]), "the process below the worker ends, too")


def test_ctrl_c_does_not_reach_the_workers_themselves(tmp_path: Path) -> None:
    crew = LocalWorkers(tmp_path, UNTIL_ASKED, count=1)
    groups: list[int] = []

    def ready() -> None:
        groups.append(os.getpgid(crew.pids()["worker 1"]))
        os.kill(os.getpid(), signal.SIGINT)

    crew.reactions["worker 1: ready"] = ready
    crew.run()
    assert groups != [os.getpgid(0)]


def test_a_worker_that_gives_no_sign_of_life_is_killed_and_replaced(tmp_path: Path) -> None:
    program = f"""
if attempt == 0:
    print('hangs', file=sys.stderr, flush=True)
    signal.pause()
{UNTIL_ASKED}
"""
    crew = LocalWorkers(tmp_path, program, count=1)
    stuck: set[int] = set()
    crew._look = lambda: State(stuck=frozenset(stuck))
    crew.reactions["worker 1: hangs"] = lambda: stuck.update(crew.pids().values())
    crew.reactions["worker 1: ready"] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    crew.run()
    assert crew.said[1:4] == [
        "worker 1 gives no sign of life: it is killed",
        "worker 1 was ended by SIGKILL; another takes its place in 0.01 s",
        "worker 1: ready",
    ]


def test_a_worker_that_does_not_end_when_all_is_done_is_killed(tmp_path: Path) -> None:
    crew = LocalWorkers(
        tmp_path, "signal.pause()", count=1, look=lambda: State(over=True, idle=True)
    )
    assert crew.run().error is None
    assert "worker 1 does not end: it is killed" in crew.said


def test_a_store_that_does_not_answer_is_waited_for_and_then_ends_everything(
    tmp_path: Path,
) -> None:
    answers = iter([State(), StoreUnreachableError("no answer"), State()])

    def look() -> State:
        answer = next(answers, StoreUnreachableError("it is gone"))
        if isinstance(answer, State):
            return answer
        raise answer

    supervisor = LocalWorkers(tmp_path, UNTIL_ASKED, count=1, look=look).run()
    assert isinstance(supervisor.error, StoreUnreachableError)
    assert str(supervisor.error) == "it is gone"


def test_workers_notice_that_their_supervisor_was_killed(tmp_path: Path) -> None:
    program = f"""
import sys
from automl_sr.search.workers.supervisor import State, Supervisor
child = '''{PRELUDE}
print(os.getpid(), file=sys.stderr, flush=True)
sys.stdin.read()
(folder / "asked").touch()
'''
Supervisor([sys.executable, "-c", child], [{{"FOLDER": {str(tmp_path)!r}, "ME": "1"}}],
           look=lambda _: State(), say=lambda text: print(text, flush=True)).run()
"""
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert parent.stdout
    pid = int(parent.stdout.readline().split()[-1])
    parent.kill()
    parent.wait()
    wait_until((tmp_path / "asked").exists, "the worker is asked to stop")
    wait_until(lambda: has_ended(pid), "the worker ends")
