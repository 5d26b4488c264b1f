"""`automl-sr schema`: the JSON Schema of study files, and of what commands print."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from automl_sr.errors import UseError, nearest
from automl_sr.presentation.console import print_json


def schema(
    output: Annotated[
        str, typer.Option(help="The JSON that a command prints, instead", metavar="COMMAND")
    ] = "",
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output, as always")
    ] = True,
) -> None:
    """Print the JSON Schema of study files, for editors.

    It knows every installed technique with its fields and ranges, so that an editor completes and
    checks them.

    \b
    Examples:
      automl-sr schema > study.schema.json
      automl-sr schema --output trials
    Then begin a study file with:
      # yaml-language-server: $schema=study.schema.json
    """
    if output:
        print_json(_output_schema(output))
        return
    from automl_sr.plugin.registry import installed
    from automl_sr.study.schema import study_schema

    print_json(study_schema(installed()))


def _output_schema(command: str) -> dict[str, Any]:
    """Return the JSON Schema of what a command prints. Raises UseError for one without."""
    from automl_sr.search.output import OUTPUTS

    if command not in OUTPUTS:
        hint = nearest(command, OUTPUTS) or f"There are those of: {', '.join(OUTPUTS)}."
        raise UseError(f"There is no schema of what {command!r} prints.", hint)
    found = OUTPUTS[command].model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
