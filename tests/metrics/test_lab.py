"""Exported from nbs/05h_lab.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
import numpy as np
import pandas as pd
from rrg_core.data.study import named
from rrg_core.metrics.perturb import EDITS, asserts
from rrg_core.metrics.stats import interval
from rrg_core.metrics.text import METRICS, TextStatistics, cut, mark_unknown, tokens, vocabulary
from rrg_core.engine.settings import package_root
from rrg_core.reports.sections import sentences
import numpy as np, pandas as pd, pytest
from rrg_core.metrics.clinical import PROTOCOLS, averages
from rrg_core.metrics.text import text_scores, text_statistics
from rrg_core.metrics.lab import *


def test_systems_are_what_they_say():
    train = [
        "The lungs are clear. No effusion.", "The lungs are clear. No effusion.", "Mild cardiomegaly.",
        "Right effusion. No edema."
    ]
    test = ["No edema. Mild cardiomegaly is seen. The aorta is tortuous."]
    nan = np.full(14, np.nan)
    heart, effusion = nan.copy(), nan.copy()
    heart[1], effusion[9] = 1, 1
    made = {
        s.name: s
        for s in make_systems(test,
                              train, [("Cardiomegaly/mild", )], [("normal", ), ("normal", ), (
                                  "Cardiomegaly", ), ("Effusion", )], [heart], [nan, nan, heart, effusion],
                              seed=3)
    }
    assert made["most frequent report"].hypotheses == (
        train[0], ) and made["random report"].hypotheses[0] in train
    assert made["nearest tags"].hypotheses == made["nearest labels"].hypotheses == ("Mild cardiomegaly.", )
    assert made["copy, negations removed"].hypotheses == (
        "Edema. Mild cardiomegaly is seen. The aorta is tortuous.", )
    assert made["copy, findings left out"].hypotheses == ("No edema.", )
    third = made["copy, a third exchanged"].hypotheses[0]
    assert sum(s in third for s in ("No edema.", "Mild cardiomegaly is seen.", "The aorta is tortuous.")) == 2
    assert "Slight enlargement of the heart is observed." in made["copy, reworded"].hypotheses[0]
    assert {s.kind for s in made.values()} == {"blind", "oracle", "copy"}


def test_nearest_by_hand():
    assert nearest([{"a", "b"}], [{"a"}, {"a", "b", "c"}, {"b", "a"}]).tolist() == [2]
    assert nearest([set()], [{"a"}, set()]).tolist() == [1]
    assert {int(nearest([{"a"}], [{"a"}, {"a"}], seed)[0]) for seed in range(20)} == {0, 1} # ties are drawn
    assert tag_set(["Opacity/lung/left"]) == {"Opacity", "Opacity/lung/left"} and label_set([1, np.nan,
                                                                                             -1]) == {(0, 1),
                                                                                                      (2, -1)}


def test_conventions_by_hand():
    by = {c.name: c for c in CONVENTIONS}
    assert len(by) == len(CONVENTIONS)
    train = ["heart size is normal ."] * 3
    assert conform(by["R2Gen cleaning, cut at 60, <unk> below 3"], ["Heart is normal. Nodule."],
                   train) == ["heart is normal . <unk> ."]
    assert conform(by["white space"], ["Heart is  normal."], train) == ["Heart is normal."]
    assert conform(by["13a, lower case"], ["Heart, normal."], train) == ["heart , normal ."]
    assert len(conform(by["PTB, cut at 60"], ["a " * 80], train)[0].split()) == 59 # the start symbol counts


def test_replicates_equal_the_scores_of_resampled_reports():
    hyps = ["the lungs are clear .", "no effusion .", "heart is big .", "no acute disease ."]
    refs = ["the lungs are clear .", "there is no effusion .", "the heart is enlarged .", "no acute process ."]
    names = ("BLEU", "ROUGE-L", "CIDEr", "sacreBLEU")
    counts = text_statistics(hyps, refs, tokenize=None, metrics=names)
    weights = draws(4, 6, seed=1)
    got = text_replicates(counts, weights, slow=6)
    for k, w in enumerate(weights):
        rows = np.repeat(np.arange(4), w.astype(int))
        want = text_scores([hyps[i] for i in rows], [refs[i] for i in rows], None, names)
        for name, value in want.items():
            np.testing.assert_allclose(got[name][k],
                                       value / (100 if "sacre" in name else 1),
                                       atol=1e-9,
                                       err_msg=name)


def test_clinical_replicates_equal_resampled_averages():
    rng = np.random.default_rng(0)
    p, r, weights = rng.random((30, 6)) < .3, rng.random((30, 6)) < .3, draws(30, 5)
    p[:, 5] = r[:, 5] = False # an observation that never occurs
    for average in ("micro", "macro", "weighted", "example", "example-defined"):
        got = clinical_replicates(p, r, average, weights)
        for k, w in enumerate(weights):
            rows = np.repeat(np.arange(30), w.astype(int))
            np.testing.assert_allclose([got["precision"][k], got["recall"][k], got["F1"][k]],
                                       averages(p[rows], r[rows], average),
                                       atol=1e-12,
                                       err_msg=average)


def test_spread_and_swaps_by_hand():
    lab = pd.DataFrame(
        {"system": "x", "kind": "blind", "score": "F1", "convention": ["a", "b", "c"], "value": [.2, .6, .4]})
    assert spread(lab).iloc[0].to_dict() == dict(system="x",
                                                 kind="blind",
                                                 score="F1",
                                                 conventions=3,
                                                 lowest=.2,
                                                 lowest_under="a",
                                                 highest=.6,
                                                 highest_under="b",
                                                 ratio=.6 / .2)

    def made(system, convention, value):
        return Replicates(system, "F1", convention, value + np.linspace(-.01, .01, 101))

    out = swaps([
        made("x", "a", .5),
        made("y", "a", .4),
        made("x", "b", .3),
        made("y", "b", .6),
        made("z", "a", .45),
        made("z", "b", .3)
    ])
    assert out[["left", "right", "left_wins_under",
                "right_wins_under"]].values.tolist() == [["x", "y", "a", "b"], ["y", "z", "b",
                                                                                "a"]] # x and z tie under b
    np.testing.assert_allclose(out[["by", "by_there"]], [[.1, .3], [.3, .05]])


def test_published_protocols_are_known():
    frame = published_protocols()
    assert set(frame.protocol) - {"none"} <= set(PROTOCOLS) and set(
        frame.confidence) == {"stated", "inferred", "unknown"} and set(frame.paper) == set(PAPERS.values())
    assert (frame.lowest <= frame.highest).all() and frame.source.str.contains(r"§|Table|\.py").all()
    assert (frame.source.str.contains("our inference") == (frame.confidence == "inferred")).all()
    assert (frame.source.str.contains("the paper does not say") == (frame.confidence == "unknown")).all()
    fita = frame[(frame.paper == "FITA") & (frame.rows == "FITA") & (frame.metric == "CE-F1")].iloc[0]
    assert (fita.lowest, fita.highest, fita.protocol) == (.326, .326, "fita")
    chex = frame[(frame.metric == "Ex-F1-14")].set_index("protocol").lowest.to_dict()
    assert chex == {"chex-ex-f1-14": 58.76, "chex-ex-f1-14-zeros": 47.6} # two definitions in one row of one table
