"""Exported from nbs/05g_evaluate.ipynb: edit it there, then run `nbdev-export`."""
import ast, codecs, csv, difflib, gzip, io, json, os, re, sys, tokenize, zlib
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.engine.code import for_readers
from rrg_core.engine.desk import progress
from rrg_core.engine.files import atomic, entrust
from rrg_core.metrics.backends import Components
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics, Protocol
from rrg_core.metrics.stats import bootstrap_replicates, corpus_replicates, interval
from rrg_core.metrics.text import METRICS, Meteor, TextStatistics, checked_pairs, cut, mark_unknown, text_statistics, tokens, vocabulary
from rrg_core.engine.settings import CourseError, profile, repo_root
from rrg_core.data.study import OBSERVATIONS, as_numbers, named, named_file
import json, subprocess, sys, tempfile
import numpy as np, pandas as pd, pytest
from rrg_core.metrics.clinical import PROTOCOLS, Protocol, clinical_scores
from rrg_core.metrics.text import text_scores
from rrg_core.engine.settings import CourseError
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


def test_metrics_by_name_are_further_rows():
    import json
    from rrg_core.metrics.backends import Components
    said = ["Small left pleural effusion.", "Lungs are clear.", "", "Heart is enlarged.", "No edema."]
    truth = ["Large left pleural effusion.", "Lungs are clear.", "Right lower lobe pneumonia.",
             "Heart is normal.", "No edema. No effusion."]
    names = "radgraph-standin,chexbert-standin,bertscore-standin,radcliq-standin"
    with tempfile.TemporaryDirectory() as d:
        file, each, out = (Path(d) / name for name in ("p.csv", "each.csv", "out.json"))
        table = pd.DataFrame({"subject_id": list("xxyzz"), "hypothesis": said, "reference": truth})
        table.to_csv(file, index=False)
        printed = evaluate_command(str(file), ["default", "fita"], out=str(out), per_report=str(each),
                                   bootstraps=50, without=("METEOR", ), metrics=[names, "radcliq-standin"])
        direct, rows = Components(names)(said, truth), pd.DataFrame(json.loads(out.read_text())["scores"])
        further = rows[rows.protocol == "any"].set_index("metric")
        assert list(further.index) == list(direct) and set(rows.protocol) == {"default", "fita", "any"}
        assert np.allclose(further.value, direct.mean()) and (further.low <= further.value).all()
        assert (further.high > further.low).all() and (further.n == 5).all()
        signature, = further.signature.unique()
        for part in ("metrics:RadGraph-standin+", "|models:radgraph=rules,chexbert=rules,bertscore=standin-phan",
                     "|boot:50|seed:0|groups:3|input:"): assert part in signature and part in printed
        kept = pd.read_csv(each)
        assert np.allclose(kept[list(direct)], direct) and kept.signature[0].endswith(signature)
        assert "note: RadCliQ-standin: " in printed and "RadCliQ-standin" in printed
        table = evaluate(file, without=("METEOR", ), metrics="radcliq-standin", bootstraps=0)
        assert table.metric.iloc[-1] == "RadCliQ-standin" and np.isnan(table.low.iloc[-1])
        assert abs(table.value.iloc[-1] - direct["RadCliQ-standin"].mean()) < 1e-6
        pairs = score_pairs([(h, [r, "Another."]) for h, r in zip(said, truth)], without=("METEOR", ),
                            bootstraps=0, metrics=Components("radgraph-standin"))
        assert list(pairs.metric[-2:]) == ["RadGraph-standin", "RadGraph-combined-standin"]
        assert abs(pairs.value.iloc[-2] - direct["RadGraph-standin"].mean()) < 1e-12 # the first reference
        assert "several references: --metrics uses the first" in pairs.attrs["notes"]


def test_metrics_are_asked_before_the_file():
    with pytest.MonkeyPatch.context() as m:
        for root in ("WEIGHTS", "CHEXBERT", "RADGRAPH"): m.setenv(f"RRG_ROOT_{root}", "/nowhere")
        for metrics, words in [("bleurt", "unknown metric 'bleurt'; --metrics adds radgraph, chexbert, bert"),
                               ("chexbert", "chexbert.pth does not exist"), ("radgraph", "holds no Python"),
                               ("radcliq", "holds no Python"),
                               (["chexbert-standin", "radgraph"], "holds no Python")]:
            with pytest.raises(CourseError, match=words) as error:
                evaluate_command("missing.csv", metrics=metrics) # there is no such file either
            assert "\n" not in str(error.value)


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
        assert list(table.columns) == ["metric", "value", "low", "high", "n", "protocol", "definition",
                                       "signature", "notes"] and set(table.protocol) == {name}
        assert "llava-rad-neg-macro-f1-5" in evaluate_command(None, list_=True)
        for arguments, words in [
            ((None, ), "which predictions"), ((str(path), "nope"), "unknown protocol 'nope'"),
            ((str(path), name, False, "text"), "no column 'text'"),
            ((str(path), name, False, "hypothesis", "reference", "t.xlsx"), "a table is written to")
        ]:
            with pytest.raises(CourseError, match=words):
                evaluate_command(*arguments, label=label)
        pd.DataFrame({"hypothesis": ["a", "b"], "reference": [" . ", "b"]}).to_csv(path, index=False)
        with pytest.raises(CourseError, match="p.csv: reference of record 1 has no token left"):
            evaluate(path, "default", label=label)


def test_many_protocols_are_one_compact_table():
    label = lambda texts: np.array([[1. if "effusion" in t.lower() else np.nan] * 14 for t in texts])
    pairs = {"hypothesis": ["no effusion", "", "clear lungs"],
             "reference": ["pleural effusion", "effusion", "clear"]}
    with tempfile.TemporaryDirectory() as d:
        path, out = Path(d) / "p.csv", Path(d) / "t.json"
        pd.DataFrame(pairs).to_csv(path, index=False)
        options = dict(label=label, bootstraps=5, without=("METEOR", ))
        said = evaluate_command(str(path), "all", out=str(out), **options)
        long = evaluate_command(str(path), "all", full=True, **options)
        rows = pd.DataFrame(json.loads(out.read_text())["scores"])
        assert set(rows.protocol) == set(PROTOCOLS) # the file has them all, with signatures
        lines = said.splitlines()
        assert len(lines) < len(PROTOCOLS) + 25 and max(map(len, lines)) < 250 and "--full" in lines[-2]
        table = lines[lines.index(next(l for l in lines if l.startswith("protocol "))):][:len(PROTOCOLS) + 2]
        assert [l.split()[0] for l in table[2:]] == list(PROTOCOLS)
        head = table[0].split()[1:]
        for name in ("default", "r2gen-iu", "chex-ex-f1-14", "llava-rad-pos-macro-f1-5"): # each in its place
            line, own = table[2 + list(PROTOCOLS).index(name)], rows[rows.protocol == name]
            want = {m: f"{v:.3f}" for m, v in zip(own.metric, own.value)}
            for column in head:
                start = table[0].index(column) + len(column)
                assert line[:start].split(" ")[-1] == want.get(column, ""), (name, column)
        alike = lines[lines.index(table[-1]) + 1]
        assert "the same under every protocol that has it: " in alike
        assert not {a.split()[0] for a in alike.partition(": ")[2].split(", ")} & set(head)
        assert "protocol:default|" not in said and long.count("\nprotocol:") == len(PROTOCOLS)
        assert "| llava-rad-pos-macro-f1-5" in long and table[5] in long and "--full" not in long
        few = evaluate_command(str(path), ["default", "fita", "chex-mic-f1-14"], **options)
        assert few.count("\nprotocol:") == 3 and "the same under" not in few and "| fita " in few
        same = [replace(PROTOCOLS["chex-mic-f1-14"], name=f"p{i}") for i in range(4)]
        twins = evaluate_command(str(path), same, metrics="chexbert-standin", **options)
        assert "\nprotocol " not in twins and "that has it: CE-precision " in twins # nothing differs
        assert "| CheXbert-standin |" in twins and "|models:chexbert=rules|" in twins # further rows stay whole


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


def test_public_cases_of_files():
    import gzip, io, sys

    def pairs(name, content, **options): # what is read from a file of that name
        with tempfile.TemporaryDirectory() as d:
            path = Path(d) / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            frame = read_pairs(path, **options)[0]
            return list(zip(frame["hypothesis"], frame["reference"]))

    good = [("Heart normal, lungs clear.", "Heart normal."), ("Edema; mild.", "Mild edema.")]
    table = pd.DataFrame(good, columns=["hypothesis", "reference"])
    semicolons = table.to_csv(index=False, sep=";")
    lines = table.to_json(orient="records", lines=True)
    rexrank = json.dumps({"s1": {"model_prediction": good[0][0], "section_findings": good[0][1], "context": "x"},
                          "s2": {"model_prediction": good[1][0], "section_findings": good[1][1]}})
    parquet = io.BytesIO()
    table.set_index(pd.Index(["7", "8"], name="study_id")).to_parquet(parquet)

    def named_as(hypothesis, reference, separator=","):
        return table.set_axis([hypothesis, reference], axis=1).to_csv(index=False, sep=separator)

    layouts = { # in the spirit of ReXrank's example, RadEval's formats, and spreadsheets of several countries
        "a.csv": table.to_csv(index=False), "A.CSV": table.to_csv(index=False), "b.csv": semicolons,
        "c.csv": table.to_csv(index=False, sep="|"), "d.csv": table.to_csv(index=False, sep="\t"),
        "e.tsv": table.to_csv(index=False, sep="\t"), "f.csv": "\ufeff" + semicolons,
        "g.csv": semicolons.encode("utf-16"), "h.csv": table.to_csv(index=False, lineterminator="\r\n"),
        "i.csv.gz": gzip.compress(semicolons.encode()), "j.jsonl": lines,
        "k.JSONL.gz": gzip.compress(lines.encode()),
        "l.ndjson": "\ufeff" + lines + "\n\n", "m.json": lines, "n.json": table.to_json(orient="records"),
        "o.json": json.dumps(table.to_dict("list")), "p.json": table.to_json(), "q.json": rexrank,
        "r.jsonl": rexrank, "s.json": json.dumps(json.loads(rexrank), indent=2), "t": lines, "u": semicolons,
        "v.parquet": parquet.getvalue(), "w.parquet.gz": gzip.compress(parquet.getvalue()),
        "x.csv": named_as("Generated Report", "Ground Truth"), "y.csv": named_as("prediction", "gt", ";"),
        "z.csv": named_as(" PRED ", "references"), "aa.csv": named_as("model_prediction", "section_findings"),
        "ab.gz": gzip.compress(parquet.getvalue()),
    }
    wrong = {name: read for name, content in layouts.items() if (read := pairs(name, content)) != good}
    assert not wrong, wrong
    for content in (semicolons, lines, rexrank, parquet.getvalue(), gzip.compress(lines.encode())):
        with pytest.MonkeyPatch.context() as m:
            data = content if isinstance(content, bytes) else content.encode()
            m.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
            frame = read_pairs("-")[0]
        assert list(zip(frame["hypothesis"], frame["reference"])) == good
    assert pairs("l.csv", "hypothesis,reference\né,é\n".encode("cp1252"), encoding="cp1252") == [("é", "é")]
    assert pairs("u.csv", "hypothesis;reference\né;é\n".encode("utf-16-le"), encoding="utf-16-le") == [("é", "é")]
    assert pairs("d.csv", "hypothesis:reference\na:b\n", delimiter=":") == [("a", "b")]

    for sign in ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r", "\t", " "]:
        text = f"Heart{sign}normal." # huggingface/evaluate#601, jsonlines#53: these end no line
        assert pairs("j.jsonl", json.dumps({"hypothesis": text, "reference": "x"}, ensure_ascii=False) + "\n" +
                     '{"hypothesis": "a", "reference": "b"}') == [(text, "x"), ("a", "b")], repr(sign)
        with tempfile.TemporaryDirectory() as d:
            for name, content in (("h.txt", f"{text}\nNo effusion.\r\n"), ("r.txt", f"\ufeffclear\r\n{text}")):
                (Path(d) / name).write_bytes(content.encode())
            read = read_pairs(Path(d) / "h.txt", reference=str(Path(d) / "r.txt"))[0]
        assert read.to_numpy().tolist() == [[text, "clear"], ["No effusion.", text]], repr(sign)


def test_public_cases_of_cells():
    def read(content, name="p.csv", **options):
        with tempfile.TemporaryDirectory() as d:
            path = Path(d) / name
            path.write_text(content)
            return read_pairs(path, **options)[0]

    one = {"hypothesis": "a b", "reference": ["a b", "c d"]}
    for record, want in [ # in the spirit of RadEval's object of lists: one record, or columns?
        (one, [("a b", ["a b", "c d"])]), (one | {"reference": ["a b"]}, [("a b", ["a b"])]),
        ({"prediction": "a", "gt": ["b", "c"]}, [("a", ["b", "c"])]),
        ({"hypothesis": ["a"], "reference": ["b"]}, [("a", "b")]),
        ({"hypothesis": ["a", "b"], "reference": ["c", "d"]}, [("a", "c"), ("b", "d")]),
        ({"hypothesis": ["a", "b"], "reference": [["c"], ["d", "e"]]}, [("a", ["c"]), ("b", ["d", "e"])]),
        ({"hypothesis": "a", "reference": "b"}, [("a", "b")]), ({"gt": ["b"], "pred": ["a"]}, [("a", "b")]),
        (one | {"views": ["PA", "LL", "PA"]}, [("a b", ["a b", "c d"])]),
        ({"hypothesis": "", "reference": ["x"]}, [("", ["x"])])]:
        for name in ("p.jsonl", "p.json"):
            frame = read(json.dumps(record), name)
            assert list(zip(frame["hypothesis"], frame["reference"])) == want, (name, record)

    for cell, want in [ # lists that pandas or numpy wrote into a cell
        ("['a', 'b c']", ["a", "b c"]), ("['a' 'b c']", ["a", "b c"]), ('["a", "b"]', ["a", "b"]),
        ("['a']", ["a"]),
        ("['a'\n 'b']", ["a", "b"]), ("""["it's", 'b']""", ["it's", "b"]), (" ['a', 'b'] ", ["a", "b"]),
        ("['a',]", ["a"]), ("['é', 'b']", ["é", "b"]), ("[a] no list", "[a] no list"), ("a ['b']", "a ['b']"),
        ("[___] year old", "[___] year old")]:
        frame = read(pd.DataFrame({"hypothesis": ["x"], "reference": [cell]}).to_csv(index=False))
        assert frame["reference"][0] == want, cell
    for cell in ["['a', 'b'", "['a'] more", "['a', 3]", "['a', ['b']]", "['a'"]:
        with pytest.raises(CourseError, match="record 1: the reference begins like a list of texts and is none"):
            read(pd.DataFrame({"hypothesis": ["x"], "reference": [cell]}).to_csv(index=False))
    with pytest.raises(CourseError, match="record 1: the hypothesis is missing or no text"):
        read(pd.DataFrame({"hypothesis": ["['a', 'b']"], "reference": ["a"]}).to_csv(index=False))


def test_public_cases_of_wrong_cells():
    def read(content):
        with tempfile.TemporaryDirectory() as d:
            (Path(d) / "p.csv").write_text(content)
            return read_pairs(Path(d) / "p.csv")

    head = "study_id,hypothesis,reference\n"
    for content, words in [ # texts with a comma that nobody quoted, in every row or in one
        (head + "1,Heart normal, clear.,Heart normal.\n", "record 1: it has more cells than the header, 4 for 3"),
        (head + "1,a,b\n2,a, b,c\n", "record 2: it has more cells"), (head + "1,a,b,\n", "record 1: it has more"),
        (head + "1,a\n", "record 1: it has fewer cells than the header, 2 for 3"), (head + "a\n", "fewer cells"),
        (head + "1,a,b\n\n3,c\n", "record 2: it has fewer"), (head + '1,"a,b\n', "line 2: .*quotation marks"),
        (head + '1,"a"b,c\n', "line 2: .*quotation"), (head + '1,"a" b",c\n2,d,e\n', "line 2: .*quotation"),
        ("hypothesis;reference\na;b;c\n", "3 for 2"), ("hypothesis\treference\na\tb\tc\n", "3 for 2"),
        ("", "it is empty"), (head, "no record to score")]:
        with pytest.raises(CourseError, match=words) as e: read(content)
        assert "\n" not in str(e.value)
    for content, words in [ # what to do is said
        ("a,b\nx,y\n", "no column 'hypothesis'; it has a, b .--hypothesis names the column"),
        ("hypothesis,b\nx,y\n", "--reference names the column"),
        ("pred,output,gt\nx,y,z\n", "pred and output may both be the hypothesis: --hypothesis"),
        ("hypothesis,ref,gt\nx,y,z\n", "ref and gt may both be the reference"),
        (head + "1,a,\n", "--drop-empty leaves them out"), (head + "1,a,b\n1,c,d\n", "--keep-duplicates")]:
        with pytest.raises(CourseError, match=words): read(content)
    with tempfile.TemporaryDirectory() as d:
        for name, content, words in [
            ("h.txt", b"a\n", "holds one side: --reference FILE"), ("a.xlsx", b"", "predictions are read from"),
            ("a.csv.gz", gzip.compress(b"hypothesis,reference\na,b\n" * 99)[:-9], "gzip file is cut off"),
            ("b.csv", "hypothesis,reference\né,b\n".encode("cp1252"), "no UTF-8 at byte 21; --encoding"),
            ("c.csv", "hypothesis,reference\na,b\n".encode("utf-16-le"), "zero bytes, as UTF-16")]:
            (Path(d) / name).write_bytes(content)
            with pytest.raises(CourseError, match=words): read_pairs(Path(d) / name)
        with pytest.raises(CourseError, match="there is no encoding 'utf-9'"): read_pairs(Path(d) / "b.csv",
                                                                                           encoding="utf-9")


def test_public_cases_of_groups_and_health():
    from rrg_core.metrics.evaluate import _groups
    from rrg_core.labels import label_many

    for values, wanted, count in [ # in the spirit of PhysioNet's tables: who is missing is nobody's twin
        ([1, None, None], None, 0), (["p", "p", None, None], None, 3), (["", "", "", ""], None, 0),
        ([np.nan] * 3, None, 0), ([1., 1., np.nan], None, 2), (["p", "p", " "], None, 2),
        (["p", "q", "r"], None, 0),
        (["p", "p", "p"], None, 1), (["p", None, None], "patient", 3), (["p", "p", "q"], "none", 0),
        ([7, 7, 8, 8], "patient_id", 2), ([None, None, "p", "p", ""], None, 4)]:
        groups, said = _groups(pd.DataFrame({"patient_id": values}, dtype=object), group=wanted)
        assert (0 if groups is None else len(set(groups))) == count, (values, groups)
        absent = any(v is None or v != v or not str(v).strip() for v in values)
        assert ("stand alone" in said) == (count > 0 and absent)
    with pytest.raises(CourseError, match="no column 'site' to group by"): _groups(pd.DataFrame(), group="site")

    two = pd.DataFrame({"hypothesis": ["Edema.", "Clear.", "Edema."] * 20, "reference": ["Edema."] * 60})
    with tempfile.TemporaryDirectory() as d:
        quick, widths = replace(PROTOCOLS["default"], metrics=("ROUGE-L", ), text=None), {}
        for name in ("patient_id", "subject_id", "Subject ID", "missing", "none"):
            ids = [""] * 60 if name == "missing" else np.arange(60) // 20
            named = {} if name == "none" else {name.replace("missing", "patient_id"): ids}
            two.assign(**named).to_csv(Path(d) / "p.csv", index=False)
            out = evaluate(Path(d) / "p.csv", quick, bootstraps=100).set_index("metric")
            widths[name] = round(float(out.high["CE-recall"] - out.low["CE-recall"]), 9)
    assert widths["patient_id"] == widths["subject_id"] == widths["Subject ID"]
    assert widths["missing"] == widths["none"] != widths["patient_id"]

    for texts, unread in [ # in the spirit of RadEval#14: what the labeler cannot read is No Finding all the same
        (["右侧胸腔积液"], 1), (["nan"], 1), (["..."], 1), (["59999905"], 1), (["Épanchement à droite."], 1),
        (["Kein Erguss."], 1), (["Нет выпота."], 1), (["s5041", "nan"], 2), (["<unk> <unk>"], 1), (["???"], 1),
        (["No acute disease."], 0), (["Cardiomegaly."], 0), (["The lungs are clear."], 0), ([""], 0),
        (["Pneumothorax"], 0), (["Unremarkable chest."], 0)]:
        lines = health(texts, [["No effusion."]] * len(texts), label_many(texts), label_many(["No effusion."]))
        assert (f"{unread} unread or foreign" in lines["hypotheses"]) == (unread > 0), (texts, lines)
        assert ("1 empty" in lines["hypotheses"]) == (texts == [""])
    lines = health(["a", "a ", "b"], [["a"], ["c"], ["b"]], *np.full((2, 3, 14), np.nan))
    assert "1 repeat another (the commonest stands 2 times)" in lines["hypotheses"]
    assert "2 equal to their reference" in lines["hypotheses"] and "14 of 14" in lines["no positive"]


def test_what_an_output_holds():
    rows = pd.DataFrame({"study_id": ["a", "b", "c"], "hypothesis": ["Edema.", "", "Small effusion. Edema."],
                         "reference": ["Edema.", ".", "Effusion."]})
    chex, fast = PROTOCOLS["chex-mic-f1-14"], ("ROUGE-L", )
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        rows.to_csv(d / "p.csv", index=False)
        quick = [replace(PROTOCOLS["default"], text=None, metrics=fast),
                 replace(PROTOCOLS["r2gen"], metrics=fast)]
        options = dict(drop_empty=True, bootstraps=20, seed=3)
        said = evaluate_command(str(d / "p.csv"), quick, out=str(d / "t.json"), per_report=str(d / "each.csv"),
                                **options)
        assert "1 records with an empty reference were left out, as asked" in said and said.count("|seed:3|") == 2
        kept, each = json.loads((d / "t.json").read_text()), pd.read_csv(d / "each.csv")
        assert set(kept) == {"health", "notes", "scores"} and len(kept["scores"]) == 8
        assert each["record"].tolist() == [1, 3] and each["study_id"].tolist() == ["a", "c"]
        assert each["hypothesis Edema"].tolist() == [1, 1] and np.isnan(each["reference Edema"][1])
        assert each["default: CE-precision"].tolist() == [1, .5] and each["r2gen: ROUGE-L"][0] == 1
        for name in ("t.csv", "t.parquet", "t.md"):
            evaluate_command(str(d / "p.csv"), quick, out=str(d / name), **options)
        tables = pd.read_csv(d / "t.csv"), pd.read_parquet(d / "t.parquet")
        assert all("labelled by our rules" in t["notes"][0] and "input:" in t["signature"][0] for t in tables)
        assert "note: " in (d / "t.md").read_text() and "|seed:3|" in (d / "t.md").read_text()
        own = evaluate(d / "p.csv", quick[0], labels=[d / "each.csv"], **options).set_index("metric")
        assert own.value["CE-precision"] == 2 / 3 and "labeler:given" in own["signature"].iloc[0]
        sides = [each[["study_id"]].assign(**{o: each[f"{side} {o}"] for o in OBSERVATIONS})
                 for side in ("hypothesis", "reference")]
        for i, side in enumerate(sides): side[::-1].to_csv(d / f"{i}.csv", index=False)
        both = evaluate(d / "p.csv", quick[0], labels=[d / "0.csv", d / "1.csv"], **options).set_index("metric")
        assert both.value.equals(own.value)
        for bad, words in [(sides[0].assign(Edema=["x", 1]), "record 1: Edema is no label"),
                           (sides[0].assign(Edema=[2, 1]), "record 1: Edema is no label"),
                           (sides[0].assign(study_id=["a", "z"]), "no labels for record 2 .1 such of 2"),
                           (sides[0].drop(columns="Edema"), "no column 'Edema'"),
                           (sides[0].drop(columns="study_id")[:1], "labels of 1 records, the predictions are 3")]:
            bad.to_csv(d / "bad.csv", index=False)
            with pytest.raises(CourseError, match=words):
                evaluate(d / "p.csv", quick[0], labels=[d / "bad.csv", d / "1.csv"], **options)
        (d / "train.txt").write_text("edema .\n" * 10 + "effusion .\n")
        known = evaluate(d / "p.csv", quick[1], train=d / "train.txt", **options).set_index("metric")
        assert "unk:10" in known["signature"].iloc[0] and not any("<unk>" in n for n in known.attrs["notes"])
        pd.DataFrame({"hypothesis": ["edema " * 2500, "a"], "reference": ["edema", "a"]}).to_csv(d / "l.csv")
        long, short = (evaluate(d / "l.csv", quick[0], max_words=n, bootstraps=2) for n in (None, 2000))
        assert any("1 records have more than 2000 words: slow" in n for n in long.attrs["notes"])
        assert "1 records were cut at 2000 words" in short.attrs["notes"]
        for name, words in [("t.xlsx", "a table is written to"), ("t", "a table is written to")]:
            with pytest.raises(CourseError, match=words): evaluate_command(str(d / "p.csv"), per_report=name)
        for n in (-1, -1000):
            with pytest.raises(CourseError, match=f"bootstraps must be 0 .no interval. or more, got {n}"):
                evaluate(d / "p.csv", quick[0], drop_empty=True, bootstraps=n)
    assert [p.name for p in find_protocols(["fita", "chex", "fita"])][:2] == ["fita", "chex-mic-f1-14"]
    assert len(find_protocols("all")) == len(PROTOCOLS) and len(find_protocols(["llava-rad"])) == 8
    assert find_protocols("default", ["METEOR"])[0].metrics == ("BLEU", "ROUGE-L", "CIDEr")
    with pytest.raises(CourseError, match="no metric 'meteor' to leave out"):
        find_protocols("default", ["meteor"])


def test_a_signature_is_another_where_a_number_may_be():
    said, told = ["no edema", "edema", "clear"], [["no edema"], ["edema"], ["edema"]]
    quick, table = replace(PROTOCOLS["default"], metrics=("BLEU", )), np.zeros((3, 14))
    asked = lambda **more: score_texts(said, told, quick, bootstraps=20, **more).attrs["signature"]
    labels = lambda value: lambda texts: np.full((len(texts), 14), value)
    found = [asked(), asked(label=labels(1.)), asked(label=labels(0.)), asked(groups=["a", "a", "b"]),
             asked(groups=["a", "b", "b"]), asked(seed=1)]
    assert len(set(found)) == len(found)
    assert asked() == found[0] and asked(groups=["x", "x", "y"]) == found[3] # the names of groups do not count
    words = [input_hash(said, told, known=w) for w in (None, {"edema"}, {"edema", "no"}, {"no", "edema"})]
    assert words[2] == words[3] and len(set(words)) == 3


def test_without_draws_the_values_are_the_same():
    plain = replace(PROTOCOLS["default"], text=None, metrics=("ROUGE-L", ))
    mean = replace(PROTOCOLS["chex-mic-f1-14"], metrics=())
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "p.csv"
        path.write_text("hypothesis,reference\nEdema.,Edema.\nSmall effusion. Edema.,Effusion.\n")
        for p, boot in ((plain, "|boot:0|"), (mean, "|boot:10|")): # a mean of ten draws needs its ten
            full, quick = (evaluate(path, p, bootstraps=n) for n in (None, 0))
            assert quick.value.equals(full.value) and full[["low", "high"]].notna().all(axis=None)
            assert quick[["low", "high"]].isna().all(axis=None) and boot in quick["signature"][0]
        said = evaluate_command(str(path), plain, bootstraps=0)
    assert "2 reports, no intervals" in said and "| low" not in said and "|   nan" not in said


def test_public_cases_of_scores():
    bleu = lambda h, r, score="sacreBLEU-4": text_scores(h, r, None, ("sacreBLEU", ))[score]
    empty = bleu(["", "B C D", "C D E"], ["A B C", "B C D", "C D E"], "sacreBLEU-1")
    assert abs(empty - 60.653) < 1e-3 # sacrebleu#239
    assert bleu(["", ""], ["a", "b"], "sacreBLEU-1") == 0
    six, five, seven = "a b c d e f", "a b c d e", "a b c d e f g"
    for group in ([five, seven], [seven, five]): # torchmetrics#3504: of two references as near, the shorter
        assert abs(bleu([six], [group]) - 100) < 1e-9
    with tempfile.TemporaryDirectory() as d: # coco-caption#9, nlg-eval#91
        path = Path(d) / "p.jsonl"
        pair = "No acute cardiopulmonary abnormality."
        path.write_text(json.dumps({"hypothesis": pair, "reference": pair}))
        out = evaluate(path, "default", without=["METEOR"], bootstraps=5)
        assert out.set_index("metric").value["CIDEr"] == 0
        assert "0 for a single report" in out.attrs["health"]["CIDEr"]
        broken = "No\racute\v\fcardio\x85-\u2028pulmonary\u2029abnormality.\r\n"
        two = [{"hypothesis": broken, "reference": pair}, {"hypothesis": "Clear.", "reference": "Clear lungs."}]
        path.write_text("\n".join(map(json.dumps, two)))
        whole = [two[0] | {"hypothesis": " ".join(broken.split())}, two[1]]
        (Path(d) / "q.json").write_text(json.dumps(whole))
        a, b = (evaluate(p, "default", without=["METEOR"], bootstraps=5) for p in (path, Path(d) / "q.json"))
        assert a.value.equals(b.value)
        path.write_text("".join(json.dumps({"hypothesis": "", "reference": r}) + "\n" for r in (
            "No acute disease.", "Clear lungs.", "Edema."))) # ms-swift#9962: CheXpert's convention gives .667
        out = evaluate(path, "default", without=["METEOR"], bootstraps=5)
        assert abs(out.set_index("metric").value["CE-F1"] - 2 / 3) < 1e-9
        assert "3 empty" in out.attrs["health"]["hypotheses"]


def test_a_kept_file_must_be_what_its_record_says():
    import shutil
    from rrg_core.engine.settings import repo_root
    from rrg_core.metrics import evaluate as module

    kept = sorted((repo_root() / "figures").glob("*/predictions/*.parquet"))[0]
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        root = Path(d).resolve() # a repository of its own, with one chapter's records and one of its files
        path = root / kept.relative_to(repo_root())
        path.parent.mkdir(parents=True)
        for name in (kept, kept.parent.parent / "records.json", repo_root() / "figures" / "SHA256SUMS"):
            shutil.copy(name, root / name.relative_to(repo_root()))
        m.setattr(module, "repo_root", lambda: root)
        reads, real = [], Path.read_bytes
        m.setattr(Path, "read_bytes", lambda self: reads.append(self.name) or real(self))
        frame = read_pairs(path)[0]
        assert reads.count(path.name) == 1 # the bytes that were compared are those that are scored
        frame[["study_id", "hypothesis", "reference"]].iloc[1:].to_parquet(path) # a hand has taken a study out
        with pytest.raises(CourseError, match="damaged: .* was changed"): read_pairs(path)
        shutil.copy(path, root / "own.parquet") # outside of the chapter's folder it is anybody's file
        assert len(read_pairs(root / "own.parquet")[0]) == len(frame) - 1


def test_errors_of_files_quote_no_report():
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
    }
    assert quoting(calls) == []


def test_errors_of_metrics_quote_no_report():
    from rrg_core.metrics import clinical, grounding, lab, perturb, radgraph, retrieval, stats, text
    from rrg_core.tools.house import quoting

    ones, labels = [{"boxes": [[0, 0, 1, 1]], "scores": [.5], "labels": [1]}], np.zeros((2, 14))
    entity = {"tokens": "a", "label": "b", "relations": []}
    calls = {
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


def test_bad_films_are_named():
    from PIL import Image as Picture
    from rrg_core.data.study import Image, Study, read_image
    from rrg_core.tools.house import unrefused

    folder = Path(tempfile.mkdtemp())
    film = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    Picture.fromarray(film).save(folder / "film.png")
    whole = (folder / "film.png").read_bytes()

    def picture(name, content): # a file of bytes, or of pixels
        if isinstance(content, bytes): (folder / name).write_bytes(content)
        else: Picture.fromarray(content).save(folder / name)
        return lambda: Image("i1", 30, 20, "PA", folder / name).load()

    def holed(name, value, where):
        pixels = film.astype(np.float32)
        pixels[where] = value
        return picture(name, pixels)

    def twice():
        return Study("s1", "p1", "phantom", "train", images=[Image("i1", 30, 20)] * 2)

    films = {
        "a truncated film": (picture("cut.png", whole[:90]), "cut.png: file is"),
        "a text as a film": (picture("text.png", b"no picture"), "text.png: file is no image"),
        "an empty film": (picture("empty.png", b""), "empty.png: file is no image"),
        "a missing film": (lambda: read_image(folder / "none.png"), "none.png: file does not exist"),
        "a folder as a film": (lambda: read_image(folder), "file is"),
        "a film of another size": (picture("small.png", film[:9]), "i1.*small.png.*shape"),
        "a NaN pixel": (holed("float.tif", np.nan, (3, 4)), "float.tif: pixels must be finite"),
        "an infinite pixel": (holed("inf.tif", np.inf, (0, 0)), "inf.tif: pixels must be finite"),
        "NaN everywhere": (holed("nan.tif", np.nan, ...), "nan.tif: pixels must be finite"),
        "float pixels in a record": (lambda: Image("i1", 30, 20, pixels=film / 255), "i1.*pixels must be uint8"),
        "another photometric": (lambda: Image("i1", 30, 20, photometric="RGB"), "photometric 'RGB' is unknown"),
        "an unknown view": (lambda: Image("i1", 30, 20, "frontal"), "view 'frontal' is unknown"),
        "a width of NaN": (lambda: Image("i1", float("nan"), 20), "width must be a positive whole number"),
        "a film twice": (twice, "holds image 'i1' 2 times"),
    }

    assert unrefused(films) == []


def test_bad_texts_and_tables_are_named():
    from rrg_core.data import bundled, mimic_cxr
    from rrg_core.data.study import Image, Report, Sentence, Study
    from rrg_core.labels import label_many
    from rrg_core.tools.house import unrefused

    folder = Path(tempfile.mkdtemp())

    def study(**fields):
        given = dict(study_id="s1", patient_id="p1", source="phantom", split="train")
        return Study(**given | dict(images=[Image("i1", 30, 20)]) | fields)

    def mimic(name, change, **options):
        def call():
            with tempfile.TemporaryDirectory() as d:
                root = mimic_cxr.fixture(Path(d))
                path = root / f"mimic-cxr-2.0.0-{name}.csv.gz"
                change(bundled.csv_table(path, dtype=str)).to_csv(path, index=False)
                return mimic_cxr.load("train", root, say=lambda line: None, **options)
        return call

    def at(column, row, value):
        return lambda t: t.assign(**{column: [*t[column][:row], value, *t[column][row + 1:]]})

    texts = {
        "no findings": (lambda: study(report=Report(impression="a")).reference("findings"),
                        "study 's1': findings is empty"),
        "an empty report": (lambda: study(report=Report()).reference(), "'s1': findings . impression is empty"),
        "no report": (lambda: study().reference(), "study 's1': .* is empty"),
        "findings that are NaN": (lambda: Report(findings=float("nan")), "findings must be text, got nan"),
        "an empty sentence": (lambda: Sentence(" ", "findings"), "text is empty"),
        "None among texts": (lambda: label_many(["a", None]), "must be text, got None"),
        "a section that is none": (lambda: mimic_cxr.load("train", folder, need=("finding", )), "'finding'"),
    }

    (folder / "film.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    tables = {
        "a missing column": (mimic("split", lambda t: t.drop(columns="split")), "split.csv.gz: column 'split'"),
        "a film twice": (mimic("split", lambda t: pd.concat([t, t[:1]])), "record 10: dicom_id is duplicated"),
        "a film without id": (mimic("split", at("dicom_id", 2, None)), "record 3: dicom_id is missing"),
        "a study of two patients": (mimic("split", at("subject_id", 1, "19999902")), "record 2: .* two patients"),
        "a study in two splits": (mimic("split", at("split", 1, "test")), "record 2: .* two splits"),
        "the word NaN": (mimic("chexpert", at("Edema", 1, "NaN")), "record 2: Edema must .* got 'NaN'"),
        "a size of zero": (mimic("metadata", lambda t: t.assign(Rows="0")), "record 1: Rows must be"),
        "a damaged table": (lambda: bundled.csv_table(folder / "film.png"), "film.png: table cannot be read"),
    }

    assert unrefused(texts) == [] and unrefused(tables) == []


def test_bad_boxes_and_records_are_named():
    from rrg_core.data.storage import Studies
    from rrg_core.data.study import Box, Image, Study, check_splits
    from rrg_core.metrics import grounding
    from rrg_core.tools.house import unrefused

    box = {"boxes": [[0, 0, 2, 2]], "scores": [.5], "labels": [1]}
    target = {k: box[k] for k in ("boxes", "labels")}

    def study(**fields):
        given = dict(study_id="s1", patient_id="p1", source="phantom", split="train")
        return Study(**given | dict(images=[Image("i1", 30, 20)]) | fields)

    def found(prediction):
        return lambda: grounding.average_precision([prediction], [target])

    boxes = {
        "x1 below x0": (lambda: Box("mass", 5, 0, 4, 9), "box 'mass': x1 = 4 must be above"),
        "x1 equal to x0": (lambda: Box("mass", 5, 0, 5, 9), "box 'mass': x1 = 5 must be above"),
        "a NaN corner": (lambda: Box("mass", 0, float("nan"), 4, 9), "box 'mass': y0 must be a finite number"),
        "a box outside": (lambda: study(boxes=[Box("mass", 0, 0, 31, 9)]), "study 's1': boxes.0. .*outside"),
        "a box left of it": (lambda: study(boxes=[Box("mass", -1, 0, 3, 9)]), "study 's1': boxes.0. .*outside"),
        "a box without a film": (lambda: study(images=[], boxes=[Box("mass", 0, 0, 1, 1)]), "no image"),
        "no scores": (found(target), "prediction 0 has no scores"),
        "no boxes": (found({"scores": [1], "labels": [1]}), "prediction 0 has no boxes"),
        "no labels": (found({k: box[k] for k in ("boxes", "scores")}), "prediction 0 has no labels"),
        "too few scores": (found(box | {"scores": []}), "1 boxes with 0 scores"),
        "a NaN score": (found(box | {"scores": [np.nan]}), "a score is NaN"),
        "a NaN box": (found(box | {"boxes": [[0, 0, np.nan, 1]]}), "prediction 0, box 0"),
        "a NaN class": (found(box | {"labels": [np.nan]}), "label is no whole number"),
    }

    records = {
        "an unknown label": (lambda: study(labels={"Effusion": 1}), "label 'Effusion' is unknown"),
        "a label of 2": (lambda: study(labels={"Edema": 2}), "'Edema' must be 1, 0, -1 or None, got 2"),
        "a NaN label": (lambda: study(labels={"Edema": float("nan")}), "'Edema' must be .* got nan"),
        "an unknown region": (lambda: study(regions={"heart": Box("heart", 0, 0, 1, 1)}), "region 'heart'"),
        "an unknown split": (lambda: study(split="validate"), "split 'validate' is unknown"),
        "no patient": (lambda: study(patient_id=""), "patient_id is empty"),
        "NaN in meta": (lambda: study(meta={"a": float("nan")}), "study 's1': meta"),
        "an id twice": (lambda: Studies.of([study(), study()]), "study 's1': study_id is duplicated"),
        "an id in two splits": (lambda: check_splits([study(), study(split="test")]), "is duplicated"),
        "an id of two patients": (lambda: check_splits([study(), study(patient_id="p2", split="test")]),
                                  "study 's1': study_id is duplicated: in 'train', and in 'test'"),
        "a patient in two splits": (lambda: check_splits([study(), study(study_id="s2", split="test")]),
                                    "study 's2': split 'test' leaks: study 's1'"),
        "a missing group": (lambda: check_splits([study()], lambda s: None), "study 's1': group is missing"),
    }

    assert unrefused(boxes) == [] and unrefused(records) == []


def test_bad_predictions_and_numbers_are_named():
    from rrg_core.metrics import retrieval, stats
    from rrg_core.tools.house import unrefused

    folder = Path(tempfile.mkdtemp())
    quick = Protocol("quick", text=None, metrics=("BLEU", ))
    head = "study_id,hypothesis,reference\n"
    x = np.arange(9.)
    gap = np.where(x == 4, np.nan, x)

    def pairs(text, name="p.csv", **options):
        def call():
            (folder / name).write_text(text)
            label = lambda texts: np.zeros((len(texts), 14))
            return evaluate(folder / name, quick, bootstraps=5, label=label, **options)
        return call

    files = {
        "one name twice": (pairs("hypothesis,hypothesis,reference\na,b,c\n"), "two columns .* hypothesis"),
        "an unquoted comma": (pairs("hypothesis,reference\na,b,c\nd,e,f\n"), "more cells than the header"),
        "no header": (pairs("The heart is large.,A large heart.\na,b\n"), "is its first line a header"),
        "no such column": (pairs("study_id,text\n1,a\n"), "no column 'hypothesis'; it has study_id, text"),
        "an empty reference": (pairs(head + "1,a,b\n2,a, \n"), "record 2 .study_id 2.: the reference is empty"),
        "every reference empty": (pairs(head + "1,a,\n"), "the reference is empty"),
        "no record": (pairs(head), "no record to score"),
        "a study twice": (pairs(head + "7,a,b\n8,a,b\n7,c,d\n"), "record 3 .study_id 7.: .* record 1 too"),
        "a study without id": (pairs(head + "7,a,b\n,a,b\n"), "record 2: study_id is missing"),
        "NaN in JSON": (pairs('{"hypothesis": NaN, "reference": "b"}\n', "p.jsonl"), "record 1: the hypothesis"),
        "null in JSON": (pairs('[{"hypothesis": "a", "reference": null}]', "p.json"), "record 1: the reference"),
        "a number": (pairs('[{"hypothesis": 7, "reference": "b"}]', "p.json"), "record 1: the hypothesis"),
        "a cut-off file": (pairs('{"hypothesis": "a", "refer', "p.jsonl"), "line 1: not JSON"),
    }

    half = lambda texts: [[.5] * 14] * len(texts)
    numbers = {
        "a label of a half": (lambda: score_texts(["a"], ["b"], quick, half), "report 0, .* 0.5"),
        "NaN in a bootstrap": (lambda: stats.bootstrap_ci(np.mean, gap), "array 0 is NaN in row 4"),
        "NaN in a difference": (lambda: stats.paired_bootstrap(np.mean, x, gap), "array 1 is NaN in row 4"),
        "NaN among groups": (lambda: stats.bootstrap_ci(np.mean, x, groups=gap), "group of row 4 is missing"),
        "a NaN score": (lambda: stats.auroc([0, 1], [1, np.nan]), "score 1 is NaN"),
        "a NaN similarity": (lambda: retrieval.recall_at_k([[np.nan]], 1), "query 0 is NaN"),
        "a NaN class": (lambda: retrieval.precision_at_k([[1.]], [np.nan], [1], 1), "class of query 0"),
    }

    assert unrefused(files) == [] and unrefused(numbers) == []


def test_what_looks_wrong_and_is_read():
    from PIL import Image as Picture
    from rrg_core.data.study import read_image
    from rrg_core.metrics import grounding, stats

    folder = Path(tempfile.mkdtemp())
    quick = Protocol("quick", text=None, metrics=("BLEU", ))
    head = "study_id,hypothesis,reference\n"

    def pairs(text, name="p.csv", **options):
        def call():
            (folder / name).write_text(text)
            label = lambda texts: np.zeros((len(texts), 14))
            return evaluate(folder / name, quick, bootstraps=5, label=label, **options)
        return call

    Picture.fromarray(np.uint16([[100, 1124], [2148, 4195]])).save(folder / "deep.png")
    inverted = [read_image(folder / "deep.png", kind).tolist() for kind in (
        "MONOCHROME1", "monochrome1", "Monochrome1", "MONOCHROME1 ")]
    kept = pairs(head + "7,a,b\n7,a,b\n8,NaN,NA\n9,,None\n", keep_duplicates=True)()
    words = pairs(head + "1,NaN,NaN\n2,None,None\n3,NA,NA\n")().set_index("metric")
    (folder / "e.csv").write_text(head + "1,a,b\n2,a,\n3,,c\n")
    drop = replace(quick, empty_reference="drop")
    dropped = evaluate(folder / "e.csv", drop, bootstraps=5, label=lambda texts: np.zeros((len(texts), 14)))
    unsaid = np.where(np.eye(9, 14) == 1, 1, np.nan)
    target = {"boxes": [[0, 0, 2, 2]], "labels": [1]}
    nothing = {"boxes": [], "scores": [], "labels": []}
    legal = { # what looks wrong and is read
        "16 bits are spread": read_image(folder / "deep.png").tolist() == [[0, 64], [128, 255]],
        "MONOCHROME1 in any case": inverted == [[[255, 191], [127, 0]]] * 4,
        "an empty hypothesis": kept.n[0] == 4,
        "NaN, None and NA are words": words.value["BLEU-1"] > .99 and words.n.iloc[0] == 3,
        "duplicates by wish": "1 records repeat a study_id" in " ".join(kept.attrs["notes"]),
        "drops are counted": dropped.n[0] == 2 and "1 records with an empty" in dropped.attrs["notes"][0],
        "a label not mentioned": np.isfinite(stats.bootstrap_ci(lambda a: (a == 1).mean(), unsaid)).all(),
        "no detection at all": grounding.average_precision([nothing], [target])["mAP"] == 0,
    }
    assert all(legal.values()), [row for row, good in legal.items() if not good]
