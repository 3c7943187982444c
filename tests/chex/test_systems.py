"""Exported from nbs/12m_systems.ipynb: edit it there, then run `nbdev-export`."""
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from fastcore.basics import patch
from rrg_core.chex.pooling import to_shares
from rrg_core.chex.scores import PrecisionParts
from rrg_core.chex.tasks import DETECTED, FINDINGS, TRAINED, Answer, Asked, about, answer_table, asked, asked_by, boxes_of, findings_of, grounded, presence, shares
from rrg_core.chex.towers import load_towers
from rrg_core.data import load
from rrg_core.data.raw import opened
from rrg_core.data.study import REGIONS, Box, Image, Report, Sentence, Study
from rrg_core.engine.code import Registry, data_parts
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import CourseError, Profile, data_root
from rrg_core.learning.published import standins_among
from rrg_core.learning.writers import images_of, pixels_of, split_of
from rrg_core.nets.recipes import Recipe
from rrg_core.nets.saving import half_saved, load_half
from rrg_core.nets.training import fit
import tempfile
import numpy as np, pandas as pd, pytest, torch
from torch import nn
from transformers import PreTrainedModel
from rrg_core.chex.detector import mlp
from rrg_core.chex.tasks import FINDINGS, TASKS, TRAINED, asked, truth_of
from rrg_core.data.study import REGIONS
from rrg_core.nets.attention import CourseConfig
from rrg_core.chex.systems import *


def test_lessons_say_what_the_studies_say():
    studies = tiny_studies(6)
    lessons = lessons_from(studies)
    names = [c.name for c in TRAINED]
    for i, s in enumerate(studies):
        there = {b.label for b in s.boxes}
        assert lessons.present[i].tolist() == [float(c.parts[0][0] in there) for c in TRAINED]
        for c, boxes in zip(TRAINED, lessons.class_boxes[i]):
            want = [b for b in s.boxes if b.label == c.parts[0][0]]
            assert len(boxes) == len(want)
            for got, b in zip(boxes, want):
                cx, cy = b.center
                np.testing.assert_allclose(got, [cx / 96, cy / 96, b.width / 96, b.height / 96], atol=1e-6)
        assert [t for t, _ in lessons.pairs[i]] == [x.text for x in s.sentences if x.polarity == 1]
        assert lessons.sentences[i] == [x.text for x in s.sentences] and lessons.reports[i] == s.report.findings
        told = {r: t for r, t in zip(REGIONS, lessons.region_texts[i]) if t}
        assert set(told) == {r for x in s.sentences for r in x.regions}
        assert np.isnan(lessons.region_boxes[i, REGIONS.index("spine")]).all()
        np.testing.assert_allclose(lessons.region_boxes[i, REGIONS.index("left lung")], [.75, .5, .5, 1])
    assert np.nansum(lessons.findings) == sum(len(s.boxes) for s in studies) # each in the lung that is named
    assert len(lessons.first(2)) == 2 and lessons.first(2).reports == lessons.reports[:2]


def test_an_epoch_has_the_sets_that_a_stage_asks_for():
    from types import SimpleNamespace

    marked = SimpleNamespace(sets=["CIG", "VinDr-CXR", "NIH8", "CIG"])
    assert rows_of(marked, {"CIG": 1, "VinDr-CXR": 3}) == [0, 1, 1, 1, 3]
    assert rows_of(marked, {"CIG": 1}) == [0, 3]
    studies = tiny_studies(3)
    for sets in (None, {"CIG": 1, "VinDr-CXR": 3}): # phantoms have all targets
        assert rows_of(lessons_from(studies), sets) == range(3)


def test_factors_undo_a_habit():
    rng = np.random.default_rng(0)
    true = [(resized(np.array([[.3, .3, .6, .6]]) + rng.uniform(-.1, .1, 2).repeat(2)[[0, 2, 1, 3]], 1.),
             np.array([i % 3])) for i in range(30)]
    habit = np.array([1 / 2, 1 / .8, 1.])
    said = [(resized(b, habit[c]), np.ones(1), c) for b, c in true]
    assert best_factors(said, true, 4).tolist() == [2., .9, 1., 1.] # .9 is enough for an IoU of .7
    np.testing.assert_allclose(resized([[.2, .2, .4, .6]], 2.), [[.1, 0, .5, .8]]) # clipped above
    np.testing.assert_allclose(resized([[-1, .2, .4, .6]], 1.), [[0, .2, .4, .6]])
    assert resized(np.zeros((0, 4)), 1.5).shape == (0, 4)
    empty = [(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))] * 3
    assert best_factors(empty, true[:3], 3).tolist() == [1, 1, 1] # nothing is found


def test_a_system_is_trained_saved_and_answers():
    class ToyConfig(CourseConfig):
        model_type = "rrg_toy"
        width: int = 8

    class Toy(PreTrainedModel):
        config: ToyConfig
        def __init__(self, config):
            super().__init__(config)
            self.head = nn.Linear(config.width, len(TRAINED))
            self.post_init()
        def _init_weights(self, module): pass
        def forward(self, features, present):
            from rrg_core.chex.model import ChexOutput
            loss = nn.functional.binary_cross_entropy_with_logits(self.head(features).amax(1), present)
            return ChexOutput(loss=loss, terms={"classes": loss})

    class ToySystem(TaskSystem):
        model, title = Toy, "A toy"
        def config(self, width, words=None): return ToyConfig(width=width)
        def batch(self, lessons, rows):
            present = torch.tensor(lessons.present[rows]).float()
            return dict(features=features_of(lessons.cells, rows), present=present)
        def look(self, model, cells, questions):
            with torch.no_grad(): maps = model.head(features_of(cells, range(len(cells)))).sigmoid().numpy()
            out, names = [], [c.name for c in TRAINED]
            for m in maps:
                found = {}
                for set_, labels in DETECTED.items():
                    rows = []
                    for k, x in enumerate(labels):
                        c = next((j for j, t in enumerate(TRAINED) if t.parts == x.parts), None)
                        if c is None or m[:, c].max() < .5: continue
                        y, x_ = np.divmod(np.flatnonzero(m[:, c] > .5), 6)
                        box = x_.min(), y.min(), x_.max() + 1, y.max() + 1
                        rows.append((*box, m[:, c].max(), k))
                    rows = np.array(rows, float).reshape(-1, 6)
                    found[set_] = rows[:, :4] / 6, rows[:, 4], rows[:, 5].astype(int)
                out.append(Answer(detected=found))
            return out

    from rrg_core.chex.tasks import DETECTED, Answer
    kinds = "Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"
    directions = {o: 3 * v for o, v in zip(kinds, np.eye(8))}
    settings = dict(batch=8, steps=60, rate=.1, weight_decay=0., judged=4, epochs=None)
    studies = tiny_studies(16)
    system = tried(ToySystem, settings, studies, tiny_cells(studies, directions))
    with tempfile.TemporaryDirectory() as d:
        system.train(Path(d), 0)
        curve = pd.read_csv(Path(d) / "evaluations.csv")
        frame = answered(system, Path(d))
        few = answered(system, Path(d), first=3)
        assert (Path(d) / "README.md").read_text().startswith("not for clinical use")
    assert curve["validation loss"].iloc[-1] < .3 * curve["validation loss"].iloc[0]
    questions = system.questions("test")
    assert TASKS["OD (MS-CXR)"].parts(frame, questions).scores()["mAP"] > .4
    assert few.study_id.tolist() == frame.study_id.tolist()[:3] and "hypothesis" not in frame
    assert agreement(frame)["mean overlap"] > .5
    with pytest.raises(KeyError): agreement(frame.drop(columns="overlap"))
