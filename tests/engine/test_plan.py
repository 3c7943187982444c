"""Exported from nbs/90g_plan.ipynb: edit it there, then run `nbdev-export`."""
import json, os, shutil, subprocess, sys, time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
import filelock
from rrg_core.engine.desk import Desk, atomic
from rrg_core.engine.experiments import artifacts, chapter_module, compared, experiments, has_experiments, read_predictions
from rrg_core.engine.run import Job, check_parameters, environment_of, notebook_of, page_parts, stale_reasons, watch_token
from rrg_core.engine.settings import CourseError, Profile, chapters, figures_at, figures_root, profile, repo_root
from rrg_core.engine.store import changing_records, declare_stale, hardware, read_records, set_aside
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

    def ran(cores, until=float("inf"), **needs):
        run = Path(tempfile.mkdtemp())
        plan = Plan(profile("smoke"), run, run)
        made = jobs(run, **needs)
        if until < 9e9: made["b"]["seconds"] = 1000
        pool = Pool(plan, made, cores, until)
        while pool.step(): time.sleep(.02)
        return pool, {
            n: json.loads((run / "results" / f"{n}.json").read_text())
            for n in needs if (run / "results" / f"{n}.json").exists()
        }

    pool, r = ran(2, a=[], b=["a"], c=[])
    # side by side, in order
    assert r["b"]["a"] >= r["a"]["b"] and r["c"]["a"] < r["a"]["b"] and set(pool.done.values()) == {"made"}
    pool, r = ran(1, a=[], b=[], c=[])
    spans = sorted((v["a"], v["b"]) for v in r.values())
    assert len(r) == 3 and all(x[1] <= y[0] for x, y in zip(spans, spans[1:]))
    pool, r = ran(2, time.time() + 60, a=[], b=["a"])
    assert set(r) == {"a"} and "b" not in pool.done # it would not end in time
