"""Exported from nbs/05f_stats.ipynb: edit it there, then run `nbdev-export`."""
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
import numpy as np
from rrg_core.data.study import as_numbers, named
import numpy as np, pytest, scipy.stats
from sklearn.metrics import f1_score, roc_auc_score
from rrg_core.metrics.stats import *


def test_bootstrap_agrees_with_scipy():
    x, y = np.random.default_rng(0).normal(size=(2, 60))
    y += x

    def r(a, b):
        return np.corrcoef(a, b)[0, 1]

    ours = bootstrap_ci(r, x, y, n=5000)
    theirs = scipy.stats.bootstrap((x, y),
                                   r,
                                   n_resamples=5000,
                                   paired=True,
                                   vectorized=False,
                                   method="percentile",
                                   rng=1).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=.05 * (ours[1] - ours[0]))


def test_bootstrap_edges():
    assert bootstrap_ci(np.mean, [1.]) == (1, 1) # one study: no spread to see
    assert np.isnan(bootstrap_ci(lambda a: np.nan, [1, 2])).all()
    low, high = bootstrap_ci(lambda t: sum(map(len, t)), ["a", "", ["b", "c"]]) # texts, lists of texts
    assert 0 <= low < high <= 6
    low, high = bootstrap_ci(lambda a: [a.mean(), a.max()], np.arange(9.))
    assert low.shape == (2, ) and high[1] == 8
    assert bootstrap_ci(np.mean, np.arange(9.), seed=1) == bootstrap_ci(
        np.mean, np.arange(9.), seed=1) != bootstrap_ci(np.mean, np.arange(9.), seed=2)
    for bad, words in [(lambda: bootstrap_ci(np.mean, [1], [1, 2]), "one length"),
                       (lambda: bootstrap_ci(np.mean, []), "at least one study"),
                       (lambda: bootstrap_ci(np.mean, [1], n=0), "positive"),
                       (lambda: bootstrap_ci(np.mean, [1], groups=[1, 2]), "one length")]:
        with pytest.raises(ValueError, match=words):
            bad()


def test_groups_are_drawn_whole():
    seen = []
    bootstrap_replicates(lambda a: seen.append(sorted(a)) or 0,
                         np.arange(5),
                         groups=["x", "y", "x", "y", "z"],
                         n=50)
    for draw in seen:
        assert draw.count(0) == draw.count(2) and draw.count(1) == draw.count(3) and 3 <= len(draw) <= 6


def test_draws_together_are_the_draws():
    x, y, who = np.arange(9.), np.arange(9.)**2, list("aabbbcdef")

    def several(draws):
        assert 0 < len(draws) <= 7
        return [[x[rows].mean(), (x * y)[rows].mean()] for rows in draws]

    for groups in (None, who):
        alone = bootstrap_replicates(lambda a, b: [a.mean(), (a * b).mean()], x, y, n=20, seed=3, groups=groups)
        found = corpus_replicates(several, 9, 20, 3, groups, 7)
        assert found.shape == (20, 2) and (alone == found).all()
    for bad, words in [(dict(size=0), "at least one study"), (dict(size=9, n=0), "positive"),
                       (dict(size=9, together=0), "at least one draw"), (dict(size=9, groups=[1]), "one length")]:
        with pytest.raises(ValueError, match=words): corpus_replicates(several, **bad)


def test_paired_bootstrap_forms():
    rng = np.random.default_rng(0)
    truth, a, b = rng.integers(0, 2, (3, 200))
    assert paired_bootstrap(np.mean, a, a) == (0, 0)
    one = paired_bootstrap(f1_score, a, b, truth, n=50) # score of one system
    assert one == paired_bootstrap(lambda x, y, t: f1_score(x, t) - f1_score(y, t), a, b, truth,
                                   n=50) # the difference itself
    shift = np.random.default_rng(1).normal(size=200)
    low, high = paired_bootstrap(np.mean, shift + 3, shift)
    assert abs(low - 3) < 1e-9 and abs(high - 3) < 1e-9 # pairing removes what both share
    assert np.allclose(paired_bootstrap(np.mean, a, b), -np.array(paired_bootstrap(np.mean, b, a))[::-1])


def test_seeds_widen_the_interval():
    rng = np.random.default_rng(0)
    noise = np.array([-.1, 0, .1]) # what training adds, the same on every study
    left, right = rng.random((300, 1)) + noise, rng.random((300, 1)) + noise[[1, 2, 0]]
    studies = paired_bootstrap(np.mean, left.mean(1), right.mean(1))
    both = paired_bootstrap(np.mean, left, right, seeded=True)
    assert both[1] - both[0] > 1.5 * (studies[1] - studies[0])
    same = paired_bootstrap(np.mean, left[:, :1], right[:, :1], seeded=True) # one seed: nothing to draw
    np.testing.assert_allclose(same, paired_bootstrap(np.mean, left[:, 0], right[:, 0]))
    with pytest.raises(ValueError, match="same number of seeds"):
        paired_bootstrap(np.mean, left, right[:, :2], seeded=True)
    with pytest.raises(ValueError, match="studies, seeds"):
        paired_bootstrap(np.mean, left[:, 0], right[:, 0], seeded=True)


def test_three_variances_are_told_apart():
    rng = np.random.default_rng(0)
    S, n = 400, 300
    whole, own = rng.normal(0, .3, S), rng.normal(0, 1., (n, S))
    study = rng.normal(0, 2., (n, 1))
    x = whole + study + own # (studies, seeds): variances .09 between seeds, 4/n shared, 1/n mixed
    found = spread(x.mean(0), bootstrap_replicates(lambda v: v.mean(0), x, n=400), n)
    assert abs(found.mixed - 1 / n) < .1/n and abs(found.between - (.09 + 1/n)) < .02
    assert abs(found.shared - study.var() / n) < .2 * 4/n
    one = spread(x[:, :1].mean(0), bootstrap_replicates(lambda v: v.mean(0), x[:, :1], n=400), n)
    assert np.isnan(one.between) and one.mixed == 0 and abs(one.shared - x[:, 0].var() / n) < .2 * 5/n
    assert abs(one.half() / (1.968 * np.sqrt(one.shared)) - 1) < .01 and np.isnan(one.half(5))
    exact = Spread(3, 100, .04, .01, .02) # where one part is all, the interval is Student's
    assert abs(Spread(3, 100, .04, 0., 0.).half() - 4.303 * .2 / 3**.5) < 1e-3
    assert abs(Spread(3, 100, 0., .01, 0.).half() - 1.984 * .1) < 1e-3 and Spread(3, 9, 0., 0., 0.).half() == 0
    assert exact.half(3, 100) == exact.half() > exact.half(10) > exact.half(10, 1000)
    assert exact.half(10**6, 10**8) < 1e-3 and exact.half(level=.5) < exact.half(level=.9)
    np.testing.assert_allclose(t_half(np.array([.01, .02]), np.array([.01, 0.]), 5, 50),
                               [t_half(.01, .01, 5, 50), t_half(.02, 0., 5, 50)])
    for bad, words in (((np.zeros(3), np.zeros((9, 2)), 5), r"\(draws, 3 seeds\), got \(9, 2\)"),
                       ((np.zeros(3), np.zeros(9), 5), "got"), ((["a"], np.zeros((9, 1)), 5), "values")):
        with pytest.raises(ValueError, match=words): spread(*bad)


def test_the_interval_of_seeds_and_studies_covers():
    def covers(seeds, share, mixed, experiments=4000, studies=200):
        "Share of intervals that hold the truth; of the variance, `share` is of seeds, of the rest `mixed` both."
        rng = np.random.default_rng([seeds, int(100*share), int(100*mixed)])
        m, x = (1-share) * (1-mixed), (1-share) * mixed * seeds
        values = rng.normal(size=(experiments, seeds)) * np.sqrt(share*seeds + x)
        error = values.mean(1) + rng.normal(size=experiments) * np.sqrt(m)
        shared = m * rng.chisquare(studies - 1, experiments) / (studies-1)
        return (np.abs(error) <= t_half(values.var(1, ddof=1) / seeds, shared, seeds, studies)).mean()

    for seeds in (3, 4, 5, 10, 30):
        for share in (0, .1, .25, .5, .75, .9, 1):
            for mixed in (0, .5, 1):
                assert .93 <= covers(seeds, share, mixed) <= .975, (seeds, share, mixed) # 4,000 experiments


def test_kendall_tau_by_hand():
    assert abs(kendall_tau_b([1, 2, 3], [1, 1, 2])[0] - 2 / 6**.5) < 1e-12
    assert kendall_tau_b([1, 2, 3], [3, 2, 1])[0] == -1
    for x, y in [([1, 1], [1, 2]), ([], []), ([1], [1]), ([1, np.nan, 2], [1, 2, 3])]:
        assert np.isnan(kendall_tau_b(x, y)).all()
    x, y = np.random.default_rng(0).integers(0, 4, (2, 40))
    sign = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y)) # the definition, pair by pair
    pairs = lambda v: (np.subtract.outer(v, v) != 0).sum() / 2
    assert abs(kendall_tau_b(x, y)[0] - sign.sum() / 2 / np.sqrt(pairs(x) * pairs(y))) < 1e-12
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        kendall_tau_b([1, 2], [1, 2, 3])


def test_aurocs():
    assert auroc([0, 0, 1, 1], [.1, .4, .35, .8]) == .75 and auroc([0, 1], [3, 3]) == .5
    assert np.isnan(auroc([1, 1], [1, 2])) and np.isnan(auroc([], [])) and auroc([0, np.nan, 1], [1, 9, 2]) == 1
    for bad in ([0, 2], [0, 1, 1]):
        with pytest.raises(ValueError):
            auroc(bad, [.1, .2])
    with pytest.raises(ValueError, match="score 1 is NaN"):
        auroc([0, 1], [1, np.nan])
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, (50, 3, 4)).astype(float), rng.normal(size=(50, 3, 4))
    labels[rng.random((50, 3, 4)) < .2] = np.nan
    labels[:, 1, 1] = 1
    labels[:, 2, 2] = 0
    labels[:, 0, 0] = np.nan
    values, weights = [], []
    for r, c in np.ndindex(3, 4):
        y, s = labels[:, r, c], scores[:, r, c]
        pos, neg = s[y == 1], s[y == 0]
        if len(pos) and len(neg):
            values.append((pos[:, None] > neg).mean())
            weights.append(len(pos))
    w = weighted_auroc(labels, scores)
    assert abs(w - np.average(values, weights=weights)) < 1e-12 and (w.used, w.left_out) == (9, 3)
    assert np.isnan(weighted_auroc(np.ones((2, 1, 1)), np.ones((2, 1, 1))))


def test_nan_is_never_dropped_in_silence():
    import re

    x, gap = np.arange(40.), np.arange(40.)
    gap[7] = np.nan
    pair = np.stack([x, x], 1)
    holed = np.where(np.arange(40)[:, None] == 7, [np.nan, 1], pair)
    refused = {
        "a mean": lambda: bootstrap_ci(np.mean, gap),
        "a list": lambda: bootstrap_ci(np.mean, gap.tolist()),
        "all of them": lambda: bootstrap_ci(np.mean, np.full(5, np.nan)),
        "the second array": lambda: bootstrap_ci(lambda a, b: (a * b).mean(), x, gap),
        "one of two numbers": lambda: bootstrap_ci(lambda a: a.mean(0), holed),
        "float32": lambda: bootstrap_ci(np.median, gap.astype(np.float32)),
        "None in a list": lambda: bootstrap_ci(lambda a: np.mean(a.astype(float)), [None, *x]),
        "with groups": lambda: bootstrap_ci(np.mean, gap, groups=np.arange(40) // 4),
        "a difference": lambda: paired_bootstrap(np.mean, gap, x),
        "the other side": lambda: paired_bootstrap(np.mean, x, gap),
        "what is shared": lambda: paired_bootstrap(lambda a, t: (a * t).mean(), x, x + 1, gap),
        "a seed": lambda: paired_bootstrap(np.mean, holed, pair, seeded=True),
        "a group": lambda: bootstrap_ci(np.mean, x, groups=gap),
        "a missing patient": lambda: bootstrap_ci(np.mean, x, groups=["p"] * 39 + [None]),
    }
    for name, call in refused.items():
        try:
            call()
        except ValueError as e:
            assert re.search("NaN in row [07],|group of row (7|39) is missing", str(e)), name
        else:
            raise AssertionError(f"{name} was taken")
    labels = np.where(np.random.default_rng(0).random((40, 3)) < .3, np.nan, x[:, None] % 2)
    for taken in (lambda: bootstrap_ci(np.nanmean, gap), lambda: bootstrap_ci(auroc, labels[:, 0], x),
                  lambda: bootstrap_ci(lambda a: (a == 1).mean(0), labels)): # the statistic takes them
        assert not np.isnan(taken()).any()
    undefined = bootstrap_ci(lambda a, s: [auroc(a[:, 0], s), auroc(a[:, 0] * 0, s)], labels, x)
    assert not np.isnan(undefined[0][0]) and np.isnan(undefined[0][1]) # one class in all rows and all draws
