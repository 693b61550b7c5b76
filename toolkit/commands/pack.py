"""`toolkit pack`: a bundle as a parcel, one signed and sealed file for one device, for somebody else to bring there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.commands.keys import open_keys
from toolkit.commands.options import Bundle, Json, Plain
from toolkit.errors import UsageError
from toolkit.output import emit

AllowOlder = Annotated[
    bool, typer.Option("--allow-older", help="Sign an exception: it may replace the release that --after names.")
]


def pack(
    bundle: Bundle,
    device: Annotated[
        str, typer.Option("--for", metavar="HOST", help="The device, by host or id, as `toolkit devices` knows it.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: NAME.hvp in this folder.")
    ] = None,
    after: Annotated[
        int, typer.Option(min=0, help="Number the release above this one, if another workstation deployed it.")
    ] = 0,
    allow_older: AllowOlder = False,
    plain: Plain = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing file.")] = False,
    json: Json = False,
) -> None:
    """Sign a bundle and seal it for one device, without talking to it.

    The parcel can be mailed or carried: only that device can open it. `toolkit deploy NAME.hvp --to HOST` brings it
    there from any workstation that knows the device; that one needs no signing key.
    """
    from device.link.inventory import Inventory
    from device.link.package import Goods
    from device.link.parcel import SUFFIX, read_parcel
    from toolkit.atomic import write_atomically

    goods = Goods(bundle, open_keys())
    if goods.ready:
        raise UsageError(f"{bundle} is a parcel already", do="give the bundle's folder")
    out = Path(goods.name + SUFFIX) if out is None else out
    if out.suffix != SUFFIX:
        raise UsageError("a parcel's name must end so that `toolkit deploy` knows it", got=out.name, expected=SUFFIX)
    if out.exists() and not replace:
        raise UsageError(f"{out} exists already", do="choose another name or pass --replace")
    kept = goods.parcel(Inventory().find(device), after, plain=plain, allow_older=allow_older)
    write_atomically(out, kept.read_bytes())
    header = read_parcel(out).header
    result = {"file": str(out), "name": header.name, "counter": header.counter, "digest": header.digest,
              "sealed_for": header.sealed_for, "signed_by": header.signed_by, "bytes": out.stat().st_size}  # fmt: skip
    emit(result, json, lambda: _human(result, device))


def _human(result: dict[str, object], device: str) -> str:
    how = f"signed by {result['signed_by']}, sealed for {result['sealed_for']}" if result["signed_by"] else "plain"
    return (
        f"{result['file']}: release {result['counter']} of {result['name']}, {how}\n"
        f"next: toolkit deploy {result['file']} --to {device}"
    )
