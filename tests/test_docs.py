"""What can be used is documented: hooks, stages, the api, commands, study files and every
technique.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from automl_sr import api
from automl_sr.cli import api_page
from automl_sr.cli.help_page import helps, page
from automl_sr.cli.main import make_app
from automl_sr.errors import PROGRAM
from automl_sr.plugin import hookspecs
from automl_sr.plugin.registry import Registry, installed
from automl_sr.plugin.technique import Technique
from automl_sr.study.spec import StudySpec
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.training.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLUGINS_PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
STUDIES_PAGE = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("register_"))
NOT_STAGES = {"dump", "title"}
STAGES = sorted(
    name
    for name, value in vars(Technique).items()
    if inspect.isfunction(value) and not name.startswith("_")
)
YEAR = re.compile(r"\b(19|20)\d\d\b")


def code(text: str) -> set[str]:
    """Give the words that a Markdown text sets as code outside of blocks."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {word for span in spans for word in re.findall(r"[\w-]+", span)}


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_on_the_page_for_plugin_authors(hook: str) -> None:
    assert hook in code(PLUGINS_PAGE)


@pytest.mark.parametrize("stage", sorted(set(STAGES) - NOT_STAGES))
def test_every_stage_is_on_the_page_for_plugin_authors(stage: str) -> None:
    assert stage in code(PLUGINS_PAGE)


@pytest.mark.parametrize("name", api.__all__)
def test_every_name_of_the_api_is_on_the_page_for_plugin_authors(name: str) -> None:
    assert name in code(PLUGINS_PAGE)


def test_the_page_for_plugin_authors_names_only_stages_and_hooks_that_exist() -> None:
    """A renamed method leaves no trace there."""
    table = re.findall(r"^\| `([a-z_]+)(?:\(\w*\))?` \|", PLUGINS_PAGE, flags=re.MULTILINE)
    assert set(table) == {*HOOKS, *STAGES} - NOT_STAGES


@pytest.mark.parametrize(
    "key",
    [*StudySpec.model_fields, *ImageSR.model_fields, *Recipe.model_fields],
    ids=lambda key: f"key {key}",
)
def test_every_key_of_a_study_file_is_on_its_page(key: str) -> None:
    assert key in code(STUDIES_PAGE)


def commands() -> list[str]:
    """Name all commands, with those of groups as two words."""
    group: Any = typer.main.get_command(make_app())
    return [path.removeprefix(f"{PROGRAM} ") for path, _ in helps(group) if path != PROGRAM]


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_table_of_the_readme(command: str) -> None:
    table = [line for line in README.splitlines() if line.startswith("| `")]
    assert any(re.search(rf"`{re.escape(command)}[ `]", line) for line in table)


def test_the_table_of_the_readme_names_only_commands_that_exist() -> None:
    table = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `")]
    named = {span for cell in table for span in re.findall(r"`([a-z-]+)", cell)}
    assert named == {command.split()[0] for command in commands()}


def test_the_page_of_commands_is_what_the_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write it anew with `python -m automl_sr.cli.help_page > docs/cli.md`."""
    pinned = re.search(
        r"^typer==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert pinned is not None
    if version("typer") != pinned[1]:
        pytest.skip(
            f"typer {version('typer')} words its help in another way than the pinned {pinned[1]}"
        )
    for name in [name for name in os.environ if name.startswith("AUTOML_SR_")]:
        monkeypatch.delenv(name)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page()


def test_the_page_of_the_api_is_what_the_code_says() -> None:
    """Write it anew with `python -m automl_sr.cli.api_page > docs/api.md`."""
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == api_page.page()


def techniques() -> list[type[Technique]]:
    """List what this project registers itself, whatever else is installed."""
    registry: Registry = installed()
    classes = [cls for known in registry.techniques.values() for cls in known.values()]
    return [
        cls for cls in classes if cls.__module__.split(".")[0] in ("automl_sr", "automl_sr_plugins")
    ]


def label(cls: type[Technique]) -> str:
    return f"{cls.slot}.{cls.name}"


@pytest.mark.parametrize("cls", techniques(), ids=label)
def test_every_technique_says_what_it_does_and_where_that_comes_from(cls: type[Technique]) -> None:
    """One sentence in a line of its own, then a source with its year."""
    sentence, _, rest = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert YEAR.search(rest), f"{cls.__name__} needs a source: authors, title, venue, year"


def card_of(cls: type[Technique]) -> str:
    """Read the method card of a family."""
    family = cls.__module__.split(".")[1]
    path = ROOT / "plugins" / "automl_sr_plugins" / family / "README.md"
    assert path.is_file(), f"write the method card {path.relative_to(ROOT)}"
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "cls",
    [cls for cls in techniques() if cls.__module__.startswith("automl_sr_plugins")],
    ids=label,
)
def test_every_technique_and_field_is_on_the_card_of_its_family(cls: type[Technique]) -> None:
    words = code(card_of(cls))
    assert cls.name in words
    assert set(cls.model_fields) <= words


def readme_commands() -> list[str]:
    """Give the lines of the README's first block: the two commands that a newcomer runs."""
    block = re.search(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    assert block is not None
    return block[1].splitlines()


def test_the_readme_begins_with_what_it_is_for_and_two_commands() -> None:
    about = README.split("\n\n")[1]
    assert len(about.splitlines()) == 5
    assert len(readme_commands()) == 2
    assert README.index("```bash") < README.index("## ")


@pytest.mark.parametrize("line", readme_commands(), ids=["run", "test"])
def test_each_command_of_the_readme_sets_itself_up_from_a_fresh_clone(line: str) -> None:
    """A new environment, the pinned versions, then programs of that environment and files of the
    checkout.
    """
    steps = [shlex.split(step) for step in line.split("&&")]
    environment = steps[0][-1]
    assert steps[0] == ["python3", "-m", "venv", environment]
    assert steps[1][0] == f"{environment}/bin/pip"
    assert steps[1][steps[1].index("-c") + 1] == "constraints.txt"
    program = next(word for word in steps[2] if "=" not in word)
    assert program.startswith(f"{environment}/bin/")
    files = [word for word in steps[1] + steps[2] if word.endswith((".yaml", ".txt"))]
    assert all((ROOT / name).is_file() for name in files), files


def test_the_tests_of_the_readme_run_in_continuous_integration_with_all_others() -> None:
    tests = readme_commands()[1].split("/bin/")[-1]
    assert f"{tests} --tier ci" in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        *[f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))],
    ],
)
def test_links_lead_to_files(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_the_page_of_the_architecture_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:automl_sr|plugins|tests|docs)/[\w./-]+|[\w-]+\.toml)`", page)
    inside = re.findall(r"`((?:trial|search|training|store|space|plugin|tasks)/[\w./-]*)`", page)
    paths = [ROOT / name for name in named] + [ROOT / "automl_sr" / name for name in inside]
    assert len(paths) > 20
    assert [str(path) for path in paths if not path.exists()] == []


def test_the_study_file_of_the_readme_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names installed techniques, fields in their limits, and sets that need no download."""
    from automl_sr.data.catalog import Catalog
    from automl_sr.study.spec import parse_study

    text = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert text is not None
    monkeypatch.delenv("AUTOML_SR_DATA", raising=False)
    task = parse_study(text[1], "README.md", installed()).spec.task
    assert isinstance(task, ImageSR)
    assert all(Catalog.from_environment().find(name).hr for name in (*task.train, *task.valid))
