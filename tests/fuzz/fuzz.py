"""Coverage-guided fuzzing of everything that parses strangers' bytes: `make fuzz SECONDS=600`.

    python tests/fuzz/fuzz.py SECONDS FOLDER [TARGET…]

The time is shared out between the targets. What reached new code is kept below FOLDER and is where the next run begins;
an input that crashed, hung or took too much memory lies there as crash-…, timeout-… or oom-…; exit code 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMORY_MB, INPUT_BYTES, ONE_INPUT_S = 512, 1 << 17, 10


def fuzz_one(name: str, arguments: list[str]) -> None:
    """In a process of its own: the fuzzer ends it."""
    import atheris

    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/link"), str(Path(__file__).parent)]
    with atheris.instrument_imports(include=["device", "export.manifest", "models.spec", "toolkit.errors"]):
        import targets
    with targets.open_bench() as bench:
        target = targets.TARGETS[name]
        corpus = Path(arguments[0])
        for number, seed in enumerate(targets.seeds(bench)[name]):
            (corpus / f"seed{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], *arguments], lambda data: target(bench, data))
        atheris.Fuzz()


def main(seconds: int, folder: Path, names: list[str]) -> int:
    names = names or ["parcel", "header", "manifest", "requests", "keyring", "wheelhouse", "settings"]
    failed = []
    for name in names:
        corpus = folder / name
        corpus.mkdir(parents=True, exist_ok=True)
        print(f"{name}:", flush=True)
        options = [f"-max_total_time={max(1, seconds // len(names))}", f"-rss_limit_mb={MEMORY_MB}",
                   f"-max_len={INPUT_BYTES}", f"-timeout={ONE_INPUT_S}", f"-artifact_prefix={corpus}/",
                   "-print_final_stats=1", "-verbosity=0"]  # fmt: skip
        command = [sys.executable, __file__, "--one", name, str(corpus), *options]
        if subprocess.run(command).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}; see {folder}" if failed else f"{len(names)} targets, nothing found")
    return bool(failed)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        fuzz_one(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
