"""The mixture of scores: what it finds in made-up lists of candidates, and that its probabilities are ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.metrics import expected_calibration_error
from hashfold.model import Mixer, fit_mixer, mixing
from hashfold.sparse import Float32, Int64

Lists = tuple[Float32, Int64, np.ndarray]


def lists(rows: int, score: np.ndarray, features: Float32, width: int, seed: int = 0) -> Lists:
    """Each row has `width` candidates; one true label, drawn by the softmax of their scores."""
    rng = np.random.default_rng(seed)
    noisy = score.reshape(rows, width) + rng.gumbel(size=(rows, width))
    true = np.zeros((rows, width), bool)
    true[np.arange(rows), noisy.argmax(1)] = True
    return features, np.arange(rows + 1, dtype=np.int64) * width, true.ravel()


def planted(rows: int, weights: tuple[float, ...], width: int = 30, seed: int = 0) -> Lists:
    z = np.random.default_rng(seed).normal(size=(rows * width, len(weights))).astype(np.float32)
    return lists(rows, z @ np.array(weights), z, width, seed)


def test_weights_of_a_planted_softmax_are_found_though_most_candidates_are_sampled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mixing, "ROWS_FOR_UNITS", 801)
    features, indptr, true = planted(800, (1.5, -0.7, 0.0), width=200)
    mixer = fit_mixer(["a", "b", "c"], features, indptr, true)
    assert len(mixer.out) == 0
    np.testing.assert_allclose(mixer.linear / mixer.scale, (1.5, -0.7, 0.0), atol=0.1)


def test_without_the_weights_of_sampled_candidates_the_fit_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of the test above: the weights are what makes the sample stand for all."""
    chosen = mixing._chosen

    def alone(*args: object) -> mixing._Chosen:
        found = chosen(*args)
        return found._replace(stands_for=np.ones_like(found.stands_for))

    monkeypatch.setattr(mixing, "_chosen", alone)
    monkeypatch.setattr(mixing, "ROWS_FOR_UNITS", 801)
    features, indptr, true = planted(800, (1.5, -0.7, 0.0), width=200)
    mixer = fit_mixer(["a", "b", "c"], features, indptr, true)
    assert abs(mixer.linear / mixer.scale - np.array((1.5, -0.7, 0.0))).max() > 0.1


def test_what_true_labels_count_moves_the_mixture_towards_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two true labels a row, one of them rare: where it counts more, what tells rare ones weighs more."""
    monkeypatch.setattr(mixing, "ROWS_FOR_UNITS", 401)
    features, indptr, true = planted(400, (1.5, 0.0))
    rare = np.arange(len(true)) % 30 < 10
    features[:, 1] = rare + 0.1 * features[:, 1]
    true.reshape(-1, 30)[np.arange(400), np.random.default_rng(3).integers(0, 10, 400)] = True

    def weight_of_rare(weights: np.ndarray | None) -> float:
        mixer = fit_mixer(["a", "rare"], features, indptr, true, weights=weights)
        return float(mixer.linear[1] / mixer.scale[1])

    alike = weight_of_rare(None)
    assert weight_of_rare(np.where(rare, 4.0, 1.0)) > alike + 0.5
    assert weight_of_rare(np.full(len(true), 4.0)) == pytest.approx(alike, abs=1e-3)


def test_hidden_units_find_what_no_linear_mixture_can() -> None:
    z = np.random.default_rng(1).normal(size=(1500 * 30, 2)).astype(np.float32)
    features, indptr, true = lists(1500, 3 * np.tanh(2 * z[:, 0]) * np.tanh(2 * z[:, 1]), z, 30)
    some = indptr[mixing.ROWS_FOR_UNITS // 2]
    few = fit_mixer(["a", "b"], features[:some], indptr[: mixing.ROWS_FOR_UNITS // 2 + 1], true[:some])
    many = fit_mixer(["a", "b"], features, indptr, true)

    def first(mixer: Mixer) -> float:
        best = mixer.scores(features).reshape(-1, 30).argmax(1)
        return float(true.reshape(-1, 30)[np.arange(1500), best].mean())

    assert first(many) > 1.5 * first(few)


def test_of_few_rows_the_mean_of_several_mixers_is_taken_as_one() -> None:
    features, indptr, true = planted(300, (1.5, -0.7))
    several = fit_mixer(["a", "b"], features, indptr, true, seed=5)
    each = [fit_mixer(["a", "b"], features, indptr, true, seed=5 + at, starts=1) for at in range(mixing.STARTS)]
    assert len(several.out) == sum(len(mixer.out) for mixer in each)
    assert abs(each[0].scores(features) - each[1].scores(features)).max() > 1e-3
    mean = np.mean([mixer.scores(features) for mixer in each], 0)
    np.testing.assert_allclose(several.scores(features), mean, atol=1e-4)


def test_probabilities_of_the_best_candidates_are_calibrated_on_rows_not_fitted() -> None:
    fitted, unseen = planted(2000, (2.0, 1.0), seed=2), planted(2000, (2.0, 1.0), seed=3)
    mixer = fit_mixer(["a", "b"], *fitted)
    features, indptr, true = unseen
    odds = mixer.log_odds(mixer.scores(features), indptr).reshape(-1, 30)
    best = odds.argmax(1)
    probabilities = 1 / (1 + np.exp(-odds[np.arange(2000), best]))
    hits = true.reshape(-1, 30)[np.arange(2000), best]
    plain = 1 / (1 + np.exp(-mixer.scores(features).reshape(-1, 30)[np.arange(2000), best]))
    assert expected_calibration_error(probabilities, hits) < 0.06
    assert expected_calibration_error(plain, hits) > 0.2  # what the scores alone would say
    assert abs(probabilities.mean() - hits.mean()) < 0.03


def test_log_odds_keep_the_order_of_scores_and_rows_may_be_empty() -> None:
    features, _, true = planted(20, (1.0, 1.0))
    indptr = np.array([0, 0, 30, *range(60, 601, 30), 600], np.int64)
    mixer = fit_mixer(["a", "b"], features, indptr, true)
    scores = mixer.scores(features)
    odds = mixer.log_odds(scores, indptr)
    assert np.isfinite(odds).all()
    for start, end in pairwise(indptr.tolist()):
        assert (np.argsort(scores[start:end]) == np.argsort(odds[start:end])).all()


@pytest.mark.parametrize("value", [True, False])
def test_nothing_to_fit_is_refused(value: bool) -> None:
    features, indptr, true = planted(20, (1.0, 1.0))
    with pytest.raises(InputError, match="fit_mixer: held-out rows must have true labels"):
        fit_mixer(["a", "b"], features, indptr, np.full(len(true), value))


def test_a_saved_mixer_scores_the_same_bits() -> None:
    features, indptr, true = planted(1200, (1.0, -1.0))
    mixer = fit_mixer(["a", "b"], features, indptr, true)
    assert len(mixer.out) == mixing.UNITS * mixing.STARTS
    again = Mixer.from_arrays(mixer.names, mixer.to_arrays())
    assert (again.scores(features) == mixer.scores(features)).all()
    with pytest.raises(InputError):
        Mixer.from_arrays(["a"], mixer.to_arrays())
