"""ONNX Runtime as every network on the device is opened in it."""

from __future__ import annotations

from typing import Any


def onnx_session(model: bytes, threads: int = 1) -> Any:
    """An InferenceSession on the CPU. Raises ImportError, and whatever the runtime does of a model that is none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    # Without VNNI, int8 products are added in pairs whose sums saturate on x86, unless the runtime is told not to.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
