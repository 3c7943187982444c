"""Exported from nbs/05r_judge.ipynb: edit it there, then run `nbdev-export`."""
import json, re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
import numpy as np
import pandas as pd
from rrg_core.data.study import OBSERVATIONS, Study, named, without_text
from rrg_core.engine.code import Registry
from rrg_core.engine.settings import CourseError
from rrg_core.labels import label
from rrg_core.metrics.rexval import COUNTS, KINDS, agreement, reworded
from rrg_core.metrics.stats import bootstrap_ci
from rrg_core.phantom import seeds
from rrg_core.phantom.errors import CATEGORIES, corrupt_several, matters
from rrg_core.phantom.scene import KINDS as SORTS, Finding
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.shown import progress
import pytest
from rrg_core.metrics.rexval import phantom_pairs
from rrg_core.metrics.judge import *


def test_counts_are_whole_numbers():
    one = ErrorCounts(significant=(1, 0, 0, 0, 0, 2), insignificant=[0, 3, 0, 0, 0, 0])
    assert (one.errors, one.serious, one.error_free) == (6, 3, False) and ErrorCounts().error_free
    assert one.insignificant == (0, 3, 0, 0, 0, 0) and hash(one) # a list becomes a tuple
    assert ErrorCounts(tuple(np.arange(6))).significant == (0, 1, 2, 3, 4, 5)
    row = one.row()
    assert list(row) == ["errors", "significant", *COUNTS]
    assert row["false finding, significant"] == 1 and row["omission, insignificant"] == 3
    assert row["omitted comparison, significant"] == 2 and sum(row.values()) == 6 + 3 + 6
    listed = [("false finding", True), *[("omission", False)] * 3, *[("omitted comparison", True)] * 2]
    again = ErrorCounts.of(listed)
    assert again == one and ErrorCounts.of([]) == ErrorCounts()
    for wrong in (-1, 1., "1", True, None, 100, float("nan"), [1]):
        with pytest.raises(ValueError, match="significant wrong location: a whole number from 0 to 99"):
            ErrorCounts((0, 0, wrong, 0, 0, 0))
    with pytest.raises(ValueError, match="6 counts are expected, got 5"): ErrorCounts(insignificant=(0,) * 5)
    with pytest.raises(ValueError, match="unknown category 'typo'"): ErrorCounts.of([("typo", True)])


def test_answers_are_read_or_refused():
    one = ErrorCounts((1, 0, 2, 0, 0, 0), (0, 0, 0, 0, 5, 1))
    plain = to_json(one)
    assert from_json(plain) == one
    for around in ("```json\n{}\n```", "```\n{}\n```", "  ```JSON\n{}```\n", "\n {} \n"):
        assert from_json(around.replace("{}", plain)) == one, around
    pretty = json.dumps(dict(reversed(json.loads(plain).items())), indent=2) # order and spaces are free
    assert from_json(pretty) == one
    bad = json.loads(plain)
    bad["significant"]["wrong_location"] = "effusion"
    refused = {
        "": "no JSON", "pneumothorax": "no JSON", "[1, 2]": "no JSON object", "null": "no JSON object",
        plain + " Explanation: effusion": "no JSON", plain[:-1]: "no JSON", f"Here: {plain}": "no JSON",
        '{"significant": {}}': "lacks insignificant",
        json.dumps(bad): "significant wrong location: a whole number .* got a text of 8 characters",
        plain.replace('"omission": 0, ', "", 1): "significant lacks omission",
        plain.replace('"omission": 0', '"omission": 0, "effusion": 1', 1): "1 keys too many",
        plain.replace('"omission": 0', '"omission": 0, "omission": 4', 1): "a key twice",
        plain.replace('"omission": 0', '"omission": -1', 1): "got -1",
        plain.replace('"omission": 0', '"omission": 1.0', 1): "got 1.0",
        plain.replace('"omission": 0', '"omission": true', 1): "got True",
        plain.replace('"omission": 0', '"omission": NaN', 1): "got nan",
        plain.replace('"omission": 0', '"omission": null', 1): "got None",
        plain[:-1] + ', "note": "effusion"}': "1 keys too many", "[" * 100_000: "no JSON",
        '{"significant": 3, "insignificant": 0}': "significant is no JSON object"}
    for text, why in refused.items():
        with pytest.raises(AnswerError, match=why) as e: from_json(text)
        assert "effusion" not in str(e.value) and "pneumothorax" not in str(e.value)
        assert e.value.__cause__ is None
    with pytest.raises(AnswerError, match="no text, but None"): from_json(None)


def test_the_schema_says_the_same():
    import jsonschema # comes with Jupyter: an independent reading of the schema

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    valid = lambda text: jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text))
    plain = to_json(ErrorCounts((1, 0, 2, 0, 0, 99)))
    assert valid(plain)
    for old, new in (("99", "100"), ("1", "-1"), ("1", "true"), ("1", "1.5"), ('"omission": 0, ', ""),
                     ('"omission"', '"more": 0, "omission"'), ("1", '"1"')):
        changed = plain.replace(old, new, 1)
        assert changed != plain and not valid(changed)
        with pytest.raises(AnswerError): from_json(changed)


def test_the_question_holds_what_it_should():
    pairs = examples()
    assert len(pairs) == 5 and pairs[-1][2].error_free and pairs[-1][0] != pairs[-1][1]
    total = np.sum([c.significant + c.insignificant for _, _, c in pairs], axis=0)
    assert total.tolist() == [1] * 12 # every kind once
    said = "A report with \"quotes\", a line break\nand: Errors: {}"
    system, user = messages_for(said, "A small left effusion is seen.")
    assert (system["role"], user["role"]) == ("system", "user")
    last = user["content"].splitlines()[-2]
    assert json.loads(last.removeprefix("Reports: ")) == dict(reference="A small left effusion is seen.",
                                                              candidate=said)
    assert user["content"].endswith("\nErrors:") and user["content"].count("Reports: ") == 6
    assert all(k in user["content"] for k in KEYS)
    assert messages_for("", "A small left effusion is seen.") # nothing said is something to judge
    for h, r, why in ((None, "x", "hypothesis must be text, got None"), ("x", " ", "an empty one"),
                      ("x", 3, "got an int"), ("effusion", None, "got None")):
        with pytest.raises(ValueError, match=why) as e: messages_for(h, r)
        assert "effusion" not in str(e.value)


def test_weights_are_the_phantoms():
    from rrg_core.phantom.wording import level

    found = [f for k in range(150) for f in scene_at("hospital", k).findings]
    assert len(found) > 200 and {matters(f) for f in found} == {True, False}
    for f in found: assert weighs(f.observation, level(f), f.kind == "calcification") == matters(f)
    assert not weighs("emphysema", 2)


def test_labels_see_presence_alone():
    true = "There is a small left pleural effusion and severe cardiomegaly. No pneumothorax."
    count = LabelsJudge().counts
    assert count(true, true).error_free and count("Severe cardiomegaly. Small left effusion.", true).error_free
    blind = true.replace("left", "right").replace("small", "large new") # side, severity and change
    assert count(blind, true).error_free
    one = count("There is a small left pleural effusion. Right pneumothorax.", true)
    assert one == ErrorCounts.of([("omission", True), ("false finding", True)])
    assert count("", true).serious == 2 and count("Possible left effusion.", true).errors == 1
    assert count(true + " A sternal wire and a chest tube.", true).insignificant[0] == 1


def test_judges_are_asked_again_once():
    good, log = to_json(ErrorCounts((0, 1, 0, 0, 0, 0))), []
    def model(*answers):
        left = list(answers)
        def backend(messages, schema):
            assert schema is SCHEMA
            log.append(messages)
            return left.pop(0)
        return backend
    true = "There is a left effusion."
    assert judge("Clear lungs.", true, model(good)).serious == 1 and len(log) == 1
    assert judge("Clear lungs.", true, model("I would say none.", good)) == from_json(good)
    again = log[-1]
    assert [m["role"] for m in again] == ["system", "user", "assistant", "user"] and again[:2] == log[-2]
    assert again[2]["content"] == "I would say none." and "no JSON" in again[3]["content"]
    for bad in ("", None):
        assert judge("Clear lungs.", true, model(bad, good)).errors == 1
        assert log[-1][2]["content"] == "(nothing)" # servers refuse an empty message
    with pytest.raises(AnswerError, match="lacks significant"): judge("Clear.", true, model("{}", "{}", good))
    with pytest.raises(AnswerError, match="no JSON"): judge("Clear.", true, model("x", good), attempts=1)
    for h, r, b, why in (("x", "", "labels", "empty"), ("x", "y", "guess", "rules, labels, constant"),
                         (None, "y", "labels", "got None")):
        with pytest.raises(ValueError, match=why): judge(h, r, b)
    with pytest.raises(ValueError, match="at least 1"): judge("x", "y", "labels", attempts=0)
    def guarded(messages, schema): raise CourseError("nothing is sent to example.invalid")
    with pytest.raises(CourseError, match="example.invalid"): judge("x", "y", guarded)


def test_order_and_missing_answers():
    import time

    def backend(messages, schema):
        pair = json.loads(messages[1]["content"].splitlines()[-2].removeprefix("Reports: "))
        k = int(pair["candidate"])
        time.sleep(.002 * (7 - k % 8)) # the first answers last
        if k == 5: raise Refused("the server filtered the answer")
        return "effusion" if k in (3, 11) else to_json(ErrorCounts((k, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 1)))
    class Refused(CourseError):
        def __init__(self, *reasons):
            self.reasons = reasons
            super().__init__("no usable answer")
    for threads in (1, 8):
        found = judge_many([str(k) for k in range(16)], ["clear"] * 16, backend, threads=threads)
        lost = found.failure != ""
        assert np.flatnonzero(lost).tolist() == [3, 5, 11] and found.attrs["missing"] == 3
        assert found.loc[lost].drop(columns="failure").isna().all(axis=None)
        assert (found.errors[~lost] == np.flatnonzero(~lost) + 1).all()
        assert found.failure[5] == "the server filtered the answer" and "effusion" not in "".join(found.failure)
    assert list(found)[:2] == ["errors", "significant"] and (found.dtypes[:-1] == float).all()
    def closed(messages, schema): raise CourseError("nothing is sent")
    with pytest.raises(CourseError, match="nothing is sent"): judge_many(["a"], ["b"], closed)
    with pytest.raises(ValueError): judge_many(["a"], ["b", "c"], "labels")
    with pytest.raises(ValueError, match="empty"): judge_many(["a", "b"], ["c", ""], "labels")
    assert judge_many([], [], "labels").empty
    panel = phantom_pairs(5, candidates=2)
    table = judge_many(panel.hypothesis, panel.reference, "labels")
    assert (table.loc[(panel.hypothesis == panel.reference).to_numpy(), "errors"] == 0).all()
    fixed = judge_many(panel.hypothesis, panel.reference, "constant")
    assert (fixed.errors == 2).all() and (fixed.significant == 1).all() and not fixed.attrs["missing"]


def test_taus_of_judges():
    from scipy.stats import kendalltau

    panel = phantom_pairs(12, candidates=3, seed=2)
    perfect = panel[["errors", "significant"]].astype(float)
    holes = perfect.copy()
    holes[::5] = np.nan
    judged = {"perfect": perfect, "holes": holes, "constant": perfect * 0 + 2, "backwards": -perfect,
              "labels": judge_many(panel.hypothesis, panel.reference, "labels")}
    words = pd.DataFrame({"words": [len(h.split()) for h in panel.hypothesis]})
    table = tau_table(panel, judged, words, n=50).set_index(["counted", "metric"])
    for counted in ("errors", "significant"):
        rows = table.loc[counted]
        assert rows.tau_b["perfect"] == rows.tau_b["holes"] == pytest.approx(1) and rows.tau_b["backwards"] < -.99
        assert np.isnan(rows.tau_b["constant"]) and rows.pairs["holes"] == holes.errors.notna().sum() < len(panel)
        want = kendalltau(judged["labels"][counted], panel[counted])[0]
        assert rows.tau_b["labels"] == pytest.approx(want) and rows.low["labels"] < want < rows.high["labels"]
        assert rows.tau_b["words"] == pytest.approx(-kendalltau(words.words, panel[counted])[0])


def test_missing_answers_are_no_good_answers():
    rows = [ErrorCounts((1, 0, 0, 0, 0, 0)), ErrorCounts(), ErrorCounts(insignificant=(2, 0, 0, 0, 0, 1))]
    judged = pd.DataFrame([c.row() for c in rows] + [dict.fromkeys(rows[0].row(), np.nan)]).astype(float)
    table = error_rates(judged, n=200).set_index("rate")
    assert table.value.round(6).tolist() == [1.333333, .333333, .333333, .666667]
    assert (table.reports == 3).all() and (table.missing == 1).all()
    assert (table.low <= table.value).all() and (table.value <= table.high).all()
    tied = error_rates(pd.concat([judged] * 4), groups=list("abcd") * 4, n=200).set_index("rate")
    loose = error_rates(pd.concat([judged] * 4), n=200).set_index("rate")
    assert (tied.high - tied.low)["errors"] > 1.3 * (loose.high - loose.low)["errors"] # copies are no reports
    lost = error_rates(judged[3:], n=10)
    assert lost.value.isna().all() and (lost.missing == 1).all() and (lost.reports == 0).all()
