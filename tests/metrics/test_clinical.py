"""Exported from nbs/05b_clinical.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
import numpy as np
from rrg_core.data.study import FIVE, OBSERVATIONS, as_numbers, named
from rrg_core.metrics.stats import draw_counts
import numpy as np, pandas as pd, pytest
from dataclasses import replace
from sklearn.metrics import precision_recall_fscore_support
from rrg_core.metrics.clinical import *


def test_protocols_are_checked():
    p = Protocol("x", 5, "positive", "macro", None, "chexbert")
    assert (p.observations, p.uncertain, p.average, p.text, p.labeler) == (5, "positive", "macro", None,
                                                                           "chexbert")
    assert [OBSERVATIONS[i] for i in p.columns] == FIVE and Protocol("x").columns == list(range(14))
    for field, value in dict(observations=13,
                             uncertain="drop",
                             average="samples",
                             text="PTB",
                             labeler="gpt",
                             max_tokens=1,
                             min_count=0,
                             bootstraps=True,
                             report="best",
                             empty_reference="keep",
                             name="").items():
        with pytest.raises(ValueError, match=field):
            replace(p, **{field: value})
    with pytest.raises(Exception):
        p.average = "micro" # frozen
    assert len({p, replace(p)}) == 1 # a value: hashable, equal by content


def test_scores_by_hand():
    nan = np.nan
    reference = np.full((4, 14), nan)
    predicted = reference.copy()
    reference[:, :3] = [[1, nan, nan], [1, -1, 0], [nan, 1, nan], [nan, nan, 0]]
    predicted[:, :3] = [[1, nan, nan], [1, nan, 0], [nan, -1, nan], [1, nan, nan]]

    def f(average, uncertain="negative"):
        s = clinical_scores(predicted, reference, Protocol("x", 14, uncertain, average))
        return s["precision"], s["recall"], s["F1"]

    np.testing.assert_allclose(f("micro"), (2 / 3, 2 / 3, 2 / 3)) # 2 hits of 3 and 3
    np.testing.assert_allclose(f("micro", "positive"), (3 / 4, 3 / 4, 3 / 4)) # 3 hits of 4 and 4
    np.testing.assert_allclose(f("macro"), (2 / 3 / 14, 1 / 14, .8 / 14)) # only the first observation is hit
    np.testing.assert_allclose(f("weighted"), (4 / 9, 2 / 3, 1.6 / 3)) # supports 2, 1: (2 · .8 + 0) / 3
    np.testing.assert_allclose(f("example"), (2 / 4, 2 / 4, 2 / 4)) # 1, 1, 0, 0
    np.testing.assert_allclose(f("example-defined"),
                               (2 / 3, 2 / 3, 1)) # precision undefined in 3, recall in 4, F1 in both


def test_scores_of_nothing():
    empty = np.full((3, 14), np.nan)
    for average in ("micro", "macro", "weighted", "example"):
        s = clinical_scores(empty, empty, Protocol("x", average=average))
        assert (s["precision"], s["recall"], s["F1"]) == (0, 0, 0)
    s = clinical_scores(empty, empty, Protocol("x", average="example-defined"))
    assert np.isnan([s["precision"], s["recall"], s["F1"]]).all()
    s = clinical_scores(empty, np.ones((3, 14)), Protocol("x", average="example-defined"))
    assert np.isnan(s["precision"]) and s["recall"] == 0 and np.isnan(s["F1"])
    s = clinical_scores(np.ones((3, 14)), np.ones((3, 14)), Protocol("x", 5, average="macro"))
    assert s["F1"] == 1 and list(s["per_class"]) == FIVE and s["per_class"]["Edema"] == {
        "precision": 1, "recall": 1, "F1": 1, "support": 3
    }
    for bad, words in [(np.ones((3, 13)), r"\(n, 14\)"), (np.ones((2, 14)), "2 predicted reports for 3"),
                       (np.full((3, 14), 2), "got 2.0")]:
        with pytest.raises(ValueError, match=words):
            clinical_scores(bad, np.ones((3, 14)), Protocol("x"))
    with pytest.raises(ValueError, match="no report"):
        clinical_scores(np.ones((0, 14)), np.ones((0, 14)), Protocol("x"))


def test_scores_equal_scikit_learn_and_pandas():
    rng = np.random.default_rng(0)
    for n in (1, 2, 50):
        a, b = rng.choice([1, 0, -1, np.nan], (2, n, 14), p=[.2, .2, .1, .5])
        for uncertain, positive in (("negative", [1]), ("positive", [1, -1])):
            p, r = np.isin(a, positive), np.isin(b, positive)
            for average, name in (("micro", "micro"), ("macro", "macro"), ("weighted", "weighted"), ("example",
                                                                                                     "samples")):
                s = clinical_scores(a, b, Protocol("x", 14, uncertain, average))
                want = precision_recall_fscore_support(r, p, average=name, zero_division=0)[:3]
                np.testing.assert_allclose([s["precision"], s["recall"], s["F1"]], want, atol=1e-12)
            t = pd.DataFrame({"tp": (p & r).sum(1), "p": p.sum(1), "r": r.sum(1)}).astype(float)
            precision, recall = t.tp / t.p, t.tp / t.r
            want = precision.mean(), recall.mean(), (2 * precision * recall / (precision+recall)).mean()
            s = clinical_scores(a, b, Protocol("x", 14, uncertain, "example-defined"))
            np.testing.assert_allclose([s["precision"], s["recall"], s["F1"]], want, atol=1e-12)


def test_statistics_equal_the_scores():
    rng = np.random.default_rng(0)
    a, b = rng.choice([1, 0, -1, np.nan], (2, 30, 14), p=[.15, .15, .1, .6])
    a[:9], b[5:12] = np.nan, np.nan # some reports with nothing on one side or both
    for k in (14, 5):
        for average in ("micro", "macro", "weighted", "example", "example-defined"):
            for uncertain in ("positive", "negative"):
                p = Protocol("x", k, uncertain, average)
                s = ClinicalStatistics(a, b, p)
                for rows in (np.arange(30), rng.integers(0, 30, 30), np.array([0, 0]), np.array([6])):
                    want, got = clinical_scores(a[rows], b[rows], p), s.scores(rows)
                    np.testing.assert_allclose([got[m] for m in got], [want[m] for m in got], atol=1e-12)
                np.testing.assert_equal(s.scores(), s.scores(np.arange(30))) # NaN equals NaN
                corpora = [rng.integers(0, 30, size) for size in (30, 1, 7)]
                for rows, together in zip(corpora, s.scores_of(corpora)):
                    np.testing.assert_allclose(list(together.values()), list(s.scores(rows).values()), atol=1e-14)


def test_no_average_exceeds_the_harmonic_mean():
    rng = np.random.default_rng(0)
    for _ in range(30):
        a, b = rng.choice([1, np.nan], (2, 12, 14), p=[.3, .7])
        for average in ("micro", "macro", "weighted", "example"):
            s = clinical_scores(a, b, Protocol("x", average=average))
            assert s["F1"] <= highest_f1(s["precision"], s["recall"]) + 1e-12
    assert highest_f1(.460, .314) < .3755 # rounding slack included


def test_named_protocols():
    assert {"default", "r2gen", "fita", "dcrrg", "lm-rrg", "chex-ex-f1-14",
            "llava-rad-pos-macro-f1-5"} <= set(PROTOCOLS)
    assert all(name == p.name and p.source for name, p in PROTOCOLS.items())
    p = PROTOCOLS["llava-rad-neg-micro-f1-5"]
    assert (p.observations, p.uncertain, p.average, p.report, p.bootstraps) == (5, "negative", "micro", "median",
                                                                                500)
    assert PROTOCOLS["chex-mic-f1-5+"].uncertain == "positive" and PROTOCOLS[
        "chex-mic-f1-14"].uncertain == "negative"
    assert PROTOCOLS["r2gen-iu"].max_tokens == 60 and PROTOCOLS["r2gen"].min_count == 10
