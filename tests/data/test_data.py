"""Exported from nbs/01_data.ipynb: edit it there, then run `nbdev-export`."""
import re
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from rrg_core.engine.code import Registry
from rrg_core.engine.files import entrust
from rrg_core.engine.settings import CourseError, data_root
from rrg_core.data.storage import Studies
from rrg_core.data.study import FIVE, OBSERVATIONS, REGIONS, SPLITS, Box, DataError, Image, Report, Sentence, Study, check_splits, named
import contextlib, io, pytest, tempfile
from importlib.util import module_from_spec, spec_from_file_location
import matplotlib.pyplot as plt, numpy as np, pandas as pd, seaborn as sns
from matplotlib.patches import Ellipse, Rectangle
from rrg_core.engine.desk import Chapter
from rrg_core.data.bundled import chexpert, fingerprint, iu_dicom, iu_records, iu_views, nih, nih_boxes, vindr_boxes, vindr_images, vindr_relative
from rrg_core.data import mimic_cxr, openi
from rrg_core.data.mimic_cxr import PUBLISHED
from rrg_core.data.openi import split_of, text_group
from rrg_core.engine.settings import package_root, repo_root
from rrg_core.data import *


def test_mirror_swaps_all_or_nothing():
    assert swap_sides("Left, RIGHT, leftward and copyright; RUL but RML."
                      ) == "Right, LEFT, rightward and copyright; LUL but RML."
    assert swap_sides("right atrium") == "right atrium" and all(
        swap_sides(r) in REGIONS and swap_sides(swap_sides(r)) == r for r in REGIONS)
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    s = Study("s", "p", "phantom", "train", [Image("i", 5, 4, "PA", pixels=pixels)],
              Report(findings="Right nodule."), {"Lung Lesion": 1}, {"right lung": Box("right lung", 0, 0, 2, 4)},
              [Box("nodule", 1, 1, 2, 2)],
              [Sentence("Right nodule.", "findings", ("right lung", ), "Lung Lesion", 1)])
    m = mirror(s)
    assert m.report.findings == "Left nodule." and m.regions["left lung"].xyxy == (
        3, 0, 5, 4) and m.boxes[0].xyxy == (3, 1, 4, 2)
    assert (m.images[0].load()
            == pixels[:, ::-1]).all() and m.sentences[0].regions == ("left lung", ) and m.labels == s.labels
    assert (mirror(m).images[0].load()
            == pixels).all() and mirror(m).regions == s.regions and mirror(m).report == s.report


def test_load_says_what_is_missing():
    with pytest.MonkeyPatch.context() as m:
        for name in ("OPENI", "MIMIC_CXR", "PADCHEST"):
            m.delenv(f"RRG_ROOT_{name}", raising=False)
        with pytest.raises(ValueError, match="unknown source 'mimic'"):
            load("mimic", "train")
        with pytest.raises(ValueError, match="validate"):
            load("openi", "validate")
        with pytest.raises(CourseError, match="padchest needs its folder: set RRG_ROOT_PADCHEST"):
            load("padchest", "train")
        m.setenv("RRG_ROOT_MIMIC_CXR", "/nonexistent")
        with pytest.raises(CourseError, match="nonexistent.*fetch"):
            load("mimic-cxr", "train")
        m.setenv("RRG_ROOT_OPENI", "/nonexistent")
        with pytest.raises(CourseError, match="nonexistent"):
            load("openi", "train")
        m.delenv("RRG_ROOT_OPENI")
        assert len(load("openi", "valid")) > 300
        for name in ("ms-cxr", "vindr-cxr", "nih", "chest-imagenome"):
            variable = f"RRG_ROOT_{name.upper().replace('-', '_')}"
            m.delenv(variable, raising=False)
            with pytest.raises(CourseError, match=f"{variable}.*{name.replace('-', '_')}.py fetch"):
                load(name, "train")
            m.setenv(variable, "/nonexistent")
            with pytest.raises(CourseError, match="/nonexistent is no folder"):
                load(name, "train")


def test_data_is_the_public_door():
    import rrg_core.data as data
    from rrg_core.data import storage, study
    assert set(data.SOURCES) == {
        "phantom", "openi", "mimic-cxr", "chexpert", "vindr-cxr", "nih", "ms-cxr", "chest-imagenome", "padchest",
        "brax", "candid-ptx", "jf-healthcare"
    }
    for name in ("Study", "Box", "Image", "Report", "OBSERVATIONS", "REGIONS", "SPLITS"):
        assert getattr(data, name) is getattr(study, name) and name in data.__all__
    assert data.Studies is storage.Studies
    assert data.OBSERVATIONS[-1] == "No Finding" and len(data.OBSERVATIONS) == 14 and len(set(
        data.REGIONS)) == 29 and set(data.FIVE) < set(data.OBSERVATIONS)


def test_four_sets_with_boxes_are_reached_by_name():
    from rrg_core.data import chest_imagenome, ms_cxr, nih_cxr14, vindr_cxr
    from rrg_core.engine.files import ENTRUSTED
    from rrg_core.engine.settings import PUBLIC

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        d = Path(d)
        m.setenv("RRG_ROOT_MIMIC_CXR", str(mimic_cxr.fixture(d / "mimic")))
        for name, module, options in (("ms-cxr", ms_cxr, {}), ("chest-imagenome", chest_imagenome, {}),
                                      ("vindr-cxr", vindr_cxr, dict(boxes="fused")), ("nih", nih_cxr14, {})):
            root = module.fixture(d / name)
            parts = {s: load(name, s, root, **options) for s in SPLITS}
            counts = check_splits(s for p in parts.values() for s in p)
            assert counts["train"] and counts["test"]
            assert all(s.source == name and s.images[0].load().ndim == 2 for p in parts.values() for s in p)
            assert SOURCES[name].adapter == module.__name__ and SOURCES[name].credentialed == (name not in PUBLIC)
            assert (name in ENTRUSTED) == SOURCES[name].credentialed


def test_data_is_quick_to_import():
    import subprocess, sys

    heavy = ("torch datasets pyarrow matplotlib scipy sklearn seaborn torchxrayvision transformers nltk "
             "pandas").split()
    code = "import sys; before = set(sys.modules); import {}; print(*set(sys.modules) - before)"
    for module in ("data", "data.study", "data.storage"):
        done = subprocess.run([sys.executable, "-c", code.format(f"rrg_core.{module}")],
                              capture_output=True,
                              text=True)
        assert f"rrg_core.{module}" in done.stdout.split() and not set(heavy) & set(
            done.stdout.split()), done.stderr
