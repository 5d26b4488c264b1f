"""The page of command-line help: `python -m automl_sr.cli.help_page > docs/cli.md` writes it
anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from automl_sr.cli.main import make_app
from automl_sr.errors import PROGRAM

WIDTH = 100
"""Characters a line, whatever the terminal: the page must not depend on who makes it."""

INTRODUCTION = """# Commands

Made by `python -m automl_sr.cli.help_page > docs/cli.md` from what the commands print; a test
compares the two.
"""


def page() -> str:
    """Put the help of the program and of every command, as `--help` prints it, into one Markdown
    page.
    """
    command = typer.main.get_command(make_app())
    return "\n".join([INTRODUCTION, *(_section(path, text) for path, text in helps(command))])


def helps(
    command: Any,
    name: str = PROGRAM,
    parent: Any = None,
) -> Iterator[tuple[str, str]]:
    """Yield the path and the help text of a command and of everything below it.

    They come in the order of `--help`.
    """
    context = command.context_class(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **command.context_settings,
    )
    yield context.command_path, command.get_help(context)
    if not hasattr(command, "list_commands"):  # no group
        return
    for below in command.list_commands(context):
        yield from helps(command.get_command(context, below), below, context)


def _section(path: str, text: str) -> str:
    # Without blanks at the end, which editors and git would complain of.
    lines = map(str.rstrip, text.strip().splitlines())
    joined = "\n".join(lines)
    return f"## {path}\n\n```text\n{joined}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
