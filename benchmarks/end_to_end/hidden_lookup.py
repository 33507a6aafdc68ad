"""Hidden neurons looked up: 256 pixels -> 512 hidden -> 10 digits, against all of them and a narrow layer.

The narrow layer is dense and has as many hidden neurons as the look-up computes. HASHFOLD_DATA with
usps/usps.npz: the real 16 x 16 set; without: scikit-learn's digits, enlarged. BENCH_SEEDS.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common import seeds, table, write

SHARES = (0.025, 0.05, 0.1, 0.25)


def measure(seed: int) -> dict[str, dict[str, Any]]:
    """Accuracy and multiplications of every network, by name."""
    from hashfold.demos import digits
    from hashfold.demos.images import load_digits, load_npz

    folder = os.environ.get("HASHFOLD_DATA")
    images = load_npz(Path(folder) / "usps" / "usps.npz") if folder else load_digits(seed)

    def trained(recipe: digits.Recipe, budget: int | None) -> dict[str, Any]:
        network = digits.train(digits.DigitNetwork(recipe, seed), images, recipe, budget, seed)
        return digits.measure(network, images, budget)

    found = {"dense, 512": trained(digits.Recipe(), None)}
    for share in SHARES:
        recipe = digits.Recipe(active_fraction=share)
        found[f"looked up, {recipe.budget} of 512"] = trained(recipe, recipe.budget)
        found[f"dense, {recipe.budget}"] = trained(digits.Recipe(hidden=recipe.budget), None)
    return found


def main() -> None:
    runs = [measure(seed) for seed in seeds()]
    write("hidden_lookup", {"runs": runs})
    rows = []
    for name in runs[0]:
        accuracies = [run[name]["accuracy"] for run in runs]
        multiplications = mean(run[name]["multiplications"]["total"] for run in runs)
        collisions = mean(run[name].get("collisions", 0.0) for run in runs)
        rows.append([name, mean(accuracies), min(accuracies), multiplications, collisions])
    table(["hidden neurons", "accuracy", "lowest", "multiplications an image", "collisions counted"], rows)


if __name__ == "__main__":
    main()
