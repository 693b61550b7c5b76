"""The file of the embedding network of a verifier's size (`models/embedding.py`), and its embeddings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, utils

from benchmarks.graph_count import Count, count_onnx
from device.runtimes import quiet_stderr
from export.onnx_writer import write_onnx
from models.spec import VerifierSpec
from toolkit.errors import ArtifactError, MissingError

SHIPPED = Path(__file__).parents[1] / "models" / "weights" / "embedding.onnx"


def write_embedding(spec: VerifierSpec, trunk: np.ndarray, about: dict[str, Any]) -> bytes:
    """ONNX of the folded trunk [T]: `image` float32 [1, 3, H, W], (pixel - 128) / 128, to `embedding` [1, F], length 1.

    `about` (how it was trained) travels in the file's metadata. Deterministic.
    """
    theta = np.concatenate([trunk, np.zeros(spec.params - len(trunk), np.float32)])
    whole = onnx.load_from_string(write_onnx(spec, theta, every_layer=True))
    last = whole.graph.output[-1]
    features = [1, int(np.prod([dim.dim_value for dim in last.type.tensor_type.shape.dim]))]
    model = utils.Extractor(whole).extract_model(["image"], [last.name])
    model.graph.node.append(helper.make_node("Flatten", [last.name], ["flat"]))
    model.graph.node.append(helper.make_node("LpNormalization", ["flat"], ["embedding"], axis=1, p=2))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, features))
    model.graph.name, model.producer_name = "embedding", "hyperverify"
    del model.metadata_props[:]
    helper.set_model_props(model, {"about": json.dumps(about, sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class TinyEmbedding:
    """`count` is per face; `about` is what the file says of its training."""

    session: Any
    input_px: int
    count: Count
    file_bytes: int
    about: dict[str, Any]

    def embed_one(self, crop: np.ndarray) -> np.ndarray:
        """uint8 RGB [H, W, 3] of `input_px` to a unit vector float32 [1, F]."""
        image = ((crop.astype(np.float32) - 128) / 128).transpose(2, 0, 1)[None]
        return np.asarray(self.session.run(None, {"image": image})[0], np.float32)

    def embed(self, crops: np.ndarray) -> np.ndarray:
        """uint8 RGB [N, H, W, 3] to float32 [N, F]."""
        return np.concatenate([self.embed_one(crop) for crop in crops])


def open_embedding(path: Path = SHIPPED) -> TinyEmbedding:
    """One thread. Raises MissingError, or ArtifactError for a file that `write_embedding` did not write."""
    import onnxruntime as ort

    if not path.is_file():
        do = "train one with `toolkit train --config configs/embedding.toml`"
        raise MissingError(f"no embedding network at {path}", do=do)
    data = path.read_bytes()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        with quiet_stderr():
            session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        about = json.loads(session.get_modelmeta().custom_metadata_map["about"])
        side = int(session.get_inputs()[0].shape[2])
        count = count_onnx(data)
    except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
        raise ArtifactError(f"{path} is not an embedding network", got=str(error).splitlines()[0]) from error
    return TinyEmbedding(session, side, count, len(data), about)
