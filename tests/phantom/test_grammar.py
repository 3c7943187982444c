"""Exported from nbs/02i_grammar.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass, field, replace
from math import exp
from rrg_core.phantom.scene import Finding, Scene
from rrg_core.phantom.wording import Dice, filled, known_language, lexicon, listed, phrase, sentence, tidy
from rrg_core.data.study import OBSERVATIONS, Report, Sentence
import re
from collections import Counter
import pandas as pd
from dataclasses import replace
from rrg_core.phantom.scene import Finding, sample_scene
from rrg_core.data.study import OBSERVATIONS, REGIONS
from rrg_core.phantom.grammar import *


def test_stated_agrees_with_the_scene():
    for i in range(400):
        scene = sample_scene(i)
        truth = scene.labels()
        said = stated(write_report(scene, i)[1])
        for o in OBSERVATIONS[:-1]:
            assert said[o] in ((truth[o], ) if truth[o] else (0, None)), (i, o)
        assert (said["No Finding"] == 1) == (truth["No Finding"] == 1)


def test_stated_merges_like_chexpert():
    say = lambda *p: stated([Fact("Edema", v) for v in p])["Edema"]
    assert say() is None and say(0) == 0 and say(0, -1) == -1 and say(1, 0) == 1 and say(-1, 1) == 1


def test_sentences_are_linked_to_the_truth():
    for i in range(400):
        scene = sample_scene(i)
        found = {f.key: f for f in scene.findings}
        gone = {f.key for f in scene.resolved()}
        for line in draft(scene, i):
            for fact in line.facts:
                assert set(fact.regions) <= set(REGIONS)
                if fact.polarity in (1, -1) and fact.key:
                    f = found[fact.key]
                    assert (f.observation, f.certainty, f.severity) == (fact.observation, fact.polarity,
                                                                        fact.severity)
                    assert fact.change in ("", f.change) and (not f.region or fact.regions == (f.region, ))
                if fact.change == "resolved": assert fact.key in gone and fact.polarity == 0


def test_words_of_time_need_a_prior():
    time = re.compile(
        r"\b(unchanged|stable|new|newly|again|persistent|increased|worsen\w*|progressed|improv\w*|decreased|"
        r"lessened|earlier|previous|prior|before|resolved|removed|removal|no change|the same)\b", re.I)
    counts = Counter()
    for i in range(400):
        scene = sample_scene(i)
        for line in draft(scene, i):
            timed = any(f.change for f in line.facts)
            counts[timed] += 1
            assert bool(time.search(line.text)) == timed, line.text
            assert scene.prior or not timed
    assert counts[True] > 100


def test_side_words_match_the_facts():
    for i in range(400):
        for line in draft(sample_scene(i), i):
            sides = {s for f in line.facts for r in f.regions for s in ("left", "right") if r.startswith(s)}
            if any(f.observation == "Support Devices" for f in line.facts):
                continue # a pacemaker's lead goes to the right atrium
            for side in ("left", "right"):
                if re.search(rf"\b{side}\b", line.text): assert side in sides, line.text


def test_reports_are_reproducible():
    a, b = [write_report(sample_scene(5), 9) for _ in range(2)]
    assert a == b and a[0] != write_report(sample_scene(5), 10)[0]


def test_a_finding_less_changes_its_own_sentence_only():
    kept, same = 0, 0
    for i in range(200):
        scene = sample_scene(i)
        if not scene.of("Pleural Effusion"): continue
        before = [
            l for l in draft(scene, i, Style(join=0))
            if l.section == "findings" and len(l.facts) == 1 and l.facts[0].polarity
        ]
        after = {l.text for l in draft(scene.without("Pleural Effusion"), i, Style(join=0))}
        other = [l for l in before if l.facts[0].observation not in ("Pleural Effusion", "No Finding")]
        kept += len(other)
        same += sum(l.text in after for l in other)
    assert kept > 100 and same == kept


def test_no_identifier_in_any_report():
    bad = re.compile(
        r"\d{5,}|_{2,}|XXXX|\b\d{1,4}[-/]\d{1,2}[-/]\d{1,4}\b|\bDr\b|\bp1\d|\bs5\d|\[\*\*|\b\d{1,2}:\d\d\b", re.I)
    for i in range(500):
        assert not bad.search(" ".join(str(v) for v in vars(write_report(sample_scene(i), i)[0]).values()))


def test_refuses_bad_rates():
    for bad in (dict(terse=1.5), dict(negatives={"Edema": -1.}), dict(language="fr")):
        try:
            Style(**bad)
        except ValueError as e:
            assert "1.5" in str(e) or "-1.0" in str(e) or "fr" in str(e)
        else:
            raise AssertionError(bad)
