"""Exported from nbs/13e_retrieval_and_probes.ipynb: edit it there, then run `nbdev-export`."""
from functools import partial
from types import SimpleNamespace
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rrg_core.data.study import FIVE, OBSERVATIONS, named
from rrg_core.dcrrg.matching import Dcclip, embedded, paired
from rrg_core.dcrrg.observation_pretraining import aurocs, labels_of
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.labels import label_many
from rrg_core.learning.published import chosen, found_for
from rrg_core.learning.quality import probe, tower_vectors
from rrg_core.learning.writers import images_of
from rrg_core.metrics.retrieval import precision_at_k
from rrg_core.nets.encoders import scaled
import matplotlib.pyplot as plt
import pytest
from rrg_core.phantom import render, seeds
from rrg_core.phantom.scene import draw_observations, stream
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.results.figures import show_image
from rrg_core.dcrrg.probes import *


def test_exclusive_is_one_of_five_and_nothing_else():
    at = OBSERVATIONS.index
    rows = np.full((6, 14), np.nan)
    rows[0, at("Edema")] = rows[1, at("Edema")] = rows[2, at("Edema")] = 1
    rows[0, at("Pneumothorax")] = 0 # a negative is no matter
    rows[1, at("Support Devices")] = 1
    rows[2, at("Fracture")] = -1
    rows[3, at("Pneumothorax")] = 1 # alone, and none of the five
    rows[4, at("Atelectasis")], rows[4, at("No Finding")] = 1, 1 # not looked at
    rows[5, at("Consolidation")] = -1
    assert exclusive(rows).tolist() == [FIVE.index("Edema"), -1, -1, -1, FIVE.index("Atelectasis"), -1]


def test_the_retrieval_set_is_exclusive_and_new():
    import tempfile
    from dataclasses import replace
    from rrg_core.data import load
    from rrg_core.engine.settings import profile

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_CACHE", d)
        p = replace(profile("smoke"), test=6, image_size=32)
        images, table = retrieval_set(p, per_class=2, tested=2)
        assert images.shape == (10, 1, 32, 32) and table["class"].tolist() == [c for c in range(5) for _ in "ab"]
        assert table.study_id.is_unique
        for name, c, image in zip(table.study_id, table["class"], images):
            number = int(name.rpartition("-")[2])
            truth = scene_at("structured", number).labels()
            positive = {o for o, v in truth.items() if v and o != "No Finding"}
            assert positive == {FIVE[c]} and truth[FIVE[c]] == 1 # by what was drawn
            assert (image[0] == render(number, 32, "structured").image).all()
        said = label_many(table.findings.tolist())
        assert exclusive(said).tolist() == table["class"].tolist() # and by the text
        tested = {s.study_id for s in load("phantom", "test", site="structured", n=12, size=32)}
        assert not tested & set(table.study_id)
        again, same = retrieval_set(p, per_class=2, tested=2)
        assert same.equals(table)
        with pytest.raises(CourseError, match="one of the five classes alone"):
            m.setattr("rrg_core.phantom.seeds", lambda *a: range(110_000_000, 110_000_020))
            retrieval_set(p, per_class=3, tested=2)


def test_precision_at_chance_at_best_and_without_the_own_text():
    classes = np.repeat(range(5), 40)
    rng = np.random.default_rng(0)
    by_lot = precisions(*rng.standard_normal((2, 200, 32)), classes)
    for k, value in by_lot.items(): # of 2,000 pairs at P@10
        assert abs(value - 39 / 199) < 4 * np.sqrt(.2 * .8 / (200 * int(k[2:])))
    best = np.eye(5)[classes] + 1e-3 * rng.standard_normal((200, 5))
    assert set(precisions(best, best, classes).values()) == {1.}
    own = rng.standard_normal((200, 32)) # knows its own text by heart, and nothing of the class
    assert precisions(own, own, classes, ks=(1, ))["P@1"] < .35
    wrong = np.eye(5)[(classes + 1) % 5]
    assert precisions(best, wrong, classes, ks=(5, ))["P@5"] == 0
    each = film_precisions(*rng.standard_normal((2, 200, 32)), classes, ks=(1, 5))
    assert each.shape == (200, 2) and set(each[:, 0]) <= {0., 1.}
    assert set((5 * each[:, 1]).round(9)) <= set(range(6))


def test_clip_or_what_stands_in_for_it():
    import tempfile
    from rrg_core.engine.settings import profile
    from rrg_core.learning.pretraining import make_tokenizer
    from rrg_core.learning.standins import train_standin
    from transformers import CLIPConfig, CLIPModel

    reports = ["The heart is enlarged.", "No effusion.", "Left effusion."]
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d + "/figures")
        m.delenv("RRG_ROOT_WEIGHTS", raising=False)
        p = profile("smoke")
        train_standin("standin-shapes-towers", p, say=str)
        for part in clip_vectors(images, reports, p):
            np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, rtol=1e-5)
        words, folder = make_tokenizer("wordpiece", reports, 300), f"{d}/weights/openai-clip"
        small = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        config = CLIPConfig(projection_dim=8, vision_config=small | dict(image_size=32, patch_size=16),
                            text_config=small | dict(vocab_size=len(words), max_position_embeddings=16))
        CLIPModel(config).save_pretrained(folder)
        words.save_pretrained(folder)
        m.setenv("RRG_ROOT_WEIGHTS", f"{d}/weights")
        image, text = clip_vectors(images, reports, p, batch=2)
        assert image.shape == text.shape == (3, 8)
        np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, rtol=1e-5)


def test_lines_read_what_is_there():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((900, 14)) < .3, 1., np.nan)
    labels[rng.random((900, 14)) < .05] = -1
    five = competition_labels(labels)
    edema, heart = (labels[:, OBSERVATIONS.index(o)] for o in ("Edema", "Cardiomegaly"))
    assert five[:, FIVE.index("Edema")].tolist() == np.isin(edema, (1, -1)).tolist()
    assert five[:, FIVE.index("Cardiomegaly")].tolist() == (heart == 1).tolist()
    x = five @ rng.standard_normal((5, 20)) + .3 * rng.standard_normal((900, 20))
    good, blind = linear_aurocs(x[:600], labels[:600], x[600:], labels[600:]), linear_aurocs(
        rng.standard_normal((600, 20)), labels[:600], rng.standard_normal((300, 20)), labels[600:])
    assert good.min() > .95 and abs(blind.mean() - .5) < .06 # 5 · 300 films: three standard errors
    few = linear_aurocs(x[:600], labels[:600], x[600:], labels[600:], share=.01)
    assert .5 < few.mean() < good.mean()
    none = np.where(np.arange(14) == OBSERVATIONS.index("Edema"), np.nan, labels) # a class that nobody is shown
    assert linear_aurocs(x[:600], none[:600], x[600:], labels[600:])[FIVE.index("Edema")] == .5
    table = linear_table({"a": (x[:600], x[600:])}, labels[:600], labels[600:], runs=3)
    assert len(table) == 7 and table[table.share == .01].AUROC.nunique() == 3
    again = linear_table({"a": (x[:600], x[600:])}, labels[:600], labels[600:], runs=3)
    assert again.equals(table)
    for wrong in (0, 1.5, -1):
        with pytest.raises(ValueError, match="share must lie"): linear_aurocs(x, labels, x, labels, wrong)


def test_observations_in_a_table():
    labels = np.zeros((200, 14))
    labels[:100, 0] = labels[:10, 1] = labels[5:100, 2] = 1
    labels[150:, 0] = -1
    scores = {"right": labels.copy(), "reversed": -labels}
    table = observation_table(scores, labels)
    assert table.right[["Enlarged Cardiomediastinum", "Cardiomegaly"]].tolist() == [1, 1]
    assert np.isnan(table.right["Fracture"]) and table.reversed["Cardiomegaly"] == 0
    assert table.positives["rare"] == 10 and table.positives["frequent"] == 195
    assert table.right["mean"] == 1 and table.index[-3:].tolist() == ["mean", "rare", "frequent"]
