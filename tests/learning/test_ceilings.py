"""Exported from nbs/07j_ceilings.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable
from functools import partial
import numpy as np
import pandas as pd
import torch
from rrg_core.data.study import OBSERVATIONS
from rrg_core.labels import label_many
from rrg_core.learning.baselines import nearest_labels
from rrg_core.learning.quality import probe
from rrg_core.learning.writers import ReportSystem, Studies
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.metrics.text import text_scores
import pytest
from rrg_core.learning.ceilings import *


def test_cuts_are_where_f1_is_highest():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(60, 3)).round(1), rng.random((60, 3)) < .3
    truth[:, 2] = False
    f1 = lambda s, y: 2*(s & y).sum() / max(s.sum() + y.sum(), 1)
    cuts = best_cuts(scores, truth)
    for k in range(2):
        tried = max(f1(scores[:, k] >= t, truth[:, k]) for t in np.unique(scores[:, k]))
        assert f1(scores[:, k] >= cuts[k], truth[:, k]) == tried
    assert cuts[2] == np.inf and not (scores[:, 2] >= cuts[2]).any()


def test_replacements_keep_shape_and_kind():
    x = np.random.default_rng(0).integers(0, 200, (6, 1, 4, 4)).astype("u1")
    for change in SWAPS.values():
        y = change(x)
        assert y.shape == x.shape and y.dtype == x.dtype and not np.array_equal(x, y)
    assert np.array_equal(another(x)[1], x[0]) and len(np.unique(blank(x))) == 1
    z = np.random.default_rng(1).normal(3, 2, (500, 5, 2)).astype("f2")
    assert abs(noise(z).astype("f4").mean() - 3) < .1 and abs(noise(z).astype("f4").std() - 2) < .1


def test_a_reader_of_its_input_is_told_from_one_that_is_not():
    from types import SimpleNamespace
    SAID = {0: "The lungs are clear.", 1: "There is a pleural effusion.", 2: "There is pulmonary edema."}

    class Copies(ReportSystem):
        "Says what its first number stands for, whatever its second is."
        def __init__(self, kinds): self.kinds, self.settings = kinds, dict(encoder_rate=None)
        def saved(self, folder): return SimpleNamespace(device="cpu"), None
        def read(self, split, words=None):
            table = pd.DataFrame(dict(study_id=range(len(self.kinds)), findings=[SAID[k] for k in self.kinds]))
            cells = np.stack([np.eye(3)[self.kinds]*6, np.eye(3)[self.kinds]*6], 1).astype("f2") # (n, 2, 3)
            return Studies(table, words, [[0, 1, 0]]*len(table), features=cells, beside=np.arange(len(table)))
        def told(self, model, data): return None
        def write(self, model, data, beams):
            return [SAID[int(x[0].argmax())] for x in np.asarray(data.inputs["features"], "f4")]

    kinds = np.random.default_rng(0).integers(0, 3, 60)
    found = decodings(Copies(kinds), None, (1, 4))
    assert found.beams.tolist() == [1, 4] and (found[["micro F1-14", "BLEU-4"]] > .999).all(axis=None)
    assert found["words a report"].tolist() == [np.mean([len(SAID[k].split()) for k in kinds])] * 2
    top = ceilings(Copies(kinds), None).set_index("reader")
    assert (top.micro == 1).all() and set(top.index) == {
        "the training report with the nearest true labels", "the encoder: a probe on its cells",
        "its reports, greedy", "its reports, 3 beams"}
    worth = swapped(Copies(kinds), None, {"beside": {"another study's": another}}, bootstraps=200)
    worth = worth.set_index(["input", "replaced_by"])
    assert worth.loc[("all its own", ""), "micro"] == 1
    assert worth.loc[("features", "another study's"), "high"] < -.3 # a third are right by luck
    assert (worth.loc[("beside", "another study's"), ["change", "low", "high"]] == 0).all()
