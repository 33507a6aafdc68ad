"""hashfold compress, as a user meets it."""

from pathlib import Path

import pytest
from cli.conftest import Trained
from cli.helpers import refuse, run, succeed, succeed_json


def test_a_model_is_folded_part_by_part(rows: Trained, tmp_path: Path) -> None:
    small = tmp_path / "small"
    answer = succeed_json("compress", rows.model, "-o", small, "--bits", "3", "--near-share", "0.5")
    assert answer["fold"] == {
        "bits": 3,
        "label_bits": None,
        "buckets": None,
        "weights": None,
        "near_bits": None,
        "near_share": 0.5,
        "without_deep": False,
    }
    assert answer["bytes"] < answer["bytes_before"]
    assert succeed_json("eval", small, rows.valid)["P@1"] > 0.9
    lines = (succeed("predict", m, "-k", "2", stdin=rows.valid.read_bytes()).stdout for m in (rows.model, small))
    assert len({text.count("\n") for text in lines}) == 1


def test_a_text_model_keeps_its_words(texts: Trained, tmp_path: Path) -> None:
    told = succeed("compress", texts.model, "-o", tmp_path / "small", "--bits", "4")
    assert "MB instead of" in told.stdout
    out = succeed("predict", tmp_path / "small", "-k", "1", "--explain", stdin="an eagle\n").stdout
    assert "about-eagle" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--megabytes", "0.0001"), "at least"),
        (("--bits", "9"), "9"),
        (("--bits", "2", "--ratio", "3"), "one of"),
        (("--ratio", "0.5"), "ratio"),
    ],
)
def test_what_cannot_be_is_refused(rows: Trained, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    result = run("compress", rows.model, "-o", tmp_path / "small", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "small").exists()


def test_models_are_not_overwritten_or_folded_twice(rows: Trained, tmp_path: Path) -> None:
    small = tmp_path / "small"
    succeed("compress", rows.model, "-o", small, "--bits", "2")
    before = (small / "config.json").read_bytes()
    refuse("compress", rows.model, "-o", small, "--bits", "3")
    assert (small / "config.json").read_bytes() == before
    assert "folded" in refuse("compress", small, "-o", tmp_path / "smaller", "--bits", "2")
    assert not (tmp_path / "smaller").exists()
