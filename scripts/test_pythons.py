"""Are exports byte-identical between runs and between versions of Python? `make test-pythons`.

    python scripts/test_pythons.py FOLDER [PYTHON ...]

In FOLDER, each further Python from 3.11 on (those named, or all on the PATH) gets an environment of its own with the
packages of constraints.txt. There, and twice here, θ made of fixed random numbers is written in every format; all
digests must be equal. Without a further Python this says so in one line and ends with 0.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MINORS = range(11, 20)
PACKAGES = ("numpy", "onnx", "flatbuffers", "ai-edge-litert")  # what the writers import
WRITE = """
import json, sys
from hashlib import sha256
import numpy as np
sys.path.insert(0, sys.argv[1])
from export.bundle import write_model
from export.c_writer import write_c
from models.spec import DEFAULT_SPEC
theta = (np.random.default_rng(1).integers(-400, 400, DEFAULT_SPEC.params) / 2000).astype(np.float32)
forms = [(kind, precision) for kind in ("onnx", "tflite") for precision in ("fp32", "int8")] + [("tflite", "uint8")]
files = {" ".join(form): write_model(DEFAULT_SPEC, theta, *form) for form in forms}
for precision in ("int8", "fp32"):
    files |= {f"{name} {precision}": data for name, data in write_c(DEFAULT_SPEC, theta, precision).items()}
print(json.dumps({name: sha256(data).hexdigest() for name, data in files.items()}))
"""


def version(python: str) -> str:
    """Like "3.12"; empty for a program that does not run."""
    done = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def others(named: list[str]) -> dict[str, str]:
    """Version → program, without the version that runs this."""
    found = {version(path): path for name in named or [f"python3.{n}" for n in MINORS] if (path := shutil.which(name))}
    return {v: path for v, path in found.items() if v and v != version(sys.executable)}


def environment(python: str, folder: Path) -> str:
    """Its own Python, with what the writers import."""
    own = folder / "bin" / "python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [
        str(own),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        str(ROOT / "constraints.txt"),
    ]
    subprocess.run([*pip, *PACKAGES], check=True)
    return str(own)


def digests(python: str) -> dict[str, str]:
    done = subprocess.run([python, "-c", WRITE, str(ROOT)], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    here = version(sys.executable)
    found = others(sys.argv[2:])
    runs = {f"Python {here}": digests(sys.executable), f"Python {here} again": digests(sys.executable)}
    if not found:
        print(f"test-pythons skipped: no second Python beside {here} here, 3.11 or newer; name one: make PYTHONS=...")
    for name, python in found.items():
        print(f"Python {name}: {python}", file=sys.stderr, flush=True)
        runs[f"Python {name}"] = digests(environment(python, Path(sys.argv[1]) / name))
    first = runs[f"Python {here}"]
    different = [f"{run}: {file}" for run, files in runs.items() for file in first if files.get(file) != first[file]]
    print(f"{len(first)} files by {', '.join(runs)}: {'different' if different else 'byte-identical'}")
    sys.exit("\n".join(different) or 0)


if __name__ == "__main__":
    main()
