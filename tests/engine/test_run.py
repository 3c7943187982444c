"""Exported from nbs/90f_run.ipynb: edit it there, then run `nbdev-export`."""
import ast, json, os, platform, re, sys, threading, time, traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
import psutil
from rrg_core.engine.code import canonical, code_of_cells, data_parts, digest
from rrg_core.engine.desk import Desk, checked_seed
from rrg_core.engine.files import ENTRUSTED, UNHASHED, atomic, entrust, file_hash, is_alive, may_write, process_token, read_vouched, sweep, vouched, way_back
from rrg_core.engine.experiments import artifacts, chapter_module, experiments
from rrg_core.engine.settings import CourseError, Profile, chapters, environment, profile, repo_root
from rrg_core.engine.run import *


def test_directives_and_parameters():
    import json, tempfile
    from pathlib import Path

    import pytest
    from rrg_core.engine.settings import CourseError

    assert directives("#| export\n#| eval: false\n\nx = 1\n#| slow") == {"export": "", "eval": "false"}
    assert directives("x = 1\n#| slow") == {} and directives("\n#| slow\nx") == {"slow": ""}
    def notebook(*cells):
        path = Path(tempfile.mkdtemp())/"01_x.ipynb"
        path.write_text(
            json.dumps({"cells": [dict(cell_type="code", source=s, metadata={"tags": t}) for s, t in cells]}))
        return path
    good = notebook(("profile = None\nseed = None", ["parameters"]), ("x = 1", []))
    assert parameters_of(good) == {"profile": None, "seed": None}
    check_parameters(good, {"seed": 1})
    with pytest.raises(CourseError, match="unknown parameter 'sed'; the chapter takes profile, "
                                          "seed"):    check_parameters(good, {"sed": 1})
    for bad, words in ((notebook(("x = 1", [])), "0 cells"), (notebook(
        ("print(1)", ["parameters"])), "only assign"), (notebook(("a = 1", ["parameters"]),
                                                                 ("b = 1", ["parameters"])), "2 cells")):
        with pytest.raises(CourseError, match=words): parameters_of(bad)
    typed = notebook(("profile = None\nseed = None\nn = 3\nrate = .5\nname = 'a'\nslow = False\nx = "
                      "[1]", ["parameters"]))
    for right in ({"n": 4}, {"rate": 1}, {"rate": .1}, {"name": ""}, {"slow": True}, {"x": []}, {"seed": 0}):
        check_parameters(typed, right)
    for wrong in ({"profile": "phantom"}, {"seed": "abc"}, {"seed": -1}, {"seed": 1.5}, {"seed": [1]}, {
            "seed": True
    }, {"seed": None}, {"n": "4"}, {"n": 4.5}, {"n": True}, {"rate": "x"}, {"name": 3}, {"slow": 1}, {"x": 1}):
        with pytest.raises(CourseError): check_parameters(typed, wrong)


def test_a_process_ends_with_the_one_that_it_watches():
    import subprocess, sys, time

    from rrg_core.engine.files import process_token

    child = ("import time; from rrg_core.engine.run import die_with; die_with('{token}', .05); print('up', "
             "flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as parent:
        token = process_token(parent.pid)
        watcher = subprocess.Popen([sys.executable, "-c", child.format(token=token)],
                                   stdout=subprocess.PIPE,
                                   text=True)
        assert watcher.stdout.readline() == "up\n" and watcher.poll() is None
        parent.kill()
        assert watcher.wait(10) == 137


def test_pages_are_tidied():
    import tempfile
    from pathlib import Path

    import nbformat

    new = nbformat.v4.new_code_cell
    cells = [
        new("die", metadata={"tags": ["runner"]}),
        new("x", metadata={"tags": ["skip-execution"], "papermill": {"a": 1}}, execution_count=3)
    ]
    view = {"application/vnd.jupyter.widget-view+json": {}}
    cells[1].outputs = [nbformat.v4.new_output("display_data", view),
                        nbformat.v4.new_output("stream", name="stderr", text="warned\n\n")]
    nb = nbformat.v4.new_notebook(cells=cells)
    nb.metadata.widgets = {"state": {}}
    path = Path(tempfile.mkdtemp())/"p.ipynb"
    nbformat.write(nb, path)
    page = tidy_page(path)
    assert len(page.cells) == 1 and page.cells[0].metadata == {} and page.cells[0].execution_count is None
    assert "widgets" not in page.metadata and stderr_lines(page) == ["warned"]


def test_the_cell_that_raised_is_named():
    import tempfile
    from pathlib import Path

    import nbformat
    import pytest
    from rrg_core.engine.run import _failure

    new, at = nbformat.v4.new_code_cell, lambda start: {"papermill": {"start_time": start}}
    cells = [new("die", metadata={"tags": ["runner"]} | at("1")), new("a = 1", metadata=at("2")),
             new("#| slow\n\n# why\n1/0", metadata=at("3")), new("never", metadata=at(None)), new("nor this")]
    page = Path(tempfile.mkdtemp())/"01_x.ipynb"
    for begun, where in ((5, "\n  cell 2: # why"), (2, "\n  cell 1: a = 1"), (1, ""), (0, "")):
        nbformat.write(nbformat.v4.new_notebook(cells=cells[:begun]), page)
        assert str(_failure(page, page, ValueError("two\n lines"))) == (f"01_x.ipynb{where}\n  ValueError: two "
                                                                        "lines")
    page.unlink() # the kernel did not even start
    assert str(_failure(page, page, OSError("x"))) == "01_x.ipynb\n  OSError: x"
