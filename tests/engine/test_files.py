"""Exported from nbs/90b_files.ipynb: edit it there, then run `nbdev-export`."""
import json, os, tempfile
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from rrg_core.engine.settings import Profile, profile as load_profile, repo_root
import subprocess, sys
import pytest
from rrg_core.engine.files import *


def test_atomic_leaves_the_old_file_when_it_fails():
    with tempfile.TemporaryDirectory() as d:
        target = Path(d) / "a.txt"
        target.write_text("old")
        with pytest.raises(RuntimeError):
            with atomic(target) as tmp:
                tmp.write_text("half")
                raise RuntimeError
        assert target.read_text() == "old" and [p.name for p in Path(d).iterdir()] == ["a.txt"]


def test_a_killed_writer_leaves_one_file_that_sweep_finds():
    with tempfile.TemporaryDirectory() as d:
        program = (f"from rrg_core.engine.files import atomic; import os\nwith atomic({str(Path(d)/'a.txt')!r}) "
                   "as tmp: tmp.write_text('half'); os.kill(os.getpid(), 9)")
        assert subprocess.run([sys.executable, "-c", program]).returncode == -9
        assert not (Path(d) / "a.txt").exists() and sweep(d) == 1 and not list(Path(d).iterdir())


def test_desk_notes_what_it_wrote_and_stays_in_its_folder():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_RECORD", str(Path(d) / "record"))
        m.setenv("RRG_PROFILE", "smoke")
        desk = Desk("demo", root=d, seed=3)
        with desk.writing("a.json") as tmp:
            tmp.write_text("{}")
        assert (desk.profile.name, desk.seed) == ("smoke",
                                                  3) and (Path(d) / "demo" / "a.json").read_text() == "{}"
        assert [json.loads(l) for l in open(Path(d) / "record")] == [["demo", "a.json"]]
        with pytest.raises(ValueError, match="outside"):
            desk.path("../x.csv")
