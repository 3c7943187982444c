"""Exported from nbs/14a_regions.ipynb: edit it there, then run `nbdev-export`."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ViTConfig, ViTModel
from rrg_core.data.study import REGIONS, named
from rrg_core.engine.code import Registry
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.pretraining import encode
from rrg_core.learning.published import found_for
from rrg_core.nets.attention import Attention, CourseConfig, feed_forward
from rrg_core.nets.decoder import sinusoids
from rrg_core.nets.encoders import ImageEncoder, ImageFeatures, SmallPyramid, SmallPyramidConfig, fill, scaled
import numpy as np, pandas as pd, pytest
import matplotlib.pyplot as plt
from rrg_core.engine.settings import profile
from rrg_core.phantom import render
from rrg_core.results.figures import overlay_boxes, overlay_map
from rrg_core.lm_rrg.regions import *


def test_every_region_has_a_text_of_its_own():
    assert list(DESCRIPTIONS) == list(NAMES) == list(REGIONS) and len(REGIONS) == 29
    assert len(set(DESCRIPTIONS.values())) == 29
    for name, text in DESCRIPTIONS.items():
        assert 25 <= len(text.split()) <= 60 and text.endswith("."), name
    sides = {r: d for r, d in DESCRIPTIONS.items() if "zone" in r or "clavicle" in r}
    assert all(r.split()[0] in d for r, d in sides.items() if "clavicle" not in r) # a text names its side


def test_the_eye_is_the_tower():
    from rrg_core.learning.standins import load_standin

    towers, p = "standin-phantom-towers", profile("phantom")
    net, _ = load_standin(towers, p)
    pixels = torch.randint(0, 256, (2, 1, 96, 64)).float()
    with torch.no_grad():
        torch.testing.assert_close(load_eye(towers, p, cells=1)(pixels).patches, net.patches(pixels))
        fine = load_eye(towers, p, cells=2)(pixels)
    assert fine.patches.shape == (2, 6 * 4, 128) and load_eye(towers, p, cells=4).grid(160) == (20, 20)
    torch.testing.assert_close(fine.pooled, fine.patches.mean(1))
    with pytest.raises(ValueError, match="no multiple"): load_eye(towers, p)(pixels[..., :48])
    with pytest.raises(ValueError, match="1, 2 or 4"): TowerEyeConfig(cells=3)
    with pytest.raises(ValueError, match="rrg_biomed_eye, got 'vit'"): build_eye({"model_type": "vit"})
    same = build_eye(load_eye(towers, p).config)
    assert same.load_state_dict(load_eye(towers, p).state_dict()).missing_keys == []


def test_the_table_holds_every_text_whole():
    from rrg_core.learning.standins import load_standin

    towers, p = "standin-phantom-towers", profile("phantom")
    net, tokenizer = load_standin(towers, p)
    for prompts in PROMPTS:
        table = prompt_table(towers, prompts, p)
        assert table.shape == (29, 128) and not table.requires_grad
        torch.testing.assert_close(table.norm(dim=1), torch.full((29, ), 128**.5))
        one = encode(tokenizer, [PROMPTS[prompts]["carina"]], 128)
        with torch.no_grad(): alone = net.encode_text(**one)[0] # padding changes nothing
        torch.testing.assert_close(table[REGIONS.index("carina")] / 128**.5, alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="descriptions, names"): prompt_table(towers, "x", p)
    with pytest.MonkeyPatch.context() as m:
        m.setitem(PROMPTS, "long", {r: "heart " * 200 for r in REGIONS})
        with pytest.raises(CourseError, match="more than 128"): prompt_table(towers, "long", p)


def test_biomedclip_s_file_is_read_by_its_own_names():
    torch.manual_seed(0)
    w, heads, side, out = 8, 2, 4, 6
    make = lambda *shape: torch.randn(shape) * .3
    state = {"logit_scale": make(), "visual.trunk.cls_token": make(1, 1, w), "text.proj.0.weight": make(10, 14),
             "visual.head.proj.weight": make(out, w), "text.proj.2.weight": make(out, 10),
             "visual.trunk.patch_embed.proj.weight": make(w, 3, side, side),
             "visual.trunk.patch_embed.proj.bias": make(w), "visual.trunk.pos_embed": make(1, 5, w)}
    for k in range(2):
        b = f"visual.trunk.blocks.{k}."
        for name, shape in {"norm1": (w, ), "attn.qkv": (3*w, w), "attn.proj": (w, w), "norm2": (w, ),
                            "mlp.fc1": (4*w, w), "mlp.fc2": (w, 4*w)}.items():
            state |= {b + name + ".weight": make(*shape), b + name + ".bias": make(shape[0])}
    state |= {f"visual.trunk.norm.{k}": make(w) for k in ("weight", "bias")}

    def by_hand(x): # (b, 3, 8, 8) scaled
        s = {k.removeprefix("visual.trunk."): v for k, v in state.items()}
        lin = lambda x, name: F.linear(x, s[name + ".weight"], s[name + ".bias"])
        norm = lambda x, name: F.layer_norm(x, (w, ), s[name + ".weight"], s[name + ".bias"], 1e-6)
        x = F.conv2d(x, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], side).flatten(2).transpose(1, 2)
        x = torch.cat([s["cls_token"].expand(len(x), -1, -1), x], 1) + s["pos_embed"]
        for k in range(2):
            b = f"blocks.{k}."
            q, key, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2)
                         for t in lin(norm(x, b + "norm1"), b + "attn.qkv").chunk(3, -1))
            mixed = (q @ key.transpose(-1, -2) / (w/heads)**.5).softmax(-1) @ v
            x = x + lin(mixed.transpose(1, 2).flatten(2), b + "attn.proj")
            x = x + lin(F.gelu(lin(norm(x, b + "norm2"), b + "mlp.fc1")), b + "mlp.fc2")
        return norm(x, "norm") @ state["visual.head.proj.weight"].T

    sizes = BiomedEyeConfig(inner=w, layers=2, heads=heads, stride=side, image_size=8, width=out)
    small = BiomedEye(sizes).eval()
    first, second = from_open_clip(state)
    pixels = torch.randint(0, 256, (2, 1, 8, 8))
    with torch.no_grad():
        got, want = fill(small, first)(pixels), by_hand(scaled(pixels, "clip"))
    torch.testing.assert_close(got.patches, want[:, 1:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.pooled, want[:, 0], atol=1e-5, rtol=1e-4)
    bert = BertConfig(vocab_size=20, hidden_size=14, num_hidden_layers=1, num_attention_heads=2,
                      intermediate_size=16, max_position_embeddings=9)
    text = BiomedText(bert, out).eval()
    own = {k.removeprefix("bert."): v for k, v in text.state_dict().items() if k.startswith("bert.")}
    inner = {"text.transformer." + k: v for k, v in own.items()}
    fill(text, from_open_clip(inner | state)[1])
    ids = torch.randint(0, 20, (3, 5))
    cls = text.bert(ids).last_hidden_state[:, 0]
    want = F.gelu(cls @ state["text.proj.0.weight"].T) @ state["text.proj.2.weight"].T
    torch.testing.assert_close(text(ids, torch.ones_like(ids)), want)
    stray = from_open_clip(state | {"visual.trunk.new": make(1)})[0]
    with pytest.raises(ValueError, match="no place"): fill(small, stray)


def test_attention_over_one_key_is_a_constant():
    torch.manual_seed(0)
    block, x, text = LiteralBlock(16, 4, 32, 0.), torch.randn(6, 9, 16), torch.randn(6, 1, 16)
    added = block.cross(block.norms[0](x), text)
    want = block.cross.out(block.cross.value(text)) # W_O W_V F_T
    torch.testing.assert_close(added, want.expand_as(added))
    block(x, text).square().sum().backward()
    still = [block.cross.query.weight, block.cross.key.weight, block.cross.query.bias, block.cross.key.bias,
             block.norms[0].weight, block.norms[0].bias]
    assert all(p.grad is None or p.grad.abs().max() < 1e-4 for p in still) # float32: sums that cancel
    moved = [block.cross.value.weight, block.cross.out.weight, block.own.query.weight, block.norms[1].weight]
    assert all(p.grad.abs().max() > 1e-2 for p in moved)
    two = block.cross(block.norms[0](x), torch.randn(6, 2, 16)) # over two keys it is an attention again
    assert two.std(1).max() > 1e-2


def test_literal_regions_have_the_promised_shape():
    torch.manual_seed(0)
    a, patches, text = LiteralRegions(16, 4, 32, dropout=0.), torch.randn(3, 9, 16), torch.randn(5, 16)
    out = a(patches, text)
    assert out.shape == (3, 5, 16) and a(patches[:1], text[:1]).shape == (1, 1, 16)
    torch.testing.assert_close(a(patches[1:2], text[3:4])[0, 0], out[1, 3], atol=1e-5, rtol=1e-4) # each by itself


def test_regions_look_at_places():
    torch.manual_seed(0)
    reader = RegionReader(16, 4, 32, 2, 0.)
    patches, text = torch.randn(3, 12, 16), torch.randn(5, 16)
    out, maps = reader(patches, text), reader.look(patches, text)
    assert out.shape == (3, 5, 16) and maps.shape == (3, 2, 5, 12)
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 2, 5))
    out.square().sum().backward()
    grads = [reader.blocks[0].cross.query.weight.grad, reader.blocks[0].cross.key.weight.grad,
             reader.blocks[0].norms[0].weight.grad]
    assert all(g.abs().max() > 1e-3 for g in grads) # what is zero in reading A
    order = torch.randperm(12)
    torch.testing.assert_close(reader(patches[:, order], text), out, atol=1e-5, rtol=1e-4) # no place of its own
    turned = torch.randperm(5)
    torch.testing.assert_close(reader(patches, text[turned]), out[:, turned], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(reader(patches[1:2], text), out[1:2], atol=1e-5, rtol=1e-4)


def test_places_differ_and_rows_come_first():
    grid = places(3, 5, 16)
    assert grid.shape == (15, 16) and len(grid.unique(dim=0)) == 15
    torch.testing.assert_close(grid[7, :8], sinusoids(0, 3, 8)[1]) # cell 7 is row 1, column 2
    torch.testing.assert_close(grid[7, 8:], sinusoids(0, 5, 8)[2])
    with pytest.raises(ValueError, match="multiple of 4"): places(3, 5, 10)


def test_extractor_has_its_switches():
    torch.manual_seed(0)
    patches = torch.randn(2, 9, 16)
    made = {(r, w): Extractor(16, 2, 32, 1, 0., r, w, 5) for r in (None, "A", "C") for w in (True, False)
            if r or w}
    for (reading, whole), e in made.items():
        if reading: e.table.copy_(torch.randn(5, 16))
        out = e(patches)
        assert out.shape == (2, e.tokens, 16) and e.tokens == whole + 5 * (reading is not None)
        if whole: torch.testing.assert_close(out[:, 0], patches.mean(1))
        assert ("table" in e.state_dict()) == (reading is not None) # saved, and not learned
        assert all(name != "table" for name, _ in e.named_parameters())
    e = made["C", True]
    swapped = patches[:, torch.randperm(9)]
    assert not torch.allclose(e(swapped)[:, 1:], e(patches)[:, 1:]) # places count
    torch.testing.assert_close(e(swapped)[:, 0], e(patches)[:, 0])
    assert not torch.allclose(e(patches, (1, 9))[:, 1:], e(patches)[:, 1:])
    for wrong, words in ((dict(reading="B"), "A, C, got 'B'"), (dict(reading=None, whole=False), "are needed")):
        with pytest.raises(ValueError, match=words): Extractor(16, 2, 32, **wrong)
    with pytest.raises(ValueError, match="2 × 4 has no 9"): e(patches, (2, 4))
    with pytest.raises(ValueError, match="no 10 cells"): e(torch.randn(1, 10, 16))


def test_regions_learn_their_places():
    from rrg_core.nets.training import overfit

    class Says(nn.Module):
        def __init__(self):
            super().__init__()
            self.eye = Extractor(16, 2, 32, 1, 0., "C", whole=False, regions=16)
            self.eye.table.copy_(torch.randn(16, 16) * 2)
            self.says = nn.Linear(16, 1)
        def forward(self, x): return self.says(self.eye(x))[..., 0]

    torch.manual_seed(1)
    on = torch.randint(0, 2, (64 + 200, 16)).float() # to learn from, and new ones
    grey = torch.randn(16) * (2*on - 1)[..., None]
    data = [dict(x=x, y=y) for x, y in zip(grey[:64], on)]
    bce = lambda model, b: F.binary_cross_entropy_with_logits(model(b["x"]), b["y"])
    model = Says()
    history = overfit(model, data, n=64, steps=300, loss=bce, rate=1e-2)
    assert history.evaluations[-1]["loss"] < .1 # .69 for a prompt that does not look
    with torch.no_grad():
        right = (model(grey[64:]) > 0) == (on[64:] > 0)
        maps = model.eye.regions.look(model.eye.placed(grey[64:], (4, 4)), model.eye.table).mean((0, 1))
    assert right.float().mean() > .9 # of new images; by chance .5
    assert maps.diagonal().mean() > 2/16 # attention at its own cell; by chance 1/16. Prompts also ask each other
