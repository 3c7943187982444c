"""Exported from nbs/02k_errors.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
import tomllib
import pandas as pd
from rrg_core.phantom.grammar import CONTRADICTIONS, ORGANS, Fact, Line, Pen, as_report, draft, fact_of, none_of, normal_line, seen, write_report
from rrg_core.phantom.scene import Finding, Scene
from rrg_core.phantom.sites import scene_at, site
from rrg_core.phantom.wording import Dice, filled, height, level, parsed
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import Report, Study, named as as_name
import re
import pandas as pd, pytest
from collections import Counter
from dataclasses import replace
from rrg_core.phantom.grammar import Fact, draft, write_report
from rrg_core.phantom.scene import Finding, sample_scene
from rrg_core.phantom.sites import report_at, scene_at, site
from rrg_core.phantom.wording import lexicon
from rrg_core.data.study import OBSERVATIONS, Report, Study
from rrg_core.phantom.errors import *


def test_exactly_one_claim_differs():
    def phantom_study(name, seed):
        report, sentences = report_at(name, scene_at(name, seed))
        return Study(f"{name}-{seed}",
                     f"{seed}",
                     "phantom",
                     "test",
                     report=report,
                     sentences=sentences,
                     site=name,
                     meta={"seed": seed})

    differs = {
        "wrong location": {"regions"}, "wrong severity": {"severity"}, "invented comparison": {"change"},
        "omitted comparison": {"change"}
    }
    made = Counter()
    for name in ("hospital", "clinic"):
        for study in (phantom_study(name, i) for i in range(60)):
            for category in CATEGORIES:
                for significant in (True, False):
                    try:
                        before, after, record = corrupt_lines(study, category, significant, 3)
                    except CannotCorrupt:
                        continue
                    a, b = claims(before), claims(after)
                    made[category, significant] += 1
                    assert {k
                            for k in {*a, *b} if a.get(k) != b.get(k)} == {record.key}, (study.study_id, category)
                    if category == "omission": assert record.after is None and record.before.polarity
                    elif category == "false finding":
                        assert record.after.polarity == 1 and (record.before is None
                                                               or record.before.polarity == 0)
                    else:
                        assert {f
                                for f in vars(record.after)
                                if vars(record.after)[f] != vars(record.before)[f]} == differs[category]
    assert len(made) == 12 and min(made.values()) >= 5, made


def test_the_text_says_what_the_record_says():
    def phantom_study(name, seed):
        report, sentences = report_at(name, scene_at(name, seed))
        return Study(f"{name}-{seed}",
                     f"{seed}",
                     "phantom",
                     "test",
                     report=report,
                     sentences=sentences,
                     site=name,
                     meta={"seed": seed})

    word = {
        "Pneumothorax": "pneumothora", "Pleural Effusion": "effusion|pleural fluid",
        "Consolidation": "consolidat", "Edema": "edema", "Atelectasis": "atelecta|collapse", "Fracture": "fractur"
    }
    checked = Counter()
    for study in (phantom_study("hospital", i) for i in range(150)):
        for category in ("omission", "false finding", "wrong location"):
            try:
                report, record = corrupt(study, category, True, 1)
            except CannotCorrupt:
                continue
            if record.observation not in word: continue
            named = [
                s for s in re.split(r"(?<=[.])\s+(?:\d[.] )?", report.text())
                if re.search(word[record.observation], s, re.I)
            ]
            checked[category] += 1
            if category == "omission": assert not named, named
            else:
                assert record.sentence in named and not any(
                    re.search(r"\b(no|negative|without)\b", s, re.I) for s in named), named
            if category == "wrong location":
                side = record.after.regions[0].split()[0]
                other = {"left": "right", "right": "left"}[side]
                assert not any(re.search(rf"\b{other}\b", s) for s in named if len(named) == 1), named
    assert min(checked.values()) > 20, checked


def test_errors_and_grammar_share_no_template():
    def phantom_study(name, seed):
        report, sentences = report_at(name, scene_at(name, seed))
        return Study(f"{name}-{seed}",
                     f"{seed}",
                     "phantom",
                     "test",
                     report=report,
                     sentences=sentences,
                     site=name,
                     meta={"seed": seed})

    slots = {"is": "(is|are)", "has": "(has|have)", "a": "(an? )?"}
    pattern = lambda frame: re.compile(
        "".join(
            slots.get(p[1:-1], ".*") if p[:1] == "{" else re.escape(p)
            for p in re.split(r"(\{\w+\})", frame)), re.I)
    errors = set()
    for study in (phantom_study("hospital", i) for i in range(60)):
        for category in sorted(set(CATEGORIES) - {"omission"}):
            try:
                errors.add(corrupt(study, category, True, 5)[1].sentence)
            except CannotCorrupt:
                pass
    said = {l.text for i in range(600) for l in draft(sample_scene(i), i)}
    frames = [
        f for fs in lexicon()["frames"].values() for f in fs
        if len(re.sub(r"\{\w+\}|[^a-z]", "", f, flags=re.I)) > 3
    ]
    assert len(errors) > 120 and not errors & said
    for frame in (f for fs in error_lexicon()["frames"].values() for f in fs):
        assert not any(pattern(frame).fullmatch(s) for s in said), frame
    for text in errors:
        assert not any(pattern(f).fullmatch(text) for f in frames), text


def test_impossible_errors_are_refused():
    def phantom_study(name, seed):
        report, sentences = report_at(name, scene_at(name, seed))
        return Study(f"{name}-{seed}",
                     f"{seed}",
                     "phantom",
                     "test",
                     report=report,
                     sentences=sentences,
                     site=name,
                     meta={"seed": seed})

    empty = phantom_study(
        "clinic",
        next(i for i in range(99) if not scene_at("clinic", i).findings and not scene_at("clinic", i).prior))
    for category in set(CATEGORIES) - {"false finding"}:
        with pytest.raises(CannotCorrupt, match=category):
            corrupt(empty, category, True, 0)
    with pytest.raises(CannotCorrupt, match="'es'"):
        corrupt(phantom_study("levante", 1), "omission", True, 0)
    with pytest.raises(CannotCorrupt, match="no reports"):
        corrupt(phantom_study("township", 1), "omission", True, 0)
    with pytest.raises(ValueError, match="typo"):
        corrupt(empty, "typo", True, 0)
    with pytest.raises(CannotCorrupt, match="seed"):
        corrupt(replace(empty, meta={}), "omission", True, 0)
    with pytest.raises(CannotCorrupt, match="not what its seed makes"):
        corrupt(replace(empty, report=Report(findings="Something else.")), "omission", True, 0)


def test_corruption_is_reproducible():
    report, sentences = report_at("hospital", scene_at("hospital", 4))
    study = Study("a", "b", "phantom", "test", report=report, site="hospital", meta={"seed": 4})
    a, b = [corrupt(study, "false finding", True, 7) for _ in range(2)]
    assert a == b and len({corrupt(study, "false finding", True, s)[1].sentence for s in range(20)}) > 3
    assert corrupt(study, "false finding", True, 7, scene=scene_at("hospital", 4)) == a


def test_several_errors_change_as_many_claims():
    import numpy as np

    def phantom_study(name, seed):
        report, sentences = report_at(name, scene_at(name, seed))
        return Study(f"{name}-{seed}",
                     f"{seed}",
                     "phantom",
                     "test",
                     report=report,
                     sentences=sentences,
                     site=name,
                     meta={"seed": seed})

    rng, made, refused = np.random.default_rng(0), Counter(), 0
    for name in ("hospital", "structured"):
        for study in (phantom_study(name, i) for i in range(40)):
            for number in range(5):
                wanted = [(CATEGORIES[rng.integers(6)], bool(rng.integers(2))) for _ in range(number)]
                try:
                    report, records = corrupt_several(study, wanted, 3)
                except CannotCorrupt:
                    refused += 1
                    continue
                made[number] += 1
                assert [(r.category, r.significant) for r in records] == wanted
                assert len({r.key for r in records}) == number
                told = [r.sentence for r in records]
                for r in records:
                    assert (r.sentence in report.findings) == (r.category != "omission") or not r.sentence
                    assert bool(r.sentence) == (r.category != "omission"), r
                if not number: assert report == study.report
                try: retold, same = corrupt_several(study, wanted, 3, retell=True)
                except CannotCorrupt: continue
                assert [(r.key, r.before, r.after) for r in same] == [(r.key, r.before, r.after) for r in records]
                made["retold"] += retold != report
    assert min(made.values()) >= 8 and made["retold"] > 100, made # a normal film takes few


def test_one_of_several_is_corrupt():
    report, sentences = report_at("hospital", scene_at("hospital", 4))
    study = Study("a", "b", "phantom", "test", report=report, site="hospital", meta={"seed": 4})
    several, (record, ) = corrupt_several(study, [("omission", True)], 7)
    options = {corrupt(study, "omission", True, s)[1].key for s in range(20)}
    assert record.key in options and record.after is None
    one = next(s for s in range(20) if corrupt(study, "omission", True, s)[1].key == record.key)
    assert several == corrupt(study, "omission", True, one)[0] # an omission is worded in one way
    assert corrupt_several(study, [("omission", True)], 7) == (several, [record])
    with pytest.raises(CannotCorrupt, match="error [2-9]"): corrupt_several(study, [("omission", True)] * 9, 0)
    with pytest.raises(ValueError, match="typo"): corrupt_several(study, [("typo", True)], 0)


def test_errors_of_phantom_quote_no_report():
    from rrg_core import phantom
    from rrg_core.phantom import film, scene, sites, wording
    from rrg_core.tools.house import quoting

    real = Study("s1", "p1", "mimic-cxr", "train", report=Report(findings="a"))
    assert quoting({
        "split": lambda x: phantom.seeds(x, 3),
        "site": lambda x: phantom.seeds("train", 3, x),
        "a scene's seed": scene.sample_scene,
        "an observation": lambda x: scene.sample_scene(0, only=[x]),
        "a site": sites.site,
        "a language": wording.lexicon,
        "a real study": lambda x: edits(replace(real, report=Report(findings=str(x))), CATEGORIES[0]),
        "a real study's site": lambda x: edits(replace(real, site=str(x)), CATEGORIES[0]),
        "a category": lambda x: edits(real, x),
    }) == []
