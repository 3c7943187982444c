"""Exported from nbs/02l_statistics.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections import Counter
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from scipy.stats import ks_2samp
from rrg_core.engine.desk import Chapter, set_style
from rrg_core.data.bundled import iu_records
from rrg_core.phantom.grammar import stated
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.data.study import OBSERVATIONS, Report
from rrg_core.labels import label
from rrg_core.phantom.errors import CannotCorrupt, corrupt
from rrg_core.data.study import Study
from rrg_core.phantom.statistics import *


def test_reports_vary_as_asked():
    for name in ("hospital", "clinic"):
        row = repetition_table({name: phantom_reports(name, 2000)}).loc[name]
        assert row["distinct sentences"] >= 3000 and row["most frequent text, %"] <= 2


def test_the_clinic_resembles_indiana():
    sources = {"Indiana": indiana_reports(), "clinic": phantom_reports("clinic", 600)}
    table = length_table(sources)
    assert table.loc[("findings, words", "clinic"),
                     "distance"] < .15 and table.loc[("findings, sentences", "clinic"), "distance"] < .25
    assert table.loc[("impression, words", "clinic"), "distance"] < .25
    assert statement_table(sources)["clinic − Indiana"].abs().max() < .2


def test_wording_is_not_copied():
    for name in ("hospital", "clinic", "harbour", "highland"):
        assert shared_with_indiana(phantom_reports(name, 250)) < .004


def test_every_disagreement_is_explained():
    agreement = labels_agreement(label, 400)
    wrong = agreement[(agreement.against == "report") & (agreement.why != "")]
    assert "unexplained" not in set(agreement.why), agreement[agreement.why == "unexplained"].to_string()
    assert wrong.n.sum() <= .002 * agreement[agreement.against == "report"].n.sum()


def test_a_labeler_reads_injected_errors():
    counts = {"false finding": [], "omission": []}
    for i in range(80):
        scene = scene_at("hospital", i)
        report, sentences = report_at("hospital", scene)
        study = Study(f"h{i}", str(i), "phantom", "test", report=report, site="hospital", meta={"seed": i})
        for category, significant in ((c, s) for c in counts for s in (True, False)):
            try:
                changed, record = corrupt(study, category, significant, i)
            except CannotCorrupt:
                continue
            if record.observation == "Support Devices" and category == "omission":
                continue # another device may remain
            counts[category].append(
                label(changed.text())[record.observation] == (1 if category == "false finding" else None))
    assert min(map(len, counts.values())) > 60 and min(map(np.mean, counts.values())) > .98, {
        k: np.mean(v)
        for k, v in counts.items()
    }
