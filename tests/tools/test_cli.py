"""Exported from nbs/98c_cli.ipynb: edit it there, then run `nbdev-export`."""
import locale, os, sys
from pathlib import Path
from typing import Annotated, Optional
import typer
from rrg_core import __version__
from rrg_core.engine.settings import CourseError, package_root, repo_root
import pytest
from typer.testing import CliRunner
from rrg_core.tools.cli import *


def test_data_lists_every_source():
    from rrg_core.data import SOURCES

    listed = CliRunner().invoke(app, ["data"]).output
    assert all(name in listed for name in SOURCES)
    assert "data_scripts/mimic_cxr.py" in CliRunner().invoke(app, ["data", "mimic-cxr"]).output
    with pytest.raises(CourseError, match="unknown source 'mimic'"):
        CliRunner().invoke(app, ["data", "mimic"], catch_exceptions=False)


def test_transfer_wants_folders():
    with pytest.raises(CourseError, match="nowhere is not a folder"):
        CliRunner().invoke(app, ["phantom", "transfer", "nowhere", "nowhere"], catch_exceptions=False)
    assert "leave-one-out" in CliRunner().invoke(app, ["phantom", "transfer", "--help"]).output


def test_an_error_is_one_line():
    with pytest.raises(SystemExit) as stopped:
        main(["regenerate", "nowhere", "--dry-run"])
    assert stopped.value.code == 1
    with pytest.raises(CourseError, match="unknown profile"):
        CliRunner().invoke(app, ["regenerate", "-p", "smok"], catch_exceptions=False)
    with pytest.raises(CourseError, match="write name=value"):
        CliRunner().invoke(app, ["regenerate", "--set", "x"], catch_exceptions=False)


def test_help_and_version_answer():
    runner = CliRunner()
    assert "regenerate" in runner.invoke(app, ["--help"]).output and runner.invoke(
        app, ["--version"]).output.count(".") == 2
    assert runner.invoke(app, ["regenerat"]).exit_code == 2


def test_errors_of_commands_quote_no_report():
    import tempfile
    from rrg_core.tools.house import quoting

    def typed(*arguments):
        def call(value):
            done = CliRunner().invoke(app, [str(value) if a is ... else a for a in arguments])
            if done.exception: raise done.exception
        return call

    calls = {"data": typed("data", ...), "set": typed("regenerate", "--dry-run", "--set", ...),
             "evaluate": typed("evaluate", ...), "protocol": typed("evaluate", "a.csv", "--protocol", ...),
             "transfer": typed("phantom", "transfer", ..., ...)}
    assert quoting(calls) == []
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "p.csv"
        path.write_text("study_id,hypothesis,reference\n7,a,b\n7,a,b\n")
        done = CliRunner().invoke(app, ["evaluate", str(path)])
        assert "study_id 7" in str(done.exception) and "--keep-duplicates" in str(done.exception)
        assert "keep-duplicates" in CliRunner().invoke(app, ["evaluate", "--help"]).output
