"""Exported from nbs/02_phantom.ipynb: edit it there, then run `nbdev-export`."""
import os, sys
from dataclasses import dataclass, replace
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from zlib import crc32
import numpy as np
import pandas as pd
from threadpoolctl import ThreadpoolController
from rrg_core.phantom.anatomy import Anatomy
from rrg_core.phantom.canvas import Canvas, fractal
from rrg_core.phantom.devices import draw_devices
from rrg_core.phantom.film import Look, cables, photograph, sample_look, stamp
from rrg_core.phantom.findings import Scan, draw_findings
from rrg_core.phantom.organs import airway, body, mediastinum, skeleton, soft_parts, vessels
from rrg_core.phantom.scene import Finding, Scene, sample_scene, stream
from rrg_core.phantom.sites import classes_at, labels_at, report_at, scene_at, site as site_named
from rrg_core.engine.code import todays_code
from rrg_core.engine.settings import cache_root, profile as load_profile
from rrg_core.engine.store import Artifact
from rrg_core.data.storage import Studies
from rrg_core.data.study import OBSERVATIONS, REGIONS, SPLITS, Box, Image, Study, named
import os, time, pytest, tempfile, numpy as np, pandas as pd, matplotlib.pyplot as plt
from dataclasses import replace
from PIL import Image as Picture, ImageDraw
from scipy.stats import wasserstein_distance
from rrg_core.engine.desk import Chapter, explore
from rrg_core.phantom.anatomy import Anatomy, phantom_frames, real_lungs
from rrg_core.phantom.canvas import Canvas
from rrg_core.phantom.film import Look
from rrg_core.phantom.probes import borders, learnability, transfer_snapshot
from rrg_core.phantom.errors import error_table
from rrg_core.phantom.scene import FINDINGS, KINDS, Finding, Scene, chexpert_frontals, place_statistics, sample_scene
from rrg_core.phantom.sites import class_table, site_table
from rrg_core.labels import label
from rrg_core.phantom.statistics import grammar_tables
from rrg_core.data.study import OBSERVATIONS, REGIONS
from rrg_core.engine.experiments import kept
from rrg_core.phantom import *


def test_render_is_reproducible():
    a, b = render(5, 96), render(5, 96)
    assert a.image.dtype == np.uint8 and a.image.shape == (96, 96)
    np.testing.assert_array_equal(a.image, b.image)
    assert a.regions == b.regions and a.findings == b.findings and (render(6, 96).image != a.image).any()


def test_render_limits_blas_and_sets_it_back():
    from threadpoolctl import threadpool_limits
    import rrg_core.phantom as module

    threads = lambda: [lib["num_threads"] for lib in module._BLAS.info()]
    seen, photograph = [], module.photograph
    with threadpool_limits(2, "blas"), pytest.MonkeyPatch.context() as m:
        before = threads()
        m.setattr(module, "photograph", lambda *args: (seen.append(threads()), photograph(*args))[1])
        limited = module.render(3, 64).image
        assert threads() == before == [2] * len(before) and seen == [[1] * len(before)]
        for wrong in (dict(site="nowhere"), dict(colour=1)):
            with pytest.raises((ValueError, TypeError)):
                module.render(3, 64, **wrong)
            assert threads() == before
    assert (limited == render(3, 64).image).all() and render.__doc__.startswith("Draw a scene")


def test_twins_differ_where_the_finding_is():
    healthy = sample_scene(23, only=(), ap=0.)
    sick = healthy.plus(Finding("Lung Lesion", "mass", "right", "", .5, place=(.5, .5), key="Lung Lesion 0"))
    a, b = render(healthy, 128), render(sick, 128)
    box = b.findings[0].box
    change = abs(a.image.astype(int) - b.image)
    m = 8
    inside = np.zeros((128, 128), bool)
    inside[int(box.y0) - m:int(box.y1) + m, int(box.x0) - m:int(box.x1) + m] = True
    assert a.regions == b.regions and change[inside].max() > 20 and np.percentile(change[~inside], 99) <= 2


def test_load_renders_once_and_splits_do_not_meet():
    with tempfile.TemporaryDirectory() as d:
        a = load("valid", d, n=5, size=48)
        files = sorted(Path(d).rglob("*.arrow"))
        stamp_ = files[0].stat().st_mtime_ns
        b = load("valid", d, n=5, size=48)
        assert len(files) == 1 and files[0].stat().st_mtime_ns == stamp_ and len(a) == len(b) == 5
        np.testing.assert_array_equal(a[2].images[0].load(), b[2].images[0].load())
        assert a[2].labels == b[2].labels and a[2].report == b[2].report and a[2].meta["synthetic"]
        load("valid", d, n=5, size=48, flat=1.)
        assert len(list(Path(d).rglob("*.arrow"))) == 2
    used = [
        set(seeds(s, 1000, h)) for s in ("train", "valid", "test")
        for h in ("hospital", "clinic", "levante", "harbour", "highland")
    ]
    assert len(set.union(*used)) == 15_000
    with pytest.raises(ValueError, match="split"):
        load("dev")
    with pytest.raises(ValueError, match="unknown site"):
        seeds("train", 3, "mars")


def test_workers_do_not_change_a_byte():
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        a, b = load("test", one, n=6, size=48), load("test", two, n=6, size=48, workers=2)
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x.images[0].load(), y.images[0].load())
            assert x.study_id == y.study_id and x.regions == y.regions and x.sentences == y.sentences


def test_texture_of_known_noise():
    rng = np.random.default_rng(0)
    white = np.clip(rng.normal(128, 20, (224, 224)), 0, 255).astype("u1")
    t = texture(white)
    assert abs(t["slope"]) < .05 and abs(t["mean"] -
                                         127.5) < .5 and abs(t["sd"] - 20) < .3 # white noise has a flat spectrum
    assert texture(np.repeat(np.repeat(white[::4, ::4], 4, 0), 4, 1))["slope"] < -1


def test_phantom_is_quick_to_import():
    import subprocess, sys

    heavy = set(
        "torch datasets matplotlib scipy sklearn seaborn torchxrayvision transformers nltk IPython numba".split())
    code = "import rrg_core.phantom, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert "rrg_core.phantom" in loaded and not heavy & set(loaded), heavy & set(loaded)
