"""Exported from nbs/90f_once.ipynb: edit it there, then run `nbdev-export`."""
import json, os, platform, re, shutil, sys, tempfile, threading, time, uuid
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
import filelock
import psutil
from rrg_core.engine.files import atomic
from rrg_core.engine.settings import repo_root
import subprocess, textwrap
import pytest
from rrg_core.engine.once import *


def test_another_chapter_s_things_are_not_made_anew():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_RETRAIN", "1")
        for running, owner, anew in (("fita", "learning", False), ("fita", "fita", True), ("", "learning", True)):
            m.setenv("RRG_CHAPTER", running)
            with owned_by(owner):
                assert retraining() == anew
            assert retraining() # only within
        m.setenv("RRG_RETRAIN", "")
        m.setenv("RRG_CHAPTER", "fita")
        with owned_by("fita"):
            assert not retraining() # nobody asked


def test_a_meter_sees_time_and_memory():
    with Meter() as before:
        pass
    with Meter() as m:
        block = bytearray(300 * 2**20)
        time.sleep(.35)
        del block
    assert .3 < m.seconds < 5 and m.cost(
    )["memory_mb"] > before.cost()["memory_mb"] + 250 # the peak, though the block is gone
    assert "thread" in hardware() and platform.node() not in hardware()
    import torch
    assert processor().endswith(f" with {torch.backends.cpu.get_cpu_capability()}") and hardware().startswith(
        processor())


def test_a_folder_appears_whole_or_not_at_all():
    with tempfile.TemporaryDirectory() as d:
        place = Path(d) / "model"
        with pytest.raises(ZeroDivisionError):
            with whole_folder(place) as tmp:
                (tmp / "half").write_text("x")
                1 / 0
        assert list(Path(d).iterdir()) == []
        for text in ("first", "second"):
            with whole_folder(place) as tmp:
                (tmp / text).write_text(text)
        assert [f.name for f in place.iterdir()] == ["second"] and list(Path(d).iterdir()) == [place]
        (Path(d) / f"{MAKING}model.killed").mkdir()
        (Path(d) / f"{MAKING}model2.busy").mkdir()
        with whole_folder(place) as tmp:
            pass
        assert sorted(f.name for f in Path(d).iterdir()) == [f"{MAKING}model2.busy",
                                                             "model"] # another's is left alone


def test_once_makes_once_a_run():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_RETRAIN", raising=False)
        m.delenv("RRG_RUN", raising=False)
        place, made = Path(d) / "n.txt", []

        def read():
            return place.read_text() if place.is_file() else None

        def ask(key):
            return once("n", place, key, read, lambda: (made.append(key), place.write_text(key)))

        assert ask("a").startswith("trained in") and ask("a") == "loaded" and made == ["a"]
        assert ask("b").startswith("trained in") and made == ["a", "b"] # another key: made again
        m.setenv("RRG_RETRAIN", "1")
        m.setenv("RRG_RUN", "one")
        assert ask("b").startswith("trained in") and ask("b").endswith("by a job of this run") and len(made) == 3
        m.setenv("RRG_RUN", "two")
        ask("b")
        assert len(made) == 4 # the next run: once more
        m.setenv("RRG_RETRAIN", "")
        assert ask("b") == "loaded"
        assert read_note(place)["run"] == "two" and read_note(place)["seconds"] >= 0
        with pytest.raises(RuntimeError, match="changed while it was made .key b, expected c"):
            once("n", place, "c", read, lambda: None)


def test_things_of_like_names_have_notes_of_their_own():
    with tempfile.TemporaryDirectory() as d:
        for name in ("b.2-s0.parquet", "b.3-s0.parquet", "b"):
            place = Path(d) / name
            once(name, place, name, lambda: name if place.exists() else None, place.touch)
        assert [read_note(Path(d) / n)["key"]
                for n in ("b.2-s0.parquet", "b.3-s0.parquet", "b")] == ["b.2-s0.parquet", "b.3-s0.parquet", "b"]


def test_what_fails_leaves_the_lock_free():
    with tempfile.TemporaryDirectory() as d:
        place = Path(d) / "x"
        with pytest.raises(ZeroDivisionError):
            once("x", place, "k", lambda: None, lambda: 1 / 0)
        assert not place.exists() and read_note(place) == {}
        read = lambda: "k" if place.exists() else None
        assert once("x", place, "k", read, place.touch).startswith("trained")


def test_the_cost_says_what_it_included():
    with tempfile.TemporaryDirectory() as d:
        inner, outer = Path(d) / "inner", Path(d) / "outer"

        def key(p):
            return lambda: "k" if p.exists() else None

        def make_outer():
            once("encoder", inner, "k", key(inner), inner.touch)
            outer.touch()

        once("variant", outer, "k", key(outer), make_outer)
        assert [name for name, _ in read_note(outer)["including"]] == ["encoder"
                                                                       ] and read_note(inner)["including"] == []


def test_two_processes_make_it_once():
    program = """
    import sys, time; from pathlib import Path
    from rrg_core.engine.once import once
    place, log = Path(sys.argv[1])/"x", Path(sys.argv[1])/"log"
    def make():
        with open(log, "a") as f: f.write("made\\n")
        time.sleep(1.5); place.touch()
    print(once("x", place, "k", lambda: "k" if place.exists() else None, make, lambda words: print(words)))
    """
    with tempfile.TemporaryDirectory() as d:
        start = lambda: subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), d], stdout=subprocess.PIPE, text=True)
        said = [p.communicate(timeout=60)[0] for p in [start(), start()]]
        assert (Path(d) / "log").read_text() == "made\n"
        assert sorted(s.strip().splitlines()[-1].split(" ")[0] for s in said) == ["loaded", "trained"]
