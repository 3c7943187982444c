"""Exported from nbs/05k_composite.ipynb: edit it there, then run `nbdev-export`."""
from collections import Counter
from dataclasses import dataclass
import numpy as np
from rrg_core.data.study import as_numbers, named
import numpy as np, pandas as pd, pytest
from rrg_core.metrics.composite import *


def test_published_models_by_hand():
    # the affine forms of the fact sheet, worked out apart from the class
    v0 = 5.516160804 - 1.5890342336 * .3 - 3.0098301362 * .4 - 1.8733717099 * .5 + .7139418528 * .2
    v1 = 2.4501430830869335 - 1.2452163302 * .3 - 1.6508453287 * .4 - .9947717072 * .5
    assert abs(RadCliQ.v0().score(.3, .4, .5, .2) - v0) < 1e-8
    assert abs(RadCliQ.v1().score(.3, .4, .5, .2) - v1) < 1e-8
    for model, equal in ((RadCliQ.v0(), -.242), (RadCliQ.v1(), -1.441)):
        assert abs(model.score(1, 1, 1, 1) - equal) < 1e-3
    for model, centre in ((RadCliQ.v0(), 1.641666666666666), (RadCliQ.v1(), 0)): # at the training mean
        assert abs(model.score(*model.mean) - centre) < 1e-9
    assert abs(RadCliQ.v1().score(.134, .271, .286, .5) - 1.551) < 1e-3 # R2Gen, to three decimals


def test_score_is_monotone_and_broadcasts():
    for model, signs in ((RadCliQ.v0(), (-1, -1, -1, 1)), (RadCliQ.v1(), (-1, -1, -1, 0))):
        for k, sign in enumerate(signs):
            low, high = np.full(4, .4), np.full(4, .4)
            high[k] += .3
            step = model.score(*high) - model.score(*low)
            assert abs(step) < 1e-9 if sign == 0 else step * sign > 0, (model.name, k)
    x = np.random.default_rng(0).normal(size=(4, 3, 5))
    model = RadCliQ.v1()
    out = model.score(*x)
    assert out.shape == (3, 5) and isinstance(model.score(.1, .2, .3, .4), float)
    assert np.allclose(out[1, 2], model.score(*x[:, 1, 2]), atol=1e-12)
    assert np.allclose(model.score(x[0], .2, .3, .4), [[model.score(v, .2, .3, .4) for v in row] for row in x[0]])
    assert np.allclose(model.score([.1, .2], [[.3], [.4]], 0, 0)[1, 0], model.score(.1, .4, 0, 0))
    assert np.allclose(out.mean(), model.score(*x.mean((1, 2)))) # affine: the mean's score is the mean score
    assert isinstance(model.score(np.float32(.1), 1, True, 0), float)
    assert model.score([], [], [], []).shape == (0, )
    assert np.isnan(model.score(np.nan, 0, 0, 0)) and np.isnan(model.score([.1, None], 0, 0, 0)).tolist() == [
        False, True]
    for k in range(4): # NaN reaches the score from each component, that without weight too
        assert np.isnan(model.score(*[np.nan if i == k else .5 for i in range(4)]))


def test_score_refuses_what_is_no_component():
    model = RadCliQ.v1()
    for bad, words in [(([.1, .2], [.1, .2, .3], 0, 0), r"radgraph \(2,\), bertscore \(3,\)"),
                       ((np.zeros((2, 3)), 0, np.zeros((3, 2)), 0), "do not fit together"),
                       (("high", 0, 0, 0), "radgraph must be numbers"),
                       ((0, {}, 0, 0), "bertscore must be numbers"),
                       ((0, 0, [[1], [1, 2]], 0), "chexbert must be numbers"),
                       ((0, 0, 0, np.inf), "bleu2 must be finite"),
                       ((-np.inf, 0, 0, 0), "radgraph must be finite")]:
        with pytest.raises(ValueError, match=words): model.score(*bad)
    with pytest.raises(ValueError) as error: model.score(["a long text of a report about an effusion"], 0, 0, 0)
    assert "effusion" not in str(error.value)


def test_reciprocal_turns_the_order_around():
    v1 = RadCliQ.v1().score(*[np.array([0, .4, .62, .64, 1])] * 4)
    assert (np.diff(v1) < 0).all() and v1[2] > 0 > v1[3]
    assert 1 / v1[-1] < 1 / v1[0] and np.argmin(1 / v1) == 3


def test_fit_recovers_what_made_the_errors():
    rng = np.random.default_rng(1)
    for trial in range(10):
        x = rng.normal(rng.normal(size=4), rng.uniform(.1, 3, 4), (rng.integers(5, 60), 4))
        weights, intercept = rng.normal(size=4), rng.normal()
        fitted = RadCliQ.fit(x, x @ weights + intercept)
        fresh = rng.normal(size=(9, 4))
        assert np.allclose(fitted.score(*fresh.T), fresh @ weights + intercept, atol=1e-8)
        assert np.allclose(np.divide(fitted.coefficient, fitted.scale), weights, atol=1e-8)
        columns = dict(zip(COMPONENTS, x.T))
        for same in (columns, pd.DataFrame(columns)[list(COMPONENTS[::-1])], x.tolist()):
            assert np.allclose(RadCliQ.fit(same, x @ weights + intercept).score(*fresh.T), fitted.score(*fresh.T))
    for model in (RadCliQ.v0(), RadCliQ.v1()): # a model that is fitted to its own scores is that model
        x = rng.uniform(0, 1, (40, 4))
        again = RadCliQ.fit(x, model.score(*x.T))
        assert np.allclose(again.score(*fresh.T), model.score(*fresh.T)) and again.name == "RadCliQ-fitted"
    noisy = RadCliQ.fit(x := rng.uniform(0, 1, (4000, 4)), x @ [-2, -1, -.5, 0] + 5 + rng.normal(0, .3, 4000))
    assert np.allclose(np.divide(noisy.coefficient, noisy.scale), [-2, -1, -.5, 0], atol=.08)
    from numpy.linalg import lstsq # an independent solution of the same least squares
    y = rng.normal(size=4000)
    b = lstsq(np.c_[x, np.ones(4000)], y, rcond=None)[0]
    assert np.allclose(RadCliQ.fit(x, y).score(*x[:9].T), np.c_[x[:9], np.ones(9)] @ b, atol=1e-9)


def test_fit_refuses_what_determines_nothing():
    x, y = np.random.default_rng(2).uniform(size=(20, 4)), np.arange(20.)
    hole, flat, double = x.copy(), x.copy(), x.copy()
    hole[3, 1], flat[:, 2], double[:, 3] = np.nan, .5, x[:, 0] + 2*x[:, 1]
    for bad, words in [((x, y[:19]), "20 pairs for errors of shape"), ((hole, y), "pair 3 has a NaN"),
                       ((x, np.where(y == 7, np.nan, y)), "pair 7 has a NaN"),
                       ((flat, y), "chexbert is the same"),
                       ((double, y), "is a sum of the others"), ((x[:4], y[:4]), "more than 4 pairs, got 4"),
                       ((x[:, :3], y), r"must be \(n, 4\)"), ((x[0], y), r"must be \(n, 4\)"),
                       (({"radgraph": y}, y), "have no bertscore"), ((x, "many"), "errors must be numbers"),
                       ((x, y[:, None]), "errors of shape"), ((x * np.inf, y), "finite|NaN")]:
        with pytest.raises(ValueError, match=words): RadCliQ.fit(*bad)


def test_bleu2_is_that_of_nltk():
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    rng, words = np.random.default_rng(0), "heart lungs clear no effusion . normal size small left".split()
    for _ in range(300):
        h, r = (" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(2))
        want = sentence_bleu([r.split()], h.split(), (.5, .5), SmoothingFunction().method1)
        assert abs(bleu2(h, r) - want) < 1e-12, (h, r)
    assert abs(bleu2("Heart is LARGE.", "heart  is large .") - 1) < 1e-12
    assert bleu2("", "heart .") == bleu2("lungs", "heart .") == bleu2("heart", "") == 0 and bleu2("", "") == 0
