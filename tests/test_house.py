"""The house is in order: pins, names, files and links agree with each other."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

import hashfold

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().split("\n")
    if line and not line.startswith("#")
)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> list[str]:
    project = PROJECT["project"]
    extras = [need for needs in project["optional-dependencies"].values() for need in needs]
    needs = [*PROJECT["build-system"]["requires"], *project["dependencies"], *extras]
    names = {normalised(re.split(r"[<>=!~\[; ]", need)[0]) for need in needs}
    return sorted(names - {"hashfold"} | {"cmake", "ninja"})


@pytest.mark.parametrize("name", declared())
def test_every_declared_dependency_is_pinned(name: str) -> None:
    assert name in PINS


def test_what_is_installed_is_what_is_pinned() -> None:
    wrong = {}
    for name, pin in PINS.items():
        try:
            installed = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that this environment lacks
        if installed != pin:
            wrong[name] = (installed, pin)
    assert not wrong


def test_public_names_resolve() -> None:
    for name in (*hashfold.__all__, *hashfold._MODULES):
        assert getattr(hashfold, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = hashfold.no_such_name


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda p: p.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
