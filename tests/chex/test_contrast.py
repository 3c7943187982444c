"""Exported from nbs/12d_contrast.ipynb: edit it there, then run `nbdev-export`."""
import torch
import torch.nn.functional as F
from torch import Tensor
from rrg_core.chex.matching import mean_where
from rrg_core.data.study import named
import numpy as np, pytest, torch
import matplotlib.pyplot as plt
from rrg_core.phantom import render
from rrg_core.chex.contrast import *


def test_a_negative_prompt():
    assert negated("Edema") == "No edema" and negated(" Lung Opacity ") == "No lung opacity"
    for wrong in ("", "  ", None, 3, ["Edema"], b"Edema"):
        with pytest.raises(ValueError, match="a prompt is a text"): negated(wrong)


def test_info_nce_is_a_cross_entropy():
    torch.manual_seed(0)
    s, index = torch.randn(6, 9), torch.randint(9, (6, ))
    own = F.one_hot(index, 9).bool()
    for form in CONTRASTS: # one answer against all others: PyTorch's own
        torch.testing.assert_close(info_nce(s, own, ~own, form), F.cross_entropy(s, index, reduction="none"))
    answers, against = torch.rand(6, 9) < .4, torch.rand(6, 9) < .4
    against &= ~answers
    answers[0], against[1] = False, False # no answer; no competitor
    def by_hand(i, form):
        out, e = [], np.exp(s[i].double().numpy())
        for a in np.flatnonzero(answers[i]):
            rivals = against[i].numpy() | (form == "code") & answers[i].numpy() & (np.arange(9) != a)
            out.append(-np.log(e[a] / (e[a] + e[rivals].sum())))
        return np.mean(out) if out else 0

    for form in CONTRASTS:
        got = info_nce(s, answers, against, form)
        np.testing.assert_allclose(got, [by_hand(i, form) for i in range(6)], atol=1e-5)
    z = s.clone().requires_grad_()
    (info_nce(z, answers, against).sum() + info_nce(z, answers, against, "code").sum()).backward()
    assert z.grad.isfinite().all() and (z.grad[0] == 0).all()
    nobody = torch.zeros(6, 9, dtype=torch.bool)
    assert (info_nce(s, nobody, ~nobody) == 0).all() and (info_nce(s, ~nobody, nobody) == 0).all()
    for wrong in ("Paper", None, "clip"):
        with pytest.raises(ValueError, match="paper, code"): info_nce(s, own, ~own, wrong)


def test_class_loss_by_loops():
    rng = np.random.default_rng(0)
    b, c, d, tau = 3, 4, 5, .2
    roi, positive, negative = rng.normal(size=(b, c, d)), rng.normal(size=(c, d)), rng.normal(size=(c, d))
    present = np.array([[1, 0, 1, np.nan], [0, 0, 0, 0], [np.nan] * 4])
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    def by_hand(form):
        studies = []
        for i in range(b):
            losses = []
            for k in range(c):
                if np.isnan(present[i, k]): continue
                yes, no = (np.exp(unit(roi[i, k]) @ unit(p).T / tau) for p in (positive, negative)) # (c,)
                answer = yes[k] if present[i, k] else no[k]
                labelled = ~np.isnan(present[i])
                if form == "code": rest = yes[labelled].sum() + no[labelled].sum() - answer
                else: rest = yes[present[i] == 0].sum() + no[present[i] == 1].sum()
                losses.append(-np.log(answer / (answer + rest)))
            if losses: studies.append(np.mean(losses))
        return np.mean(studies)

    tensors = [torch.tensor(v, dtype=torch.float32) for v in (roi, positive, negative, present)]
    for form in CONTRASTS:
        assert class_loss(*tensors, tau, form).item() == pytest.approx(by_hand(form), rel=1e-5)
    roi = tensors[0].requires_grad_()
    class_loss(roi, *tensors[1:]).backward()
    touched = roi.grad.abs().sum(-1) > 0
    assert touched.equal(~tensors[3].isnan()) and roi.grad.isfinite().all()
    unlabelled = class_loss(roi, *tensors[1:3], torch.full((3, 4), torch.nan))
    assert unlabelled.item() == 0 and not unlabelled.requires_grad
    assert class_loss(torch.zeros(3, 4, 5), *tensors[1:]).isfinite() # a token of length 0 has no direction


def test_finding_loss_by_loops():
    rng = np.random.default_rng(0)
    b, r, c, d, tau = 2, 3, 4, 5, .25
    roi, positive, negative = rng.normal(size=(b, r, d)), rng.normal(size=(c, d)), rng.normal(size=(c, d))
    present = np.where(rng.random((b, r, c)) < .2, np.nan, rng.random((b, r, c)) < .4)
    present[0, 1] = np.nan # a region without labels
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    def by_hand(form):
        losses = []
        for i, j in np.ndindex(b, r):
            yes, no = (unit(roi[i, j]) @ unit(p).T / tau for p in (positive, negative))
            on, off = present[i, j] == 1, present[i, j] == 0
            true, false = np.r_[yes[on], no[off]], np.r_[yes[off], no[on]]
            if not len(true): continue
            if form == "code": # Eq. 7: −mean of the answers + log-sum-exp over answers and competitors
                losses.append(-true.mean() + np.log(np.exp(np.r_[true, false]).sum()))
            else: losses.append(np.mean([np.log(1 + np.exp(false - t).sum()) for t in true]))
        return np.mean(losses)

    tensors = [torch.tensor(v, dtype=torch.float32) for v in (roi, positive, negative, present)]
    for form in CONTRASTS:
        assert finding_loss(*tensors, tau, form).item() == pytest.approx(by_hand(form), rel=1e-5)
    roi = tensors[0].requires_grad_()
    finding_loss(roi, *tensors[1:]).backward()
    assert (roi.grad.abs().sum(-1) > 0).equal(~tensors[3].isnan().all(-1)) and roi.grad.isfinite().all()
    unlabelled = finding_loss(roi, *tensors[1:3], torch.full((2, 3, 4), torch.nan))
    assert unlabelled.item() == 0 and not unlabelled.requires_grad


def test_sentence_loss_is_a_cross_entropy_over_the_batch():
    torch.manual_seed(0)
    roi, texts = torch.randn(3, 4, 6, requires_grad=True), torch.randn(3, 4, 6)
    there = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    unit = lambda x: x / x.norm(dim=-1, keepdim=True)
    s = unit(roi[there]) @ unit(texts[there]).T / .25
    own = torch.arange(6)
    each = F.cross_entropy(s, own, reduction="none")
    want = (each[:4].mean() + each[4:].mean()) / 2 # of a study first
    torch.testing.assert_close(sentence_loss(roi, texts, there), want)
    back = F.cross_entropy(s.T, own, reduction="none")
    torch.testing.assert_close(sentence_loss(roi, texts, there, directions=2),
                               (want + (back[:4].mean() + back[4:].mean()) / 2) / 2)
    sentence_loss(roi, texts, there, directions=2).backward()
    assert (roi.grad.abs().sum(-1) > 0).equal(there)
    none = sentence_loss(roi, texts, there & False)
    assert none.item() == 0 and not none.requires_grad
    assert sentence_loss(roi[:1, :1], texts[:1, :1], there[:1, :1]).item() == 0 # one sentence has no rival
    for wrong in (0, 3, None, "both"):
        with pytest.raises(ValueError, match="1 or 2"): sentence_loss(roi, texts, there, directions=wrong)


def test_the_same_words_do_not_compete():
    torch.manual_seed(0)
    roi, texts, there = torch.randn(2, 2, 6), torch.randn(2, 2, 6), torch.ones(2, 2, dtype=torch.bool)
    texts[1, 0] = texts[0, 0] * 1.00001 # the same up to rounding
    assert alike(texts.flatten(0, 1)).sum() == 6 # each with itself, and the pair twice
    s = cosines(roi.flatten(0, 1), texts.flatten(0, 1)) / .25
    hidden = s.clone()
    hidden[0, 2] = hidden[2, 0] = float("-inf")
    own = torch.arange(4)
    torch.testing.assert_close(sentence_loss(roi, texts, there), F.cross_entropy(hidden, own))
    torch.testing.assert_close(sentence_loss(roi, texts, there, alike_compete=True), F.cross_entropy(s, own))


def test_global_loss_is_clips():
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    torch.manual_seed(0)
    patches, texts = torch.randn(5, 9, 6, requires_grad=True), torch.randn(5, 4, 6)
    there = torch.rand(5, 4) < .6
    there[3], there[0, 0] = False, True # a study without sentences
    told = there.any(-1)
    mean = torch.stack([t[k].mean(0) for t, k in zip(texts[told], there[told])])
    unit = lambda x: x / x.norm(dim=-1, keepdim=True)
    s = unit(patches[told].mean(1)) @ unit(mean).T / .2
    theirs = image_text_contrastive_loss(s)
    torch.testing.assert_close(global_loss(patches, texts, there), theirs)
    torch.testing.assert_close(global_loss(patches, texts, there, form="code"), 2 * theirs)
    global_loss(patches, texts, there).backward()
    assert (patches.grad.abs().sum((1, 2)) > 0).equal(told)
    none = global_loss(patches, texts, there & False)
    assert none.item() == 0 and not none.requires_grad
    assert global_loss(patches[:1], texts[:1], there[:1]).item() == 0
    same = texts[:1].expand(5, 4, 6) # five equal reports: nobody is a stranger
    assert global_loss(patches, same, torch.ones(5, 4, dtype=torch.bool)).item() == 0


def test_feature_loss_by_hand():
    torch.manual_seed(0)
    roi, texts = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    there = torch.tensor([[1, 1, 0], [0, 0, 1]]).bool()
    each = [[((roi[i, j] - texts[i, j])**2).sum() for j in range(3)] for i in range(2)]
    torch.testing.assert_close(feature_loss(roi, texts, there), ((each[0][0] + each[0][1]) / 2 + each[1][2]) / 2)
    texts[0, 2] = torch.nan # what is not there may be anything
    loss = feature_loss(roi, texts, there)
    loss.backward()
    assert loss.isfinite() and roi.grad.isfinite().all() and (roi.grad.abs().sum(-1) > 0).equal(there)
    assert not feature_loss(roi, texts, there & False).requires_grad
