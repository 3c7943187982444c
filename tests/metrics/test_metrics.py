"""Exported from nbs/05l_in_your_code.ipynb: edit it there, then run `nbdev-export`."""
import atexit, re
from dataclasses import replace
from functools import cache
from rrg_core.data.study import named
from rrg_core.engine.settings import CourseError
from rrg_core.metrics.clinical import PROTOCOLS, Protocol
import json, subprocess, sys, tempfile
import numpy as np, pandas as pd, pytest
from pathlib import Path
from rrg_core.data.study import OBSERVATIONS
from rrg_core.metrics.evaluate import evaluate, evaluate_command
from rrg_core.metrics.text import METRICS
from rrg_core.metrics import *


def test_further_metrics_by_name():
    from rrg_core.metrics import load
    from rrg_core.metrics.backends import Components
    said, truth = ["The heart is enlarged.", "The lungs are clear."], ["Cardiomegaly.", "The lungs are clear."]
    scores = load("fita").compute(predictions=said, references=truth, bootstraps=0, without=["METEOR"],
                                  metrics="radgraph-standin,chexbert-standin")
    for name, value in Components("radgraph-standin,chexbert-standin")(said, truth).mean().items():
        assert abs(scores[name] - value) < 1e-12
    for part in ("protocol:fita|", "|models:radgraph=rules,chexbert=rules|"): assert part in scores["signature"]


def test_load_gives_what_the_command_gives():
    from rrg_core.metrics.clinical import PROTOCOLS

    texts = ["Edema.", "", "Small effusion. Edema.", "The lungs are clear.", "The heart is enlarged. " * 3]
    truths = ["Edema.", ".", "Effusion.", ["Clear lungs.", "Lungs clear."], "Cardiomegaly, severe."]
    whose, train = ["p", "q", "p", None, None], ["edema .", "the effusion ."] * 10
    label = lambda texts: np.array([[float(len(t) % 3 == 1)] * 14 for t in texts])
    rng = np.random.default_rng(0)
    given = tuple(rng.choice([1, 0, -1, np.nan], (5, 14)) for _ in range(2))
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        frame = pd.DataFrame({"hypothesis": texts, "reference": truths})
        frame.to_json(d / "p.jsonl", orient="records", lines=True)
        frame.assign(patient_id=whose).to_json(d / "g.jsonl", orient="records", lines=True)
        (d / "train.txt").write_text("\n".join(train) + "\n")
        sides = [pd.DataFrame(x, columns=[f"{side} {o}" for o in OBSERVATIONS])
                 for side, x in zip(("hypothesis", "reference"), given)]
        pd.concat(sides, axis=1).to_csv(d / "labels.csv", index=False)

        def same(name, file="p.jsonl", here={}, there={}, **options):
            metric = load(name)
            options = dict(drop_empty=True, without=("METEOR", "sacreBLEU")) | options
            one = metric.compute(predictions=texts, references=truths, **options, **here)
            other = evaluate(d / file, name, **options, **there)
            assert list(metric.table) == list(other)
            pd.testing.assert_frame_equal(metric.table, other, check_exact=True)
            assert [one[m] for m in other["metric"]] == other["value"].tolist()
            assert {f"{m} low" in one for m in other["metric"]} == {options.get("bootstraps") != 0}
            assert one["signature"] == other["signature"].iloc[0]
            assert metric.table.attrs["health"] == other.attrs["health"]
            return one

        for name in PROTOCOLS: same(name, bootstraps=0)
        for name, options in (("fita", dict(bootstraps=20, seed=3)), ("chex-mic-f1-14", {}),
                              ("default", dict(bootstraps=5, max_words=3))): same(name, **options)
        same("fita", bootstraps=0, without=())
        assert "groups:3" in same("r2gen", "g.jsonl", dict(groups=whose), bootstraps=20)["signature"]
        for reports in (train, d / "train.txt"):
            assert "unk:10" in same("fita", here=dict(train=reports), there=dict(train=d / "train.txt"),
                                    bootstraps=0)["signature"]
        assert "labeler:given" in same("default", here=dict(labels=given), there=dict(labels=[d / "labels.csv"]),
                                       bootstraps=0)["signature"]
        same("default", label=label, bootstraps=0)


def test_a_wrong_call_is_one_line():
    from rrg_core.metrics.clinical import PROTOCOLS
    from rrg_core.tools.house import quoting

    metric, quick = load(Protocol("quick", text=None, metrics=("ROUGE-L", ))), dict(bootstraps=0)
    for given, words in [
        (dict(), "no pair to score"), (dict(predictions=[], references=[]), "no pair to score"),
        (dict(predictions=["a"]), "references must be a list of texts, got None"),
        (dict(predictions="a", references="b"), "predictions must be a list of texts"),
        (dict(predictions=["a"], references=["b", "c"]), "1 predictions for 2 references"),
        (dict(predictions=["a", "b"], references=["c", " "]), "record 2: the reference is empty .*drop_empty="),
        (dict(predictions=[None], references=["b"]), "record 1: the hypothesis is missing or no text"),
        (dict(predictions=["a"], references=[3]), "record 1: the reference is missing or no text"),
        (dict(predictions=["a"], references=["b"], groups=["p", "q"]), "2 groups for 1 pairs"),
        (dict(predictions=["a"], references=["b"], labels=(np.zeros((1, 14)), np.zeros((1, 5)))), "1, 14., got"),
        (dict(predictions=["a"], references=["b"], without=["meteor"]), "no metric 'meteor' to leave out"),
        (dict(predictions=["a"], references=["b"], bootstraps=-1), "must be 0 .no interval. or more"),
        (dict(predictions=["a"], references=["b"], train="none.txt"), "none.txt.* does not exist")]:
        with pytest.raises((CourseError, ValueError), match=words) as e: metric.compute(**quick | given)
        assert "\n" not in str(e.value) and "--" not in str(e.value)
    with pytest.raises(TypeError): metric.compute(["a"], ["b"]) # which is which has to be said
    for name in ("Fita", "f1", "chex", 3, None, ["fita"]):
        with pytest.raises(CourseError, match="unknown protocol .*; known: default, r2gen, .*llava"): load(name)
    assert all(load(p).protocol is PROTOCOLS[p] for p in PROTOCOLS)

    metric.add(prediction="a b", reference="a b")
    for bad in (["x"], ["x", "y", ""]): # what was gathered outlives a call that fails
        with pytest.raises((CourseError, ValueError)): metric.compute(predictions=["x", "y", "z"][:len(bad)],
                                                                      references=[*bad[:-1], ""], **quick)
    metric.add_batch(predictions=np.array(["c"]), references=pd.Series(["d"]))
    assert metric.compute(**quick)["ROUGE-L"] == .5 and "n:2" in metric.table["signature"][0]
    with pytest.raises(ValueError, match="no pair to score"): metric.compute(**quick)
    both = metric.compute(predictions=("a", ), references=(("b", "a"), ), **quick)
    assert both["ROUGE-L"] == 1 and all(isinstance(v, float) for k, v in both.items() if k != "signature")
    assert quoting({"name": load, "predictions": lambda x: metric.compute(predictions=[x], references=[""]),
                    "references": lambda x: metric.compute(predictions=["a", "b"], references=[x]),
                    "groups": lambda x: metric.compute(predictions=["a"], references=["b"], groups=[x, x])}) == []


def test_the_package_is_light():
    code = """if True:
        import sys, time
        start = time.process_time()
        from rrg_core.metrics import load, reward
        assert (spent := time.process_time() - start) < 1, spent
        heavy = "torch", "transformers", "torchmetrics", "sklearn", "matplotlib"
        assert not (found := [m for m in heavy if m in sys.modules]), found
        import rrg_core.metrics.text
        assert time.process_time() - start < 2
        load("default").compute(predictions=["No effusion."], references=["Effusion."], bootstraps=0,
                                without=["METEOR"])
        reward()(completions=["No effusion."], reference=["Effusion."])
        assert not (found := [m for m in heavy if m in sys.modules]), found
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


def test_reward_is_what_a_trainer_calls():
    import inspect
    from rrg_core.metrics.clinical import PROTOCOLS

    calls = []

    def label(texts):
        calls.append(list(texts))
        return np.array([[1. if "effusion" in t.lower() else np.nan] * 13 + [np.nan] for t in texts])

    truth, other = "Small effusion.", "The lungs are clear."
    f = reward("CE-F1", label=label)
    chat = lambda text: [{"role": "assistant", "content": text}]
    wanted = [1., 0., 0., 1., 0.]
    texts, truths = [truth, other, "", truth, "nan"], [truth, truth, other, truth, truth]
    trainer = dict(prompts=["p"] * 5, completion_ids=[[1]] * 5, trainer_state=object(), log_extra=print)
    assert f(completions=texts, reference=truths, **trainer) == wanted
    assert [sorted(c) for c in calls] == [["", truth, other, "nan"], [truth, other]] # each text once
    for column in ("references", "ground_truth", "gt", "target", "section_findings"):
        assert f(completions=[chat(t) for t in texts], **{column: truths}, age=[1] * 5, **trainer) == wanted
    for completion in (truth, chat(truth), {"role": "assistant", "content": truth},
                       chat([{"type": "text", "text": truth}]), [{"role": "tool", "content": "x"}, *chat(truth)],
                       [{"role": "user", "content": other}, *chat(truth)]):
        for reference in (truth, [truth], [truth, other], chat(truth)):
            assert f(completions=[completion], reference=[reference]) == [1.], (completion, reference)
    for nothing in ("", " \n", [], chat(""), chat(None), chat([{"type": "image"}]), "...", "右侧胸腔积液"):
        assert f(completions=[nothing], reference=[other]) == [0.], nothing
    assert f(completions=[other], reference=[other]) == [1.] # nothing there and nothing said
    assert f(completions=[truth, other], reference=[None, truth]) == [None, 0.] # another task's row
    assert f(completions=[truth], reference=[None]) == [None] and f(completions=[], reference=[]) == []
    ragged = reward("CE-precision", label=label), reward("CE-recall", label=label)
    assert [g(completions=[other, truth], reference=[truth, other]) for g in ragged] == [[0., 0.], [0., 0.]]
    assert all(isinstance(v, float) for v in f(completions=texts, reference=truths))
    assert f.__name__ == "CE-F1_default" and not inspect.iscoroutinefunction(f)
    assert reward("ROUGE-L", "fita").__name__ == "ROUGE-L_fita" and reward(name="mine").__name__ == "mine"
    assert reward("rouge-score L stemmed", label=label).__name__ == "rouge-score-L-stemmed_default"
    own = reward(lambda texts, truths: [len(t) / len(r) for t, r in zip(texts, truths)], column="gold")
    assert own(completions=["ab", "ab", chat("abc")], gold=["a", "ab", "abc"]) == [2., 1., 1.]
    for score in ("BLEU-4", "ROUGE-L", "sacreBLEU-1", "rouge-score L"): # the column of --per-report
        with tempfile.TemporaryDirectory() as d:
            rows = pd.DataFrame({"hypothesis": ["no small effusion .", other], "reference": [truth, other]})
            rows.to_csv(Path(d) / "p.csv", index=False)
            p = replace(PROTOCOLS["r2gen"], metrics=[m for m in METRICS if score in METRICS[m].names])
            evaluate_command(f"{d}/p.csv", p, per_report=f"{d}/each.csv", bootstraps=0)
            each = pd.read_csv(f"{d}/each.csv")[score].tolist()
        columns = rows.to_dict("list")
        got = reward(score, "r2gen")(completions=columns["hypothesis"], reference=columns["reference"])
        np.testing.assert_allclose(got, each, rtol=1e-12)


def test_a_reward_that_cannot_be_is_said():
    from rrg_core.tools.house import quoting

    label = lambda texts: np.zeros((len(texts), 14))
    f, texts = reward(label=label), ["No effusion.", "Effusion."]
    for given, words in [
        (dict(), "no column 'reference'; it passed none: reward.column=…. names"),
        (dict(answer=texts, age=[1, 2]), "no column 'reference'; it passed answer, age"),
        (dict(reference=texts[:1]), "2 completions for 1 references"),
        (dict(reference=texts, gt=texts), "reference and gt may both be the reference: reward.column=…."),
        (dict(reference=["", "a"]), "reference of completion 0 is empty or no text; None"),
        (dict(reference=["a", " "]), "reference of completion 1 is empty"),
        (dict(reference=["a", []]), "reference of completion 1 is empty"),
        (dict(reference=["a", 3]), "reference of completion 1 is empty or no text"),
        (dict(reference=["a", ["b", ""]]), "reference of completion 1 is empty"),
        (dict(reference="ab"), "no column 'reference'; it passed none")]:
        with pytest.raises(CourseError, match=words) as e: f(completions=texts, **given)
        assert "\n" not in str(e.value)
    for wrong in (3, b"a", {"text": "a"}, ["a"], [3]):
        with pytest.raises(CourseError, match="completion 1 is neither a text nor a list of messages"):
            f(completions=["a", wrong], reference=["a", "b"])
    with pytest.raises(CourseError, match="no column 'mine'; it passed reference"):
        reward(column="mine", label=label)(completions=["a"], reference=["b"])
    for score, words in [
        ("fita", "is a protocol: reward.'CE-F1', 'fita'."), ("CIDEr", "other reports of the batch; known"),
        ("F1", "unknown score 'F1'; known: CE-F1, CE-precision"), (None, "unknown score None"),
        ("clinical F1", "known: CE-F1"), ("BLEU", "known: CE-F1.*BLEU-4"), (3, "unknown score 3")]:
        with pytest.raises(CourseError, match=words): reward(score)
    with pytest.raises(CourseError, match="unknown protocol 'nope'; known: default"): reward("CE-F1", "nope")
    assert quoting({"a score": reward, "a protocol": lambda x: reward("CE-F1", x),
                    "a completion": lambda x: f(completions=[x, 3], reference=["a", "b"]),
                    "a reference": lambda x: f(completions=["a", "b"], reference=[x, ""]),
                    "a column": lambda x: f(completions=["a"], answer=[x])}) == []
