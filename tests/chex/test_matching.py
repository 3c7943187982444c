"""Exported from nbs/12c_matching.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss
from rrg_core.chex.pooling import to_corners
from rrg_core.data.study import as_numbers, named
import itertools
import numpy as np, pytest, torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou
from rrg_core.chex.pooling import to_corners, to_shares
from rrg_core.metrics.grounding import giou
from rrg_core.phantom import render
from rrg_core.chex.matching import *


def test_targets_are_padded_and_checked():
    one = [.5, .5, .1, .1]
    t = pad_boxes([[[one], []], [[], [one, one]]])
    assert t.shape == (2, 2, 2, 4) and t.isnan().any(-1).tolist() == [[[0, 1], [1, 1]], [[1, 1], [0, 0]]]
    assert pad_boxes([[[], []]]).shape == (1, 2, 1, 4) and pad_boxes([]).shape == (0, 0, 1, 4)
    assert pad_boxes([[np.array([one])]]).dtype == torch.float32
    assert not pad_boxes([[[[0, 0, 0, 0]]]]).isnan().any() # a point is a box
    for bad, words in [([.5] * 3, "4 numbers"), ([.5] * 5, "4 numbers"), (.5, "4 numbers"),
                       ([[.5] * 4], "4 numbers"), ([.5, .5, np.nan, .1], "finite"),
                       ([np.inf, .5, .1, .1], "finite"), ([.5, .5, -.1, .1], "sides"),
                       ([80, 80, 16, 16], "pixels"), (["a"] * 4, "numbers"), ([None] * 4, "finite"),
                       ("box", "numbers")]:
        with pytest.raises(ValueError, match=f"study 1, prompt 0, box 1.*{words}"):
            pad_boxes([[[]], [[one, bad]]])
    with pytest.raises(ValueError, match=r"every prompt, got \[1, 2\]"): pad_boxes([[[]], [[], []]])


def test_distances_equal_an_independent_program():
    torch.manual_seed(0)
    a, b = torch.rand(40, 4), torch.rand(30, 4)
    want = 5 * torch.cdist(a, b, p=1) + 2 * (1 - giou(to_corners(a), to_corners(b)).float())
    torch.testing.assert_close(box_distance(a[:, None], b), want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(box_distance(a[:, None], b, 0., 1.),
                               1 - generalized_box_iou(to_corners(a), to_corners(b)), atol=1e-5, rtol=1e-4)
    def by_hand(p, q): # NumPy, box by box
        p0, p1, q0, q1 = p[:2] - p[2:] / 2, p[:2] + p[2:] / 2, q[:2] - q[2:] / 2, q[:2] + q[2:] / 2
        lap = np.prod(np.clip(np.minimum(p1, q1) - np.maximum(p0, q0), 0, None))
        union, hull = np.prod(p[2:]) + np.prod(q[2:]) - lap, np.prod(np.maximum(p1, q1) - np.minimum(p0, q0))
        return 5 * np.abs(p - q).sum() + 2 * (1 - lap / union + (hull - union) / hull)

    np.testing.assert_allclose(box_distance(a[:30], b), [by_hand(*p) for p in zip(a.double().numpy(),
                                                                                  b.double().numpy())], rtol=1e-4)


def test_boxes_without_an_area_have_a_distance():
    points = torch.tensor([[.5, .5, 0, 0], [0, 0, 0, 0], [1, 1, 0, .5], [.5, .5, 1, 1], [0, 0, .4, .4]])
    points.requires_grad_()
    every = box_distance(points[:, None], points.detach())
    assert every.isfinite().all() and (every >= 0).all()
    assert every[3, 3].item() == pytest.approx(0, abs=1e-5) and every[0, 0].item() == pytest.approx(2) # gIoU 0
    assert every[0, 1].item() == pytest.approx(5 * 1 + 2 * 2, abs=1e-4) # nothing but the hull: gIoU −1
    every.sum().backward()
    assert points.grad.isfinite().all()


def test_matching_is_the_best_of_all_assignments():
    rng = np.random.default_rng(0)
    for m, t in [(3, 1), (3, 2), (3, 3), (3, 5), (1, 1), (1, 4), (5, 2)]:
        for _ in range(20):
            cost = rng.random((m, t))
            target, first = match(cost)
            assert first.sum() == min(m, t) and len(set(target[first])) == min(m, t)
            ways = [list(zip(rows, columns)) for rows in itertools.permutations(range(m), min(m, t))
                    for columns in itertools.combinations(range(t), min(m, t))]
            least = min(sum(cost[p] for p in way) for way in ways)
            assert cost[first, target[first]].sum() == pytest.approx(least)
            if t == 1: assert (target == 0).all() and first.argmax() == cost.argmin()
            if 0 < m - t <= t: # the second round is the best one of the boxes that are left
                rest = cost[~first]
                least = rest[linear_sum_assignment(rest)].sum()
                assert cost[~first, target[~first]].sum() == pytest.approx(least)


def test_the_released_matching_ties():
    rng = np.random.default_rng(1)
    for m, t in [(3, 1), (3, 2), (3, 3), (3, 5)]:
        for _ in range(50):
            cost = rng.random((m, t))
            ours, theirs = (match(cost, r) for r in ROUNDS)
            assert theirs[1].sum() == min(m, t) and np.bincount(theirs[0], minlength=t).max() <= -(-m // t)
            total = lambda pair: cost[np.arange(m), pair[0]].sum()
            assert total(theirs) <= total(ours) + 1e-9 # it minimises all rounds together …
            firsts = lambda pair: cost[pair[1], pair[0][pair[1]]].sum()
            assert firsts(ours) <= firsts(theirs) + 1e-9 # … ours the first round before all
            if t > 2: assert (ours[0] == theirs[0]).all() and (ours[1] == theirs[1]).all()
    tiled = np.hstack([np.array([[3.], [1.], [2.]]) + k * 3 for k in range(3)])
    assert len({sum(tiled[range(3), p]) for p in itertools.permutations(range(3))}) == 1 # all ways cost the same
    nearest = [match(c, "code")[1][c.argmin()] for c in rng.random((1000, 3, 1))]
    assert .25 < np.mean(nearest) < .45 # chance is 1/3; the solver's order is not quite chance


def test_costs_that_cannot_be_matched_are_refused():
    for cost, words in [(np.zeros((3, 0)), "shape"), (np.zeros((0, 2)), "shape"),
                        (np.full((3, 1), np.nan), "NaN"), (np.array([[1., np.inf]]), "finite")]:
        for rounds in ROUNDS:
            with pytest.raises(ValueError, match=words): match(cost, rounds)
    with pytest.raises(ValueError, match="paper, code, got 'tiled'"): match(np.zeros((3, 1)), "tiled")


def test_means_of_nothing_are_zero():
    x = torch.randn(3, 4, requires_grad=True)
    some = torch.zeros(3, 4, dtype=torch.bool)
    for by_study in (False, True):
        nothing = mean_where(x, some, by_study)
        assert nothing.item() == 0 and not nothing.requires_grad
        assert mean_where(x[:0], some[:0], by_study).item() == 0
    some[0, :2] = some[2, 3] = True
    torch.testing.assert_close(mean_where(x, some), (x[0, 0] + x[0, 1] + x[2, 3]) / 3)
    torch.testing.assert_close(mean_where(x, some, True), ((x[0, 0] + x[0, 1]) / 2 + x[2, 3]) / 2)


def test_box_loss_by_hand():
    torch.manual_seed(0)
    boxes = torch.rand(2, 4, 3, 4, requires_grad=True)
    targets = pad_boxes([[[[.5, .5, .2, .2]], [], torch.rand(2, 4).tolist(), []],
                         [[], torch.rand(5, 4).tolist(), [], torch.rand(3, 4).tolist()]])
    penalty = torch.rand(2, 4, 3)
    result, distances = box_loss(boxes, targets, penalty), []
    for i, j in itertools.product(range(2), range(4)):
        t = targets[i, j][~targets[i, j].isnan().any(-1)]
        assert result.present[i, j] == (len(t) > 0) and result.first[i, j].sum() == min(3, len(t))
        if len(t):
            d = box_distance(boxes[i, j][:, None], t).detach()
            chosen, found = match((d + penalty[i, j][:, None]).numpy())
            distances += d[range(3), chosen].tolist()
            assert result.first[i, j].tolist() == found.tolist()
    assert result.loss.item() == pytest.approx(np.mean(distances), rel=1e-5) # the penalty only chooses
    result.loss.backward()
    assert (boxes.grad.abs().sum((-1, -2)) > 0).equal(result.present) and boxes.grad.isfinite().all()


def test_prompts_without_targets_and_studies_without_findings():
    boxes = torch.rand(3, 2, 3, 4, requires_grad=True)
    for targets in (pad_boxes([[[], []]] * 3), torch.full((3, 2, 4, 4), torch.nan)):
        result = box_loss(boxes, targets)
        assert result.loss.item() == 0 and not result.loss.requires_grad and not result.first.any()
    whole = pad_boxes([[[[.5, .5, 1, 1]], [[0, 0, .2, .2]]]] * 3) # the whole image, and over the border
    edge = pad_boxes([[[[.5, .5, 0, 0]], [[1, 1, 0, 0]]]] * 3) # points
    for targets in (whole, edge):
        result = box_loss(boxes, targets)
        boxes.grad = None
        result.loss.backward()
        assert result.loss > 0 and boxes.grad.isfinite().all() and result.first.sum(-1).eq(1).all()
    perfect = whole[:, :, :1].expand(3, 2, 3, 4)
    assert box_loss(perfect, whole).loss.item() == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="NaN"): box_loss(boxes * torch.nan, whole)
    with pytest.raises(ValueError, match="rounds"): box_loss(boxes, whole, rounds="Paper")


def test_the_penalty_decides_who_is_found():
    boxes = torch.tensor([.5, .5, .2, .2]).expand(1, 1, 3, 4) # three boxes at one place
    targets = pad_boxes([[[[.5, .5, .3, .3]]]])
    for k in range(3):
        penalty = 1 - F.one_hot(torch.tensor([[k]]), 3).float()
        assert box_loss(boxes, targets, penalty).first[0, 0].int().argmax() == k


def test_doubt_is_a_softmax_of_two_products():
    torch.manual_seed(0)
    features, logits, positive, negative = (torch.randn(*s) for s in ((2, 4, 3, 8), (2, 4, 3), (4, 8), (4, 8)))
    both = torch.stack([torch.einsum("bqmd,qd->bqm", features, p) for p in (positive, negative)], -1).softmax(-1)
    want = (1 - both[..., 0]) + 3 * (1 - logits.sigmoid())
    torch.testing.assert_close(doubt(features, logits, positive, negative), want)
    assert not doubt(features.requires_grad_(), logits.requires_grad_(), positive, negative).requires_grad


def test_focal_loss_by_hand():
    rng = np.random.default_rng(0)
    logits, first, known = rng.normal(size=(4, 5, 3)) * 2, rng.random((4, 5, 3)) < .2, rng.random((4, 5)) < .7
    def by_hand(alpha):
        out = []
        for z, t in zip(logits[known].ravel(), first[known].ravel()):
            p = 1 / (1 + np.exp(-z))
            right, weight = (p, alpha) if t else (1 - p, 1 - alpha)
            out.append(-weight * (1 - right)**2 * np.log(right))
        return np.mean(out)

    tensors = [torch.tensor(v) for v in (logits, first, known)]
    positives, n = first[known].sum(), 3 * known.sum()
    for alpha, value in ((.25, .25), (0, 0), (1, 1), ("balanced", (n - positives + 1) / (n + 2))):
        assert score_loss(*tensors, alpha).item() == pytest.approx(by_hand(value), rel=1e-4)
    none = torch.zeros_like(tensors[2])
    z = tensors[0].clone().requires_grad_()
    assert score_loss(z, tensors[1], none).item() == 0 and not score_loss(z, tensors[1], none).requires_grad
    for extreme in (-200., 200.): # a score that is quite sure, right or wrong
        z = torch.full((1, 1, 3), extreme, requires_grad=True)
        find, seen = torch.tensor([[[True, False, False]]]), torch.ones(1, 1, dtype=torch.bool)
        loss = score_loss(z, find, seen, "balanced")
        loss.backward()
        assert loss.isfinite() and z.grad.isfinite().all()
    for alpha in (-.1, 1.5, "auto", None, True, np.nan):
        with pytest.raises(ValueError, match="alpha"): score_loss(*tensors, alpha)


def test_absent_findings_push_scores_down():
    z = torch.zeros(2, 2, 3, requires_grad=True)
    targets = pad_boxes([[[[.5, .5, .2, .2]], []], [[], []]])
    result = box_loss(torch.rand(2, 2, 3, 4), targets)
    known = torch.tensor([[True, True], [True, False]]) # of the last prompt of the second study nothing is known
    score_loss(z, result.first, known).backward()
    pushed = z.grad.sign()
    assert (pushed[0, 0] == 1 - 2 * result.first[0, 0].float()).all() # up where found, down elsewhere
    assert (pushed[0, 1] == 1).all() and (pushed[1, 0] == 1).all() and (pushed[1, 1] == 0).all()
