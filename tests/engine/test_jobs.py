"""Exported from nbs/90e_jobs.ipynb: edit it there, then run `nbdev-export`."""
import ast, os, threading, time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import psutil
from fastcore.nbio import read_nb
from rrg_core.engine.settings import CourseError
import json, subprocess, sys, tempfile
import pytest
from rrg_core.engine.jobs import *


def test_unknown_parameters_are_refused():
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "01_x.ipynb"

        def write(source, tags):
            path.write_text(
                json.dumps(
                    dict(nbformat=4,
                         nbformat_minor=5,
                         metadata={},
                         cells=[
                             dict(cell_type="code",
                                  id="a",
                                  metadata=dict(tags=tags),
                                  source=source,
                                  outputs=[],
                                  execution_count=None)
                         ])))

        write("profile = None # a comment\nseed = None", ["parameters"])
        check_parameters(path, {"profile": "smoke", "seed": 0})
        with pytest.raises(CourseError, match="unknown parameter 'sed'; the chapter takes profile, seed"):
            check_parameters(path, {"sed": 0})
        write("import os\nseed = 0", ["parameters"])
        with pytest.raises(CourseError, match="may only assign"):
            check_parameters(path, {})
        write("a, b = 1, 2", ["parameters"])
        with pytest.raises(CourseError, match="a name a line"):
            check_parameters(path, {})
        write("seed = 0", [])
        with pytest.raises(CourseError, match="0 cells are tagged"):
            check_parameters(path, {})


def test_die_with_follows_a_killed_process():
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    token = f"{parent.pid}:{psutil.Process(parent.pid).create_time():.2f}"
    program = (f"from rrg_core.engine.jobs import die_with; die_with('{token}', .05); import time; "
               "print('watching', flush=True); time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "watching\n"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(.5) # both are alive
    parent.kill()
    parent.wait()
    assert child.wait(5) == 137
