"""Presentation attacks made from photographs: how many pass the liveness cues (APCER), how many people do not (BPCER).

They are drawn, not filmed: paper and screens before a real camera differ, and nothing here says how they would fare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from benchmarks.metrics import Rate
from benchmarks.scenes import FPS, HEIGHT_PX, WIDTH_PX, Portrait, View, render
from device.detector import FaceDetector
from device.liveness import ASKING, LIVE, Challenge, LivenessSettings, shows_grid

FRAMES = 6
CHALLENGE_S = 8.0
NEAR = View(face_px=190.0)


def bona_fide(subject: Portrait, view: View, rng: np.random.Generator) -> np.ndarray:
    return render(subject, view, rng)


def print_out(subject: Portrait, view: View, rng: np.random.Generator) -> np.ndarray:
    """Paper: soft, with less contrast, a white border and grain."""
    picture = cv2.GaussianBlur(render(subject, view, rng), (0, 0), 1.0).astype(np.float32)
    paper = 40 + 0.72 * picture + rng.normal(0, 3, (HEIGHT_PX, WIDTH_PX, 1))
    frame = np.full((HEIGHT_PX, WIDTH_PX, 3), 90.0)
    frame[40:440, 160:480] = 235
    frame[50:430, 170:470] = paper[50:430, 170:470]
    return np.asarray(np.clip(frame, 0, 255), np.uint8)


def cut_out(subject: Portrait, view: View, rng: np.random.Generator) -> np.ndarray:
    """A print cut along the face, with nothing around it."""
    paper = print_out(subject, view, rng)
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    size = (round(view.face_px * 0.55), round(view.face_px * 0.72))
    cv2.ellipse(mask, (round(view.x_px), round(view.y_px)), size, 0, 0, 360, 1, -1)
    return np.asarray(np.where(mask[:, :, None] > 0, paper, np.uint8(110)))


def screen(subject: Portrait, view: View, rng: np.random.Generator) -> np.ndarray:
    """A screen's coloured stripes, three camera pixels wide or nearly so, as a camera's own grid samples them."""
    frame = render(subject, view, rng).astype(np.float32)
    pitch, angle = rng.uniform(2.6, 3.6), rng.uniform(-0.1, 0.1)
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / pitch * 2 * np.pi
    stripes = np.stack([1 + 0.5 * np.cos(phase + k * 2 * np.pi / 3) for k in range(3)], 2)
    rows = 1 + 0.15 * np.cos((y * np.cos(angle) - x * np.sin(angle)) / pitch * 2 * np.pi)[:, :, None]
    return np.asarray(np.clip(frame * stripes * rows * 0.8, 0, 255), np.uint8)


PASSIVE = {"print": print_out, "cut_out": cut_out, "screen": screen}


def report(subjects: list[Portrait], detector: FaceDetector) -> dict[str, Any]:
    """APCER of each attack, and BPCER, of the passive cue and of the challenge."""
    real = [_suspected(bona_fide, subject, detector, seed) for seed, subject in enumerate(subjects)]
    passive: dict[str, Any] = {"bpcer": _rate(sum(real), len(real))}
    for name, attack in PASSIVE.items():
        missed = [not _suspected(attack, subject, detector, seed) for seed, subject in enumerate(subjects)]
        passive[f"apcer_{name}"] = _rate(sum(missed), len(missed))
    settings = LivenessSettings()
    failed = [not _answers(follow_orders, s, detector, settings, n) for n, s in enumerate(subjects)]
    challenge: dict[str, Any] = {"steps": settings.steps, "bpcer": _rate(sum(failed), len(failed))}
    for name, attacker in CHALLENGED.items():
        passed = [_answers(attacker, s, detector, settings, n) for n, s in enumerate(subjects)]
        challenge[f"apcer_{name}"] = _rate(sum(passed), len(passed))
    return {"subjects": len(subjects), "passive": passive, "challenge": challenge}


def _rate(errors: int, trials: int) -> dict[str, Any]:
    return vars(Rate.of(int(errors), trials))


def _suspected(
    show: Callable[[Portrait, View, np.random.Generator], np.ndarray],
    subject: Portrait,
    detector: FaceDetector,
    seed: int,
) -> bool:
    """Whether most of a few frames look like an attack; unseen faces count as refused."""
    rng = np.random.default_rng(seed)
    votes = []
    for i in range(FRAMES):
        frame = show(subject, replace(NEAR, x_px=320 + 4 * i, y_px=240 + 2 * i), rng)
        faces = detector.detect(frame)
        votes.append(not faces or shows_grid(frame, faces[0]))
    return 2 * sum(votes) > FRAMES


Orders = Callable[[Portrait, np.random.Generator, Callable[[], int]], Iterator[np.ndarray]]


def _answers(respond: Orders, subject: Portrait, detector: FaceDetector, settings: LivenessSettings, seed: int) -> bool:
    """Whether somebody who responds in this way passes the challenge."""
    rng = np.random.default_rng(seed)
    turns = tuple(int(t) for t in rng.choice([-1, 1], settings.steps))
    challenge = Challenge(settings, 0.0, turns)
    asked = respond(subject, rng, lambda: challenge.asked)
    for number, frame in enumerate(asked):
        faces = detector.detect(frame)
        if faces and challenge.update(faces[0], number / FPS) != ASKING:
            break
        if number / FPS > CHALLENGE_S + 1:
            break
    return challenge.state == LIVE


def _moving(aim: Callable[[], float], speed: float) -> Iterator[float]:
    """A quantity that follows its aim at a limited speed a frame, one reaction time late."""
    now, waiting = 0.0, [0.0] * 4
    while True:
        waiting.append(aim())
        now += float(np.clip(waiting.pop(0) - now, -speed, speed))
        yield now


def follow_orders(subject: Portrait, rng: np.random.Generator, asked: Callable[[], int]) -> Iterator[np.ndarray]:
    """A person who turns where they are asked to, a quarter of a second late."""
    for turn in _moving(lambda: 0.9 * asked(), 0.15):
        yield render(subject, replace(NEAR, turn=turn), rng)


def turn_it(show: Callable[[Portrait, View, np.random.Generator], np.ndarray]) -> Orders:
    """Something flat, turned about its upright axis by up to 40 degrees, with the perspective of half a metre."""

    def respond(subject: Portrait, rng: np.random.Generator, asked: Callable[[], int]) -> Iterator[np.ndarray]:
        picture = show(subject, NEAR, rng)
        for turn in _moving(lambda: float(asked()), 0.15):
            angle, focal = np.deg2rad(40) * turn, 700.0
            corners = np.array([[-320, -240], [320, -240], [320, 240], [-320, 240]], np.float32)
            depth = focal + corners[:, 0] * np.sin(angle)
            seen = np.stack([corners[:, 0] * np.cos(angle), corners[:, 1]], 1) * (focal / depth)[:, None] + [320, 240]
            matrix = cv2.getPerspectiveTransform(corners + np.array([320, 240], np.float32), seen.astype(np.float32))
            yield np.asarray(cv2.warpPerspective(picture, matrix, (WIDTH_PX, HEIGHT_PX), borderValue=(90, 90, 90)))

    return respond


def replay_turns(subject: Portrait, rng: np.random.Generator, asked: Callable[[], int]) -> Iterator[np.ndarray]:
    """A video of the person who turned to either side and back, in an order of its own."""
    script = [side for _ in range(8) for side in (int(rng.choice([-1, 1])), 0)]
    steps = iter([side for side in script for _ in range(round(0.9 * FPS))])
    for turn in _moving(lambda: 0.9 * next(steps, 0), 0.15):
        yield render(subject, replace(NEAR, turn=turn), rng)


# What each attacker does when asked to turn. A screen that shows one picture is turned as paper is.
CHALLENGED: dict[str, Orders] = {
    "print_turned": turn_it(print_out),
    "cut_out_turned": turn_it(cut_out),
    "screen_turned": turn_it(screen),
    "replay": replay_turns,
}
