"""What became of each layer is drawn: bars for a terminal, a picture for pages, words for both."""

from __future__ import annotations

import re
from typing import Any

from automl_sr.app.tabs.trial_panel import layers
from automl_sr.presentation.layer_chart import (
    MOST,
    is_compressed,
    layer_drawing,
    layer_rows,
    layer_words,
)

SCRIPT = "<script>alert('x')</script>"


def row(name: str, before: int, after: int, zeros: int = 0, bits: float | None = 32.0) -> Any:
    return {
        "name": name,
        "kind": "convolution",
        "parameters_before": before,
        "parameters": after,
        "weights": after,
        "zeros": zeros,
        "sparsity": zeros / max(1, after),
        "bits": bits,
        "bytes": None if bits is None else int(after * bits / 8),
    }


def table(*rows: Any) -> dict[str, Any]:
    other = {"parameters_before": 8, "parameters": 8}
    return {"layers": list(rows), "other": other, "reason": None}


PLAIN = table(row("head", 100, 100), row("body", 1000, 1000))
CUT = table(row("head", 100, 100), row("body", 1000, 500, zeros=250, bits=4), row("gone", 400, 0))


def test_a_model_as_it_was_is_said_in_a_line_and_not_drawn() -> None:
    assert not is_compressed(PLAIN)
    words = "1,108 parameters in 2 layers, 32 bits a weight on average"
    assert layer_words(PLAIN) == words
    assert layers(PLAIN) == f"<p><b>Layers</b>: {words}</p>"
    assert layers(None) == ""


def test_a_single_zero_is_no_pruning_and_fewer_bits_are_compression() -> None:
    assert not is_compressed(table(row("head", 1000, 1000, zeros=1)))
    assert not is_compressed(table(row("head", 1000, 1000, bits=None)))
    assert is_compressed(table(row("head", 1000, 1000, zeros=100)))
    assert is_compressed(table(row("head", 1000, 1000, bits=8)))
    assert is_compressed(table(row("head", 1000, 900)))


def test_bars_are_as_long_as_layers_were_and_show_what_is_left_and_zero() -> None:
    assert layer_rows(CUT) == [
        ["head", "██", "100, 32 bits"],
        ["body", "██████▒▒▒▒▒▒············", "500 of 1,000, 50 % zero, 4 bits"],
        ["gone", "··········", "0 of 400"],
    ]
    assert layer_words(CUT) == (
        "608 parameters in 3 layers, 1,508 before, 42 % of the weights are zero,"
        " 8.67 bits a weight on average"
    )


def test_the_drawing_has_the_same_lengths() -> None:
    drawn = str(layer_drawing(CUT))
    assert drawn.index(">gone</text>") < drawn.index(">head</text>"), "a legend above the bars"
    widths = {"was": [], "kept": [], "zero": []}  # type: ignore[var-annotated]
    for width, kind in re.findall(r'width="([\d.]+)" height="12" class="(\w+)"', drawn):
        widths[kind].append(float(width))
    for of_kind in widths.values():
        del of_kind[0]  # the legend's
    longest = widths["was"][1]
    assert [round(width / longest, 2) for width in widths["was"]] == [0.1, 1.0, 0.4]
    assert [round(width / longest, 2) for width in widths["kept"]] == [0.1, 0.25, 0.0]
    assert [round(width / longest, 2) for width in widths["zero"]] == [0.0, 0.25, 0.0]
    assert "1000 → 500, 50 % zero, 4 bits" in drawn


def test_of_a_long_net_the_largest_layers_are_shown_and_the_others_together() -> None:
    long = table(*(row(f"layer.{place}", place + 1, place, bits=8) for place in range(100)))
    shown = layer_rows(long)
    assert len(shown) == MOST
    assert [name for name, _, _ in shown[-2:]] == ["layer.99", f"{101 - MOST} more"]
    assert shown[-1][2] == "1,830 of 1,891, 8 bits"


def test_names_of_layers_and_reasons_are_no_markup() -> None:
    assert SCRIPT not in str(layer_drawing(table(row(SCRIPT, 9, 3))))
    unread = {"layers": [], "other": {}, "reason": f"The stored file {SCRIPT} is gone."}
    assert SCRIPT not in layers(unread)
    assert "is gone." in layers(unread)
