"""Exported from nbs/07f_baselines.ipynb: edit it there, then run `nbdev-export`."""
import re
import numpy as np
from PIL import Image as Picture
from rrg_core.labels import label, label_many
from rrg_core.data.study import OBSERVATIONS, as_numbers
from rrg_core.metrics.clinical import PROTOCOLS, clinical_scores
import pytest, numpy as np, pandas as pd
from rrg_core.data.study import OBSERVATIONS
from rrg_core.learning.baselines import *


def test_statements_say_what_their_names_say():
    for observation, sentence in STATEMENTS.items():
        said = [o for o, v in label(sentence).items() if v == 1]
        assert said == ([observation, "No Finding"] if observation == "Support Devices" else
                        [observation]), observation # CheXpert's No Finding allows devices


def test_best_constant_labels_beat_every_other_set():
    sets = np.arange(1, 2**14)[:, None] >> np.arange(14) & 1 # every set that is not empty
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truth = (rng.random((60, 14)) < rng.uniform(.02, .6, 14)).astype(float)
        f1 = 2 * (sets @ truth.sum(0)) / (60 * sets.sum(1) + truth.sum()) # 2 TP/(2 TP + FP + FN)
        best, any_one = best_constant_labels(truth), rng.integers(len(sets))
        mine = np.array([float(o in best) for o in OBSERVATIONS])
        for chosen, expected in ((mine, f1.max()), (sets[any_one], f1[any_one])): # as the metric counts
            scored = clinical_scores(np.tile(chosen, (60, 1)), truth, PROTOCOLS["default"])
            assert abs(scored["F1"] - expected) < 1e-12
    said = label(constant_report(["Edema", "Pneumothorax"]))
    assert {o for o, v in said.items() if v == 1} == {"Edema", "Pneumothorax"}
    with pytest.raises(ValueError, match="positive"):
        best_constant_labels(np.zeros((3, 14)))


def test_nearest_pixels_finds_itself():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (5, 64, 64)).astype("u1")
    t = thumbnails(images)
    assert nearest_pixels(t, t).tolist() == [0, 1, 2, 3, 4]
    brighter = thumbnails(
        [np.clip(i/2 + 40, 0, 255).astype("u1") for i in images[::-1]]) # exposure does not count
    assert nearest_pixels(brighter, t).tolist() == [4, 3, 2, 1, 0] and np.isfinite(
        thumbnails(np.zeros((1, 32, 32), "u1"))).all()


def test_nearest_labels_is_right_where_it_can_be():
    rng = np.random.default_rng(1)
    train = (rng.random((200, 14)) < .2).astype(float)
    test = train[[5, 50, 199]]
    assert (train[nearest_labels(test, train)] == test).all()
    nobody = np.zeros((1, 14))
    assert train[nearest_labels(nobody, train)].sum() == train.sum(1).min()


def test_trivial_reports_have_a_text_for_every_study():
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32)).astype("u1")
    texts = [
        "The heart is enlarged.", "There is pulmonary edema.", "The heart is enlarged.", "The lungs are clear."
    ]
    found = trivial_reports(texts, images, texts[1:3], images[1:3])
    assert all(len(v) == 2 for v in found.values()) and found["nearest in pixels"] == texts[1:3]
    assert label(found["best constant label set"][0])["Cardiomegaly"] == 1 and label(
        found[ORACLE][0])["Edema"] == 1


def test_micro_f1_by_hand():
    import pandas as pd

    frame = pd.DataFrame(dict(hypothesis=["The heart is "
                                          "enlarged.", ""], reference=["The heart is "
                                                                       "enlarged.", "There is a right "
                                                                                    "pneumothorax."]))
    assert micro_f1(frame) == {"micro F1-14": .5} # one found, one missed; an empty report says No Finding
