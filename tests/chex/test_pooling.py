"""Exported from nbs/12a_pooling.ipynb: edit it there, then run `nbdev-export`."""
import torch
from torch import Tensor
from rrg_core.data.study import named
import numpy as np, pytest, torch
import matplotlib.pyplot as plt
from rrg_core.phantom import render
from rrg_core.results.figures import overlay_boxes, overlay_map
from rrg_core.chex.pooling import *


def test_shares_and_corners():
    assert to_shares([10, 20, 30, 60], 100, 200).tolist() == pytest.approx([.2, .2, .2, .2])
    boxes = torch.rand(5, 3, 4)
    torch.testing.assert_close(to_shares(to_corners(boxes, 320, 80), 320, 80), boxes)
    assert to_shares([[0, 0, 7, 5]], 7, 5).tolist() == [[.5, .5, 1, 1]] # the whole image
    assert to_corners(torch.tensor([.5, .5, 0., 0.])).tolist() == [.5] * 4 # a point stays one
    assert to_shares(torch.zeros(0, 4), 9, 9).shape == (0, 4)
    for wrong in ([1, 2, 3], [[1, 2, 3, 4, 5]], 7.):
        with pytest.raises((RuntimeError, IndexError)): to_shares(wrong, 9, 9)
    with pytest.raises(ValueError, match="0 × 9"): to_shares([0, 0, 1, 1], 0, 9)


def test_window_is_the_formula():
    rng = np.random.default_rng(0)
    rows, columns = 5, 8
    at_the_border = [[0, 0, .3, .3], [1, 1, .4, .2], [.5, .5, 1, 1], [0, .5, 2, .1]]
    boxes = np.concatenate([rng.random((20, 4)) * .9 + .05, at_the_border])

    def by_hand(cx, cy, w, h, form):
        g = np.zeros((rows, columns))
        for j in range(rows):
            for i in range(columns):
                x, y = (i + .5) / columns, (j + .5) / rows
                half, sx, sy = (.5, w / 2, h / 2) if form == "paper" else (1, w, h) # as the code writes it
                g[j, i] = np.exp(-half * ((x - cx) / sx)**2 - half * ((y - cy) / sy)**2)
        return (g / g.sum() if form == "paper" else g / g.max()).ravel()

    for form in FORMS:
        want = np.stack([by_hand(*b, form) for b in boxes])
        got = gaussian_window(torch.tensor(boxes), (rows, columns), form)
        np.testing.assert_allclose(got, want, atol=1e-6) # float32 against float64
    totals = gaussian_window(torch.tensor([[.5, .5, s, s] for s in (.05, .2, 1.)]), (7, 7), "code").sum(-1)
    assert totals.tolist() == pytest.approx([1., 6.2, 41.8], abs=.05) # measured on the released code


def test_degenerate_boxes_pool_something():
    grid, patches = (10, 10), torch.randn(1, 100, 3)
    for form in FORMS:
        boxes = torch.tensor([[[.55, .25, 0, 0], [.5, .5, 0, 0], [.5, .5, 1e-30, 1e-30], [0, 0, 0, 0],
                               [1., 1, 0, 0], [.3, .3, 0, .5], [.5, .5, 1, 1], [2., 2, .1, .1],
                               [.03, .98, 1e-3, 1e-3]]], requires_grad=True)
        pooled = gaussian_pool(patches, boxes, grid, form)
        assert pooled.isfinite().all() and (pooled.abs().sum(-1) > 0).all()
        torch.testing.assert_close(pooled[0, 0], patches[0, 2 * 10 + 5]) # at the centre of row 2, column 5
        torch.testing.assert_close(pooled[0, 3], patches[0, 0])
        around = patches[0, [44, 45, 54, 55]]
        torch.testing.assert_close(pooled[0, 1], around.mean(0) if form == "paper" else around.sum(0))
        pooled.square().sum().backward()
        assert boxes.grad.isfinite().all()
    tiny = torch.tensor([[[.5 + 1 / 14, .5 + 1 / 14, .01, .01]]]) # a corner of four of 7 × 7 cells
    g = torch.exp(-((cell_centres(7, 7) - tiny[0, :, :2]) / .01).square().sum(-1)) # as the code computes it
    assert (g / (g.max() + 1e-12)).sum() < 1e-30 # the erratum
    assert gaussian_window(tiny, (7, 7), "code").sum().item() == pytest.approx(4, rel=1e-3)


def test_pooling_has_a_slope_in_the_box():
    torch.manual_seed(0)
    boxes = torch.tensor([[[.4, .6, .3, .2], [.1, .9, .5, .5]]])
    patches = torch.randn(1, 48, 2)
    for form in FORMS:
        b = boxes.clone().requires_grad_()
        gaussian_pool(patches, b, (6, 8), form)[0, 0, 0].backward()
        assert (b.grad[0, 0] != 0).all() and (b.grad[0, 1] == 0).all() # all four numbers, and no other box
        for k in range(4): # against a difference
            step = torch.zeros_like(boxes)
            step[0, 0, k] = 1e-3
            ends = [gaussian_pool(patches, boxes + s * step, (6, 8), form)[0, 0, 0] for s in (1, -1)]
            slope = ((ends[0] - ends[1]) / 2e-3).item()
            assert slope == pytest.approx(b.grad[0, 0, k].item(), rel=.01, abs=.01) # float32


def test_a_grid_is_read_row_by_row():
    right_top = torch.tensor([[[.99, .01, .1, .1]]]) # x to the right, y down
    for rows, columns in ((2, 5), (5, 2), (1, 7), (20, 20)):
        assert gaussian_window(right_top, (rows, columns))[0, 0].argmax() == columns - 1
    one = torch.randn(1, 1, 4)
    torch.testing.assert_close(gaussian_pool(one, torch.rand(1, 6, 4), (1, 1)), one.expand(1, 6, 4)) # one cell
    patches, boxes = torch.randn(3, 12, 4), torch.rand(3, 5, 4)
    torch.testing.assert_close(gaussian_pool(patches[1:2], boxes[1:2, 3:4], (3, 4)),
                               gaussian_pool(patches, boxes, (3, 4))[1:2, 3:4]) # alone or in a batch
    assert gaussian_pool(patches.half(), boxes, (3, 4)).dtype == torch.float16
    assert gaussian_pool(patches, boxes[:, :0], (3, 4)).shape == (3, 0, 4)


def test_what_does_not_fit_is_refused():
    patches, boxes = torch.randn(2, 12, 4), torch.rand(2, 5, 4)
    wrong = [(patches, boxes, (3, 5), "paper", "no 12 cells"), (patches, boxes, (0, 12), "paper", "no 12 cells"),
             (patches[0], boxes, (3, 4), "paper", "are needed"),
             (patches, boxes[0], (3, 4), "paper", "are needed"),
             (patches, boxes[:1], (3, 4), "paper", "are needed"),
             (patches, boxes[..., :3], (3, 4), "paper", r"\(…, 4\), got \(2, 5, 3\)"),
             (patches, torch.rand(2, 5, 5), (3, 4), "paper", r"got \(2, 5, 5\)"),
             (patches, boxes, (3, 4), "papers", "paper, code, got 'papers'"),
             (patches, boxes, (3, 4), None, "got None"), (patches, boxes, (-3, -4), "code", "at least one cell")]
    for *given, form, words in wrong:
        with pytest.raises(ValueError, match=words): gaussian_pool(*given, form)
    with pytest.raises(ValueError, match="0 × 4"): cell_centres(0, 4)
