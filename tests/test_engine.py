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


# --- experiments: jobs before their page ---

LESSON = """
import os, time
import pandas as pd
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import System

EXPERIMENTS: Registry = {variants!r}
DEFAULTS = dict(x=1, beams=0)
{extra}
def train(folder, settings, seed, p):
    with open(os.environ["LESSON_LOG"], "a") as f: f.write(f"{{settings['x']}}\\n")
    if settings["x"] < 0: raise ValueError(f"planted: x is {{settings['x']}}")
    luck = float(os.environ.get("LESSON_LUCK", 0))*seed
    (folder/"w").write_text(str(settings["x"]*7 + luck))
def decode(folder, settings, seed, p, first=None):
    said = [(folder/"w").read_text(), "" if settings["beams"] else "no"]
    return pd.DataFrame({{"study_id": ["a", "b"], "hypothesis": said, "reference": ["7", "8"]}})[:first]
def score(frame): return {{"F1": float(frame.hypothesis.iloc[0])}}
SYSTEMS: Registry = {{"number": System(decode, train, score=score)}}
"""

READ = """
import rrg_core.one
from rrg_core.engine.experiments import run_experiments
predictions = run_experiments(desk)
save("sum", sum(float(f["hypothesis"][0]) for seeds in predictions.values() for f in seeds.values()))
"""


def lesson(extra="", **variants):
    "A chapter's module whose model is a number, and which writes down that it trained; `variants`: name → x."
    named = {k.replace("_", "-"): v if isinstance(v, dict) else {"x": v} for k, v in variants.items()}
    return LESSON.format(variants=named, extra=textwrap.dedent(extra))


def of_jobs(course):
    "The page on which the chapter's runs are listed."
    return (course.root / "build" / "smoke" / "pages" / "one.ipynb").read_text()


def test_experiments_are_jobs_before_their_chapter(course):
    course.module("one", lesson(a=1, b=2))
    course.chapter("one", READ)
    done = course.regenerate()
    assert "one  trains 2: a-s0 (never made); b-s0 (never made)" in done.text
    assert "one.a-s0  trained in" in done.text and done.ran == {"one"} and course.trained == ["1", "2"]
    files = {"sum.json", "predictions/a-s0.parquet", "predictions/b-s0.parquet"}
    assert set(course.manifest("one")["outputs"]) == files  # neither costs nor records
    assert (course.figures / "one" / "sum.json").read_text() == "21.0"
    assert (course.figures / "one" / "cost.csv").is_file()
    assert set(course.records("one")["artifacts"]) == files - {"sum.json"}
    assert "a: seed 0 loaded" in of_jobs(course) and "b: seed 0 loaded" in of_jobs(course)
    assert "up to date: one" in course.regenerate().text

    course.chapter("one", READ, "1 + 1")  # other code in the chapter: it runs, and nothing is trained
    again = course.regenerate()
    assert again.ran == {"one"} and "trains" not in again.text and len(course.trained) == 2
    course.module("one", lesson(a=1, c=3))  # one variant gone, one new, one as it was
    changed = course.regenerate()
    assert "trains 1: c-s0 (never made)" in changed.text and course.trained == ["1", "2", "3"]
    left = sorted(f.name for f in (course.figures / "one" / "predictions").iterdir())
    assert left == ["a-s0.parquet", "c-s0.parquet"]


def test_where_a_profile_says_so_the_page_trains(course):
    course.jobs = "no"
    course.module("one", lesson(a=1, b=2))
    course.chapter("one", READ)
    done = course.regenerate()
    assert done.ran == {"one"} and "trains" not in done.text and course.trained == ["1", "2"]
    assert "a: seed 0 trained in" in of_jobs(course) and "up to date: one" in course.regenerate().text


def test_retraining_trains_once_and_compares_with_what_was_there(course, monkeypatch):
    course.seeds = "0 1 2"
    course.module("one", lesson(a=1, b=2))
    course.chapter("one", READ)
    monkeypatch.setenv("LESSON_LUCK", ".1")
    assert course.regenerate().ran == {"one"} and len(course.trained) == 6
    before = course.bytes()
    same = course.regenerate("one", retrain=True)
    assert "one  trains 6: a-s0 (asked to)" in same.text and len(course.trained) == 12
    assert course.bytes() == before  # trained by the jobs; the page read
    assert "a-s1: F1 7.100, committed 7.100, seeds 7.100 ± " in same.text
    assert same.text.count("as one more seed") == 6
    monkeypatch.setenv("LESSON_LUCK", "3")
    other = course.train("one", "b", [1], retrain=True)
    assert len(course.trained) == 13 and "b-s1: F1 17.000, committed 14.100" in other.text
    assert "outside of what one more seed would give" in other.text
    aside = course.records("one")["aside"]
    assert aside["predictions/b-s1.parquet"]["score"] == {"F1": 14.1}
    shutil.rmtree(course.figures / "one")
    monkeypatch.setenv("LESSON_LUCK", ".1")
    assert course.regenerate("one", retrain=True).ran == {"one"} and course.bytes() == before


def test_a_variant_that_fails_is_named_and_the_others_are_kept(course):
    course.module("one", lesson(good=1, bad=-1))
    course.chapter("one", READ)
    done = course.regenerate()
    assert "one.bad-s0: ValueError: planted: x is -1 (while training one bad-s0)" in done.error
    assert "logs/one.bad-s0.log" in done.error and "not begun: one" in done.error
    assert "planted" in (course.root / "build" / "smoke" / "logs" / "one.bad-s0.log").read_text()
    assert [f.name for f in (course.figures / "one").rglob("*.parquet")] == ["good-s0.parquet"]
    course.module("one", lesson(good=1, bad=5))
    assert course.regenerate().ran == {"one"} and course.trained == ["1", "-1", "5"]


def test_training_alone(course):
    course.module("one", lesson(a=1, b=2))
    course.chapter("one", READ)
    assert course.train("one", "full").error == "one has no variant 'full': there are a, b; or all"
    first = course.train("one", "b", [3, 4])
    assert "one.b-s3  trained in" in first.text and course.trained == ["2", "2"]
    assert "loaded: b-s3; b-s4" in course.train("one", "b", [3, 4]).text
    assert not course.train("one", "all", dry_run=True).error and len(course.trained) == 2
    assert "one.a-s0  trained" in course.train("one").text and len(course.trained) == 4
    assert not (course.figures / "one" / "manifest.json").exists()
    assert "trains" not in course.regenerate().text and len(course.trained) == 4
    assert "unknown chapter 'two': the course has one" in course.train("two").error
    course.chapter("two", table(1))
    assert "chapter two has nothing to train" in course.train("two").error
    course.module("two", "EXPERIMENTS = {}\nraise RuntimeError('broken')")
    assert "rrg_core.two cannot be imported: RuntimeError: broken" in course.train("two").error


def test_what_fits_is_trained_and_the_rest_is_named(course):
    from rrg_core.engine.store import changing_records
    course.module("one", lesson(a=1, b=2, c=3))
    course.chapter("one", READ)
    course.train("one", "a")
    course.train("one", "b")
    with changing_records(course.figures / "one") as records:  # b took an hour when it was last trained
        records["artifacts"]["predictions/b-s0.parquet"] |= {"seconds": 3600, "key": "another"}
    some = course.train("one", minutes=5, jobs=2)
    assert not some.error and "loaded: a-s0" in some.text and "one.c-s0  trained" in some.text
    assert "left for the next call: one.b-s0" in some.text and "one.b-s0  " not in some.text
    assert "left" not in course.train("one", minutes=90, jobs=2).text  # from its model: only written anew
    assert "loaded: a-s0; b-s0; c-s0" in course.train("one").text and course.trained == ["1", "2", "3"]


def test_other_beams_train_nothing(course):
    course.module("one", lesson(a=1))
    course.chapter("one", READ)
    course.regenerate()
    course.module("one", lesson(a={"x": 1, "beams": 1}))
    assert "trains 1: a-s0 (settings changed)" in course.planned
    assert course.regenerate().ran == {"one"} and course.trained == ["1"]
