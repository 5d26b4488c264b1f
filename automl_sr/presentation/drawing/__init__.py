"""The drawing of a net: what an ONNX file computes, laid out and written as SVG."""

from automl_sr.presentation.drawing.picture import Drawing, net_drawing, stored_drawing
from automl_sr.presentation.drawing.style import NET_STYLE

__all__ = ["NET_STYLE", "Drawing", "net_drawing", "stored_drawing"]
