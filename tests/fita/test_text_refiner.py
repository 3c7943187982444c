"""Exported from nbs/11b_text_refiner.ipynb: edit it there, then run `nbdev-export`."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from rrg_core.fita.kiut import ORGANS, WordFeatures
from rrg_core.data.study import OBSERVATIONS
import pytest, numpy as np, torch, pandas as pd
from rrg_core.labels import label_many
from rrg_core.fita.text_refiner import *


def test_category_loss_is_the_mean_of_its_terms():
    labels = np.array([[1., -1] + [np.nan] * 12, [0.] * 14])
    target = categories(labels)
    assert target[0, :3].tolist() == [1, 2, 0] and target[1].sum() == 0
    torch.manual_seed(0)
    p = torch.randn(2, 14, 3, requires_grad=True)
    total = 0.
    for i in range(2):
        for j in range(14):
            for c in range(3):
                y = float(target[i, j] == c)
                s = torch.sigmoid(p[i, j, c])
                total = total - (y * s.log() + (1-y) * (1 - s).log()) / (2*14*3)
    torch.testing.assert_close(category_loss(p, target), total)
    category_loss(p, target).backward()
    assert (p.grad != 0).all()
    assert abs(category_loss(torch.zeros(1, 14, 3), target[:1]).item() - np.log(2)) < 1e-6 # one study


def test_triplets_are_what_they_say():
    labels = label_many([
        "There is a small effusion.", "Moderate pleural effusion.", "No pleural effusion.",
        "No effusion is seen.", "The heart is enlarged.", "Cardiomegaly.", "The film was taken."
    ])
    found = triplets(labels, 50, np.random.default_rng(0))
    for a, p, n, k in found:
        assert a != p and labels[a, k] == labels[p, k] and not np.isnan(
            labels[a, k]) and OBSERVATIONS[k] != "No Finding"
        assert labels[n, k] != labels[a, k] and (not np.isnan(labels[n, k]) or OBSERVATIONS[k] == "Cardiomegaly")
    counts = pd.Series([(OBSERVATIONS[k], labels[a, k]) for a, _, _, k in found]).value_counts()
    assert (counts == 50).all() and {("Pleural Effusion", 1), ("Pleural Effusion", 0),
                                     ("Cardiomegaly", 1)} <= set(counts.index)
    assert len(triplets(np.full((5, 14), np.nan), 3, np.random.default_rng(0))) == 0 # blank with blank is no pair


def test_triplet_loss_at_known_points():
    x, y = torch.tensor([[1., 0]]), torch.tensor([[0., 1]])
    assert triplet_loss(x, x, x).item() == pytest.approx(.3) # a = p = n: the margin
    assert triplet_loss(x, x, y).item() == 0 and triplet_loss(
        x, y, x).item() == pytest.approx(2.3) and triplet_loss(x, x, y, sign=1).item() == pytest.approx(2.3)
    assert triplet_loss(x[:0], x[:0], x[:0]).item() == 0 # no triplet
    a, p, n = (torch.nn.functional.normalize(torch.randn(5, 4, dtype=torch.float64, requires_grad=False),
                                             dim=-1).requires_grad_() for _ in range(3))
    expected = sum(
        max((a[i] - p[i]).pow(2).sum().item() - (a[i] - n[i]).pow(2).sum().item() + .3, 0) for i in range(5)) / 5
    assert triplet_loss(a, p, n).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda a, p, n: triplet_loss(a, p, n, margin=5.),
                                    (a, p, n)) # the hinge is open everywhere


def test_the_printed_sign_collapses():
    bert = dict(vocab_size=40,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=32,
                hidden_dropout_prob=0.,
                attention_probs_dropout_prob=0.)

    def spread(sign, steps):
        torch.manual_seed(0)
        words = WordFeatures(bert, 30, 1)
        words.pieces[:, 0] = torch.arange(30)
        refiner = TextRefiner(words)
        ids, lengths = padded([[1, 2, 3], [11, 12, 13], [1, 2, 4], [11, 12, 14], [11, 12, 15], [1, 2, 5]])
        optimiser = torch.optim.AdamW(refiner.parameters(), 3e-3)
        vectors = lambda: torch.nn.functional.normalize(refiner.text(ids, lengths), dim=-1)
        for _ in range(steps):
            optimiser.zero_grad()
            triplet_loss(*vectors().chunk(3), sign=sign).backward()
            optimiser.step()
        return (vectors()[:2] - vectors()[4:]).square().sum(-1).mean().item()

    assert spread(1, 100) < .1 * spread(-1, 0) and spread(-1, 100) > .3


def test_refiner_sees_words_not_padding_and_learns():
    bert = dict(vocab_size=40,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=32)
    torch.manual_seed(0)
    words = WordFeatures(bert, 30, 1)
    words.pieces[:, 0] = torch.arange(30)
    refiner = TextRefiner(words).eval()
    ids, lengths = padded([[1, 2, 3], [4, 5, 6, 7, 8]])
    alone, n = padded([[1, 2, 3]])
    torch.testing.assert_close(refiner.text(ids, lengths)[:1], refiner.text(alone, n))
    assert refiner.features(ids).min() > 0 and refiner.features(ids).max() < 1
    with pytest.raises(ValueError, match="text 1 has no word"):
        padded([[1], []])
    target = torch.zeros(2, 14, dtype=torch.long)
    target[1, 3] = 1
    out = refiner(torch.cat([ids, ids, ids]), lengths.repeat(3), ids, lengths, target)
    out.loss.backward()
    assert all(p.grad is not None for n, p in refiner.named_parameters() if "token_type" not in n)
    assert refiner(*padded([]), ids, lengths, target).loss.isfinite() # no triplet in the batch
    three = torch.tensor([[1, 2, 3], [1, 2, 4], [1, 2, 5]])
    rows = torch.tensor([0, 1, 2]) # 4 says what 3 says, 5 the opposite
    gap = lambda: separation(refiner.eval().text(three, torch.tensor([3, 3, 3])),
                             np.array([[0, 1, 2, 3], [1, 0, 2, 3]]))
    optimiser = torch.optim.Adam(refiner.parameters(), .01)
    for _ in range(80):
        optimiser.zero_grad()
        refiner(three[rows], torch.tensor([3, 3, 3]), ids, lengths, target).loss.backward()
        optimiser.step()
    out = refiner(three[rows], torch.tensor([3, 3, 3]), ids, lengths, target).loss.item()
    assert gap() == 1 and out < .3 # it learns
    v = torch.eye(3)
    found = np.array([[0, 0, 1, 2], [0, 1, 0, 2], [0, 1, 2, 2]])
    assert separation(v, found) == pytest.approx(.5) and np.isnan(separation(v, found[:0]))
