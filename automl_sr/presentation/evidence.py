"""What a compression costs and saves, before and after, as rows and as a card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.numbers import number

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric

COLUMNS = ("metric", "before", "after", "change")
Rows = list[list[str]]


def evidence_rows(evidence: Mapping[str, Any], metrics: Mapping[str, Metric]) -> Rows:
    """Return a row for each value: name, before, after, change.

    Quality changes by a difference, what a model costs by a factor.
    """
    before = evidence["before"]
    after = evidence["after"]
    rows = []
    for name in dict.fromkeys([*before, *after]):
        was = before.get(name)
        now = after.get(name)
        metric = metrics.get(name)
        change = _change(was, now, by_factor=metric is None or metric.level != "quality")
        rows.append([_titled(name, metric), _shown(was, metric), _shown(now, metric), change])
    return rows


def card(evidence: Mapping[str, Any], metrics: Mapping[str, Metric]) -> str:
    """Return the model card of a compressed model."""
    origin = _items(evidence["model"])
    table = ["| metric | before | after | change |", "|---|---|---|---|"]
    for row in evidence_rows(evidence, metrics):
        table.append(f"| {' | '.join(row)} |")
    device = evidence["device"]
    height, width = device["input"]
    how = f"{device['provider']}, {device['threads']} thread(s), input {height}x{width}"
    training = {"steps": evidence["steps"], "seed": evidence["seed"]}
    hashes = {}
    for kind, digest in evidence["sha256"].items():
        hashes[kind] = f"sha256 {digest}"
    sections = [
        "# A compressed model",
        "Made by automl-sr of a finished one. `model.onnx` is the model as it was measured;"
        " `model.safetensors` holds its weights in float.",
        f"## The model that it was\n\n{origin}",
        f"## Evidence\n\nMeasured on the exported files (times: {how}).\n\n" + "\n".join(table),
        f"## Techniques\n\n{_items(evidence['plan'])}",
        f"## Training\n\n{_items(training)}",
        f"## Task and data\n\n{_items(evidence['task'])}",
        f"## Files\n\n{_items(hashes)}",
    ]
    return "\n\n".join(sections) + "\n"


def _items(values: Mapping[str, Any]) -> str:
    lines = []
    for name, value in values.items():
        shown = value
        if isinstance(value, list | tuple):
            shown = ", ".join(map(str, value))
        lines.append(f"- {name}: {shown}")
    return "\n".join(lines)


def _titled(name: str, metric: Metric | None) -> str:
    if metric is None or not metric.unit:
        return name
    return f"{name} ({metric.unit})"


def _shown(value: float | None, metric: Metric | None) -> str:
    """Return a value; whole ones, which are counts, with all their digits."""
    if value is not None and metric is not None and metric.unit == "dB":
        return f"{value:.2f}"  # as published tables have them
    if value is not None and float(value).is_integer() and abs(value) >= 1000:
        return number(int(value))
    return number(value)


def _change(was: float | None, now: float | None, *, by_factor: bool) -> str:
    if was is None or now is None:
        return "-"
    if not by_factor:
        return f"{now - was:+.4g}"
    if was == 0:
        return "-"
    return f"x {now / was:.3g}"
