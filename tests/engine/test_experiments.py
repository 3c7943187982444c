"""Exported from nbs/90h_experiments.ipynb: edit it there, then run `nbdev-export`."""
import ast, json, os, re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rrg_core.engine.files import Desk
from rrg_core.engine.once import is_current, once, owned_by, read_note, run_of
from rrg_core.engine.parts import canonical, card_key, code_parts, data_parts, digest, folder_hash, missing, note_outputs, prefix, refuse_credentialed, standin, standin_folder, targets
from rrg_core.engine.settings import CourseError, Profile, package_root, profile, repo_root
import os, tempfile
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from rrg_core.engine.experiments import _write_costs
from rrg_core.engine.experiments import *


def test_typos_are_refused():
    lab = SimpleNamespace(DEFAULTS=lambda p: {"width": p.width},
                          EXPERIMENTS={"a": {}, "b": {"widht": 3}, "c-s1": {}, "../d": {}})
    assert merged(lab, "a", profile("smoke")) == {"width": 32}
    for variant, words in [("x", "unknown variant 'x': there are a, b"),
                           ("b", "unknown setting 'widht'; the defaults are width"), ("c-s1", "does not end"),
                           ("../d", "a name is letters")]:
        with pytest.raises(CourseError, match=words):
            merged(lab, variant, profile("smoke"))


def test_the_same_predictions_have_the_same_bytes():
    frame = pd.DataFrame({
        "study_id": ["a", "b"], "hypothesis": ["Clear.", ""], "reference": ["Clear.", "Effusion."],
        "labels": [[1, 0], [0, 1]]
    })
    with tempfile.TemporaryDirectory() as d:
        for name in ("one", "two"):
            write_predictions(checked(frame, "x"), Path(d) / name, {"key": "k", "seed": 1})
        assert (Path(d) / "one").read_bytes() == (Path(d) / "two").read_bytes()
        back = read_predictions(Path(d) / "one")
        assert back["hypothesis"].tolist() == ["Clear.", ""] and back["labels"][1].tolist() == [
            0, 1
        ] and back.attrs["key"] == "k"
        assert about(Path(d) / "one") == {"key": "k", "seed": 1} and about(Path(d) / "three") == {}
        (Path(d) / "two").write_bytes((Path(d) / "one").read_bytes()[:-10])
        assert about(Path(d) / "two") == {} # damaged: as good as missing


def test_predictions_are_checked():
    good = pd.DataFrame({"study_id": ["a", "b"], "hypothesis": ["x", ""], "reference": ["y", "z"]})
    assert checked(good.set_index(pd.Index([5, 6])), "v").index.tolist() == [0, 1]
    assert len(checked(good[["study_id"]], "v")) == 2 # a detector has no texts
    for bad, words in [(good.assign(study_id="a"), "v: study a is predicted twice"),
                       (good.drop(columns="study_id"), "no column study_id"), (good[:0], "without a row"),
                       ({}, "got dict"), (good.drop(columns="reference"), "go together"),
                       (good.assign(reference=["y", " "]), "v, study b: the reference is empty"),
                       (good.assign(hypothesis=["x", None]), "v, study b: the hypothesis"),
                       (good.assign(study_id=[1, 2]), "row 0: study_id must be a text, got 1")]:
        with pytest.raises(CourseError, match=words):
            checked(bad, "v")
    with pytest.raises(CourseError) as error:
        checked(good.assign(reference=["y", ["a patient's words"]]), "v")
    assert "no text but a list" in str(error.value) and "patient" not in str(error.value)


def test_speeds_of_another_machine_stay():
    with tempfile.TemporaryDirectory() as d:
        desk = Desk("toy", "smoke", root=Path(d))
        row = lambda name, machine, speed: {
            "variant": name, "hardware": machine, "studies a second": speed, "precision": "no"
        }
        note_speeds(desk, pd.DataFrame([row("step", "A", 1.), row("step", "B", 2.)]))
        out = note_speeds(desk, pd.DataFrame([row("step", "A", 3.), row("decode", "A", 4.)]))
        assert dict(zip(zip(out["variant"], out["hardware"]), out["studies a second"])) == {("step", "A"): 3.,
                                                                                            ("step", "B"): 2.,
                                                                                            ("decode", "A"): 4.}
        assert len(pd.read_csv(desk.path("cost.csv"))) == 3
        _write_costs(desk, [])
        assert len(pd.read_csv(desk.path("cost.csv"))) == 3 # runs leave speeds alone


def test_loaded_when_nothing_changed_trained_when_something_did():
    trained = []

    def run(settings, seed, p, say):
        trained.append((settings["x"], seed))
        return pd.DataFrame({"study_id": ["a"], "hypothesis": [f"{settings['x'] * seed}"], "reference": ["r"]})

    def module(**experiments):
        return SimpleNamespace(EXPERIMENTS=experiments, DEFAULTS={"x": 1}, run_variant=run, ONE_SEED=("one", ))

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_RETRAIN", "")
        m.setenv("RRG_RECORD", str(Path(d) / "record"))
        m.delenv("RRG_RUN", raising=False)
        desk, said = Desk("toy", "phantom", root=d), []

        def go(retrain=None, **experiments):
            trained.clear()
            return run_experiments(desk, module=module(**experiments), retrain=retrain, say=said.append)

        first = go(full={"x": 2}, one={})
        assert trained == [(2, 0), (2, 1), (2, 2),
                           (1, 0)] and set(first["full"]) == {0, 1, 2} and set(first["one"]) == {0}
        assert first["full"][2]["hypothesis"][0] == "4" and first["full"][2].attrs[
            "file"] == "predictions/full-s2.parquet"
        bytes_ = {f.name: f.read_bytes() for f in (desk.folder / "predictions").iterdir()}
        go(full={"x": 2}, one={}, more={})
        assert trained == [(1, 0), (1, 1), (1, 2)] # a new variant retrains no other
        assert said[-1] == "more: seed 0 trained in 0 s, seed 1 trained in 0 s, seed 2 trained in 0 s" and said[
            -3] == "full: seed 0 loaded, seed 1 loaded, seed 2 loaded"
        go(full={"x": 3})
        assert trained == [(3, 0), (3, 1), (3, 2)]
        go(full={"x": 2}, retrain=True)
        assert len(trained) == 3 and (desk.folder / "predictions" /
                                      "full-s1.parquet").read_bytes() == bytes_["full-s1.parquet"]
        cost = pd.read_csv(desk.path("cost.csv"))
        assert list(cost["variant"] + cost["seed"].astype(str)) == [
            "one0", "more0", "more1", "more2", "full0", "full1", "full2"
        ] and (cost["seconds"] >= 0).all()
        noted = {tuple(json.loads(l)) for l in open(Path(d) / "record")}
        assert ("toy", "predictions/full-s0.parquet") in noted and ("toy", "cost.csv") in noted
        (desk.folder / "predictions" / "full-s0.parquet").write_bytes(b"PAR1 damaged")
        go(full={"x": 2})
        assert trained == [(2, 0)]


def test_what_fails_leaves_nothing():
    def run(settings, seed, p, say):
        if settings["how"] == "raise": raise ZeroDivisionError("planted")
        return pd.DataFrame({"study_id": ["a", "a"], "hypothesis": "x", "reference": "y"})

    module = SimpleNamespace(EXPERIMENTS={"a": {"how": "raise"}, "b": {"how": "twice"}}, run_variant=run)
    with tempfile.TemporaryDirectory() as d:
        desk = Desk("toy", "smoke", root=d)
        with pytest.raises(ZeroDivisionError) as caught:
            run_experiment(desk, "a", module=module)
        assert caught.value.__notes__ == ["while training toy a-s0"]
        with pytest.raises(CourseError, match="toy b-s0: study a is predicted twice"):
            run_experiment(desk, "b", module=module)
        assert not [f for f in Path(d).rglob("*") if f.is_file()]


def test_credentialed_predictions_are_refused_before_training():
    def secret(settings, seed, p, say):
        raise AssertionError("trained before the folder was checked")

    private = SimpleNamespace(EXPERIMENTS={"a": {}}, run_variant=secret)
    with pytest.raises(CourseError, match="nothing of it is written below figures/"):
        run_experiment(Desk("toy", "mimic", root=repo_root() / "figures"), "a", module=private, say=str)
    assert not (repo_root() / "figures" / "toy").exists()


def test_a_standin_counts_by_its_bytes():
    def run(settings, seed, p, say):
        return pd.DataFrame({"study_id": ["a"]})

    def clip(p, say):
        return standin("clip", {}, lambda folder: (folder / "w").write_text("1"), p, say=say)

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d)
        m.setenv("RRG_RETRAIN", "")
        desk = Desk("toy", "smoke")
        reader = SimpleNamespace(EXPERIMENTS={"a": {}}, NEEDS={"a": ["clip"]}, run_variant=run)
        with pytest.raises(
                CourseError,
                match="needs the stand-in 'clip'.* `rrg train learning clip --profile smoke` makes it"):
            run_experiment(desk, "a", module=reader)
        maker = SimpleNamespace(**vars(reader), PARTS={"clip": clip})
        assert run_experiment(desk, "a", module=maker,
                              say=str).attrs["how"].startswith("trained") # makes what it needs
        kept = run_parts(
            Desk("learning", "smoke"),
            module=SimpleNamespace(
                PARTS={"clip": clip, "encoder": lambda p, say: prefix("never", {}, lambda folder: 1 / 0, p)}),
            say=str)
        assert kept == {"clip": standin_folder("clip", desk.profile)} and pd.read_csv(
            Path(d) / "learning" / "cost.csv")["variant"].tolist() == ["clip"]
        assert run_experiment(desk, "a", module=reader, say=str).attrs["how"] == "loaded"
        (standin_folder("clip", desk.profile) / "w").write_text("2")
        assert run_experiment(desk, "a", module=reader, say=str).attrs["how"].startswith("trained")

        def meddling(settings, seed, p, say):
            (standin_folder("clip", p) / "w").write_text("3")
            return run(settings, seed, p, say)

        with pytest.raises(CourseError, match="stand-in clip changed while it was trained"):
            run_experiment(desk,
                           "a",
                           module=SimpleNamespace(**vars(reader) | {"run_variant": meddling}),
                           retrain=True,
                           say=str)


def test_a_check_keeps_the_standins_that_it_was_made_with():
    trained = []

    def run(settings, seed, p, say):
        trained.append(settings["x"])
        return pd.DataFrame({"study_id": ["a"]})

    module = SimpleNamespace(DEFAULTS={"x": 1},
                             EXPERIMENTS={"plain": {}, "more": {"x": 2}},
                             NEEDS={"plain": ["clip"], "more": ["clip"]},
                             CHECKS=("more", ),
                             run_variant=run)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        for k, v in {"RRG_FIGURES": d, "RRG_RETRAIN": "", "RRG_RUN": "", "RRG_JOB": ""}.items():
            m.setenv(k, v)
        folder = standin_folder("clip", profile("smoke"))
        folder.mkdir(parents=True)
        (folder / "w").write_text("1")
        desk = Desk("toy", "smoke")
        go = lambda **options: (trained.clear(), run_experiments(desk, module=module, say=str, **options),
                                list(trained))[-1]

        def others():
            return {e.variant: other_standins(e) for e in experiments(desk, module=module)}

        assert go() == [1, 2] and go() == [] and go(retrain=True) == [1] and others() == {"plain": [], "more": []}
        (folder / "w").write_text("2")
        assert others() == {"plain": ["clip"], "more": ["clip"]} # by another processor
        assert go() == [1] and others() == {"plain": [], "more": ["clip"]}
        m.setenv("RRG_JOB", "toy.more-s0")
        assert go() == [2] and others()["more"] == []
        m.setenv("RRG_JOB", "") # asked for by its name
        module.EXPERIMENTS["more"] = {"x": 3}
        assert go() == [3] # another recipe


def test_a_notebook_does_not_train_again_what_its_job_trained():
    trained = []

    def run(settings, seed, p, say):
        trained.append(seed)
        return pd.DataFrame({"study_id": ["a"]})

    module = SimpleNamespace(EXPERIMENTS={"a": {}}, run_variant=run)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        desk = Desk("toy", "smoke", root=d)
        m.setenv("RRG_RETRAIN", "1")
        m.setenv("RRG_RUN", "first")
        [run_one(e, str) for e in experiments(desk, module=module)] # the job
        page = run_experiment(desk, "a", module=module, say=str) # the notebook
        assert trained == [0] and page.attrs["how"] == "trained in 0 s by a job of this run"
        m.setenv("RRG_RUN", "second")
        run_experiment(desk, "a", module=module, say=str)
        assert trained == [0, 0]
        m.setenv("RRG_RUN", "third")
        m.setenv("RRG_CHAPTER", "other") # which reads what "toy" predicted
        assert run_one(experiments(desk, module=module)[0], str) == "loaded" and trained == [0, 0]
        m.setenv("RRG_CHAPTER", "toy")
        run_one(experiments(desk, module=module)[0], str)
        assert trained == [0, 0, 0]
