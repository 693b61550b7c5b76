"""`toolkit export-batch`: bundles of many people from their templates."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.export import FILES
from toolkit.commands.options import GeneratorFile, Json, Threads
from toolkit.errors import InputError, MissingError, UsageError
from toolkit.output import emit, note
from toolkit.progress import track

if TYPE_CHECKING:
    import numpy as np

    from export.batch import Batch, Sink
    from models.generator import Generator


Names = Annotated[
    Path | None, typer.Option("--names", help="With .npy: a text file, one name a line; default: row numbers.")
]


def export_batch(
    source: Annotated[
        Path,
        typer.Argument(
            help="Templates, .npy float32 [N, D]; or aligned crops, Parquet or one sub-folder a person.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder, a file ending in .tar, or - for a tar stream.")],
    names: Names = None,
    photos: Annotated[int, typer.Option(min=1, help="With .npy: photos behind each template, for thresholds.")] = 1,
    formats: Annotated[str, typer.Option(help=f"With commas: {', '.join(FILES)}.")] = "onnx-int8,tflite-int8",
    generator: GeneratorFile = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Write NAME.hvb for many people at once, from templates or from aligned crops.

    A run that was stopped goes on where it ended: whole bundles are kept. Everything is 0600.
    """
    chosen = _formats(formats)
    if json and str(out) == "-":
        raise UsageError("--json and --out - both want stdout", do="choose one")
    try:
        from models.generator import SHIPPED, Generator

        h = Generator(generator or SHIPPED)
        people, templates, fused = _people(source, names, photos, h, threads)
        batch, detector = _batch(h, fused, chosen)
        from export.batch import check_people
    except ImportError as error:
        raise MissingError(f"export needs {error.name}", do="run `pip install 'hyperverify[enroll]'`") from error
    check_people(people, templates, h.template_dim)
    start, busy, written = time.monotonic(), time.process_time(), 0
    with _sink(out, detector) as sink:
        for new in track(batch.write(people, templates, sink), "bundles", len(people)):
            written += new
    result = {"out": str(out), "people": len(people), "written": written, "kept": len(people) - written,
              "formats": formats.split(",")}  # fmt: skip
    _report(out, result, time.monotonic() - start, max(time.process_time() - busy, 1e-3), json)


def _report(out: Path, result: dict[str, Any], seconds: float, busy: float, as_json: bool) -> None:
    written, kept = result["written"], result["kept"]
    result |= {"seconds": round(seconds, 3), "cpu_seconds": round(busy, 3)}
    rate = f", {written / seconds:.0f} a second, {written / busy:.0f} a second of one core" if written else ""
    text = f"{out}: {written} bundles written{rate}, {kept} were there"
    if str(out) == "-":
        note(text)
    else:
        emit(result, as_json, lambda: text)


def _formats(text: str) -> tuple[tuple[str, str], ...]:
    words = [word.strip() for word in text.split(",")]
    if not words or len(set(words)) != len(words) or not set(words) <= set(FILES):
        raise UsageError("--formats is not a list of formats", got=text, expected=", ".join(FILES))
    return tuple(FILES[word] for word in words)


def _people(
    source: Path, names: Path | None, photos: int, h: Generator, threads: int
) -> tuple[list[str], np.ndarray, int]:
    """Names, templates and how many photos stand behind each. Raises InputError."""
    if source.suffix != ".npy":
        if names:
            raise UsageError("--names belongs to .npy templates", do="crops carry their identities")
        return _of_crops(source, h, threads)
    import numpy as np

    try:
        templates = np.load(source, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{source} is not a readable .npy file", got=error) from error
    if names is None:
        return [f"{row:06d}" for row in range(len(templates))], templates, photos
    try:
        return names.read_text(encoding="utf-8").splitlines(), templates, photos
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{names} is not a readable list of names", got=error) from error


def _of_crops(source: Path, h: Generator, threads: int) -> tuple[list[str], np.ndarray, int]:
    """One fused template a person; the thresholds are those for the fewest photos that anybody has."""
    import numpy as np

    from models.backbone import load_backbone
    from models.facedata import read_faces, templates_of
    from models.generator import fuse_photos

    faces = read_faces(source)
    templates = templates_of(faces, load_backbone(h.info.backbone, None, threads))
    rows: dict[str, list[int]] = {}
    for row, identity in enumerate(faces.identities):
        if identity:
            rows.setdefault(identity, []).append(row)
    if not rows:
        raise InputError(f"{source} names nobody", expected="crops with identities")
    people = sorted(rows)
    framing = h.info.spec.framing
    fused = [fuse_photos(faces.some(rows[p]).crops(framing), templates[rows[p]], framing) for p in people]
    return people, np.stack(fused), min(map(len, rows.values()))


def _batch(h: Generator, photos: int, formats: tuple[tuple[str, str], ...]) -> tuple[Batch, bytes]:
    import numpy as np

    from export.batch import Batch
    from models.files import find_model
    from models.fold import detector_file
    from toolkit.commands.enroll import content_of

    detector = detector_file(find_model("yunet"))
    content = content_of("nobody", h, np.zeros(h.info.spec.params, np.float32), photos, detector)
    return Batch(h, content, formats), detector


def _sink(out: Path, detector: bytes) -> Sink:
    from export.batch import FolderSink, TarSink

    if str(out) == "-":
        return TarSink(detector, stream=sys.stdout.buffer)
    return TarSink(detector, path=out) if out.suffix == ".tar" else FolderSink(out, detector)
