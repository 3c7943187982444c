"""Exported from nbs/03f_templates.ipynb: edit it there, then run `nbdev-export`."""
import pandas as pd
from rrg_core.data import padchest
from rrg_core.data.bundled import bundled_file, csv_table
from rrg_core.data.study import OBSERVATIONS, DataError, named
from rrg_core.engine.settings import CourseError
from rrg_core.phantom.wording import Dice, filled, parsed
import numpy as np
import pytest
from rrg_core.data.bundled import chexpert
from rrg_core.data.study import told
from rrg_core.labels import label, label_many, same_labels
from rrg_core.phantom.sites import SITES, labels_at, scene_at
from rrg_core.shown import show_table
from rrg_core.reports.templates import *


def test_every_template_is_read_back_as_its_label():
    counts = {1: 0, 0: 0, -1: 0}
    for o in OBSERVATIONS:
        for v in counts:
            for s in wordings(o, v):
                found = label(s)
                normal = 1 if v == 0 or o in ("Support Devices", "No Finding") else None
                assert found == dict.fromkeys(OBSERVATIONS) | {"No Finding": normal} | {o: v}, s
                assert s[0].isupper() and s.endswith(".") and "{" not in s and "  " not in s
                counts[v] += 1
    assert counts == {1: 12 * 8 + 2 + 2, 0: 11 * 7 + 3 + 2, -1: 11 * 3 + 2 + 2}
    assert [len(TEMPLATES[v]) for v in (1, 0, -1)] == [8, 7, 3] # as many as the paper has
    assert len(set(map(tuple, TEMPLATES.values()))) == 3 and not set(TEMPLATES[1]) & set(TEMPLATES[0])
    assert wordings("Lung Opacity", 1)[0] == "There is a lung opacity."
    assert wordings("Enlarged Cardiomediastinum", 1)[0] == "There is an enlarged cardiomediastinal silhouette."
    assert wordings("Support Devices", 1)[0] == "There are support devices."
    assert wordings("No Finding", 0) == [] == wordings("No Finding", -1)
    for wrong in (("canary sings", 1), ("Edema", 2), ("Edema", None), ("Edema", "canary sings")):
        with pytest.raises(ValueError) as e: wordings(*wrong)
        assert "canary" not in told(e.value)


def test_a_report_hangs_on_seed_and_study():
    labels = {"Edema": 1., "Pleural Effusion": -1, "Pneumothorax": 0, "Fracture": None, "Cardiomegaly": np.nan}
    reports = {synthetic_report(labels, f"s{k}") for k in range(60)}
    turned = dict(reversed(labels.items()))
    assert len(reports) > 50 and synthetic_report(labels, "s1") == synthetic_report(turned, "s1")
    assert len({synthetic_report(labels, "s1", seed) for seed in range(20)}) > 15
    for r in reports: # every known label, and none else
        assert {o: v for o, v in label(r).items() if v is not None} == {"Edema": 1, "Pleural Effusion": -1,
                                                                        "Pneumothorax": 0}
    starts = {r.split(".")[0] for r in reports}
    assert any("edema" in s for s in starts) and any("pneumothorax" in s for s in starts) # shuffled
    assert label(synthetic_report(labels, "s1", tell=(1,)))["Pneumothorax"] is None
    assert synthetic_report({}, "s1") == "" == synthetic_report(dict.fromkeys(OBSERVATIONS), "s1")
    normal = {synthetic_report({"No Finding": 1, "Support Devices": 1}, f"s{k}", tell=(1,)) for k in range(20)}
    assert all(r.count(".") == 2 and ("normal chest" in r or "No abnormality" in r) for r in normal)
    both = synthetic_report({"No Finding": 1, "Edema": 1}, "s1") # the source contradicts itself
    assert label(both)["Edema"] == 1 and "abnormality" not in both and "normal chest" not in both
    for wrong in ({"canary sings": 1}, {"Edema": 3}, {"Edema": "canary sings"}):
        with pytest.raises(ValueError) as e: synthetic_report(wrong, "s1")
        assert "canary" not in told(e.value)


def test_phantom_sites_are_read_back():
    for name in ("registry", "archive", "panel", "trauma", "township"):
        assert not SITES[name].style
        truth = [labels_at(name, scene_at(name, k)) for k in range(40)]
        made = [synthetic_report(t, f"{name}-{k}") for k, t in enumerate(truth)]
        reference = np.array([[np.nan if v is None else v for v in t.values()] for t in truth], float)
        assert same_labels(label_many(made), reference)[:, :-1].all() # No Finding is inferred by the labeler


def test_real_tables_are_read_back():
    real = padchest_labels(4000)
    assert set(np.unique(real[OBSERVATIONS].to_numpy()[~real[OBSERVATIONS].isna()])) == {1} # nothing is denied
    assert real.image.is_unique and len(real) > 2000 and real.names.map(len).max() > 3
    normal = real.names.map(lambda n: n == ("normal",))
    assert (real.loc[normal, "No Finding"] == 1).all() and normal.any()
    effusion = real.names.map(lambda n: "pleural effusion" in n)
    assert (real.loc[effusion, "Pleural Effusion"] == 1).all() and effusion.any()
    for table in (real.head(400), chexpert(frontal=True).head(400)):
        made = [synthetic_report(row, i) for i, row in zip(table.image, table[OBSERVATIONS].to_dict("records"))]
        same = same_labels(label_many(made), table[OBSERVATIONS].to_numpy(float))[:, :-1]
        assert same.all(), [(made[i], OBSERVATIONS[k]) for i, k in np.argwhere(~same)[:3]]
