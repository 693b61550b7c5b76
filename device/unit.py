"""The systemd unit of a device: as closed as its configuration allows."""

from __future__ import annotations

import sys
from pathlib import Path

from device.settings import Settings

UNIT = Path(__file__).parent / "hyperverify.service"
NAME = "hyperverify.service"
CONFIG = Path("/etc/hyperverify/device.toml")
ENVIRONMENT = Path("/opt/hyperverify/venv")  # a link that deploys switch to a newer one


def interpreter() -> Path:
    """The Python that a unit written here is to start: by the link, where this is the environment in use behind it."""
    in_use = ENVIRONMENT.resolve() == Path(sys.prefix).resolve()
    return ENVIRONMENT / "bin" / "python" if in_use else Path(sys.executable)


def unit_text(settings: Settings, command: str, config: Path) -> str:
    """The unit for these settings. `command` starts the toolkit; neither it nor `config` holds blanks or %."""
    gpio = any(action.kind == "gpio" for action in settings.action)
    pi_camera = settings.camera.source.startswith("picamera")
    devices = ["char-video4linux rw"]
    devices += ["char-media rw", "char-dma_heap rw"] if pi_camera else []
    devices += ["char-gpiochip rw"] if gpio else []
    groups = "video" + (" gpio" if gpio else "")
    values = {
        "COMMAND": command,
        "CONFIG": str(config),
        "GROUPS": groups,
        "DEVICES": "\n".join(f"DeviceAllow={device}" for device in devices),
        "NETWORK": "\n".join(_network(settings)),
    }
    text = UNIT.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _network(settings: Settings) -> list[str]:
    """Loopback only, or no network at all, unless a source or an action reaches further."""
    outside = "://" in settings.camera.source or any(a.kind in ("webhook", "mqtt", "command") for a in settings.action)
    served = settings.preview.kind == "web"
    if outside or (served and not settings.preview.address.startswith("127.")):
        return ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"]
    if served or settings.service.metrics.isdecimal():
        return ["RestrictAddressFamilies=AF_UNIX AF_INET", "IPAddressDeny=any", "IPAddressAllow=localhost"]
    return ["RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes"]
