"""The command line as people use it: a process, its exit code, its stdout and its one clear sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

Toolkit = Callable[..., object]


def grey(path: Path, height: int = 300, width: int = 300) -> Path:
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
    return path


def only_one_sentence(err: str) -> bool:
    return err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err


def test_enrolling_twice_gives_the_same_bytes(toolkit: Toolkit, photos: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        done = toolkit(
            "enroll", "obama", photos / "obama.jpg", photos / "obama2.jpg", "--out", tmp_path / folder, "--json"
        )
        assert done.code == 0, done.err
        assert done.json["photos_used"] == 2
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / f / "obama.hvb").iterdir()} for f in ("one", "two"))
    assert one == two
    assert len(one) == 7


def test_verify_accepts_the_person_and_refuses_another(toolkit: Toolkit, bundle: Path, photos: Path) -> None:
    done = toolkit("verify", bundle, photos / "obama.jpg", "--json")
    assert done.code == 0, done.out
    (row,) = done.json["images"]
    assert row["decision"] == "accepted"
    assert row["score"] >= done.json["threshold"]
    for runtime in ("litert", "onnxruntime"):
        for precision in ("int8", "fp32"):
            done = toolkit("verify", bundle, photos / "biden.jpg", "--runtime", runtime, "--precision", precision)
            assert done.code == 10, done.err
            assert "rejected" in done.out


def test_verify_says_why_a_photo_is_unusable(toolkit: Toolkit, bundle: Path, photos: Path, tmp_path: Path) -> None:
    done = toolkit("verify", bundle, grey(tmp_path / "grey.png"), photos / "obama.jpg", "--json")
    assert done.code == 4
    assert [r["decision"] for r in done.json["images"]] == ["unusable", "accepted"]
    assert done.json["images"][0]["reason"] == "no_face"
    assert toolkit("verify", bundle, grey(tmp_path / "grey.png"), photos / "biden.jpg").code == 10


def test_litert_without_xnnpack_is_told(toolkit: Toolkit, bundle: Path, photos: Path, tmp_path: Path) -> None:
    """As on an ARM processor that LiteRT cannot look up."""
    (tmp_path / "sitecustomize.py").write_text(
        "import functools\n"
        "from ai_edge_litert import interpreter as i\n"
        "plain = i.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES\n"
        "i.Interpreter = functools.partial(i.Interpreter, experimental_op_resolver_type=plain)\n"
    )
    for command in (("verify", bundle, photos / "obama.jpg"), ("run", bundle, "--source", photos / "obama.jpg")):
        plain = toolkit(*command, PYTHONPATH=f"{tmp_path}:{ROOT}")
        assert (plain.code, plain.err.count("without XNNPACK")) == (0, 1), plain.err
        assert "XNNPACK" not in toolkit(*command).err


def test_operating_points_order_the_thresholds(toolkit: Toolkit, bundle: Path, photos: Path) -> None:
    found = []
    for point in ("fmr1e-2", "fmr1e-3", "fmr1e-4"):
        found.append(
            toolkit("verify", bundle, photos / "obama.jpg", "--operating-point", point, "--json").json["threshold"]
        )
    assert found == sorted(found)
    done = toolkit("verify", bundle, photos / "obama.jpg", "--operating-point", "fmr1e-9")
    assert done.code == 2
    assert "unknown operating point" in done.err


def make_video(path: Path, pictures: list[Path], frames: int = 8) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (480, 600))
    for picture in pictures:
        frame = cv2.resize(cv2.imread(str(picture)), (480, 600), interpolation=cv2.INTER_AREA)
        for i in range(frames):
            writer.write(cv2.warpAffine(frame, np.float32([[1, 0, i], [0, 1, i]]), (480, 600)))
    writer.release()
    return path


def test_run_decides_over_a_video(toolkit: Toolkit, bundle: Path, photos: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "obama.avi", [photos / "obama.jpg"])
    done = toolkit("run", bundle, "--source", video, "--json")
    assert done.code == 0, done.err
    (line,) = [json.loads(text) for text in done.out.splitlines()]
    assert line["decision"] == "accepted"
    assert 1 <= line["frames"] <= 8
    assert toolkit("run", bundle, "--source", video, "--once").code == 0
    stranger = make_video(tmp_path / "biden.avi", [photos / "biden.jpg"])
    assert toolkit("run", bundle, "--source", stranger, "--once").code in (4, 10), "rejected, or not enough to tell"


def test_run_gives_up_after_its_timeout(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "empty.avi", [grey(tmp_path / "grey.png")], frames=40)
    done = toolkit("run", bundle, "--source", video, "--timeout", "2", "--json")
    assert done.code == 4
    assert "no decision within 2 s; no face found" in done.err
    assert done.json["error"]["reason"] == "timeout"
    assert "ended without a decision" in toolkit("run", bundle, "--source", video).err


def test_run_over_a_folder_decides_photo_by_photo(toolkit: Toolkit, bundle: Path, photos: Path) -> None:
    done = toolkit("run", bundle, "--source", photos, "--json")
    lines = [json.loads(text) for text in done.out.splitlines()]
    decisions = {line["file"]: line["decision"] for line in lines}
    assert decisions["obama2.jpg"] == "accepted"
    assert decisions["biden.jpg"] == "rejected"


@pytest.mark.parametrize(
    ("format_", "file"),
    [
        ("onnx", "model.onnx"),
        ("onnx-int8", "model.int8.onnx"),
        ("tflite", "model.tflite"),
        ("tflite-int8", "model.int8.tflite"),
    ],
)
def test_export_gives_the_bundles_bytes(
    format_: str, file: str, toolkit: Toolkit, bundle: Path, tmp_path: Path
) -> None:
    done = toolkit("export", bundle, "--format", format_, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert (tmp_path / "out").read_bytes() == (bundle / file).read_bytes()
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_c_source_and_c_runtime(toolkit: Toolkit, bundle: Path, photos: Path, tmp_path: Path) -> None:
    for format_, score in (("c", "int32_t"), ("c-fp32", "float")):
        done = toolkit("export", bundle, "--format", format_, "-o", tmp_path / format_, "--json")
        assert [Path(row["file"]).name for row in done.json["files"]] == ["verifier.h", "verifier.c"], done.err
        header = (tmp_path / format_ / "verifier.h").read_text()
        assert f"{score} hv_score(" in header
        assert "HV_THRESHOLD_FMR1E_3" in header
        assert (tmp_path / format_ / "verifier.c").stat().st_mode & 0o777 == 0o600
    files = [photos / name for name in ("obama3.jpg", "biden.jpg")]
    results = {r: toolkit("verify", bundle, *files, "--runtime", r, "--json") for r in ("c", "litert")}
    scores = {r: [row["score"] for row in done.json["images"]] for r, done in results.items()}
    assert scores["c"] == pytest.approx(scores["litert"], abs=3 / 128)
    refused = toolkit("verify", bundle, files[0], "--runtime", "c", "--precision", "fp32")
    assert (refused.code, refused.out) == (2, "")
    assert "the runtime c has no such precision" in refused.err
    missing = toolkit("verify", bundle, files[0], "--runtime", "c", PATH=str(tmp_path), CC="")
    assert missing.code == 3
    assert "sudo apt install gcc" in missing.err


def test_evaluation_and_backbones_say_what_they_take(toolkit: Toolkit, photos: Path, tmp_path: Path) -> None:
    done = toolkit("eval", "household", "--faces", tmp_path, "--runtime", "c", "--precision", "int8")
    assert done.code == 2
    assert "--runtime litert" in done.err
    done = toolkit("enroll", "obama", photos / "obama.jpg", "--backbone", photos / "obama.jpg")
    assert done.code == 2
    assert "expected a folder with face_recognition_sface" in done.err


def test_doctor_finds_everything_here(toolkit: Toolkit) -> None:
    done = toolkit("doctor", "--json")
    assert done.code == 0, done.out
    checks = {check["name"]: check for check in done.json["checks"]}
    assert checks["model sface"]["status"] == "ok"
    assert checks["generator"]["status"] == "ok"
    assert all(check["remedy"] for check in done.json["checks"] if check["status"] == "failed")


def test_doctor_points_at_readable_templates(toolkit: Toolkit, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "obama.hvb"))
    (copy / "model.onnx").chmod(0o644)
    done = toolkit("doctor")
    assert done.code == 3
    assert "chmod -R go-rwx" in done.out


def test_models_are_listed(toolkit: Toolkit) -> None:
    done = toolkit("models", "list", "--json")
    assert {m["name"]: m["problem"] for m in done.json["models"]}["sface"] is None
    done = toolkit("models", "fetch", "resnet")
    assert done.code == 2
    assert "sface, yunet, dlib" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["enroll", "x", "nowhere/*"], 4, "no file matches"),
        (["enroll", "../x", "a.jpg"], 2, "this name cannot be used"),
        (["enroll", "x", "missing.jpg"], 4, "cannot read missing.jpg"),
        (["verify", "nothing.hvb", "a.jpg"], 4, "is not a bundle"),
        (["run", "nothing.hvb"], 4, "is not a bundle"),
        (["train", "--config", "nothing.toml"], 2, "no such configuration"),
        (["train"], 2, "train needs one of --config and --ablate"),
        (["train", "--ablate", "nothing.toml"], 2, "no such configuration"),
        (["eval", "pairs", "--faces", "x.parquet", "--pairs", "p", "--precision", "int4"], 2, "unknown precision"),
        (["eval", "household", "--faces", "x", "--enrol", "1,b"], 2, "not a list of photo counts"),
        (["enroll", "x", "a.jpg", "--generator", "no.onnx"], 3, "no generator at"),
    ],
)
def test_mistakes_end_in_one_sentence_and_their_code(
    arguments: list[str], code: int, message: str, toolkit: Toolkit, tmp_path: Path
) -> None:
    done = toolkit(*arguments)
    assert done.code == code, done.err
    assert message in done.err
    assert only_one_sentence(done.err)
    assert not [p for p in tmp_path.iterdir() if p.name not in ("cache", "models")], "nothing half-written stays"


def test_bad_photos_leave_nothing_behind(toolkit: Toolkit, photos: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    cv2.imwrite(str(tmp_path / "huge.jpg"), np.zeros((6000, 8400, 3), np.uint8))
    (tmp_path / "cut.jpg").write_bytes((photos / "obama.jpg").read_bytes()[:60_000])
    (tmp_path / "empty").mkdir()
    for bad, message in (
        (tmp_path / "huge.jpg", "at most 40 megapixels"),
        (tmp_path / "cut.jpg", "cut short"),
        (grey(tmp_path / "grey.png"), "no face found"),
        (tmp_path / "empty", "holds no photos"),
    ):
        done = toolkit("enroll", "x", bad, "--out", work)
        assert done.code == 4, done.err
        assert message in done.err
        assert not list(work.iterdir())
    done = toolkit("enroll", "x", photos / "obama.jpg", photos / "biden.jpg", "--out", work, "--json")
    assert done.code == 4
    assert done.json["error"]["reason"] == "mixed_people"
    assert not list(work.iterdir())


def test_an_existing_bundle_is_only_replaced_when_asked(toolkit: Toolkit, photos: Path, tmp_path: Path) -> None:
    assert toolkit("enroll", "o", photos / "obama.jpg").code == 0
    before = (tmp_path / "o.hvb" / "manifest.json").read_bytes()
    done = toolkit("enroll", "o", photos / "biden.jpg")
    assert done.code == 2
    assert "--replace" in done.err
    assert (tmp_path / "o.hvb" / "manifest.json").read_bytes() == before
    assert toolkit("enroll", "o", photos / "biden.jpg", "--replace").code == 0
    assert (tmp_path / "o.hvb" / "manifest.json").read_bytes() != before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_tampered_or_newer_bundle_ends_with_7(toolkit: Toolkit, bundle: Path, photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "c.hvb"))
    data = bytearray((copy / "model.int8.tflite").read_bytes())
    data[1000] ^= 4
    (copy / "model.int8.tflite").write_bytes(data)
    done = toolkit("verify", copy, photos / "obama.jpg", "--runtime", "litert")
    assert done.code == 7
    assert "was changed since it was enrolled" in done.err
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    assert toolkit("verify", copy, photos / "obama.jpg").code == 7


def test_a_missing_package_ends_with_3(bundle: Path, photos: Path) -> None:
    code = (
        "import sys\nfor n in ('ai_edge_litert', 'onnxruntime', 'tflite_runtime'): sys.modules[n] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in sys.modules and sys.modules[name] is None else find(name, *a)\n"
        f"sys.argv = ['toolkit', 'verify', {str(bundle)!r}, {str(photos / 'obama.jpg')!r}]\n"
        "from toolkit.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "pip install 'hyperverify[litert]'" in done.stderr


def test_a_full_disk_ends_with_3_and_leaves_nothing(toolkit: Toolkit, photos: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        done = toolkit("enroll", "x", photos / "obama.jpg", "--out", disk)
        assert done.code == 3, done.err
        assert "No space left on device; free some space" in done.err
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    command = f"{sys.executable} -u -m toolkit models list; echo code $? >&2"
    done = subprocess.run(["sh", "-c", f"({command}) | true"], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "code 141\n"


def test_version(toolkit: Toolkit) -> None:
    assert toolkit("--version").out.startswith("hyperverify ")
