"""Exported from nbs/90d_store.ipynb: edit it there, then run `nbdev-export`."""
import json, os, platform, re, shutil, sys, tempfile, threading, time
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
import filelock, psutil
from rrg_core.engine.code import canonical, digest, folder_hash
from rrg_core.engine.desk import WRITTEN, atomic, file_hash
from rrg_core.engine.settings import PUBLIC, CourseError, Profile, cache_root, repo_root
from rrg_core.engine.store import *


def test_made_once_and_whole():
    import json, tempfile, threading
    from pathlib import Path

    import pytest
    from rrg_core.engine.desk import WRITTEN

    calls = []
    def artifact(folder, depth, name="weights", fail=False):
        def build(path):
            calls.append(depth)
            (path/"w" if path.is_dir() else path).write_text("w"*depth)
            if fail: raise ZeroDivisionError
        return Artifact(Path(folder)/"one", name, {"depth": str(depth)}, build)
    silent = lambda words: None

    for name in ("weights", "deep/er.txt"):
        with tempfile.TemporaryDirectory() as d:
            calls.clear()
            a = artifact(d, 2, name)
            assert a.why() == "never made" and a.make(silent) == "trained in 0 s" and a.make(silent) == "loaded"
            assert calls == [2] and artifact(d, 3, name).why() == "depth changed"
            with pytest.raises(ZeroDivisionError): artifact(d, 3, name, fail=True).make(silent)
            assert a.why() == "" and a.files() == (["weights/w"] if name == "weights" else ["deep/er.txt"])
            assert set(WRITTEN["one"]) >= set(a.files())
            assert not [f for f in Path(d).rglob("*") if f.name.startswith((".making", ".partial"))]
            artifact(d, 3, name).make(silent)
            record = read_records(a.folder)["artifacts"][name]
            assert record["parts"] == {"depth": "3"} and record["content"] == content_hash(
                a.path) and record["seconds"] >= 0
            set_aside(a.folder, [name])
            assert artifact(d, 3, name).why() == "no record" and artifact(d, 3,
                                                                          name).make(silent).startswith("trained")
            assert read_records(a.folder)["aside"][name]["key"] == record["key"]


def test_side_by_side_it_is_made_once():
    import tempfile, threading, time
    from pathlib import Path

    calls, ways = [], []
    def build(path):
        calls.append(1)
        time.sleep(.3)
        path.write_text("x")
    with tempfile.TemporaryDirectory() as d:
        def go(i): ways.append(Artifact(Path(d)/"c", "t.txt", {"k": "1"}, build).make(lambda w: None))
        threads = [threading.Thread(target=go, args=(i,)) for i in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(calls) == 1 and sorted(ways) == ["loaded"]*3 + ["trained in 0 s"]
        many = [Artifact(Path(d)/"c", f"{i}.txt", {"k": "1"}, lambda p: p.write_text("y")) for i in range(8)]
        threads = [threading.Thread(target=lambda a=a: a.make(lambda w: None)) for a in many]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(read_records(Path(d)/"c")["artifacts"]) == 9 # nobody's record is lost


def test_a_declared_chapter_is_loaded_and_a_proof_leaves_nothing():
    import tempfile
    from pathlib import Path

    import pytest
    from rrg_core.engine.settings import CourseError, profile

    def trained(path):
        b = current_build()
        steps = min(30, b.limit or 30)
        b.note([1/(i + 1) for i in range(steps)], "no")
        (path/"w").write_text(str(steps))
    with tempfile.TemporaryDirectory() as d:
        a = Artifact(Path(d)/"c", "m", {"k": "1"}, trained)
        a.make(lambda w: None)
        assert (a.path / "w").read_text() == "30" and len(
            a.record()["losses"][0]) == PROOF_STEPS and a.record()["precision"] == "no"
        assert a.proof().losses == a.record()["losses"] and (a.path /
                                                             "w").read_text() == "30" and current_build() is None
        declare_stale(a.folder, "labels changed")
        other = Artifact(Path(d)/"c", "m", {"k": "2"}, trained)
        assert other.make() == "loaded, declared stale: labels changed" and other.why() == "k changed"
        assert other.make(lambda w: None, anew=True).startswith("trained") and other.why() == ""
        declare_stale(a.folder, "")
        assert a.make(lambda w: None).startswith("trained")
        (a.folder/RECORDS).write_text("{")
        with pytest.raises(CourseError, match="restore it from git"): a.why()


def test_credentialed_data_stays_out_of_figures():
    from dataclasses import replace
    from pathlib import Path

    import pytest
    from rrg_core.engine.settings import CourseError, profile, repo_root

    p = profile("phantom")
    refuse_credentialed(repo_root()/"figures"/"fita", p)
    for data in ("mimic-cxr", "a source that nobody knows"):
        with pytest.raises(CourseError, match="licence"):
            refuse_credentialed(repo_root() / "figures" / "fita", replace(p, data=data))
        refuse_credentialed(repo_root()/"build"/"x", replace(p, data=data))
