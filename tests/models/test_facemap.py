"""Training faces from sets of any size: every format, one pass, in files of which memory holds what is used."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import labelled, record

from models.facedata import stored_templates
from models.facemap import TrainingFaces, map_faces
from models.faceset import load_faces, lookalikes
from models.facestream import Face, face_files, stream_faces
from models.spec import Framing
from toolkit.errors import HyperverifyError, InputError

ROOT = Path(__file__).parents[2]


class Colours:
    """Embeds a crop as its mean colours in four quarters, and fails when it is told to."""

    name, dim, sha256 = "sface", 12, "0" * 64

    def __init__(self) -> None:
        self.seen, self.fails_after = 0, 1 << 30

    def embed(self, crops: np.ndarray) -> np.ndarray:
        if self.seen + len(crops) > self.fails_after:
            raise KeyboardInterrupt
        self.seen += len(crops)
        quarters = crops.reshape(len(crops), 2, 56, 2, 56, 3).mean((2, 4)).reshape(len(crops), 12) - 128.0
        return np.asarray(quarters / np.linalg.norm(quarters, axis=1, keepdims=True), np.float32)

    def embed_one(self, crop: np.ndarray) -> np.ndarray:
        return self.embed(crop[None])


def some_faces(count: int, seed: int = 0) -> list[Face]:
    """Lossless pictures of coloured squares of people with three photos each; every seventh face is nobody's."""
    rng = np.random.default_rng(seed)
    pixels = [rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(28, 0).repeat(28, 1) for _ in range(count)]
    images = [bytes(cv2.imencode(".png", p)[1]) for p in pixels]
    names = [str(2000 - i // 3) for i in range(count)]
    return [Face(image, "" if i % 7 == 6 else names[i], f"{i:05d}.png") for i, image in enumerate(images)]


def parquet(path: Path, faces: list[Face]) -> Path:
    columns = {"image": "image", "identity": "identity", "file": "name", "split": "split"}
    pq.write_table(pa.table({c: [getattr(f, name) for f in faces] for c, name in columns.items()}), path)
    return path


def rec(path: Path, faces: list[Face]) -> Path:
    path.write_bytes(
        record(labelled(b"", 1.0, 2.0)) + b"".join(record(labelled(f.image, float(f.identity))) for f in faces)
    )
    return path


def shard(path: Path, faces: list[Face], as_json: bool = False) -> Path:
    with tarfile.open(path, "w") as tar:
        for i, face in enumerate(faces):
            label = {"identity": face.identity, "split": face.split}
            members = {"json": json.dumps(label).encode()} if as_json else {"cls": face.identity.encode()}
            for suffix, data in {"png": face.image, **members}.items():
                info = tarfile.TarInfo(f"part/{i:06d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def folder(path: Path, faces: list[Face]) -> Path:
    for face in faces:
        (path / face.identity).mkdir(parents=True, exist_ok=True)
        (path / face.identity / face.name).write_bytes(face.image)
    return path


def test_every_format_gives_the_same_faces(tmp_path: Path) -> None:
    faces = sorted((f for f in some_faces(20) if f.identity), key=lambda f: f.identity)
    sources = [
        parquet(tmp_path / "a.parquet", faces), rec(tmp_path / "b.rec", faces), shard(tmp_path / "c.tar", faces),
        shard(tmp_path / "d.tar", faces, as_json=True), folder(tmp_path / "e", faces),
    ]  # fmt: skip
    for source in sources:
        found = [(face.image, face.identity) for face in stream_faces(source)]
        assert found == [(face.image, face.identity) for face in faces], source.name
    assert face_files([tmp_path]) == sources[:4], "a folder's packed files, in order"


def test_what_shards_do_not_say_stays_unknown(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in (
            ("1.png", b"a"),
            ("1.json", b'{"label": 7, "split": "val"}'),
            ("2.cls", b"3"),
            ("3.jpg", b"b"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert list(stream_faces(tmp_path / "x.tar")) == [Face(b"a", "7", "1", "val"), Face(b"b", "", "3")]


@pytest.mark.parametrize(
    ("label", "message"),
    [("1.json", "labels of 1 cannot be read"), ("1.cls", "labels of 1 cannot be read"), ("1.txt", "holds no images")],
)
def test_shards_that_cannot_be_used_say_so(label: str, message: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in (["1.png"] if label != "1.txt" else []) + [label]:
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"\xff["))
    with pytest.raises(InputError, match=message):
        list(stream_faces(tmp_path / "x.tar"))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_damaged_shards_are_refused_or_read(draw: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(shard(tmp_path / "good.tar", [Face(b"abc", "1", ""), Face(b"de", "2", "")]).read_bytes())
    for _ in range(draw.draw(st.integers(1, 5))):
        content[draw.draw(st.integers(0, 2600))] = draw.draw(st.integers(0, 255))
    (tmp_path / "x.tar").write_bytes(content[: draw.draw(st.integers(0, len(content)))])
    try:
        faces = list(stream_faces(tmp_path / "x.tar"))
    except InputError:
        return
    assert all(isinstance(face.identity, str) for face in faces)


def assert_same(found: TrainingFaces, sources: list[Path], framing: Framing) -> None:
    """What the map holds is what loading everything into memory gives."""
    backbone = Colours()
    held_out, train = (load_faces(sources, split, framing, backbone) for split in ("val", "train"))
    keep = (train.identity >= 0) | ~lookalikes(train.templates, held_out.templates, "sface")
    assert found.left_out == (~keep).sum()
    for name in ("pixels", "templates", "identity"):
        np.testing.assert_array_equal(getattr(found.train, name), getattr(train, name)[keep])
        np.testing.assert_array_equal(getattr(found.held_out, name), getattr(held_out, name))


def test_the_map_holds_what_loading_gives(tmp_path: Path) -> None:
    every = some_faces(600)
    split = [Face(f.image, f.identity, f.name, "val" if f.identity > "1880" else "train") for f in every]
    sources = [parquet(tmp_path / "a.parquet", split[:590]), shard(tmp_path / "b.tar", split[590:], as_json=True)]
    found = map_faces(sources, Framing(32), Colours())
    assert_same(found, sources, Framing(32))
    assert found.left_out > 0, "some of nobody's faces look like held-out people"
    assert isinstance(found.train.pixels.base, np.memmap)
    backbone = Colours()
    again = map_faces(sources, Framing(32), backbone)
    assert backbone.seen == 0, "written once"
    np.testing.assert_array_equal(again.train.identity, found.train.identity)
    part = map_faces(sources, Framing(32, 8, 14, 96), Colours())
    assert_same(part, sources, Framing(32, 8, 14, 96))
    assert not np.array_equal(part.held_out.pixels, found.held_out.pixels)
    parquet(sources[0], split[:300])
    assert len(map_faces(sources, Framing(32), Colours()).train) < len(found.train), "a changed source is mapped anew"


def test_numbers_of_two_sets_are_two_people_and_names_are_one(tmp_path: Path) -> None:
    known = [f for f in some_faces(40) if f.identity]
    one, two = known[:6], known[6:12]
    numbered = [
        rec(tmp_path / f"{name}.rec", [replace(f, identity=str(i // 2)) for i, f in enumerate(faces)])
        for name, faces in (("a", one), ("b", two))
    ]
    named = [
        parquet(tmp_path / f"{name}.parquet", [replace(f, identity=f"person {i // 2}") for i, f in enumerate(faces)])
        for name, faces in (("a", one), ("b", two))
    ]
    people = {"numbers": numbered, "names": named, "a folder of one set's files": [tmp_path]}
    counts = {}
    for what, sources in people.items():
        found = map_faces(sources, Framing(32), Colours())
        np.testing.assert_array_equal(
            found.train.identity, load_faces(sources, "train", Framing(32), Colours()).identity
        )
        counts[what] = len(np.unique(found.train.identity))
    assert counts == {"numbers": 6, "names": 3, "a folder of one set's files": 6}, "three people a set"


def test_people_of_sets_without_splits_are_held_out_whole(tmp_path: Path) -> None:
    faces = [f for f in some_faces(300) if f.identity]
    found = map_faces([rec(tmp_path / "x.rec", faces)], Framing(32), Colours(), held_out_share=0.2)
    assert 0.05 < len(found.held_out) / len(faces) < 0.4
    assert len(found.held_out) + len(found.train) == len(faces)
    people = [len(np.unique(part.identity)) for part in (found.train, found.held_out)]
    assert sum(people) == len({f.identity for f in faces}), "nobody is in both"
    judges = parquet(tmp_path / "v.parquet", [Face(f.image, f.identity, f.name, "val") for f in faces])
    with pytest.raises(InputError, match="no face to train on"):
        map_faces([judges], Framing(32), Colours())


def test_templates_go_on_where_a_kill_stopped_them(tmp_path: Path) -> None:
    source = parquet(tmp_path / "x.parquet", some_faces(200))
    (whole,) = stored_templates(source, Colours(), tmp_path / "one")
    first, second = Colours(), Colours()
    first.fails_after = 100
    with pytest.raises(KeyboardInterrupt):
        stored_templates(source, first, tmp_path / "two")
    (part,) = (tmp_path / "two").glob("*.part")
    part.write_bytes(part.read_bytes() + b"half a row")
    (resumed,) = stored_templates(source, second, tmp_path / "two")
    assert (first.seen, second.seen) == (96, 104)
    np.testing.assert_array_equal(resumed, whole)
    assert [p.suffix for p in (tmp_path / "two").iterdir()] == [".npy"]


MEASURE = textwrap.dedent("""
    import sys
    from pathlib import Path
    import numpy as np
    from models.facemap import map_faces
    from models.spec import Framing
    from test_facemap import Colours

    def anonymous_kb():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    class Watched(Colours):
        def embed(self, crops):
            peaks.append(anonymous_kb())
            return super().embed(crops)

    peaks = []
    faces = map_faces([Path(sys.argv[1])], Framing(64), Watched(), 0.01).train
    for step in range(20):
        faces.pixels[np.random.default_rng(step).integers(0, len(faces), 128)].sum()
        peaks.append(anonymous_kb())
    print(max(peaks))
""")


@pytest.mark.parametrize("write", [parquet, rec, shard])
def test_memory_does_not_grow_with_the_set(write: Callable[..., Path], tmp_path: Path) -> None:
    """Memory that the system cannot drop, in the making and in use. 3,600 faces more are 44 MB of pixels."""
    few = [f for f in some_faces(1400) if f.identity]
    many = [Face(f.image, f"{f.identity}{i}", f.name) for i in range(4) for f in few]
    peaks = []
    for name, faces in (("few", few), ("many", many)):
        source = write(tmp_path / f"{name}{'.' + write.__name__ if write is not shard else '.tar'}", faces)
        # Arrow's own allocator returns pages when it has time, so its peak depends on the machine's load.
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'models'}",
                       "HYPERVERIFY_CACHE": str(tmp_path / name), "PATH": "/usr/bin",
                       "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}  # fmt: skip
        command = [sys.executable, "-W", "error", "-c", MEASURE, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    # Allocators keep some megabytes more or less from run to run; pixels kept in memory would be 44 more.
    assert peaks[1] - peaks[0] < 15_000, f"kB: {peaks}"


def test_train_from_recordio_and_shards(toolkit: Callable[..., Any], tmp_path: Path) -> None:
    """The command line, real backbones: two packs in, a generator with thresholds out; the next run has the map."""
    faces = [Face(f.image, str(i // 4), "") for i, f in enumerate(some_faces(96))]
    (tmp_path / "sets").mkdir()
    rec(tmp_path / "sets" / "train.rec", faces[:48])
    shard(tmp_path / "sets" / "000.tar", faces[48:])
    (tmp_path / "c.toml").write_text(
        'faces = ["sets"]\nheld_out_share = 0.3\nblends = 8\nbatch = 16\nbank = 8\nshared_epochs = 0.5\nclusters = 2\n'
        "verifier = { input_px = 32, stem = 8, blocks = [[12, 2], [16, 2]], features = 16, half = 0 }\n"
    )
    environment = {"HYPERVERIFY_CACHE": str(tmp_path / "cache")}
    done = toolkit("train", "--config", "c.toml", "--data", tmp_path, "--out", "run", "--json", **environment)
    assert done.code == 0, done.err
    assert "written once" in done.err
    training = done.json["training"]
    assert training["faces"] + training["held_out_faces"] == 96
    assert training["blends"] == 8
    assert done.json["operating_points"]["1"]
    again = toolkit("train", "--config", "c.toml", "--data", tmp_path, "--out", "run", "--json", **environment)
    assert again.code == 0, again.err
    assert "written once" not in again.err
    compare_generators(toolkit, tmp_path, environment)
    grow_wider(toolkit, tmp_path, environment)
    (tmp_path / "c.toml").write_text('faces = ["sets"]\n')
    lost = toolkit("train", "--config", "c.toml", "--data", tmp_path, "--out", "no", **environment)
    assert (lost.code, "set held_out_share" in lost.err) == (4, True), lost.err


def compare_generators(toolkit: Callable[..., Any], folder: Path, environment: dict[str, str]) -> None:
    """An ablation that begins with the network in folder/run."""
    (folder / "a.toml").write_text(
        'base = "c.toml"\n[[variant]]\nname = "head"\n[[variant]]\nname = "film"\ngenerator = "film"\n'
        "shared_epochs = 0\npersonal_steps = 2\nusers = 4\ngenuine = 2\nimpostors = 4\n"
        '[[variant]]\nname = "photos"\nblends = 0\n'
    )
    words = ("train", "--ablate", "a.toml", "--data", folder, "--out", "ablation")
    refused = toolkit(*words, **environment)
    assert (refused.code, "pass --start" in refused.err) == (2, True), refused.err
    done = toolkit(*words, "--start", "run/checkpoint.pt", "--json", **environment)
    assert done.code == 0, done.err
    head, film, photos = done.json["variants"]
    assert (film["name"], film["faces"]) == ("film", 2 * 4 * 6)
    assert head["faces"] - photos["faces"] == 4, "half an epoch of eight blends: each variant has its own faces"
    assert (folder / "ablation" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    again = toolkit(*words, "--start", "run/checkpoint.pt", "--json", **environment)
    assert again.json == done.json
    assert "variant head" not in again.err, "nothing is trained twice"


def grow_wider(toolkit: Callable[..., Any], folder: Path, environment: dict[str, str]) -> None:
    """A verifier of more channels that begins with the generator in folder/run."""
    text = (folder / "c.toml").read_text().replace("stem = 8", "stem = 12").replace("= 0.5", "= 0")
    (folder / "w.toml").write_text(text)
    words = ("train", "--config", "w.toml", "--data", folder, "--out", "wider")
    refused = toolkit(*words, "--start", "run/h.onnx", **environment)
    assert (refused.code, "with --grow" in refused.err) == (2, True), refused.err
    refused = toolkit(*words, "--grow", "run/h.onnx", "--start", "run/checkpoint.pt", **environment)
    assert (refused.code, "in the place of --start" in refused.err) == (2, True), refused.err
    done = toolkit(*words, "--grow", "run/h.onnx", "--json", **environment)
    assert done.code == 0, done.err
    eer = [
        json.loads((folder / run / "h.json").read_text())["training"]["validation"]["eer"] for run in ("run", "wider")
    ]
    assert eer[1] == pytest.approx(eer[0], abs=0.02), "at first it does what the other did"


def test_errors_are_of_our_own_tree(tmp_path: Path) -> None:
    with pytest.raises(HyperverifyError):
        map_faces([tmp_path / "nothing"], Framing(32), Colours())
