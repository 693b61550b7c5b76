"""hyperverify: personal face verification on the edge. `toolkit` is the command-line face of it."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later reports what it runs, hashes of its weights included, to its makers unless this is set
# before its first import. A verifier's weights are a biometric template: nothing about them leaves this machine.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
