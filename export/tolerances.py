"""How far two forms of one verifier may be apart, and why. Scores lie in [-1, 1]; a quantisation step is 1/128."""

# fp32 files against torch: the same sums in another order; 30 layers of rounding errors of 1e-7 each.
FP32_ATOL = 1e-4

# int8 files against the integer reference, (largest, mean) in steps of the output. A runtime that requantises in fp32
# rounds about one value in 200,000 to the other side (`toolkit parity --per-layer`: 4e-6 steps on average after the
# second layer), and a face has 100,000 values. How far that reaches depends on the person and on the picture. Verifiers
# of whole faces: over 500 LFW view 1 faces for each of eight people at most 2 steps with LiteRT, 3 with ONNX Runtime,
# 0.02 to 0.07 on average. Of halves, one person: 2 steps, 0.07 and 0.09; on 64 made-up pictures, which are what
# `toolkit parity` takes without faces, 3 steps, 0.17 and 0.22. Half as much again as the last, and twice the steps.
INT8_STEPS = {
    "litert": (6, 0.33),  # XNNPACK
    "onnxruntime": (6, 0.33),
    # Our own C code is the reference.
    "c": (0, 0.0),
    # tflite-runtime 2.14 computes int8 with TFLite's own kernels, not with XNNPACK; they round in another way. So
    # does LiteRT where XNNPACK does not start, but that is a defect of the place (`Verifier.remark`), not a tolerance.
    "tflite-runtime": (16, 4.0),
}

# int8 against fp32, in score units, over real faces: what quantisation itself costs.
INT8_MEAN_ERROR = 0.05
