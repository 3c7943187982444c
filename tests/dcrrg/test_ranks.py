"""Exported from nbs/13h_ranks.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable
import numpy as np
import pandas as pd
from rrg_core.data.study import FIVE, OBSERVATIONS, named
from rrg_core.dcrrg.observation_pretraining import observation_targets
from rrg_core.dcrrg.probes import KS, rare_ones
from rrg_core.dcrrg.towers import of_observations, of_runs
from rrg_core.engine.settings import CourseError
from rrg_core.metrics.stats import bootstrap_replicates, spread
from rrg_core.results.claims import Claim, Effect
from rrg_core.results.systems import Measured, Reports, System, aligned
import pytest
from rrg_core.metrics.stats import auroc, kendall_tau_b
from rrg_core.dcrrg.ranks import *


def test_weights_are_draws():
    rng = np.random.default_rng(0)
    for scores in (rng.standard_normal((40, 3)), rng.integers(0, 4, (40, 3)).astype(float), np.zeros((40, 3))):
        positive, known = rng.random((40, 3)) < .3, rng.random((40, 3)) < .8
        positive[:, 2] = False # one answer is missing
        ranks = Ranks(scores, positive, known)
        for _ in range(5):
            rows = rng.integers(40, size=40)
            want = [auroc(positive[r, k], scores[r, k]) for k in range(3) for r in [rows[known[rows, k]]]]
            np.testing.assert_allclose(ranks(np.bincount(rows, minlength=40)), want)
        assert np.isnan(want[2])


def test_rows_by_hand():
    from rrg_core.dcrrg.ranks import _mean

    rng = np.random.default_rng(0)
    labels = np.where(rng.random((60, 14)) < .4, 1., np.nan)
    labels[:, :3] = np.nan
    labels[:3, :3] = 1 # rare: 3 of 60
    labels[5, 9] = -1
    def frame(seed): # test and retrieval films of one seed
        r, out = np.random.default_rng(seed), {}
        for k, o in enumerate(OBSERVATIONS):
            out |= {f"label {o}": labels[:, k], f"odds {o}": r.standard_normal(60)}
        for run in range(2):
            out |= {f"0.1 run {run} {o}": np.r_[r.standard_normal(40), np.full(20, np.nan)] for o in FIVE}
        test = pd.DataFrame(out | {"study_id": [f"t{i}" for i in range(60)], "set": "test"})
        found = pd.DataFrame({"study_id": list("abcde"), "set": "5x200"} | {f"P@{k}": r.random(5) for k in KS})
        return pd.concat([test, found], ignore_index=True)
    runs = {s: frame(s) for s in (3, 4)}
    row = observations_of(runs)
    own = np.array([[auroc(labels[k, o] == 1, f.loc[:59, f"odds {OBSERVATIONS[o]}"].to_numpy()[k])
                     for o in range(14) for k in [labels[:, o] != -1]] for f in runs.values()])
    np.testing.assert_allclose(row.values("observations", ("mean", "Edema"))[:, 0], own.mean(1))
    rare = rare_ones(labels)
    assert rare[:3].all() and not rare[3:].any()
    np.testing.assert_allclose(row.values("observations", ("rare", ))[:, 0], own[:, rare].mean(1))
    assert row.replicates("observations", ("mean", "rare"), 7).shape == (7, 2, 2)
    many = row.replicates("observations", ("mean", ), 7) # as System draws them, one film after another
    np.testing.assert_allclose(many, System.replicates(row, "observations", ("mean", ), 7))
    few = five_of(runs, .1)
    assert len(few.ids) == 40 and few.draws(3).shape == (3, 2, 10) and row.seeds == [3, 4]
    at = OBSERVATIONS.index(FIVE[0])
    want = auroc(labels[:40, at] == 1, runs[3].loc[:39, f"0.1 run 1 {FIVE[0]}"].to_numpy())
    assert few._weighed(np.arange(40), 0)[5] == pytest.approx(want)
    with pytest.raises(CourseError, match="share of 0.5"): five_of(runs, .5)
    found = retrieval_of(runs)
    assert found.values("5x200", ("P@5", ))[1, 0] == pytest.approx(runs[4]["P@5"].mean())
    gain = Gain(row, observations_of({s: frame(s + 10) for s in (3, 4)}), lambda x: _mean(x[..., rare]))
    other = observations_of({s: frame(s + 10) for s in (3, 4)}).values("observations", ("rare", ))
    np.testing.assert_allclose(gain.values("gain", ("gain", )), row.values("observations", ("rare", )) - other)
    drawn = System.replicates(gain, "gain", ("gain", ), 5)
    np.testing.assert_allclose(gain.replicates("gain", ("gain", ), 5), drawn)
    with pytest.raises(CourseError, match="no score 'best'"): row.values("observations", ("best", ))


def test_ranks_that_go_together():
    from rrg_core.dcrrg.ranks import _pseudo

    rng = np.random.default_rng(0)
    for x, y in (rng.standard_normal((2, 12)), rng.integers(0, 4, (2, 12))):
        assert tau_b(x, y) == pytest.approx(kendall_tau_b(x, y)[0])
    assert np.isnan(tau_b(np.ones(4), np.arange(4)))
    x = np.arange(20.).reshape(5, 4)
    whole, each = _pseudo(x, x)
    assert whole == 1 and np.allclose(each, 1)
    whole, each = _pseudo(x, rng.standard_normal((5, 4)))
    left = np.mean([tau_b(*(np.delete(z, s, 0).ravel() for z in (x, x[::-1]))) for s in range(5)])
    whole, each = _pseudo(x, x[::-1])
    assert each.mean() == pytest.approx(5 * whole - 4 * left) and each.shape == (5, )
    whole, one = _pseudo(x[:1], x[:1])
    assert one.shape == (1, ) and whole == 1
