"""From a weight vector θ to files that run: ONNX, TFLite, their proof of equality, and the signed-off bundle."""
