"""Exported from nbs/05s_rule_judge.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from rrg_core.labels.lexicon import find_mentions, normalize, read_line, split_report
from rrg_core.labels.scopes import read_sentence
from rrg_core.metrics.judge import ErrorCounts, OfflineJudge, weighs
from rrg_core.phantom.errors import CATEGORIES
import numpy as np
import pandas as pd
import pytest
from rrg_core.metrics.judge import examples, judge, judge_many
from rrg_core.metrics.rexval import COUNTS, KINDS, phantom_pairs
from rrg_core.metrics.rule_judge import *


def test_claims_of_sentences():
    def only(text):
        found, = read_claims(text)
        return found
    left, right = frozenset({"left"}), frozenset({"right"})
    c = only("Moderate-sized left-sided pleural effusion, increased since the earlier film.")
    assert (c.observation, c.sides, c.steps, c.change) == ("Pleural Effusion", left, {1}, "increased")
    c = only("A nodule in the right upper lobe is again seen, unchanged.")
    assert (c.sides, c.heights, c.steps, c.change, c.serious) == (right, {"upper"}, set(), "unchanged", True)
    assert only("Bibasilar atelectasis.").sides == left | right and only("Bibasilar atelectasis.").heights == {"lower"}
    assert only("Mild to moderate cardiomegaly.").steps == {0, 1}
    assert only("Mildly displaced left rib fracture.").steps == {1}
    assert only("Calcified nodule on the left, large.").kind == "calcified"
    assert not only("Calcified nodule on the left, large.").serious
    gone = only("The left pneumothorax is no longer seen.")
    assert not gone.present and gone.change == "resolved"
    two = read_claims("Left lower lobe atelectasis and a small right effusion.")
    assert [(c.observation, c.sides, c.steps) for c in two] == [("Atelectasis", left, set()),
                                                                ("Pleural Effusion", right, {0})]
    cause = read_claims("Hazy opacity at the right base, which may represent pneumonia.")
    assert [(c.observation, c.sides, c.heights) for c in cause] == [(o, right, {"lower"}) for o in
                                                                   ("Lung Opacity", "Pneumonia")]
    tubes = read_claims("Endotracheal tube and nasogastric tube in place. Left pacemaker. Right chest tube. PICC.")
    assert [c.kind for c in tubes] == ["tracheal tube", "gastric tube", "pacemaker", "drain", "venous line"]
    assert only("No change from the earlier film.") == Claim("", change="unchanged")
    for nothing in ("", "No effusion or pneumothorax.", "The lungs are clear.", "The heart is normal in size."):
        assert read_claims(nothing) == []


def test_claims_are_the_grammars():
    from rrg_core.phantom.errors import claims
    from rrg_core.phantom.grammar import Pen, draft, seen
    from rrg_core.phantom.sites import scene_at, site
    from rrg_core.phantom.wording import height, level

    checked = 0
    for name in ("structured", "hospital"):
        for k in range(60):
            scene, style = scene_at(name, k), site(name).style
            lines = [l for l in draft(scene, scene.seed, style) if l.section == "findings"]
            there = {f.key: f for f in seen(scene, Pen(scene.seed, style))}
            for line in lines:
                true = [f for f in line.facts if f.observation and f.polarity in (1, -1) and f.key in there]
                said = [c for c in read_claims(line.text) if c.observation and c.present]
                assert sorted(c.observation for c in said) == sorted(f.observation for f in true)
                if len(true) != 1: continue
                (fact, claim), f = (true[0], said[0]), there[true[0].key]
                checked += 1
                assert claim.change == fact.change
                if claim.sides and f.kind != "pacemaker": assert claim.sides == set(f.sides)
                if claim.heights and height(f) in ("upper", "mid", "lower"): assert claim.heights == {height(f)}
                assert not claim.steps or claim.steps == {level(f)}
    assert checked > 250


def test_pairs_by_hand():
    assert len(HAND_PAIRS) == 32
    kinds = {e for *_, errors in HAND_PAIRS for e in errors.split()}
    assert kinds == {letter + weight for letter in "ABCDEF" for weight in "+-"} # each kind, each weight
    for h, r, errors in HAND_PAIRS: assert RuleJudge().counts(h, r) == hand_counts(errors), (h, r)
    for h, r, _ in HAND_PAIRS:
        assert RuleJudge().counts(r, r).error_free
        assert not h or RuleJudge().counts(h, h).error_free


def test_errors_mirror():
    # What one report has too much, the other lacks: the counts of a turned pair are known
    turned = {"A": "B", "B": "A", "C": "C", "D": "D", "E": "F", "F": "E"}
    for h, r, errors in HAND_PAIRS:
        if not h or ("decreased" in h and "increased" in r): continue
        want = " ".join(turned[e[0]] + e[1] for e in errors.split())
        assert RuleJudge().counts(r, h) == hand_counts(want), (r, h)


def test_the_question_s_examples_are_counted():
    for reference, candidate, counts in examples():
        assert judge(candidate, reference, "rules") == counts
        assert judge(reference, reference).error_free # the default is this judge


def test_held_out_sites():
    for site in ("harbour", "highland"):
        panel = phantom_pairs(12, site, candidates=3, seed=5)
        table = judge_many(panel.hypothesis, panel.reference, "rules")
        wrong = (table[list(COUNTS)].to_numpy() != panel[list(COUNTS)]).any(axis=1)
        assert wrong.mean() < .1 and (table.errors - panel.errors).abs().mean() < .1
        equal = (panel.hypothesis == panel.reference).to_numpy()
        assert equal.any() and (table.errors[equal] == 0).all()
        labels = judge_many(panel.hypothesis, panel.reference, "labels")
        seen = [c for c in COUNTS if c.startswith(("false", "omission"))]
        assert (labels.errors == labels[seen].sum(axis=1)).all()
        assert (labels.errors - panel.errors).abs().mean() > .5 # four kinds are beyond it
