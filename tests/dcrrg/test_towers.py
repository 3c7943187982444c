"""Exported from nbs/13g_towers.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import replace
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from rrg_core.data.study import FIVE, OBSERVATIONS
from rrg_core.data.weights import read_weights
from rrg_core.dcrrg.matching import dcclip_of
from rrg_core.dcrrg.observation_pretraining import asked_all, aurocs, films, image_tower, labels_of, new_image_tower, save_weights
from rrg_core.dcrrg.probes import KS, clip_vectors, competition_labels, drawn_films, film_precisions, linear_scores, retrieval_set, tower_embeddings
from rrg_core.engine.settings import Profile
from rrg_core.labels import label_many
from rrg_core.learning.writers import images_of
from rrg_core.nets.encoders import ResNetConfig, build_encoder
from rrg_core.nets.training import fit
import pytest
from rrg_core.nets.encoders import SmallPyramid, SmallPyramidConfig
from rrg_core.dcrrg.towers import *


def test_a_tuned_tower_learns_and_its_encoder_moves():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 120, (6, 1, 32, 32)).astype("u1")
    targets = np.zeros((6, 5))
    targets[:3, 0] = targets[1:4, 3] = 1
    pixels[:3, 0, :16] += 100
    pixels[1:4, 0, 16:] += 100
    torch.manual_seed(0)
    model = Tuned(SmallPyramid(SmallPyramidConfig(widths=(8, 8, 16, 16, 16), neck=8, labels=14)))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    history = tune_one(model, pixels, targets, 60, batch=12, rate=1e-2, weight_decay=0.)
    loss = history.frame().loss
    assert loss.iloc[-5:].mean() < .3 < .5 < loss.iloc[0]
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, start[k])}
    assert any(k.startswith("encoder.") for k in moved) and not any(k.startswith("encoder.head") for k in moved)
    out = model.eval()(torch.from_numpy(pixels))
    assert out.loss is None and out.logits.shape == (6, 5)
    want = F.binary_cross_entropy_with_logits(out.logits, torch.from_numpy(targets).float())
    torch.testing.assert_close(model(torch.from_numpy(pixels), torch.from_numpy(targets).float()).loss, want)


def test_a_row_of_each_kind_from_films_to_a_table():
    import tempfile
    from rrg_core.dcrrg import DEFAULTS
    from rrg_core.engine.settings import profile
    from rrg_core.learning.standins import train_standin

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_FIGURES", d + "/figures")
        patch.setenv("RRG_CACHE", d + "/cache")
        p = replace(profile("smoke"), train=24, valid=4, test=6, image_size=64)
        for name in ("standin-shapes-resnet", "standin-phantom-bert", "standin-shapes-towers"):
            train_standin(name, p, say=str)
        s = DEFAULTS(p, "towers") | dict(tested=2, shares=[.5, 1.], runs=2)
        told = tower_answers(s, 0, p)
        test, found = (told[told["set"] == k] for k in ("test", "5x200"))
        assert len(test) == 12 and len(found) == 10 and told.study_id.is_unique
        odds = of_observations(told, "odds")
        assert odds.shape == (12, 14) and np.isfinite(odds).all()
        images = asked_films(s, p)[0]
        np.testing.assert_allclose(odds, step1_odds(s, images, 0, p), rtol=1e-3, atol=1e-3)
        assert of_runs(told, .5).shape == (6, 2, 5) and of_runs(told, 1.).shape == (6, 1, 5)
        assert found["P@10"].between(0, 1).all() and test["P@10"].isna().all()
        labels = label_many(asked_films(s, p)[1].findings.tolist())
        np.testing.assert_array_equal(of_observations(told, "label"), labels)
        few = tower_answers(s, 0, p, 4)
        assert few.equals(told[list(few)][:4])
        plain = tower_answers(s | dict(step1=False, matching=None), 0, p)
        assert not any(c.startswith("odds") for c in plain)
        clip = clip_answers(DEFAULTS(p, "clip") | dict(tested=2), p)
        assert clip.study_id.tolist() == found.study_id.tolist() # the same films
        tuned = DEFAULTS(p, "tuned") | dict(tested=2, shares=[.5], runs=2, epochs=1, least=1)
        folder = Path(d, "tuned")
        folder.mkdir()
        tune(folder, tuned, 0, p)
        said = tuned_answers(folder, tuned, p)
        assert of_runs(said, .5).shape == (6, 2, 5) and set(tower_scores(said)) <= {"AUROC"}
        assert tuned_answers(folder, tuned, p, 3).equals(said[:3])
        assert set(tower_scores(told)) <= {"P@10", "AUROC"} and "P@10" in tower_scores(clip)
