"""Exported from nbs/05c_radgraph.ipynb: edit it there, then run `nbdev-export`."""
import inspect, json, os, queue, re, signal, subprocess, threading, time, weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from rrg_core.data.study import named, named_file, without_text
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
                        "relations is missing"),
                       (lambda: radgraph_f1({"s1": 7, "s2": 7}, {"s1": one, "s2": 7}), "hypothesis 's1' is no"),
                       (lambda: radgraph_f1(None, None), "are needed, got"), (lambda: radgraph_f1(5, one), "got"),
                       (lambda: radgraph_f1(one, one, ["simple"]), "level must be")]:
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
        "no list": "gave no annotations for 2 reports", "no annotation": "for report 1 is no RadGraph annotation",
        "dangling": "report 1, entity '1': the field relations points to '7'",
        "another id": "answered what it was not asked",
        "odd id": "answered what it was not asked", "fails": "failed on 2 reports: it names no exception$",
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


def test_malformed_answers_name_record_and_field():
    import json, sys, textwrap
    fake = """
    #!{python}
    import json, sys
    ask = lambda: json.loads(sys.stdin.readline())
    def say(x): print(json.dumps(x), flush=True)
    ask()
    say({ready})
    r = ask()
    say({{"id": r["id"]}} | json.loads({answer!r}))
    sys.stdin.read()
    """
    nan, one = float("nan"), {"tokens": "heart", "label": "ANAT-DP", "relations": []}
    good = {"text": "", "entities": {"1": one}}
    of = lambda second: {"annotations": [good, second]}
    entity = lambda **fields: of({"entities": {"1": one, "2": one | fields}})
    here, field = "for report 2, entity '2': ", "the field relations"
    rows = [ # the thread, the answer, what the error says
        ("langchain-ai/langchain#22061", entity(relations=5), f"{here}{field} must be a list, got an int"),
        ("nlp-tlp/quickgraph#2", entity(relations=None), f"{here}{field} must be a list, got None"),
        ("langchain-ai/langchain#22061", entity(relations={"modify": "1"}), f"{field} must be a list, got a dic"),
        ("langchain-ai/langchain#22061", entity(relations=["ab"]), f"{here}{field}: a relation is a kind and a"),
        ("langchain-ai/langchain#22061", entity(relations=[5]), f"{here}{field}: a relation is a kind and a tar"),
        ("langchain-ai/langchain#22061", entity(relations=[[["modify"], "1"]]), f"{field}: a relation is a kind"),
        ("langchain-ai/langchain#22061", entity(relations=[["modify", "1", "2"]]), f"{field}: a relation is a k"),
        ("infiniflow/ragflow#4995", entity(relations=[["modify", None]]), f"{here}{field} points to of another"),
        ("infiniflow/ragflow#4995", entity(relations=[["modify", nan]]), f"{field} points to of another name"),
        ("infiniflow/ragflow#4995", entity(relations=[["modify", "Secretword"]]), "points to of another name, w"),
        ("autozimu/LanguageClient-neovim#55", entity(tokens=None), f"{here}the field tokens must be a text, got"),
        ("JSONbored/metagraphed#5988", entity(tokens=["Secretword"]), "the field tokens must be a text, got a l"),
        ("JSONbored/metagraphed#5988", entity(tokens=nan), "the field tokens must be a text, got nan"),
        ("JSONbored/metagraphed#5988", entity(label=["ANAT-DP"]), "the field label must be a text, got a list"),
        ("autozimu/LanguageClient-neovim#55", entity(label=None), "the field label must be a text, got None"),
        ("langchain-ai/langchain#22061", of({"entities": {"2": {"tokens": "a"}}}), "the field label is missing"),
        ("langchain-ai/langchain#22061", of({"entities": {"2": 5}}), f"{here}is an int, where fields with names"),
        ("langchain-ai/langchain#22061", of({"entities": {"2": [one]}}), f"{here}is a list of 1, where fields"),
        ("langchain-ai/langchain#22061", of({"entities": {"2": "tokens label relations"}}), "is a text of 22 ch"),
        ("infiniflow/ragflow#4995", of({"entities": {"Secretword": None}}), "entity of another name: is None"),
        ("JSONbored/metagraphed#5988", of({"entities": [one]}), "for report 2 is no RadGraph annotation"),
        ("autozimu/LanguageClient-neovim#55", of({"entities": None}), "for report 2 is no RadGraph annotation"),
        ("autozimu/LanguageClient-neovim#55", of(None), "for report 2 is no RadGraph annotation"),
        ("JSONbored/metagraphed#5988", of([]), "for report 2 is no RadGraph annotation"),
        ("BaseIntelligence/bounty-challenge#11353", {}, "gave no annotations for 2 reports"),
        ("autozimu/LanguageClient-neovim#55", {"annotations": None}, "gave no annotations for 2 reports"),
        ("JSONbored/metagraphed#5988", {"annotations": {"0": good, "1": good}}, "gave no annotations for 2 repo"),
        ("JSONbored/metagraphed#5988", {"annotations": nan}, "gave no annotations for 2 reports"),
        ("benchmark-subsetting/cere#108", {"annotations": []}, "gave 0 annotations for 2 reports"),
        ("benchmark-subsetting/cere#108", {"annotations": [good] * 3}, "gave 3 annotations for 2 reports"),
        ("sublimelsp/LSP#2233", {"id": None, "annotations": [good] * 2}, "answered what it was not asked"),
        ("sublimelsp/LSP#2233", {"id": False, "annotations": [good] * 2}, "answered what it was not asked"),
        ("sublimelsp/LSP#2233", {"id": nan, "annotations": [good] * 2}, "answered what it was not asked"),
        ("aks129/HealthClawGuardrails#309", {"error": "ValueError"}, "failed on 2 reports: ValueError$"),
        ("aks129/HealthClawGuardrails#309", {"error": "Secretword"}, "failed on 2 reports: it names no exceptio"),
        ("aks129/HealthClawGuardrails#309", {"error": "KeyError: 'Secretword'"}, "it names no exception$"),
        ("carlos-emr/carlos#148", {"error": "Secretword Error"}, "failed on 2 reports: it names no exception$"),
        ("carlos-emr/carlos#148", {"error": "ValueError\nSecretword"}, "it names no exception$"),
        ("department-of-veterans-affairs/vets-api#26216", {"error": {"message": "Secretword"}}, "no exception$"),
        ("department-of-veterans-affairs/vets-api#26216", {"error": None}, "names no exception$"),
        ("sublimelsp/LSP#226", {"error": ["Secretword"], "annotations": [good] * 2}, "names no exception$")]
    ready = [("JSONbored/metagraphed#5988", r, "got ready without naming its version")
             for r in ({"ready": None}, {"ready": ["1"]}, {"ready": "Secretword ill"}, {"ready": ""}, {"id": 0})]

    def raised(answer, ready={"ready": "1"}):
        with tempfile.TemporaryDirectory() as d:
            program = Path(d) / "python"
            filled = textwrap.dedent(fake).lstrip()
            program.write_text(filled.format(python=sys.executable, ready=ready, answer=json.dumps(answer)))
            program.chmod(0o755)
            with pytest.raises(CourseError) as error, RadGraphModel(program, start=20, timeout=20) as model:
                model(["Secretword one", "Secretword two"])
        return str(error.value)

    found = [(thread, answer, words, raised(answer)) for thread, answer, words in rows]
    found += [(thread, answer, words, raised({}, answer)) for thread, answer, words in ready]
    for thread, answer, words, said in found:
        assert re.search(words, said) and "Secretword" not in said and "\n" not in said, (thread, answer, said)
    with pytest.raises(ValueError, match="text 2 must be text, got None"): # one's own fault is told as such
        RadGraphModel(sys.executable)(["heart", None])


def test_nothing_outlives_the_worker():
    import signal, subprocess, sys, textwrap, time
    fake = """
    #!{python}
    import json, os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) # it holds the pipes open
    open("{pids}", "w").write(f"{{os.getpid()}} {{child.pid}}")
    kind, out = "{kind}", sys.stdout.buffer
    sys.stdin.readline()
    if kind == "no start": os._exit(3)
    print(json.dumps({{"ready": "1"}}), flush=True)
    for line in sys.stdin:
        if kind == "stalls": time.sleep(60)
        if kind == "crashes": os._exit(3)
        if kind == "closes its output": out.close(); os.close(1); time.sleep(60)
        while kind == "writes without end": out.write(b"Secretword " * 10000)
        print(json.dumps(dict(id=json.loads(line)["id"], annotations=[dict(entities={{}})])), flush=True)
    """

    def alive(pid): # a zombie has ended
        try: return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else (
            os.kill(pid, 0) is None)
        except OSError: return False

    def ended(pids):
        numbers, until = [int(p) for p in pids.read_text().split()], time.monotonic() + 10
        while any(map(alive, numbers)) and time.monotonic() < until: time.sleep(.02)
        return not any(map(alive, numbers))

    def program(folder, kind):
        path = Path(folder) / "python"
        filled = textwrap.dedent(fake).lstrip()
        path.write_text(filled.format(python=sys.executable, kind=kind, pids=f"{folder}/pids"))
        path.chmod(0o755)
        return path

    rows = [ # the thread, what the worker does, the error
        ("algoo/preview-generator#230", "answers", None),
        ("Netflix/metaflow#2976", "stalls", "gave no answer in 1 s"),
        ("zalando-zmon/zmon-worker#426", "crashes", "ended with status 3"),
        ("staticafi/symbiotic#207", "no start", "ended with status 3"),
        ("apache/airflow#65738", "closes its output", "gave no answer in 1 s"), # its child has it open
        ("maksimzayats/acodex#30", "writes without end", "wrote a line of more than 64 MB")]
    for thread, kind, words in rows:
        with tempfile.TemporaryDirectory() as d:
            begun, patience = time.monotonic(), 1 if words and "1 s" in words else 20
            with RadGraphModel(program(d, kind), again=0, timeout=patience) as model:
                if words is None: assert model(["heart"]) == [{"entities": {}}]
                else:
                    with pytest.raises(CourseError, match=words) as error: model(["Secretword"])
                    assert "Secretword" not in str(error.value), thread
            assert ended(Path(d) / "pids") and time.monotonic() - begun < 15, (thread, kind)
    code = """
    import os, signal, sys
    from rrg_core.metrics.radgraph import RadGraphModel
    model = RadGraphModel(sys.argv[1]).open()
    if sys.argv[2] == "is killed": os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "fails": raise KeyboardInterrupt
    """
    package = """
    import os, subprocess, sys
    class RadGraph:
        def __init__(self, model_type):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            open("{pids}", "w").write(f"{{os.getpid()}} {{child.pid}}")
    """
    for how in ("ends", "fails", "is killed"): # this program, with the real worker next door
        with tempfile.TemporaryDirectory() as d:
            (Path(d) / "radgraph.py").write_text(textwrap.dedent(package).format(pids=f"{d}/pids"))
            python = Path(d) / "python"
            python.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {d!r})\nexec(sys.argv[2])\n")
            python.chmod(0o755)
            subprocess.run([sys.executable, "-c", textwrap.dedent(code), python, how], capture_output=True)
            assert ended(Path(d) / "pids"), how
