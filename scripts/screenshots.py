"""Take the pictures of the report in docs/img again: `python scripts/screenshots.py`. Needs Chromium.

On a desktop in light, on a phone in dark, both of docs/results as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = {"report-desktop": (1280, 1000, "light"), "report-phone": (390, 844, "dark")}


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        sys.exit("chromium is not installed; `apt install chromium`")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "toolkit", "report", str(ROOT / "docs" / "results"), "-o", str(page)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        for name, (width, height, theme) in PICTURES.items():
            themed = Path(folder) / f"{name}.html"
            themed.write_text(page.read_text().replace("<html", f'<html data-theme="{theme}"', 1))
            picture = ROOT / "docs" / "img" / f"{name}.png"
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                       f"--window-size={width},{height}", f"--user-data-dir={folder}/profile"]  # fmt: skip
            subprocess.run([browser, *options, f"--screenshot={picture}", themed.as_uri()], check=True,
                           stderr=subprocess.DEVNULL)  # fmt: skip


if __name__ == "__main__":
    main()
