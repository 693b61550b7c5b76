"""The device part stands alone: it imports with the workstation's packages blocked, and asks for none of them."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import device

ROOT = Path(__file__).parents[2]
BLOCKED = ("torch", "tensorflow", "onnx", "pyarrow", "scipy", "matplotlib", "faiss")
MODULES = [m.name for m in pkgutil.walk_packages(device.__path__, "device.")]


def loaded_after(code: str, blocked: tuple[str, ...] = ()) -> set[str]:
    """Top-level modules loaded by `code` in a fresh interpreter, with `blocked` ones raising ImportError."""
    program = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n{code}\nimport json\n"
    program += "print(json.dumps(sorted(n.split('.')[0] for n, m in sys.modules.items() if m)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_device_imports_with_the_workstation_blocked() -> None:
    loaded = loaded_after("\n".join(f"import {name}" for name in MODULES), BLOCKED)
    assert "device" in loaded
    assert not loaded & set(BLOCKED)


def test_device_modules_load_neither_opencv_nor_a_runtime_by_themselves() -> None:
    loaded = loaded_after("\n".join(f"import {name}" for name in MODULES))
    assert not loaded & {"cv2", "onnxruntime", "ai_edge_litert", "tflite_runtime", *BLOCKED}


def test_verification_runs_with_the_workstation_blocked(bundle: Path, photos: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from device.image import read_image\n"
        "from device.open import open_pipeline\n"
        "from export.manifest import open_bundle\n"
        f"with open_pipeline(open_bundle(Path({str(bundle)!r})), 'litert', 'int8') as p:\n"
        f"    assert p.observe(read_image(Path({str(photos / 'obama.jpg')!r}))).score is not None\n"
    )
    loaded = loaded_after(code, BLOCKED)
    assert "ai_edge_litert" in loaded


def test_help_loads_nothing_heavy() -> None:
    code = "from toolkit.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass"
    loaded = loaded_after(code)
    assert not loaded & {"numpy", "cv2", "onnxruntime", "onnx", "torch", "ai_edge_litert", "pyarrow", "scipy"}
