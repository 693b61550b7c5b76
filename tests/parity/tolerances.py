"""How far two forms of one verifier may be apart, and why. Scores lie in [-1, 1]; a quantisation step is 1/128."""

# fp32 files against torch: the same sums in another order; 30 layers of rounding errors of 1e-7 each.
FP32_ATOL = 1e-4

# int8 files against the integer reference, (largest, mean) in steps of the output. How far single rounding differences
# reach depends on the trained weights: those of today use little of the range of the layer `features` (a standard
# deviation of two or three steps in most channels), so one step there is much. Measured, then rounded up.
INT8_STEPS = {
    # XNNPACK requantises in fp32 with round-half-even, the reference with 31 bits and round-half-up: single values
    # differ by one step where a sum falls on the edge between two, and few of them reach the score.
    "litert": (6, 0.5),
    # ONNX Runtime's leaky table has four of 256 entries one step lower; they are met all over the network.
    "onnxruntime": (13, 4.0),
    # Our own C code is the reference.
    "c": (0, 0.0),
    # tflite-runtime 2.14 carries an XNNPACK of 2023 that rounds its leaky kernel in another way.
    "tflite-runtime": (13, 4.0),
}

# int8 against fp32, in score units, over real faces: what quantisation itself costs.
INT8_MEAN_ERROR = 0.05
