"""`toolkit deploy`: bring bundles to devices over SSH or adb, take them back, take people off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.keys import open_keys
from toolkit.commands.options import Json, Plain
from toolkit.errors import LinkError, UsageError
from toolkit.output import emit, note, table

if TYPE_CHECKING:
    from device.link.deploy import Outcome

Bundles = Annotated[
    list[Path] | None, typer.Argument(help="Bundle folders NAME.hvb, or parcels NAME.hvp.", show_default=False)
]
To = Annotated[list[str], typer.Option("--to", "-t", help="HOST, USER@HOST or adb:SERIAL; repeat it for several.")]

AllowOlder = Annotated[
    bool, typer.Option("--allow-older", help="Sign an exception: this bundle may replace a newer release.")
]


def deploy(
    to: To,
    bundles: Bundles = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at the devices, say what would be done.")] = False,
    rollback: Annotated[str, typer.Option(metavar="NAME", help="Return to this person's version before.")] = "",
    remove: Annotated[str, typer.Option(metavar="NAME", help="Take this person off, and prove it.")] = "",
    wheelhouse: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="First install or update the device's packages, offline; see wheelhouse."),
    ] = None,
    allow_older: AllowOlder = False,
    plain: Plain = False,
    json: Json = False,
) -> None:
    """Sign and seal bundles, send them, and have each device verify, self-test and switch to them.

    A device runs the old version or the new one, at every instant; a deploy that was cut off goes on when it is
    repeated. An unchanged bundle is not sent again. Exit code 0: done on every device; else the code of what went
    wrong, 6 if that differs from device to device.

    To phones (adb:SERIAL) goes the bundle with a program compiled from its C code, always --plain.
    """
    _check_usage(bundles or [], wheelhouse, dry_run, rollback, remove)
    _check_phones(to, bool(rollback or wheelhouse), bool(bundles) and not plain)
    from device.link.adb import is_phone
    from device.link.adb import remove as remove_from_phone
    from device.link.deploy import on_hosts
    from device.link.deploy import remove as remove_from
    from device.link.deploy import rollback as roll_back_on
    from device.link.ssh import check_host

    hosts = [host if is_phone(host) else check_host(host) for host in dict.fromkeys(to)]
    if rollback:
        outcomes = on_hosts(hosts, lambda host, outcome: roll_back_on(host, outcome, rollback))
    elif remove:
        take_off = {True: remove_from_phone, False: remove_from}
        outcomes = on_hosts(hosts, lambda host, outcome: take_off[is_phone(host)](host, outcome, remove))
    else:
        outcomes = _bring(hosts, bundles or [], wheelhouse, dry_run, plain, allow_older)
    finish(outcomes, json)


def _bring(
    hosts: list[str], bundles: list[Path], wheelhouse: Path | None, dry_run: bool, plain: bool, allow_older: bool
) -> list[Outcome]:
    """Packages first, then bundles, to each host."""
    from device.link.adb import deploy as deploy_to_phone
    from device.link.adb import is_phone
    from device.link.deploy import Options, on_hosts
    from device.link.deploy import deploy as deploy_to
    from device.link.package import Goods
    from device.link.setup import set_up
    from device.link.wheelhouse import read_wheelhouse

    house = read_wheelhouse(wheelhouse) if wheelhouse else None
    keys, options = open_keys(), Options(dry_run, plain, allow_older)
    goods = [Goods(path, keys) for path in bundles]
    _prepare(goods, keys, plain)

    def bring(host: str, outcome: Outcome) -> None:
        if is_phone(host):
            deploy_to_phone(host, outcome, goods, dry_run=dry_run)
            return
        ready = house is None or set_up(host, outcome, house, dry_run, note)
        if goods and ready:
            deploy_to(host, outcome, goods, keys, options, note)

    return on_hosts(hosts, bring)


def _check_usage(bundles: list[Path], wheelhouse: Path | None, dry_run: bool, rollback: str, remove: str) -> None:
    from export.manifest import check_name

    if sum(map(bool, (bundles or wheelhouse, rollback, remove))) != 1:
        raise UsageError("give bundles or --wheelhouse FOLDER, or --rollback NAME, or --remove NAME")
    if dry_run and (rollback or remove):
        raise UsageError("--dry-run is for bundles and wheelhouses")
    for name in filter(None, (rollback, remove)):
        check_name(name)


def _check_phones(to: list[str], impossible: bool, sealed: bool) -> None:
    """A phone has one version, no packages and no keys."""
    from device.link.adb import is_phone

    phones = [host for host in to if is_phone(host)]
    if phones and impossible:
        raise UsageError("--rollback and --wheelhouse are not for phones", got=", ".join(phones))
    if phones and sealed:
        raise UsageError(
            "a phone has no keys to open a parcel with", got=", ".join(phones),
            do="pass --plain: whoever may use adb there can read what is sent",
        )  # fmt: skip


def _prepare(goods: list[Any], keys: Any, plain: bool) -> None:
    """Check every bundle, and ask for a passphrase, before any device is talked to."""
    names = [one.name for one in goods]
    if len(set(names)) != len(names):
        raise UsageError("two of these bundles are of one person", got=", ".join(sorted(names)))
    for one in goods:
        _ = one.digest
    if not plain and goods and not all(one.ready for one in goods):
        keys.active()


def finish(outcomes: list[Outcome], json: bool, human: Callable[[list[Outcome]], str] | None = None) -> None:
    """Print the summary and end with its exit code."""
    emit({"devices": [outcome.to_dict() for outcome in outcomes]}, json, lambda: (human or _human)(outcomes))
    codes = {outcome.error["exit_code"] for outcome in outcomes if outcome.error}
    if codes:
        failed = sum(outcome.error is not None for outcome in outcomes)
        note(f"{failed} of {len(outcomes)} devices failed; repeat the command: what is done is not done again")
        raise typer.Exit(codes.pop() if len(codes) == 1 else LinkError.exit_code)


def _human(outcomes: list[Outcome]) -> str:
    rows = []
    for outcome in outcomes:
        if outcome.packages:
            rows.append((outcome.host, "", f"packages {outcome.packages}", ""))
        for person in outcome.people:
            rows.append((outcome.host, person["name"], person["action"], str(person.get("version", ""))))
        if outcome.error:
            rows.append((outcome.host, "", "failed", ""))
    lines = [table(rows, ("device", "person", "what", "version"))] if rows else []
    for outcome in outcomes:
        lines += [f"{outcome.host}: {check['name']}: {check['found']}; {check['remedy']}"
                  for check in outcome.checks if check["status"] == "warning"]  # fmt: skip
        if outcome.error:
            lines.append(f"{outcome.host}: {outcome.error['message']}")
    return "\n".join(lines)
