"""Measuring: image quality, cost before training, models as shipped (ONNX Runtime) and tiled
upscaling.
"""
