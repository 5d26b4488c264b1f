"""The command line: one small module for each group of commands, and one place where errors become
exit codes.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Annotated, Any, cast

import typer

from automl_sr.cli.ending import leave, plain_hooks
from automl_sr.cli.quiet import DEBUG, debugging, quiet_libraries
from automl_sr.cli.results_command import ResultsCommand
from automl_sr.errors import PROGRAM, AutomlSRError, shortened
from automl_sr.plugin.blueprint import load
from automl_sr.plugin.foreign import detail_of, one_line, text_of
from automl_sr.presentation.console import (
    discard_results,
    flush_results,
    keep_secret,
    note,
    note_lines,
    release_results,
)

MOST_WORDS = 1500
"""Characters of an error: what it quotes may be as long as somebody has made it."""

COMMANDS: Mapping[str, str] = {
    "search": "automl_sr.cli.search:search",
    "worker": "automl_sr.cli.worker:worker",
    "studies": "automl_sr.cli.trials:studies",
    "trials": "automl_sr.cli.trials:trials",
    "show": "automl_sr.cli.trials:show",
    "compare": "automl_sr.cli.trials:compare",
    "refine": "automl_sr.cli.refine:refine",
    "fork": "automl_sr.cli.fork:fork",
    "replay": "automl_sr.cli.replay:replay",
    "report": "automl_sr.report.command:report",
    "app": "automl_sr.app.command:app",
    "export": "automl_sr.cli.export:export",
    "compress": "automl_sr.cli.compress:compress",
    "upscale": "automl_sr.cli.upscale:upscale",
    "evaluate": "automl_sr.cli.evaluate:evaluate",
    "gc": "automl_sr.cli.gc:gc",
    "data": "automl_sr.cli.data:app",
    "plugins": "automl_sr.cli.plugins:plugins",
    "space": "automl_sr.cli.space:space",
    "schema": "automl_sr.cli.schema:schema",
    "new-plugin": "automl_sr.cli.new_plugin:new_plugin",
}
"""By command, `module:function` (or the typer app of a group): the app and reports bring their own
commands along.
"""

ALONE = frozenset({"--version", "--install-completion", "--show-completion"})
"""Options that need no command, a plugin's neither."""

_USAGE = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""Click's UsageError: typer brings its own copy of click, or uses the installed one, depending on
its version.
"""

ABOUT = """Search for the best super-resolution model that fits a device: data, architecture,
training and compression.

\b
Examples:
  automl-sr search studies/quickstart.yaml
  automl-sr trials quickstart
  automl-sr plugins
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 failure, 2 bad use, 130 Ctrl-C, 143 SIGTERM.

    Without arguments this is the program itself, which ends afterwards, whatever code of plugins
    has left behind.
    """
    if arguments is None:
        plain_hooks()
        code = _coded(sys.argv[1:])
        return leave(code)
    try:
        return _coded(arguments)
    finally:
        release_results()


def _coded(given: Sequence[str]) -> int:
    """Run one command, and let no error out."""
    _die_by_exception()
    _write_anything()
    keep_secret(given)
    with quiet_libraries():
        return _exit_code(given)


def _exit_code(given: Sequence[str]) -> int:
    """Run a command, and tell the person what went wrong."""
    try:
        code = _run(list(given))
        flush_results()
    except BrokenPipeError:
        discard_results()
        return 1
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except SystemExit as end:
        return _ended_by(end, given)
    except AutomlSRError as error:
        return _report(str(error), error, error.exit_code)
    except BaseException as error:  # noqa: BLE001 - the last resort: one line for the person, the traceback on demand
        text = one_line(error)
        if not text_of(error):
            text = f"{text}: no further text"
        return _report(f"{text} (set {DEBUG}=1 to see where).", error, 1)
    return code


def _ended_by(end: SystemExit, given: Sequence[str]) -> int:
    """Return the exit code that something asked for: a signal, or code of a plugin, which makes no
    success of it.
    """
    if isinstance(end.code, int) and end.code != 0:
        return end.code
    if isinstance(end.code, str):
        return _report(end.code, end, 1)
    if _command_of(given) not in COMMANDS:
        return 0  # a plugin's command may end as it likes
    return _report(f"Code of a plugin ended the program (set {DEBUG}=1 to see where).", end, 1)


def _report(text: str, error: BaseException, code: int) -> int:
    if debugging():
        note_lines(detail_of(error))
    note(f"error: {shortened(' '.join(text.split()), MOST_WORDS)}")
    return code


def _command_of(arguments: Sequence[str]) -> str | None:
    return next((word for word in arguments if not word.startswith("-")), None)


def _run(arguments: list[str]) -> int:
    app = make_app()
    # Plugins are loaded only where one of their commands may be meant, or be missed in the help.
    if _command_of(arguments) not in COMMANDS and ALONE.isdisjoint(arguments):
        from automl_sr.plugin.registry import installed

        installed().add_commands(app)
    command = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except _USAGE as error:
        return _usage(error)
    except typer.Abort:  # what click makes of Ctrl-C
        raise KeyboardInterrupt from None
    if isinstance(result, int):
        return result
    return 0


def _usage(error: Any) -> int:
    """Put what is wrong with the arguments into one line, with the command that explains them."""
    context = error.ctx
    # A group without a command: its message is the whole help. Known by its name, for the same
    # reason as _USAGE.
    if type(error).__name__ == "NoArgsIsHelpError":
        note_lines(error.format_message())
        return 2
    path = PROGRAM
    if context is not None:
        path = context.command_path
    text = error.format_message()
    end = "."
    if text.endswith((".", "?", "!")):
        end = ""
    return _report(f"{text}{end} See `{path} --help`.", error, 2)


def make_app() -> typer.Typer:
    """Make the typer application with all commands of core; none of them imports anything heavy
    yet.
    """
    app = typer.Typer(
        name=PROGRAM,
        help=ABOUT,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name, place in COMMANDS.items():
        target = load(place)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name)
        else:
            app.command(name, cls=ResultsCommand)(target)
    return app


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from automl_sr import __version__

        sys.stdout.write(f"{PROGRAM} {__version__}\n")
    elif context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


_root.__doc__ = ABOUT


def _write_anything() -> None:
    """Let results be written in any encoding: what it lacks becomes an escape, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _die_by_exception() -> None:
    """Let SIGTERM unwind the stack, so that files and leases are given up properly."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> None:
    note("terminated")
    raise SystemExit(128 + number)
