"""Exported from nbs/05g_evaluate.ipynb: edit it there, then run `nbdev-export`."""
import difflib, json, os, re
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.engine.desk import atomic
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics, Protocol
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.metrics.text import METRICS, Meteor, checked_pairs, cut, mark_unknown, text_statistics
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import OBSERVATIONS, as_numbers, named, named_file
import json, subprocess, sys, tempfile
from dataclasses import replace
import numpy as np, pandas as pd, pytest
from rrg_core.metrics.clinical import PROTOCOLS, Protocol, clinical_scores
from rrg_core.metrics.text import text_scores
from rrg_core.metrics.evaluate import *


def test_every_format_reads_alike():
    frame = pd.DataFrame({"study_id": ["1", "2"], "hypothesis": ["NA", ""], "reference": ["None.", "a \"b\", c"]})
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        frame.to_parquet(d / "p.parquet")
        frame.to_csv(d / "p.csv", index=False)
        frame.to_csv(d / "p.tsv", index=False, sep="\t")
        frame.to_json(d / "p.jsonl", orient="records", lines=True)
        frame.to_json(d / "p.json", orient="records")
        (d / "lists.json").write_text(json.dumps(frame.to_dict("list")))
        (d / "lists.jsonl").write_text(json.dumps(frame.to_dict("list")))
        (d / "h.txt").write_text("NA\n\n")
        (d / "r.txt").write_text("None.\na \"b\", c\n")
        for name in ("p.parquet", "p.csv", "p.tsv", "p.jsonl", "p.json", "lists.json", "lists.jsonl"):
            assert read_pairs(d / name)[0].to_dict("list") == frame.to_dict("list"), name
        assert read_pairs(d / "h.txt", reference=str(
            d / "r.txt"))[0].to_dict("list") == frame[["hypothesis", "reference"]].to_dict("list")
        renamed = frame.rename(columns={"hypothesis": "generated", "reference": "truth"})
        renamed["truth"] = [["x", "y"], ["z"]]
        renamed.to_parquet(d / "q.parquet")
        assert read_pairs(d / "q.parquet", "generated", "truth")[0]["reference"].tolist() == [["x", "y"], ["z"]]


def test_what_is_wrong_is_one_line():
    with tempfile.TemporaryDirectory() as d:

        def file(name, text):
            (Path(d) / name).write_text(text)
            return Path(d) / name

        cases = [(file("a.csv", "hypothesis,truth\nx,y\n"), "no column 'reference'; it has hypothesis, truth"),
                 (file("b.csv",
                       "hypothesis,reference\nx,y\nx, \n"), "record 2: the reference is empty \\(1 such of 2\\)"),
                 (file("c.json",
                       '{"hypothesis": ["a"], "reference": ["b", "c"]}'), "hypothesis has 1, reference has 2"),
                 (file("d.jsonl",
                       '{"hypothesis": "a", "reference": "b"}\n{"hypothesis": \n'), "line 2: not JSON"),
                 (file(
                     "e.jsonl",
                     '{"study_id": 7, "hypothesis": "a", "reference": "b"}\n{"study_id": 8, "reference": "b"}\n'),
                  "record 2 \\(study_id 8\\): the hypothesis is missing"),
                 (file("f.parquet", "no parquet"), "not readable as parquet"),
                 (file("g.xlsx", ""), "are read from .parquet"),
                 (file("h.csv", "hypothesis,reference\n"), "no record"), (file("i.csv",
                                                                               ""), "not readable as csv"),
                 (Path(d) / "none.csv", "does not exist"), (Path(d), "is no file"),
                 (file("j.jsonl", "[1]\n"), "line 1: an object"), (file("k.json", '"x"'), "a list of objects"),
                 (file("l.jsonl",
                       '{"hypothesis": "a", "reference": 3}\n'), "record 1: the reference is missing or no text")]
        for path, words in cases:
            with pytest.raises(CourseError, match=words) as e:
                read_pairs(path)
            assert "\n" not in str(e.value) and len(str(e.value)) < 300
        with pytest.raises(CourseError, match="h.txt has 1 lines, .*r.txt has 2"):
            read_pairs(file("h.txt", "a\n"), reference=str(file("r.txt", "a\nb\n")))
        assert read_pairs(cases[1][0], empty_reference="drop")[1] == 1


def test_a_table_is_what_the_metrics_say():
    hyps, refs = ["No effusion.", "", "Heart enlarged.", "No effusion."], [
        "No pleural effusion.", "Effusion.", "The heart is enlarged.", "No effusion."
    ]

    def label(texts):
        return np.array([[1. if w in t.lower() else np.nan for w in ["enlarged", "effusion"] * 7] for t in texts])

    fast = ("BLEU", "ROUGE-L", "CIDEr")
    p = Protocol("x", average="example-defined", metrics=fast)
    frame = score_texts(hyps, refs, p, label, bootstraps=30).set_index("metric")
    text, clinical = text_scores(hyps, refs, "ptb", fast), clinical_scores(label(hyps), label(refs), p)
    for k, v in text.items():
        assert frame.value[k] == v
    for k in ("precision", "recall", "F1"):
        assert abs(frame.value[f"CE-{k}"] - clinical[k]) < 1e-12
    assert ((frame.low <= frame.high) | frame.low.isna()).all() and (frame.n
                                                                     == 4).all() and frame.attrs["notes"] == []
    median = score_texts(hyps, refs, replace(p, report="median", bootstraps=30), label,
                         bootstraps=30).set_index("metric")
    assert (median.low == frame.low).all() and median.value["ROUGE-L"] != frame.value["ROUGE-L"]
    cut4 = score_texts(hyps,
                       refs,
                       replace(p, max_tokens=3, min_count=1),
                       label,
                       frozenset(["no", "effusion"]),
                       bootstraps=2).set_index("metric")
    assert abs(cut4.value["ROUGE-L"] -
               text_scores(["no effusion", "", "<unk> <unk>", "no effusion"],
                           ["no <unk>", "effusion", "<unk> <unk>", "no effusion"], None, fast)["ROUGE-L"]) < 1e-12


def test_empty_predictions_and_notes():
    from rrg_core.metrics.evaluate import _label_of, _notes

    def label(texts):
        return np.array(
            [[np.nan] * 13 + [1. if t else np.nan] for t in texts]) # No Finding for any text, nothing for none

    p = replace(PROTOCOLS["chex-mic-f1-14"], metrics=("ROUGE-L", ))
    frame = score_texts(["", "x"], ["y", "x"], p, label, bootstraps=5).set_index("metric")
    assert frame.value["CE-F1"] == 1 # the empty prediction counts as No Finding
    assert score_texts(["", "x"], ["y", "x"],
                       replace(p, empty_hypothesis="label", report="value"),
                       label,
                       bootstraps=5).set_index("metric").value["CE-F1"] == 2 / 3
    assert _label_of(p, None).startswith("rules, 14") and frame.definition["CE-F1"].startswith("chexbert, 14")
    assert len(_notes(replace(PROTOCOLS["r2gen"]), None, None, [["a"], ["a", "b"]])) == 3
    with pytest.raises(CourseError, match="did you mean 'lm-rrg'"):
        find_protocol("lm_rrg")


def test_the_command():
    def label(texts):
        return np.array([[1. if "effusion" in t.lower() else np.nan] * 14 for t in texts])

    with tempfile.TemporaryDirectory() as d:
        path, out = Path(d) / "p.csv", Path(d) / "new" / "t.csv"
        pd.DataFrame({
            "study_id": [1, 1, 2], "hypothesis": ["no effusion", "", "clear"],
            "reference": ["no pleural effusion", "effusion", "clear"]
        }).to_csv(path, index=False)
        name = "llava-rad-neg-macro-f1-5"
        twice = "record 2 .study_id 1.: the study is in record 1 too .1 such of 3.; --keep-duplicates"
        with pytest.raises(CourseError, match=twice):
            evaluate_command(str(path), name, label=label, bootstraps=20, out=str(out))
        text = evaluate_command(str(path), name, label=label, bootstraps=20, out=str(out), keep_duplicates=True)
        assert "1 records repeat a study_id" in text
        assert "CE-F1" in text and "whole studies" in text and "written to" in text
        table = pd.read_csv(out)
        assert list(table.columns) == ["metric", "value", "low", "high", "n", "protocol", "definition"] and set(
            table.protocol) == {name}
        assert "llava-rad-neg-macro-f1-5" in evaluate_command(None, list_=True)
        for arguments, words in [
            ((None, ), "which predictions"), ((str(path), "nope"), "unknown protocol 'nope'"),
            ((str(path), name, False, "text"), "no column 'text'"),
            ((str(path), name, False, "hypothesis", "reference", "t.xlsx"), "a table is written to")
        ]:
            with pytest.raises(CourseError, match=words):
                evaluate_command(*arguments, label=label)
        pd.DataFrame({"hypothesis": ["a", "b"], "reference": [" . ", "b"]}).to_csv(path, index=False)
        with pytest.raises(CourseError, match="p.csv: reference 0 has no token left"):
            evaluate(path, "default", label=label)


def test_scoring_loads_what_it_needs_and_no_more():
    code = """if True:
        import sys
        from importlib import import_module
        HEAVY = ("torch torchvision torchmetrics pycocotools matplotlib seaborn nltk rouge_score sklearn "
                 "scipy.stats bert_score").split()
        def loaded(after):
            print(after, *(name for name in HEAVY if name in sys.modules))
        for name in "text clinical radgraph retrieval stats evaluate lab perturb".split():
            import_module(f"rrg_core.metrics.{name}")
            loaded(name)
        from rrg_core.metrics.clinical import Protocol
        from rrg_core.metrics.evaluate import score_texts
        texts = ["No effusion.", "The heart is enlarged."]
        for metrics in ("BLEU", "ROUGE-L", "CIDEr", "sacreBLEU", "rouge-score"):
            score_texts(texts, texts, Protocol("p", text=None, metrics=(metrics, )), bootstraps=5)
            loaded(metrics)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert not done.returncode and len(found) == 13, done.stderr
    assert {"nltk", "rouge_score"} <= set(found.pop("rouge-score")) # the one that needs them
    assert not any(found.values()), found


def test_errors_of_metrics_quote_no_report():
    from rrg_core.metrics import clinical, grounding, lab, perturb, radgraph, retrieval, stats, text
    from rrg_core.tools.house import quoting

    def file(ending, write): # a file that holds the value
        def call(value):
            with tempfile.TemporaryDirectory() as d:
                path = Path(d) / f"p{ending}"
                write(path, str(value).replace("\n", " "))
                evaluate(path, label=lambda texts: np.zeros((len(texts), 14)))
        return call

    def lines(path, value):
        path.write_text(f'"{value}","{value}"\n' * 2)

    def shifted(path, value):
        path.write_text(f"hypothesis,reference\na,{value},{value}\nb,c,d\n")

    def named_study(path, value):
        pd.DataFrame({"study_id": [value] * 2, "patient_id": [value] * 2, "hypothesis": ["a"] * 2,
                      "reference": ["b"] * 2}).to_csv(path, index=False)

    def no_reference(path, value):
        pd.DataFrame({"study_id": [value, "x"], "patient_id": [value, value], "hypothesis": ["a"] * 2,
                      "reference": [" ", "b"]}).to_csv(path, index=False)

    def json_line(path, value):
        path.write_text(json.dumps({"hypothesis": value, "reference": "b"}) + "\n" + '{"hypothesis": "' + value)

    def json_lists(path, value):
        path.write_text(json.dumps({"hypothesis": [value], value: ["b", "c"]}))

    def latin(path, value):
        path.write_bytes(f"hypothesis,reference\n{value} é,b\n".encode("latin-1"))

    ones, labels = [{"boxes": [[0, 0, 1, 1]], "scores": [.5], "labels": [1]}], np.zeros((2, 14))
    entity = {"tokens": "a", "label": "b", "relations": []}
    calls = {
        "read_table": read_table,
        "read_pairs": read_pairs,
        "evaluate": lambda x: evaluate(x),
        "two files": lambda x: read_pairs("a.txt", reference=x),
        "empty_reference": lambda x: read_pairs("a.csv", empty_reference=x),
        "protocol": lambda x: evaluate("a.csv", x),
        "find_protocol": find_protocol,
        "no header": file(".csv", lines),
        "no header in a .tsv": file(".tsv", lines),
        "a comma": file(".csv", shifted),
        "a study twice": file(".csv", named_study),
        "an empty reference": file(".csv", no_reference),
        "a broken line": file(".jsonl", json_line),
        "a broken file": file(".json", json_line),
        "lists": file(".json", json_lists),
        "another encoding": file(".csv", latin),
        "another encoding of lines": file(".jsonl", latin),
        "no parquet": file(".parquet", lambda path, value: path.write_text(value)),
        "score_texts": lambda x: score_texts([x], [x, x]),
        "score_texts of lists": lambda x: score_texts([[x]], ["a"]),
        "a labeler's labels": lambda x: score_texts(["a"], ["a"], Protocol("p", text=None, metrics=("BLEU", )),
                                                    label=lambda texts: [[x] * 14]),
        "hypotheses": lambda x: text.text_scores(x, ["a"] * 9, None),
        "references": lambda x: text.text_scores(["a"] * 9, x, None),
        "an empty reference among": lambda x: text.text_scores(["a"], [[str(x), ""]], None),
        "tokenize": lambda x: text.tokens(["a"], x),
        "metrics": lambda x: text.text_statistics(["a"], ["a"], None, [str(x)]),
        "cut": lambda x: text.cut(["a"], x),
        "labels": lambda x: clinical.binarize(x, PROTOCOLS["default"]),
        "a label": lambda x: clinical.clinical_scores([[x] * 14], labels, PROTOCOLS["default"]),
        "average": lambda x: clinical.averages(labels, labels, x),
        "boxes": lambda x: grounding.iou([x], [[0, 0, 1, 1]]),
        "boxes of a record": lambda x: grounding.mean_iou([{"boxes": x, "scores": [1]}], ones),
        "a record": lambda x: grounding.average_precision([x], ones),
        "scores": lambda x: grounding.average_precision([ones[0] | {"scores": [x]}], ones),
        "class": lambda x: grounding.average_precision([ones[0] | {"labels": [x]}], ones),
        "similarity": lambda x: retrieval.recall_at_k(x, 1),
        "a class of query": lambda x: retrieval.precision_at_k(np.eye(2), [x, None], [1, 2], 1),
        "k": lambda x: retrieval.recall_at_k(np.eye(2), x),
        "radgraph": lambda x: radgraph.radgraph_f1(x, x),
        "radgraph's level": lambda x: radgraph.radgraph_f1({"entities": {}}, {"entities": {}}, x),
        "an entity": lambda x: radgraph.radgraph_f1({"entities": {str(x): {}}}, {"entities": {}}),
        "tokens": lambda x: radgraph.radgraph_f1({"entities": {"1": entity | {"tokens": [x]}}}, {"entities": {}}),
        "a relation": lambda x: radgraph.radgraph_f1(
            {"entities": {"1": entity | {"relations": [[str(x), str(x)]]}}}, {"entities": {}}),
        "many annotations": lambda x: radgraph.radgraph_f1({str(x): {}}, {str(x): {}}),
        "bootstrap": lambda x: stats.bootstrap_ci(lambda a: a[0], [str(x), "b"]),
        "n": lambda x: stats.bootstrap_ci(np.mean, [1.], n=x),
        "level": lambda x: stats.interval([1., 2.], x),
        "groups": lambda x: stats.bootstrap_ci(np.mean, [1., 2.], groups=[x, None]),
        "tau": lambda x: stats.kendall_tau_b([x], [1]),
        "auroc": lambda x: stats.auroc([0, 1], [x, x]),
        "weighted auroc": lambda x: stats.weighted_auroc(x, x),
        "an edit": lambda x: perturb.perturb("A report.", x),
        "an edited text": lambda x: perturb.perturb([x], "drop"),
    }
    calls |= {f"Protocol {k}": lambda x, k=k: Protocol(**{"name": "p", k: x} | ({"average": 0} if k in (
        "name", "source", "metrics") else {})) for k in vars(PROTOCOLS["default"])}
    assert quoting(calls) == []
