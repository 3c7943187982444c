"""Exported from nbs/90k_trainer.ipynb: edit it there, then run `nbdev-export`."""
import json, os, re, sys, time, traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from rrg_core.engine.experiments import Experiment, about, chapter_module, experiments, is_fresh, run_one
from rrg_core.engine.files import Desk, atomic
from rrg_core.engine.jobs import Job, die_with
from rrg_core.engine.once import run_of
from rrg_core.engine.parts import missing
from rrg_core.engine.settings import CourseError, profile
import tempfile, types
import pandas as pd, pytest
from rrg_core.engine.experiments import prefix, standin
from rrg_core.engine.trainer import *


def test_what_is_missing_is_trained_and_nothing_else():
    p, log = profile("smoke"), []

    def run(settings, seed, p, say):
        return pd.DataFrame({"study_id": ["a"]})

    def encoder(p, say):
        return prefix("encoder", {}, lambda folder: (folder / "w").write_text("1"), p, say=say)

    def clip(p, say):
        return standin("clip", {},
                       lambda folder: ((folder / "w").write_text((encoder(p, say) / "w").read_text())),
                       p,
                       say=say)

    module = types.SimpleNamespace(EXPERIMENTS={"plain": {}, "full": {"depth": 2}},
                                   run_variant=run,
                                   PARTS={"encoder": encoder, "clip": clip},
                                   NEEDS={"full": ["encoder"], "clip": ["encoder"]})
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        for k, v in {"RRG_RETRAIN": "", "RRG_CACHE": f"{d}/cache", "RRG_FIGURES": f"{d}/figures"}.items():
            m.setenv(k, v)
        desk = Desk("learning", "smoke")

        def plan(**options):
            return {t.name: t.why for t in to_train(desk, module=module, **options).values()}

        first = to_train(desk, module=module)
        assert {n: (t.why, t.needs)
                for n, t in first.items()} == {
                    "encoder": ("needed", ()), "clip": ("not made", ("encoder", )),
                    "plain-s0": ("never trained", ()), "full-s0": ("never trained", ("encoder", ))
                }
        clip(p, str)
        [run_one(e, str) for e in experiments(desk, module=module)]
        assert plan() == {} and list(plan(retrain=True)) == ["encoder", "clip", "plain-s0", "full-s0"]
        for left in (Path(d) / "cache").rglob("w"):
            left.unlink()
            (left.parent / "made.json").unlink() # a fresh clone: no cache
        assert plan() == {} and plan(names=["encoder"]) == {"encoder": "not made"}
        (desk.folder / "predictions" / "full-s0.parquet").unlink()
        assert plan() == {"encoder": "needed", "full-s0": "never trained"} and plan(names=["plain-s0"]) == {}
        (Path(d) / "figures" / "learning" / "standins" / "clip" / "made.json").unlink()
        module.NEEDS["plain"] = ["clip"]
        assert plan() == {
            "encoder": "needed", "clip": "not made", "plain-s0": "stand-in clip changed",
            "full-s0": "never trained"
        }
        module.EXPERIMENTS["plain"] = {"depth": 3}
        assert plan()["plain-s0"] == "settings changed" # the first of two reasons
        assert "full-s0" in plan(
            upstream=True) and os.environ["RRG_FIGURES"] == f"{d}/figures" # what is around it is as before
        run_one(experiments(desk, ["full"], module=module)[0], str)
        module.CHECKS = ("full", )
        assert "full-s0" not in plan(upstream=True) and plan(
            names=["full-s0"], upstream=True) == {"full-s0": "what it reads may change"}


def test_a_person_names_a_variant_a_part_or_all():
    module = types.SimpleNamespace(EXPERIMENTS={"a": {}, "b": {}},
                                   run_variant=lambda *a: None,
                                   PARTS={"clip": None},
                                   ONE_SEED=("b", ))
    desk = Desk("toy", "phantom", root="x")

    def names(*a):
        return chosen(desk, *a, module=module)

    assert names("a") == ["a-s0", "a-s1", "a-s2"] and names("b") == ["b-s0"] and names(
        "b", [4, 5]) == ["b-s4", "b-s5"] and names("clip") == ["clip"]
    assert names("all") == ["clip", "a-s0", "a-s1", "a-s2", "b-s0"]
    with pytest.raises(CourseError,
                       match="toy has no variant 'c': there are a, b; parts that several share: clip; or all"):
        names("c")


def test_a_job_trains_and_says_so():
    def run(settings, seed, p, say):
        say("epoch 1 of 1")
        if settings.get("fail"): raise ZeroDivisionError("planted")
        return pd.DataFrame({"study_id": ["a"]})

    module = types.SimpleNamespace(EXPERIMENTS={"a": {}, "b": {"fail": True}}, run_variant=run)
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_RETRAIN", "")

        def job(name, **options):
            return Job("toy", "smoke", f"{d}/figures", f"{d}/run", {}, experiment=name, **options)

        assert train_job(job("a-s0"), module)["how"].startswith("trained in") and train_job(
            job("a-s0"), module)["status"] == "fresh"
        assert json.loads((Path(d) / "run" / "progress" / "toy.a-s0.json").read_text())["said"] == "starts"
        with pytest.raises(ZeroDivisionError):
            train_job(job("b-s0"), module)
        with pytest.raises(CourseError, match="toy has no experiment 'c-s0': there are a-s0, b-s0"):
            train_job(job("c-s0"), module)
        assert job("a-s0").name == "toy.a-s0" and Job("toy", "smoke", "", "", {}).name == "toy"
