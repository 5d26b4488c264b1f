"""The contract suites find what they are for, and nothing in a sound technique."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from automl_sr.testing import TechniqueContract

HERE = Path(__file__).parent
HEAVY = "test_declaring_it_imports_nothing_heavy"


@pytest.fixture(scope="module")
def failures(tmp_path_factory) -> dict[str, set[str]]:
    """Names of the failed tests (or of the error) by class."""
    report = tmp_path_factory.mktemp("report") / "report.xml"
    root = HERE.parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "plugins")])}
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(HERE.parent / "support" / "faulty_techniques.py"),
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, f"--junitxml={report}"], cwd=root, env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        own = found.setdefault(case.attrib["classname"].rpartition(".")[2], set())
        if case.find("failure") is not None or case.find("error") is not None:
            own.add(case.attrib["name"].partition("[")[0])
    return found


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("TestSound", set()),
        ("TestIdleParameter", {"test_every_parameter_learns"}),
        ("TestEvenSizesOnly", {"test_it_takes_images_of_any_size"}),
        ("TestNoisyInEvaluation", {"test_it_takes_images_of_any_size"}),
        ("TestForgetful", {"test_it_goes_on_bit_for_bit_after_an_interruption"}),
        ("TestWhimsical", {"test_it_chooses_samples_that_can_be_trained_on"}),
        ("TestRepeating", {"test_it_chooses_samples_that_can_be_trained_on"}),
        ("TestBoastful", {"test_what_it_predicts_of_the_cost_is_true"}),
        ("TestSwapping", {"test_its_file_gives_what_the_model_gives"}),
        ("TestUndocumented", {"test_its_docstring_says_what_it_does_and_where_it_comes_from"}),
        (
            "TestUndeclarable",
            {"test_its_declaration_is_valid", "test_it_takes_every_corner_of_its_search_space"},
        ),
        ("TestWrongDirection", {"test_a_perfect_prediction_is_best_and_more_noise_is_worse"}),
    ],
)
def test_each_fault_is_found_by_the_test_that_is_about_it(failures, suite, expected):
    found = failures[suite] - {HEAVY}
    assert found == expected if not expected else expected <= found


def test_a_declaration_beside_an_import_of_torch_is_found(failures):
    assert all(HEAVY in found for suite, found in failures.items() if suite != "TestWrongDirection")


def test_a_suite_without_a_technique_says_what_is_missing():
    class TestNothing(TechniqueContract):
        pass

    with pytest.raises(TypeError, match="TestNothing inherits a contract: set `technique"):
        TestNothing.technique_classes()
