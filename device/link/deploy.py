"""Deploy from the workstation: look first, send what is missing, have the device verify, switch and test it.

Everything that changes the device happens there, in `device/link/install.py`; here is the order of the conversation.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from device.link.inventory import Device, Inventory
from device.link.keystore import KeyStore
from device.link.package import Goods
from device.link.ssh import SshLink
from device.link.trust import RECEIPT, is_signed
from toolkit.errors import ArtifactError, HyperverifyError, LinkError, MissingError

Report = Callable[[str], None]
AT_ONCE = 20
BENCH_S = 1800  # of every runtime, on the slowest board


@dataclass(frozen=True)
class Options:
    dry_run: bool = False
    plain: bool = False
    allow_older: bool = False


@dataclass
class Outcome:
    """How it went on one host. `people`: one row a bundle with "name", "action" and what the device said."""

    host: str
    people: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, str]] = field(default_factory=list)
    packages: str | None = None  # what was done with the device's packages
    sent_bytes: int = 0
    error: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def on_hosts(hosts: Sequence[str], action: Callable[[str, Outcome], None]) -> list[Outcome]:
    """Run `action` on every host at once; what goes wrong on one is told in its outcome and stops no other."""

    def one(host: str) -> Outcome:
        outcome = Outcome(host)
        try:
            action(host, outcome)
        except HyperverifyError as error:
            outcome.error = {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        return outcome

    with ThreadPoolExecutor(min(AT_ONCE, len(hosts))) as pool:
        return list(pool.map(one, hosts))


def deploy(host: str, outcome: Outcome, goods: Sequence[Goods], keys: KeyStore, options: Options, say: Report) -> None:
    """Bring every bundle to one host. Raises HyperverifyError; what was done before stays done."""
    device = Inventory().find(host)
    with SshLink(host) as link:
        try:
            names, need = [one.name for one in goods], sum(one.size_bytes for one in goods)
            hello = greet(link, outcome, device, names, need)
            chain = [] if options.plain else keys.chain()
            if hello["serial"] < len(chain) and not options.dry_run:
                link.ask("trust", chain=chain[hello["serial"] :])
                hello = greet(link, outcome, device, names, need)  # what a revoked key signed is not healthy any more
            for one, floor in zip(goods, hello["floors"], strict=True):
                outcome.people.append(_bring(link, device, hello, one, floor, options, say))
        finally:
            outcome.sent_bytes += link.sent_bytes


def greet(link: SshLink, outcome: Outcome, device: Device | None, names: Iterable[str], need: int = 0) -> Any:
    """The preflight, in one round. Raises MissingError with every remedy, or ArtifactError (another device)."""
    hello = link.ask("hello", names=list(names), time_s=time.time(), need_bytes=need)
    outcome.checks = hello["checks"]
    failed = [check for check in outcome.checks if check["status"] == "failed"]
    if failed:
        got = "; ".join(f"{check['name']}: {check['found']} ({check['remedy']})" for check in failed)
        raise MissingError(f"{link.host} is not ready", got=got)
    if device is None:
        return hello
    if not hello["provisioned"]:
        raise MissingError(f"{link.host} is not provisioned", do=f"run `toolkit devices provision {link.host}`")
    if hello["device_id"] != device.device_id:
        raise ArtifactError(
            f"{link.host} is another device than the one provisioned under this name", got=hello["device_id"],
            expected=device.device_id, do=f"if that is right, run `toolkit devices provision {link.host}`",
        )  # fmt: skip
    return hello


def _bring(
    link: SshLink, device: Device, hello: Any, one: Goods, floor: int, options: Options, say: Report
) -> dict[str, Any]:
    """One bundle to one device, if it is not there already."""
    there = next((row for row in hello["people"] if row["name"] == one.name), None)
    if there and there["digest"] == one.digest and there["health"] == "ok":
        return {"name": one.name, "action": "unchanged", "version": there["version"]}
    if options.dry_run:
        action = "would replace " + there["version"] if there else "would add"
        return {"name": one.name, "action": action, "bytes": one.size_bytes}
    parcel = one.parcel(device, floor, plain=options.plain, allow_older=options.allow_older)
    data = parcel.read_bytes()
    say(f"{link.host}: sending {one.name}, {len(data) / 1000:.0f} KB")
    sha256 = hashlib.sha256(data).hexdigest()
    link.upload(sha256, data)
    say(f"{link.host}: verifying, testing and switching {one.name}")
    done = link.ask("install", sha256=sha256)
    one.installed(parcel)
    return {"action": "replaced" if there else "added", **done}


def provision(host: str, outcome: Outcome, keys: KeyStore, development: bool) -> None:
    """Give a device its keys and its trust, and remember it."""
    with SshLink(host) as link:
        greet(link, outcome, None, [])
        keyring = keys.keyring().to_dict()
        public = link.ask("provision", keyring=keyring, development=development)
        Inventory().add(Device(host=host, **public))
        outcome.people = []


def look(host: str, outcome: Outcome) -> None:
    """Who is on a device, and in which health."""
    with SshLink(host) as link:
        hello = greet(link, outcome, Inventory().find(host), [])
        outcome.people = [*hello["people"]]
        outcome.checks.append({"name": "service", "status": "ok", "found": hello["service"], "remedy": ""})
        outcome.checks.append({"name": "version", "status": "ok", "found": hello["version"], "remedy": ""})


def rollback(host: str, outcome: Outcome, name: str) -> None:
    """Back to the version before."""
    with SshLink(host) as link:
        greet(link, outcome, Inventory().find(host), [name])
        outcome.people.append({"action": "rolled back", **link.ask("rollback", name=name)})


def remove(host: str, outcome: Outcome, name: str) -> None:
    """Take a person off a device; its signed receipt is checked. Raises LinkError for a receipt that does not hold."""
    device, nonce = Inventory().find(host), secrets.token_hex(16)
    with SshLink(host) as link:
        greet(link, outcome, device, [name])
        answer = link.ask("remove", name=name, nonce=nonce)
    receipt, signature = json.loads(answer["receipt"]), bytes.fromhex(answer["signature"])
    holds = is_signed(bytes.fromhex(device.receipt_key), signature, RECEIPT, answer["receipt"].encode())
    if not holds or (receipt["nonce"], receipt["name"], receipt["left"]) != (nonce, name, []):
        raise LinkError(f"{host} gave no valid receipt for the removal of {name}", do="repeat, and check the device")
    outcome.people.append(
        {"action": "removed", **receipt, "receipt": answer["receipt"], "signature": answer["signature"]}
    )


def bench(host: str, goods: Goods, runs: int, threads: int, sustain_s: float = 0.0) -> dict[str, Any]:
    """Have a device measure a bundle that was deployed to it; as `benchmarks.on_device` returns it."""
    with SshLink(host) as link:
        greet(link, Outcome(host), Inventory().find(host), [goods.name])
        request: dict[str, Any] = {"name": goods.name, "digest": goods.digest, "runs": runs, "threads": threads}
        if sustain_s:
            request["sustain_s"] = sustain_s
        result: dict[str, Any] = link.ask("bench", within_s=BENCH_S + sustain_s, **request)
    return result
