"""Making a trained model small and shippable: ONNX export, int8 quantization and packed weights."""
