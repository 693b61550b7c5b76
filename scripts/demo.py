"""The main job on real photos, command by command: enrol → export → verify → run → bench.

    python scripts/demo.py FOLDER      (FOLDER/photos holds the sample photos; the results go beside them)

Ends with 0 only if every genuine photo was accepted and every impostor refused.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

FPS, SECONDS_A_PHOTO = 10, 3
GENUINE, IMPOSTOR = (40, 160, 40), (40, 40, 200)  # BGR


def toolkit(*arguments: str, expect: tuple[int, ...] = (0,)) -> str:
    """Run one command of the toolkit as a user would, show it, and return its stdout."""
    print(f"\n$ toolkit {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "toolkit", *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode not in expect:
        sys.exit(f"the demo stops here: exit code {done.returncode}, expected {' or '.join(map(str, expect))}")
    return done.stdout


def verify(bundle: Path, photos: list[Path]) -> list[dict[str, Any]]:
    rows = json.loads(toolkit("verify", str(bundle), *map(str, photos), "--json", expect=(0, 10)))["images"]
    for row in rows:
        print(f"  {Path(row['file']).name:26} {row['decision']:9} score {row['score']:+.3f}")
    return rows


def make_video(photos: list[Path], path: Path) -> None:
    """A slow pan and zoom over each photo in turn, 640×480."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (640, 480))
    for photo in photos:
        picture = cv2.imread(str(photo))
        scale = 480 / picture.shape[0]
        for i in range(FPS * SECONDS_A_PHOTO):
            zoom = scale * (1 + 0.1 * i / (FPS * SECONDS_A_PHOTO))
            x = 320 - picture.shape[1] * zoom / 2 + 0.5 * i
            move = np.array([[zoom, 0, x], [0, zoom, -0.5 * i]])
            writer.write(cv2.warpAffine(picture, move, (640, 480), borderValue=(90, 90, 90)))
    writer.release()


def contact_sheet(decisions: list[dict[str, Any]], path: Path) -> None:
    """All verified photos side by side, framed green when accepted and red when refused."""
    tiles = []
    for row in decisions:
        picture = cv2.imread(row["file"])
        tile = np.full((300, 240, 3), 255, np.uint8)
        height = min(260, round(picture.shape[0] * 232 / picture.shape[1]))
        tile[4 : 4 + height, 4:236] = cv2.resize(picture, (232, round(picture.shape[0] * 232 / picture.shape[1])))[
            :height
        ]
        colour = GENUINE if row["decision"] == "accepted" else IMPOSTOR
        cv2.rectangle(tile, (1, 1), (238, 298), colour, 3)
        text = f"{row['name']}? {row['decision']} {row['score']:+.2f}"
        cv2.putText(tile, text, (8, 288), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
        tiles.append(tile)
    while len(tiles) % 4:
        tiles.append(np.full_like(tiles[0], 255))
    cv2.imwrite(str(path), np.vstack([np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)]))


def main(folder: Path) -> None:
    photos = folder / "photos"
    obama, obama2, obama3, *_ = (photos / f"{name}.jpg" for name in ("obama", "obama2", "obama3"))
    partial = [photos / "obama_partial_face.jpg", photos / "obama_partial_face2.jpg"]
    biden = photos / "biden.jpg"

    print(toolkit("enroll", "obama", str(obama2), str(obama3), "--out", str(folder), "--replace"), end="")
    print(toolkit("enroll", "biden", str(biden), "--out", str(folder), "--replace"), end="")
    bundles = {name: folder / f"{name}.hvb" for name in ("obama", "biden")}
    exported = folder / "obama.int8.tflite"
    print(toolkit("export", str(bundles["obama"]), "--format", "tflite-int8", "-o", str(exported)), end="")

    trials = [("obama", [obama, *partial, biden]), ("biden", [obama, obama2, obama3])]
    decisions = [row | {"name": name} for name, files in trials for row in verify(bundles[name], files)]
    wrong = [r for r in decisions if (r["decision"] == "accepted") != Path(r["file"]).name.startswith(r["name"])]

    video = folder / "visit.avi"
    make_video([obama, biden], video)
    print(toolkit("run", str(bundles["obama"]), "--source", str(video)), end="")
    bench = json.loads(toolkit("bench", str(bundles["obama"]), "--runs", "200", "--json"))
    (folder / "bench.json").write_text(json.dumps(bench, indent=2))
    contact_sheet(decisions, folder / "decisions.png")
    summary(folder, decisions, wrong, bench)


def summary(folder: Path, decisions: list[dict[str, Any]], wrong: list[dict[str, Any]], bench: dict[str, Any]) -> None:
    times, faster = bench["latency"], bench["times_faster_than_sface"]
    best = min((name for name in times if name.startswith("verify/")), key=lambda name: times[name]["p50_ms"])
    print(f"\n{len(decisions) - len(wrong)} of {len(decisions)} photos decided rightly")
    print(f"verifier: {bench['params']} parameters, {bench['flops'] / 1e6:.2f} MFLOPs")
    key = best.removeprefix("verify/")
    print(f"fastest:  {key}, {times[best]['p50_ms']:.3f} ms a face, {faster[key]:.0f} times faster than SFace")
    for file, what in (
        ("obama.hvb", "the bundle: what goes on the device"),
        ("decisions.png", "every photo and its decision"),
        ("visit.avi", "the video"),
        ("bench.json", "all measurements"),
    ):
        print(f"  {folder / file!s:24} {what}")
    if wrong:
        sys.exit("some photos were decided wrongly: " + ", ".join(Path(r["file"]).name for r in wrong))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
