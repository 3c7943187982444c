"""Exported from nbs/02m_probes.ipynb: edit it there, then run `nbdev-export`."""
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter, zoom
from sklearn.metrics import roc_auc_score
from torch import nn
from rrg_core.phantom import code_hash, render, spread
from rrg_core.phantom.anatomy import lung_profile
from rrg_core.phantom.scene import FINDINGS
from rrg_core.engine.settings import CourseError
import pytest, tempfile, numpy as np, pandas as pd, torch
from rrg_core.phantom.probes import *


def test_ranked_ignores_the_window():
    image = np.arange(64, dtype="u1").reshape(1, 8, 8)
    np.testing.assert_array_equal(ranked(image), ranked((image*3 + 20).astype("u1")))
    assert ranked(image).max() == 1 and abs(ranked(image).mean()) < .02


def test_box_regressor_moves_with_the_image():
    torch.manual_seed(0)
    model = BoxRegressor(8)
    out = model(torch.randn(3, 1, 64, 64))
    assert out.shape == (3, 2, 4) and (out > 0).all() and (out < 1).all()


def test_transfer_table_by_hand():
    truth = np.array([[[0, 0, .4, .8], [.6, 0, 1, .8]]] * 4, float)
    truth[2:, :, 3] = .4 # two tall, two short
    other = np.stack([truth, np.roll(truth, 2, 0)],
                     1) # the first network is perfect, the second takes tall for short
    table = transfer_table(other, truth, list("abcd"), 200).set_index("what")
    assert table.IoU["network trained on phantoms"] == .75 and table.IoU["gain, seed 1"] < table.IoU[
        "gain"] < table.IoU["gain, seed 0"]
    table = transfer_table(truth[:, None], truth, list("abcd"), 200).set_index("what")
    assert table.IoU["network trained on phantoms"] == 1
    expected = (.8/3*2 + .4/3*1) # mean height of the other three films of a tall one is (.8 + .4 + .4)/3
    tall, short = (.8+.4+.4) / 3 / .8, .4 / ((.8+.8+.4) / 3)
    assert abs(table.IoU["mean box of the other films"] - (tall+short) / 2) < 1e-9
    assert table.low["gain"] > 0


def test_iou_by_hand():
    a, b = np.array([0, 0, 2, 2.]), np.array([1, 1, 3, 3.])
    assert iou(a, b) == 1 / 7 and iou(a, a) == 1 and iou(a, a + 5) == 0


def test_transfer_learns_the_mean_box_of_its_own_kind():
    with tempfile.TemporaryDirectory() as d:
        for folder in ("films", "masks"):
            (Path(d) / folder).mkdir()
        for i in range(6):
            p = render(50 + i, 160, only=(), look=dict(collimation=(0., 0., 0., 0.)))
            Picture.fromarray(p.image).save(Path(d) / f"films/{i}.png")
            mask = np.zeros((160, 160), "u1")
            for s in ("right", "left"):
                b = p.regions[f"{s} lung"]
                mask[int(b.y0):int(b.y1), int(b.x0) + 2:int(b.x1) - 2] = 255
            Picture.fromarray(mask).save(Path(d) / f"masks/{i}.png")
        table = transfer(Path(d) / "films",
                         Path(d) / "masks",
                         n=96,
                         size=48,
                         epochs=8,
                         seeds=(0, ),
                         patients={str(i): i // 2
                                   for i in range(6)},
                         say=None).set_index("what")
    network, mean, gain = table.IoU[:3]
    assert table.films.eq(6).all() and table.patients.eq(3).all() and abs(network - mean - gain) < 1e-9 and (
        table.low <= table.IoU).all()
    assert network > .45 # chance is about .25; these films are phantoms themselves


def test_transfer_snapshot_is_of_todays_renderer():
    assert set(transfer_snapshot().renderer) == {code_hash()
                                                 }, "the renderer changed: run `rrg phantom transfer … --keep`"


def test_box_maps_by_hand():
    maps = box_maps([[(1, .25, 0, .5, .125)], []], 2, 4)
    assert maps.shape == (2, 2, 4, 4) and maps[1].sum() == 0 and maps[0, 0].sum() == 0
    np.testing.assert_allclose(maps[0, 1, 0], [0, .5, 0, 0]) # half of one place
    assert maps[0, 1, 1:].sum() == 0


def test_auroc_table_by_hand():
    labels, scores = np.array([[1, 1], [1, 1], [0, 1], [0, 1]]), np.array([[3., 0], [1, 0], [2, 0], [0, 0]])
    table = auroc_table(labels, scores, ["a", "b"], 50)
    assert table.AUROC[0] == .75 and np.isnan(table.AUROC[1]) and table.positives[1] == 4


def test_train_labels_learns_by_heart():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (8, 32, 32)).astype("u1")
    labels = np.array([[k % 2, k // 4] for k in range(8)])
    for boxes in (None, [[(0, 0, 0, .5, .5)] * int(l[0]) + [(1, .5, .5, 1, 1)] * int(l[1]) for l in labels]):
        model = train_labels(images, labels, boxes, epochs=60, batch=8)
        assert ((predict_labels(model, images) > 0) == labels).all()


def test_border_features_see_the_border_only():
    image = np.zeros((1, 80, 80), "u1")
    image[:, 4:-4, 4:-4] = 200
    assert border_features(image).shape == (1, 64) and border_features(image)[:, 1:15].max() == 0


def test_frames_give_nothing_away():
    table = borders(n=500, size=64)
    table = table[~table.observation.isin(["Support Devices"])]
    assert table.AUROC.mean() < .54 and (table.low > .5).sum() <= 2 # two of twelve by chance
