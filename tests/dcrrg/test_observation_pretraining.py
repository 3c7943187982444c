"""Exported from nbs/13a_observation_pretraining.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from rrg_core.data import load
from rrg_core.data.study import OBSERVATIONS
from rrg_core.data.weights import read_weights
from rrg_core.engine.code import data_parts
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.labels import label_many
from rrg_core.learning.pretraining import encode, jitter
from rrg_core.learning.published import load_bert, load_encoder
from rrg_core.learning.writers import images_of, pixels_of, read_by
from rrg_core.metrics.stats import auroc
from rrg_core.nets.training import fit
import matplotlib.pyplot as plt
import pytest
from rrg_core.learning.pretraining import make_tokenizer
from rrg_core.nets.encoders import SmallPyramid, SmallPyramidConfig
from rrg_core.phantom import render
from rrg_core.phantom.scene import draw_observations, stream
from rrg_core.results.figures import show_image
from transformers import BertConfig, BertModel
from rrg_core.dcrrg.observation_pretraining import *


def test_uncertain_is_left_out_and_silence_is_negative():
    positive, known = observation_targets([[1, 0, -1, np.nan]])
    assert positive.tolist() == [[True, False, False, False]] and known.tolist() == [[True, True, False, True]]
    for wrong in ([[2, 0]], [[.5]], [1, 0]):
        with pytest.raises(ValueError, match="1, 0, -1 or NaN"): observation_targets(wrong)


def test_shares_add_up():
    labels = np.array([[1, np.nan], [1, -1], [0, 0], [np.nan, 1]])
    table = label_distribution(labels)
    assert table.positive.tolist() == [.5, .25] and table.uncertain.tolist() == [0, .25]
    assert table.sum(axis=1).tolist() == [1, 1]


def test_balancing_one_observation_leaves_the_others_alone():
    rows = [draw_observations(stream(i, "observations")) for i in range(4000)]
    labels = np.array(pd.DataFrame(rows, columns=OBSERVATIONS), float)
    labels[:, 13] = np.where(np.isnan(labels[:, :12]).all(1), 1, np.nan)
    positive, known = observation_targets(labels)
    assert .009 < positive[:, 10].mean() < .017 and .3 < positive[:, 9].mean() < .5 # as in CheXpert's table

    def others(rows, asked, answer): # (14, 14) rate of j among what is asked of k with this answer; their counts
        which = asked & (positive[rows] == answer)
        counts = which.sum(0)
        return which.T.astype(float) @ positive[rows] / counts[:, None], counts

    def far(rows, asked): # largest difference in standard errors, over both answers and all pairs
        worst = 0
        for answer in (True, False):
            seen, counts = others(rows, asked, answer)
            true, _ = others(np.arange(4000), known, answer)
            error = np.sqrt(np.maximum(true * (1 - true), 1e-4) / counts[:, None])
            worst = max(worst, abs((seen - true) / error).max())
        return worst

    draws, rng = Draws(positive, known), np.random.default_rng(0)
    steps = [draws(32, rng) for _ in range(1500)]
    for rows, asked in steps:
        yes = (asked & positive[rows]).sum(0)
        assert (asked.sum(0) == 2 * yes).all() and yes.min() > 0 and not (asked & ~known[rows]).any()
    assert far(*map(np.concatenate, zip(*steps))) < 5 # 392 comparisons
    half = np.r_[rng.integers(4000, size=8000), rng.choice(np.flatnonzero(positive[:, 10]), 8000)]
    assert far(half, known[half]) > 20


def test_films_by_lot_and_what_nobody_has():
    rng = np.random.default_rng(0)
    positive = np.zeros((50, 3), bool)
    positive[:20, 0] = positive[:2, 1] = True # nobody has the third
    known = np.ones_like(positive)
    known[1, 1] = False
    rows, asked = Draws(positive, known, False)(9, rng)
    assert rows.shape == (9, ) and (asked == known[rows]).all()
    for _ in range(20):
        rows, asked = Draws(positive, known)(9, rng)
        assert len(rows) == 9 and asked[:, 2].sum() == 0 and rows[8] == 0 # the only one that surely has it
        assert (asked & positive[rows]).sum(0)[:2].min() > 0
    with pytest.raises(ValueError, match="no room"): Draws(positive, known)(2, rng)


def test_each_prompt_is_the_concatenation():
    torch.manual_seed(0)
    head, v = ProjectionHead(5, 7, prompts=4).double(), torch.randn(3, 5).double()
    every = head.each(v)
    assert every.shape == (3, 4, 7)
    for k in range(4):
        torch.testing.assert_close(every[:, k], head(v, torch.eye(4).double()[k].expand(3, 4)))
    torch.testing.assert_close(head(v), head(v, torch.zeros(3, 4).double()))
    moves = every[:, 0] - every[:, 1]
    assert (moves[0] - moves[1]).abs().max() > .01 # a question is more than a shift


def test_only_what_is_asked_costs():
    torch.manual_seed(0)
    logits = torch.randn(4, 3, 2, requires_grad=True)
    positive, asked = torch.rand(4, 3) < .5, torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]).bool()
    ce = lambda i, k: -logits[i, k].log_softmax(-1)[int(positive[i, k])]
    want = ((ce(0, 0) + ce(1, 0) + ce(2, 0)) / 3 + ce(0, 1)) / 2
    torch.testing.assert_close(observation_loss(logits, positive, asked), want)
    observation_loss(logits, positive, asked).backward()
    assert (logits.grad.abs().sum(-1) > 0).equal(asked)
    assert abs(observation_loss(torch.zeros(4, 3, 2), positive, asked).item() - np.log(2)) < 1e-6
    none = observation_loss(logits, positive, asked & False)
    assert none.item() == 0
    none.backward()
    assert logits.grad.isfinite().all()


def test_towers_give_an_embedding_and_fourteen_answers():
    torch.manual_seed(0)
    bert = BertModel(BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                intermediate_size=16), add_pooling_layer=False)
    text, image = TextTower(bert, 8).eval(), ImageTower(
        SmallPyramid(SmallPyramidConfig(widths=(8, 8, 8, 8, 8), neck=8, labels=14)), 8)
    ids = torch.randint(1, 30, (2, 5))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    alone = text.raw(ids[1:, :3], torch.ones(1, 3, dtype=torch.long))
    torch.testing.assert_close(text.raw(ids, mask)[1:], alone) # padding does not count
    out = image(torch.ones(2, 14).bool(), torch.ones(2, 14).bool(), pixels=torch.randint(256, (2, 1, 32, 32)))
    out.loss.backward()
    without = {n for n, q in image.named_parameters() if q.grad is None}
    assert out.logits.shape == (2, 14, 2) and without == {"encoder.head.weight", "encoder.head.bias"}
    told = text.answers(text.head.each(text.raw(ids, mask)))
    p = text.classifier(text.head.each(text.raw(ids, mask))).softmax(-1)[..., 1]
    torch.testing.assert_close(told.sigmoid(), p)


def test_aurocs_leave_the_uncertain_out():
    scores = np.array([[.9, .2], [.8, .1], [.1, .3], [.95, .4]])
    labels = [[1, 0], [np.nan, 0], [0, np.nan], [-1, 0]]
    found = aurocs(scores, labels)
    assert found[0] == 1 and np.isnan(found[1]) # with the uncertain as negative it would be 2/3


def test_both_towers_learn_a_few_studies():
    few = [render(i, 32, site="structured").study for i in range(12)]
    reports = [s.report.findings for s in few]
    labels, words = label_many(reports), make_tokenizer("wordpiece", reports, 300)
    images = np.stack([s.images[0].load() for s in few])[:, None]
    sizes = dict(vocab_size=len(words), hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
                 intermediate_size=128, hidden_dropout_prob=0., attention_probs_dropout_prob=0.)
    bert = lambda: BertModel(BertConfig(**sizes), add_pooling_layer=False)
    net = lambda: SmallPyramid(SmallPyramidConfig(widths=(16, 16, 24, 32, 48), neck=16, labels=0))
    for balanced in (True, False):
        torch.manual_seed(0)
        for tower, read, steps, rate in ((ImageTower(net(), 64), films(images, False), 120, 5e-3),
                                         (TextTower(bert(), 64), texts(reports, words, 96), 150, 6e-3)):
            judge = lambda t: {"AUROC": np.nanmean(aurocs(asked_all(t, read, 12), labels))}
            history = pretrain(tower, read, labels, steps, 24, balanced, judge=judge, times=2, rate=rate,
                               weight_decay=0.)
            loss = history.frame().loss
            assert len(history.evaluations) == 2 and history.evaluations[-1]["AUROC"] > .9
            assert loss.iloc[-5:].mean() < .6 * loss.iloc[0]


def test_films_of_another_hospital_join_in():
    import tempfile
    from dataclasses import replace
    from rrg_core.engine.settings import profile

    a, b = np.arange(3)[:, None, None, None] + np.zeros((3, 1, 2, 2)), 10 + np.zeros((2, 1, 2, 2))
    both = Joined(a, b)
    assert len(both) == 5 and both[[4, 0, 2, 3]][:, 0, 0, 0].tolist() == [10, 0, 2, 10]
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_CACHE", d)
        p = replace(profile("smoke"), train=12, image_size=64)
        images, labels = extra_films("registry", p, str)
        assert images.shape == (12, 1, 64, 64) and labels.shape == (12, 14)
        studies = load("phantom", "train", site="registry", n=12, size=64)
        assert not any(s.report for s in studies) and (images[3, 0] == studies[3].frontal.load()).all()
        want = [[np.nan if v is None else v for v in s.labels.values()] for s in studies]
        assert np.array_equal(labels, np.array(want, "f4"), equal_nan=True)
        assert {-1., 1.} <= set(labels[~np.isnan(labels)].tolist())


def test_towers_are_made_once_a_seed():
    import tempfile
    from dataclasses import replace
    from rrg_core.engine.settings import profile
    from rrg_core.learning.standins import train_standin

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d + "/figures")
        m.setenv("RRG_CACHE", d + "/cache")
        p = replace(profile("smoke"), train=20, valid=8, image_size=64)
        for name in ("standin-shapes-resnet", "standin-phantom-bert"): train_standin(name, p, say=str)
        s = dict(site="structured", joint=16, balanced=True, epochs1=2, batch1=20, rate1=1e-3,
                 encoder_rate1=1e-3, decay1=0.,
                 schedule1="one-cycle", precision="no", encoder="standin-shapes-resnet", extra=None,
                 bert="standin-phantom-bert", text_tokens=64, other=1)
        said = []
        one, text = image_tower(s, 0, p, said.append), text_tower(s, 0, p, said.append)
        assert image_tower(s | dict(other=2), 0, p, said.append) == one # what it does not depend on
        assert text_tower(s | dict(extra="registry"), 0, p, said.append) == text # no films in it
        more = image_tower(s | dict(extra="registry"), 0, p, said.append)
        assert len({one, more, image_tower(s, 1, p, said.append)}) == 3
        for folder, new in ((one, new_image_tower), (more, new_image_tower), (text, new_text_tower)):
            tower = new(s, p)
            tower = tower[0] if isinstance(tower, tuple) else tower
            before = {k: v.clone() for k, v in tower.state_dict().items()}
            tower.load_state_dict(read_weights(folder / "tower.safetensors"))
            same = {k for k, v in tower.state_dict().items() if torch.equal(v, before[k])}
            assert not any(k.startswith("head.") for k in same) and len(same) < len(before) / 2
            assert len(pd.read_csv(folder / "evaluations.csv")) == 2
