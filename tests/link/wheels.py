"""Small wheels for the tests of wheelhouses: a few files and the metadata that pip wants."""

from __future__ import annotations

import ensurepip
import platform
import shutil
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from device.link.wheelhouse import Target, write_lists

HERE = Target(platform.machine(), f"{sys.version_info[0]}.{sys.version_info[1]}", 36)

# What stands in for `python -m device.link` of the real wheel: passes, fails, or loses power once.
PROGRAM = """
import os, signal, sys
from pathlib import Path
root = Path(os.environ["HYPERVERIFY_DEVICE_ROOT"])
import helper
if sys.argv[1] == "test" and (root / "power-cut").exists():
    (root / "power-cut").unlink()
    os.kill(os.getppid(), signal.SIGKILL)
if sys.argv[1] in {fails!r}:
    sys.exit("it does not work: " + sys.argv[1])
"""


def make_wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str], needs: Sequence[str] = (),
    extras: Sequence[str] = (), tag: str = "py3-none-any",
) -> Path:  # fmt: skip
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {need}" for need in needs]
    about = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    content = {**files, f"{info}/METADATA": "\n".join(metadata) + "\n", f"{info}/WHEEL": about}
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return wheel


def own_wheel(folder: Path, version: str, fails: Sequence[str] = ()) -> Path:
    """A stand-in for the project: its version, and which of its words fail."""
    files = {"device/__init__.py": f"VERSION = {version!r}\n", "device/link/__init__.py": "",
             "device/link/__main__.py": PROGRAM.format(fails=list(fails))}  # fmt: skip
    return make_wheel(folder, "hyperverify", version, files, ["helper>=1"], ["litert", "link"])


def bundled_pip() -> Path | None:
    """Python's own copy of pip; Debian's Python leaves it out."""
    return next(iter(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")), None)


def small_wheelhouse(folder: Path, version: str, fails: Sequence[str] = (), target: Target = HERE) -> Path:
    folder.mkdir(parents=True)
    make_wheel(folder, "helper", "1.0", {"helper.py": ""})
    pip = bundled_pip()
    assert pip is not None
    shutil.copy(pip, folder)
    write_lists(folder, "test", target, own_wheel(folder, version, fails).name, "litert")
    return folder
