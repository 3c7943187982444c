"""The engine end to end, on a miniature course: what is stale, what runs, what survives a kill."""
import json
import os
import random
import shutil
import signal
import textwrap
import time

import nbformat
import psutil
import pytest


def wait_for(condition, seconds=240):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return True
        time.sleep(.02)
    return False


def table(value=1, stem="t"):
    return f"save({stem!r}, {value})"


# --- pages: what is out of date ---


def test_only_what_changed_runs_again(course):
    course.chapter("one", table(1))
    course.chapter("two", table("10 * load('one', 't')"), needs=("one", ))
    first = course.regenerate()
    assert first.ran == {"one", "two"} and (course.figures / "two" / "t.json").read_text() == "10"
    manifest = course.manifest("two")
    assert manifest["profile"] == "smoke" and set(manifest["outputs"]) == {"t.json"}
    assert manifest["seeds"] == [0] and "up to date: one, two" in course.regenerate().text

    # other code, the same bytes: the second chapter does not run
    course.chapter("one", "value = 1\n" + table("value"))
    cut = course.regenerate()
    assert cut.ran == {"one"} and "two  unchanged after all" in cut.text
    course.chapter("one", table(2))
    assert course.regenerate().ran == {"one", "two"}
    assert (course.figures / "two" / "t.json").read_text() == "20"


HELPER = """
LIMIT = 3
def used(x): return x + 1
def other(x): return x + 2
"""


def edit(file):
    return lambda c: file(c).write_text("99")


CHANGES = {  # what is done → what the plan says
    "touched": (lambda c: c.notebook("one").touch(), "up to date: one, two"),
    "a comment": (lambda c: c.chapter("one", READ_HELPER + "  # nothing"), "up to date: one, two"),
    "a cell": (lambda c: c.chapter("one", READ_HELPER, "1 + 1"), "one  runs: cells changed"),
    "a docstring": (lambda c: c.module("helper", HELPER.replace("return x + 1", "'Add.'; return x + 1")),
                    "up to date: one, two"),
    "another function": (lambda c: c.module("helper", HELPER.replace("x + 2", "x + 9")),
                         "up to date: one, two"),
    "the function": (lambda c: c.module("helper", HELPER.replace("x + 1", "LIMIT")),
                     "one  runs: code changed (helper)"),
    "a size": (lambda c: c.settings(train=47), "one  runs: profile changed; data changed"),
    "replicates": (lambda c: c.settings(bootstraps=51), "one  runs: profile changed"),
    "an edited table": (edit(lambda c: c.figures / "one" / "t.json"), "one  runs: t.json was edited"),
    "a lost table": (lambda c: (c.figures / "two" / "t.json").unlink(), "two  runs: t.json is missing"),
    "no manifest": (lambda c: (c.figures / "one" / "manifest.json").unlink(), "one  runs: never made"),
    "half a manifest": (lambda c: (c.figures / "one" / "manifest.json").write_text('{"chapter": '),
                        "one  runs: never made"),
    "what is read": (edit(lambda c: c.figures / "one" / "t.json"), "two  runs: one runs"),
}
READ_HELPER = "from rrg_core.helper import used\nsave('t', used(1))"


def test_the_plan_says_why(course):
    course.module("helper", HELPER)
    course.chapter("one", READ_HELPER)
    course.chapter("two", table("load('one', 't')"), needs=("one", ))
    course.regenerate()
    keep = course.root / "keep"
    shutil.copytree(course.figures, keep)
    for what, (change, words) in CHANGES.items():
        change(course)
        before = course.bytes()
        assert words in course.planned, (what, course.planned)
        assert course.bytes() == before, what  # a plan changes nothing
        shutil.rmtree(course.figures)
        shutil.copytree(keep, course.figures)
        course.module("helper", HELPER)
        course.chapter("one", READ_HELPER)
        assert "up to date: one, two" in course.planned, what
    assert "one  runs: parameters changed" in course.regenerate(parameters={"seed": 5}, dry_run=True).text


def test_files_of_an_older_version_go(course):
    course.chapter("one", table(1, "old") + "\n" + table(1, "kept"))
    course.regenerate()
    course.chapter("one", table(1, "kept"))
    course.regenerate()
    assert {f.name for f in (course.figures / "one").iterdir()} == {"kept.json", "manifest.json"}


def test_an_error_names_notebook_cell_and_message(kernels):
    cells = table(1), "# here\nraise ValueError('planted: 7 boxes, 3 labels')", table(2, "never")
    kernels.chapter("one", *cells)
    kernels.chapter("two", table(1), needs=("one", ))
    kernels.chapter("three", table(1))
    kernels.chapter("dies", "import os\nos._exit(9)", table(1))
    done = kernels.regenerate()
    assert "01_one.ipynb cell 5 (`# here`): ValueError: planted: 7 boxes, 3 labels" in done.error
    assert "04_dies.ipynb cell 4 (`import os`): DeadKernelError" in done.error
    assert "not begun: two" in done.error and done.ran == {"three"}
    page = nbformat.read(kernels.root / "build" / "smoke" / "pages" / "one.ipynb", as_version=4)
    assert page.cells[4].outputs[0].ename == "ValueError" and not page.cells[5].outputs
    assert not (kernels.figures / "one" / "manifest.json").exists()


def test_unknown_parameters_and_chapters_are_refused(course):
    course.chapter("one", table(1))
    for options, words in (({"parameters": {"sed": 1}}, "unknown parameter 'sed'; the chapter takes profile, seed"),
                           ({"parameters": {"": 1}}, "unknown parameter ''"),
                           ({"executor": "nowhere"}, "no executor 'nowhere'")):
        assert words in course.regenerate(**options).error
    assert course.regenerate("onne").error == "unknown chapter 'onne': the course has one"
    assert course.regenerate("").error == "unknown chapter '': the course has one"
    course.chapter("empty", "1 + 1")
    assert "wrote no table and no figure" in course.regenerate("empty").error


def test_a_seed_reaches_the_chapter_and_its_manifest(course):
    course.chapter("one", table("desk.seed"))
    assert course.regenerate(parameters={"seed": 5}).ran == {"one"}
    assert (course.figures / "one" / "t.json").read_text() == "5"
    assert course.manifest("one")["parameters"] == {"seed": 5} and "parameters changed" in course.planned
