"""Exported from nbs/90d_store.ipynb: edit it there, then run `nbdev-export`."""
import json, os, platform, re, shutil, sys, tempfile, threading, time
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
import filelock, psutil
from rrg_core.engine.code import canonical, digest
from rrg_core.engine.desk import WRITTEN
from rrg_core.engine.files import PARTIAL, atomic, file_hash, lock_of, place_name, read_vouched, sweep, vouched, way_back
from rrg_core.engine.settings import CourseError, cache_root, repo_root
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
            assert record["parts"] == {"depth": "3"} and record["seconds"] >= 0
            assert record["content"] == content_of(a.folder, name)
            set_aside(a.folder, [name])
            assert artifact(d, 3, name).why() == "no record" and artifact(d, 3,
                                                                          name).make(silent).startswith("trained")
            assert read_records(a.folder)["aside"][name]["key"] == record["key"]


def test_side_by_side_it_is_made_once():
    import tempfile, threading, time
    from pathlib import Path

    from rrg_core.engine.settings import repo_root

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
        def checkpointed(path): # the same artifact in two folders: neither's checkpoint is the other's
            (folder := current_build().checkpoint()).mkdir(parents=True)
            time.sleep(.2)
            (folder/"state.pt").touch(exist_ok=False)
            path.write_text("z")
        done = []
        twins = [Artifact(Path(d)/c, "z.txt", {"k": "1"}, checkpointed) for c in "ab"]
        threads = [threading.Thread(target=lambda a=a: done.append(a.make(lambda w: None))) for a in twins]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len({a.key for a in twins}) == 1 and done == ["trained in 0 s"]*2
        assert not [f for a in twins for f in (repo_root()/"build"/"checkpoints").glob(f"{a.seat}-*")]


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
        with pytest.raises(CourseError, match="damaged or was edited"): a.why()


def test_nothing_damaged_is_used():
    import os, tempfile
    from pathlib import Path

    import pytest
    from rrg_core.engine.settings import CourseError

    def filled(path):
        for name in ("config.json", "deep/weights"):
            (path/name).parent.mkdir(exist_ok=True)
            (path/name).write_bytes(b"0123456789"*20)
    def artifact(name="m", key="1", root=None):
        build = filled if name == "m" else lambda path: path.write_bytes(b"0123456789"*20)
        return Artifact(Path(root or d)/"c", name, {"k": key}, build)
    def flip(file, at):
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
    def harden(file): # another name for the same bytes, through which they are edited
        os.link(file, file.parent.parent.parent/"elsewhere")
        flip(file.parent.parent.parent/"elsewhere", 3)
    def replaced(file, text): file.write_text(text)

    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 200\n"
    harms = {
        "was changed": [
            lambda f: flip(f, 0), lambda f: flip(f, -1), lambda f: os.truncate(f, 7), harden,
            lambda f: os.truncate(f, 0), lambda f: f.write_bytes(f.read_bytes() + b"x"),
            lambda f: replaced(f, pointer)
        ], "is missing": [lambda f: f.unlink()], "is new": [
            lambda f: replaced(f.with_name("another"), "x"), lambda f: replaced(f.with_name(".hidden"), "")
        ]
    }
    for name in ("m", "p/a.parquet"):
        for words, each in harms.items():
            for harm in each[:None if name == "m" or words == "was changed" else 0]:
                with tempfile.TemporaryDirectory() as d:
                    a = artifact(name)
                    a.make(str)
                    file = a.path/"deep"/"weights" if name == "m" else a.path
                    assert damages(a.folder) == {}
                    harm(file)
                    assert list(damages(a.folder).values()) == [words]
                    for use in (lambda: a.make(str), lambda: whole(a.folder, name),
                                lambda: artifact(name).make(str)):
                        with pytest.raises(CourseError, match=f"damaged: .*{words}"): use()
                    whole(a.folder, "another")
                    kept = {f: f.read_bytes() for f in a.path.rglob("*") if f.is_file()}
                    declare_stale(a.folder, "a reason") # what is shown from its results has to be whole, too
                    with pytest.raises(CourseError, match="damaged"): artifact(name, "2").make(str)
                    assert kept == {f: f.read_bytes() for f in a.path.rglob("*") if f.is_file()}
                    declare_stale(a.folder, "")
                    assert artifact(name, "2").make(str).startswith("trained") and damages(a.folder) == {}


def test_records_are_read_through_a_schema():
    import json, tempfile
    from pathlib import Path

    import pytest
    from rrg_core.engine.files import vouched
    from rrg_core.engine.settings import CourseError

    with tempfile.TemporaryDirectory() as d:
        folder = Path(d)/"c"
        for bad in ([], 3, None, {"artifacts": []}, {"aside": 1}, {"stale": "x"}, {"adopted": [
        ]}, {"artifacts": {"m": 1}}, {"artifacts": {"m": {"content": "ab"}}}, {"artifacts": {"../m": {}}}, {
                "artifacts": {"/m": {}}
        }, {"artifacts": {"m": {"content": {"../../victim.txt": "0"}}}}, {"aside": {"a/../../m": {}}}):
            with vouched(folder/RECORDS) as tmp: tmp.write_text(json.dumps(bad))
            for use in (read_records, damages, lambda f: set_aside(f, ["m"]), lambda f: declare_stale(f, "x")):
                with pytest.raises(CourseError, match="records.json"): use(folder)
        with vouched(folder/RECORDS) as tmp: tmp.write_text("{}")
        assert read_records(folder) == {"artifacts": {}, "aside": {}, "adopted": {}, "stale": {}}
        a = Artifact(folder, "m", {"seed": "0"}, lambda path: (path/"w").write_text("w"))
        a.make(str)
        text = (folder/RECORDS).read_text()
        for old, new in (('"seed": "0"', '"seed": "1"'), (a.key, "0"*16), ("content", "contents"), ("{", "{ ")):
            (folder/RECORDS).write_text(text.replace(old, new, 1)) # a swapped seed, another key, no content
            with pytest.raises(CourseError, match="does not vouch for it"): a.make(str)
        (folder/RECORDS).write_text(text)
        assert a.make(str) == "loaded"
