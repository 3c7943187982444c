"""Exported from nbs/08a_systems.ipynb: edit it there, then run `nbdev-export`."""
import atexit, json, os
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
import numpy as np
import pandas as pd
from fastcore.basics import patch
from rrg_core.data.study import named, named_file
from rrg_core.metrics.evaluate import _bare, _groups, _headlines, _label_of, _labels, _notes, _prepare, _text_definition, find_protocol
from rrg_core.engine.experiments import read_predictions
from rrg_core.engine.settings import cache_root
from rrg_core.engine.store import Artifact
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics, Protocol
from rrg_core.metrics.stats import Spread, corpus_replicates, spread
from rrg_core.metrics.text import METRICS, Meteor, text_statistics
from rrg_core.engine.settings import CourseError
import tempfile
import pytest
from rrg_core.metrics.evaluate import evaluate
from rrg_core.engine.experiments import write_predictions
from rrg_core.metrics.stats import interval, paired_bootstrap
from rrg_core.results.systems import *


def test_predictions_that_do_not_fit_are_named():
    one = pd.DataFrame({"study_id": ["a", "b"], "hypothesis": ["x", "y"], "reference": ["r", "s"]})
    assert aligned({3: one, 4: one[::-1]})[4]["hypothesis"].tolist() == ["x", "y"] and list(aligned(one)) == [0]
    for bad, words in [({0: one, 1:
            one[:1]}, "v: seeds 0 and 1 are of different studies: 1 only with seed 0 .such as 'b'."),
                       ({0: one, 1: one.assign(study_id=["a", "c"])}, "such as 'c'"),
                       ({0: one.assign(study_id="a")}, "seed 0: study 'a' occurs twice"),
                       ({0: one, 1: one.assign(reference="r")}, "study 'b' has another reference"),
                       ({}, "no predictions"), ({0: one.drop(columns="study_id")}, "no column study_id"),
                       ({0: "nowhere.parquet"}, "nowhere.parquet does not exist")]:
        with pytest.raises(CourseError, match=words):
            aligned(bad, "v")


def test_replicates_are_those_of_the_paired_bootstrap():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 120)

    def noisy(p):
        return np.where(rng.random((120, 3)) < p, truth[:, None], 1 - truth[:, None])

    def accuracy(predicted, truth):
        return (predicted == truth).mean()

    left, right = noisy(.8), noisy(.7)
    groups = np.arange(120) // 2
    for g in (None, groups):
        systems = [Measured(x, {"accuracy": accuracy}, truth, groups=g) for x in (left, right)]
        a, b = (s.replicates("measured", ("accuracy", ), n=200).mean((1, 2)) for s in systems)
        mean = lambda predicted, truth: (predicted == truth[:, None]).mean() # all seeds kept
        np.testing.assert_allclose(interval(a - b), paired_bootstrap(mean, left, right, truth, n=200, groups=g))
        (found, ), n = systems[0].spread("measured", ("accuracy", ), 200), 120 if g is None else 60
        assert found.seeds == 3 and found.studies == n
        assert found.between == np.var((left == truth[:, None]).mean(0), ddof=1) and found.mixed > 0
    np.testing.assert_allclose(systems[0].values("measured", ("accuracy", ))[:, 0], (left == truth[:,
                                                                                                   None]).mean(0))
    for bad, words in [(lambda: systems[0].scorer("x", ()), "not under 'x'"),
                       (lambda: systems[0].scorer("measured", ("f1", )), "no score 'f1'")]:
        with pytest.raises(CourseError, match=words):
            bad()
    with pytest.raises(ValueError, match="studies, seeds"):
        Measured(np.zeros(3), "x")
    with pytest.raises(ValueError, match="3 studies, but"):
        Measured(np.zeros((3, 1)), "x", np.zeros(2))


def test_the_value_is_what_rrg_evaluate_prints():
    frame = pd.DataFrame({
        "study_id": [f"s{i}" for i in range(12)],
        "reference": ["The lungs are clear.", "Left pleural effusion. Cardiomegaly.", "Mild edema."] * 4,
        "hypothesis": ["The lungs are clear.", "Pleural effusion.", "", "Cardiomegaly."] * 3
    })
    with tempfile.TemporaryDirectory() as d:
        paths = {}
        for seed in (0, 1):
            paths[seed] = Path(d) / f"v-s{seed}.parquet"
            write_predictions(frame.assign(hypothesis=np.roll(frame["hypothesis"], seed)), paths[seed])
        system = Reports(paths)
        plain = Protocol("plain", text="spaced", metrics=("BLEU", "ROUGE-L")) # no Java
        for protocol, names in [(plain, ("BLEU-1", "ROUGE-L", "CE-F1", "CE-recall")),
                                ("llava-rad-pos-macro-f1-5", ("sacreBLEU-4", "rouge-score L", "CE-F1"))]:
            ours = system.values(protocol, names)
            for i, path in enumerate(paths.values()):
                printed = evaluate(path, protocol, label=None).set_index("metric")["value"]
                np.testing.assert_allclose(ours[i], printed[list(names)].to_numpy(), rtol=1e-9)
        groups = Reports(frame.assign(patient_id=["p", "q"] * 6)).groups
        assert set(groups) == {"p", "q"} and system.groups is None
        assert system.definition(
            "r2gen", "CE-F1"
        ) == "rules, 14, macro, uncertain→negative" and "labelled by our rules" in system.notes("r2gen")[0]
        with pytest.raises(CourseError, match="protocol fita has no score 'CIDEr'; it has BLEU-1"):
            system.values("fita", ("CIDEr", ))


def test_meteor_is_counted_once():
    class Counted(KeptMeteor):
        calls = 0

        class Java:
            def __enter__(self):
                return self

            def __exit__(self, *exception):
                pass

            def statistics(self, hypotheses, references):
                Counted.calls += 1
                return np.arange(23. * len(hypotheses)).reshape(-1, 23)

        java = Java()

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_CACHE", d)
        for texts in (["a"], ["a"], ["b"]):
            assert Counted().statistics(texts, [["r"]]).shape == (1, 23)
        assert Counted.calls == 2 and not [f for f in Path(d).rglob("*") if "a" == f.name] # counts, no text
