"""Fusing frames, and where frames come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device.alignment import TEMPLATE
from device.c_runtime import check_source, compiler
from device.detector import Face
from device.pipeline import Observation
from device.runtimes import choose_runtime, installed_runtimes, load_verifier
from device.session import Session
from export.bundle import write_model
from models.spec import DEFAULT_SPEC
from toolkit.errors import ArtifactError, MissingError, UsageError


def seen(score: float | None, x: float = 0.0) -> Observation:
    return Observation(score, "" if score is not None else "no_face", Face(x, 0, 100, 100, 0.9, TEMPLATE))


def test_a_decision_is_the_mean_of_enough_frames() -> None:
    session = Session(threshold=0.2, frames=3)
    assert session.add(seen(0.1), 0.0) is None
    assert session.add(seen(0.2), 0.1) is None
    decision = session.add(seen(0.6), 0.2)
    assert decision is not None
    assert decision.accepted
    assert decision.score == pytest.approx(0.3)
    assert session.add(seen(0.6), 0.3) is None, "a new decision needs new frames"


def test_the_threshold_itself_is_accepted_and_less_is_not() -> None:
    for score, accepted in ((0.25, True), (0.2499, False)):
        decision = Session(0.25, 1).add(seen(score), 0.0)
        assert decision is not None
        assert decision.accepted is accepted


def test_scores_of_two_people_are_never_mixed() -> None:
    session = Session(0.2, 2)
    session.add(seen(0.9, x=0), 0.0)
    assert session.add(seen(-0.5, x=300), 0.1) is None, "another place, another person"
    decision = session.add(seen(-0.5, x=300), 0.2)
    assert decision is not None
    assert decision.score == -0.5


def test_a_pause_starts_over_but_a_short_one_does_not() -> None:
    session = Session(0.2, 2)
    session.add(seen(0.9), 0.0)
    session.add(seen(None), 0.5)
    assert session.add(seen(0.9), 0.9) is not None
    session.add(seen(0.9), 1.0)
    assert session.add(seen(0.9), 3.0) is None


def test_runtimes_are_chosen_by_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_runtime("auto") == installed_runtimes()[0]
    with pytest.raises(UsageError, match="unknown runtime"):
        choose_runtime("tensorrt")
    monkeypatch.setattr("device.runtimes.installed_runtimes", list)
    with pytest.raises(MissingError, match=r"hyperverify\[litert\]"):
        choose_runtime("auto")


@pytest.mark.parametrize("runtime", installed_runtimes())
def test_a_damaged_model_is_refused(runtime: str) -> None:
    with pytest.raises(ArtifactError, match=r"cannot load this model|not the verifier's C file"):
        load_verifier(runtime, b"junk" * 100, "int8")
    with pytest.raises(UsageError, match="unknown precision"):
        load_verifier(runtime, b"", "int4")


def test_only_our_own_c_code_is_compiled(theta: np.ndarray) -> None:
    """A bundle may come from anywhere; compiled code runs with the user's rights."""
    own = write_model(DEFAULT_SPEC, theta, "c", "int8")
    check_source(DEFAULT_SPEC, own)
    for old, new in (
        (b"    hv_image(", b"    system(0); hv_image("),
        (b"static const int32_t score_bias[] = {", b"static const int32_t score_bias[] = { (int32_t)main,"),
        (b"static const int32_t score_bias[] = {", b"static const int32_t score_bias[] = { 1, "),
        (b"HV_ARENA_BYTES 36864", b"HV_ARENA_BYTES 368"),
        (b"/* One person", b"#include </etc/passwd>\n/* One person"),
    ):
        assert old in own
        with pytest.raises(ArtifactError, match="not what this version writes"):
            check_source(DEFAULT_SPEC, own.replace(old, new))


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_c_leaves_nothing_behind_and_refuses_other_pictures(
    theta: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with load_verifier("c", write_model(DEFAULT_SPEC, theta, "c", "int8"), "int8") as verifier:
        assert not list(tmp_path.iterdir())
        for wrong in (np.zeros((32, 32, 3), np.uint8), np.zeros((64, 64, 3), np.float32)):
            with pytest.raises(UsageError, match="cannot read this"):
                verifier.score(wrong)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(ArtifactError, match=r"cannot compile the verifier.*another --runtime"):
        load_verifier("c", write_model(DEFAULT_SPEC, theta, "c", "int8"), "int8")
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    assert compiler() is None
