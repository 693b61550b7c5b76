"""The training loop on a small made-up world: it learns, resumes to the same weights, and stops on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.tiny_embedding import open_embedding, write_embedding
from export.onnx_writer import write_onnx
from models.checkpoints import mean_of
from models.config import TrainConfig, read_config
from models.embedding import EmbeddingTrainer, embed
from models.faceset import FaceSet
from models.generator import GeneratorInfo
from models.h_onnx import write_generator
from models.hypernetwork import GENERATORS
from models.losses import unlike_faces
from models.schedule import Schedule
from models.spec import DEFAULT_SPEC, MAX_FLOPS, MAX_PARAMS, mobile_spec
from models.training import Interrupted, Trainer
from models.validate import HIGHEST, LOWEST, fit_score_range, held_out_scores
from models.verifier import to_input, verify_users
from toolkit.errors import ArtifactError, MissingError, UsageError

SMALL = mobile_spec(32, 8, ((12, 2), (16, 2)), features=16, half=0, region=(0, 0, 112))  # trains in seconds
HALVES = mobile_spec(32, 8, ((12, 2), (16, 2)), features=16, half=18)

# TensorBoard's own import warns about its own use of NumPy and protobuf.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """So small a network trains no faster on more."""
    torch.set_num_threads(1)


def world(people: int, photos: int, seed: int) -> FaceSet:
    """People are smooth random pictures, photos are noisy copies, templates are noisy unit vectors."""
    rng = np.random.default_rng(seed)
    faces = [cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (SMALL.input_px,) * 2) for _ in range(people)]
    pixels = [np.clip(f + rng.normal(0, 12, f.shape), 0, 255).astype(np.uint8) for f in faces for _ in range(photos)]
    # A template that depends on the picture in a fixed way, as a backbone's would.
    projection = np.random.default_rng(0).standard_normal((6 * 6 * 3, 16))
    small = np.stack([cv2.resize(p, (6, 6), interpolation=cv2.INTER_AREA).ravel() for p in pixels]) / 255 - 0.5
    templates = small @ projection
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    identity = np.repeat(np.arange(people), photos)
    names = tuple(str(i) for i in range(len(pixels)))
    return FaceSet(np.stack(pixels), templates.astype(np.float32), identity, names, names[:people])


def config(**changes: object) -> TrainConfig:
    settings = {"verifier": SMALL, "batch": 32, "shared_epochs": 2.0, "average": 0.5, "clusters": 4, "hidden": 8,
                "users": 4, "genuine": 2, "impostors": 4, "shared_rate": 3e-3, "conv_rate": 0.01} | changes  # fmt: skip
    return TrainConfig(("made-up",), **settings)  # type: ignore[arg-type]


def trainer(folder: Path, **changes: object) -> Trainer:
    return Trainer(config(**changes), world(96, 2, 1), world(8, 4, 2), folder, lambda *_: None)


@pytest.mark.parametrize("generator", GENERATORS)
def test_training_learns(generator: str, tmp_path: Path) -> None:
    steps = 0 if generator == "head" else 6
    run = trainer(tmp_path, generator=generator, personal_steps=steps, shared_epochs=24.0)
    before = run._validated()
    after = run.run(resume=False)
    assert before.eer > 0.3
    assert after.eer < before.eer - 0.1
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize("generator", ["head", "full"])
def test_verifiers_of_halves_learn(generator: str, tmp_path: Path) -> None:
    steps = 0 if generator == "head" else 6
    run = trainer(tmp_path, verifier=HALVES, generator=generator, personal_steps=steps, shared_epochs=24.0)
    before = run._validated()
    after = run.run(resume=False)
    assert before.eer > 0.3
    assert after.eer < before.eer - 0.1


def test_branches_learn_and_are_one_convolution_when_written(tmp_path: Path) -> None:
    run = trainer(tmp_path, verifier=HALVES, branches=2, shared_epochs=24.0)
    before = run._validated()
    after = run.run(resume=False)
    assert before.eer > 0.3
    assert after.eer < before.eer - 0.1
    users, x = torch.eye(16)[:3], to_input(torch.from_numpy(run.held_out.pixels[:8]).permute(0, 3, 1, 2))
    with torch.no_grad():
        scores = run.averaged.eval().shared_scores(users, x)
        told = run.fit_int8()
        written = torch.stack([verify_users(HALVES, t[None], x[None])[0] for t in run.averaged(users)])
    assert run.averaged.trunk.branches == 1
    torch.testing.assert_close(written, scores * told["score_factor"] + told["score_shift"], atol=1e-4, rtol=0)
    plain = trainer(tmp_path / "plain", verifier=HALVES)
    with pytest.raises(UsageError, match=r"does not fit this configuration.* too few.* the same verifier.* branches"):
        plain.start_from(tmp_path / "checkpoint.pt")


def test_training_goes_on_from_a_generators_files(tmp_path: Path) -> None:
    run = trainer(tmp_path / "first", verifier=HALVES, shared_epochs=24.0)
    reached = run.run(resume=False)
    told = run.fit_int8()
    (tmp_path / "h.onnx").write_bytes(write_generator(run.averaged))
    info = GeneratorInfo("1", "head", run.config.backbone, "0", HALVES, told, {})
    (tmp_path / "h.json").write_text(json.dumps(info.to_dict()))
    again = trainer(tmp_path / "second", verifier=HALVES, shared_epochs=1.0)
    again.start_from(tmp_path / "h.onnx")
    assert again._validated().eer == pytest.approx(reached.eer, abs=0.02)
    assert again.start_steps == 0, "the file does not tell them"
    assert again.run(resume=False).eer < reached.eer + 0.05, "it goes on where the other ended"
    richer = trainer(tmp_path / "third", verifier=HALVES, generator="film", personal_steps=2, shared_epochs=0.0)
    richer.start_from(tmp_path / "h.onnx")
    assert richer._validated().eer == pytest.approx(reached.eer, abs=0.02)


def test_an_embedding_network_learns_and_its_file_computes_the_same(tmp_path: Path) -> None:
    settings = config(generator="embedding", shared_epochs=24.0)
    run = EmbeddingTrainer(settings, world(96, 2, 1), held_out := world(8, 4, 2), tmp_path, lambda *_: None)

    def embedded() -> np.ndarray:
        with torch.no_grad():
            x = to_input(torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2))
            return embed(run.averaged.eval(), x).numpy()

    def agreement(embeddings: np.ndarray) -> float:
        """Correlation of the cosines with the teacher's, over people that training never saw."""
        others = np.triu_indices(len(held_out), 1)
        cosines = [(rows @ rows.T)[others] for rows in (embeddings, held_out.templates)]
        return float(np.corrcoef(*cosines)[0, 1])

    before = agreement(embedded())
    assert run.run(resume=False).eer < 0.1
    expected = embedded()
    assert agreement(expected) > before + 0.05
    trunk = run.averaged.trunk.fold().detach().numpy()
    (file := tmp_path / "embedding.onnx").write_bytes(write_embedding(SMALL, trunk, {"epochs": 24}))
    opened = open_embedding(file)
    np.testing.assert_allclose(opened.embed(held_out.pixels), expected, atol=1e-5)
    assert opened.about == {"epochs": 24}
    assert (opened.count.params, opened.input_px) == (len(trunk), SMALL.input_px)


def test_an_embedding_network_goes_on_from_a_pooled_verifier(tmp_path: Path) -> None:
    (pooled := trainer(tmp_path / "pooled", shared_epochs=0.5)).run(resume=False)
    settings = config(generator="embedding", shared_epochs=0.0)
    started = EmbeddingTrainer(settings, world(96, 2, 1), world(8, 4, 2), tmp_path / "embedding", lambda *_: None)
    started.start_from(tmp_path / "pooled" / "checkpoint.pt")
    assert torch.equal(started.averaged.trunk.fold(), pooled.averaged.trunk.fold())
    assert started.start_steps == pooled.stages[0][1] == 3


def test_the_embedding_of_the_comparison_is_a_verifiers_size_and_starts_from_its_first_part() -> None:
    configs = Path(__file__).parents[2] / "configs"
    spec = read_config(configs / "embedding.toml").verifier
    score = spec.head.out_channels + int(np.prod(spec.head.weight_shape))
    assert 0.99 * DEFAULT_SPEC.params < spec.params - score <= MAX_PARAMS
    assert spec.flops <= MAX_FLOPS
    assert read_config(configs / "pooled.toml").verifier == spec


def test_what_is_no_embedding_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"configs/embedding\.toml"):
        open_embedding(tmp_path / "none.onnx")
    for content in (b"", b"ONNX?", write_onnx(SMALL, np.zeros(SMALL.params, np.float32))):
        (file := tmp_path / "other.onnx").write_bytes(content)
        with pytest.raises(ArtifactError, match="is not an embedding network"):
            open_embedding(file)


def test_scores_of_a_network_that_tells_nobody_apart_are_left_alone(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    for parameter in run.averaged.head.parameters():
        parameter.data.zero_()
    assert fit_score_range(run.averaged, run.held_out) == (1.0, 0.0)


def test_a_cohort_makes_faces_alike_to_strangers(tmp_path: Path) -> None:
    unlike = []
    for name, weight in (("without", 0.0), ("with", 300.0)):
        run = trainer(
            tmp_path / name, bank=128, cohort_targets=True, cohort=Schedule(((0.0, weight),)), shared_epochs=20.0
        )
        run.run(resume=False)
        x = to_input(torch.from_numpy(run.held_out.pixels).permute(0, 3, 1, 2))
        with torch.no_grad():
            unlike.append(float(unlike_faces(run.averaged.eval().shared_scores(run.templates, x))))
    assert unlike[1] < 0.6 * unlike[0], unlike


def test_scores_are_stretched_to_the_int8_range_and_nothing_else(tmp_path: Path) -> None:
    run = trainer(tmp_path, shared_epochs=10.0)
    before = run.run(resume=False)
    run.averaged.head.bias.data[-1] -= 10.0
    scores = held_out_scores(run.averaged, run.held_out, 0)
    fitted = run.fit_int8()
    stretched = held_out_scores(run.averaged, run.held_out, 0)
    for old, new in zip(scores, stretched, strict=True):
        np.testing.assert_allclose(new, old * fitted["score_factor"] + fitted["score_shift"], atol=2e-4)
    assert np.quantile(stretched[0], HIGHEST) == pytest.approx(1, abs=2e-4)
    assert np.quantile(stretched[1], LOWEST) == pytest.approx(-1, abs=2e-4)
    assert run._validated().eer == pytest.approx(before.eer, abs=1e-6)


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run(resume=False)

    def interrupt(_: str, step: int, *__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT) if step == 0 else None

    parts = trainer(tmp_path / "parts")
    parts.report = interrupt
    with pytest.raises(Interrupted):
        parts.run(resume=True)
    again = trainer(tmp_path / "parts")
    again.run(resume=True)
    for name, value in whole.averaged.state_dict().items():
        torch.testing.assert_close(again.averaged.state_dict()[name], value, msg=name)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, shared_epochs=1.0).run(resume=False)
    with pytest.raises(UsageError, match="another configuration or other data"):
        trainer(tmp_path, shared_epochs=2.0).run(resume=True)


def test_a_richer_generator_starts_from_a_simpler_run(tmp_path: Path) -> None:
    first = trainer(tmp_path / "head")
    first.run(resume=False)
    second = trainer(tmp_path / "full", generator="full", shared_epochs=0.0, personal_steps=2)
    second.start_from(first.checkpoint)
    e = torch.nn.functional.normalize(torch.randn(2, 16), dim=1)
    first.averaged.eval()
    torch.testing.assert_close(second.averaged.eval()(e), first.averaged(e))
    with pytest.raises(UsageError, match="no such checkpoint"):
        second.start_from(tmp_path / "nothing.pt")


def test_several_runs_give_their_mean_to_start_from(tmp_path: Path) -> None:
    runs = [trainer(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    for run in runs:
        run.run(resume=False)
    third = trainer(tmp_path / "mean", seed=3, shared_epochs=0.0)
    third.start_from(*(run.checkpoint for run in runs))
    third.run(resume=False)
    a, b = (run.averaged.state_dict() for run in runs)
    for name, value in third.averaged.state_dict().items():
        torch.testing.assert_close(third.network.state_dict()[name], value)
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, (a[name] + b[name]) / 2, msg=name)
    x = torch.cat(list(third._some_faces()))
    stem = third.averaged.trunk.conv(third.network.spec.layers[0])(x)  # [N, C, H, W]
    norm = third.averaged.trunk.norm(third.network.spec.layers[0])
    torch.testing.assert_close(norm.running_mean, stem.mean((0, 2, 3)), rtol=1e-3, atol=1e-4, msg="its own statistics")
    again = trainer(tmp_path / "mean", seed=3, shared_epochs=0.0)
    again.start_from(runs[0].checkpoint)
    again.run(resume=True)
    torch.testing.assert_close(again.averaged.head.weight, runs[0].averaged.head.weight, msg="not the former start's")
    third.run(resume=False)
    fourth = trainer(tmp_path / "after", seed=4)
    fourth.start_from(third.checkpoint)
    torch.testing.assert_close(fourth.averaged.head.weight, third.averaged.head.weight, msg="its run can go on")


def test_a_run_does_not_go_on_as_another_that_began_elsewhere(tmp_path: Path) -> None:
    first, other = (trainer(tmp_path / str(seed), seed=seed, shared_epochs=0.3) for seed in (1, 2))
    for run in (first, other):
        run.run(resume=False)
    second = trainer(tmp_path / "second", seed=3, shared_epochs=0.3)
    second.start_from(first.checkpoint)
    second.run(resume=False)
    again = trainer(tmp_path / "second", seed=3, shared_epochs=0.3)
    again.start_from(other.checkpoint)
    with pytest.raises(UsageError, match=r"began with another network.*--out.*--fresh"):
        again.run(resume=True)
    for beginning in ([first.checkpoint], []):  # the same, or whatever it was
        again = trainer(tmp_path / "second", seed=3, shared_epochs=0.3)
        if beginning:
            again.start_from(*beginning)
        again.run(resume=True)
        torch.testing.assert_close(again.averaged.head.weight, second.averaged.head.weight)
    fresh = trainer(tmp_path / "1", seed=1, shared_epochs=0.3)
    fresh.start_from(other.checkpoint)
    with pytest.raises(UsageError, match="began with another network"):
        fresh.run(resume=True)


def test_runs_of_different_generators_have_no_mean() -> None:
    with pytest.raises(UsageError, match="different generators have no mean"):
        mean_of([{"head.weight": torch.ones(2)}, {"head.weight": torch.ones(2), "gamma.weight": torch.ones(2)}])
