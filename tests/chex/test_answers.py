"""Exported from nbs/12g_answers.ipynb: edit it there, then run `nbdev-export`."""
import torch
from torch import Tensor
from torchvision.ops import nms
from rrg_core.chex.contrast import cosines
from rrg_core.chex.pooling import to_corners, to_shares
from rrg_core.data.study import named
import numpy as np, pytest, torch
import matplotlib.pyplot as plt
from rrg_core.phantom import render
from rrg_core.results.figures import overlay_boxes
from rrg_core.chex.answers import *


def test_probabilities_are_a_softmax_of_two_cosines():
    torch.manual_seed(0)
    tokens, positive, negative = torch.randn(2, 3, 8), torch.randn(5, 8), torch.randn(5, 8)
    pair = torch.stack([cosines(tokens, positive), cosines(tokens, negative)], -1)
    for t in (.1, .2, 1.):
        torch.testing.assert_close(probabilities(tokens, positive, negative, t), (pair / t).softmax(-1)[..., 0])
    same = probabilities(tokens, positive, positive)
    torch.testing.assert_close(same, torch.full((2, 3, 5), .5))
    extreme = probabilities(positive[:1], positive[:1], -positive[:1], 1.)
    assert extreme.item() == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5) # .88, and the least is .12
    centre = probabilities(tokens, positive)
    want = (cosines(tokens, positive) - cosines(tokens, positive.mean(0)[None])) / .2
    torch.testing.assert_close(centre, want.sigmoid())
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="positive, got"): probabilities(tokens, positive, negative, wrong)


def test_suppression_keeps_the_best():
    torch.manual_seed(0)
    boxes, scores = torch.rand(40, 4) * .5 + .1, torch.rand(40)
    def overlap(a, b): # NumPy
        (a0, a1), (b0, b1) = ((x[:2] - x[2:] / 2, x[:2] + x[2:] / 2) for x in (a, b))
        lap = np.prod(np.clip(np.minimum(a1, b1) - np.maximum(a0, b0), 0, None))
        return lap / (np.prod(a[2:]) + np.prod(b[2:]) - lap)

    for most in (.05, .25, .5):
        left, want = sorted(range(40), key=lambda i: -scores[i]), []
        while left:
            best, *left = left
            want.append(best)
            left = [i for i in left if overlap(boxes[best].double().numpy(), boxes[i].double().numpy()) <= most]
        assert suppressed(boxes, scores, most).tolist() == want
    assert len(suppressed(boxes, scores, 1.)) == 40 and suppressed(boxes[:0], scores[:0]).shape == (0, )
    points = torch.tensor([[.5, .5, 0, 0]] * 2) # boxes without area overlap nothing
    assert len(suppressed(points, torch.tensor([.1, .2]))) == 2
    for wrong in (-.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"): suppressed(boxes, scores, wrong)


def test_boxes_are_covered_clipped_and_scaled():
    two = torch.tensor([[[.2, .2, .2, .2], [.6, .7, .2, .4]], [[.5, .5, .1, .1], [torch.nan] * 4]])
    torch.testing.assert_close(covering(two), torch.tensor([[.4, .5, .6, .8], [.5, .5, .1, .1]]))
    one = covering(two, torch.tensor([[False, True], [False, False]]))
    torch.testing.assert_close(one[0], two[0, 1])
    assert one[1].isnan().all() # nothing counts
    edge = torch.tensor([[.1, .5, .4, .2], [.5, .5, 1, 1], [1.2, .5, .1, .1]]) # over the border, all, outside
    inside = scaled_boxes(edge)
    torch.testing.assert_close(inside, torch.tensor([[.15, .5, .3, .2], [.5, .5, 1, 1], [1, .5, 0, .1]]))
    wide = scaled_boxes(edge[:1], (2., .5)) # from −.15 to .45, clipped
    torch.testing.assert_close(wide, torch.tensor([[.225, .5, .45, .1]]))
    grown = scaled_boxes(torch.tensor([.5, .5, .2, .2]), (1.5, 1.))
    torch.testing.assert_close(grown, torch.tensor([.5, .5, .3, .2]))
    for wrong in ((0., 1.), (1., -1.), (float("nan"), 1.)):
        with pytest.raises(ValueError, match="factors are positive"): scaled_boxes(edge, wrong)


def test_repeats_go_and_the_surer_one_stays():
    torch.manual_seed(0)
    base = torch.linalg.qr(torch.randn(16, 16))[0] # 16 directions at right angles
    assert without_repeats(base, torch.rand(16)) == list(range(16)) # nothing is alike
    same = base[:1].expand(5, 16)
    weights = torch.tensor([.1, .9, .3, .2, .4])
    assert without_repeats(same, weights) == [1]
    near = lambda c: c * base[0] + (1 - c**2)**.5 * base[1] # cosine c with the first
    pair = torch.stack([base[0], near(.85)]) # (1 + .85)/2 = .925
    many = torch.cat([pair, base[2:14]])
    assert without_repeats(pair, torch.tensor([.1, .2])) == [0, 1] # few sentences: only what is nearly the same
    assert without_repeats(many, torch.linspace(0, 1, 14)) == list(range(1, 14)) # more than ten: this goes, too
    assert without_repeats(torch.stack([base[0], near(.95)]), torch.tensor([.3, .2])) == [0] # .975
    assert without_repeats(base[:0], weights[:0]) == [] and without_repeats(base[:1], weights[:1]) == [0]
    kept = without_repeats(torch.cat([same, base[1:12]]), torch.cat([weights, torch.zeros(11)]))
    assert kept == [1, *range(5, 16)] # in their order


def test_weights_and_regions():
    s = torch.tensor([.9, .3, .1])
    assert prompt_weight(s.logit()).item() == pytest.approx((.81 + .09 + .01) / 1.3, rel=1e-5)
    assert prompt_weight(torch.full((2, 3), -200.)).tolist() == [0, 0]
    positive, negative = torch.eye(4)[:2], torch.eye(4)[2:]
    tokens = torch.tensor([[1., 1, 0, 0], [0, 0, 1, 1], [1, 0, .5, 0], [0, 0, 0, 0]])
    assert stands_out(tokens, positive, negative).tolist() == [True, False, True, False]
