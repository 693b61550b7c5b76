"""Wheelhouses: what pip chooses for a target, what is listed, and what is refused. pip's index is a folder here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from link_support import Toolkit
from wheels import HERE, make_wheel, own_wheel

from device.link.wheelhouse import TARGETS, check_complete, find_target, read_wheelhouse, write_lists
from toolkit.errors import ArtifactError, InputError, MissingError

BACKEND = """
import shutil
from pathlib import Path
def build_wheel(folder, config_settings=None, metadata_directory=None):
    wheel = next(Path(__file__).parent.glob("*.whl"))
    shutil.copy(wheel, folder)
    return wheel.name
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree whose build gives a ready wheel."""
    source = tmp_path / "source"
    (source / "toolkit").mkdir(parents=True)
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["toolkit"]\n'
    (source / "pyproject.toml").write_text(project + '[project]\nname = "hyperverify"\nversion = "1.0"\n')
    (source / "toolkit" / "backend.py").write_text(BACKEND)
    (source / "constraints.txt").write_text("helper==1.5\n")
    own_wheel(source / "toolkit", "1.0")
    return source


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """pip's settings for an index with helper in three versions and for two machines, and pip itself."""
    from importlib.metadata import version

    folder = tmp_path / "index"
    folder.mkdir()
    for machine in ("aarch64", "x86_64"):
        for number in ("1.0", "1.5", "2.0"):
            make_wheel(folder, "helper", number, {"helper.py": ""}, tag=f"cp311-cp311-manylinux_2_28_{machine}")
    make_wheel(folder, "pip", version("pip"), {"pip/__init__.py": ""})
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}


def test_the_targets_wheels_at_the_pinned_versions(
    toolkit: Toolkit, source: Path, index: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "house"
    before = sorted(source.rglob("*"))
    done = toolkit("wheelhouse", "--target", "pi5-py311", "-o", out, "--source", source, "--json", **index)
    assert done.code == 0, done.err
    names = [file["name"] for file in done.json["files"]]
    assert "helper-1.5-cp311-cp311-manylinux_2_28_aarch64.whl" in names
    assert [name for name in names if name.startswith("helper")] == [
        "helper-1.5-cp311-cp311-manylinux_2_28_aarch64.whl"
    ]
    assert "hyperverify-1.0-py3-none-any.whl" in names
    assert sorted(source.rglob("*")) == before, "building leaves nothing in the source tree"
    requirements = (out / "requirements.txt").read_text().splitlines()
    assert len(requirements) == 3
    assert all(" --hash=sha256:" in line for line in requirements)
    assert any(line.startswith("hyperverify[litert,link]==1.0 ") for line in requirements)
    house = read_wheelhouse(out)
    assert (house.machine, house.python, house.id) == ("aarch64", "3.11", done.json["id"])
    again = toolkit("wheelhouse", "--target", "pi5-py311", "-o", out, "--source", source, **index)
    assert again.code == 2
    assert "--replace" in again.err
    more = toolkit("wheelhouse", "--target", "pi5-py311", "-o", out, "--source", source, "--replace", "--json", **index)
    assert more.json["id"] == house.id, "the same packages, the same wheelhouse"


def test_what_cannot_be_made_is_told(toolkit: Toolkit, source: Path, index: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "house"
    unknown = toolkit("wheelhouse", "--target", "pi9-py311", "-o", out)
    assert unknown.code == 2
    assert all(name in unknown.err for name in TARGETS)
    assert toolkit("wheelhouse", "--target", "pi5-py311", "-o", out, "--runtime", "tflite").code == 2
    elsewhere = toolkit("wheelhouse", "--target", "pi5-py311", "-o", tmp_path, "--source", source, "--replace", **index)
    assert elsewhere.code == 2
    assert "is no wheelhouse" in elsewhere.err
    no_source = toolkit("wheelhouse", "--target", "pi5-py311", "-o", out, "--source", tmp_path, **index)
    assert no_source.code == 3
    assert "--source" in no_source.err
    no_wheel = toolkit("wheelhouse", "--target", "pi5-py313", "-o", out, "--source", source, **index)
    assert no_wheel.code == 3
    assert "helper" in no_wheel.err
    assert not out.exists()
    assert not list(tmp_path.glob(".house*"))


def test_packages_that_only_the_target_needs_are_missed(tmp_path: Path) -> None:
    make_wheel(tmp_path, "one", "1.0", {}, ['two; python_version >= "3.13"', 'three; platform_machine == "aarch64"'])
    check_complete(tmp_path, find_target("pc-py311"), ())
    with pytest.raises(MissingError, match="two for one"):
        check_complete(tmp_path, find_target("pc-py313"), ())
    with pytest.raises(MissingError, match="three for one"):
        check_complete(tmp_path, find_target("pi5-py311"), ())
    make_wheel(tmp_path, "three", "1.0", {})
    check_complete(tmp_path, find_target("pi5-py311"), ())


def test_a_changed_wheelhouse_is_refused(toolkit: Toolkit, tmp_path: Path) -> None:
    out = tmp_path / "house"
    out.mkdir()
    wheel = make_wheel(out, "helper", "1.0", {"helper.py": ""})
    write_lists(out, "test", HERE, own_wheel(out, "1.0").name, "litert")
    good = wheel.read_bytes()
    wheel.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    refused = toolkit("deploy", "--wheelhouse", out, "--to", "nowhere")
    assert refused.code == 7
    assert wheel.name in refused.err
    wheel.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        read_wheelhouse(out)
    for text in ("", "[]", "{}", json.dumps({"schema_version": 2, "files": []}), "[" * 100000):
        (out / "wheelhouse.json").write_text(text)
        with pytest.raises(ArtifactError, match="damaged"):
            read_wheelhouse(out)
    with pytest.raises(InputError, match="not a wheelhouse"):
        read_wheelhouse(tmp_path)
