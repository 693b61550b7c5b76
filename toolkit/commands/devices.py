"""`toolkit devices`: the devices of this workstation, and who is on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands.deploy import finish
from toolkit.commands.keys import open_keys
from toolkit.commands.options import Json
from toolkit.output import emit, table

if TYPE_CHECKING:
    from device.link.deploy import Outcome

app = typer.Typer(help="The devices of this workstation: provision, list, forget.", rich_markup_mode=None)
Hosts = Annotated[list[str], typer.Argument(help="HOST or USER@HOST.", show_default=False)]


@app.callback(invoke_without_command=True)
def devices(context: typer.Context, json: Json = False) -> None:
    """Ask every known device for its versions and health: service, releases, signatures, files."""
    if context.invoked_subcommand:
        return
    from device.link.deploy import look, on_hosts
    from device.link.inventory import Inventory

    hosts = list(Inventory().all())
    if not hosts:
        emit({"devices": []}, json, lambda: "no devices yet: `toolkit devices provision HOST`")
        return
    finish(on_hosts(hosts, look), json, _human)


@app.command()
def provision(
    hosts: Hosts,
    development: Annotated[
        bool, typer.Option("--development", help="Let the device take plain parcels too; never at a real door.")
    ] = False,
    json: Json = False,
) -> None:
    """Have devices make their own keys and trust this workstation's, once. What vouches for them is your SSH login."""
    from device.link.deploy import on_hosts
    from device.link.deploy import provision as provision_host
    from device.link.ssh import check_host

    keys = open_keys()
    keys.keyring()
    outcomes = on_hosts(
        [check_host(host) for host in hosts], lambda host, outcome: provision_host(host, outcome, keys, development)
    )
    finish(outcomes, json, _provisioned)


@app.command()
def forget(host: Annotated[str, typer.Argument(help="HOST, as it was provisioned.")], json: Json = False) -> None:
    """Take a device out of the inventory. On the device nothing changes: `toolkit deploy --remove` first."""
    from device.link.inventory import Inventory

    Inventory().forget(host)
    emit({"forgotten": host}, json, lambda: f"{host} is forgotten")


def _provisioned(outcomes: list[Outcome]) -> str:
    return "\n".join(
        f"{outcome.host}: {outcome.error['message'] if outcome.error else 'provisioned'}" for outcome in outcomes
    )


def _human(outcomes: list[Outcome]) -> str:
    rows = []
    for outcome in outcomes:
        facts = {check["name"]: check["found"] for check in outcome.checks}
        about = (facts.get("architecture", ""), facts.get("version", ""), facts.get("service", ""))
        if outcome.error:
            rows.append((outcome.host, "", "", *about, outcome.error["message"]))
        rows += [(outcome.host, p["name"], p["version"], *about, p["health"]) for p in outcome.people]
        if not outcome.people and not outcome.error:
            rows.append((outcome.host, "nobody", "", *about, "ok"))
    return table(rows, ("device", "person", "version", "machine", "hyperverify", "service", "health"))
