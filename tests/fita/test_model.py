"""Exported from nbs/11_fita.ipynb: edit it there, then run `nbdev-export`."""
from functools import cached_property, partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from rrg_core.reports.cleaning import clean_r2gen
from rrg_core.nets.encoders import ResNetConfig, XrvConfig, build_encoder
from rrg_core.fita.image_refiner import ImageRefiner, saliency
from rrg_core.fita.kiut import Kiut, KiutConfig, Knowledge, WordFeatures, cooccurrence
from rrg_core.labels import label_many
from rrg_core.learning.writers import ReportSystem, Studies, encoded, images_of, read_by, split_of, words_of
from rrg_core.nets.decoder import report_batch
from rrg_core.phantom.probes import box_maps
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.published import load_bert, load_classifier, start_token
from rrg_core.reports import sentences
from rrg_core.data.study import OBSERVATIONS
from rrg_core.data.weights import read_weights
from rrg_core.fita.text_refiner import TextRefiner, categories, category_loss, padded, separation, triplets
from rrg_core.reports.tokenizers import encode_r2gen
from rrg_core.nets.training import fit
import re
from collections import Counter
import pytest, numpy as np, pandas as pd, torch, matplotlib.pyplot as plt
import rrg_core.fita as fita_module
from rrg_core.engine.desk import Chapter
from rrg_core.results.claims import Claim, claims, claims_chart, decide, effect_of, ledger, power_table
from rrg_core.nets.encoders import SmallPyramidConfig, XrvConfig, XrvDenseNet
from rrg_core.fita import DEFAULTS, _needed
from rrg_core.fita.kiut import WordFeatures
from rrg_core.fita.image_refiner import saliency
from rrg_core.fita.kiut import cooccurrence
from rrg_core.nets.decoder import count_parameters, leaks, report_loss
from rrg_core.engine.experiments import experiments, kept, merged, run_experiments
from rrg_core.results.figures import colour, compare_reports, flow_chart, overlay_boxes, overlay_map
from rrg_core.fita.speed import paper_scale
from rrg_core.labels import label, label_many
from rrg_core.learning.ceilings import another, ceilings, decodings, noise, swapped
from rrg_core.learning.writers import collate, curves_of, shown, split_of, spoken
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.phantom import render
from rrg_core.phantom.scene import Finding, sample_scene
from rrg_core.learning.published import load_classifier
from rrg_core.learning.quality import auroc_columns
from rrg_core.learning.standins import train_standin
from rrg_core.results.systems import Measured, Reports
from rrg_core.results.tables import Measure, comparison, measures, note_costs
from rrg_core.fita.text_refiner import category_loss
from rrg_core.nets.training import overfit
from rrg_core.reports.tokenizers import decode
from rrg_core.fita.model import *


def test_contrast_is_equation_5():
    torch.manual_seed(0)
    u, v = (torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    unit = lambda x: x / x.norm(dim=-1, keepdim=True)
    s = (unit(u) @ unit(v).T / .07).exp()
    expected = sum(-(s[i, i] / s[i].sum()).log() - (s[i, i] / s[:, i].sum()).log() for i in range(5)) / 10
    assert contrast(u, v).item() == pytest.approx(expected.item(), rel=1e-5) # the loss is taken in float32
    assert contrast(u[:1], v[:1]).item() == 0 # one study has nobody to be told from
    assert contrast(100*torch.eye(3), torch.eye(3), .01).item() < 1e-6
    same = torch.ones(4, 2)
    assert contrast(same, same).item() == pytest.approx(np.log(4), rel=1e-6)
    u32, v32 = (x.detach().float().requires_grad_() for x in (u, v))
    contrast(u32, v32, .5).backward() # gradient against a difference of the loss
    step = torch.zeros_like(u32)
    step[2, 1] = 1e-2
    slope = (contrast(u32 + step, v32, .5) - contrast(u32 - step, v32, .5)) / 2e-2
    assert slope.item() == pytest.approx(u32.grad[2, 1].item(), abs=1e-3)


def test_tau_leaves_its_border_again():
    from rrg_core.fita.model import Fita, FitaConfig

    sizes = dict(vocab_size=12,
                 width=16,
                 heads=2,
                 layers=1,
                 encoder_layers=1,
                 feature_width=8,
                 max_tokens=10,
                 name_width=16,
                 bert=dict(vocab_size=40,
                           hidden_size=16,
                           num_hidden_layers=1,
                           num_attention_heads=2,
                           intermediate_size=32,
                           max_position_embeddings=64))
    u = torch.eye(4)
    for start, text, grows in ((.9, u, False), (.5, u, False), (.001, u.flip(0), True), (-1., u.flip(0), True)):
        model = Fita(FitaConfig(**sizes, ifr=False, tfr=False)).train()
        model.joint = lambda *_: (u, text)
        model.tau.data.fill_(start)
        loss, = model.other_losses(None, None, torch.ones(4, 1), {}).values()
        border = model.tau.item()
        assert .00099 < border < .50001
        loss.backward()
        torch.optim.SGD([model.tau], 1e-4).step()
        assert model.tau != border and (model.tau > border) == grows


def test_fita_has_three_switches():
    torch.manual_seed(0)
    bert = dict(vocab_size=40,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64)
    small = dict(vocab_size=23,
                 width=16,
                 feature_width=12,
                 layers=2,
                 encoder_layers=2,
                 heads=2,
                 graph_heads=2,
                 name_width=8,
                 max_tokens=11,
                 joint=8,
                 bert=bert,
                 dropout=0.,
                 feature_dropout=0.)
    image = dict(features=torch.randn(3, 6, 12), probabilities=torch.rand(3, 14), saliency=torch.rand(3, 14, 6))
    words = dict(decoder_input_ids=torch.randint(1, 23, (3, 7)), labels=torch.randint(1, 23, (3, 7)))
    target = torch.randint(0, 3, (3, 14))
    for ifr, tfr, ca in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1)):
        model = Fita(FitaConfig(**small, ifr=bool(ifr), tfr=bool(tfr), ca=bool(ca)))
        model.text.pieces[:, 0] = torch.arange(23)
        model.train()
        loss = model(**image, **words, observations=target).loss
        loss.backward()
        frozen = {n for n, p in model.named_parameters() if p.grad is None}
        assert frozen == {n for n, _ in model.named_parameters() if n.startswith(("text.", "refine."))}, frozen
        assert leaks(model, image | dict(decoder_input_ids=words["decoder_input_ids"])) == []
        assert torch.equal(model.generate(**image, use_cache=True), model.generate(**image, use_cache=False))
        model.eval()
        torch.testing.assert_close(
            model(**image, **words, observations=target, word_states=model.text(words["decoder_input_ids"])).loss,
            model(**image, **words, observations=target).loss)
        model.train()
        if ca: # Eq. 6, term by term
            known, w = model.know(**image), model.word_features(words["decoder_input_ids"])
            plain = model(**image, **words, observations=target)
            ce = torch.nn.functional.cross_entropy(plain.logits.flatten(0, 1), words["labels"].flatten())
            parts = ce + 1 * category_loss(model.refiner.classify(known.symptoms), target) + .1 * contrast(
                model.image_head(known.last_hidden_state.mean(1)), model.text_head(w.mean(1)), .07)
            torch.testing.assert_close(plain.loss, parts)
    with pytest.raises(ValueError, match="settings of a BERT"):
        Fita(FitaConfig(**small | dict(bert=None)))


def test_pixels_alone_are_enough():
    torch.manual_seed(0)
    bert = dict(vocab_size=40,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64)
    small = dict(vocab_size=23,
                 width=16,
                 feature_width=12,
                 layers=2,
                 encoder_layers=2,
                 heads=2,
                 graph_heads=2,
                 name_width=8,
                 max_tokens=11,
                 joint=8,
                 bert=bert,
                 dropout=0.,
                 feature_dropout=0.)
    eye = SmallPyramidConfig(widths=(8, 8, 8, 8, 8), neck=8, labels=0)
    model = Fita(
        FitaConfig(**small | dict(feature_width=16),
                   image_encoder=eye.to_dict(),
                   classifier=XrvConfig(blocks=(1, 1, 1, 1), growth=4, first=4,
                                        targets=tuple(OBSERVATIONS)).to_dict()))
    model.text.pieces[:, 0] = torch.arange(23)
    pixels = torch.randint(0, 256, (2, 1, 64, 64)).float()
    s, p = saliency(model.classifier.eval(), pixels)
    given = model.eval().know(pixels=pixels, saliency=s, probabilities=p)
    torch.testing.assert_close(model.know(pixels=pixels).symptoms, given.symptoms)
    model.train()
    model(pixels=pixels,
          decoder_input_ids=torch.randint(1, 23, (2, 7)),
          labels=torch.randint(1, 23, (2, 7)),
          observations=torch.randint(0, 3, (2, 14))).loss.backward()
    assert all(p.grad is None for p in model.classifier.parameters()) and any(
        p.grad is not None for p in model.image_encoder.parameters()) and not model.classifier.training


def test_the_paper_s_size_by_hand():
    d, e, v, k, L = 512, 768, 4336, 14, 3
    linear = lambda a, b, bias=True: a*b + b*bias
    attention, norm = 4 * linear(d, d), 2 * d
    think = linear(d, 512) + linear(512, d)
    encoder = linear(2048, d) + L * (attention + think + 2*norm) + norm
    decoder = v*d + L * (2*attention + think + 3*norm) + norm + linear(d, v)
    relation = linear(64, 8) # four numbers in eight waves, sine and cosine, for eight heads
    graph = linear(e,
                   d) + d + 2 * (d*d + norm + 2*d + 1) # name, probability, two layers: map, norm, two ends, trust
    last = linear(e, d) + attention + norm
    ifr = 2*d*d + linear(2 * d, d) + norm + k * 3 * (d+1)
    ca = linear(d, 256) + linear(e, 256) + 1
    bert = 30522*e + 512*e + 2*e + 2*e + 12 * (4 * linear(e, e) + linear(e, 4 * e) + linear(4 * e, e) + 2*2*e
                                               ) # words, places, types, norm, layers; no pooler
    tfr = linear(e, e)
    assert count_parameters(Fita, FitaConfig.paper(),
                            trainable=True) == 42_500_160 + encoder + relation + decoder + graph + last + ifr + ca
    with torch.device("meta"):
        densenet = sum(p.numel() for p in XrvDenseNet(XrvConfig()).parameters())
    assert count_parameters(
        Fita,
        FitaConfig.paper()
    ) == 42_500_160 + encoder + relation + decoder + graph + last + ifr + ca + bert + tfr + densenet


def test_words_are_the_same_in_every_epoch():
    torch.manual_seed(0)
    text = WordFeatures(
        dict(vocab_size=40,
             hidden_size=16,
             num_hidden_layers=1,
             num_attention_heads=2,
             intermediate_size=32,
             max_position_embeddings=64), 12)
    text.pieces[:, 0] = torch.arange(12)
    ids = [[0, 3, 4, 0], [0, 5, 6, 7, 8, 0], [0, 1, 0]]
    made = word_states(text, ids, batch=2)
    assert [len(m) for m in made] == [3, 5, 2]
    b, = Studies(None, None, ids, word_states=made).batches()
    there = b["labels"] != -100
    torch.testing.assert_close(b["word_states"][there], text(b["decoder_input_ids"])[there])


def test_pointing_hits_and_misses():
    maps = np.zeros((2, 14, 4))
    maps[0, 3] = [0, 1, 0, 0]
    maps[1, 3] = [1, 1, 0, 0]
    game = pointing(maps, [[(3, .5, 0, 1, .5), (5, 0, 0, 1, 1)], [(3, .5, 0, 1, .5)]])
    assert game.hit.tolist() == [1, .5] and game.chance.tolist() == [.25, .25]
    assert len(game) == 2 # observation 5 has a box and an empty map


def test_alignment_at_its_ends():
    x = np.eye(4)
    gap, rank = alignment(x, x)
    assert gap == 1 and (rank == 0).all()
    gap, rank = alignment(x, -x)
    assert gap == -1 and (rank == 1).all()
    rng = np.random.default_rng(0)
    gap, rank = alignment(rng.normal(size=(400, 30)), rng.normal(size=(400, 30)))
    assert abs(gap) < .03 and abs(rank.mean() - .5) < .06
    a, w = rng.normal(size=(60, 5)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(mapped(a[40:], a[:40], (a @ w)[:40], 1e-9), (a @ w)[40:] - (a @ w)[:40].mean(0),
                               atol=1e-6)
    y = rng.normal(size=(50, 6)) * [5, 3, 1, .1, .1, .1]
    assert principal(y, 2).shape == (50, 2) and principal(y, 2)[:, 0].var() > principal(y, 2)[:, 1].var()
