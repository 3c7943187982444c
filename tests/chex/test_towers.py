"""Exported from nbs/12f_towers.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast
from rrg_core.data.study import named, without_text
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.pretraining import Towers, TowersConfig, encode
from rrg_core.learning.published import found_for
from rrg_core.nets.encoders import fill, scaled
import pytest, torch
from torch import nn
from transformers import CLIPConfig
from rrg_core.chex.detector import grid_positions
from rrg_core.learning.pretraining import Towers, TowersConfig, make_tokenizer
from rrg_core.nets.encoders import fill
from rrg_core.phantom import render
from rrg_core.chex.towers import *


def test_the_stand_ins_are_what_they_were():
    torch.manual_seed(0)
    config = TowersConfig(widths=(8, 8, 16, 16, 16), neck=8, width=16, layers=1, vocab_size=300, joint=32)
    net, x = Towers(config).eval(), torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)
    towers = {c: CourseTowers(config.to_dict(), c).eval() for c in (1, 2, 4)}
    for t in towers.values(): t.net.load_state_dict(net.state_dict())
    torch.testing.assert_close(towers[1](x).patches, net.patches(x))
    assert [t(x).grid for t in towers.values()] == [(2, 3), (4, 6), (8, 12)]
    finest = towers[4](x) # the mean half of a coarse cell's projection is the mean of its finest cells'
    means = net.image_projection.weight[:, :8] @ torch.nn.functional.avg_pool2d(
        net.image.fine((x.float() / 255 - .5) / .25), 4).flatten(2)
    halves = (net.image_projection.weight[:, :8] @ net.image.fine((x.float() / 255 - .5) / .25).flatten(2))
    torch.testing.assert_close(means, torch.nn.functional.avg_pool2d(halves.unflatten(2, (8, 12)), 4).flatten(2))
    torch.testing.assert_close(finest.patches.transpose(1, 2), halves + net.image_projection.weight[:, 8:] @ (
        net.image.fine((x.float() / 255 - .5) / .25).flatten(2)))
    ids = torch.randint(3, 300, (4, 7))
    mask = (torch.arange(7) < torch.tensor([7, 3, 5, 1])[:, None]).long()
    torch.testing.assert_close(F.normalize(towers[1].read(ids, mask), dim=-1), net.encode_text(ids, mask))
    for cells in (0, 3, 8, None, "2"):
        with pytest.raises(ValueError, match="1, 2 or 4"): CourseTowers(config.to_dict(), cells)
    with pytest.raises(ValueError, match="no multiple of 32"): towers[1](x[..., :50])


def test_clip_at_its_size():
    with torch.device("meta"): large = ClipTowers()
    def transformer(d, layers):
        return layers * (4 * d + 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d))

    vision = 3 * 32 * 32 * 768 + 768 + 50 * 768 + 2 * 2 * 768 + transformer(768, 12)
    text = 49408 * 512 + 77 * 512 + 2 * 512 + transformer(512, 12)
    assert large.net.num_parameters() == vision + text + 768 * 512 + 512 * 512 + 1 == 151_277_313
    assert large.width == 512 and large.longest == 77 and len(large.blocks()) == 13
    for kind in ("bert", None, "rrg_tower", 3):
        with pytest.raises(ValueError, match="rrg_towers or clip"): build_towers(dict(model_type=kind))


def test_every_patch_goes_through_clips_projection():
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    image, text = dict(image_size=64, patch_size=32), dict(vocab_size=60, bos_token_id=1, eos_token_id=3)
    clip = ClipTowers(dict(projection_dim=12, vision_config=size | image, text_config=size | text)).eval()
    x = torch.randint(0, 256, (2, 1, 64, 64))
    grey = ((x / 255 - .505) / .248).expand(2, 3, 64, 64)
    seen, net = clip(x), clip.net
    torch.testing.assert_close(seen.whole, net.get_image_features(grey).pooler_output) # CLIP's own image vector
    states = net.vision_model(grey).last_hidden_state[:, 1:]
    torch.testing.assert_close(seen.patches, net.visual_projection(net.vision_model.post_layernorm(states)))
    assert seen.grid == (2, 2) and seen.positions.shape == (4, 12)
    ids = torch.tensor([[1, 7, 9, 3], [1, 5, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    torch.testing.assert_close(clip.read(ids, mask), net.get_text_features(ids, mask).pooler_output)
    short = clip.read(ids[1:, :3], mask[1:, :3])
    torch.testing.assert_close(short, clip.read(ids, mask)[1:]) # padding says nothing
    with pytest.raises(ValueError, match="96"): clip(torch.randint(0, 256, (1, 1, 96, 96)))


def test_a_text_is_read_once_and_alone():
    torch.manual_seed(0)
    config = TowersConfig(widths=(8, 8, 8, 8, 16), neck=8, width=16, layers=1, vocab_size=300, joint=8)
    towers = CourseTowers(config.to_dict()).train()
    bert = make_tokenizer("wordpiece", ["No effusion, large heart"], 300)
    calls, read = [], towers.read
    towers.read = lambda **batch: calls.append(len(batch["input_ids"])) or read(**batch)
    a = towers.texts(bert, ["No effusion", "A large heart", "No effusion"])
    b = towers.texts(bert, ["A large heart", "No"])
    assert calls == [2, 1] and torch.equal(a[0], a[2]) and torch.equal(a[1], b[0])
    assert not a.requires_grad and not towers.net.text.training # no dropout, whatever the rest does
    towers.kept.clear()
    torch.testing.assert_close(towers.texts(bert, ["No effusion"])[0], a[0]) # alone or in a batch
    other = CourseTowers(config.to_dict())
    towers.load_state_dict(other.state_dict())
    assert not torch.allclose(towers.texts(bert, ["No effusion"])[0], a[0]) # other weights, another vector
    assert towers.texts(bert, []).shape == (0, 8)
    towers.most = 3
    many = towers.texts(bert, ["a b", "b c", "c d", "d e", "e f"])
    assert many.shape == (5, 8) and list(towers.kept) == ["c d", "d e", "e f"]
    for wrong in (None, "", "  ", 3, ["No effusion"], b"x", 2.5):
        with pytest.raises(ValueError, match="text 1 must be a text"): towers.texts(bert, ["No", wrong])


def test_only_the_last_blocks_learn():
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2)
    image, text = dict(image_size=64, patch_size=32), dict(vocab_size=60, bos_token_id=1, eos_token_id=3)
    clip = ClipTowers(dict(projection_dim=12, vision_config=size | image, text_config=size | text))
    course = CourseTowers(TowersConfig(widths=(8, 8, 8, 8, 16), neck=8, width=16, layers=1, vocab_size=30,
                                       joint=8).to_dict())
    for towers, after in ((clip, ("post_layernorm", "visual_projection")), (course, ("image_projection", ))):
        *blocks, _ = towers.blocks()
        for trained in (0, 1, 3, len(blocks)):
            towers.freeze(trained)
            assert not any(p.requires_grad for p in towers.text_side().parameters())
            assert [all(p.requires_grad for p in b.parameters()) for b in blocks] == [
                k >= len(blocks) - trained for k in range(len(blocks))]
            names = {n for n, p in towers.named_parameters() if p.requires_grad}
            assert all(any(a in n for n in names) for a in after) == (trained > 0)
            if trained:
                towers.train()(torch.randint(0, 256, (1, 1, 64, 64))).patches.sum().backward()
                given = {n for n, p in towers.named_parameters() if p.grad is not None}
                assert given == names
                towers.zero_grad()
        for wrong in (-1, len(blocks) + 1, True, 1.5, "2", None):
            with pytest.raises(ValueError, match=f"from 0 to {len(blocks)}"): towers.freeze(wrong)


def test_a_file_of_openais_class_fits():
    class Block(nn.Module): # OpenAI's CLIP in a few lines, with PyTorch's own attention
        def __init__(self, d, heads):
            super().__init__()
            self.attn, self.ln_1, self.ln_2 = nn.MultiheadAttention(d, heads), nn.LayerNorm(d), nn.LayerNorm(d)
            self.mlp = nn.Sequential()
            self.mlp.c_fc, self.mlp.c_proj = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(self, x, mask=None): # (t, b, d)
            y = self.ln_1(x)
            x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
            y = self.mlp.c_fc(self.ln_2(x))
            return x + self.mlp.c_proj(y * (1.702 * y).sigmoid())

    class Clip(nn.Module):
        def __init__(self, d=16, layers=2, joint=12, words=40, longest=9):
            super().__init__()
            blocks = lambda: nn.Sequential(*[Block(d, 2) for _ in range(layers)])
            self.visual, self.transformer = nn.Module(), nn.Module()
            v, draw = self.visual, lambda *s: nn.Parameter(torch.randn(*s) / 4)
            v.conv1, v.class_embedding = nn.Conv2d(3, d, 32, 32, bias=False), draw(d)
            v.positional_embedding, v.proj = draw(5, d), draw(d, joint)
            v.ln_pre, v.ln_post, v.transformer = nn.LayerNorm(d), nn.LayerNorm(d), nn.Module()
            v.transformer.resblocks, self.transformer.resblocks = blocks(), blocks()
            self.token_embedding, self.positional_embedding = nn.Embedding(words, d), draw(longest, d)
            self.ln_final, self.text_projection = nn.LayerNorm(d), draw(d, joint)
            self.logit_scale = nn.Parameter(torch.tensor(2.))

        def image(self, x):
            v, x = self.visual, self.visual.conv1(x).flatten(2).permute(2, 0, 1)
            x = torch.cat([v.class_embedding.expand(1, x.shape[1], -1), x]) + v.positional_embedding[:, None]
            return (v.ln_post(v.transformer.resblocks(v.ln_pre(x))) @ v.proj).transpose(0, 1)

        def text(self, ids):
            x = (self.token_embedding(ids) + self.positional_embedding[:ids.shape[1]]).transpose(0, 1)
            mask = torch.full((len(x), len(x)), float("-inf")).triu(1)
            for block in self.transformer.resblocks: x = block(x, mask)
            return self.ln_final(x)[ids.argmax(1), torch.arange(len(ids))] @ self.text_projection

    torch.manual_seed(0)
    theirs = Clip().eval()
    size = dict(hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    image = dict(image_size=64, patch_size=32)
    text = dict(vocab_size=40, max_position_embeddings=9, eos_token_id=39, bos_token_id=38)
    ours = ClipTowers(dict(projection_dim=12, vision_config=size | image, text_config=size | text)).eval()
    fill(ours.net, from_openai(theirs.state_dict()))
    x, ids = torch.randint(0, 256, (2, 1, 64, 64)), torch.tensor([[38, 4, 5, 39], [38, 7, 39, 0]])
    seen, tokens = ours(x), theirs.image(((x / 255 - .505) / .248).expand(-1, 3, -1, -1))
    torch.testing.assert_close(seen.whole, tokens[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(seen.patches, tokens[:, 1:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.read(ids, (ids > 0).long()), theirs.text(ids), atol=1e-5, rtol=1e-4)
    strange = theirs.state_dict() | {"visual.extra": torch.zeros(1)}
    with pytest.raises(ValueError, match="visual.extra"): fill(ours.net, from_openai(strange))


def test_towers_come_from_a_stand_in_or_a_file():
    import os, tempfile
    from pathlib import Path
    from rrg_core.engine.settings import CourseError, profile
    from rrg_core.learning.published import chosen

    stand_in, wordpiece = load_towers("standin-phantom-towers", profile("phantom"), cells=2)
    assert stand_in.width == 128 and stand_in(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)).grid == (4, 4)
    assert not stand_in.training and not any(p.requires_grad for p in stand_in.parameters())
    near = F.normalize(stand_in.texts(wordpiece, ["Small left pleural effusion.", "A small left pleural effusion",
                                                  "The heart is enlarged."]), dim=-1)
    assert near[0] @ near[1] > near[0] @ near[2] # it has learned something
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    text = dict(vocab_size=len(wordpiece), max_position_embeddings=9, bos_token_id=1, eos_token_id=3)
    tiny = dict(projection_dim=12, vision_config=size | dict(image_size=64, patch_size=32),
                text_config=size | text)
    clip, before = ClipTowers(tiny).eval(), os.environ.get("RRG_ROOT_WEIGHTS")
    theirs = {k: v for k, v in clip.net.state_dict().items() if "position_ids" not in k} # already renamed
    with tempfile.TemporaryDirectory() as d:
        try:
            os.environ["RRG_ROOT_WEIGHTS"], folder = d, Path(d) / "chexzero"
            folder.mkdir()
            torch.save(theirs, folder / "best_64_5e-05_original_22000_0.864.pt")
            with pytest.raises(CourseError, match="tokenizer.json is missing"):
                load_towers(chosen("chexzero"), profile("phantom"), settings=tiny)
            wordpiece.save_pretrained(folder)
            loaded, tokenizer = load_towers(chosen("chexzero"), profile("phantom"), settings=tiny)
        finally:
            os.environ.pop("RRG_ROOT_WEIGHTS")
            if before is not None: os.environ["RRG_ROOT_WEIGHTS"] = before
    x = torch.randint(0, 256, (1, 1, 64, 64))
    torch.testing.assert_close(loaded(x).patches, clip(x).patches)
    assert tokenizer("heart").input_ids == wordpiece("heart").input_ids
