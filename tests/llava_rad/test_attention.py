"""Exported from nbs/15c_attention.ipynb: edit it there, then run `nbdev-export`."""
import re
from contextlib import contextmanager
from dataclasses import dataclass
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from rrg_core.data.study import named
from rrg_core.labels import explain
from rrg_core.llava_rad.model import IMAGE, LlavaRad
from rrg_core.metrics.grounding import iou
from rrg_core.results.figures import overlay_boxes, overlay_map
from rrg_core.shown import explore
import pytest
from rrg_core.engine.settings import profile
from rrg_core.data.study import Box
from rrg_core.learning.standins import load_standin
from rrg_core.learning.writers import described
from rrg_core.llava_rad.contrast import load_eye
from rrg_core.llava_rad.model import Dialogues, Prompt, answer_ids, begin, dialogue_batch, tiny_llava_rad
from rrg_core.nets.training import overfit
from rrg_core.phantom import render
from rrg_core.llava_rad.attention import *


def test_rows_and_columns_are_those_of_one_pass():
    torch.manual_seed(0)
    model, visual = tiny_llava_rad(), torch.randn(1, 6, 8)
    answer = torch.tensor([7, 9, 11, 2])
    for ids in ([[1, 5, IMAGE, 4, 3]], [[1, IMAGE]]):
        prompt = torch.tensor(ids)
        x, _, _ = model.read(prompt, features=visual)
        full = torch.cat([x, model.lm.get_input_embeddings()(answer)[None]], 1)
        model.lm.set_attn_implementation("eager")
        whole = torch.stack([a[0] for a in model.lm.model(inputs_embeds=full, output_attentions=True).attentions])
        model.lm.set_attn_implementation("sdpa")
        begin_image, asked = ids[0].index(IMAGE), x.shape[1]
        for row, first in (("predicting", asked - 1), ("reading", asked)):
            got = image_attention(model, prompt, answer, row, features=visual)
            assert got.shape == (4, 2, 2, 6)
            want = whole[:, :, first:first + 4, begin_image:begin_image + 6].permute(2, 0, 1, 3)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    assert model.lm.config._attn_implementation == "sdpa" # as before
    for layer in model.lm.model.layers: layer.self_attn.q_proj.weight.data.zero_() # attends to all alike
    prompt = torch.tensor([[1, 5, IMAGE, 4, 3]]) # ten places; the next token is predicted at the tenth
    for row, places in (("predicting", 10), ("reading", 11)):
        got = image_attention(model, prompt, answer, row, features=visual)
        for k in range(4): torch.testing.assert_close(got[k], torch.full((2, 2, 6), 1 / (places + k)))
    with pytest.raises(ValueError, match="predicting or reading"):
        image_attention(model, prompt, answer, "third", features=visual)


def test_tokens_cover_the_text_and_words_their_tokens():
    _, tokenizer = load_standin("standin-phantom-llama", "phantom")
    text = " A large left-sided effusion. No é pneumothorax."
    ids = tokenizer(text, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
    said, spans = token_spans(tokenizer, ids)
    assert said == text and spans[0][0] == 0 and spans[-1] == (len(text), len(text))
    assert all(a[1] == b[0] for a, b in zip(spans, spans[1:]))
    for (a, b), token in zip(spans, ids):
        piece = tokenizer.decode([token], skip_special_tokens=True)
        assert "\ufffd" in piece or piece == text[a:b]
    weights = torch.rand(len(ids), 5, 2, 6)
    seen = Looked(said, spans, weights, (2, 3), "predicting")
    assert [said[a:b] for a, b in seen.words()][2:5] == ["left-sided", "effusion", "No"]
    a, b = seen.find("EFFUSION")
    some = [k for k, s in enumerate(spans) if s[0] < b and s[1] > a]
    assert tokenizer.decode([ids[k] for k in some]).strip() == "effusion"
    m = weights[some].mean(0)
    np.testing.assert_allclose(seen.map("effusion", 1, 0), m[1, 0].view(2, 3)) # row by row
    np.testing.assert_allclose(seen.map("effusion"), m[3].mean(0).view(2, 3))
    np.testing.assert_allclose(seen.map((a, b), "max"), m.mean(1).amax(0).view(2, 3))
    assert [layer_at(n) for n in (32, 3, 5, 10)] == [19, 1, 3, 6] and layer_at(32, 0) == 0
    for bad in (dict(layer=5), dict(layer=-1), dict(head=2)):
        with pytest.raises(ValueError, match="must be"): seen.map("effusion", **bad)
    with pytest.raises(ValueError, match="no word"): seen.find("giraffe")
    with pytest.raises(ValueError, match="no token"): seen.of((90, 95))
    with pytest.raises(ValueError, match="depth"): layer_at(3, 1.)
    model = tiny_llava_rad(vocab_size=len(tokenizer))
    item = dict(input_ids=[1, IMAGE, 5], features=np.zeros((6, 8), "f2"))
    got = looked(model, tokenizer, item, ids, grid=(2, 3))
    assert got.text == text and got.weights.shape == (len(ids), 2, 2, 6) and got.map("large").shape == (2, 3)
    own = looked(model, tokenizer, item, grid=(2, 3))
    assert 1 <= len(own.spans) <= model.config.max_tokens
    with pytest.raises(ValueError, match="no 6 cells"): looked(model, tokenizer, item, ids)


def test_the_explorer_asks_for_word_layer_and_head():
    import ipywidgets

    film = np.full((20, 30), 90, np.uint8)
    seen = Looked("No effusion", [(0, 2), (2, 11)], torch.rand(2, 3, 2, 6), (2, 3), "predicting")
    title = lambda fig: fig.axes[0].get_title(loc="left") or fig.axes[0].get_title()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_STATIC", "1")
        assert title(explorer(film, seen)).startswith("No\nlayer 1 of 3, mean of heads, predicting row")
        shown = []
        patch.setattr(ipywidgets, "interact", lambda f, **controls: shown.append((f, controls)))
        for name in ("RRG_STATIC", "IN_TEST", "CI"): patch.delenv(name, raising=False)
        assert explorer(film, seen) is None
    f, controls = shown[0]
    assert [n for n, _ in controls["word"]] == ["1 No", "2 effusion"]
    assert [v for _, v in controls["layer"]] == [1, 0, 2, "max"]
    assert [v for _, v in controls["head"]] == [None, 0, 1]
    for word in controls["word"]:
        for layer in controls["layer"]:
            for head in controls["head"]: assert title(f(word[1], layer[1], head[1]))
    box = Box("Pleural Effusion", 2, 3, 9, 9)
    assert len(drawn(film, seen, "effusion", 0, 1, [box]).axes[0].patches) == 1
    assert f"{seen.map('effusion', 0, 1).sum():.0%}" in title(drawn(film, seen, "effusion", 0, 1))
    assert len(all_heads(film, seen, "effusion").axes) == 6
    mute = Looked(". ", [(0, 2)], torch.rand(1, 3, 2, 6), (2, 3), "reading")
    with pytest.raises(ValueError, match="no words"): explorer(film, mute)


def test_the_pointing_game_by_hand():
    size = (40, 60) # cells of 20 × 20
    assert inside([[0, 0, 11, 11]], (2, 3), size).tolist() == [[True, False, False], [False] * 3]
    assert inside([[0, 0, 60, 40]], (2, 3), size).all()
    assert inside([[11, 25, 49, 35]], (2, 3), size).tolist() == [[False] * 3, [False, True, False]] # x 11 to 49
    assert inside([[41, 1, 45, 5], [1, 21, 5, 25]], (2, 3), size).sum() == 2 # no middle: the cell that has most
    maps = [np.array([[.5, .1, .1], [.1, .1, .1]]), np.array([[.1, .1, .5], [.1, .1, .1]]), np.ones((2, 3))]
    t = pointing_game(maps, [[[0, 0, 20, 20]]] * 3, size)
    assert t.hit.tolist() == [1, 0, 0] # alike everywhere: points at nothing
    np.testing.assert_allclose(t.inside, [.5, .1, 1 / 6])
    np.testing.assert_allclose(t.chance, 1 / 6)
    assert pointing_game([np.ones((2, 3))], [[[0, 0, 60, 40]]], size).hit[0] == 1
    assert pointing_game([], [], size).shape == (0, 3)
    rng = np.random.default_rng(0) # a blind pointer hits by chance
    blind = pointing_game(rng.random((400, 5, 5)), [[[0, 0, 64, 96]]] * 400, (160, 160))
    assert abs(blind.hit.mean() - blind.chance.mean()) < 3 * (.24 * .76 / 400)**.5 and blind.chance[0] == 6 / 25
    for bad, what in (((maps[:1], [[]]), "no boxes"), (([np.zeros((2, 3))], [[[0, 0, 9, 9]]]), "no attention"),
                      ((maps, []), "3 maps"), ((maps[:1], [[[90, 90, 99, 99]]]), "outside"),
                      ((maps[:1], [[[9, 9, 2, 2]]]), "x0 <= x1")):
        with pytest.raises(ValueError, match=what): pointing_game(*bad, size)


def test_the_table_has_every_layer_and_head():
    said = "Moderate right pleural effusion. No pneumothorax. The heart is enlarged."
    spans = [(k, k + 1) for k in range(len(said))] # a token a character
    weights = torch.full((len(said), 2, 2, 4), .01)
    start, end = said.index("right"), said.index(".")
    weights[start:end, 1, 0, 2] = .5 # layer 1, head 0: below on the left
    weights[said.index("The"):, 1, 0, 3] = .5
    seen = Looked(said, spans, weights, (2, 2), "predicting")
    boxes = [Box("Pleural Effusion", 0, 30, 15, 40), Box("Cardiomegaly", 22, 22, 38, 38),
             Box("Pneumothorax", 0, 0, 9, 9)]
    found = mentions(seen, boxes)
    assert [o for _, o, _ in found] == ["Pleural Effusion", "Cardiomegaly"] # a negative mention points nowhere
    assert "effusion" in said[slice(*found[0][0])]
    assert mentions(seen, boxes[2:]) == []
    t = pointing_table([seen, seen], [boxes, boxes[:1]], (40, 40)).set_index(["layer", "head"])
    assert len(t) == 3 * 3 and (t.n == 3).all() and t.loc[(1, 0), "hit"] == 1 and (t.chance == .25).all()
    assert t.loc[(0, 0), "hit"] == t.loc[(0, "mean"), "hit"] == 0 and t.loc[("max", "mean"), "hit"] == 1
    assert t.loc[(1, 0), "swapped"] == pytest.approx(1 / 3) # effusion, heart, effusion: the last meets the first
    assert t.loc[(1, 0), "inside"] > .9 and t.loc[(1, 1), "inside"] == pytest.approx(.25)
    with pytest.raises(ValueError, match="no answer"): pointing_table([seen], [[]], (40, 40))
