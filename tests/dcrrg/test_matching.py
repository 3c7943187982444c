"""Exported from nbs/13b_matching.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from rrg_core.data.study import OBSERVATIONS, named
from rrg_core.data.weights import read_weights
from rrg_core.dcrrg.observation_pretraining import ImageTower, TextTower, films, image_tower, labels_of, save_weights, text_tower, texts
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import Profile
from rrg_core.learning.published import load_bert, load_encoder
from rrg_core.learning.writers import images_of, read_by
from rrg_core.metrics.retrieval import recall_at_k
from rrg_core.nets.attention import CourseConfig
from rrg_core.nets.encoders import ResNetConfig, build_encoder
from rrg_core.nets.training import fit
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from rrg_core.labels import label_many
from rrg_core.learning.pretraining import encode, make_tokenizer
from rrg_core.nets.decoder import count_parameters
from rrg_core.nets.encoders import SmallPyramidConfig
from rrg_core.phantom import render
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.dcrrg.matching import *


def test_label_similarity_is_equation_3():
    rng = np.random.default_rng(0)
    a, b = (rng.random((5, 14)) < .3).astype("f4"), (rng.random((4, 14)) < .3).astype("f4")
    a[0], b[3] = 0, 0 # nothing positive
    with np.errstate(invalid="ignore"):
        plain = a @ b.T / (np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1))
    assert np.isnan(plain[0]).all() and np.isnan(plain[:, 3]).all() # as printed
    s = label_similarity(torch.tensor(a), torch.tensor(b), paired=False).numpy()
    np.testing.assert_allclose(s, np.nan_to_num(plain), rtol=1e-6)
    own = label_similarity(torch.tensor(a), torch.tensor(a))
    assert (own.diagonal() == 1).all() and (own[0, 1:] == 0).all() and own.isfinite().all()
    assert torch.equal(label_similarity(torch.tensor(a), torch.tensor(b), "dot"), torch.tensor(a @ b.T))
    with pytest.raises(ValueError, match="cosine or dot"): label_similarity(own, own, "euclid")


def test_weights_are_half_a_cosine_and_no_gradient_runs_through_them():
    torch.manual_seed(0)
    raw = torch.randn(6, 4, requires_grad=True)
    unit = raw.detach().numpy() / np.linalg.norm(raw.detach().numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(calibration(raw), unit @ unit.T / 2 + .5, rtol=1e-5, atol=1e-6)
    assert not calibration(raw).requires_grad and calibration(raw).min() >= 0
    assert torch.equal(calibration(raw).diagonal(), torch.ones(6))
    x = raw.detach()
    torch.testing.assert_close(calibration(x + 7, True), calibration(x, True)) # a common offset is nothing
    assert spread_of(calibration(x + 100))["deviation"] < .01 < spread_of(calibration(x + 100, True))["deviation"]
    one = calibration(torch.zeros(2, 4)) # embeddings without a direction
    assert one.isfinite().all() and one[0, 1] == .5
    assert spread_of(torch.tensor([[1., .2], [.4, 1.]]))["lowest"] == pytest.approx(.2)


def test_targets_reduce_to_medclips_and_to_one_hot():
    torch.manual_seed(0)
    labels = (torch.rand(9, 14) < .3).float()
    s, w = label_similarity(labels, labels), calibration(torch.randn(9, 5))
    for y in (soft_targets(s), soft_targets(s, w), soft_targets(s, w, .05)):
        torch.testing.assert_close(y.sum(1), torch.ones(9))
    medclip = np.exp(s.numpy()) / np.exp(s.numpy()).sum(1, keepdims=True)
    np.testing.assert_allclose(soft_targets(s, torch.ones(9, 9)), medclip, rtol=1e-5)
    assert torch.equal(soft_targets(s, calibration(torch.ones(9, 5))), soft_targets(s)) # identical texts
    torch.testing.assert_close(soft_targets(s, w, 1e-4), torch.eye(9)) # distinct texts: w < 1 beside the own
    same = torch.tensor([[1., 1.], [1., 1.]]) # identical labels and texts share, however cold
    torch.testing.assert_close(soft_targets(same, same, 1e-4), same / 2)
    first, other = soft_targets(torch.eye(32))[0, :2].tolist()
    assert first == pytest.approx(np.e / (np.e + 31)) and other == pytest.approx(1 / (np.e + 31))
    for wrong in (0, -1.):
        with pytest.raises(ValueError, match="must be positive"): soft_targets(s, temperature=wrong)


def test_soft_loss_is_a_cross_entropy_and_its_minimum_is_the_target():
    torch.manual_seed(0)
    z = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    y, back = (torch.randn(5, 5).double().softmax(1) for _ in range(2))
    log = lambda x: x - np.log(np.exp(x).sum(1, keepdims=True)) # softmax in three lines of NumPy
    a = z.detach().numpy()
    want = -((y.numpy() * log(a)).sum() + (back.numpy() * log(a.T)).sum()) / 10
    assert soft_loss(z, y, back).item() == pytest.approx(want, rel=1e-6)
    assert soft_loss(z.T, back, y).item() == pytest.approx(want, rel=1e-6) # the other modality first
    eye = torch.eye(5)
    plain = (F.cross_entropy(z, torch.arange(5)) + F.cross_entropy(z.T, torch.arange(5))) / 2
    torch.testing.assert_close(soft_loss(z.float(), eye, eye), plain.float())
    flat = torch.full((5, 5), .2)
    at = y.log().float().requires_grad_() # predictions that are the targets: the film's half has no slope
    (-(y.float() * at.log_softmax(1)).sum(1).mean()).backward()
    assert at.grad.abs().max() < 1e-6
    assert soft_loss(torch.zeros(5, 5), flat, flat).item() == pytest.approx(np.log(5), rel=1e-6)


def test_losses_by_a_few_lines_of_numpy():
    torch.manual_seed(0)
    labels = (torch.rand(7, 14) < .3).float()
    labels[2] = 0 # nothing positive
    made = [torch.randn(7, 5, requires_grad=True) for _ in range(4)]
    pairs = Pairs(*made, label_similarity(labels, labels), scale=5., temperature=.5)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    log = lambda x: x - np.log(np.exp(x).sum(1, keepdims=True))
    soft = lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)
    image, text, v, t = (x.detach().numpy() for x in made)
    cosine, s, own = unit(image) @ unit(text).T, pairs.same.numpy(), np.eye(7)
    ce = lambda y, back, z, a=.5: -(a * (y * log(z)).sum() + (1 - a) * (back * log(z.T)).sum()) / 7
    weight = lambda x: unit(x) @ unit(x).T / 2 + .5
    want = {info_nce: ce(own, own, 5 * cosine), convirt_loss: ce(own, own, 10 * cosine, .75),
            semantic_loss: ce(soft(2 * s), soft(2 * s.T), 5 * cosine),
            calibrated_loss: ce(soft(2 * weight(t) * s), soft(2 * weight(v) * s.T), 5 * cosine)}
    for f, value in want.items():
        for x in made: x.grad = None
        loss = f(pairs)
        assert loss.item() == pytest.approx(value, rel=1e-5), f.__name__
        loss.backward()
        assert all(x.grad.isfinite().all() and x.grad.abs().max() > 0 for x in made[:2]), f.__name__
        assert all(x.grad is None for x in made[2:]), f.__name__ # nothing runs through the weights
    swap = Pairs(pairs.text, pairs.image, pairs.raw_text, pairs.raw_image, pairs.same.T, 5., .5)
    torch.testing.assert_close(calibrated_loss(swap), calibrated_loss(pairs))
    alike = Pairs(pairs.image, pairs.text, torch.ones(7, 5), torch.ones(7, 5), pairs.same, 5., .5)
    torch.testing.assert_close(calibrated_loss(alike), semantic_loss(pairs)) # all weights are 1


def test_a_batch_without_any_positive_label():
    torch.manual_seed(0)
    for n in (1, 2, 6):
        image, text = torch.randn(n, 4, requires_grad=True), torch.randn(n, 4, requires_grad=True)
        nothing = torch.zeros(n, 14)
        pairs = Pairs(image, text, torch.randn(n, 3), torch.zeros(n, 3), label_similarity(nothing, nothing))
        for f in (semantic_loss, calibrated_loss):
            loss = f(pairs)
            loss.backward()
            assert loss.isfinite() and image.grad.isfinite().all() and text.grad.isfinite().all()
        if n > 1: assert calibrated_loss(pairs).item() == pytest.approx(semantic_loss(pairs).item())
        else: assert semantic_loss(pairs).item() == 0


def test_gloria_by_loops():
    torch.manual_seed(0)
    cells, words = torch.randn(3, 6, 4, requires_grad=True), torch.randn(3, 5, 4, requires_grad=True)
    there = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    image, text = torch.randn(3, 4), torch.randn(3, 4)
    soft = lambda x, axis: np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    found = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            v, t = cells[i].detach().numpy(), words[j, :there[j].sum()].detach().numpy()
            a = soft(4 * soft(v @ t.T, 1).T, 1) # (words, cells)
            c = a @ v
            cosine = (c * t).sum(1) / np.linalg.norm(c, axis=1) / np.linalg.norm(t, axis=1)
            found[i, j] = np.log(np.exp(5 * cosine).sum())
    np.testing.assert_allclose(word_likeness(cells, words, there).detach(), found, rtol=1e-5)
    unit = lambda x: x / x.norm(dim=1, keepdim=True)
    ce = lambda z: -sum(np.log(soft(z, 1)[k, k]) for k in range(3)) / 3
    both = [10 * found, 10 * (unit(image) @ unit(text).T).numpy()]
    loss = gloria_loss(Pairs(image, text, cells=cells, words=words, there=there))
    assert loss.item() == pytest.approx(sum(ce(z) + ce(z.T) for z in both), rel=1e-5)
    loss.backward()
    assert cells.grad.isfinite().all() and words.grad.isfinite().all()
    assert (words.grad.abs().sum(-1) > 0).equal(there.bool()) # padding has no part


def test_the_paper_s_towers_by_hand():
    linear = lambda a, b: a * b + b
    bert = (28996 + 512 + 2) * 768 + 2 * 768 + 12 * (4 * linear(768, 768) + linear(768, 3072) + linear(3072, 768)
                                                     + 4 * 768) # words, places, types, norm, layers; no pooler
    resnet = 25_557_032 - linear(2048, 1000) # torchvision's ResNet-50 without its classifier
    head = lambda d: linear(d + 14, 512) + linear(512, 512) + linear(512, 2)
    assert count_parameters(Dcclip, DcclipConfig.paper()) == resnet + bert + head(2048) + head(768) + 1
    with pytest.raises(ValueError, match="infonce, convirt, gloria"): DcclipConfig(loss="clip")


def test_the_scale_leaves_its_border_again_and_prompts_are_drawn_in_training():
    sizes = dict(image_encoder=SmallPyramidConfig(widths=(8, 8, 8, 8, 8), neck=8, labels=0).to_dict(), joint=8,
                 bert=dict(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=16, hidden_dropout_prob=0., attention_probs_dropout_prob=0.))
    torch.manual_seed(0)
    batch = dict(pixels=torch.randint(256, (4, 1, 32, 32)), input_ids=torch.randint(1, 30, (4, 6)),
                 attention_mask=torch.ones(4, 6).long(), positive=(torch.rand(4, 14) < .4).float())
    for loss in LOSSES:
        model = Dcclip(DcclipConfig(**sizes, loss=loss, prompts=2)).train()
        model.log_scale.data.fill_(9.)
        out = model(**batch)
        out.loss.backward()
        assert model.log_scale.item() == pytest.approx(4.6052) and out.logits.shape == (4, 4)
        learned = model.log_scale.grad is not None
        assert learned == (loss not in ("convirt", "gloria")) and (not learned or model.log_scale.grad != 0)
        asked = model.image.head.inner.weight.grad[:, -14:].abs().sum(0) > 0
        assert 1 <= asked.sum() <= 2 # the prompts of this step
        still = {n for n, q in model.named_parameters() if q.grad is None and q.requires_grad}
        assert still <= {"log_scale", "text.encoder.embeddings.position_embeddings.weight"}, still
        torch.testing.assert_close(model.eval()(**batch).loss, model(**batch).loss) # none are drawn at rest


def test_step_2_finds_the_own_text_of_a_few():
    few = [render(i, 32, site="structured").study for i in range(8)]
    reports = [x.report.findings for x in few]
    words, positive = make_tokenizer("wordpiece", reports, 300), label_many(reports) == 1
    images = np.stack([x.images[0].load() for x in few])[:, None]
    read = paired(images, reports, words, 96, move=False)
    sizes = dict(image_encoder=SmallPyramidConfig(widths=(8, 16, 16, 24, 32), neck=16, labels=0).to_dict(),
                 bert=dict(vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=64), joint=32, temperature=.05)
    for loss in ("calibrated", "gloria"):
        torch.manual_seed(0)
        model = Dcclip(DcclipConfig(**sizes, loss=loss))
        history = match(model, read, positive, lambda m: pair_scores(m, read, reports), epochs=60, batch=8,
                        rate=5e-3, weight_decay=0., every=60)
        last = history.evaluations[-1]
        assert last["recall@1"] >= .75, (loss, last) # chance: one of eight
        assert history.frame().loss.iloc[-5:].mean() < .7 * history.frame().loss.iloc[0]
    assert {"scale", "weights of films, lowest", "weights of texts, deviation"} <= set(last)


def test_steps_1_and_2_are_shared():
    import tempfile
    from dataclasses import replace
    from rrg_core.engine.settings import profile
    from rrg_core.learning.standins import train_standin

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d + "/figures")
        m.setenv("RRG_CACHE", d + "/cache")
        p = replace(profile("smoke"), train=20, valid=8, image_size=64)
        for name in ("standin-shapes-resnet", "standin-phantom-bert"): train_standin(name, p, say=str)
        s = dict(site="structured", joint=16, balanced=True, epochs1=1, batch1=20, rate1=1e-3,
                 encoder_rate1=1e-3, decay1=0.,
                 schedule1="one-cycle", precision="no", encoder="standin-shapes-resnet", extra=None, prompts=1,
                 bert="standin-phantom-bert", text_tokens=64, step1=True, matching="calibrated", centred=False,
                 temperature=.1, epochs2=2, batch2=10, rate2=1e-3, decay2=0., schedule2="one-cycle")
        state = lambda **other: dcclip_of(s | other, 0, p)[0].state_dict()
        both, first, second, none = state(), state(matching=None), state(step1=False), state(
            step1=False, matching=None)
        inner = "image.head.inner.weight"
        assert len({x[inner].sum().item() for x in (both, first, second, none)}) == 4
        assert torch.equal(none[inner], state(step1=False, matching=None)[inner])
        assert torch.equal(none["image.classifier.weight"], second["image.classifier.weight"]) # step 2 leaves it
        assert torch.equal(first["text.classifier.weight"], both["text.classifier.weight"])
        assert matched_towers(s, 0, p, str) == matched_towers(s | dict(rate=1), 0, p, str)
        unbalanced = s | dict(balanced=False, step1=False) # what step 1 would do is nothing without it
        assert matched_towers(unbalanced, 0, p, str) == matched_towers(s | dict(step1=False), 0, p, str)
        seen = pd.read_csv(matched_towers(s, 0, p, str) / "evaluations.csv")
        assert len(seen) == 2 and seen.scale.between(1, 100).all()
