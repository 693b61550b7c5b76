"""How long `toolkit eval scores` takes for millions of scores, and how much memory: made-up scores, a real process.

python scripts/score_load.py            # ten million
python scripts/score_load.py 100        # a hundred million, read in parts
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
PART = 1_000_000
GENUINE_SHARE = 0.01
BYTES_A_KB = 1024


def write_scores(path: Path, millions: int) -> None:
    """Real numbers, nearly all different: the worst case. Genuine ones lie three deviations above impostor ones."""
    schema = pa.schema([("score", pa.float32()), ("mated", pa.bool_())])
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(millions):
            mated = rng.random(PART) < GENUINE_SHARE
            score = rng.standard_normal(PART, np.float32) + 3 * mated.astype(np.float32)
            writer.write_table(pa.table([score, mated], schema=schema))


def main() -> None:
    millions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as folder:
        scores, out = Path(folder) / "scores.parquet", Path(folder) / "out.json"
        write_scores(scores, millions)
        command = [sys.executable, "-m", "toolkit", "eval", "scores", str(scores), "--json"]
        start = time.monotonic()
        with out.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, env=os.environ | {"PYTHONPATH": str(ROOT)})
            _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"toolkit eval scores failed with status {status}")
        found = json.loads(out.read_text())
        assert found["genuine_pairs"] + found["impostor_pairs"] == millions * PART
        result = {"scores": millions * PART, "seconds": round(time.monotonic() - start, 2),
                  "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
                  "peak_mb": round(used.ru_maxrss * BYTES_A_KB / 1e6), "eer": found["eer"]}  # fmt: skip
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
