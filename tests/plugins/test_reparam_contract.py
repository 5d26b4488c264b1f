"""Nets that are trained wide keep what core expects of any architecture, and ship folded."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from automl_sr.evaluation.cost import count_params
from automl_sr.plugin.blueprint import build
from automl_sr.testing import ArchitectureContract
from automl_sr.testing.tiny import TinyTrial
from automl_sr_plugins.reference import ECBSR, SESR, SPAN, PlainUSR
from automl_sr_plugins.reference.reparam import Wide


class WideNets(ArchitectureContract):
    """What nets have to keep that are trained in another form than they ship in."""

    steps = 6

    def test_what_the_gate_measures_is_what_ships(
        self, configured: Any, trained: Any, trial: TinyTrial
    ) -> None:
        finished, _ = trained
        context = trial.context(configured)
        wide = configured.blueprint(trial.task, context)
        smallest, largest = configured.shipped(wide, trial.task, context)
        assert finished.blueprint == smallest == largest
        assert not any(isinstance(part, Wide) for part in finished.module.modules())
        assert count_params(finished.module) < count_params(build(wide, trial.registry))


class TestSESR(WideNets):
    technique = SESR


@pytest.mark.ci
class TestECBSRAndSPAN(WideNets):
    technique = (ECBSR, SPAN)


@pytest.mark.ci
class TestPlainUSR(WideNets):
    technique = PlainUSR

    def inputs_of(self, task: Any) -> list[Tensor]:
        """Try images too that are smaller than the window of the attention."""
        usual = super().inputs_of(task)
        return [*usual, usual[0][:1, :, :1, :2]]
