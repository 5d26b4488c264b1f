"""`automl-sr space`: what a study file lets be searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_sr.presentation.console import note, print_json, print_lines

if TYPE_CHECKING:
    from automl_sr.space.summary import Node


def space(
    study: Annotated[Path, typer.Argument(help="Study file.", metavar="STUDY.yaml")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the search space of a study file and how large it is.

    Fields stand below their techniques, with ranges and the conditions under which they are
    searched.

    \b
    Examples:
      automl-sr space studies/quickstart.yaml
      automl-sr space studies/quickstart.yaml --json
    """
    from automl_sr.plugin.registry import installed
    from automl_sr.space.search_space import SearchSpace
    from automl_sr.study.spec import load_study

    registry = installed()
    loaded = load_study(study, registry)
    resolved = SearchSpace(loaded.space_request, registry)
    count = resolved.count()
    for text in loaded.notes:
        note(f"note: {text}")
    if json:
        print_json(
            {
                "study": loaded.spec.name,
                "task": loaded.spec.task.kind,
                "discrete_choices": count.discrete,
                "discrete_choices_at_most": count.at_most,
                "continuous_dimensions": count.continuous,
                "trial_0": resolved.default_params(),
                "slots": [node.to_json() for node in resolved.tree()],
                "notes": list(loaded.notes),
            }
        )
        return
    lines = []
    for node in resolved.tree():
        lines.extend(drawn(node))
    besides = ""
    if count.continuous:
        besides = f", and {count.continuous} continuous dimensions besides"
    most = ""
    if count.at_most:
        most = "at most "
    print_lines(*lines, "", f"{most}{count.discrete:,} discrete choices{besides}")


def drawn(node: Node, indent: str = "") -> list[str]:
    """Return a node and what is below it, a line each."""
    mark = ""
    # Said of slots alone: what is below one that is not searched is not searched either.
    if node.kind == "slot" and not node.searched:
        mark = " (not searched)"
    about = ""
    if node.kind == "field":
        about = f": {node.detail}"
    elif node.detail:
        about = f"  ({node.detail})"
    condition = ""
    if node.condition:
        condition = f", if {node.condition}"
    lines = [f"{indent}{node.name}{mark}{about}{condition}"]
    for child in node.children:
        lines += drawn(child, indent + "  ")
    return lines
