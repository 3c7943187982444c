"""Exported from nbs/13i_ceilings.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable, Sequence
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from rrg_core.data.study import OBSERVATIONS
from rrg_core.data.weights import read_weights
from rrg_core.dcrrg.descriptions import Describer, describe, describer_config, trained_describer, vectors_of
from rrg_core.dcrrg.observation_pretraining import asked_all, aurocs, new_text_tower, text_tower, texts
from rrg_core.dcrrg.prompt_tuning import DcrrgSystem
from rrg_core.engine.settings import Profile
from rrg_core.labels import label_many
from rrg_core.learning.baselines import nearest_labels
from rrg_core.learning.ceilings import SWAPS, another, best_cuts, noise
from rrg_core.learning.ceilings import ceilings as readers_of, swapped as swapped_inputs
from rrg_core.learning.writers import Studies, images_of
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.metrics.text import text_scores
import pytest
from rrg_core.dcrrg.ceilings import *


def test_replacements_touch_what_they_name():
    from rrg_core.dcrrg.ceilings import _f1

    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 14, 4)).astype("f2")
    rolled, mean, third = next_prompt(x), one_for_all(x), other_s_vector(2)(x)
    assert np.array_equal(rolled[:, 1:], x[:, :-1]) and np.array_equal(rolled[:, 0], x[:, -1])
    np.testing.assert_allclose(mean[:, 5].astype("f4"), x.astype("f4").mean(1), atol=2e-3)
    assert mean.dtype == x.dtype and np.array_equal(np.delete(third, 2, 1), np.delete(x, 2, 1))
    assert np.array_equal(third[:, 2], np.roll(x[:, 2], 1, 0)) and not np.array_equal(third, x)
    assert np.array_equal(vector_swaps(x)["the text's"](x[:2] + 1), x[:2]) and "the text's" not in vector_swaps()
    truth = np.array([[1, 0, np.nan], [1, 1, np.nan]])
    found = _f1(np.array([[1, 1, np.nan], [0, np.nan, np.nan]]), truth)
    assert found[:2].tolist() == [pytest.approx(2 / 3), 0] and np.isnan(found[2])


def test_readers_of_a_trained_model():
    import tempfile
    from dataclasses import replace
    from rrg_core.dcrrg import DEFAULTS
    from rrg_core.engine.settings import profile
    from rrg_core.learning.standins import train_standin
    from rrg_core.learning.writers import split_of

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_FIGURES", d + "/figures")
        patch.setenv("RRG_CACHE", d + "/cache")
        p = replace(profile("smoke"), train=24, valid=6, test=6, image_size=64)
        for name in ("standin-shapes-resnet", "standin-phantom-bert"): train_standin(name, p, say=str)
        s = DEFAULTS(p) | dict(judged=2, tested=1)
        system, folder = DcrrgSystem(s, p, 0), Path(d, "model")
        folder.mkdir()
        system.train(folder, 0)
        top = ceilings(system, folder, split_of(p, "test", s["site"]), (1, )).set_index("reader")
        assert top.loc["the scene, as its report words it", "micro"] > .9 # but for what a report leaves out
        assert {"step 1's text tower, which reads the report", "its reports, greedy"} < set(top.index)
        assert top.notna().all().all() and top.ge(0).all().all() and top.le(1).all().all()
        worth = swapped(system, folder, 4, 20)
        assert set(worth.input) == {"all its own", "features", "prefix"} and len(worth) == 9
        assert worth.n.eq(4).all() and worth.change[1:].notna().all()
        one = single_vectors(system, folder, 4)
        np.testing.assert_allclose(one.swapped - one.own, one.change)
        assert len(one) == 14 and one.positives.sum() > 0
        room = wording(system, folder, 4).set_index("reader")
        assert room.loc["the same scene, reported again", "micro"] > .8 and room.notna().all().all()
        table, odds = images_of("test", s["site"], p, str)[1], np.random.default_rng(0).standard_normal((6, 14))
        eyes = observation_ceilings(odds, s, 0, p, table, split_of(p, "test", s["site"]))
        assert eyes["perfect eye"].dropna().min() > .7 and len(eyes) == 14
