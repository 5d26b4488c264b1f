"""`automl-sr schema`: JSON Schema for editors, with everything that is installed."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from automl_sr.cli.main import main
from automl_sr.plugin.registry import installed
from automl_sr.search.output import OUTPUTS
from automl_sr.study.spec import load_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


@pytest.fixture
def schema(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["schema"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_is_a_json_schema_of_all_installed_techniques(
    schema: dict[str, dict[str, object]],
) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    for slot, known in installed().techniques.items():
        assert {f"{slot}.{name}" for name in known} <= set(schema["$defs"])
    assert "lr" in schema["$defs"]["recipe.recipe"]["properties"]


@pytest.mark.skipif(not STUDIES, reason="no study files in this checkout")
def test_the_study_files_that_come_along_are_valid_and_readable(schema: dict[str, object]) -> None:
    for path in STUDIES:
        assert load_study(path, installed()).spec.name
        jsonschema.Draft202012Validator(schema).validate(
            YAML(typ="safe", pure=True).load(path.read_text())
        )


@pytest.mark.parametrize("command", OUTPUTS)
def test_what_commands_print_has_a_schema(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--output", command]) == 0
    described = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(described)
    assert described["properties"]


def test_a_command_without_a_schema_is_told_with_those_that_have_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["schema", "--output", "trails"]) == 2
    assert "Did you mean 'trials'?" in capsys.readouterr().err
