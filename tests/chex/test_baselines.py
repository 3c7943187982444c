"""Exported from nbs/12j_baselines.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
from functools import cached_property
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from transformers import PreTrainedModel
from rrg_core.chex.answers import probabilities
from rrg_core.chex.contrast import cosines, negated
from rrg_core.chex.detector import grid_positions, mlp
from rrg_core.chex.matching import box_distance
from rrg_core.chex.model import ChexOutput
from rrg_core.chex.pooling import gaussian_window, to_corners, to_shares
from rrg_core.chex.systems import TaskSystem, best_options, features_of
from rrg_core.chex.tasks import DETECTED, FINDINGS, MS_CXR, TRAINED, Answer, Asked, Label, asked_by, told_regions
from rrg_core.chex.writing import said_in
from rrg_core.data.study import REGIONS
from rrg_core.nets.attention import CourseConfig
import tempfile
from dataclasses import replace
import numpy as np, pandas as pd, pytest, torch
import matplotlib.pyplot as plt
from pathlib import Path
from rrg_core.chex.model import tiny_chex
from rrg_core.chex.systems import answered, features_of, lessons_from, tiny_cells, tiny_studies, tried
from rrg_core.chex.tasks import DETECTED, FINDINGS, MS_CXR, TASKS, TRAINED, asked
from rrg_core.engine.settings import profile
from rrg_core.chex.baselines import *


def test_every_tested_class_has_a_trained_one():
    own = {t.name: k for k, t in enumerate(TRAINED)}
    assert [trained_for(x) for x in DETECTED["VinDr-CXR"]] == [[own[x.name]] for x in DETECTED["VinDr-CXR"]]
    assert all(trained_for(x) for labels in DETECTED.values() for x in labels)
    lesion = next(x for x in FINDINGS if x.name == "lung lesion")
    assert {TRAINED[k].name for k in trained_for(lesion)} == {"Calcification", "Nodule/Mass"}
    assert [x.name for x in FINDINGS if not trained_for(x)] == ["mediastinal widening"]


def test_a_detector_learns_boxes_and_names_them():
    kinds = "Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"
    studies = tiny_studies(16)
    cells = tiny_cells(studies, dict(zip(kinds, 3 * np.eye(16))))
    short = dict(batch=8, steps=200, epochs=None, rate=5e-3, weight_decay=0., judged=4, hidden=32)
    system = tried(SupOD, short, studies, cells)
    with tempfile.TemporaryDirectory() as d:
        system.train(Path(d), 0)
        curve = pd.read_csv(Path(d) / "steps.csv").loss
        frame = answered(system, Path(d))
    assert curve.iloc[-5:].mean() < .4 * curve.iloc[0]
    score = lambda task, name: TASKS[task].parts(frame, system.asked).scores()[name]
    assert score("OD (MS-CXR)", "mAP") > .3 and score("RC (MS-CXR)", "AUROC") > .9
    assert "sentence_boxes" not in frame and "box_texts" not in frame
    model = BoxDetector(DetectorConfig(width=16, hidden=8)).eval() # images without any box, and at rest
    none = [torch.zeros(0, 4), torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)] * 2
    loss = model(features_of(cells, [0, 1]), *none).loss
    assert loss.isfinite() and not model.training and not model.rpn.training
    given = [corners([[0, 0, 1, 1]]), corners([])]
    assert [len(c) for c in model.classify(features_of(cells, [0, 1]), given)] == [1, 0]


def test_boxes_lie_around_hills():
    y, x = np.mgrid[:20, :20]
    hill = 1. * (abs(x - 4.5) < 2) * (abs(y - 9.5) < 4) + .6 * (x > 15) * (y > 15)
    boxes, peaks = boxes_above(hill, .5)
    np.testing.assert_allclose(boxes, [[.15, .3, .35, .7], [.8, .8, 1, 1]])
    assert peaks.tolist() == [1, .6] and len(boxes_above(hill, .7)[0]) == 1
    assert boxes_above(np.ones((5, 5)), .5)[0].shape == (0, 4) # a flat map says nothing
    many = np.zeros((9, 9))
    many[::2, ::2] = 1 + np.arange(25).reshape(5, 5) / 25
    assert len(boxes_above(many, .3)[0]) == 3 and boxes_above(many, .3)[1][0] == 1
    maps, chances = np.stack([[hill, np.ones((20, 20))]] * 2), np.array([[.5, .9], [0., .1]])
    (boxes, scores, of), (_, second, _) = from_maps(maps, chances, [.5, .5])
    assert of.tolist() == [0, 0] and scores.tolist() == [.5, .3] and second.tolist() == [0, 0]
    wide = np.maximum(.65 * (abs(x - 9.5) < 8) * (abs(y - 9.5) < 8), abs(x - 9.5) + abs(y - 9.5) < 4)
    true = [(np.array([[.35, .35, .65, .65]]), np.array([0]))] * 2
    assert best_shares(np.stack([[wide, hill]] * 2), np.ones((2, 2)), true) == [.7, .5] # .5 takes the skirt in


def test_maps_find_what_they_were_only_told_of():
    kinds = "Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"
    studies = tiny_studies(24)
    cells = tiny_cells(studies, dict(zip(kinds, 3 * np.eye(16))))
    system = tried(WSupOD, dict(batch=8, steps=60, epochs=None, rate=1e-2, weight_decay=0., judged=4, hidden=32),
                   studies, cells)
    with tempfile.TemporaryDirectory() as d:
        system.train(Path(d), 0)
        curve = pd.read_csv(Path(d) / "steps.csv").loss
        frame = answered(system, Path(d))
    assert curve.iloc[-5:].mean() < .3 * curve.iloc[0]
    score = lambda task, name: TASKS[task].parts(frame, system.asked).scores()[name]
    assert score("OD (MS-CXR)", "mAP") > .2 and score("RC (MS-CXR)", "AUROC") > .8
    model = CamNet(CamConfig(width=16, hidden=8))
    unknown = torch.full((2, 15), torch.nan)
    unknown[0, 0] = 1
    model(features_of(cells, [0, 1]), unknown).loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_sentences_are_grounded():
    kinds, tiny = ("Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"), tiny_chex()
    studies = tiny_studies(16)
    cells = tiny_cells(studies, dict(zip(kinds, 3 * np.eye(16))))
    settings = dict(batch=8, steps=150, epochs=None, rate=3e-3, weight_decay=0., judged=4, heads=2, layers=2,
                    hidden=32, dropout=0.)
    system = tried(SupVG, settings, studies, cells, (tiny.eyes, tiny.prompt_words))
    with tempfile.TemporaryDirectory() as d:
        system.train(Path(d), 0)
        curve = pd.read_csv(Path(d) / "steps.csv").loss
        frame = answered(system, Path(d))
    assert curve.iloc[-5:].mean() < .5 * curve.iloc[0]
    found = TASKS["SG (MS-CXR)"].parts(frame, system.asked).scores()
    assert found["mIoU"] > .4 and found["mAP"] > .3
    model = Grounder(GrounderConfig(width=16, heads=2, layers=1, hidden=8)) # a batch without a sentence
    empty = dict(study=torch.zeros(0, dtype=torch.long), texts=torch.zeros(0, 16), boxes=torch.zeros(0, 4))
    model(features_of(cells, [0]), **empty).loss.backward()


def test_towers_alone_answer_by_comparison():
    tiny = tiny_chex()
    place = {o: x.place for o in ("Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly") for x in MS_CXR
             if x.name == o}
    vectors = tiny.eyes.texts(tiny.prompt_words, list(place.values())).numpy()
    studies = tiny_studies(12)
    cells = tiny_cells(studies, dict(zip(place, 12 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True))))
    system = tried(Contrastive, dict(temperature=.1), studies, cells, (tiny.eyes, tiny.prompt_words))
    frame = answered(system, None)
    assert set(frame) == {"study_id", "overlap"} | {TASKS[t].column for t in TASKS if t[:2] != "RG"}
    for task in ("SG (MS-CXR)", "RC (MS-CXR)", "RC (CIG)"): TASKS[task].parts(frame, system.asked).scores()
    found = TASKS["OD (MS-CXR)"].parts(frame, system.asked).scores()["mAP"]
    assert found > .2 # boxes where the cells are the prompt
    assert all(text in system.sayings for texts in frame.region_texts for text in texts)
    bare = replace(system.asked[0], sentences=[], sentence_boxes=[], boxes=np.zeros((0, 4)),
                   classes=np.zeros(0, int), box_texts=[])
    assert system.look(system, cells[:1], [bare])[0].grounded == [] # nothing is asked
