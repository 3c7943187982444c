"""Exported from nbs/90j_runner.ipynb: edit it there, then run `nbdev-export`."""
import copy, json, os, platform, sys, time
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
import nbformat
from rrg_core.engine.files import atomic, file_hash, sweep
from rrg_core.engine.freshness import ingredients, notebook_of, read_manifest, stale_reasons
from rrg_core.engine.jobs import Job, check_parameters, die_with
from rrg_core.engine.pages import executable, is_runners, stderr_lines, tidy_page
from rrg_core.engine.settings import CourseError, Profile, profile, repo_root
import tempfile
import pytest
from rrg_core.engine.runner import *


def test_a_failing_cell_is_named():
    new = nbformat.v4.new_code_cell
    with tempfile.TemporaryDirectory() as d:
        page, seen = Path(d) / "x.ipynb", []
        nb = nbformat.v4.new_notebook(cells=[
            new("profile = None", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_markdown_cell("prose"),
            new("#| hide\nraise ValueError(f'no {profile}')")
        ])
        nb.metadata.kernelspec = dict(name="python3", display_name="python3", language="python")
        with pytest.raises(Exception) as caught:
            execute(nb, page, {"profile": "smoke"}, {"RRG_STATIC": "1"}, on_cell=lambda i, n: seen.append(i))
        assert str(failure(
            Path("nbs/01_x.ipynb"), page,
            caught.value)) == "01_x.ipynb cell 3 (`raise ValueError(f'no {profile}')`): ValueError: no smoke"
        assert len(seen) == 5 and len(
            tidy_page(page).cells) == 3 # the runner's cell and papermill's were there, and are gone
