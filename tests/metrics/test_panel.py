"""Exported from nbs/05t_panel.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
import numpy as np
import pandas as pd
from rrg_core.data.study import as_numbers, named
from rrg_core.metrics.stats import bootstrap_ci
import pytest
from rrg_core.metrics.judge import ErrorCounts, judge_many
from rrg_core.metrics.rexval import COUNTS, phantom_pairs
from rrg_core.metrics.panel import *


def test_raters_are_right_on_average():
    counts = np.random.default_rng(0).integers(0, 4, (4000, 3))
    for noise in (0., .3, 1.):
        found = panel(counts, noise, seed=1)
        assert found.shape == (6, 4000, 3) and found.min() >= 0
        assert abs(found.mean() - counts.mean()) < .02
        missed = [1 - noise * s for s in (.5, .6, .7, .8, .9, 1)] # where 3 are true and the mean is 1.5
        there = counts == 3
        for k, keep in enumerate(missed):
            assert abs(found[k][there].mean() - (3 * keep + (1 - keep) * counts.mean())) < .12
    assert (panel(counts, 0.) == counts).all() # no noise, no error
    assert (panel(counts[:, 0], .3) != counts[:, 0]).any() and panel(counts[:, 0], .3, raters=3).shape == (3, 4000)
    np.testing.assert_array_equal(panel(counts, .3, seed=4), panel(counts, .3, seed=4))
    assert (panel(counts, .3, seed=4) != panel(counts, .3, seed=5)).any()
    assert panel(np.zeros((5, 2)), .9).sum() == 0 # where nothing is ever wrong, nothing is counted
    for wrong in ([-1, 2], [.5, 1], [np.nan, 1], [[[1]]], []):
        with pytest.raises(ValueError, match="whole numbers"): panel(wrong, .1)
    for noise in (-.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"): panel([1, 2], noise)
    with pytest.raises(ValueError, match="two raters"): panel([1, 2], .1, raters=1)


def test_mad_by_hand():
    by_hand = [[1, 4], [2, 4], [3, 1]] # the others' means: 2.5 2.5, 2 2.5, 1.5 4
    np.testing.assert_allclose(mad(by_hand), [(1.5 + 1.5) / 2, (0 + 1.5) / 2, (1.5 + 3) / 2])
    np.testing.assert_allclose(mad(by_hand, [2, 3]), [(.5 + .5) / 2, (0 + .5) / 2, (.5 + 1) / 2])
    np.testing.assert_allclose(mad(by_hand, [2, np.nan]), [.5, 0, .5]) # pairs that the judge has not answered
    assert np.isnan(mad(by_hand, [np.nan, np.nan])).all()
    assert (mad(np.ones((4, 3))) == 0).all()
    rng = np.random.default_rng(0)
    x, g = rng.integers(0, 6, (6, 50)), rng.integers(0, 6, 50)
    for r in range(6): # by the definition
        m = np.delete(x, r, 0).mean(0)
        assert mad(x)[r] == pytest.approx(abs(x[r] - m).mean()) and mad(x, g)[r] == pytest.approx(abs(g - m).mean())
    for wrong in ([1, 2], [[1, 2]], [[1, np.nan], [2, 3]]):
        with pytest.raises(ValueError, match="raters, n"): mad(wrong)
    with pytest.raises(ValueError, match="a judge counts"): mad(x, g[:-1])


def test_the_noise_is_found():
    rng = np.random.default_rng(3)
    for counts in (rng.integers(0, 5, 300), rng.multinomial(2, np.full(12, 1 / 12), 300)):
        total = lambda x: x if counts.ndim == 1 else x.sum(-1)
        q = noise_for(.71, counts)
        found = [mad(total(panel(counts, q, s))).mean() for s in range(10)] # panels that it has not seen
        assert abs(np.mean(found) - .71) < .02
        assert noise_for(.3, counts) < q < noise_for(.9, counts)
        assert (np.diff(mad(total(panel(counts, q, 7)))) > -.25).all() # the careless are farther away
    with pytest.raises(ValueError, match="between 0 and .* got 9"): noise_for(9, [1, 2, 3])
    with pytest.raises(ValueError, match="got 0.5"): noise_for(.5, [0, 0, 0])


def test_verdicts_against_a_panel():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    counts, studies = rng.integers(0, 5, 240), np.repeat(np.arange(60), 4)
    ratings = panel(counts, noise_for(.71, counts), seed=2)
    holes = np.where(np.arange(240) % 6 == 0, np.nan, counts)
    judged = dict(truth=counts, far=counts + 3, holes=holes, nothing=np.full(240, np.nan), rater=ratings[5])
    table = against_panel(ratings, judged, studies, n=200).set_index("judge")
    assert table.loc["left-out rater", "mad"] == pytest.approx(mad(ratings).mean())
    assert table.loc["truth", "mad"] == pytest.approx(mad(ratings, counts).mean())
    assert (table.low.dropna() < table.mad.dropna()).all() and (table.mad.dropna() < table.high.dropna()).all()
    assert table.within["truth"] and table.closer["truth"] == 6 and table.minus_high["truth"] < 0
    assert not table.within["far"] and table.farther["far"] == 6 and table.minus_low["far"] > 0
    assert table.pairs["holes"] == 200 and table.pairs["nothing"] == 0 and np.isnan(table.mad["nothing"])
    assert table.minus_rater["truth"] == pytest.approx(table.mad["truth"] - table.mad["left-out rater"])
    counted = table.loc[["truth", "far", "holes", "rater"], ["closer", "farther", "alike"]]
    assert (counted.sum(axis=1) == 6).all() # every rater has a verdict
    others = np.delete(ratings, 5, 0).mean(0) # rater 6 against itself: the same distances, no difference
    assert ttest_rel(abs(ratings[5] - others), abs(ratings[0] - np.delete(ratings, 0, 0).mean(0))).pvalue < .05
    same = against_panel(np.stack([counts, counts + 1]), dict(like=counts + .5), studies, n=20)
    assert same.alike[1] == 0 and same.closer[1] == 2


def test_the_sweep_is_the_panel_at_each_noise():
    counts = np.random.default_rng(1).integers(0, 2, (90, 4))
    studies, total = np.repeat(np.arange(30), 3), counts.sum(1)
    sweep = noise_sweep(counts, dict(truth=total, far=total + 4), studies, (.1, .5, 1.), seed=3, n=20)
    assert sweep.noise.unique().tolist() == [.1, .5, 1.] and len(sweep) == 9
    for q, part in sweep.groupby("noise"):
        ratings = panel(counts, q, 3).sum(-1)
        found = part.set_index("judge").mad
        assert found["left-out rater"] == pytest.approx(mad(ratings).mean())
        assert found["truth"] == pytest.approx(mad(ratings, total).mean()) and found["far"] > found["truth"]
    rater = sweep[sweep.judge == "left-out rater"].mad.to_numpy()
    assert (np.diff(rater) > 0).all()
