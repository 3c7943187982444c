"""Exported from nbs/05c_radgraph.ipynb: edit it there, then run `nbdev-export`."""
import json, os, subprocess, sys
from pathlib import Path
from rrg_core.data.study import named
from rrg_core.engine.settings import CourseError
from rrg_core.metrics.text import failure
import os, sys, tempfile, textwrap
import pandas as pd, pytest
from rrg_core.metrics.radgraph import *


def test_annotations_are_matched_by_key():
    entity = lambda word: {"entities": {"1": {"tokens": word, "label": "OBS-DP", "relations": []}}}
    a, b = entity("edema"), entity("effusion")
    for left, right, want in [ # in the spirit of wjhou/Recap#3: a file keyed by study
        ({"s50": a, "s51": b}, {"s50": a, "s51": b}, 1), ({"s50": a, "s51": b}, {"s51": b, "s50": a}, 1),
        ({"s50": a, "s51": b}, {"s50": b, "s51": a}, 0), ({"50": a, "51": b}, {"51": b, "50": a}, 1),
        ({50: a, 51: b}, {"51": b, "50": a}, 1), ({"0": a, "1": b}, [a, b], 1), ([a, b], {1: b, 0: a}, 1),
        ([a, b], [b, b], .5), ([a], [a], 1), ({"10": a, "9": b}, {"9": b, "10": a}, 1)]:
        assert radgraph_f1(left, right) == want, (left, right)
    for left, right in [({"50": a, "51": b}, {"60": a, "61": b}), ({"s50": a}, [a]), ({"1": a, "2": b}, [a, b]),
                        ({"0": a, "1": b}, {"0": a, "2": b})]:
        with pytest.raises(ValueError, match="matched by key, and [12] of [12] hypotheses"):
            radgraph_f1(left, right)


def test_levels_by_hand():
    def e(tokens, label, *relations):
        return {"tokens": tokens, "label": label, "relations": [list(r) for r in relations]}

    def report(*entities):
        return {"text": "", "entities": {str(i + 1): x for i, x in enumerate(entities)}}

    r = report(e("pleural", "ANAT-DP"), e("effusion", "OBS-DA", ("located_at", "1")), e("heart", "ANAT-DP"),
               e("enlarged", "OBS-DP", ("located_at", "3")))
    h = report(e("small", "OBS-DP", ("modify", "3")), e("pleural", "ANAT-DP"),
               e("effusion", "OBS-DP", ("located_at", "2")), e("heart", "ANAT-DP"),
               e("enlarged", "OBS-DP", ("located_at", "4")))
    for level, want in dict(simple=6 / 9, partial=6 / 9, complete=6 / 9, combined=(6/9 + 2/5) / 2).items():
        assert abs(radgraph_f1(h, r, level) - want) < 1e-12 and radgraph_f1(h, r, level) == radgraph_f1(
            r, h, level)
        assert radgraph_f1(r, r, level) == 1
    hint = report(e("effusion", "OBS-DP"), e("x", "OBS-U"))
    flag = report(e("effusion", "OBS-DP", ("modify", "2")), e("x", "OBS-U"))
    assert radgraph_f1(hint, flag,
                       "simple") == 1 and radgraph_f1(hint, flag, "partial") == .5 # the flag alone differs
    kinds = report(e("effusion", "OBS-DP", ("suggestive_of", "2")), e("x", "OBS-U"))
    assert radgraph_f1(
        kinds, flag,
        "partial") == 1 and radgraph_f1(kinds, flag, "complete") == .5 # type is compared in complete only
    target = report(e("effusion", "OBS-DP", ("modify", "2")), e("x", "OBS-DA"))
    assert radgraph_f1(
        target, flag,
        "complete") == .5 # {relation, x present?}: the target's label counts for x alone, not in the relation
    assert radgraph_f1(target, flag, "combined") == (.5+0) / 2 # there it does


def test_empty_repeated_and_capitals():
    def e(tokens, label, *relations):
        return {"tokens": tokens, "label": label, "relations": [list(r) for r in relations]}

    def report(*entities):
        return {"text": "", "entities": {str(i + 1): x for i, x in enumerate(entities)}}

    nothing, one = report(), report(e("heart", "ANAT-DP"))
    for level in ("simple", "partial", "complete", "combined"):
        assert radgraph_f1(nothing, nothing, level) == radgraph_f1(nothing, one, level) == radgraph_f1(
            one, nothing, level) == 0
    assert radgraph_f1(one, one, "combined") == .5 and radgraph_f1(one, one, "complete") == 1
    assert radgraph_f1(report(e("heart", "ANAT-DP"), e("heart", "ANAT-DP")), one,
                       "simple") == 1 # said twice, counted once
    big = report(e("Heart", "ANAT-DP"))
    assert [radgraph_f1(big, one, level)
            for level in ("simple", "partial", "complete", "combined")] == [0, 0, 0, 0]
    assert [radgraph_f1(big, one, level, case=False)
            for level in ("simple", "partial", "complete", "combined")] == [1, 1, 1, .5]
    assert radgraph_f1({"0": one, "1": big}, [one, one], "simple") == .5
    for bad, words in [(lambda: radgraph_f1(one, one, "RG_ER"), "level must be"),
                       (lambda: radgraph_f1({}, one), "0 hypotheses|single"),
                       (lambda: radgraph_f1([one], one), "single"), (lambda: radgraph_f1([], []), "0 hypotheses"),
                       (lambda: radgraph_f1(report(e("a", "OBS-DP", ("modify", "7"))), one), "points to '7'"),
                       (lambda: radgraph_f1({"entities": {"1": {"tokens": "a", "label": "b"}}}, one),
                        "relations is missing")]:
        with pytest.raises(ValueError, match=words):
            bad()


def test_the_model_is_a_subprocess():
    fake = '''
    class RadGraph:
        def __init__(self, model_type): assert model_type == "radgraph", model_type
        def __call__(self, texts):
            print("loading")
            if "fail" in texts: raise RuntimeError("weights not found")
            return {str(i): {"text": t, "entities": self.entities(t)} for i, t in enumerate(texts)}
        def entities(self, text):
            one = lambda k, w: dict(tokens=w, label="OBS-DP", start_ix=k, end_ix=k, relations=[])
            return {str(k + 1): one(k, w) for k, w in enumerate(text.split())}
    '''
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_RADGRAPH_PYTHON", raising=False)
        with pytest.raises(CourseError, match="RRG_RADGRAPH_PYTHON is not set"):
            RadGraphModel()
        (Path(d) / "radgraph.py").write_text(textwrap.dedent(fake))
        m.setenv("PYTHONPATH", d)
        m.setenv("RRG_RADGRAPH_PYTHON", sys.executable)
        h, r, empty = RadGraphModel()(["heart large", "heart small", " "])
        assert radgraph_f1(h, r, "simple") == .5 and radgraph_f1(empty, r, "simple") == 0
        with pytest.raises(CourseError, match="weights not found"):
            RadGraphModel()(["fail"])
        with pytest.raises(CourseError, match="failed: AssertionError: xl"):
            RadGraphModel(model="xl")(["a"])
