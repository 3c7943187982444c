"""Exported from nbs/02i_learn.ipynb: edit it there, then run `nbdev-export`."""
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter, zoom
from sklearn.metrics import roc_auc_score
from torch import nn
from rrg_core.phantom_anatomy import lung_profile
from rrg_core.profiles import CourseError
import pytest, tempfile, numpy as np, pandas as pd, torch
from rrg_core.phantom_learn import *


def test_ranked_ignores_the_window():
    image = np.arange(64, dtype="u1").reshape(1, 8, 8)
    np.testing.assert_array_equal(ranked(image), ranked((image*3 + 20).astype("u1")))
    assert ranked(image).max() == 1 and abs(ranked(image).mean()) < .02


def test_box_regressor_moves_with_the_image():
    torch.manual_seed(0)
    model = BoxRegressor(8); out = model(torch.randn(3, 1, 64, 64))
    assert out.shape == (3, 2, 4) and (out > 0).all() and (out < 1).all()


def test_transfer_table_by_hand():
    truth = np.array([[[0, 0, .4, .8], [.6, 0, 1, .8]]]*4, float); truth[2:, :, 3] = .4 # two tall, two short
    table = transfer_table(truth, truth, list("abcd"), 200).set_index("what")
    assert table.IoU["network trained on phantoms"] == 1
    expected = (.8/3*2 + .4/3*1) # mean height of the other three films of a tall one is (.8 + .4 + .4)/3
    tall, short = (.8 + .4 + .4)/3/.8, .4/((.8 + .8 + .4)/3)
    assert abs(table.IoU["mean box of the other films"] - (tall + short)/2) < 1e-9
    assert table.low["gain"] > 0


def test_iou_by_hand():
    a, b = np.array([0, 0, 2, 2.]), np.array([1, 1, 3, 3.])
    assert iou(a, b) == 1/7 and iou(a, a) == 1 and iou(a, a + 5) == 0


def test_auroc_table_by_hand():
    labels, scores = np.array([[1, 1], [1, 1], [0, 1], [0, 1]]), np.array([[3., 0], [1, 0], [2, 0], [0, 0]])
    table = auroc_table(labels, scores, ["a", "b"], 50)
    assert table.AUROC[0] == .75 and np.isnan(table.AUROC[1]) and table.positives[1] == 4


def test_train_labels_learns_by_heart():
    rng = np.random.default_rng(0); images = rng.integers(0, 255, (8, 32, 32)).astype("u1"); labels = np.array([[k % 2, k // 4] for k in range(8)])
    model = train_labels(images, labels, epochs=60, batch=8)
    assert ((predict_labels(model, images) > 0) == labels).all()


def test_border_features_see_the_border_only():
    image = np.zeros((1, 80, 80), "u1"); image[:, 4:-4, 4:-4] = 200
    assert border_features(image).shape == (1, 64) and border_features(image)[:, 1:15].max() == 0
