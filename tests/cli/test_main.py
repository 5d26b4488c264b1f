"""The command line as a whole: quick to start, one line for an error, exit codes that scripts can
rely on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import automl_sr
from automl_sr.cli import main as program
from automl_sr.errors import CheckpointError, StopRequestedError, StudyFileError
from automl_sr.presentation import console

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "gradio",
    "nni",
    "optuna",
    "onnx",
    "onnxruntime",
    "sqlalchemy",
    "skimage",
    "sklearn",
    "scipy",
    "pandas",
)


def environment(**extra: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "100", **extra}


def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "automl_sr", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**extra), check=False, timeout=60
    )


def python(code: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(**extra),
        check=False,
        timeout=60,
    )


class WithoutText(Exception):
    def __str__(self) -> str:
        raise ValueError


def failing(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command that raises."""

    def fails(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(program, "_run", fails)
    return program.main([])


# ---- start-up ----


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plugins"], ["plugins", "--json"], ["schema"], ["search", "--help"]]
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    code = f"""
import sys
from automl_sr.cli.main import main
code = main({arguments!r})
heavy = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"{{code}} {{heavy}}" if code or heavy else 0)
"""
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_command_of_core(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in program.COMMANDS:
        assert f"\n  {name} " in shown


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(program.COMMANDS))
def test_every_command_explains_itself_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: automl-sr {name}" in shown
    assert "Example" in shown or "Commands:" in shown


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"automl-sr {automl_sr.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    done = run(
        _AUTOML_SR_COMPLETE=f"complete_{shell}",
        COMP_WORDS="automl-sr new",
        COMP_CWORD="1",
        _TYPER_COMPLETE_ARGS="automl-sr new",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "new-plugin" in done.stdout


# ---- errors and exit codes ----


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (StudyFileError("tiny.yaml:7: no.", "Say yes."), 2, "error: tiny.yaml:7: no. Say yes.\n"),
        (CheckpointError("It is\ndamaged."), 1, "error: It is damaged.\n"),
        (StopRequestedError("Stopped.", signal_number=15), 143, "error: Stopped.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (SystemExit(143), 143, ""),
        (SystemExit("no more"), 1, "error: no more\n"),
        (
            GeneratorExit("odd"),
            1,
            "error: GeneratorExit: odd (set AUTOML_SR_DEBUG=1 to see where).\n",
        ),
        (
            WithoutText(),
            1,
            (
                "error: WithoutText: (its text cannot be made: ValueError) (set AUTOML_SR_DEBUG=1"
                " to see where).\n"
            ),
        ),
        (ValueError("odd"), 1, "error: ValueError: odd (set AUTOML_SR_DEBUG=1 to see where).\n"),
        (
            ZeroDivisionError(),
            1,
            "error: ZeroDivisionError: no further text (set AUTOML_SR_DEBUG=1 to see where).\n",
        ),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AUTOML_SR_DEBUG", raising=False)
    assert failing(error, monkeypatch) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", line)


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit()])
def test_a_plugin_that_ends_a_command_of_core_makes_no_success_of_it(
    error: SystemExit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(program, "_run", fails)
    assert program.main(["space", "study.yaml"]) == 1
    assert "error: Code of a plugin ended the program" in capsys.readouterr().err
    assert program.main(["a-command-of-a-plugin"]) == 0, "that may end as it likes"


def test_a_traceback_is_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOML_SR_DEBUG", "1")
    assert failing(ValueError("odd"), monkeypatch) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["upscal"],
            "error: No such command 'upscal'. Did you mean 'upscale'? See `automl-sr --help`.\n",
        ),
        (["space"], "error: Missing argument 'STUDY.yaml'. See `automl-sr space --help`.\n"),
        (["space", "--foo"], "error: No such option: --foo. See `automl-sr space --help`.\n"),
        (
            ["space", "nowhere/a.yaml"],
            (
                "error: There is no study file nowhere/a.yaml. The folder nowhere does not exist"
                " either.\n"
            ),
        ),
    ],
)
def test_bad_use_is_one_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", line)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_unwind_the_stack_and_give_their_exit_code(
    number: signal.Signals, code: int
) -> None:
    done = python(f"""
import os, signal, sys
from automl_sr.cli import main as program
def stopped(registry):
    try:
        os.kill(os.getpid(), {int(number)})
        signal.pause()
    finally:
        print("cleaned up")
import automl_sr.cli.plugins
automl_sr.cli.plugins.listing = stopped
sys.exit(program.main(["plugins"]))
""")
    assert done.returncode == code
    assert "cleaned up\n" in done.stderr
    assert done.stdout == "", "what others print is no result"
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_left_in_silence() -> None:
    command = f"{sys.executable} -m automl_sr schema | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.stdout == '{\n  "$sche'
    assert done.stderr == ""
    assert done.returncode in (0, 1)  # 0 where the pipe took everything before it was closed


def test_commands_of_plugins_are_listed_and_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Registry:
        def add_commands(self, app: typer.Typer) -> None:
            def hello() -> None:
                """Say hello."""
                console.print_text("hello")

            app.command("hello")(hello)

    monkeypatch.setattr("automl_sr.plugin.registry.installed", Registry)
    assert program.main(["--help"]) == 0
    assert "hello" in capsys.readouterr().out
    assert program.main(["hello"]) == 0
    assert capsys.readouterr().out == "hello\n"


# ---- the end of the program ----

LEFT_BEHIND = """
import atexit, sys, threading
from automl_sr.cli import ending, main as program
import automl_sr.cli.plugins
ending.PATIENCE_SECONDS = 0.2
def listing(registry):
    {left}
    return {{}}
automl_sr.cli.plugins.listing = listing
sys.argv = ["automl-sr", "plugins", "--json"]
sys.exit(program.main())
"""


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (
            "threading.Thread(target=threading.Event().wait, name='mine').start()",
            (
                "warning: threads that were left behind (mine) did not end within 0.2 s: the"
                " program ends without\n"
            ),
        ),
        (
            "atexit.register(threading.Event().wait)",
            "warning: an exit handler did not end within 0.2 s: the program ends without\n",
        ),
        ("atexit.register(print, 'good bye')", "good bye\n"),
        (
            "threading.Thread(target=int, args=['x'], name='mine').start()",
            "warning: mine ended with ValueError: invalid literal for int() with base 10: 'x'\n",
        ),
        ("threading.Thread(target=sys.exit).start()", ""),
    ],
)
def test_what_plugins_leave_behind_holds_nobody_up_and_spoils_no_result(
    left: str, said: str
) -> None:
    done = python(LEFT_BEHIND.format(left=left), AUTOML_SR_DEBUG="0")
    assert (done.returncode, done.stderr) == (0, said)
    assert json.loads(done.stdout) == {}


# ---- what is printed ----

PRINTING = """
import ctypes, os, sys
from automl_sr.cli import main as program
import automl_sr.cli.plugins
def listing(registry):
    print("by print")
    os.write(1, b"by number\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"by native code")
    libc.fflush(None)
    os.system("echo by a child")
    return {"found": 1}
automl_sr.cli.plugins.listing = listing
sys.argv = ["automl-sr", "plugins", "--json"]
sys.exit(program.main())
"""


def test_standard_output_is_for_results_alone() -> None:
    done = python(PRINTING)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"found": 1}
    said = ["by a child", "by native code", "by number", "by print"]
    assert sorted(done.stderr.splitlines()) == said


def test_without_standard_error_what_others_print_is_not_among_the_results() -> None:
    command = f"{sys.executable} -c '{PRINTING}' 2>&-"
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        check=False,
        timeout=60,
    )
    assert json.loads(done.stdout) == {"found": 1}


def test_json_stands_alone_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    value: dict[str, Any] = {
        "a": float("nan"), "b": [float("inf"), 1.5, True, None], "c": Path("x/y"), "d": frozenset({"q", "p"}),
        "e": np.float32(0.5), "f": np.float64("nan"), "g": np.arange(3), "h": ("ä", np.int64(3)), 4: {},
    }  # fmt: skip
    console.print_json(value)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert (
        " ".join(printed.out.split())
        == '{ "a": null, "b": [ null, 1.5, true, null ], "c": "x/y", "d": [ "p", "q" ], '
        '"e": 0.5, "f": null, "g": [ 0, 1, 2 ], "h": [ "ä", 3 ], "4": {} }'
    )


def test_tables_are_not_cut_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console.print_table(
        ("name", "value"), [["x" * 150, 31.23456], ["[b]y[/b]", None]], right=["value"]
    )
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "value"]
    assert first.split() == ["x" * 150, "31.23"]
    assert second.split() == ["[b]y[/b]", "-"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (25000, "25,000"),
        (12345.6, "12,346"),
        (0.000123456, "0.0001235"),
        (float("nan"), "-"),
        ("a", "a"),
    ],
)
def test_cells_are_short(value: Any, text: str) -> None:
    assert console.number(value) == text


def test_warnings_and_notes_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("a")
    console.warn("b")
    assert capsys.readouterr() == ("", "a\nwarning: b\n")
