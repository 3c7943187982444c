"""Exported from nbs/12p_ceilings.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from rrg_core.chex.baselines import corners, of_regions, square
from rrg_core.chex.pooling import gaussian_window, to_shares
from rrg_core.chex.scores import Parts
from rrg_core.chex.systems import TaskSystem
from rrg_core.chex.tasks import DETECTED, MS_CXR, TASKS, Answer, Asked, answer_table, asked_by, explanation, pairs_of, reports, told_regions
from rrg_core.data.study import REGIONS
from rrg_core.labels import label_many
from rrg_core.learning.baselines import nearest_labels
from rrg_core.learning.ceilings import SWAPS
from rrg_core.learning.quality import probe
from rrg_core.metrics.stats import bootstrap_replicates, interval
import pytest
import numpy as np, pandas as pd
from rrg_core.chex.systems import TaskSystem, lessons_from, tiny_cells, tiny_studies, tried
from rrg_core.chex.tasks import MS_CXR, Answer, asked, told_regions, truth_of
from rrg_core.chex.ceilings import *


def test_inputs_that_are_read_are_told_from_those_that_are_not():
    class Reads(TaskSystem):
        "Boxes of sentences stand in its cells; a box's class is known by heart; the text is always the same."
        def saved(self, folder): return None
        def look(self, model, cells, questions):
            by_box = {tuple(b.round(6)): c for q in self.asked for b, c in zip(q.boxes, q.classes)}
            out = []
            for x, q in zip(cells, questions):
                box = np.sort(x[0, :4].clip(0, 1).reshape(2, 2), 0).reshape(1, 4), np.ones(1)
                classes = [np.eye(len(MS_CXR))[by_box[tuple(b.round(6))]] if tuple(b.round(6)) in by_box
                           else np.full(len(MS_CXR), .5) for b in q.boxes]
                out.append(Answer([box] * len(q.sentences), None, np.array(classes).reshape(-1, len(MS_CXR)),
                                  box_texts=["Edema."] * len(q.boxes)))
            return out

    studies = [s for s in tiny_studies(60) if len(s.boxes) == 1][:12]
    cells = np.zeros((len(studies), 4, 8))
    for x, s in zip(cells, studies): x[0, :4] = asked(s).sentence_boxes[0][0]
    system = tried(Reads, {}, studies, cells)
    worth = swapped(system, None, bootstraps=200).set_index(["input", "replaced_by", "score"])
    assert worth.loc[("cells", "another study's", "SG mIoU"), "own"] > .95
    assert worth.loc[("cells", "another study's", "SG mIoU"), "high"] < -.1
    for other in ("sentences", "given boxes"):
        row = worth.loc[(other, "another study's", "SG mIoU")]
        assert row.change == row.low == row.high == 0
    assert worth.loc[("given boxes", "the whole film", "RC AUROC"), "value"] == .5
    assert worth.loc[("given boxes", "another study's", "RC AUROC"), "high"] < 0
    assert worth.loc[("cells", "noise", "RC AUROC"), "change"] == 0
    assert (worth.xs("RE F1 (MS-CXR)", level="score").change == 0).all()


def test_readers_who_know_more_score_more():
    kinds = "Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"
    studies = tiny_studies(40)
    cells = tiny_cells(studies, dict(zip(kinds, 3 * np.eye(8))))

    class Guesses(TaskSystem):
        "True boxes with the names of all classes; the true sentences, and nothing about classes of boxes."
        def saved(self, folder): return None
        def look(self, model, cells, questions):
            out = []
            for q in questions:
                truth = truth_of(q)
                found = {}
                for name, (b, s, c) in truth.detected.items():
                    every = np.arange(len(DETECTED[name])).repeat(len(b))
                    found[name] = np.tile(b, (len(DETECTED[name]), 1)), np.ones(len(every)), every
                out.append(replace(truth, detected=found, box_classes=None, findings=None, report=""))
            return out

    from rrg_core.chex.tasks import DETECTED
    top = ceilings(tried(Guesses, {}, studies, cells), None).set_index("reader")
    assert top.loc["the model", "SG mAP"] == top.loc["the model", "RE F1 (MS-CXR)"] == 1
    assert top.loc["told the class", "OD mAP (MS-CXR)"] > top.loc["the model", "OD mAP (MS-CXR)"] + .1
    assert top.loc["told the boxes", "RG F1"] > top.loc["the model", "RG F1"] # the findings, at least
    towers = top.loc["the towers alone, in true boxes"]
    assert towers["RC AUROC"] > .9 and towers["RC wAUROC"] > .9 and np.isnan(towers["SG mAP"])
    assert top.loc["where it usually is", "OD mAP (MS-CXR)"] < .6
    assert top.loc["the training report with the nearest true labels", "RG F1"] > .9
    empty = top.loc["nothing is said"]
    assert np.isnan(empty["SG mAP"]) and 0 <= empty["RE F1 (MS-CXR)"] < .1
