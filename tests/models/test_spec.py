"""The specification: budgets, the parameter table, and that every writer knows every layer kind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tests_support import WHOLE_FACE

from export.onnx_writer import _Writer as OnnxWriter
from export.tflite_writer import _Writer as TfliteWriter
from models.config import read_config
from models.spec import DEFAULT_SPEC, KINDS, MAX_FLOPS, MAX_PARAMS, Framing, Layer, VerifierSpec, mobile_spec
from toolkit.errors import ArtifactError


def test_bundles_of_whole_faces_keep_their_spec() -> None:
    """Its hash stands in manifests that are in the field, and in models/weights of before."""
    assert read_config(Path("configs/whole.toml")).verifier == WHOLE_FACE
    assert WHOLE_FACE.hash == "5c3f4e6e9a7cabf28297c84b543525900a45b8b172cc32e7f70d7d616262707b"


def test_default_keeps_the_papers_budget() -> None:
    assert DEFAULT_SPEC.params <= MAX_PARAMS
    assert DEFAULT_SPEC.flops <= MAX_FLOPS
    assert DEFAULT_SPEC.flops == 2 * DEFAULT_SPEC.macs


def test_slots_tile_the_weight_vector() -> None:
    end = 0
    for slot in DEFAULT_SPEC.slots.values():
        assert slot.offset == end
        end = slot.end
    assert end == DEFAULT_SPEC.params


def test_counts_of_a_spec_done_by_hand() -> None:
    spec = VerifierSpec(
        8, (Layer("a", "conv", 3, 4, 3, 2, 1), Layer("p", "depthwise", 4, 4, 4), Layer("s", "dense", 4, 1))
    )
    assert spec.sizes == {"a": (4, 4), "p": (1, 1), "s": (1, 1)}
    assert spec.params == (4 * 3 * 9 + 4) + (4 * 16 + 4) + (4 + 1)
    assert spec.macs == 4 * 3 * 9 * 16 + 4 * 16 + 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writer", [OnnxWriter, TfliteWriter])
def test_every_writer_knows_every_kind(kind: str, writer: type) -> None:
    assert hasattr(writer, f"write_{kind}")


def test_halves_and_whole_faces_use_every_kind() -> None:
    assert {layer.kind for layer in DEFAULT_SPEC.layers} == set(KINDS)
    assert {layer.kind for layer in WHOLE_FACE.layers} == set(KINDS) - {"halves", "mean"}


def test_a_spec_of_halves_counts_both_of_them() -> None:
    spec = mobile_spec(stem=4, blocks=(), features=5, half=34)
    assert spec.params == (4 * 3 * 9 + 4) + (4 * 5 + 5) + (5 * 32 * 17 + 1)
    assert spec.macs == 2 * (4 * 3 * 9 + 4 * 5) * 32 * 17 + 5 * 32 * 17
    assert [spec.shape(layer) for layer in spec.layers] == [
        (2, 64, 34, 3), (2, 32, 17, 4), (2, 32, 17, 5), (1, 32, 17, 5), (1, 1, 1, 1),
    ]  # fmt: skip
    assert VerifierSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("half", [31, 64, -1, 2.0])
def test_halves_that_do_not_make_a_face_are_refused(half: object) -> None:
    with pytest.raises((ArtifactError, TypeError)):
        mobile_spec(half=half)  # type: ignore[arg-type]


def test_halves_become_one_map_once_and_before_the_score() -> None:
    *layers, mean, score = DEFAULT_SPEC.layers
    with pytest.raises(ArtifactError, match="mean"):
        dataclasses.replace(DEFAULT_SPEC, layers=(*layers, mean, dataclasses.replace(mean, name="mean2"), score))
    with pytest.raises(ArtifactError, match="mean"):
        dataclasses.replace(DEFAULT_SPEC, layers=(*layers[1:], mean, score))
    with pytest.raises(ArtifactError, match="score"):
        dataclasses.replace(DEFAULT_SPEC, layers=(*layers, score))


def test_halves_joined_in_a_block_cost_one_map_from_there_on() -> None:
    blocks = ((6, 2), (8, 2), (8, 1))
    late, early = (mobile_spec(stem=4, blocks=blocks, features=5, half=36, joined=joined) for joined in (False, True))
    assert [layer.name for layer in early.layers[5:9]] == [
        "block2.expand",
        "block2.depthwise",
        "mean",
        "block2.project",
    ]
    assert early.params == late.params
    assert early.shape(early.layers[6]) == (2, 8, 5, 12)
    assert early.shape(early.layers[7]) == (1, 8, 5, 12)
    after = (12 * 8) + (8 * 16 + 16 * 9 + 16 * 8) + 8 * 5  # what halves share until the score
    assert late.macs - early.macs == after * 8 * 5
    *_, mean, score = mobile_spec(blocks=((8, 1),), joined=True).layers
    assert (mean.kind, score.kind) == ("mean", "dense"), "no block makes maps smaller"
    assert all(layer.kind != "mean" for layer in mobile_spec(half=0, joined=True).layers)


def test_one_map_is_not_added_to_two() -> None:
    spec = mobile_spec(blocks=((16, 2), (16, 1)), half=36, joined=False)
    place = [layer.name for layer in spec.layers].index("block2.project")
    mean = Layer("mean", "mean", 32, 32)
    with pytest.raises(ArtifactError, match=r"block2\.add"):
        dataclasses.replace(spec, layers=(*spec.layers[:place], mean, *spec.layers[place:-2], spec.layers[-1]))


def test_round_trip_keeps_the_hash() -> None:
    again = VerifierSpec.from_dict(DEFAULT_SPEC.to_dict())
    assert again == DEFAULT_SPEC
    assert again.hash == DEFAULT_SPEC.hash
    assert mobile_spec(stem=12).hash != DEFAULT_SPEC.hash


def test_a_region_is_part_of_the_spec_and_no_region_is_the_whole_face() -> None:
    part = mobile_spec(region=(8, 14, 96), half=0)
    assert VerifierSpec.from_dict(json.loads(json.dumps(part.to_dict()))) == part
    assert part.hash != WHOLE_FACE.hash
    assert "region" not in WHOLE_FACE.to_dict(), "or bundles from before would be refused"
    assert part.framing == Framing(64, 8, 14, 96)
    assert WHOLE_FACE.framing.region == (0, 0, 112)


OUTSIDE = ([0, 0, 113], [17, 0, 96], [0, -1, 96], [0, 0, 0], [30, 14, 52], [4, 14, 96], [8, 0, 96])
UNREADABLE = ([8.0, 14.0, 96.0], [8, "14", 96], [8, 14, True], [0, 0], "all", None, [[1], 0, 9])


@pytest.mark.parametrize("region", [*OUTSIDE, *UNREADABLE])
def test_a_region_outside_of_the_face_is_refused(region: object) -> None:
    with pytest.raises(ArtifactError):
        VerifierSpec.from_dict(DEFAULT_SPEC.to_dict() | {"region": region})


@pytest.mark.parametrize(
    "change",
    [
        {"in_channels": 5},
        {"kind": "pool"},
        {"kind": "add", "skip": "nobody"},
        {"name": "score"},
        {"stride": 0},
        {"kernel": 1.5},
    ],
)
def test_a_spec_that_does_not_hang_together_is_refused(change: dict[str, object]) -> None:
    first, *rest = WHOLE_FACE.layers
    with pytest.raises(ArtifactError, match="does not fit"):
        VerifierSpec(64, (dataclasses.replace(first, **change), *rest))  # type: ignore[arg-type]


def test_a_spec_must_end_in_one_score() -> None:
    with pytest.raises(ArtifactError, match="dense layer"):
        VerifierSpec(64, WHOLE_FACE.layers[:-1])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"input_px": float("inf"), "layers": []},
        {"input_px": "x", "layers": []},
        {"input_px": 64, "layers": [{"nome": 1}]},
    ],
)
def test_damaged_spec_data_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ArtifactError):
        VerifierSpec.from_dict(data)
