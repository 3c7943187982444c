"""Odd names of places, other locales, folders that cannot be written, and wrong parameters."""
import os
import subprocess
import sys

import pytest

TABLE = 'save("t", "Größe {x} 日本")'
NAMES = ["a b", "a #b", "{x}", "{{x}}", "k=v", "a: b", "ü 日本", "it's", 'a"b', "[1]", "a,b", "$HOME", "%s", "a;b", "~", "-n", "@c",
         "a #{x}=b: 'c'"]


@pytest.mark.parametrize("name", NAMES)
def test_a_clone_may_lie_anywhere(tmp_path, course_at, name):
    with course_at(tmp_path / name) as course:
        course.chapter("one", TABLE)
        course.chapter("two", 'save("u", load("one", "t"))', needs=("one", ))
        done = course.regenerate()
        assert done.ran == {"one", "two"} and not done.error, done
        assert "up to date: one, two" in course.planned


@pytest.mark.parametrize("name", NAMES[::6] + NAMES[-1:])
def test_a_cluster_finds_it_there_too(tmp_path, course_at, name):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    with course_at(tmp_path / name) as course:
        course.chapter("one", TABLE)
        done = course.regenerate(executor="slurm", dry_run=True)
        assert not done.error and "rule one:" in done.text, done


def test_texts_are_utf_8_in_an_ascii_terminal(processes):
    processes.chapter("one", TABLE, "print('Größe 日本')")
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    code = "import locale; print(locale.getencoding())"
    found = subprocess.run([sys.executable, "-c", code], env=os.environ | ascii_only, capture_output=True, text=True)
    assert "utf" not in found.stdout.lower() # the test can show it
    ran = subprocess.run(processes.command("regenerate", "-p", "smoke"), env=processes.environment | ascii_only,
                         cwd=processes.root, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert (processes.figures / "one" / "t.json").is_file()


def test_a_folder_that_cannot_be_written_is_one_line(course):
    course.chapter("one", TABLE)
    (course.root / "file").write_text("")
    for place in (course.root / "file", course.root / "file" / "deeper"):
        done = subprocess.run(course.command("regenerate", "-p", "smoke", "--out", str(place)), env=course.environment,
                              cwd=course.root, capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr and str(place) in done.stderr, done.stderr
    from rrg_core.engine.files import atomic
    from rrg_core.engine.settings import CourseError
    for path in (course.root / "file" / "t.csv", course.root / "file" / "deeper" / "t.csv"):
        with pytest.raises(CourseError, match="cannot be written"), atomic(path): pass
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch: # what a read-only file system answers
        patch.setattr("pathlib.Path.touch", lambda *a, **k: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
        with pytest.raises(CourseError, match="Read-only file system"), atomic(course.root / "t.csv"): pass


def test_one_lock_for_one_folder(course):
    "By its default, by --out, through a link and through dots: it is the same folder."
    from rrg_core.engine.files import lock_of
    course.chapter("one", TABLE)
    course.regenerate()
    (course.root / "link").symlink_to(course.figures)
    with lock_of(course.figures):
        for options in ({}, {"out": course.figures}, {"out": course.root / "link"},
                        {"out": course.figures / ".." / "figures"}, {"out": os.path.relpath(course.figures)}):
            assert "another `rrg` is at work" in course.regenerate(force=True, **options).error, options
    assert not course.regenerate(force=True).error


@pytest.mark.parametrize("given", ["profile=phantom", "profile=nowhere", "seed=abc", "seed=-1", "seed=1.5", "seed=[1]", "seed=true",
                                   "seed=", "sed=1", "seed", "=1"])
def test_parameters_are_checked_before_anything_runs(course, given):
    from rrg_core.tools.cli import _settings
    from rrg_core.engine.settings import CourseError
    course.chapter("one", TABLE)
    try:
        error = course.regenerate("one", parameters=_settings([given])).error
    except CourseError as e:
        error = str(e)
    assert error and not course.figures.exists()


def test_seeds_are_checked_wherever_they_come_from(course):
    from rrg_core.engine.desk import Desk
    course.chapter("one", TABLE)
    from rrg_core.engine.settings import CourseError
    for seed in ("0", -1, 1.5, [1], True, 2**32):
        with pytest.raises(CourseError, match="a seed is a whole number"): Desk("one", "smoke", seed)
    import numpy as np
    assert Desk("one", "smoke", np.int64(3)).seed == 3 and type(Desk("one", "smoke", np.int64(3)).seed) is int
