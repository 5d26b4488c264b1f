"""What a trial imports, as far as it is known before.

An import inside a trial takes time of the trial's.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from automl_sr.plugin.blueprint import load
from automl_sr.plugin.foreign import contained
from automl_sr.plugin.technique import Technique

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from automl_sr.plugin.metric import Metric
    from automl_sr.space.plan import TrialPlan

# torch's compiler is 800 modules, which the first optimizer imports.
LATE = ("safetensors.torch", "torch._dynamo", "torch.onnx")
"""What training and exporting import when they need it."""


def import_for(plan: TrialPlan, metrics: Iterable[Metric], late: Iterable[str] = LATE) -> None:
    """Import what a trial of this plan needs.

    What cannot be imported the trial will find out, and say.
    """
    for name in late:
        contained(functools.partial(importlib.import_module, name))
    for technique in plan.techniques.values():
        for target in _named_by(technique):
            contained(functools.partial(load, target))
    for metric in metrics:
        contained(metric.function)


def _named_by(technique: Technique) -> Iterator[str | Callable[..., Any]]:
    """Go through what a technique, and those nested in it, name as `module:function`."""
    yield from technique.factories.values()
    for edit in technique.edits.values():
        yield edit.apply
    for name in type(technique).model_fields:
        value = getattr(technique, name)
        if isinstance(value, Technique):
            yield from _named_by(value)
