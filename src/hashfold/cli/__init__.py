"""The command `hashfold`: one module a command, heavy imports inside the commands."""

from __future__ import annotations

from hashfold.cli.add import add
from hashfold.cli.app import Hashfold
from hashfold.cli.compress import compress
from hashfold.cli.demo import demo
from hashfold.cli.doctor import doctor
from hashfold.cli.evaluate import evaluate
from hashfold.cli.predict import predict
from hashfold.cli.train import train

hashfold = Hashfold(
    "hashfold",
    commands=[train, evaluate, predict, add, compress, demo, doctor],
    help="Train networks whose layers look their neurons up by hashing, and predict with them.",
)


def main() -> None:
    hashfold.main(prog_name="hashfold")
