"""Exported from nbs/90l_regenerate.ipynb: edit it there, then run `nbdev-export`."""
import json, os, shlex, shutil, subprocess, sys, time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
import filelock
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rrg_core.engine.files import Desk, atomic, figures_root
from rrg_core.engine.freshness import ingredients, notebook_of, stale_reasons
from rrg_core.engine.jobs import Job, check_parameters, die_with, watch_token
from rrg_core.engine.once import new_token
from rrg_core.engine.settings import CourseError, Profile, chapters, profile, repo_root
import tempfile
import pytest
from rrg_core.engine.regenerate import *


def test_outcome_says_what_happened():
    assert outcome({"status": "made", "files": 3, "seconds": 4.4,
                    "warnings": ["UserWarning"]}) == "made 3 files in 4 s, 1 warning on its page"
    assert outcome({"status": "made", "how": "trained in 38 s"}) == "trained in 38 s" and outcome(
        {"status": "fresh", "how": "loaded"}) == "loaded"
    assert outcome({"status": "fresh"}) == "unchanged after all" and outcome({"status": "failed"}) == "failed"


def test_only_one_run_at_a_time():
    with tempfile.TemporaryDirectory() as d:
        with sole_run(Path(d) / "a"):
            code = ("from rrg_core.engine.regenerate import *; from pathlib import Path\nwith "
                    f"sole_run(Path({str(Path(d)/'a')!r})): pass")
            other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert other.returncode == 1 and "another `rrg regenerate` is at work" in other.stderr
        with sole_run(Path(d) / "a"):
            pass
