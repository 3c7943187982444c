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


def test_evaluate_and_compare_from_the_command_line():
    import gzip, json, tempfile
    from pathlib import Path

    run = lambda *a, **k: CliRunner().invoke(app, [str(x) for x in a], catch_exceptions=False, **k).output
    rows = [{"study": i, "prediction": f"No effusion {i % 3}.", "ground_truth": f"No pleural effusion {i}."}
            for i in range(6)]
    text = "study;prediction;ground_truth\n" + "".join(";".join(map(str, r.values())) + "\n" for r in rows)
    quick = ("-p", "llava-rad-neg-micro-f1-14", "--bootstraps", 20)
    with tempfile.TemporaryDirectory() as d:
        a, b, c = (Path(d) / name for name in ("a.csv", "b.jsonl.gz", "c.json"))
        a.write_text(text)
        b.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
        c.write_text(json.dumps({str(r["study"]): {"model_prediction": r["ground_truth"],
                                                   "section_findings": r["ground_truth"]} for r in rows}))
        tables = [[l for l in said.splitlines() if l.startswith(("|", "protocol:"))] for said in (
            run("evaluate", a, *quick), run("evaluate", b, *quick), run("evaluate", "-", *quick, input=text))]
        assert tables[0] == tables[1] == tables[2] and len(tables[0]) == 9
        said = run("evaluate", a, "--per-report", Path(d) / "each.csv", "--out", Path(d) / "t.json", *quick)
        assert "prediction was read as hypothesis" in said and "unread or foreign" not in said
        assert len((Path(d) / "each.csv").read_text().splitlines()) == 7
        assert "|seed:0|" in (Path(d) / "t.json").read_text()
        said = run("compare", a, c, *quick, "--plot", Path(d) / "f.svg")
        assert "c against a: 6 studies" in said and "p_holm" in said and (Path(d) / "f.svg").stat().st_size > 1000
        two = run("evaluate", a, "-p", "chex-mic-f1-14", "-p", "llava-rad-neg-micro-f1-14", "--without", "METEOR",
                  "--bootstraps", 5)
        assert two.count("| chex-mic-f1-14 ") == 3 and two.count("protocol:") == 2


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


def test_a_narrow_encoding_ends_no_work():
    import subprocess, tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "p.csv"
        path.write_text("hypothesis,reference\nNo effusion.,No effusion.\n")
        rrg = [sys.executable, "-c", "from rrg_core.tools.cli import main; main()", "evaluate"]
        scored = [str(path), "-p", "llava-rad-neg-micro-f1-14", "--bootstraps", "5"]
        for arguments, encoding in [(scored, "cp1252"), *((["--list"], e) for e in (
                "ascii", "latin-1", "cp437", "cp850", "koi8-r", "iso8859_7", "cp1251", "gbk"))]:
            environment = os.environ | {"PYTHONIOENCODING": encoding}
            done = subprocess.run([*rrg, *arguments], capture_output=True, env=environment)
            assert done.returncode == 0 and b"micro, uncertain" in done.stdout, (encoding, done.stderr)


def test_help_and_version_answer():
    runner = CliRunner()
    assert "regenerate" in runner.invoke(app, ["--help"]).output and runner.invoke(
        app, ["--version"]).output.count(".") == 2
    assert runner.invoke(app, ["regenerat"]).exit_code == 2
    for command, words in {"evaluate": ("study_id,hypothesis,reference", "A CSV with a row a study",
                                        "--full", "CE-F1"),
                           "compare": ("--metrics", "--max-words", "--labels", "difference favours")}.items():
        said = " ".join(runner.invoke(app, [command, "--help"], env={"COLUMNS": "400"}).output.split())
        for word in words: assert word in said, (command, word)


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
             "compare": typed("compare", ..., "b.csv"), "labels": typed("evaluate", "a.csv", "--labels", ...),
             "transfer": typed("phantom", "transfer", ..., ...)}
    assert quoting(calls) == []
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "p.csv"
        path.write_text("study_id,hypothesis,reference\n7,a,b\n7,a,b\n")
        done = CliRunner().invoke(app, ["evaluate", str(path)])
        assert "study_id 7" in str(done.exception) and "--keep-duplicates" in str(done.exception)
        assert "keep-duplicates" in CliRunner().invoke(app, ["evaluate", "--help"]).output
