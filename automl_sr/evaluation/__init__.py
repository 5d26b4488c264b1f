"""Measuring: cost before training, and models as shipped (ONNX Runtime)."""
