"""The engine end to end, on a miniature course: what is stale, what runs, what survives a kill."""
import json
import os
import signal
import time

import nbformat
import psutil
import pytest

def table(value=1, stem="t"):
    return f"save({stem!r}, {value})"


def ran(done):
    "Chapters that the output says were made."
    return {line.split()[0] for line in done.stdout.splitlines() if " made " in line}


def wait_for(condition, seconds=240):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_only_what_changed_runs_again(course):
    course.chapter("one", table(1))
    course.chapter("two", table("10 * load('one', 't')"), needs=("one",))
    first = course.rrg("regenerate", "-p", "smoke")
    assert first.returncode == 0 and ran(first) == {"one", "two"}, first.stdout + first.stderr
    assert (course.figures / "two" / "t.json").read_text() == "10"
    manifest = json.loads((course.figures / "two" / "manifest.json").read_text())
    assert manifest["profile"] == "smoke" and set(manifest["outputs"]) == {"t.json"} and manifest["seeds"] == [0]

    start = time.time()
    again = course.rrg("regenerate", "-p", "smoke")
    assert again.returncode == 0 and "up to date: one, two" in again.stdout and time.time() - start < 20

    course.notebook("one").touch()
    course.chapter("one", table(1) + "  # a comment is no change")
    assert "up to date: one, two" in course.rrg("regenerate", "-p", "smoke").stdout

    course.chapter("one", "value = 1\n" + table("value"))  # other code, same bytes: the second chapter does not run
    cut = course.rrg("regenerate", "-p", "smoke")
    assert ran(cut) == {"one"} and "two  unchanged after all" in cut.stdout, cut.stdout + cut.stderr

    course.chapter("one", table(2))
    assert ran(course.rrg("regenerate", "-p", "smoke")) == {"one", "two"}
    assert (course.figures / "two" / "t.json").read_text() == "20"

    (course.figures / "two" / "t.json").write_text("99")
    edited = course.rrg("regenerate", "-p", "smoke", "--dry-run")
    assert "two  runs: t.json was edited" in edited.stdout
    assert (course.figures / "two" / "t.json").read_text() == "99"  # a dry run leaves everything alone


def test_files_of_an_older_version_go(course):
    course.chapter("one", table(1, "old") + "\n" + table(1, "kept"))
    course.rrg("regenerate", "-p", "smoke")
    course.chapter("one", table(1, "kept"))
    course.rrg("regenerate", "-p", "smoke")
    assert {f.name for f in (course.figures / "one").iterdir()} == {"kept.json", "manifest.json"}


def test_an_error_names_notebook_cell_and_message(course):
    course.chapter("one", table(1), "# here\nraise ValueError('planted: 7 boxes, 3 labels')", table(2, "never"))
    course.chapter("two", table(1), needs=("one",))
    course.chapter("three", table(1))
    done = course.rrg("regenerate", "-p", "smoke")
    assert done.returncode == 1
    assert "01_one.ipynb cell 5 (`# here`): ValueError: planted: 7 boxes, 3 labels" in done.stderr, done.stderr
    assert "not begun: two" in done.stderr and ran(done) == {"three"}
    page = nbformat.read(course.root / "build" / "smoke" / "pages" / "one.ipynb", as_version=4)
    assert page.cells[4].outputs[0].ename == "ValueError" and not page.cells[5].outputs
    assert not (course.figures / "one" / "manifest.json").exists()


def test_a_kernel_that_dies_is_an_error(course):
    course.chapter("one", "import os\nos._exit(9)", table(1))
    done = course.rrg("regenerate", "-p", "smoke")
    assert done.returncode == 1 and "01_one.ipynb cell 4 (`import os`): DeadKernelError" in done.stderr, done.stderr


def test_unknown_parameters_and_chapters_are_refused(course):
    course.chapter("one", table(1))
    typo = course.rrg("regenerate", "-p", "smoke", "--set", "sed=1")
    assert typo.returncode == 1 and "unknown parameter 'sed'; the chapter takes profile, seed" in typo.stderr
    lost = course.rrg("regenerate", "onne", "-p", "smoke")
    assert lost.returncode == 1 and lost.stderr.strip() == "rrg: unknown chapter 'onne': the course has one"


def test_a_seed_reaches_the_chapter_and_its_manifest(course):
    course.chapter("one", table("desk.seed"))
    done = course.rrg("regenerate", "-p", "smoke", "--set", "seed=5")
    assert done.returncode == 0 and (course.figures / "one" / "t.json").read_text() == "5", done.stderr
    assert "parameters changed" in course.rrg("regenerate", "-p", "smoke", "-n").stdout


def test_kill_and_resume_end_in_the_same_bytes(course, tmp_path):
    def slow(seconds):
        return f"import random\ntime.sleep({seconds})\n" + table("random.Random(desk.seed).random()", "late")

    course.chapter("one", table(1), slow(0))
    course.chapter("two", table(2, "early"), slow(300), needs=("one",))
    run = course.start("regenerate", "-p", "smoke")
    early = course.figures / "two" / "early.json"
    assert wait_for(early.is_file), run.communicate(timeout=5)
    family = psutil.Process(run.pid).children(recursive=True)
    assert any("ipykernel" in " ".join(p.cmdline()) for p in family)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, [p.cmdline() for p in alive]
    assert not (course.figures / "two" / "manifest.json").exists() and not (course.figures / "two" / "late.json").exists()

    course.chapter("two", table(2, "early"), slow(0), needs=("one",))
    resumed = course.rrg("regenerate", "-p", "smoke")
    assert resumed.returncode == 0 and ran(resumed) == {"two"}, resumed.stdout + resumed.stderr
    after_kill = course.bytes()

    fresh = course.rrg("regenerate", "-p", "smoke", "--out", str(tmp_path / "whole"))
    assert fresh.returncode == 0 and ran(fresh) == {"one", "two"}, fresh.stderr
    whole = {n: (tmp_path / "whole" / n).read_bytes() for n in after_kill}
    assert whole == after_kill


def test_chapters_run_side_by_side_with_their_share_of_threads(course):
    clock = "import os\nbegan = time.time(); time.sleep(6)\nsave('clock', dict(began=began, ended=time.time(), threads=int(os.environ['OMP_NUM_THREADS'])))"
    for name in ("one", "two"):
        course.chapter(name, clock)
    done = course.rrg("regenerate", "-p", "smoke", "--cores", "2")
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((course.figures / n / "clock.json").read_text()) for n in ("one", "two"))
    assert one["threads"] == two["threads"] == 1 and one["began"] < two["ended"] and two["began"] < one["ended"]


def test_the_slurm_profile_plans_without_a_cluster(course):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="optional dependency: pip install 'rrg-core[slurm]'")
    course.chapter("one", table(1))
    course.chapter("two", table(1), needs=("one",))
    done = course.rrg("regenerate", "-p", "smoke", "--executor", "slurm", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "rule one:" in done.stdout and "rule two:" in done.stdout and "rrg_core.runner" not in done.stderr
    assert not course.figures.exists()
