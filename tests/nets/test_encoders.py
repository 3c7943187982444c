"""Exported from nbs/06b_encoders.ipynb: edit it there, then run `nbdev-export`."""
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, ViTConfig, ViTModel
from transformers.utils import ModelOutput
from rrg_core.data.study import named, named_file
from rrg_core.nets.attention import CourseConfig
from rrg_core.engine.settings import CourseError
import tempfile
import pytest, torch
from torch import nn
from torchxrayvision import models as xrv
from rrg_core.data.weights import read_weights
from rrg_core.nets.encoders import *


def test_scales_and_wrong_ranges():
    ends = torch.tensor([0., 255.]).view(1, 1, 1, 2)
    assert scaled(ends, "xrv").flatten().tolist() == [-1024, 1024] and scaled(ends).flatten().tolist() == [-2, 2]
    assert scaled(ends, "imagenet").shape == (1, 3, 1, 2)
    assert scaled(torch.zeros(2, 1, 4, 4), "clip").shape == (2, 3, 4, 4) # a black image is legal
    for bad, words in [(ends * 1.01, "257.5"), (ends - 1, "-1 to 254"), (ends / 255, "multiply by 255"),
                       (ends[0], r"\(1, 1, 2\)"), (ends * float("nan"), "nan")]:
        with pytest.raises(ValueError, match=words):
            scaled(bad)
    with pytest.raises(ValueError, match="got 'imagnet'"):
        scaled(ends, "imagnet")


def test_xrv_range_is_checked():
    x = torch.linspace(-1024, 1024, 16).view(1, 1, 4, 4)
    assert check_xrv(x) is x
    for bad, words in [(x * 2, "2048"), (x.abs() / 1024, "grey levels"), (x.abs() / 5, "grey levels"),
                       (x / 512, "another network"), (x * float("nan"), "nan"), (x[0], "1, 4, 4")]:
        with pytest.raises(ValueError, match=words):
            check_xrv(bad)


def test_small_resnet():
    torch.manual_seed(0)
    model = SmallResNet(SmallResNetConfig()).eval()
    assert sum(p.numel() for p in model.parameters()) == 318_096 + 1_032_192 + 2_400 + 2_702
    films = torch.randint(256, (3, 1, 64, 96), dtype=torch.uint8)
    out = model(films)
    assert out.patches.shape == (3, 6, 192) and out.pooled.shape == (3, 192) and out.logits.shape == (3, 14)
    assert model.grid(64, 96) == (2, 3) and model.grid(160) == (5, 5)
    torch.testing.assert_close(out.pooled, out.patches.mean(1))
    assert out.places.shape == (3, 14, 2, 3)
    torch.testing.assert_close(out.places.mean((2, 3)), out.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.places[:, :, 1, 2], model.head(out.patches[:, 5])) # row by row
    torch.testing.assert_close(model(films[:1].float()).patches, out.patches[:1], atol=1e-5,
                               rtol=1e-4) # alone, as float: the same
    assert SmallResNet(SmallResNetConfig(labels=0))(films).logits is None
    for bad, words in [(lambda: model(films[:, :, :50]), "50 × 96"),
                       (lambda: SmallResNetConfig(widths=(12, )), r"\(12,\)"),
                       (lambda: SmallResNetConfig(blocks=9), "got 9"), (lambda: model(films[0]), "b, 1, h, w")]:
        with pytest.raises(ValueError, match=words):
            bad()


def test_patches_are_where_the_change_is():
    torch.manual_seed(0)
    model, dark = SmallResNet(SmallResNetConfig(widths=(8, 8, 16),
                                                blocks=0)).eval(), torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    bright = dark.clone()
    bright[..., 52, 28] = 255 # row 6 and column 3 of 8 × 8 patches
    for m in model.modules():
        if isinstance(m, nn.GroupNorm): m.forward = lambda x: x # normalisation spreads a change over the image
    moved = (model(bright).patches - model(dark).patches).abs().sum(-1)[0].view(8, 8)
    assert moved[6, 3] > 0 and moved[:5].sum() == 0 and moved[:, 5:].sum() == 0


def test_small_pyramid():
    torch.manual_seed(0)
    model, films = SmallPyramid(SmallPyramidConfig(widths=(8, 8, 16, 16, 24),
                                                   neck=8)).eval(), torch.randint(256, (2, 1, 64, 96),
                                                                                  dtype=torch.uint8)
    out = model(films)
    assert out.patches.shape == (2, 6, 30) and out.pooled.shape == (2, 30) and out.logits.shape == (
        2, 14) and out.places.shape == (2, 14, 8, 12)
    torch.testing.assert_close(out.pooled, out.patches.mean(1))
    fine = model.fine(scaled(films)) # (2, 8, 8, 12)
    torch.testing.assert_close(out.patches[:, 4, :8], fine[:, :, 4:8, 4:8].mean((2, 3)), atol=1e-5,
                               rtol=1e-4) # row 1, column 1
    torch.testing.assert_close(out.patches[:, 4, 8:16], fine[:, :, 4:8, 4:8].amax((2, 3)))
    torch.testing.assert_close(out.patches[:, 4, 16:], out.places[:, :, 4:8, 4:8].amax((2, 3)))
    with torch.no_grad(): # without the linear layer, the best places alone speak for a film
        model.head.weight.zero_()
        model.head.bias.zero_()
        assert torch.allclose(model(films).logits, out.places.flatten(2).topk(4).values.mean(-1), atol=1e-5)
    assert SmallPyramid(SmallPyramidConfig(widths=(8, 8, 16), blocks=0, neck=8, labels=0))(films).places is None
    for bad, words in [(dict(widths=(8, 8), blocks=0), "three halvings"), (dict(neck=12), "got 12")]:
        with pytest.raises(ValueError, match=words):
            SmallPyramidConfig(**bad)


def test_resnets():
    out = ResNet(ResNetConfig(depth=18, labels=3)).eval()(torch.zeros(2, 1, 64, 64))
    assert out.patches.shape == (2, 4, 512) and out.logits.shape == (2, 3)
    with torch.device("meta"):
        count = sum(p.numel() for p in ResNet(ResNetConfig()).parameters())

    def bottleneck(a, m):
        return a*m + 9*m*m + m*4*m + 2 * (m + m + 4*m) # three convolutions with two numbers a channel

    total, a = 64*3*49 + 2*64, 64 # first convolution
    for blocks, m in [(3, 64), (4, 128), (23, 256), (3, 512)]:
        total += bottleneck(
            a,
            m) + a*4*m + 2*4*m + (blocks-1) * bottleneck(4 * m, m) # the first block's shortcut is a convolution
        a = 4 * m
    assert count == total == 42_500_160
    with pytest.raises(ValueError, match="got 20"):
        ResNetConfig(depth=20)


def test_xrv_against_the_package():
    assert list(XRV_TARGETS) == xrv.DenseNet.targets
    torch.manual_seed(0)
    model = XrvDenseNet(XrvConfig(blocks=(2, 3), growth=4, first=8, targets=("A", "B", "C"))).eval()
    films = torch.randint(256, (2, 1, 32, 48), dtype=torch.uint8)
    x = (2 * films.float() / 255 - 1) * 1024 # the package's own formula
    out = model(films)
    assert out.patches.shape == (
        2, 4 * 6, model.config.width) and model.config.width == (8 + 2*4) // 2 + 3*4 and out.patches.min() >= 0
    torch.testing.assert_close(out.logits, model.net(x)) # untrained: the package adds no sigmoid
    torch.testing.assert_close(model.forward_scaled(x).patches, out.patches)
    model.net.apply_sigmoid = True # published weights end in a sigmoid, ours never
    torch.testing.assert_close(model(films).logits, out.logits)
    kept = []
    model.net.features.norm5.register_forward_hook(lambda m, i, o: kept.append(o))
    model(films)
    assert kept[0].min() < 0 # what a hook saw stays what it was
    with pytest.raises(ValueError, match="grey levels"):
        model.forward_scaled(films.float())
    with pytest.raises(ValueError, match="already scaled"):
        model(x)


def test_densenet_121_by_hand():
    with torch.device("meta"):
        count = sum(p.numel() for p in XrvDenseNet(XrvConfig()).parameters())
    total, a = 49*64 + 2*64, 64
    for i, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            total += 2*a + a*128 + 2*128 + 9*128*32 # normalise, 1 × 1, normalise, 3 × 3
            a += 32
        if i < 3:
            total += 2*a + a * (a//2)
            a //= 2 # normalise, 1 × 1 to half
    assert count == total + 2*a + a*18 + 18 and a == XrvConfig().width == 1024


def test_vits():
    torch.manual_seed(0)
    model = Vit(VitConfig(width=16, heads=2, layers=1, image_size=32, labels=5)).eval()
    films = torch.randint(256, (2, 1, 32, 32), dtype=torch.uint8)
    out = model(films)
    assert out.patches.shape == (2, 4, 16) and out.pooled.shape == (2, 16) and out.logits.shape == (2, 5)
    assert model(torch.zeros(1, 1, 48, 32)).patches.shape == (1, 6, 16) # another size
    with torch.device("meta"):
        count = sum(
            p.numel() for p in Vit(VitConfig(**VIT["base"], image_size=224, scale="imagenet")).parameters())
    d = 768
    block = 4 * (d*d + d) + (d*4*d + 4*d) + (4*d*d + d) + 2*2*d # attention, feed-forward net, two normalisations
    assert count == 12*block + (
        3*16*16*d + d) + d + (14*14 + 1) * d + 2*d # patches, class token, positions, last normalisation
    with pytest.raises(ValueError, match="width 10 .* 3 heads"):
        VitConfig(width=10)


def test_encoders_survive_saving():
    torch.manual_seed(0)
    films = torch.randint(256, (2, 1, 64, 64), dtype=torch.uint8)
    small = [
        SmallResNet(SmallResNetConfig(widths=(8, 8), blocks=1)),
        ResNet(ResNetConfig(depth=18)),
        XrvDenseNet(XrvConfig(blocks=(1, 1), first=8, growth=4, targets=("A", ))),
        Vit(VitConfig(width=8, heads=1, layers=1, image_size=64))
    ]
    for model in small:
        model.train()(films)
        model.eval() # running means move away from their start
        with tempfile.TemporaryDirectory() as d, torch.no_grad():
            model.save_pretrained(d)
            assert {p.name for p in Path(d).iterdir()} == {"config.json", "model.safetensors"}
            back = type(model).from_pretrained(d, trust_remote_code=False, local_files_only=True).eval()
            assert all(torch.equal(value, back.state_dict()[name]) for name, value in model.state_dict().items())
            torch.testing.assert_close(
                dict(back(films)), dict(model(films))
            ) # not bit for bit: in a mapped file weights lie unaligned, and products may add up in another order
            model.half().save_pretrained(d) # stand-ins are stored in half precision, used in single
            half = type(model).from_pretrained(
                    d, dtype=torch.float32, trust_remote_code=False, local_files_only=True).eval()
            torch.testing.assert_close(half(films).patches, back(films).patches, atol=.05, rtol=.05)
            assert {p.dtype for p in half.parameters()} == {torch.float32}
            fresh = build_encoder(model.config)
            assert type(fresh) is type(model) and fresh.config.to_dict() == model.config.to_dict(
            ) and back.config.width == fresh.config.width
    with pytest.raises(ValueError, match="got 'bert'"):
        build_encoder({"model_type": "bert"})


def test_published_files_fill_a_network():
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        published = xrv.DenseNet(block_config=(1, 2), num_init_features=8, growth_rate=4).eval()
        published.op_threshs = torch.rand(18)
        torch.save(published, d / "xrv.pt") # a pickled module, as the package publishes them
        model = XrvDenseNet(XrvConfig(blocks=(1, 2), growth=4, first=8))
        fill(model.net, read_weights(d / "xrv.pt"), ignore=("op_threshs", ))
        model.eval()
        x = torch.randn(2, 1, 32, 32).clamp(-1, 1) * 1000
        torch.testing.assert_close(model.forward_scaled(x).logits, published.classifier(published.features2(x)))
        whole = __import__("torchvision").models.resnet18()
        torch.save(whole.state_dict(), d / "resnet.pth")
        fill(ResNet(ResNetConfig(depth=18)).net, read_weights(d / "resnet.pth"), ignore=("fc.", ))
    with pytest.raises(ValueError, match="weight is missing; 'v' has no place"):
        fill(nn.Linear(2, 3, bias=False), {"v": torch.ones(1)})
    with pytest.raises(ValueError, match=r"weight is \(2, 2\), not \(3, 2\)"):
        fill(nn.Linear(2, 3, bias=False), {"weight": torch.ones(2, 2)})


def test_encoders_train():
    torch.manual_seed(0)
    model = SmallResNet(SmallResNetConfig(widths=(8, 16, 16), blocks=1, labels=1))
    films = torch.zeros(8, 1, 32, 32)
    films[::2, :, 8:24, 8:24] = 200 # a bright square, or none
    target, optimiser = torch.tensor([[1.], [0.]] * 4), torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(15):
        loss = F.binary_cross_entropy_with_logits(model(films).logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < .05 and all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.stages[0].parameters())
