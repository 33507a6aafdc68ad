"""`hashfold demo`: what hashfold does, shown offline in a minute or two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hashfold.cli import options
from hashfold.cli.app import Invocation, common, show_json


@click.command()
@click.argument("name", type=click.Choice(["code", "digits"]), default="code")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--data", metavar="FILE", help="digits: an .npz of 16 x 16 images, such as usps.")
@options.machine
@common
def demo(invocation: Invocation, name: str, seed: int, data: str | None, threads: int | None) -> None:
    """Show what hashfold does, offline.

    code (by default; under two minutes on two cores): learns to complete Python code from the standard library.

    digits: 16 x 16 pixels, hidden neurons looked up by the image's hash, ten digits.
    """
    options.use_threads(threads)
    result, show = _code(seed, data) if name == "code" else _digits(seed, data)
    if invocation.json:
        show_json(result)
        return
    from rich.console import Console

    show(result, Console(highlight=False, soft_wrap=True))


def _code(seed: int, data: str | None) -> tuple[dict[str, Any], Callable[..., None]]:
    from hashfold import checks
    from hashfold.demos import code
    from hashfold.train import progress

    if data is not None:
        checks.fail("demo", "--data belongs to the demo digits", data, "leave it out")
    return code.run(seed, callbacks=[progress()], say=lambda line: click.echo(line, err=True)), code.show


def _digits(seed: int, data: str | None) -> tuple[dict[str, Any], Callable[..., None]]:
    from hashfold.demos import digits

    return digits.run(data, seed), digits.show
