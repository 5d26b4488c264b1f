"""ONNX operators in the words in which papers draw them."""

from __future__ import annotations

PASSED = frozenset(
    {"Identity", "Cast", "CastLike", "Dropout", "QuantizeLinear", "DequantizeLinear"}
    | {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Pad"}
)
"""What moves or stores values and computes nothing: it is not drawn."""

ACTIVATIONS = {
    "Relu": "ReLU",
    "PRelu": "PReLU",
    "LeakyRelu": "LeakyReLU",
    "ThresholdedRelu": "thresholded ReLU",
    "Clip": "clip",
    "Elu": "ELU",
    "Celu": "CELU",
    "Selu": "SELU",
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Swish": "SiLU",
    "Mish": "Mish",
    "HardSigmoid": "hard sigmoid",
    "HardSwish": "hard swish",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "LogSoftmax": "log softmax",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "BatchNormalization": "BatchNorm",
    "InstanceNormalization": "InstanceNorm",
    "GroupNormalization": "GroupNorm",
    "LayerNormalization": "LayerNorm",
    "RMSNormalization": "RMSNorm",
    "Neg": "negated",
    "Abs": "absolute value",
    "Sqrt": "square root",
    "Reciprocal": "1/x",
}
"""What works on each value by itself or on a map at once: it is written behind what it reads."""

SIGNS = {"Add": "+", "Sub": "−", "Mul": "×", "Div": "÷"}
"""What joins two maps of one size."""

RECURRENT = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "RNN"}

PLAIN = {
    "Concat": "concat",
    "Split": "split",
    "Roll": "roll",
    "MatMul": "matmul",
    "Einsum": "einsum",
    "MaxPool": "max pool",
    "AveragePool": "average pool",
    "GlobalAveragePool": "global average",
    "GlobalMaxPool": "global maximum",
    "ReduceMean": "mean",
    "ReduceMax": "maximum",
    "ReduceSum": "sum",
    "GridSample": "grid sample",
    "Tile": "repeat",
    "Gather": "gather",
    "Slice": "slice",
    "Max": "maximum",
    "Min": "minimum",
}

SIZES = frozenset({"Resize", "Upsample", "Clip", "Pow", "Slice", "Gather", "Tile", "Where"})
"""Operators whose constants are settings: nothing of them is learnt."""

SHUFFLES = {
    (0, 1, 4, 2, 5, 3): "pixel shuffle",
    (0, 1, 3, 5, 2, 4): "pixel unshuffle",
    (0, 2, 1, 3, 4): "channel shuffle",
}
"""Shuffles that an exporter wrote as reshaping, by the order of axes between."""

MODES = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
