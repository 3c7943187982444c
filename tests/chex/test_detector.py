"""Exported from nbs/12b_detector.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth
from transformers.utils import ModelOutput
from rrg_core.chex.pooling import FORMS, cell_centres, gaussian_pool
from rrg_core.data.study import named
from rrg_core.nets.attention import Attention, Dropout
import pytest, torch
import matplotlib.pyplot as plt
from torch import nn
from rrg_core.chex.pooling import cell_centres, gaussian_pool, to_corners, to_shares
from rrg_core.phantom import render
from rrg_core.results.figures import overlay_boxes
from rrg_core.chex.detector import *


def test_every_cell_of_every_grid_has_its_own_place():
    for rows, columns, width in ((1, 1, 4), (5, 5, 16), (7, 7, 512), (20, 20, 64), (3, 9, 128)):
        where = grid_positions(rows, columns, width)
        assert where.shape == (rows * columns, width)
        torch.testing.assert_close(where.square().sum(-1), torch.full((rows * columns, ), width / 2.))
        if len(where) > 1 and width >= 16: # no two cells are alike
            alike = torch.nn.functional.cosine_similarity(where[:, None], where, dim=-1)
            assert alike.fill_diagonal_(-1).max() < .999
    waves = torch.pi * 2**torch.linspace(0, 4, 4)
    first = [f(x * waves) for x in (.1, .25) for f in (torch.sin, torch.cos)] # column 0 of 5, row 0 of 2
    torch.testing.assert_close(grid_positions(2, 5, 16)[0], torch.cat(first))
    with pytest.raises(ValueError, match="got 6"): grid_positions(2, 2, 6)


def test_prompts_in_the_batch_are_prompts_behind_a_mask():
    torch.manual_seed(0)
    layer = PromptLayer(16, 2, 32).double().eval()
    x, image = torch.randn(2, 4, 3, 16).double(), torch.randn(2, 9, 16).double()
    there = torch.ones(2, 4, 3, dtype=torch.bool)
    there[0, 1, 1:] = there[1, 3, 0] = False # hidden tokens; every prompt keeps one
    def masked(x, there, among): # the three steps again, in a few lines
        y = layer.norms[0](x).flatten(1, 2)
        x = x + layer.scales[0] * layer.itself(y, mask=looks(there, among)).view_as(x)
        y = layer.image(layer.norms[1](x).flatten(1, 2), layer.norms[3](image)).view_as(x)
        x = x + layer.scales[1] * y
        return x + layer.scales[2] * layer.feed_forward(layer.norms[2](x))

    for among in AMONG:
        torch.testing.assert_close(layer(x, image, there, among), masked(x, there, among))
    torch.testing.assert_close(layer(x, image), masked(x, torch.ones_like(there), "prompt"))
    for q in range(4): # a prompt alone
        torch.testing.assert_close(layer(x[:, q:q + 1], image), layer(x, image)[:, q:q + 1])
    assert all(p.grad is not None for p in [layer(x, image).sum().backward() or p for p in layer.parameters()])


def test_the_released_mask_mixes_prompts():
    there = torch.ones(1, 3, 2, dtype=torch.bool)
    there[0, 2] = False # the third prompt is padding
    own = torch.block_diag(*[torch.ones(2, 2)] * 3).bool()
    assert torch.equal(looks(there, "prompt")[0, 0, :4], own[:4] & there.flatten())
    assert torch.equal(looks(there, "all")[0, 0], there.flatten().expand(6, 6))
    assert torch.equal(looks(there, "code")[0, 0], ~(own & ~there.flatten())) # inverted once too often
    assert looks(there, "code")[0, 0, :4].all() # real prompts see all the others, padding too
    torch.manual_seed(0)
    layer, x, image = PromptLayer(16, 2, 32).eval(), torch.randn(1, 3, 2, 16), torch.randn(1, 9, 16)
    other = x.clone()
    other[:, 1:] = torch.randn(1, 2, 2, 16) # another second prompt, other padding
    moved = lambda among: (layer(x, image, there, among) - layer(other, image, there, among))[:, 0].abs().max()
    assert moved("prompt") == 0 and moved("all") > 1e-3 and moved("code") > 1e-3
    for wrong in ("prompts", "", None, "causal", 3):
        with pytest.raises(ValueError, match="prompt, all, code"): looks(there, wrong)


def test_drop_path_is_all_or_nothing_for_a_study():
    torch.manual_seed(0)
    layer = PromptLayer(8, 2, 8, drop_path=.5).train()
    x, image = torch.randn(200, 2, 3, 8), torch.randn(200, 4, 8)
    layer.scales[1].data.zero_()
    layer.scales[2].data.zero_() # the first step alone
    with torch.no_grad():
        added, whole = layer(x, image) - x, layer.eval()(x, image) - x
    left_out = (added == 0).flatten(1).all(1)
    assert .35 < left_out.float().mean() < .65 # 200 coins: four standard errors
    torch.testing.assert_close(added[~left_out], 2 * whole[~left_out], atol=1e-6, rtol=1e-4)


def test_aggregation_is_a_weighted_mean():
    torch.manual_seed(0)
    features, logits = torch.randn(2, 5, 3, 4), 3 * torch.randn(2, 5, 3)
    s = logits.sigmoid()
    torch.testing.assert_close(aggregate(features, logits),
                               (s[..., None] * features).sum(-2) / s.sum(-1)[..., None])
    for low in (-40., -500.): # no score: the plain mean, and a gradient that is a number
        z = torch.full((1, 3), low, requires_grad=True)
        out = aggregate(features[:1, 0], z)
        torch.testing.assert_close(out, features[:1, 0].mean(-2))
        out.sum().backward()
        assert z.grad.isfinite().all()
        assert aggregate(features[:1, 0], z, "clamped").abs().max() < 1e-6
    big = torch.full((2, 5, 3), 9.)
    torch.testing.assert_close(aggregate(features, big, "clamped"), aggregate(features, big))
    for wrong in ("sum", "Mean", None):
        with pytest.raises(ValueError, match="mean, clamped"): aggregate(features, logits, wrong)


def test_prompts_are_answered_one_by_one():
    torch.manual_seed(0)
    detector = PromptDetector(16, 2, 2).eval()
    prompts, patches, where = torch.randn(2, 5, 16), torch.randn(2, 12, 16), grid_positions(3, 4, 16)
    found = detector(prompts, patches, (3, 4), where)
    for q in range(5): # alone, and with others in another order
        alone = detector(prompts[:, q:q + 1], patches, (3, 4), where)
        for k in found:
            torch.testing.assert_close(alone[k], found[k][:, q:q + 1], atol=1e-6, rtol=1e-4)
    assert ((found.boxes > 0) & (found.boxes < 1)).all()
    torch.testing.assert_close(detector(prompts[1:], patches[1:], (3, 4), where).roi, found.roi[1:])
    assert torch.equal(detector(prompts, patches, (3, 4), where).roi, found.roi) # at rest nothing is drawn
    there = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    for among, alike in (("prompt", True), ("all", False), ("code", False)):
        detector.among = among
        roi = lambda p: detector(p, patches, (3, 4), where, there).roi[0]
        others, padding = prompts.clone(), prompts.clone()
        others[:, 1:3], padding[0, 3:] = 9., 9.
        assert torch.allclose(roi(others)[0], roi(prompts)[0], atol=1e-6) == alike
        quiet = torch.allclose(roi(padding)[:3], roi(prompts)[:3], atol=1e-6)
        assert quiet == (among != "code") # only the released mask lets padding in


def test_what_the_detector_is_made_of():
    torch.manual_seed(0)
    d, h = 16, 64
    detector = PromptDetector(d, 2, 3)
    linear = lambda a, b: a * b + b
    layer = 8 * linear(d, d) + linear(d, h) + linear(h, d) + 4 * 2 * d + 3 * d
    heads = 2 * d + linear(d, d) + linear(d, 4) # boxes
    heads += 2 * d + linear(d, d) # patches
    heads += 2 * d + linear(d, h) + linear(h, d) # output
    heads += linear(d, d) + linear(d, 1) # scores
    assert sum(p.numel() for p in detector.parameters()) == 3 * layer + heads + 3 * d
    many = PromptDetector(512, 8, 1).tokens
    assert many.norm(dim=-1).sub(1).abs().max() < .15 # N(0, 1) / √d has a length of about 1
    detector.train()
    found = detector(torch.randn(2, 4, d), torch.randn(2, 9, d), (3, 3), grid_positions(3, 3, d))
    (found.boxes.sum() + found.roi.square().sum() + found.logits.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in detector.parameters())


def test_the_skip_is_drawn_in_training_and_averaged_at_rest():
    torch.manual_seed(0)
    detector = PromptDetector(8, 2, 1, skip=.25)
    pooled, decoded = torch.zeros(50, 40, 3, 8), torch.ones(50, 40, 3, 8)
    drawn = detector.train().mixed(pooled, decoded)
    assert set(drawn.unique().tolist()) == {0, .5} and (drawn == drawn[..., :1]).all() # a token as a whole
    assert abs(drawn.mean() / .5 - .25) < 4 * (.25 * .75 / 6000)**.5 # four standard errors
    assert (detector.eval().mixed(pooled, decoded) == .5).all()
    for skip, value in ((0., 0.), (1., .5)):
        detector.skip = skip
        assert (detector.train().mixed(pooled, decoded) == value).all()


def test_a_box_query_reads_its_box_alone():
    torch.manual_seed(0)
    detector = PromptDetector(16, 2, 1).eval()
    patches, boxes = torch.randn(2, 36, 16), torch.rand(2, 4, 4)
    roi = look(detector, patches, boxes, (6, 6))
    expected = detector.output(gaussian_pool(detector.patch_projection(patches), boxes, (6, 6)))
    torch.testing.assert_close(roi, expected)
    torch.testing.assert_close(look(detector, patches, boxes[:, 2:3], (6, 6)), roi[:, 2:3])
    small = torch.tensor([[[1 / 12, 1 / 12, .05, .05]]]) # the first cell
    far = patches[:1].clone()
    far[:, 18:] = torch.randn(1, 18, 16) # the lower half of the image
    pair = lambda box: [look(detector, p, box, (6, 6)) for p in (far, patches[:1])]
    torch.testing.assert_close(*pair(small))
    assert torch.sub(*pair(1 - small)).abs().max() > .01
    found = detector(torch.randn(2, 4, 16), patches, (6, 6))
    both = look(detector, patches, boxes, (6, 6), found.decoded)
    half = (found.decoded.mean(2) + detector.pool(patches, boxes, (6, 6))) / 2
    torch.testing.assert_close(both, detector.output(half))
    assert (both - roi).abs().max() > 1e-3 # the words count, and so does the box
    assert (both - look(detector, patches, boxes.roll(1, 1), (6, 6), found.decoded)).abs().max() > 1e-3
    detector.train() # nothing random but dropout, which is off here
    torch.testing.assert_close(look(detector, patches, boxes, (6, 6)), roi)


def test_a_detector_that_cannot_be_meant_is_refused():
    for settings, words in [(dict(pooling="mean"), "pooling must be one of paper, code"),
                            (dict(aggregation="sum"), "aggregation must be one of mean, clamped"),
                            (dict(among="slots"), "among must be one of"),
                            (dict(skip=1.2), "probability, got 1.2"), (dict(skip=-.1), "probability"),
                            (dict(tokens=0), "at least one token"), (dict(heads=3), "3 heads"),
                            (dict(dropout=1.), r"\[0, 1\)"), (dict(drop_path=1.5), "drop_path")]:
        with pytest.raises(ValueError, match=words):
            PromptDetector(**dict(width=16, heads=2, layers=1) | settings)
    detector, p = PromptDetector(16, 2, 1), torch.randn
    for prompts, patches, grid, words in [(p(2, 4, 8), p(2, 9, 16), (3, 3), r"\(b, q, 16\)"),
                                          (p(2, 4, 16), p(2, 9, 8), (3, 3), r"got \(2, 4, 16\) and \(2, 9, 8\)"),
                                          (p(1, 4, 16), p(2, 9, 16), (3, 3), "are needed"),
                                          (p(4, 16), p(2, 9, 16), (3, 3), "are needed"),
                                          (p(2, 4, 16), p(9, 16), (3, 3), "are needed"),
                                          (p(2, 4, 16), p(2, 9, 16), (3, 4), "3 × 4 has no 9 cells")]:
        with pytest.raises(ValueError, match=words): detector(prompts, patches, grid)
