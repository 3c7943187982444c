"""Exported from nbs/07b_pretraining.ipynb: edit it there, then run `nbdev-export`."""
import json, os, string
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertConfig, BertForMaskedLM, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import SequenceClassifierOutput
from rrg_core.engine.code import Registry
from rrg_core.learning import shape_scenes
from rrg_core.nets.attention import CourseConfig
from rrg_core.nets.encoders import ENCODERS, ImageEncoder, SmallPyramid, SmallPyramidConfig, XrvConfig, XrvDenseNet
from rrg_core.engine.settings import CourseError
from rrg_core.nets.saving import half_saved, load_half
from rrg_core.data.study import OBSERVATIONS, named
from rrg_core.data.weights import plain_folder
from rrg_core.reports.tokenizers import train_bpe, train_wordpiece
import tempfile
import numpy as np, pytest, torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
from rrg_core.engine.settings import CourseError, profile as load_profile
from rrg_core.learning.pretraining import *


def test_two_worlds_of_one_form():
    for data in ("phantom", "shapes"):
        w = world(data, "train", 48, 64)
        assert w.images.shape == (48, 64,
                                  64) and w.images.dtype == np.uint8 and w.labels.shape == (48, 14) and len(
                                      w.texts) == 48 and len(w.classes) == 14
        assert set(np.unique(w.labels)) == {0, 1} and all(w.texts) and set(w.texts) <= set(w.prose)
        assert len(w.boxes) == 48 and sum(map(len, w.boxes)) > 48
        for c, x0, y0, x1, y1 in sum(w.boxes, []):
            assert 0 <= c < 14 and 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
    with pytest.raises(ValueError, match="phantom or shapes, got 'mimic'"):
        world("mimic", "train", 48, 64)


def test_a_coin_for_every_label_costs_log_two():
    w = world("shapes", "train", 48, 64)
    for recipe in (dict(trunk="pyramid", widths=(8, 8, 8, 8, 16),
                        neck=8), dict(trunk="densenet", growth=4, blocks=(1, 1, 1, 1), first=4)):
        net = label_net(recipe, w.classes)
        batch = {
            "pixels": torch.tensor(w.images[:4, None]), "labels": torch.tensor(w.labels[:4]), "maps": torch.zeros(
                4, 14, 8, 8), "boxed": torch.zeros(14, dtype=torch.bool)
        }
        for layer in (net.head, getattr(net, "placed", net.head)):
            torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
        assert abs(label_loss(net, batch).item() - np.log(2)) < 1e-6
        batch["boxed"][:2] = True
        assert abs(label_loss(net, batch).item() - 2 * np.log(2)) < 1e-6 # places say one half too
    assert net.net.targets[0] == "circle" and type(net.net).__module__ == "torchxrayvision.models"
    with pytest.raises(ValueError, match="'vgg'"):
        label_net(dict(trunk="vgg"), w.classes)


def test_places_in_boxes_weigh_as_much_as_the_rest():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 0, 0] = 1
    for places in (torch.full((1, 1, 4, 4), -9.), torch.full((1, 1, 4, 4),
                                                             9.)): # always no costs as much as always yes
        assert abs(places_loss(places, maps).item() - 9*15/16) < .01
    assert places_loss(18*maps - 9, maps) < 1e-3
    torch.testing.assert_close(places_loss(torch.zeros(1, 1, 2, 2), maps),
                               torch.tensor(np.log(2) * (.25*15 + 3.75) / 4,
                                            dtype=torch.float32)) # a coarser map: a quarter of one place


def test_towers_start_at_log_b():
    torch.manual_seed(0)
    towers = Towers(TowersConfig(widths=(8, 8, 8, 8, 16), neck=8, width=16, layers=1, vocab_size=30,
                                 joint=8)).eval()
    pixels, ids = torch.randint(0, 256, (6, 1, 64, 64)), torch.randint(3, 30, (6, 9))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        towers.log_scale.fill_(-50.)
        assert abs(towers(pixels, ids, mask).loss.item() - np.log(6)) < 1e-5
    image, text = towers.encode_image(pixels), towers.encode_text(ids, mask)
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(6))
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(6))
    padded = torch.cat([ids, torch.zeros(6, 4, dtype=ids.dtype)], 1)
    more = torch.cat([mask, torch.zeros(6, 4, dtype=mask.dtype)], 1)
    torch.testing.assert_close(towers.encode_text(padded, more), text, atol=1e-5,
                               rtol=1e-4) # padding says nothing
    cells = towers.patches(pixels)
    assert cells.shape == (6, 4, 8)
    torch.testing.assert_close(cells.mean(1) / cells.mean(1).norm(dim=-1, keepdim=True), image)


def test_tokenizers_can_spell_the_other_world():
    for kind in ("wordpiece", "bpe"):
        t = make_tokenizer(kind, world("shapes", "train", 48, 64).prose)
        other = world("phantom", "train", 48, 64).prose
        ids = t(other, add_special_tokens=False).input_ids
        assert not any(t.unk_token_id in row for row in ids)
        assert len(t) <= 1001 and t.pad_token_id is not None and t(["a"]).input_ids[0][0] == t.bos_token_id
    assert make_tokenizer("wordpiece", ["one text"]).mask_token == "<mask>"
    with pytest.raises(ValueError, match="'chars'"):
        make_tokenizer("chars", ["a"])


def test_gaps_have_bert_s_shares():
    t = make_tokenizer("wordpiece", world("phantom", "train", 48, 64).prose)
    torch.manual_seed(0)
    ids = torch.randint(4, len(t) - 1, (200, 500))
    ids[:, 0] = t.bos_token_id
    seen, asked = gaps(ids, t)
    there = asked != -100
    assert not there[:, 0].any() and (asked[there] == ids[there]).all() and (seen[~there] == ids[~there]).all()
    assert abs(there[:, 1:].float().mean() - .15) < .005 # 100,000 draws: standard error .0011
    assert abs((seen[there] == t.mask_token_id).float().mean() -
               .8) < .015 and abs((seen[there] == ids[there]).float().mean() - .1) < .015


def test_jitter_keeps_left_left():
    torch.manual_seed(0)
    x = torch.zeros(4, 1, 64, 64, dtype=torch.uint8)
    x[..., :20] = 255
    for _ in range(20):
        y = jitter(x)
        assert y.shape == x.shape and y.min() >= 0 and y.max() <= 255
        assert (y[..., :10].mean((1, 2, 3)) > y[..., 40:].mean((1, 2, 3)) + 100).all()
    assert (jitter(x) != jitter(x)).any()
    x = torch.zeros(1, 1, 160, 160)
    x[..., 80:88, 40:48] = 255
    maps = torch.zeros(1, 1, 20, 20)
    maps[..., 10, 5] = 1
    seen = set()
    for _ in range(30): # the map's place is the picture's
        y, m = jitter(x, maps)
        place = (m[0, 0] == 1).nonzero()[0].tolist()
        seen.add(tuple(place))
        row, column = (8 * i for i in place)
        assert m.sum() == 1 and y[0, 0, row:row + 8,
                                  column:column + 8].min() > 150 > y[0, 0, row - 2, column] and y.shape == x.shape
    assert len(seen) == 9


def test_every_task_learns_eight_examples():
    small = dict(trunk="pyramid",
                 widths=(8, 8, 16, 16, 32),
                 neck=16,
                 growth=8,
                 first=8,
                 width=32,
                 layers=1,
                 vocab=600,
                 max_tokens=40)
    for name, make in TASKS.items():
        torch.manual_seed(0)
        task = make(world("shapes", "train", 48, 64), small)
        rows = list(range(8))
        optimiser = torch.optim.AdamW(task.model.parameters(), 1e-2 if name in ("labels", "contrast") else 5e-3)
        state = torch.get_rng_state()
        for step in range(60):
            torch.set_rng_state(state) # the same gaps and shifts each time
            batch = task.collate(rows)
            loss = task.loss(task.model, batch) if task.loss else task.model(**batch).loss
            if not step: first = loss.item()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert loss.item() < .35 * first, (name, first, loss.item())


def test_what_is_saved_is_what_was_trained():
    small = dict(widths=(8, 8, 8, 8, 16),
                 neck=8,
                 growth=4,
                 blocks=(1, 1, 1, 1),
                 first=4,
                 width=16,
                 layers=1,
                 vocab=600,
                 max_tokens=40)
    for name, trunk in (("labels", "pyramid"), ("labels", "densenet"), ("contrast", ""), ("masked", ""),
                        ("causal", "")):
        torch.manual_seed(0)
        task = TASKS[name](world("shapes", "train", 48, 64), small | {"trunk": trunk})
        inputs = {k: v for k, v in task.collate([0, 1, 2]).items() if k not in ("labels", "maps", "boxed")}
        task.model(**inputs) # running statistics
        before = task.model.eval()(**inputs).logits
        with tempfile.TemporaryDirectory() as d:
            back = load_saved(half_saved(task.model, d))
            if name != "labels": # `transformers` finds these classes by itself
                auto = {"masked": AutoModelForMaskedLM, "causal": AutoModelForCausalLM}.get(name, AutoModel)
                again = auto.from_pretrained(d, trust_remote_code=False, local_files_only=True)
                assert type(again) is type(back)
        assert {p.dtype for p in back.parameters()} == {torch.float32} and not back.training
        assert (back(**inputs).logits -
                before).abs().max() < .02 * before.abs().max() + .02 # half precision keeps three digits
    with pytest.raises(CourseError, match="config.json does not exist"):
        load_saved(Path("nowhere"))
