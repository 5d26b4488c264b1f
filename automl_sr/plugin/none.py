"""`none`: what a slot does that nothing fills.

Core brings it, so that no family has to, and no two can.
"""

from __future__ import annotations

from typing import ClassVar

from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.technique import Slot, Technique


class Nothing(Technique):
    """Leave everything as it is.

    The reference that every technique of the slot is compared with.
    """

    name = "none"
    baseline = True
    tasks: ClassVar[frozenset[str]] = frozenset({"*"})


class NoSelection(Nothing):
    """Train on everything.

    The reference that every core-set is compared with (Moser et al., ICANN 2024).
    """

    slot = Slot.SELECTION


class NoDistillation(Nothing):
    """Train on real samples.

    The reference of every distilled set (Wang et al., Dataset Distillation, arXiv:1811.10959,
    2018).
    """

    slot = Slot.DATASET_DISTILLATION


class NoTeacher(Nothing):
    """Learn from the data alone.

    The reference of every teacher (Hinton et al., Distilling the Knowledge in a Neural Network,
    2015).
    """

    slot = Slot.TEACHER


class NoPruning(Nothing):
    """Keep every weight.

    The dense net with which every pruned one is compared (Han et al., NeurIPS 2015).
    """

    slot = Slot.PRUNING


class NoQuantization(Nothing):
    """Ship float32 weights and activations.

    The reference of every quantization (Jacob et al., CVPR 2018).
    """

    slot = Slot.QUANTIZATION


class NoFederation(Nothing):
    """Train in one place.

    The reference of every federated training (McMahan et al., AISTATS 2017).
    """

    slot = Slot.FEDERATION


NAMED_IN_FINGERPRINTS = frozenset({Slot.SELECTION, Slot.QUANTIZATION})
"""Slots whose `none` counts for a plan's fingerprint: plans have named these two since the first
version.
"""


def says_nothing(technique: Technique) -> bool:
    """Return whether a plan means the same without this technique in it."""
    return isinstance(technique, Nothing) and technique.slot not in NAMED_IN_FINGERPRINTS


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register `none` for every slot but architecture and recipe, which something always fills."""
    return [NoSelection, NoDistillation, NoTeacher, NoPruning, NoQuantization, NoFederation]
