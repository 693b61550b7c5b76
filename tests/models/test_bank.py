"""Banks: what is written is read back, from files on disk; what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bank import BLOCK, Bank, BankFaces, open_bank, write_bank
from models.spec import DEFAULT_SPEC, VerifierSpec, mobile_spec
from models.strangers import APART, ENOUGH_KNOWN, KNOWN, MIN_APART, MIN_KNOWN, PER_PERSON, choose_strangers
from toolkit.errors import ArtifactError, InputError

pytest.importorskip("pyarrow")
SHA = "0" * 64


def faces(count: int, seed: int = 0, dim: int = 8, side: int = DEFAULT_SPEC.input_px) -> BankFaces:
    rng = np.random.default_rng(seed)
    templates = rng.standard_normal((count, dim)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    people = [f"p{i // 3}" if i % 4 else "" for i in range(count)]
    return BankFaces(rng.integers(0, 256, (count, side, side, 3), np.uint8), templates, people)


def written(path: Path, *blocks: BankFaces) -> Path:
    write_bank(path, blocks, DEFAULT_SPEC, "sface", SHA)
    return path


def opened(path: Path, spec: VerifierSpec = DEFAULT_SPEC, backbone: str = "sface", sha: str = SHA) -> Bank:
    return open_bank(path, spec, backbone, sha)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("bank") / "small.bank", faces(20))


def test_a_bank_gives_back_what_was_written_block_by_block(tmp_path: Path) -> None:
    parts = [faces(700, 1), faces(1, 2), faces(BLOCK, 3)]
    bank = opened(written(tmp_path / "b", *parts))
    pixels, templates = (np.concatenate([getattr(p, name) for p in parts]) for name in ("pixels", "templates"))
    rows = np.array([0, 1724, 699, 700, 1023, 1024, 5])
    assert len(bank) == 1725
    np.testing.assert_array_equal(bank.pixels(rows), pixels[rows])
    np.testing.assert_array_equal(bank.templates, templates)
    names = [name for part in parts for name in part.people]
    for row in rows:
        assert (bank.identity[row] == -1) == (names[row] == "")
        same = [i for i, name in enumerate(names) if name and name == names[row]]
        assert not same or np.flatnonzero(bank.identity == bank.identity[row]).tolist() == same
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_names_of_people_are_not_kept(small: Path) -> None:
    assert b"p5" not in small.read_bytes()[-4096:]
    assert opened(small).identity.max() == 6


def test_pixels_stay_on_disk(small: Path) -> None:
    (block,) = opened(small).blocks
    assert not block.flags.owndata
    assert not block.flags.writeable


def test_the_same_faces_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    assert written(tmp_path / "b", faces(20)).read_bytes() == small.read_bytes()


@pytest.mark.parametrize(
    ("spec", "backbone", "sha", "message"),
    [
        (mobile_spec(input_px=72, half=40), "sface", SHA, "another input size"),
        (mobile_spec(region=(0, 0, 112)), "sface", SHA, "another part of the face"),
        (DEFAULT_SPEC, "dlib", SHA, "another backbone;"),
        (DEFAULT_SPEC, "sface", "1" * 64, "another backbone file"),
    ],
)
def test_a_bank_for_something_else_is_refused(
    spec: VerifierSpec, backbone: str, sha: str, message: str, small: Path
) -> None:
    with pytest.raises(ArtifactError, match=message):
        opened(small, spec, backbone, sha)


def test_a_bank_without_faces_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no face"):
        written(tmp_path / "b")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no such bank"):
        opened(tmp_path / "b")


@settings(max_examples=150, deadline=None)
@given(draw=st.data())
def test_damaged_banks_are_refused_or_read_whole(
    small: Path, draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut anywhere, or with some bytes of its frame changed: one of our errors, or a bank of the right shape."""
    content = bytearray(small.read_bytes())
    if draw.draw(st.booleans()):
        content = content[: draw.draw(st.integers(0, len(content) - 1))]
    else:
        # The frame, not the 240 kB of pixels in the middle, where every byte is a valid one.
        places = st.one_of(st.integers(0, 900), st.integers(len(content) - 1800, len(content) - 1))
        for _ in range(draw.draw(st.integers(1, 4))):
            content[draw.draw(places)] = draw.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "b"
    path.write_bytes(content)
    try:
        bank = opened(path)
    except ArtifactError:
        return
    assert bank.templates.shape[0] == bank.identity.shape[0] == len(bank)
    side = DEFAULT_SPEC.input_px
    assert bank.pixels(np.arange(len(bank))).shape == (len(bank), side, side, 3)


def test_strangers_are_apart_and_nobody_looks_like_the_person(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    count = 6000
    block = BankFaces(
        rng.integers(0, 256, (count, 4, 4, 3), np.uint8),
        faces(count, 6).templates,
        [f"p{i // 5}" if i % 3 else "" for i in range(count)],
    )
    spec = DEFAULT_SPEC
    bank = Bank(tmp_path, block.templates, np.array([int(p[1:]) if p else -1 for p in block.people]), [])
    assert spec.input_px > 4
    template = block.templates[7]
    chosen = choose_strangers(bank, template, "sface", seed=1)
    parts = [chosen.known, chosen.judging]
    for i, one in enumerate(parts):
        assert (bank.templates[one] @ template <= 0.5).all()
        assert 7 // 5 not in bank.identity[one], "no photo of somebody of whom one photo looks like the person"
        for other in parts[i + 1 :]:
            assert not set(one) & set(other)
            known = set(bank.identity[one]) & set(bank.identity[other])
            assert known <= {-1}, "nobody is in both parts"
    assert np.unique(bank.identity[chosen.known], return_counts=True)[1].min() > 1
    assert -1 not in bank.identity[chosen.known]
    again = choose_strangers(bank, template, "sface", seed=1)
    assert all(np.array_equal(getattr(chosen, n), getattr(again, n)) for n in ("known", "judging"))


@pytest.mark.parametrize(("people", "each"), [(900, 60), (6000, 3), (ENOUGH_KNOWN * 3 // 4, 9)])
def test_everybody_teaches_a_little(people: int, each: int, tmp_path: Path) -> None:
    """However many photos some have; a bank that knows too few people teaches nothing."""
    rng = np.random.default_rng(0)
    identity = np.append(np.repeat(np.arange(people), each), np.full(KNOWN, people))  # one has as many as are wanted
    templates = rng.standard_normal((len(identity), 64)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    person = np.eye(1, 64, dtype=np.float32)[0]
    known = choose_strangers(Bank(tmp_path, templates, identity, []), person, "dlib", seed=1).known
    if people < ENOUGH_KNOWN:
        assert not len(known)
        return
    count = np.unique(identity[known], return_counts=True)[1]
    assert len(count) >= MIN_KNOWN
    assert 2 <= count.min() <= count.max() <= PER_PERSON
    assert 0.4 * KNOWN < len(known) <= KNOWN


def test_a_bank_too_small_to_judge_by_is_refused(small: Path) -> None:
    bank = opened(small)
    with pytest.raises(InputError, match=f"too small.*{round(MIN_APART / APART * 1.2)}"):
        choose_strangers(bank, bank.templates[0], "sface", 1)


def test_bank_build_from_photos_and_parquet(toolkit: Callable[..., object], photos: Path, tmp_path: Path) -> None:
    """Real photos through the command line; sub-folders are people; what shows no face is counted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from models.generator import Generator

    (tmp_path / "album" / "joe").mkdir(parents=True)
    for name, place in (("obama", ""), ("biden", "joe"), ("obama2", "joe")):
        (tmp_path / "album" / place / f"{name}.jpg").write_bytes((photos / f"{name}.jpg").read_bytes())
    cv2.imwrite(str(tmp_path / "album" / "grey.png"), np.full((300, 300, 3), 90, np.uint8))
    (tmp_path / "album" / "cut.jpg").write_bytes((photos / "obama.jpg").read_bytes()[:5000])
    crop = cv2.imencode(".png", np.full((112, 112, 3), 77, np.uint8))[1].tobytes()
    rows = {"image": [crop] * 3, "identity": ["ann", "ann", ""], "split": ["train", "val", ""]}
    pq.write_table(pa.table(rows), tmp_path / "crops.parquet")
    done = toolkit(
        "bank", "build", tmp_path / "album", tmp_path / "crops.parquet", "-o", "b", "--split", "train", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["faces"] == 5
    assert done.json["people"] == 2
    assert done.json["not_used"] == {"no_face": 1, "unreadable": 1}
    info = Generator().info
    bank = open_bank(tmp_path / "b", info.spec, info.backbone, info.backbone_sha256)
    assert sorted(bank.identity.tolist()) == [-1, -1, 0, 0, 1]
    joe = bank.templates[bank.identity == 0]
    alone = bank.templates[0 if bank.identity[0] == -1 else 2]
    assert (joe @ alone).max() > 0.5, "the same man in two photos"
    assert toolkit("bank", "build", tmp_path / "album", "-o", "b").code == 2
    for year in ("joe/2021", "ann/2021"):
        (tmp_path / "albums" / year).mkdir(parents=True)
        (tmp_path / "albums" / year / "photo.jpg").write_bytes((photos / "obama.jpg").read_bytes())
    nested = toolkit("bank", "build", tmp_path / "albums", "-o", "nested", "--json")
    assert nested.json["people"] == 2, "two folders of one name are not one person"
    assert toolkit("bank", "build", tmp_path / "nowhere", "-o", "c").code == 2
