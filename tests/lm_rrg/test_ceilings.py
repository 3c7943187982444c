"""Exported from nbs/14f_ceilings.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from rrg_core.data.study import REGIONS, Box, Study
from rrg_core.engine.settings import Profile
from rrg_core.labels import label_many
from rrg_core.learning.ceilings import swapped as swapped_inputs
from rrg_core.learning.writers import Studies, split_of, spoken
from rrg_core.lm_rrg.cqrl import LmRrgSystem, seen_by
from rrg_core.lm_rrg.model import LmRrg
from rrg_core.lm_rrg.regions import Extractor
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.reports.tokenizers import decode
import pytest
from rrg_core.lm_rrg.model import tiny_lm_rrg
from rrg_core.lm_rrg.ceilings import *


def test_coverage_is_an_area():
    assert coverage(Box("a", 0, 0, 40, 40), 40, (4, 4)).tolist() == [1.] * 16
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = np.sort(rng.integers(0, 41, 2)), np.sort(rng.integers(0, 41, 2))
        if x[0] == x[1] or y[0] == y[1]: continue
        painted = np.zeros((40, 40))
        painted[y[0]:y[1], x[0]:x[1]] = 1
        want = painted.reshape(5, 8, 4, 10).mean((1, 3)).ravel() # 5 rows, 4 columns
        np.testing.assert_allclose(coverage(Box("a", x[0], y[0], x[1], y[1]), 40, (5, 4)), want)


def test_who_looks_nowhere_has_the_area():
    rng = np.random.default_rng(0)
    places = np.zeros((6, 29, 16), "f4")
    places[..., :4] = 1
    places[0, 3] = np.nan
    flat = attention_table(np.full((6, 29, 16), 1/16), places, 20)
    assert len(flat) == 29 and np.allclose(flat.times, 1) and flat.n.tolist().count(5) == 1
    sure = np.zeros((6, 29, 16))
    sure[..., 2] = 1
    assert np.allclose(attention_table(sure, places, 20).times, 4)
    model = tiny_lm_rrg(regions=29)
    maps = looked(model, torch.randn(2, 9, 16))
    assert maps.shape == (2, 29, 9)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 29))


def test_parts_are_exchanged_one_at_a_time():
    torch.manual_seed(0)
    model, cells = tiny_lm_rrg(regions=29), torch.randn(3, 9, 16)
    own, table = model.see(cells), model.extractor.table.clone()
    places = np.zeros((3, 29, 9), "f4")
    places[..., 4] = 1
    places[:, 0] = np.nan
    found = {(part, what): x for part, what, x in exchanged(model, cells, places)}
    assert set(w for p_, w in found if p_ == "places") == {"even attention", "true boxes"} and len(found) == 9
    assert torch.equal(model.extractor.table, table) # as it was
    torch.testing.assert_close(region_features(model.extractor, cells), own[:, 1:])
    for (part, what), x in found.items():
        same = (x == own).all(-1).all(0) # slots that nothing has changed
        assert x.shape == own.shape and same[0] == (part != "global feature"), (part, what)
        assert same[1:].all() == (part == "global feature"), (part, what)
    assert torch.equal(found["region features", "another study's"][1, 1:], own[0, 1:])
    moved = cells.clone()
    moved[:, :4] += 1 # outside of the true boxes nothing is seen
    boxed = {w: x for p_, w, x in exchanged(model, moved, places) if p_ == "places"}["true boxes"]
    e = model.extractor
    one = e.regions.blocks[0].cross(torch.randn(1, 29, 16), torch.randn(1, 9, 16),
                                    torch.from_numpy(places[:1] > 0)[:, None] | torch.tensor(False))
    assert one.shape == (1, 29, 16) and boxed.shape == own.shape
    bare = tiny_lm_rrg(reading=None)
    assert {p_ for p_, _, _ in exchanged(bare, cells)} == {"global feature"}


def test_a_trained_model_is_asked_for_all_of_its_parts():
    import tempfile
    from rrg_core.engine.experiments import merged
    from rrg_core.engine.settings import profile
    from rrg_core.learning.ceilings import ceilings
    from rrg_core.learning.standins import train_standin
    import rrg_core.lm_rrg as lm_rrg_module

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d + "/figures")
        m.setenv("RRG_CACHE", d + "/cache")
        p = replace(profile("smoke"), train=12, valid=5, test=6)
        for name in ("standin-phantom-towers", "standin-shapes-llama"): train_standin(name, p, say=str)
        s = merged(lm_rrg_module, "no-cqrl", p) | dict(epochs=1, batch=6, judged=2, tested=1)
        system, folder = LmRrgSystem(s, p), Path(d, "model")
        folder.mkdir()
        system.train(folder, 0)
        worth = swapped(system, folder, 5, 20)
        assert set(worth.input) == {"all its own", "features", "global feature", "region features", "texts",
                                    "places", "instruction"} and (worth.n == 5).all()
        assert worth.change[1:].notna().all() and ((worth.low <= worth.high) | worth.low.isna()).all()
        assert set(worth[worth.input == "places"].replaced_by) == {"even attention", "true boxes"}
        top = ceilings(system, folder, films_of(system, 6), (1, ))
        assert top.notna().all().all() and "the model's own heads" in set(top.reader)
