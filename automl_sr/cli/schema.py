"""`automl-sr schema`: the JSON Schema of study files."""

from __future__ import annotations

from typing import Annotated

import typer

from automl_sr.presentation.console import print_json


def schema(
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output, as always")] = True,
) -> None:
    """Print the JSON Schema of study files, for editors.

    It knows every installed technique with its fields and ranges, so that an editor completes and checks them.

    \b
    Examples:
      automl-sr schema > study.schema.json
    Then begin a study file with:
      # yaml-language-server: $schema=study.schema.json
    """
    from automl_sr.plugin.registry import installed
    from automl_sr.study.schema import study_schema

    print_json(study_schema(installed()))
