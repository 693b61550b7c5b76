"""Every verifier's lookalikes score the same once h is normalised, with no face at enrolment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import models.normalisation
from models.faceset import FaceSet
from models.generator import Generator
from models.h_onnx import write_generator
from models.hypernetwork import GENERATORS, HyperNetwork
from models.lookalikes import LookalikeNetwork, learn_lookalikes, scores_of_lookalikes
from models.normalisation import (
    FIRST_CONSTANT,
    FIRST_STEP,
    ImpostorStatistics,
    _one_person,
    as_learned,
    impostor_statistics,
    normalised,
    with_one,
)
from models.spec import DEFAULT_SPEC
from models.verifier import to_input, verify_users
from tests.models.test_hypernetwork import network, save, templates
from toolkit.errors import InputError

FACES = 96


def settled(generator: str, faces: FaceSet) -> HyperNetwork:
    """A network whose normalisation has seen these faces, so that its features differ between them."""
    net = network(generator)
    for norm in net.trunk.norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    with torch.no_grad():
        net.train().trunk(to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2)))
    return net.eval()


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    rng = np.random.default_rng(3)
    # Smooth pictures, whose features differ as those of photos do and those of white noise do not.
    pixels = rng.integers(0, 256, (FACES, 2, 2, 3), np.uint8).repeat(32, 1).repeat(32, 2)
    own = templates(FACES).numpy()
    return FaceSet(pixels, own, np.arange(FACES), ("",) * FACES, ("",) * FACES)


def scores(theta: np.ndarray, faces: FaceSet) -> np.ndarray:
    """[U, N]."""
    x = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2))
    with torch.inference_mode():
        return np.stack([verify_users(DEFAULT_SPEC, torch.from_numpy(t)[None], x[None])[0].numpy() for t in theta])


def written(h: bytes, generator: str, folder: Path) -> Generator:
    save(network(generator), generator, folder)
    (folder / "h.onnx").write_bytes(h)
    return Generator(folder / "h.onnx")


def test_the_file_does_what_the_statistics_say(faces: FaceSet, tmp_path: Path) -> None:
    plain, users = write_generator(settled("head", faces)), templates(12).numpy()
    impostors = impostor_statistics(plain, DEFAULT_SPEC, faces, "sface")
    before = scores(written(plain, "head", tmp_path).weights(users), faces)
    means = with_one(users) @ impostors.mean
    np.testing.assert_allclose(before.mean(1), means, atol=1e-4)
    levels = means + impostors.above.of(users)
    assert np.ptp(levels) > 0.01, "the users differ at first"
    after = scores(written(normalised(plain, impostors), "head", tmp_path).weights(users), faces)
    np.testing.assert_allclose(after, impostors.to_level + before - levels[:, None], atol=1e-3)


def test_the_network_learns_what_lookalikes_score(
    faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32 strangers one is the likest; scored here by the verifiers themselves."""
    plain = write_generator(settled("head", faces))
    learned: list[tuple[np.ndarray, np.ndarray]] = []
    compared: list[np.ndarray] = []

    def learn(templates: np.ndarray, above: np.ndarray, seed: int) -> LookalikeNetwork:
        learned.append((templates, above))
        return learn_lookalikes(templates, above, seed)

    def look(users: np.ndarray, cosines: np.ndarray, y: np.ndarray, same: np.ndarray) -> np.ndarray:
        compared.append(cosines.copy())
        return scores_of_lookalikes(users, cosines, y, same)

    monkeypatch.setattr(models.normalisation, "learn_lookalikes", learn)
    monkeypatch.setattr(models.normalisation, "scores_of_lookalikes", look)
    impostors = impostor_statistics(plain, DEFAULT_SPEC, faces, "sface", count=32)
    (users, above), cosines = learned[0], compared[0]
    everybody = users @ faces.templates.T
    rows = [int(np.flatnonzero(np.isclose(everybody, one[:, None], atol=1e-6).all(0)).item()) for one in cosines.T]
    cosines[cosines > 0.999] = -1  # nobody is their own lookalike
    likest = np.array(rows)[np.argmax(cosines, 1)]
    said = scores(written(plain, "head", tmp_path).weights(users), faces)[np.arange(len(users)), likest]
    np.testing.assert_allclose(with_one(users) @ impostors.mean + above, said, atol=1e-3)


@pytest.mark.parametrize("generator", GENERATORS)
def test_only_the_last_layer_changes_and_it_can_be_undone(generator: str, faces: FaceSet, tmp_path: Path) -> None:
    plain, users = write_generator(settled(generator, faces)), templates(3).numpy()
    impostors = impostor_statistics(plain, DEFAULT_SPEC, faces, "sface", count=32)
    done = normalised(plain, impostors)
    assert done == normalised(plain, impostors), "the same bytes again"
    assert done == normalised(done, impostors), "instead of what was there, not on top of it"
    assert as_learned(done) == as_learned(plain) == plain
    head = DEFAULT_SPEC.slots["score.weight"].offset
    old, new = (written(h, generator, tmp_path).weights(users) for h in (plain, done))
    np.testing.assert_array_equal(old[:, :head], new[:, :head])
    assert not np.array_equal(old[:, head:], new[:, head:])


def test_what_is_appended_shifts_the_bias_alone(tmp_path: Path) -> None:
    plain, users = write_generator(network("head")), templates(2).numpy()
    says_nothing = LookalikeNetwork(np.zeros((17, 1), np.float32), np.zeros((2, 1), np.float32), (0.0, 0.0))
    silent = ImpostorStatistics(np.zeros(17), says_nothing, 0.25)
    old, new = (written(h, "head", tmp_path).weights(users) for h in (plain, normalised(plain, silent)))
    np.testing.assert_array_equal(new[:, :-1], old[:, :-1])
    np.testing.assert_allclose(new[:, -1], old[:, -1] + 0.25, rtol=1e-5)


@pytest.fixture(scope="module")
def stretched() -> bytes:
    """A generator's file as it was written before: what `normalised` appended ended in another step."""
    model = onnx.load_from_string(write_generator(network("head")))
    concat = model.graph.node.pop()
    trunk, head = concat.input
    model.graph.initializer.append(numpy_helper.from_array(np.float32([2]), FIRST_CONSTANT))
    for kind, inputs, name in (
        ("Identity", [FIRST_CONSTANT], FIRST_STEP),
        ("Mul", [head, FIRST_STEP], "stretched_head"),
        ("Add", ["stretched_head", FIRST_STEP], "normalised_head"),
    ):
        model.graph.node.append(helper.make_node(kind, inputs, [name], name=name))
    model.graph.node.append(helper.make_node("Concat", [trunk, "normalised_head"], ["theta"], name=concat.name, axis=1))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def test_files_from_before_can_be_undone(stretched: bytes) -> None:
    assert as_learned(stretched) == as_learned(write_generator(network("head")))


@pytest.mark.parametrize(("count", "message"), [(4, "a single person"), (1, "so few training faces")])
def test_somebody_without_strangers_is_an_error(faces: FaceSet, count: int, message: str) -> None:
    one = FaceSet(faces.pixels[:count], faces.templates[:count], np.zeros(count, np.int64), (), ())
    with pytest.raises(InputError, match=message):
        impostor_statistics(write_generator(network("head")), DEFAULT_SPEC, one, "sface")


def test_people_of_one_identity_are_no_strangers_nor_is_who_may_be_the_same(faces: FaceSet) -> None:
    some = FaceSet(faces.pixels[:5], faces.templates[:5], np.array([0, 0, 1, -1, -1]), (), ())
    rows, alike = np.arange(5), np.zeros((5, 5), bool)
    expected = np.eye(5, dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    np.testing.assert_array_equal(_one_person(some, rows, rows, alike), expected)
    alike[0, 2] = alike[0, 3] = alike[4, 3] = True  # two names are two people; a name that is missing may be any
    expected[0, 3] = expected[4, 3] = True
    np.testing.assert_array_equal(_one_person(some, rows, rows, alike), expected)


def test_a_double_without_a_name_is_no_lookalike(faces: FaceSet) -> None:
    """Everybody once more, without a name: as lookalikes they would say how high people score themselves."""
    twice = FaceSet(
        np.concatenate([faces.pixels, faces.pixels]),
        np.concatenate([faces.templates, faces.templates]),
        np.concatenate([faces.identity, np.full(FACES, -1)]),
        (),
        (),
    )
    plain = write_generator(settled("head", faces))
    single, double = (impostor_statistics(plain, DEFAULT_SPEC, some, "sface") for some in (faces, twice))
    np.testing.assert_allclose(double.to_level, single.to_level, atol=0.005)
