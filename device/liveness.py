"""Is there a person, or a picture of one? What can be told without training data, and how little that is.

Passive: a screen's pixel grid and its moiré leave sharp peaks in the spectrum of a face, which skin has not. Prints and
good screens leave none. Active: "turn your head". The nose stands out of the plane of eyes and mouth, so its place
between them moves when a head turns and stays when a flat picture does; and a replayed video does not know which turns
are asked for, in which order. A plug-in network judges crops. See docs/device.md for what was tested, and on what.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.detector import Face
from device.onnx_session import onnx_session
from device.quality import pose
from toolkit.errors import ArtifactError, MissingError, UsageError

LIVE, ASKING, SPOOF = "live", "asking", "spoof"
PATCH_PX = 96
GRID_PEAK = 2.5  # natural log: photographs of faces reach 1.5, drawn screens begin at 3.7
TURN = 0.16  # yaw in eye distances beyond the resting one; about 15 degrees
REST = 0.07
NETWORK_FACES = 2.7  # side of the network's crop in face widths, as Silent-Face networks were trained on
WORDS = {1: "turn your head to your left", -1: "turn your head to your right", 0: "look at the camera"}

Judge = Callable[[np.ndarray, Face], bool]


@dataclass(frozen=True)
class LivenessSettings:
    passive: bool = True
    challenge: str = "off"
    steps: int = 2  # turns that are asked for: a replayed video meets them by chance once in 2 ** steps
    within_s: float = 8.0
    network: str = ""
    network_threshold: float = 0.5


def grid_peak(rgb: np.ndarray, face: Face) -> float:
    """How far the highest isolated peak of the face's spectrum stands above its neighbourhood, as a logarithm.

    uint8 RGB [H, W, 3] at the camera's own resolution: scaling would hide or invent a grid. 0 for faces too small.
    """
    import cv2

    x, y = round(face.x + face.width / 2 - PATCH_PX / 2), round(face.y + face.height / 2 - PATCH_PX / 2)
    patch = rgb[max(0, y) : y + PATCH_PX, max(0, x) : x + PATCH_PX]
    if x < 0 or y < 0 or patch.shape[:2] != (PATCH_PX, PATCH_PX) or face.width < PATCH_PX:
        return 0.0
    luma = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).astype(np.float32)
    window = np.hanning(PATCH_PX).astype(np.float32)
    spectrum = np.abs(np.fft.rfft2((luma - luma.mean()) * window[:, None] * window))
    level = np.log(np.fft.fftshift(spectrum, axes=0).astype(np.float32) + 1)
    # Around each frequency, the median of 9×9; without the slow changes that every face has, and the axes of edges.
    around = np.asarray(
        cv2.medianBlur(cv2.normalize(level, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8), 9), np.float32
    )
    around = around / 255 * (level.max() - level.min()) + level.min()
    fy, fx = np.meshgrid(np.fft.fftshift(np.fft.fftfreq(PATCH_PX)), np.fft.rfftfreq(PATCH_PX), indexing="ij")
    return float((level - around)[np.hypot(fx, fy) > 0.15].max(initial=0.0))


def shows_grid(rgb: np.ndarray, face: Face) -> bool:
    return grid_peak(rgb, face) > GRID_PEAK


class Challenge:
    """Turns asked for one after the other, each from rest; the order is drawn anew for everybody.

    A turn to the wrong side, or none within the time, ends it as a spoof.
    """

    def __init__(self, settings: LivenessSettings, time_s: float, turns: tuple[int, ...] | None = None):
        self._turns = list(turns or (secrets.choice((-1, 1)) for _ in range(settings.steps)))
        self._until_s = time_s + settings.within_s
        self._rest: float | None = None
        self.at_rest = False  # whether the face looks as it did when the challenge began
        self.state = ASKING

    @property
    def left(self) -> int:
        """Turns that have not been made yet."""
        return len(self._turns)

    @property
    def asked(self) -> int:
        """1: to the person's left, which is the picture's right; −1: to their right; 0: straight on."""
        return self._turns[0] if self.at_rest and self._turns else 0

    @property
    def words(self) -> str:
        return WORDS[self.asked]

    def update(self, face: Face, time_s: float) -> str:
        """One frame's face; LIVE, ASKING or SPOOF."""
        if self.state != ASKING:
            return self.state
        yaw, _ = pose(face.landmarks)
        if self._rest is None:
            self._rest = yaw
        turned = yaw - self._rest
        if abs(turned) < REST:
            self.at_rest = True
            if not self._turns:
                self.state = LIVE
        elif self.at_rest and self._turns and abs(turned) > TURN:
            self.at_rest = False
            if turned * self._turns.pop(0) < 0:
                self.state = SPOOF
        if self.state == ASKING and time_s > self._until_s:
            self.state = SPOOF
        return self.state


class Network:
    """A plug-in anti-spoofing network: float RGB 0..1, NCHW for ONNX or NHWC for TFLite, of its own size.

    Its last output of one value is the probability of an attack; of two or three, a softmax or
    its logits, whose second is "live".
    """

    def __init__(self, path: Path, threshold: float):
        self._threshold = threshold
        if path.suffix not in (".onnx", ".tflite"):
            raise UsageError(
                "the anti-spoofing network has an unknown format", got=path.name, expected=".onnx, .tflite"
            )
        if not path.is_file():
            raise MissingError(f"there is no anti-spoofing network at {path}", do="correct [liveness] network")
        try:
            self._run, self._side = (_onnx if path.suffix == ".onnx" else _tflite)(path.read_bytes())
        except ImportError as error:
            raise MissingError(f"{path.name} needs {error.name}", do="install that runtime") from error
        except Exception as error:  # each runtime has exceptions of its own
            raise ArtifactError(f"{path} cannot be loaded", got=str(error).splitlines()[0][:200]) from error

    def __call__(self, rgb: np.ndarray, face: Face) -> bool:
        """Whether this looks like an attack."""
        import cv2

        scale = self._side / (NETWORK_FACES * max(face.width, face.height))
        x, y = face.x + face.width / 2, face.y + face.height / 2
        matrix = np.array([[scale, 0, self._side / 2 - scale * x], [0, scale, self._side / 2 - scale * y]])
        crop = cv2.warpAffine(rgb, matrix, (self._side, self._side), borderMode=cv2.BORDER_REPLICATE)
        return attack_probability(self._run(np.asarray(crop, np.float32)[None] / 255).ravel()) > self._threshold


def attack_probability(output: np.ndarray) -> float:
    """From a network's last output: one probability of an attack, or of two or three classes the second is "live"."""
    if len(output) == 1:
        return float(output[0])
    if output.min() < 0 or abs(output.sum() - 1) > 1e-3:  # logits: the softmax was left to whoever uses it
        output = np.exp(output - output.max())
        output = output / output.sum()
    return float(1 - output[1])


def _onnx(model: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    session = onnx_session(model)
    source = session.get_inputs()[0]
    run = lambda x: session.run(None, {source.name: np.ascontiguousarray(x.transpose(0, 3, 1, 2))})[-1]  # noqa: E731
    return run, int(source.shape[2])


def _tflite(model: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[-1]["index"]

    def run(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result))

    return run, int(source["shape"][1])


class Liveness:
    """What a session asks: does this frame look like an attack, and a new challenge where one is wanted."""

    def __init__(self, settings: LivenessSettings):
        self.settings = settings
        self._judges: list[Judge] = [shows_grid] if settings.passive else []
        if settings.network:
            self._judges.append(Network(Path(settings.network), settings.network_threshold))

    def suspects(self, rgb: np.ndarray, face: Face) -> bool:
        return any(judge(rgb, face) for judge in self._judges)

    def challenge(self, time_s: float) -> Challenge | None:
        return None if self.settings.challenge == "off" else Challenge(self.settings, time_s)
