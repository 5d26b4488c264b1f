"""The contract suites find what they are for, and nothing in a sound technique."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import faulty_techniques
import pytest
from faulty_techniques import Boastful, Swapping, Undocumented, Whimsical

from automl_sr.testing import TechniqueContract

HERE = Path(__file__).parent
# The suites of all faulty techniques run in one process, which a busy machine makes slow.
pytestmark = pytest.mark.timeout(300)
HEAVY = "test_declaring_it_imports_nothing_heavy"


def failures_of(report: Path, *chosen: str) -> dict[str, set[str]]:
    """Run the suites of faulty techniques and tasks; return the names of failed tests by class."""
    root = HERE.parents[1]
    support = HERE.parent / "support"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "plugins")])}
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(support / "faulty_techniques.py"),
        str(support / "faulty_tasks.py"),
        *chosen,
        f"--junitxml={report}",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        own = found.setdefault(case.attrib["classname"].rpartition(".")[2], set())
        if case.find("failure") is not None or case.find("error") is not None:
            own.add(case.attrib["name"].partition("[")[0])
    return found


@pytest.mark.ci
def test_a_sound_technique_passes_and_a_parameter_that_never_learns_is_found(
    tmp_path: Path,
) -> None:
    found = failures_of(tmp_path / "report.xml", "-k", "TestSound or TestIdleParameter")
    assert found["TestSound"] - {HEAVY} == set()
    assert "test_every_parameter_learns" in found["TestIdleParameter"]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Names of the failed tests (or of the error) by class."""
    return failures_of(tmp_path_factory.mktemp("report") / "report.xml")


@pytest.mark.ci
@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("TestSound", set()),
        ("TestSoundTask", set()),
        (
            "TestUnseeded",
            {"test_a_batch_depends_on_the_generator_alone", "test_calibration_inputs_fit_the_file"},
        ),
        ("TestOneSize", {"test_its_interface_names_what_the_file_takes_and_gives"}),
        ("TestSilent", {"test_a_file_alone_can_be_evaluated"}),
        ("TestChanging", {"test_it_loads_the_same_data_each_time"}),
        ("TestGreedy", {"test_quality_is_measured_on_the_file_and_the_same_each_time"}),
        ("TestIdleParameter", {"test_every_parameter_learns"}),
        ("TestEvenSizesOnly", {"test_it_takes_images_of_any_size"}),
        ("TestNoisyInEvaluation", {"test_it_takes_images_of_any_size"}),
        ("TestForgetful", {"test_it_goes_on_bit_for_bit_after_an_interruption"}),
        ("TestForgetfulAsStudiesTrain", {"test_it_goes_on_bit_for_bit_as_studies_train"}),
        ("TestForgetfulInAPhase", {"test_it_goes_on_bit_for_bit_after_an_interruption"}),
        ("TestForgetfulWhileIterating", {"test_its_samples_do_not_depend_on_an_interruption"}),
        ("TestDependable", set()),
        ("TestRestless", {"test_its_canonical_form_is_settled"}),
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


@pytest.mark.ci
def test_a_declaration_beside_an_import_of_torch_is_found(failures):
    techniques = {name for name in vars(faulty_techniques) if name.startswith("Test")}
    assert all(HEAVY in failures[suite] for suite in techniques - {"TestWrongDirection"})


def test_a_suite_without_a_technique_says_what_is_missing():
    class TestNothing(TechniqueContract):
        pass

    with pytest.raises(TypeError, match="TestNothing inherits a contract: set `technique"):
        TestNothing.technique_classes()


# ---- what is not tried, because it could find nothing ----

CHOOSING = "test_it_chooses_samples_that_can_be_trained_on"
PREDICTING = "test_what_it_predicts_of_the_cost_is_true"
LEARNING = {
    "test_every_parameter_learns",
    "test_it_goes_on_bit_for_bit_after_an_interruption",
    "test_it_goes_on_bit_for_bit_as_studies_train",
    "test_its_samples_do_not_depend_on_an_interruption",
}
SHIPPING = "test_its_file_gives_what_the_model_gives"


def stages_tested(suite: type[TechniqueContract]) -> set[str]:
    """Give the tests of a suite that are about stages."""
    names = {name for name, test in vars(TechniqueContract).items() if hasattr(test, "about")}
    return {name for name in names if getattr(suite, name) is not None}


@pytest.mark.parametrize(
    ("techniques", "expected"),
    [
        ([Undocumented], set()),
        ([Whimsical], {CHOOSING, *LEARNING}),
        ([Boastful], {PREDICTING}),
        ([Swapping], {SHIPPING, PREDICTING, "test_its_blueprint_describes_the_model"}),
        ([Boastful, Whimsical], {PREDICTING, CHOOSING, *LEARNING}),
    ],
)
def test_a_stage_is_tested_where_a_technique_has_one_of_its_own(techniques, expected):
    suite = type("TestSome", (TechniqueContract,), {"technique": techniques})
    assert stages_tested(suite) == expected
    assert suite.test_its_declaration_is_valid is not None


def test_of_several_techniques_those_are_tried_that_a_test_is_about():
    suite = type(
        "TestSome", (TechniqueContract,), {"technique": [Boastful, Whimsical, Undocumented]}
    )
    tried = {}
    for name in (CHOOSING, PREDICTING, "test_it_survives_json"):
        found = SimpleNamespace(function=getattr(suite, name), fixturenames=["configured", "trial"])
        found.parametrize = lambda _, cases, name=name, **more: tried.update(
            {name: [case.id for case in cases]}
        )
        suite().pytest_generate_tests(found)
    assert tried == {
        CHOOSING: ["whimsical-default"],
        PREDICTING: ["boastful-default"],
        "test_it_survives_json": ["boastful-default", "whimsical-default", "undocumented-default"],
    }


def test_a_suite_that_inherits_one_has_the_tests_of_its_own_technique():
    class TestNone(TechniqueContract):
        technique = Undocumented

    class TestMore(TestNone):
        technique = Whimsical

    assert stages_tested(TestNone) == set()
    assert CHOOSING in stages_tested(TestMore)
