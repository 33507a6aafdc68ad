"""Hidden neurons looked up: 256 pixels -> 512 hidden -> 10 digits, against all of them and a narrow layer.

HASHFOLD_DATA with usps/usps.npz: the real 16 x 16 set; without: scikit-learn's digits, enlarged. BENCH_SEEDS.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.common import seeds, table, write


def main() -> None:
    from statistics import mean

    from hashfold.demos.digits import Recipe, run

    folder = os.environ.get("HASHFOLD_DATA")
    data = Path(folder) / "usps" / "usps.npz" if folder else None
    result, rows = {}, []
    for share in (0.025, 0.05, 0.1, 0.25):
        runs = [run(seed=seed, data=data, recipe=Recipe(active_fraction=share)) for seed in seeds()]
        result[str(share)] = runs
        for way in ("dense", "hashed"):
            accuracy = mean(r[way]["accuracy"] for r in runs)
            rows.append([share, way, accuracy, mean(r[way]["multiplications"]["total"] for r in runs)])
    write("hidden_lookup", result)
    table(["computed, at most", "network", "accuracy", "multiplications an image"], rows)


if __name__ == "__main__":
    main()
