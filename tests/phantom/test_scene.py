"""Exported from nbs/02a_scene.ipynb: edit it there, then run `nbdev-export`."""
import re
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32
import numpy as np
import pandas as pd
from rrg_core.data.study import OBSERVATIONS, REGIONS, Box, named
import pytest, numpy as np, pandas as pd
from rrg_core.data.study import OBSERVATIONS, REGIONS
from rrg_core.phantom.scene import *


def test_tetrachoric_matches_the_arcsine_law():
    for r in (-.7, 0., .5):
        assert abs(tetrachoric(.5, .5, .25 + np.arcsin(r) / 2 / np.pi) - r) < 1e-3
    assert abs(tetrachoric(.1, .3, .03)) < 1e-3 # independent


def test_copula_constants_come_from_the_table():
    certain, possible, factor = copula()
    rates, doubts, correlation = fit_copula(chexpert_frontals())
    assert abs(certain - rates).max() < 6e-4 and abs(possible - doubts).max() < 6e-4
    assert abs(factor @ factor.T - correlation).max() < .006


def test_drawn_keeps_pairs():
    draws = pd.DataFrame([{o: d.get(o, 0) == 1
                           for o in FINDINGS}
                          for d in (draw_observations(stream(i, "findings")) for i in range(20000))])
    real = chexpert_frontals() == 1
    assert abs(draws.mean() - real.mean()).max() < .012 # four standard errors of a rate of one half
    lift = lambda t, a, b: (t[a] & t[b]).mean() / t[a].mean() / t[b].mean()
    for a, b in [("Edema", "Cardiomegaly"), ("Edema", "Pneumothorax"), ("Pleural Effusion", "Support Devices")]:
        assert abs(lift(draws, a, b) - lift(real, a, b)) < .12


def test_places_come_from_the_boxes():
    table = place_statistics()
    for kind, name in dict(nodule="Nodule", mass="Mass", infiltration="Infiltrate",
                           bronchopneumonia="Pneumonia").items():
        assert abs(table.down[name] - PLACES[kind][0]) < .02 and abs(table.spread[name] - PLACES[kind][1]) < .02


def test_scene_is_reproducible_and_counterfactual():
    a, b = sample_scene(11), sample_scene(11)
    assert a == b and a != sample_scene(12)
    only = sample_scene(11, only=("Support Devices", ))
    assert only.pose == a.pose and only.age == a.age
    assert [f.place for f in only.findings] == [f.place for f in a.findings if f.observation == "Support Devices"]


def test_no_finding_allows_devices_only():
    scenes = [sample_scene(i) for i in range(400)]
    for s in scenes:
        labels = s.labels()
        assert list(labels) == OBSERVATIONS
        others = [v for o, v in labels.items() if o not in ("No Finding", "Support Devices")]
        assert labels["No Finding"] == int(not any(others))
    assert any(s.labels()["No Finding"] and s.labels()["Support Devices"] for s in scenes)


def test_findings_are_well_formed():
    for s in (sample_scene(i) for i in range(600)):
        for f in s.findings:
            assert f.kind in KINDS[f.observation] and f.side in ("", "left", "right",
                                                                 "bilateral") and f.region in ("", *REGIONS)
            assert .05 <= f.severity <= 1 and f.certainty in (1, -1) and bool(f.change) == bool(s.prior)
        assert len({f.key for f in s.findings}) == len(s.findings)


def test_prior_severity_agrees_with_the_change():
    seen = set()
    for s in (sample_scene(i, prior=1.) for i in range(300)):
        was = {f.key: f for f in s.prior.findings}
        for f in s.findings:
            seen.add(f.change)
            if f.change == "new": assert f.key not in was
            else:
                assert np.sign(f.severity - was[f.key].severity) == dict(unchanged=0, increased=1,
                                                                         decreased=-1)[f.change]
    assert seen == {"new", "unchanged", "increased", "decreased"}


def test_sample_scene_refuses():
    for bad in (-1, 1.5, "x"):
        with pytest.raises(ValueError, match="seed"):
            sample_scene(bad)
    with pytest.raises(ValueError, match="Cardiomegally"):
        sample_scene(0, only=("Cardiomegally", ))
