"""Exported from nbs/90g_plan.ipynb: edit it there, then run `nbdev-export`."""
import json, os, shutil, subprocess, sys, time
from dataclasses import asdict
from pathlib import Path
import filelock
from rich.console import Console
from rrg_core.engine.desk import Desk
from rrg_core.engine.files import atomic, entrust, lock_of, may_write, process_token, way_back
from rrg_core.engine.experiments import artifacts, chapter_module, compared, experiments, has_experiments
from rrg_core.engine.run import Job, check_parameters, environment_of, notebook_of, page_parts, read_json, reads_data, stale_reasons
from rrg_core.engine.settings import CourseError, Profile, cache_root, chapters, data_root, figures_at, figures_root, profile, repo_root
from rrg_core.engine.store import damages, declare_stale, read_records, set_aside
from rrg_core.engine.plan import *


def test_needs_come_first():
    import pytest
    from rrg_core.engine.settings import CourseError

    graph = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    assert with_needs(["c"], graph) == ["a", "b", "c"] and with_needs([], graph) == list("abcd") and with_needs(
        ["d", "a"], graph) == ["a", "d"]
    with pytest.raises(CourseError, match="unknown chapter 'x'"): with_needs(["x"], graph)


def test_a_pool_keeps_order_cores_and_time():
    import json, sys, tempfile, time
    from pathlib import Path

    from rrg_core.engine.settings import profile

    def jobs(run, **needs):
        (run/"results").mkdir(parents=True)
        code = ("import json,sys,time; a=time.time(); time.sleep(.4); "
                "open(sys.argv[1],'w').write(json.dumps({'status':'made','how':'x','a':a,'b':time.time()}))")
        return {
            n: {
                "needs": w, "threads": 1, "seconds": 0, "priority": 0,
                "command": [sys.executable, "-c", code,
                            str(run / "results" / f"{n}.json")]
            }
            for n, w in needs.items()
        }

    def ran(cores, until=float("inf"), fails=None, **needs):
        plan = Plan(profile("smoke"), Path(tempfile.mkdtemp()))
        run = plan.run
        made = jobs(run, **needs)
        if until < 9e9: made["b"]["seconds"] = 1000
        if fails: made[fails]["command"][2] = "raise SystemExit(3)"
        pool = Pool(plan, made, cores, until)
        while pool.step(): time.sleep(.02)
        return pool, {
            n: json.loads((run / "results" / f"{n}.json").read_text())
            for n in needs if (run / "results" / f"{n}.json").exists()
        }

    pool, r = ran(2, a=[], b=["a"], c=[])
    # side by side, in order
    assert r["b"]["a"] >= r["a"]["b"] and r["c"]["a"] < r["a"]["b"] and all(pool.done.values())
    pool, r = ran(1, a=[], b=[], c=[])
    spans = sorted((v["a"], v["b"]) for v in r.values())
    assert len(r) == 3 and all(x[1] <= y[0] for x, y in zip(spans, spans[1:]))
    pool, r = ran(2, time.time() + 60, a=[], b=["a"])
    assert set(r) == {"a"} and "b" not in pool.done # it would not end in time
    pool, r = ran(2, fails="a", a=[], b=["a"], c=[])
    assert pool.done == {"a": False, "c": True} and set(r) == {"c"} # what waits for it does not begin


def test_failures_are_told_together():
    import json, os, tempfile
    from pathlib import Path

    import pytest
    from rrg_core.engine.plan import Plan, _raise_failures
    from rrg_core.engine.settings import CourseError, profile

    plan = Plan(profile("smoke"), Path(tempfile.mkdtemp()))
    (plan.run/"logs").mkdir(parents=True)
    (plan.run/"logs"/"died.log").write_text("one\n\ntwo\nthree\nfour\n")
    (plan.run/"logs"/"silent.log").write_text("\n")
    good = {"status": "made"}
    bad = {"status": "failed", "error": "x.ipynb: E", "page": os.path.abspath("p.ipynb")}
    for names, results, left, words in (
            ("a", {"a": good}, [], ""), ("a b", {"a": good}, ["b"], ""),
            ("a", {"a": bad}, [], "x.ipynb: E\n  p.ipynb\n  "),
            ("died", {}, [], "died: its process died: two | three | four"), ("died", {}, ["died"], ""),
            ("silent", {}, [], "silent: its process died without a word (out of memory?)"),
            ("b c", {}, [], "not begun: b; c"), ("a b c d e", {"a": good}, [], "not begun: b; c; d and 1 more"),
            ("a died b", {"a": bad}, [], "died: two | three | four\nnot begun: b")):
        if not words: _raise_failures(plan, names.split(), results, left)
        else:
            with pytest.raises(CourseError) as error: _raise_failures(plan, names.split(), results, left)
            assert words in str(error.value), error.value


def test_what_is_missing_is_said_before_any_work():
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    import pytest
    from rrg_core.engine import plan as module
    from rrg_core.engine.plan import Plan, _dry
    from rrg_core.engine.settings import CourseError, profile

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_CACHE", f"{d}/cache")
        patch.delenv("RRG_ROOT_OPENI", raising=False)
        patch.delenv("RRG_ROOT_WEIGHTS", raising=False)
        plan = Plan(profile("openi"), Path(d)/"figures")
        plan.pages = {"learning": ["never made"], "reports": ["never made"]}
        assert plan.missing() == ["learning read openi: name its folder in RRG_ROOT_OPENI"]
        patch.setenv("RRG_ROOT_OPENI", f"{d}/nowhere")
        assert "nowhere is no folder" in plan.missing()[0]
        with pytest.raises(CourseError, match="missing: learning read openi"): _dry(plan, False, "local")
        assert _dry(plan, True, "local") # a plan says it and goes on
        patch.setenv("RRG_ROOT_OPENI", d)
        assert plan.missing() == [] and not _dry(plan, False, "local")
        patch.setenv("RRG_ROOT_WEIGHTS", f"{d}/weights")
        assert plan.missing() == [f"RRG_ROOT_WEIGHTS: {d}/weights is no folder"]
        patch.setattr(module, "ROOM", 2**70)
        assert sum("GB free" in line for line in plan.missing()) == 2
