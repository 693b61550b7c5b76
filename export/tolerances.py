"""How far two forms of one verifier may be apart, and why. Scores lie in [-1, 1]; a quantisation step is 1/128."""

# fp32 files against torch: the same sums in another order; 30 layers of rounding errors of 1e-7 each.
FP32_ATOL = 1e-4

# int8 files against the integer reference, (largest, mean) in steps of the output. A runtime that requantises in fp32
# rounds about one value in 200,000 to the other side (`toolkit parity --per-layer`: 4e-6 steps on average after the
# second layer), and a face has 100,000 values. How far that reaches depends on the person. Over 500 LFW view 1 faces
# for each of eight people: of whole faces at most 2 steps with LiteRT and 3 with ONNX Runtime, 0.02 to 0.07 on
# average, and twice that is allowed; of halves, within it, at most 3 steps, 0.06 to 0.10 and 0.08 to 0.13.
INT8_STEPS = {
    "litert": (6, 0.15),  # XNNPACK
    "onnxruntime": (6, 0.15),
    # Our own C code is the reference.
    "c": (0, 0.0),
    # tflite-runtime 2.14 computes int8 with TFLite's own kernels, not with XNNPACK; they round in another way. So
    # does LiteRT where XNNPACK does not start, but that is a defect of the place (`Verifier.remark`), not a tolerance.
    "tflite-runtime": (16, 4.0),
}

# int8 against fp32, in score units, over real faces: what quantisation itself costs.
INT8_MEAN_ERROR = 0.05
