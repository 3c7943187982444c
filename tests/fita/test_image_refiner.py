"""Exported from nbs/11c_image_refiner.ipynb: edit it there, then run `nbdev-export`."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from rrg_core.nets.encoders import XrvDenseNet
from rrg_core.data.study import OBSERVATIONS
import pytest, numpy as np, torch, torchxrayvision as xrv
from torch.nn import functional as F
from rrg_core.nets.encoders import XrvConfig, XrvDenseNet
from rrg_core.fita.image_refiner import *


def test_every_observation_has_its_outputs():
    rows = dict(zip(OBSERVATIONS, outputs_for(tuple(xrv.models.DenseNet.targets))))
    assert [o for o, r in rows.items() if not r] == ["Support Devices", "No Finding"] and len(
        rows["Lung Lesion"]) == 3
    assert [r for r in outputs_for(tuple(OBSERVATIONS))] == [[i] for i in range(14)]
    assert outputs_for(("", "Effusion", ""))[OBSERVATIONS.index("Pleural Effusion")] == [1]


def test_closed_form_is_grad_cam():
    torch.manual_seed(0)
    net = XrvDenseNet(XrvConfig(blocks=(1, 1, 1, 1), growth=8, first=8, targets=tuple(OBSERVATIONS))).eval()
    x = torch.randint(0, 256, (2, 1, 96, 96))
    s, p = saliency(net, x)
    assert s.shape == (2, 14, 9) and p.shape == (2, 14)
    from rrg_core.nets.encoders import scaled

    A = net.features(scaled(x, "xrv")).detach().requires_grad_()
    logits = net.head(A.mean((2, 3)))
    for k in (0, 7, 13):
        g, = torch.autograd.grad(logits[:, k].sum(), A, retain_graph=True)
        torch.testing.assert_close(F.relu((g.mean((2, 3), keepdim=True) * A).sum(1)).flatten(1),
                                   s[:, k],
                                   atol=1e-7,
                                   rtol=1e-4)
    torch.testing.assert_close(p, logits.sigmoid())
    real = XrvDenseNet(XrvConfig(blocks=(1, 1, 1, 1), growth=8, first=8)).eval()
    s, p = saliency(real, x) # eighteen outputs
    assert (s[:, OBSERVATIONS.index("No Finding")] == 0).all() and (p[:, OBSERVATIONS.index("Support Devices")]
                                                                    == .5).all()


def test_saliency_follows_its_image():
    class Mean(torch.nn.Module): # a classifier that moves with its image exactly: each cell is its pixels' mean
        config = type("C", (), dict(targets=tuple(OBSERVATIONS)))

        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(1, 14)
            torch.nn.init.ones_(self.head.weight)

        def forward(self, x):
            from rrg_core.nets.encoders import ImageFeatures
            patches = F.avg_pool2d(x.float(), 16).flatten(2).transpose(1, 2)
            return ImageFeatures(patches, patches.mean(1), self.head(patches.mean(1)))

    torch.manual_seed(0)
    net, x = Mean(), torch.randint(0, 256, (2, 1, 80, 80))
    s, _ = saliency(net, x)
    for turns in range(4):
        for mirrored in (False, True):
            y = torch.rot90(x, turns, (2, 3))
            y = y.flip(3) if mirrored else y
            torch.testing.assert_close(saliency(net, y)[0], follow(s, turns, mirrored))
            torch.testing.assert_close(
                saliency(net, y[..., 16:64, 32:80])[0] * 9,
                follow(s, turns, mirrored, (1, 2, 3, 3)) * 25) # each map is divided by its number of cells
    with pytest.raises(ValueError, match="does not fit 5 × 5"):
        follow(s, crop=(3, 0, 3, 3))
    with pytest.raises(ValueError, match="7 cells"):
        follow(s[..., :7])


def test_refiner_at_its_limits():
    torch.manual_seed(0)
    ifr = ImageRefiner(8)
    v, c = torch.randn(2, 6, 8), torch.randn(2, 14, 8)
    torch.testing.assert_close(ifr.evidence(torch.full((2, 14, 6), .3), v),
                               ifr.value(v.mean(1, keepdim=True)).expand(2, 14, 8)) # uniform: the mean patch
    hot = torch.zeros(2, 14, 6)
    hot[:, torch.arange(14), torch.arange(14) % 6] = 7.
    torch.testing.assert_close(ifr.evidence(hot, v), ifr.value(v)[:, torch.arange(14) % 6]) # one-hot: its patch
    empty = ifr(c, v, torch.zeros(2, 14, 6))
    assert empty.isfinite().all()
    torch.testing.assert_close(empty, ifr(c, v, torch.ones(2, 14, 6)))
    torch.testing.assert_close(ifr(c[:1], v[:1], hot[:1]), ifr(c, v, hot)[:1]) # one study, alone
    s = torch.rand(2, 14, 6)
    a = s / s.sum(-1, keepdim=True)
    e = (a@v) @ ifr.value.weight.T # a few-line reference
    g = 1 / (1 + (-(torch.cat([c, e], -1) @ ifr.gate.weight.T + ifr.gate.bias)).exp())
    x = c + g * (e @ ifr.out.weight.T)
    torch.testing.assert_close(ifr(
        c, v, s), (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt(),
                               atol=1e-5,
                               rtol=1e-4)
    ifr.double()
    args = [t.double().requires_grad_() for t in (c[:1], v[:1], s[:1])]
    assert torch.autograd.gradcheck(lambda *t: ifr.classify(ifr(*t)), args)
