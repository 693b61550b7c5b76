"""Finding, checking and fetching third-party model files, from a real HTTP server."""

from __future__ import annotations

import bz2
import dataclasses
import hashlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models.fetch import fetch_model
from models.files import MODEL_FILES, ModelFile, find_model, model_folder
from toolkit.errors import ArtifactError, MissingError

CONTENT = b"the weights" * 100


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    """A pinned file that no carrier package has."""
    model = dataclasses.replace(
        MODEL_FILES["sface"], file="w.onnx", carrier="no_such_package", sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    monkeypatch.setitem(MODEL_FILES, "sface", model)
    return model


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "www"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()


def test_given_path_then_folder_then_carrier(model: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"w\.onnx not found.*toolkit models fetch sface"):
        find_model("sface")
    model_folder().mkdir(parents=True)
    kept = model_folder() / model.file
    kept.write_bytes(CONTENT)
    assert find_model("sface") == kept
    given = tmp_path / "mine.onnx"
    given.write_bytes(CONTENT)
    assert find_model("sface", given) == given
    with pytest.raises(MissingError):
        find_model("sface", tmp_path / "typo.onnx")
    given.write_bytes(CONTENT + b"!")
    with pytest.raises(ArtifactError, match="not the pinned file"):
        find_model("sface", given)


def test_the_carrier_package_has_the_pinned_bytes() -> None:
    for name in ("sface", "yunet"):
        assert find_model(name).name == MODEL_FILES[name].file


def test_fetch_keeps_the_right_file_only(model: ModelFile, server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "w.onnx").write_bytes(CONTENT)
    assert fetch_model(model, f"{url}/w.onnx").read_bytes() == CONTENT
    assert find_model("sface") == model_folder() / "w.onnx"
    (folder / "w.onnx").write_bytes(b"something else")
    (model_folder() / "w.onnx").unlink()
    with pytest.raises(ArtifactError, match="another file than the pinned one"):
        fetch_model(model, f"{url}/w.onnx")
    assert not list(model_folder().iterdir())


def test_a_download_that_ends_early_is_the_networks_fault_not_the_files(model: ModelFile) -> None:
    answers = [b"Content-Length: 1100\r\n\r\nthe weights", b"Transfer-Encoding: chunked\r\n\r\n44c\r\nthe weights"]

    def serve(listener: socket.socket) -> None:
        for answer in answers:
            with listener.accept()[0] as peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\n" + answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        for _ in answers:
            with pytest.raises(MissingError, match="cannot download"):
                fetch_model(model, f"http://127.0.0.1:{listener.getsockname()[1]}/w.onnx")
    assert not (model_folder() / model.file).exists()


def test_fetch_unpacks_bzip2_and_reports_failures(model: ModelFile, server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "w.bz2").write_bytes(bz2.compress(CONTENT))
    assert fetch_model(model, f"{url}/w.bz2").read_bytes() == CONTENT
    (folder / "bad.bz2").write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="not a bzip2 file"):
        fetch_model(model, f"{url}/bad.bz2")
    with pytest.raises(MissingError, match="404"):
        fetch_model(model, f"{url}/nothing")
    with pytest.raises(MissingError, match="cannot download"):
        fetch_model(model, "http://127.0.0.1:1/x")
