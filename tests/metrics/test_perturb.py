"""Exported from nbs/05i_perturb.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from zlib import crc32
import numpy as np
import pandas as pd
from rrg_core.data.study import named
from rrg_core.reports.sections import sentences
import re, numpy as np, pandas as pd, pytest
from sklearn.metrics import roc_auc_score
from rrg_core.metrics.stats import interval
from rrg_core.metrics.perturb import *


def test_asserts_and_plain():
    assert asserts("There is a small left pleural effusion.") and plain("Mild cardiomegaly.")
    assert not asserts("No pleural effusion.") and not asserts("Heart size is normal.") and not asserts(
        "The lungs are clear of infiltrate.")
    assert asserts("This may represent atelectasis.") and not plain("This may represent atelectasis.")
    assert not asserts("The heart and mediastinum.") # places are no findings


def test_negation_by_hand():
    affirm, deny, doubt, certain, side = (EDITS[name].sentence
                                          for name in ("negation removed", "negation added", "hedge added",
                                                       "hedge removed", "side exchanged"))
    assert affirm(
        "There is no pleural effusion or pneumothorax.") == "There is pleural effusion and pneumothorax."
    assert affirm("No evidence of focal consolidation.") == "Focal consolidation."
    assert affirm("The heart is not enlarged.") == "The heart is enlarged."
    assert affirm("Lungs are clear without effusion.") == "Lungs are clear with effusion."
    assert affirm("No interval change.") is None and affirm("No prior studies.") is None and affirm(
        "Mild edema.") is None
    assert deny("There are small nodules.") == "There are no small nodules." and deny(
        "A nodule is seen.") == "A nodule is not seen."
    assert deny("Mild cardiomegaly.") == "No mild cardiomegaly." and deny(
        "The aorta is tortuous.") == "The aorta is not tortuous."
    assert deny("No nodule.") is None and deny("This may be a nodule.") is None # denied already; hedged
    assert doubt("There is a nodule.") == "There may be a nodule." and doubt(
        "Edema is present.") == "Edema is possibly present."
    assert certain("Opacity may represent a scar.") == "Opacity must represent a scar." and certain(
        "Nodule.") is None
    assert side("LEFT lung nodule.") == "RIGHT lung nodule." and side(
        "Scars in the left and right lung.") is None and side("No left effusion.") is None


def test_paraphrase_by_hand():
    rephrase, turn = EDITS["one sentence rephrased"].sentence, EDITS["denied list turned"].sentence
    assert rephrase("The lungs are clear.") == "Clear lungs." and rephrase("There is no edema.") == "No edema."
    assert rephrase("No edema.") == "There is no edema." and rephrase(
        "Mild scoliosis.") == "Slight scoliosis." and rephrase("Hand.") is None
    assert turn("No effusion or pneumothorax.") == "No pneumothorax or effusion." and turn("No effusion.") is None
    assert turn("There is no edema, effusion, or mass seen.") == "There is no mass, effusion, or edema seen."
    assert turn("No effusion or pneumothorax in the left lung.") is None # the last item has a place


def test_books_balance():
    reports = [
        "Heart size is normal. There is a small left pleural effusion with adjacent atelectasis. "
        "No pneumothorax or focal consolidation. Mild degenerative changes of the spine.",
        "Stable cardiomegaly. Opacity in the right upper lobe may represent scarring. The lungs are otherwise "
        "clear.", "The heart is normal. The lungs are clear. No effusion or edema."
    ]
    seen = set()
    for text in reports:
        for seed in range(5):
            for name, rule in EDITS.items():
                e = perturb(text, name, seed, normal=True)
                if e is None: continue
                seen.add(name)
                assert e.text != as_reference(text) and e == perturb(
                    text, name, seed, normal=True) # something changed, the same each time
                now, before = sentences(e.text), sentences(text)
                if e.sentence is not None:
                    back = now[:e.sentence] + ([e.before] if e.before else []) + now[e.sentence + bool(e.after):]
                    assert back == before, (name, e)
                elif name == "sentences shuffled":
                    assert sorted(now) == sorted(before)
                elif name == "sentence repeated":
                    assert sorted(set(now)) == sorted(before) and len(now) == len(before) + 1
                elif name == "capital letters":
                    assert e.text.lower() == as_reference(text).lower()
    assert seen == set(EDITS), set(EDITS) - seen
    assert perturb(reports[2], "true normal statement added") is None # not known to be normal
    assert perturb("", "capital letters") is None and perturb("Hand.", "sentences shuffled") is None
    with pytest.raises(ValueError, match="edit must be one of"):
        perturb("x", "typo")


def test_weighted_auc_equals_scikit_learn():
    rng = np.random.default_rng(0)
    for ties in (False, True):
        drops = rng.integers(0, 5, 200).astype(float) if ties else rng.random(200)
        harmful, weights = rng.random(200) < .4, rng.random((7, 200)) * (rng.random((7, 200)) < .8)
        want = [roc_auc_score(harmful, drops, sample_weight=w) for w in weights]
        np.testing.assert_allclose(weighted_auc(drops, harmful, weights), want, atol=1e-12)
    assert np.isnan(weighted_auc(np.array([0., 1]), np.array([True, True]), np.ones((1, 2))))[0]


def test_noticed_counts_what_gets_worse():
    changes = pd.DataFrame({"report": range(6), "edit": ["side exchanged"] * 4 + ["capital letters"] * 2,
                            "a": [-1, -.5, 0, .3, -1e-5, np.nan], "b": [np.nan] * 4 + [-1, -2]})
    table = noticed(changes, ["a", "b"]).set_index(["edit", "metric"])
    assert table.noticed.to_dict() == {("side exchanged", "a"): .5, ("capital letters", "a"): 0,
                                       ("capital letters", "b"): 1}
    assert table.reports.tolist() == [4, 1, 2] and table.harm.tolist() == ["harmful", "harmless", "harmless"]
    z, n, p = 1.959963984540054, 4, .5 # Wilson's interval by its formula
    centre, half = (p + z*z/(2*n)) / (1 + z*z/n), z * (p*(1 - p)/n + z*z/(4*n*n))**.5 / (1 + z*z/n)
    assert np.allclose(table.loc[("side exchanged", "a"), ["low", "high"]].astype(float),
                       [centre - half, centre + half])
    assert noticed(changes[:0], ["a"]).empty


def test_separation_by_hand():
    toy = pd.DataFrame({
        "report": [0, 1, 2, 0, 0, 1], "edit": ["side"] * 3 + ["hedge"] + ["shuffle"] * 2,
        "harm": ["harmful"] * 4 + ["harmless"] * 2, "metric": [.9, .8, .9, .1, .2, .3], "blind": [0.] * 6
    })
    out = separation(toy, ["metric", "blind"], n=50, seed=1)
    assert out.metric[0] == .5 and out.blind[0] == .5 # every edit weighs the same; ties count half
    assert len(out) == 51 and set(out.blind.dropna()) == {.5}
    toy.loc[3, "harm"] = "disputed"
    assert separation(toy, ["metric"], n=0).metric[0] == 1
