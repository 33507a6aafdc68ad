"""The command `hashfold`: one module a command, heavy imports inside the commands."""

from __future__ import annotations

from hashfold.cli.app import Hashfold
from hashfold.cli.doctor import doctor

hashfold = Hashfold(
    "hashfold",
    commands=[doctor],
    help="Train networks whose layers look their neurons up by hashing, and predict with them.",
)


def main() -> None:
    hashfold.main(prog_name="hashfold")
