"""Exported from nbs/05j_compare.ipynb: edit it there, then run `nbdev-export`."""
import re
from contextlib import nullcontext
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.data.study import named, named_file
from rrg_core.engine.desk import progress
from rrg_core.engine.files import atomic
from rrg_core.engine.settings import CourseError
from rrg_core.metrics.clinical import ClinicalStatistics, Protocol
from rrg_core.metrics.evaluate import _checked_ending, _component_notes, _component_signature, _given_labels, _groups, _head_lines, _known, _label_pair, _of_empty, _read_labels, _ready, _scores_of, _shortened, _text_counts, _training_texts, _written, find_protocols, health, input_hash, read_pairs, signature
from rrg_core.metrics.stats import corpus_replicates, interval
from rrg_core.metrics.text import Meteor
import json, tempfile
from dataclasses import replace
import numpy as np, pandas as pd, pytest, scipy.stats
from rrg_core.metrics.clinical import PROTOCOLS
from rrg_core.metrics.evaluate import score_texts
from rrg_core.metrics.compare import *


def test_exchange_and_correction():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    b += .3
    both = np.concatenate([a, b])
    tossed = np.array([both[r].mean() - both[l].mean() for l, r in exchanged(30, 0, 1, 20_000)])
    ours = (1 + (np.abs(tossed) >= abs(b.mean() - a.mean())).sum()) / 20_001
    theirs = scipy.stats.permutation_test((b, a), lambda x, y, axis: x.mean(axis) - y.mean(axis), rng=1,
                                          n_resamples=20_000, permutation_type="samples", vectorized=True).pvalue
    assert abs(ours - theirs) < .02
    groups = np.arange(30) // 3
    for left, right in exchanged(30, 0, 2, 20, groups=groups):
        assert (np.sort([left, right], 0) == [np.arange(30), np.arange(60, 90)]).all()
        assert all(len(set(left[groups == g] >= 60)) == 1 for g in range(10))
    np.testing.assert_allclose(holm([.03, .01, .5, .02]), [.06, .04, .5, .06])
    np.testing.assert_allclose(holm([.4, np.nan, .4]), [.8, np.nan, .8])
    assert holm([]).shape == (0, ) and holm([.9, .9]).max() == 1


def test_a_comparison_is_what_the_scores_say():
    normal, ill = "The lungs are clear. No pleural effusion.", "There is a small left pleural effusion."
    truth = [ill if i % 4 == 0 else normal for i in range(40)]
    systems = {"a": [normal] * 40, "b": list(truth), "c": [normal] * 40}
    quick = replace(PROTOCOLS["default"], text=None, metrics=("BLEU", "ROUGE-L", "CIDEr", "sacreBLEU"))
    table = compare_texts(systems, truth, quick, bootstraps=100).set_index(["system", "metric"])
    for name in ("b", "c"):
        own = score_texts(systems[name], truth, quick, bootstraps=2).set_index("metric")["value"]
        base = score_texts(systems["a"], truth, quick, bootstraps=2).set_index("metric")["value"]
        for metric, value in own.items():
            row = table.loc[name, metric]
            assert abs(row["of system"] - value) < 1e-9 and abs(row["difference"] - (value - base[metric])) < 1e-9
    better, same = table.loc["b"], table.loc["c"]
    assert (better.low > 0).all() and (better.p < .05).all() and (better.p <= better.p_holm).all()
    assert (same.difference == 0).all() and (same.p == 1).all() and (same[["low", "high"]] == 0).all(axis=None)
    again = compare_texts(systems, truth, quick, bootstraps=100).set_index(["system", "metric"])
    assert again.equals(table)
    turned = {"b": systems["b"], "a": systems["a"]}
    backwards = compare_texts(turned, truth, quick, bootstraps=100).set_index("metric")
    np.testing.assert_allclose(backwards.difference, -better.difference)
    np.testing.assert_allclose(backwards.high, -better.low)
    pairs = np.arange(40) // 10
    few = compare_texts(systems, truth, quick, groups=pairs, bootstraps=100)
    assert (few.p >= .06).all() # four patients prove little


def test_the_same_input_gives_the_numbers_of_evaluate():
    from rrg_core.data.study import OBSERVATIONS
    from rrg_core.metrics.evaluate import evaluate, read_table

    says = ["Edema.", "", "Small effusion. Edema.", "The lungs are clear. " * 4, "No effusion.", "Pneumonia."]
    base = pd.DataFrame({"study_id": list("abcdef"), "patient_id": list("xxyzzw"), "hypothesis": says,
                         "reference": ["Edema.", ".", "Effusion.", "Clear lungs.", "Effusion.", "Edema."]})
    family = ["default", "fita", "r2gen", "lm-rrg"] # whose headline is the value
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        base.to_csv(d / "a.csv", index=False)
        base.assign(hypothesis=says[::-1]).sample(frac=1, random_state=1).to_json(
            d / "b.jsonl.gz", orient="records", lines=True)
        (d / "train.txt").write_text("edema .\n" * 10 + "effusion .\n")
        files, rng = [d / "a.csv", d / "b.jsonl.gz"], np.random.default_rng(0)
        for name, file in zip("ab", files): # labels of nobody's rules, the same of the references
            both = read_table(file)[["study_id"]]
            fixed = np.random.default_rng(7).choice([1., 0., -1., np.nan], (6, 14))
            both = both.join(pd.DataFrame(rng.choice([1., 0., np.nan], (6, 14)),
                                          columns=[f"hypothesis {o}" for o in OBSERVATIONS]))
            truth = pd.DataFrame(fixed, index=list("abcdef"), columns=[f"reference {o}" for o in OBSERVATIONS])
            both.join(truth, on="study_id").to_csv(d / f"{name}-labels.csv", index=False)
        labels = [d / "a-labels.csv", d / "b-labels.csv"]
        for options in (dict(), dict(max_words=2), dict(group="patient", seed=5), dict(train=d / "train.txt"),
                        dict(labels=labels), dict(labels=labels, max_words=3, train=d / "train.txt")):
            options = dict(drop_empty=True, without=("METEOR", ), bootstraps=5) | options
            table = compare(files, family, **options)
            for i, (file, column) in enumerate(zip(files, ("of baseline", "of system"))):
                own = options | ({"labels": options["labels"][i:i + 1]} if "labels" in options else {})
                alone = evaluate(file, family, **own)
                assert table["metric"].tolist() == alone["metric"].tolist() and (table["n"] == 5).all()
                np.testing.assert_allclose(table[column], alone["value"], rtol=1e-12, atol=1e-15)
            parts = [dict(p.split(":", 1) for p in t["signature"].iloc[0].split("|")) for t in (table, alone)]
            same = [k for k in parts[1] if k != "input"]
            assert [parts[0][k] for k in same] == [parts[1][k] for k in same], options
            assert ("the labels are those of" in " ".join(table.attrs["notes"])) == ("labels" in options)
            assert ("cut at" in " ".join(table.attrs["notes"])) == ("max_words" in options)


def test_files_are_matched_or_refused():
    from rrg_core.tools.house import quoting

    quick = replace(PROTOCOLS["default"], text=None, metrics=("ROUGE-L", ))
    base = pd.DataFrame({"study_id": ["1", "2", "3"], "patient_id": ["p", "p", "q"],
                         "hypothesis": ["a", "b", "c"], "reference": ["a b", "b", "c d"]})
    label = lambda texts: np.zeros((len(texts), 14))
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)

        def file(name, **changed):
            path = d / name
            base.assign(**changed).to_csv(path, index=False)
            return path

        a, b = file("a.csv"), file("b.csv", hypothesis=["a b", "b", "c d"])
        run = lambda *paths, **o: compare(paths, quick, label=label, bootstraps=50, **o)
        table = run(a, b).set_index("metric")
        assert table.n.iloc[0] == 3 and table.difference["ROUGE-L"] > 0
        assert "whole patients" in table.attrs["health"]["groups"]
        base[::-1].assign(hypothesis=["c d", "b", "a b"]).iloc[:2].to_parquet(d / "c.parquet")
        fewer = run(a, d / "c.parquet")
        assert fewer.n.iloc[0] == 2 and "1 records" in fewer.attrs["notes"][0]
        spaced = file("s.csv", reference=["a  b", " b", "c\nd"]) # the same words
        assert (run(a, spaced).difference == 0).all()
        bare = [d / "x.csv", d / "y.csv"]
        for path in bare: base[["hypothesis", "reference"]].to_csv(path, index=False)
        assert run(*bare).n.iloc[0] == 3 # no ids: the same references in the same order
        for paths, words in [((a, ), "the first is the baseline"), ((a, a), "named twice"),
                             ((a, file("o.csv", reference=["a b", "x", "y"])), "differ in 2 of 3 .* number 2"),
                             ((a, file("n.csv", study_id=["7", "8", "9"])), "no study_id in common"),
                             ((a, file("t.csv", study_id=["1", "1", "3"])), "the study is in record 1 too"),
                             ((a, file("e.csv", reference=["a b", "b", ""])), "--drop-empty"),
                             ((a, d / "none.csv"), "does not exist")]:
            with pytest.raises(CourseError, match=words) as e: run(*paths)
            assert "\n" not in str(e.value)
        for options, words in [(dict(group="site"), "no column 'site'"),
                               (dict(protocol="nope"), "unknown protocol"),
                               (dict(out="t.xlsx"), "a table is written to"),
                               (dict(plot="f.gif"), "a figure is written to .svg")]:
            with pytest.raises(CourseError, match=words):
                compare_command([a, b], **({"protocol": quick} | options))
        with pytest.raises(CourseError, match="at least 1, got 0"):
            compare([a, b], quick, label=label, bootstraps=0)
        said = compare_command([a, b, spaced], [quick, replace(quick, name="other")], out=str(d / "t.json"),
                               plot=str(d / "f.svg"), label=label, bootstraps=20)
        kept = json.loads((d / "t.json").read_text())
        assert len(kept["scores"]) == 2 * 2 * 4 and kept["health"] and "holm:8" in kept["scores"][0]["signature"]
        assert (d / "f.svg").read_text().startswith("<?xml") and "b, s against a: 3 studies" in said

        def other_truth(value):
            pd.DataFrame({"study_id": ["1"], "hypothesis": [str(value)], "reference": [str(value)]}).to_csv(
                d / "v.csv", index=False)
            run(a, d / "v.csv")

        assert quoting({"paths": lambda x: compare([x, "b.csv"]), "other truth": other_truth,
                        "texts": lambda x: compare_texts({"a": [x], "b": [x, x]}, [x]),
                        "group": lambda x: compare([a, b], quick, group=x)}) == []


def test_metrics_by_name_and_health_of_each_file():
    from rrg_core.metrics.backends import Components
    from rrg_core.metrics.evaluate import evaluate, evaluate_command

    truth = ["Large left pleural effusion.", "Lungs are clear.", "Pneumonia.", "Heart is normal.", "No edema."]
    says = {"a": ["Small left pleural effusion.", "Lungs are clear.", "", "Heart is enlarged.", "No edema."],
            "b": ["Lungs are clear."] * 5, "c": ["qwer tzui", *truth[1:]]}
    names = "radgraph-standin,chexbert-standin,bertscore-standin,radcliq-standin"
    with tempfile.TemporaryDirectory() as d:
        files, out = [Path(d) / f"{name}.csv" for name in says], Path(d) / "t.json"
        for file, said in zip(files, says.values()):
            pd.DataFrame({"subject_id": list("xxyzz"), "study_id": list("12345"), "hypothesis": said,
                          "reference": truth}).to_csv(file, index=False)
        options = dict(without=("METEOR", ), bootstraps=20, metrics=[names], max_words=3)
        printed = compare_command(files, ["default", "fita"], out=str(out), **options)
        rows = pd.DataFrame(json.loads(out.read_text())["scores"])
        alone = [evaluate(f, ["default", "fita"], **options) for f in files]
        for k, name in ((1, "b"), (2, "c")): # the numbers of evaluate, in its order
            own = rows[rows["system"] == name].reset_index(drop=True)
            own = pd.concat([own[own["protocol"] == p] for p in ("default", "fita", "any")])
            assert own["metric"].tolist() == alone[0]["metric"].tolist()
            np.testing.assert_allclose(own["of baseline"], alone[0]["value"], atol=1e-6)
            np.testing.assert_allclose(own["of system"], alone[k]["value"], atol=1e-6)
        assert rows["protocol"].tolist() == sorted(rows["protocol"], key=["default", "fita", "any"].index)
        last = rows[rows["protocol"] == "any"]
        assert (last["low"] <= last["difference"]).any() and last["p_holm"].max() <= 1
        signed, = last["signature"].unique()
        for part in ("metrics:RadGraph-standin+", "|models:radgraph=rules,", "|boot:20|", "|groups:3|",
                     f"|test:paired-bootstrap+randomisation|holm:{len(last)}"): assert part in signed, part
        better = last[(last["metric"] == "RadCliQ-standin") & (last["system"] == "c")]
        assert (better["difference"] < 0).all() and "RadCliQ is better where it is lower" in printed
        block = printed.split("\n| ")[0]
        health = json.loads(out.read_text())["health"]
        for k, name in enumerate(says): # as evaluate has it for the file
            line = next(v for v in block.splitlines() if v.startswith(f"hypotheses of {name}"))
            assert line.endswith(health[f"hypotheses of {name}"]) and health["groups"] in block
            assert health[f"hypotheses of {name}"] == alone[k].attrs["health"]["hypotheses"]
            assert health["references"] == alone[k].attrs["health"]["references"]
        assert "1 empty" in health["hypotheses of a"] and "unread or foreign" in health["hypotheses of c"]
        for metrics, words in [("bleurt", "unknown metric"), ("radcliq,", "a comma too many")]:
            with pytest.raises(CourseError, match=words): compare(["none.csv", "other.csv"], metrics=metrics)
        few = compare(files[:2], metrics=Components("chexbert-standin"), without=("METEOR", ), bootstraps=5)
        assert few["metric"].iloc[-1] == "CheXbert-standin" and "RadCliQ" not in " ".join(few.attrs["notes"])


def test_labels_of_the_references_are_one_truth():
    from rrg_core.data.study import OBSERVATIONS

    quick = replace(PROTOCOLS["default"], text=None, metrics=())
    base = pd.DataFrame({"study_id": ["1", "2", "3"], "hypothesis": ["a"] * 3, "reference": ["b"] * 3})
    names = [f"{side} {o}" for side in ("hypothesis", "reference") for o in OBSERVATIONS]
    labels = base[["study_id"]].join(pd.DataFrame(0, range(3), names))
    with tempfile.TemporaryDirectory() as d:
        files = [Path(d) / "a.csv", Path(d) / "b.csv"]
        for file in files: base.to_csv(file, index=False)
        kinds = {"same": {}, "said": {"hypothesis Edema": 1}, "other": {"reference Edema": [0, 1, 0]},
                 "unsaid": {"reference Edema": [0, None, 0]}}
        for name, changed in kinds.items():
            labels.assign(**changed).to_csv(Path(d) / f"{name}.csv", index=False)
        run = lambda *given: compare(files, quick, bootstraps=5, labels=[Path(d) / f"{g}.csv" for g in given])
        assert (run("same", "same")["difference"] == 0).all() and (run("same", "said")["difference"] == 0).all()
        for given, words in [(["same"], "once for each file, in their order: 1 for 2"),
                             (["same"] * 3, "3 for 2"), (["same", "none"], "none.csv.* does not exist"),
                             (["same", "other"], "labels of the references differ in 1 of 3"),
                             (["unsaid", "same"], "labels of the references differ in 1 of 3")]:
            with pytest.raises(CourseError, match=words) as e: run(*given)
            assert "\n" not in str(e.value)
