"""Exported from nbs/05c_radgraph.ipynb: edit it there, then run `nbdev-export`."""
import inspect, json, os, queue, re, subprocess, threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from rrg_core.data.study import named, named_file
from rrg_core.engine.settings import CourseError, data_root
from rrg_core.metrics import radgraph_worker
from rrg_core.metrics.text import failure
import os, sys, tempfile, textwrap
import pandas as pd, pytest
from rrg_core.engine.settings import CourseError
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


def test_the_model_runs_next_door():
    import sys, textwrap, venv
    fake = '''
    import os, sys, time
    class RadGraph:
        def __init__(self, model_type): assert model_type == "radgraph", model_type
        def __call__(self, texts):
            print("loading"); os.system("echo more noise"); print("warning", file=sys.stderr)
            assert not any(t in " ".join(sys.orig_argv) for t in texts) and "PYTHONPATH" not in os.environ
            if "fail" in texts: raise RuntimeError("fail is a word of a report")
            if "die" in texts: time.sleep(.2); os._exit(3) # the batch before it is read meanwhile
            return {str(i): {"text": t, "entities": self.entities(t)} for i, t in enumerate(texts)}
        def entities(self, text):
            one = lambda k, w: dict(tokens=w, label="OBS-DP", start_ix=k, end_ix=k, relations=[])
            return {str(k + 1): one(k, w) for k, w in enumerate(text.split())}
    '''
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_ROOT_RADGRAPH", raising=False)
        with pytest.raises(CourseError, match="RRG_ROOT_RADGRAPH is not set.*pip install radgraph==0.1.18"):
            RadGraphModel()
        m.setenv("RRG_ROOT_RADGRAPH", d)
        with pytest.raises(CourseError, match="bin/python is missing"): RadGraphModel()
        venv.create(d, with_pip=False)
        site = next(Path(d).glob("lib/python*/site-packages"))
        with pytest.raises(CourseError, match="ended with status 1: ModuleNotFoundError: No module named 'radgr"):
            RadGraphModel().open()
        (site / "radgraph.py").write_text(textwrap.dedent(fake))
        m.setenv("PYTHONPATH", "/nowhere")
        with RadGraphModel(batch=2) as model:
            h, r, empty, again = model(["heart large", "heart small", " ", "heart large"])
            assert radgraph_f1(h, r, "simple") == .5 and radgraph_f1(empty, r, "simple") == 0 and again == h
            assert model.version == "unknown" and model([]) == [] and model(["größer"])[0]["text"] == "größer"
            many = [f"word{i} effusion" for i in range(501)]
            assert [a["text"] for a in model(many)] == many # more than a pipe holds
            with pytest.raises(CourseError, match="failed on 1 reports: RuntimeError$"): model(["fail"])
            assert model(["heart"])[0]["entities"] # the next call starts a worker anew
            with pytest.raises(CourseError, match="ended with status 3.*; 2 of 3 reports were annotated"):
                model(["large heart", "small heart", "die"])
        assert model._worker is None
        with pytest.raises(CourseError, match="status 1: AssertionError: xl"): RadGraphModel(model="xl").open()


def test_a_worker_that_misbehaves():
    import sys, textwrap, time
    fake = '''
    #!{python}
    import json, os, sys, time
    kind, once = "{kind}", "{once}"
    first = not os.path.exists(once)
    open(once, "w").close()
    out = sys.stdout.buffer
    def say(x):
        out.write((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\\n"); out.flush()
    def entities(t): return {{"1": dict(tokens=t, label="OBS-DP", start_ix=0, end_ix=0, relations=[])}}
    def many(r): return [{{"text": t, "entities": entities(t)}} for t in r["texts"]]
    def reply(r): return {{"id": r["id"], "annotations": many(r)}}
    lost = {{"entities": {{"1": dict(tokens="a", label="b", relations=[["modify", "7"]])}}}}
    sys.stdin.readline()
    if kind == "dies at once": os._exit(9)
    if kind == "never ready": time.sleep(60)
    say({{"ready": "1"}})
    held = []
    for line in sys.stdin:
        r = json.loads(line)
        if kind == "dies": sys.stderr.write("Secretword: MemoryError"); sys.stderr.flush(); os._exit(4)
        if kind == "dies once" and first and r["id"] == 1: os._exit(4)
        if kind == "stalls" or (kind == "stalls once" and first and r["id"] == 2): time.sleep(60)
        if kind == "warns": say(b"UserWarning: Secretword"); say([1, 2]); say(b"\\xff\\xfe Secretword"); say(None)
        if kind == "not utf-8": say(b"\\xff\\xfe\\x00 Secretword"); continue
        if kind == "garbage": say(b"Secretword " * 100); continue
        if kind == "floods errors": sys.stderr.write("Secretword\\n" * 20000); sys.stderr.flush()
        if kind == "one short": say(dict(reply(r), annotations=many(r)[1:])); continue
        if kind == "no list": say(dict(reply(r), annotations="Secretword")); continue
        if kind == "no annotation": say(dict(reply(r), annotations=["Secretword"] * 2)); continue
        if kind == "dangling": say(dict(reply(r), annotations=[lost] * 2)); continue
        if kind == "another id": say(dict(reply(r), id=77)); continue
        if kind == "odd id": say(dict(reply(r), id=[1])); continue
        if kind == "fails": say({{"id": r["id"], "error": "ValueError: Secretword"}}); continue
        if kind == "out of order":
            held.append(r)
            if len(held) == 3:
                for x in held[::-1]: say(reply(x))
            continue
        if kind == "half a line": out.write(json.dumps(reply(r)).encode()[:20]); out.flush(); os._exit(0)
        say(reply(r))
        if kind == "twice": say(reply(r))
    '''
    texts = [f"Secretword {i}" for i in range(6)]
    wrong = {
        "dies at once": "ended with status 9: no message; 0 of 6",
        "never ready": "did not get ready in 0.7 seconds",
        "dies": "ended with status 4: MemoryError; 0 of 6", "stalls": "gave no answer in 0.7 seconds; 0 of 6",
        "not utf-8": r"gave no answer in 0.7 seconds \(3 lines of its output were no answer\)",
        "garbage": r"gave no answer in 0.7 seconds \(3 lines", "one short": "gave 1 annotations for 2 reports",
        "no list": "gave no annotations for 2 reports", "no annotation": "an answer is no RadGraph annotation",
        "dangling": "a relation points to '7'", "another id": "answered what it was not asked",
        "odd id": "answered what it was not asked", "fails": "failed on 2 reports: ValueError$",
        "half a line": r"ended with status 0: no message \(1 lines", "twice": "answered what it was not asked"}
    right = ("well", "dies once", "stalls once", "warns", "floods errors", "out of order")
    for kind in (*wrong, *right):
        with tempfile.TemporaryDirectory() as d:
            program = Path(d) / "python"
            filled = textwrap.dedent(fake).lstrip().format(python=sys.executable, kind=kind, once=f"{d}/once")
            program.write_text(filled)
            program.chmod(0o755)
            begun, patience = time.monotonic(), .7 if kind in wrong and "0.7" in wrong[kind] else 5
            if kind == "stalls once": patience = 1.5
            with RadGraphModel(program, batch=2, start=patience, timeout=patience) as model:
                if kind in right:
                    assert [a["entities"]["1"]["tokens"] for a in model(texts)] == texts, kind
                    continue
                with pytest.raises(CourseError, match=wrong[kind]) as error: model(texts)
                assert "Secretword" not in str(error.value) and "\n" not in str(error.value), kind
            assert time.monotonic() - begun < 10, kind
