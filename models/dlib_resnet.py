"""dlib's face-recognition ResNet-29 as an ONNX model, its weights read from the .dat file without dlib.

Davis King's network (CC0-1.0 weights): RGB 150×150 in, 128 numbers out. All its raw vectors point roughly one way, so
cosines only tell people apart after the mean of a cohort is taken off; that mean is `weights/dlib_mean.json`, made by
`python -m models.dlib_resnet FACES…`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from device.alignment import TEMPLATE, similarity
from toolkit.errors import ArtifactError

MEAN_FILE = Path(__file__).parent / "weights" / "dlib_mean.json"
INPUT_PX = 150
CHANNEL_MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # of dlib's input layer, RGB
# Where eyes, nose tip and mouth corners lie in a 150-pixel chip of dlib (its mean face shape, padding 0.25).
CHIP_LANDMARKS = np.array([[47.6, 46.6], [100.5, 46.6], [74.0, 76.6], [50.4, 103.0], [97.6, 103.0]])
# (channels, blocks) of each level; the first block of every level but the first halves the picture.
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
SIDES = (35, 17, 8, 4, 2)  # height and width after each level


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """dlib's integers: a byte with the length (low bits) and the sign (high bit), then little-endian bytes."""
    head, length = data[at], data[at] & 0x0F
    value = int.from_bytes(data[at + 1 : at + 1 + length], "little")
    return (-value if head & 0x80 else value), at + 1 + length


def _tensor(data: bytes, at: int) -> np.ndarray:
    """A serialised tensor: version, four dimensions, float32 values."""
    numbers = []
    for _ in range(5):
        number, at = _integer(data, at)
        numbers.append(number)
    size = int(np.prod(numbers[1:]))
    if numbers[0] != 2 or not 0 < size <= 10_000_000 or at + 4 * size > len(data):
        raise ArtifactError("dlib's weight file has an unknown layout", got=numbers)
    return np.frombuffer(data, "<f4", size, at)


def read_dat(path: Path) -> list[np.ndarray]:
    """The parameter vectors in order: 29 times a convolution and its affine layer, then the last matrix."""
    data = path.read_bytes()
    vectors = [_tensor(data, m.end()) for m in re.finditer(rb"con_4|affine_", data)]
    last = re.search(rb"fc_2", data)
    if len(vectors) != 58 or last is None:
        raise ArtifactError(f"{path} is not dlib's face network", got=f"{len(vectors)} layers", expected=58)
    at = last.end()
    for _ in range(2):  # the numbers of outputs and of inputs stand before the tensor
        _, at = _integer(data, at)
    return [*vectors, _tensor(data, at)]


class _Graph:
    def __init__(self, vectors: list[np.ndarray]):
        self.vectors = iter(vectors)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.channels = 3

    def node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def tensor(self, value: np.ndarray) -> str:
        name = f"tensor_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def conv(self, x: str, out: int, kernel: int, stride: int) -> str:
        """A convolution with its affine layer folded in. dlib pads only at stride 1."""
        values, affine = next(self.vectors), next(self.vectors)
        weight = values[:-out].reshape(out, self.channels, kernel, kernel)
        gamma, beta = affine[:out], affine[out:]
        folded = self.tensor(weight * gamma[:, None, None, None])
        bias = self.tensor(values[-out:] * gamma + beta)
        self.channels = out
        pad = kernel // 2 if stride == 1 else 0
        return self.node("Conv", [x, folded, bias], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def block(self, x: str, out: int, down: bool, side: int) -> str:
        """Two convolutions beside a shortcut; smaller sides are filled up with zeros, as dlib's add_prev does."""
        before = self.channels
        y = self.node("Relu", [self.conv(x, out, 3, 2 if down else 1)])
        y = self.conv(y, out, 3, 1)
        if down:
            x = self.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
            x = self.pad(x, channels=out - before)
            if side in (4, 2):  # the convolution without padding came out one pixel short of the shortcut
                y = self.pad(y, pixels=1)
        return self.node("Relu", [self.node("Add", [x, y])])

    def pad(self, x: str, channels: int = 0, pixels: int = 0) -> str:
        if not channels and not pixels:
            return x
        amounts = np.array([0, 0, 0, 0, 0, channels, pixels, pixels], np.int64)
        return self.node("Pad", [x, self.tensor(amounts)])


def dlib_onnx(path: Path) -> onnx.ModelProto:
    """Input `image` float32 NCHW [N, 3, 150, 150] from `dlib_input`; output [N, 128], the cohort mean taken off."""
    g = _Graph(read_dat(path))
    x = g.node("Relu", [g.conv("image", 32, 7, 2)])
    x = g.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2])
    for level, ((channels, blocks), side) in enumerate(zip(LEVELS, SIDES, strict=True)):
        for block in range(blocks):
            x = g.block(x, channels, level > 0 and block == 0, side)
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x])])
    x = g.node("MatMul", [x, g.tensor(next(g.vectors).reshape(256, 128))])
    x = g.node("LpNormalization", [x], axis=1, p=2)
    g.nodes.append(helper.make_node("Sub", [x, g.tensor(_cohort_mean())], ["template"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes, "dlib_resnet",
        [value("image", TensorProto.FLOAT, ["batch", 3, INPUT_PX, INPUT_PX])],
        [value("template", TensorProto.FLOAT, ["batch", 128])], g.tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _cohort_mean() -> np.ndarray:
    if not MEAN_FILE.is_file():
        return np.zeros(128, np.float32)  # only while the mean itself is being computed
    return np.array(json.loads(MEAN_FILE.read_text())["mean"], np.float32)


def dlib_input(crops: np.ndarray) -> np.ndarray:
    """Aligned uint8 RGB crops [N, 112, 112, 3] to the network's input, the face moved to where dlib's chips have it."""
    import cv2

    matrix = similarity(TEMPLATE, CHIP_LANDMARKS)
    out = np.empty((len(crops), INPUT_PX, INPUT_PX, 3), np.float32)
    for row, crop in enumerate(crops):
        out[row] = cv2.warpAffine(crop, matrix, (INPUT_PX, INPUT_PX), borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(((out - CHANNEL_MEAN) / 256.0).transpose(0, 3, 1, 2))


def main(paths: list[str]) -> None:
    """Print the cohort mean of the training split of face files as the content of `weights/dlib_mean.json`."""
    from models.backbone import load_backbone
    from models.facedata import read_faces
    from models.facestream import face_files

    if MEAN_FILE.exists():
        sys.exit(f"move {MEAN_FILE} away first: the mean must be taken of vectors that are not centred yet")
    backbone = load_backbone("dlib", threads=2)
    rows = []
    for path in face_files([Path(p) for p in paths]):
        faces = read_faces(path)
        kept = [i for i, split in enumerate(faces.splits) if split != "val"]
        rows.append(backbone.embed(faces.crops()[kept]))  # never from the cache, which holds centred ones
    mean = np.concatenate(rows).mean(0)
    print(json.dumps({"faces": sum(map(len, rows)), "mean": [round(float(v), 6) for v in mean]}))


if __name__ == "__main__":
    main(sys.argv[1:])
