"""Exported from nbs/14e_true_errors.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.data.study import named
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.writers import spoken, written
from rrg_core.lm_rrg.model import LmRrgSystem
from rrg_core.metrics.rexval import COUNTS, KINDS
from rrg_core.phantom import seeds
from rrg_core.phantom.errors import CATEGORIES, matters
from rrg_core.phantom.grammar import Pen, draft, seen
from rrg_core.phantom.scene import Scene
from rrg_core.phantom.sites import scene_at, site as site_named
from rrg_core.phantom.wording import level
from rrg_core.reports.cleaning import clean_r2gen
import pytest
from rrg_core.lm_rrg.errors import *


def test_true_reports_have_no_errors_and_made_ones_are_counted():
    table = readings("structured", 150, 40)
    swap = lambda s: s.replace("left", "#").replace("right", "left").replace("#", "right")
    moved = 0
    for number in seeds("test", 40, "structured"):
        told = told_of(scene_at("structured", number), "structured")
        true = [i for _, items in told for i in items]
        text = lambda lines: " . ".join(lines) + " ."
        assert errors_of(text(s for s, _ in told), true, table) == ([], 0)
        none, bad = errors_of("", true, table)
        gone = [(CATEGORIES[1], i.serious) if i.present else (CATEGORIES[5], True) for i in true]
        assert sorted(none) == sorted(gone) and bad == 0
        for k, (s, items) in enumerate(told):
            left, _ = errors_of(text(t for j, (t, _) in enumerate(told) if j != k), true, table)
            assert len(left) == len(items)
            other = swap(s)
            if len(items) == 1 and items[0].step is not None and len(items[0].sides) == 1 and other in table:
                if sum(i.observation == items[0].observation for i in true) > 1: continue
                turned = text(t if j != k else other for j, (t, _) in enumerate(told))
                found, _ = errors_of(turned, true, table)
                assert found == [("wrong location", True)], (s, found)
                moved += 1
    assert moved > 10
    assert errors_of("the the left . no", [], table) == ([], 2)
    with pytest.raises(CourseError, match="several wordings"): readings("hospital", 2, 2)


def test_pairs_differ_in_place_step_and_comparison():
    table = Readings()
    def claim(text, *items):
        for i in items: table.setdefault(text, {}).setdefault(i.observation, set()).add(i)
    at = lambda side, step, change="": Item("Pleural Effusion", (f"{side} costophrenic angle", ), step, change,
                                            step > 0)
    claim("a", at("left", 0)), claim("b", at("left", 2)), claim("c", at("right", 1, "new"))
    claim("d", at("left", 1), at("left", 0)), claim("e", at("left", 0, "unchanged"))
    claim("gone", Item("Edema", (), None, "resolved", False, False))
    say = lambda text, *true: errors_of(text, true, table)[0]
    assert say("a", at("left", 1)) == [("wrong severity", False)]
    assert say("b", at("left", 0)) == [("wrong severity", True)]
    assert say("d", at("left", 1)) == say("d", at("left", 0)) == say("a . a", at("left", 0)) == []
    assert say("c", at("left", 1)) == [("wrong location", True), ("invented comparison", True)]
    assert say("a", at("left", 0, "new")) == [("omitted comparison", True)]
    assert say("e", at("left", 0)) == [("invented comparison", False)]
    assert say("a . c", at("right", 1, "new"), at("left", 0)) == [] # each with its own
    assert say("b") == [("false finding", True)] and say("a") == [("false finding", False)]
    assert say("gone") == [("invented comparison", True)]
    assert say("", Item("Edema", (), None, "resolved", False, False)) == [("omitted comparison", True)]


def test_columns_add_up():
    numbers = list(seeds("test", 6, "structured"))
    names, said = [f"phantom-structured-{k}" for k in numbers], [""] * 6
    found = true_errors(names, said, "structured", readings("structured", 20, 6))
    assert (found[list(COUNTS)].sum(axis=1) == found.errors).all() and found.errors.sum() > 6
    assert (found[[c for c in COUNTS if ", significant" in c]].sum(axis=1) == found.significant).all()
    assert (found[UNREADABLE] == 0).all() and set(found.dtypes.astype(str)) == {"int16"}


def test_a_run_keeps_errors_where_reports_can_be_read_back():
    from rrg_core.engine.settings import profile

    frame = pd.DataFrame(dict(study_id=["phantom-x-4", "phantom-x-5"], hypothesis=["the heart is normal .", ""],
                              reference=["the heart is normal .", "there is an effusion ."]))
    for site, read in (("structured", True), ("clinic", False)):
        kept = scored(frame.assign(study_id=frame.study_id.str.replace("x", site)), {"site": site},
                      profile("smoke"))
        assert radcliq_column(kept) == "RadCliQ-standin" and kept["RadCliQ-standin"].is_monotonic_increasing
        assert ("errors" in kept) == read and kept.reference.equals(frame.reference)
    with pytest.raises(CourseError, match="no RadCliQ; they have study_id"): radcliq_column(frame)
