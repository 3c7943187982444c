"""Exported from nbs/07d_quality.ipynb: edit it there, then run `nbdev-export`."""
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.learning.pretraining import World, encode, world
from rrg_core.engine.settings import Profile, profile as load_profile
from rrg_core.reports import sentences
from rrg_core.learning.standins import WORLDS, load_standin
import os, tempfile
import numpy as np, pandas as pd, pytest, torch
from rrg_core.metrics.retrieval import recall_at_k
from rrg_core.metrics.stats import auroc
from rrg_core.engine.settings import profile as load_profile
from rrg_core.learning.standins import STANDINS, train_standin
from rrg_core.learning.quality import *


def test_auroc_columns_agree_with_auroc():
    rng = np.random.default_rng(0)
    labels = rng.random((60, 3)) < [.3, .5, 0]
    scores = rng.integers(0, 6, (60, 2, 3)) # many ties
    ours = auroc_columns(labels, scores)
    assert ours.shape == (2, 3) and np.isnan(ours[:, 2]).all()
    for s in range(2):
        for c in range(2):
            np.testing.assert_allclose(ours[s, c], auroc(labels[:, c], scores[:, s, c]), atol=1e-12)


def test_the_label_table_knows_who_is_better():
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 2)) < .5).astype(np.float32)
    rows = [("resnet", "phantom", "own outputs"), ("resnet", "phantom", "linear probe"),
            ("resnet", "shapes", "linear probe"), ("resnet", "random", "linear probe")]
    scores = np.stack([
        labels, labels + .5 * rng.normal(size=labels.shape), labels + 3 * rng.normal(size=labels.shape),
        rng.normal(size=labels.shape)
    ], 1)
    t = label_table(rows, scores, labels, ("A", "B"), bootstraps=100)
    means = t[t.observation == "mean"].set_index(["pretraining", "read_by"])
    assert means.loc[("phantom", "own outputs"), "AUROC"] == 1 and len(t) == 6 * 3
    # normals with sd s, shift 1: AUROC = Phi(1/(s sqrt 2)): .921 for s = .5, .593 for s = 3
    assert abs(means.loc[("phantom", "linear probe"), "AUROC"] -
               .921) < .03 and abs(means.loc[("shapes", "linear probe"), "AUROC"] - .593) < .06
    assert means.loc[("phantom − random", "linear probe"),
                     "low"] > .3 and (t.low <= t.AUROC).all() and (t.AUROC <= t.high).all()


def test_a_probe_hears_what_is_linear():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 4))
    labels = np.c_[x[:, 0] > 0, np.zeros(500), x[:, 1] * x[:, 2] > 0]
    scores = probe(x[:300], labels[:300], x[300:])
    a = auroc_columns(labels[300:], scores)
    assert a[0] > .98 and np.isnan(a[1]) and (scores[:, 1] == 0).all() and abs(a[2] - .5) < .15


def test_hits_are_recall_at_k():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 9, (30, 30))
    groups = rng.integers(0, 20, 30)
    for g in (None, groups):
        h = hits(similarity, (1, 5, 30), g)
        np.testing.assert_allclose(h.mean(0), [recall_at_k(similarity, k, g) for k in (1, 5, 30)])
    assert hits(np.eye(5), (1, )).all() and not hits(np.ones((5, 5)), (1, 4)).any() # all alike: nothing is found


def test_a_model_that_knows_nothing_is_surprised_by_log_v():
    from rrg_core.learning.pretraining import causal_model, make_tokenizer, masked_model

    texts = ["A large ring.", "No star. We see a small dark disc at the left side."]
    for kind, build, surprise in (("bpe", causal_model, causal_surprise), ("wordpiece", masked_model,
                                                                           masked_surprise)):
        t = make_tokenizer(kind, texts, 300)
        model = build(t, 16, 1).eval()
        for p in model.parameters():
            torch.nn.init.zeros_(p) # all logits are equal
        asked = [len(row) - 1 for row in t(texts).input_ids] # all but the start
        np.testing.assert_allclose(surprise(model, t, texts, 100), np.array(asked) * np.log(len(t)), rtol=1e-5)


def test_quality_tables_are_whole():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d)
        for name in STANDINS:
            train_standin(name, "smoke", say=lambda line: None)
        r, l = retrieval_table("smoke"), language_table("smoke", n=4)
        assert len(r) == 3 * 2 * 3 and r.chance.tolist()[:3] == [1 / 24, 5 / 24, 10 / 24] and (
            (r.low <= r.recall) & (r.recall <= r.high)).all()
        assert len(l) == 2 * 2 * 3 and (l.perplexity > 1).all() and set(
            l.pretraining) == {"phantom", "shapes", "random"} and (l.n > 0).all()
        rows, scores, labels = label_scores("smoke")
        assert len(rows) == 8 and scores.shape == (24, 8, 14) and labels.shape == (24, 14)
