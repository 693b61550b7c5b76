"""`toolkit bank`: other people's faces in one file, for `toolkit enroll --refine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.options import GeneratorFile, Json, Threads
from toolkit.errors import ArtifactError, MissingError, UsageError
from toolkit.output import emit, note

app = typer.Typer(
    help="Banks: other people's faces, that personal refinement learns from.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[
    list[Path],
    typer.Argument(
        help="Folders of photos (a sub-folder is one person); crops as Parquet, .rec or .tar, or folders of these.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="The bank to write.", show_default=False)]
Split = Annotated[str, typer.Option(help="Only this split of Parquet files that have splits; empty: all.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace an existing file.")]
BackboneFile = Annotated[
    Path | None, typer.Option("--backbone", help="The backbone's file, or the folder of its files; default: found.")
]
DetectorFile = Annotated[Path | None, typer.Option("--detector", help="YuNet's file; default: found by itself.")]


@app.callback()
def _group() -> None:
    """Keeps `build` a command of its own while it is the only one."""


@app.command()
def build(
    sources: Source,
    out: Out,
    split: Split = "",
    replace: Replace = False,
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    detector: DetectorFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Write a bank: aligned crops at the verifier's input size, their templates, and who is whom where that is known.

    Photos are detected and aligned by --threads processes. The file appears whole or not at all, for its owner only
    (0600): it holds faces. It fits the generator that it was built with, and others of that input, region and backbone.
    """
    _check(sources, out, replace)
    from models.backbone import load_backbone
    from models.bank import write_bank
    from models.bank_sources import Sources
    from models.files import find_model
    from models.fold import detector_file
    from models.generator import SHIPPED, Generator

    info = Generator(generator or SHIPPED).info
    network = load_backbone(info.backbone, backbone, threads)
    if network.sha256 != info.backbone_sha256:
        raise ArtifactError(f"the generator was trained with another {info.backbone}", do="use matching files")
    found = Sources(network, backbone, detector_file(find_model("yunet", detector)), info.spec.framing, split, threads)
    faces, people = write_bank(out, found.faces(sources), info.spec, info.backbone, info.backbone_sha256)
    for reason, count in sorted(found.unused.items()):
        note(f"not used: {count} photos: {reason}")
    result = {
        "bank": str(out),
        "faces": faces,
        "people": people,
        "bytes": out.stat().st_size,
        "not_used": dict(sorted(found.unused.items())),
    }
    emit(result, json, lambda: f"{out}: {faces:,} faces, {people:,} known people, {out.stat().st_size / 1e6:.0f} MB")


def _check(sources: list[Path], out: Path, replace: bool) -> None:
    """Refuse before the work, not after it."""
    from importlib.util import find_spec

    if out.exists() and not (replace and out.is_file()):
        raise UsageError(f"{out} exists already", do="choose another name or pass --replace")
    for source in sources:
        if not source.exists():
            raise UsageError(f"no such file or folder: {source}", do="name folders of photos or Parquet files")
    missing = [name for name in ("cv2", "onnx", "onnxruntime", "pyarrow") if find_spec(name) is None]
    if missing:
        raise MissingError(f"a bank needs {', '.join(missing)}", do="run `pip install 'hyperverify[refine]'`")
