"""The engine end to end, on a miniature course: what is stale, what runs, what survives a kill."""
import json
import os
import shutil
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
    course.chapter("two", table("10 * load('one', 't')"), needs=("one", ))
    first = course.rrg("regenerate", "-p", "smoke")
    assert first.returncode == 0 and ran(first) == {"one", "two"}, first.stdout + first.stderr
    assert (course.figures / "two" / "t.json").read_text() == "10"
    manifest = json.loads((course.figures / "two" / "manifest.json").read_text())
    assert manifest["profile"] == "smoke" and set(manifest["outputs"]) == {"t.json"
                                                                           } and manifest["seeds"] == [0]

    start = time.time()
    again = course.rrg("regenerate", "-p", "smoke")
    assert again.returncode == 0 and "up to date: one, two" in again.stdout and time.time() - start < 20

    course.notebook("one").touch()
    course.chapter("one", table(1) + "  # a comment is no change")
    assert "up to date: one, two" in course.rrg("regenerate", "-p", "smoke").stdout

    course.chapter("one",
                   "value = 1\n" + table("value")) # other code, same bytes: the second chapter does not run
    cut = course.rrg("regenerate", "-p", "smoke")
    assert ran(cut) == {"one"} and "two  unchanged after all" in cut.stdout, cut.stdout + cut.stderr

    course.chapter("one", table(2))
    assert ran(course.rrg("regenerate", "-p", "smoke")) == {"one", "two"}
    assert (course.figures / "two" / "t.json").read_text() == "20"

    (course.figures / "two" / "t.json").write_text("99")
    edited = course.rrg("regenerate", "-p", "smoke", "--dry-run")
    assert "two  runs: t.json was edited" in edited.stdout
    assert (course.figures / "two" / "t.json").read_text() == "99" # a dry run leaves everything alone

def test_files_of_an_older_version_go(course):
    course.chapter("one", table(1, "old") + "\n" + table(1, "kept"))
    course.rrg("regenerate", "-p", "smoke")
    course.chapter("one", table(1, "kept"))
    course.rrg("regenerate", "-p", "smoke")
    assert {f.name for f in (course.figures / "one").iterdir()} == {"kept.json", "manifest.json"}

def test_an_error_names_notebook_cell_and_message(course):
    course.chapter("one", table(1), "# here\nraise ValueError('planted: 7 boxes, 3 labels')", table(
        2, "never"))
    course.chapter("two", table(1), needs=("one", ))
    course.chapter("three", table(1))
    done = course.rrg("regenerate", "-p", "smoke")
    assert done.returncode == 1
    assert ("01_one.ipynb cell 5 (`# here`): ValueError: planted: 7 boxes, 3 "
            "labels") in done.stderr, done.stderr
    assert "not begun: two" in done.stderr and ran(done) == {"three"}
    page = nbformat.read(course.root / "build" / "smoke" / "pages" / "one.ipynb", as_version=4)
    assert page.cells[4].outputs[0].ename == "ValueError" and not page.cells[5].outputs
    assert not (course.figures / "one" / "manifest.json").exists()

def test_a_kernel_that_dies_is_an_error(course):
    course.chapter("one", "import os\nos._exit(9)", table(1))
    done = course.rrg("regenerate", "-p", "smoke")
    assert done.returncode == 1 and ("01_one.ipynb cell 4 (`import os`): "
                                     "DeadKernelError") in done.stderr, done.stderr

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
    course.chapter("two", table(2, "early"), slow(300), needs=("one", ))
    run = course.start("regenerate", "-p", "smoke")
    early = course.figures / "two" / "early.json"
    assert wait_for(early.is_file), run.communicate(timeout=5)
    family = psutil.Process(run.pid).children(recursive=True)
    assert any("ipykernel" in " ".join(p.cmdline()) for p in family)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, [p.cmdline() for p in alive]
    assert not (course.figures / "two" / "manifest.json").exists() and not (course.figures / "two" /
                                                                            "late.json").exists()

    course.chapter("two", table(2, "early"), slow(0), needs=("one", ))
    resumed = course.rrg("regenerate", "-p", "smoke")
    assert resumed.returncode == 0 and ran(resumed) == {"two"}, resumed.stdout + resumed.stderr
    after_kill = course.bytes()

    fresh = course.rrg("regenerate", "-p", "smoke", "--out", str(tmp_path / "whole"))
    assert fresh.returncode == 0 and ran(fresh) == {"one", "two"}, fresh.stderr
    whole = {n: (tmp_path / "whole" / n).read_bytes() for n in after_kill}
    assert whole == after_kill

def test_chapters_run_side_by_side_with_their_share_of_threads(course):
    clock = ("import os\nbegan = time.time(); time.sleep(6)\nsave('clock', dict(began=began, "
             "ended=time.time(), threads=int(os.environ['OMP_NUM_THREADS'])))")
    for name in ("one", "two"):
        course.chapter(name, clock)
    done = course.rrg("regenerate", "-p", "smoke", "--cores", "2")
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((course.figures / n / "clock.json").read_text()) for n in ("one", "two"))
    assert one["threads"] == two["threads"] == 1 and one["began"] < two["ended"] and two["began"] < one[
        "ended"]

def test_the_slurm_profile_plans_without_a_cluster(course):
    pytest.importorskip("snakemake_executor_plugin_slurm",
                        reason="optional dependency: pip install 'rrg-core[slurm]'")
    course.chapter("one", table(1))
    course.chapter("two", table(1), needs=("one", ))
    done = course.rrg("regenerate", "-p", "smoke", "--executor", "slurm", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "rule one:" in done.stdout and "rule two:" in done.stdout and "rrg_core.engine.runner" not in done.stderr
    assert not course.figures.exists()

def lesson(variants, seconds=0.0, extra=""):
    "A chapter's module that trains nothing in some seconds, and writes down that it did."
    return f"""
    import os, time
    import pandas as pd

    EXPERIMENTS = {variants!r}
    {extra}
    def run_variant(settings, seed, profile, say):
        began = time.time()
        say("thinking")
        time.sleep({seconds})
        if settings["x"] < 0:
            raise ValueError(f"planted: x is {{settings['x']}}")
        with open(os.environ["LESSON_LOG"], "a") as f:
            f.write(f"{{settings['x']}} {{os.environ['OMP_NUM_THREADS']}} {{began}} {{time.time()}}\\n")
        return pd.DataFrame({{"study_id": ["a", "b"], "hypothesis": [str(settings["x"] * 7), ""], "reference": ["7", "8"]}})
    """

READ = """
import rrg_core.one
from rrg_core.engine.experiments import run_experiments
predictions = run_experiments(desk)
save("sum", sum(int(f["hypothesis"][0]) for seeds in predictions.values() for f in seeds.values()))
"""

def variants_trained(course):
    return [line.split()[0] for line in course.trained]

def test_experiments_are_jobs_before_their_chapter(course):
    course.module("one", lesson({"a": {"x": 1}, "b": {"x": 2}}, seconds=4))
    course.chapter("one", READ)
    done = course.rrg("regenerate", "-p", "smoke", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one  trains 2: a-s0 (never trained); b-s0 (never trained)" in done.stdout
    assert "one.a-s0  trained in" in done.stdout and ran(done) == {"one"} and variants_trained(course) == [
        "1", "2"
    ]
    (_, threads, began, ended), (_, _, began2, ended2) = (line.split() for line in course.trained)
    assert threads == "1" and float(began) < float(ended2) and float(began2) < float(ended) # side by side
    manifest = json.loads((course.figures / "one" / "manifest.json").read_text())
    assert set(manifest["outputs"]) == {"sum.json", "predictions/a-s0.parquet", "predictions/b-s0.parquet"}
    assert (course.figures / "one" / "sum.json").read_text() == "21" and (course.figures / "one" /
                                                                          "cost.csv").is_file()
    page = (course.root / "build" / "smoke" / "pages" / "one.ipynb").read_text()
    assert "a: seed 0 loaded" in page and "b: seed 0 loaded" in page
    assert "up to date: one" in course.rrg("regenerate", "-p", "smoke").stdout

    course.chapter("one", READ, "1 + 1") # other code in the chapter: it runs, and nothing is trained
    again = course.rrg("regenerate", "-p", "smoke")
    assert ran(again) == {"one"} and "trains" not in again.stdout and len(course.trained) == 2

    course.module("one", lesson({"a": {"x": 1}, "c": {"x": 3}},
                                seconds=4)) # one variant gone, one new, one as it was
    changed = course.rrg("regenerate", "-p", "smoke")
    assert "trains 1: c-s0 (never trained)" in changed.stdout and variants_trained(course) == [
        "1", "2", "3"
    ], changed.stdout
    assert sorted(f.name for f in (course.figures / "one" / "predictions").iterdir()) == [
        "a-s0.parquet", "c-s0.parquet"
    ]

def test_where_a_profile_says_so_the_notebook_trains(course):
    course.jobs = "no"
    course.module("one", lesson({"a": {"x": 1}, "b": {"x": 2}}))
    course.chapter("one", READ)
    done = course.rrg("regenerate", "-p", "smoke")
    assert done.returncode == 0 and "trains" not in done.stdout and variants_trained(course) == [
        "1", "2"
    ], done.stdout + done.stderr
    assert "up to date: one" in course.rrg("regenerate", "-p", "smoke").stdout

def test_retraining_trains_everything_once_and_ends_in_the_same_bytes(course):
    course.module("one", lesson({"a": {"x": 1}, "b": {"x": 2}}))
    course.chapter("one", READ)
    assert course.rrg("regenerate", "-p", "smoke").returncode == 0
    before = course.bytes()
    done = course.rrg("regenerate", "one", "-p", "smoke", "--retrain")
    assert done.returncode == 0 and ("one  trains 2: a-s0 (asked to); b-s0 (asked "
                                     "to)") in done.stdout, done.stdout + done.stderr
    assert variants_trained(course) == ["1", "1", "2", "2"
                                        ] and course.bytes() == before # by the jobs; the notebook read
    page = (course.root / "build" / "smoke" / "pages" / "one.ipynb").read_text()
    assert "a: seed 0 trained in 0 s by a job of this run" in page
    shutil.rmtree(course.figures / "one")
    assert course.rrg("regenerate", "one", "-p", "smoke", "--retrain").returncode == 0
    assert variants_trained(course) == ["1"] * 3 + ["2"] * 3 and course.bytes() == before

def test_a_variant_that_fails_is_named_and_the_others_are_kept(course):
    course.module("one", lesson({"good": {"x": 1}, "bad": {"x": -1}}))
    course.chapter("one", READ)
    done = course.rrg("regenerate", "-p", "smoke")
    assert done.returncode == 1 and "one bad: ValueError: planted: x is -1" in done.stderr.replace(
        "-s0", ""), done.stderr
    assert "logs/one.bad-s0.log" in done.stderr and "not begun: one" in done.stderr and variants_trained(
        course) == ["1"]
    assert "planted" in (course.root / "build" / "smoke" / "logs" / "one.bad-s0.log").read_text()
    assert [f.name for f in (course.figures / "one").rglob("*.parquet")] == ["good-s0.parquet"]
    course.module("one", lesson({"good": {"x": 1}, "bad": {"x": 5}}))
    assert course.rrg("regenerate", "-p", "smoke").returncode == 0 and variants_trained(course) == ["1", "5"]

def test_a_kill_in_training_leaves_what_was_finished(course, tmp_path):
    course.module("one", lesson({"a": {"x": 1}, "slow": {"x": 2}}, extra="PATIENCE = 0"))
    source = (course.root / "lib" / "rrg_core" / "one.py").read_text()
    hang = source.replace(
        "time.sleep(0.0)",
        "time.sleep(300 if settings['x'] == 2 and not os.path.exists(os.environ['LESSON_LOG'] + '.go') else "
        "0)")
    (course.root / "lib" / "rrg_core" / "one.py").write_text(hang)
    course.chapter("one", READ)
    run = course.start("regenerate", "-p", "smoke", "--cores", "2")
    predictions = course.figures / "one" / "predictions"
    assert wait_for((predictions / "a-s0.parquet").is_file), run.communicate(timeout=5)
    slow = course.root / "build" / "smoke" / "progress" / "one.slow-s0.json"
    assert wait_for(lambda: slow.is_file() and "thinking" in slow.read_text())
    family = psutil.Process(run.pid).children(recursive=True)
    assert any("rrg_core.engine.trainer" in " ".join(p.cmdline()) for p in family)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, [p.cmdline() for p in alive]
    assert [f.name for f in predictions.iterdir()] == ["a-s0.parquet"]

    (course.root / "trained.log.go").touch()
    resumed = course.rrg("regenerate", "-p", "smoke")
    assert resumed.returncode == 0 and "trains 1: slow-s0" in resumed.stdout and variants_trained(course) == [
        "1", "2"
    ], resumed.stdout + resumed.stderr
    after_kill = course.bytes()
    assert course.rrg("regenerate", "-p", "smoke", "--out", str(tmp_path / "whole")).returncode == 0
    assert {n: (tmp_path / "whole" / n).read_bytes()
            for n in after_kill} == after_kill and variants_trained(course) == ["1", "1", "2", "2"]

def test_training_alone(course):
    course.module("one", lesson({"a": {"x": 1}, "b": {"x": 2}}))
    course.chapter("one", READ)
    wrong = course.rrg("train", "one", "full", "-p", "smoke")
    assert wrong.returncode == 1 and wrong.stderr.strip(
    ) == "rrg: one has no variant 'full': there are a, b; or all"
    first = course.rrg("train", "one", "b", "-p", "smoke", "--seed", "3", "--seed", "4")
    assert first.returncode == 0 and "one.b-s3  trained in" in first.stdout and variants_trained(course) == [
        "2", "2"
    ], first.stdout + first.stderr
    assert "loaded: b-s3; b-s4" in course.rrg("train", "one", "b", "-p", "smoke", "--seed", "3", "--seed",
                                              "4").stdout
    every = course.rrg("train", "one", "all", "-p", "smoke", "--retrain")
    assert every.returncode == 0 and len(
        course.trained) == 4 and not (course.figures / "one" / "manifest.json").exists()
    assert "trains" not in course.rrg("regenerate", "-p", "smoke").stdout and len(course.trained) == 4
    nothing = course.rrg("train", "two", "all", "-p", "smoke")
    assert nothing.returncode == 1 and "unknown chapter 'two': the course has one" in nothing.stderr
    course.chapter("two", table(1))
    assert "chapter two has nothing to train" in course.rrg("train", "two", "all", "-p", "smoke").stderr

def test_a_cluster_gets_the_same_jobs(course):
    pytest.importorskip("snakemake_executor_plugin_slurm",
                        reason="optional dependency: pip install 'rrg-core[slurm]'")
    course.module("one", lesson({"a": {"x": 1}, "b.2": {"x": 2}}))
    course.chapter("one", READ)
    done = course.rrg("regenerate", "-p", "smoke", "--executor", "slurm", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert all(f"rule {name}:" in done.stdout for name in ("one", "one.a-s0", "one.b.2-s0")), done.stdout
    assert not course.figures.exists() and not course.trained

STANDIN = """
from pathlib import Path
from rrg_core.engine.experiments import standin

DEPTH = 1
EXPERIMENTS = {}
def clip(profile, say):
    def build(folder):
        say("thinking")
        (folder / "weights").write_text("w" * DEPTH)
    return standin("clip-standin", {"depth": DEPTH}, build, profile, say=say)
PARTS = {"clip-standin": clip}
"""

READER = """
import pandas as pd
from rrg_core.engine.experiments import standin_folder

EXPERIMENTS = {"full": {}, "plain": {}}
NEEDS = {"full": ["clip-standin"]}
def run_variant(settings, seed, profile, say):
    return pd.DataFrame({"study_id": ["a"], "score": [len((standin_folder("clip-standin", profile) / "weights").read_text())]})
"""

def test_what_others_wait_for_goes_first(course):
    "With one core, the stand-in is made before the variants that do not need it."
    extra = """NEEDS = {"z": ["clip-standin"]}
    from rrg_core.engine.experiments import standin
    def clip(profile, say):
        def build(folder):
            with open(os.environ["LESSON_LOG"], "a") as f: f.write("clip 1 0 0\\n")
            (folder / "weights").write_text("w")
        return standin("clip-standin", {}, build, profile, say=say)
    PARTS = {"clip-standin": clip}"""
    course.module("learning", lesson({"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}, "z": {"x": 4}},
                                     extra=extra))
    course.chapter(
        "learning",
        "import rrg_core.learning\nfrom rrg_core.engine.experiments import run_experiments\nsave('n', "
        "len(run_experiments(desk)))")
    done = course.rrg("regenerate", "-p", "smoke", "--cores", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = [line.split()[0]
               for line in (course.root / "trained.log").read_text().splitlines()] # in the order of training
    assert sorted(trained) == ["1", "2", "3", "4", "clip"] and trained[0] == "clip", trained
    priority = {
        n: j["priority"] // 10_000
        for n, j in json.loads((course.root / "build" / "smoke" / "plan.json").read_text())["jobs"].items()
    }
    assert priority["learning.clip-standin"] == 2 and priority["learning.a-s0"] == 1 and priority[
        "learning"] == 0

def test_a_standin_that_changes_reaches_the_chapters_that_read_it(course):
    course.module("learning", STANDIN)
    course.module("fita", READER)
    course.chapter(
        "learning",
        "import rrg_core.learning\nfrom rrg_core.engine.experiments import run_parts\nsave('parts', "
        "list(run_parts(desk)))")
    read = ("import rrg_core.fita\nfrom rrg_core.engine.experiments import run_experiments\nsave('score', "
            "int(run_experiments(desk)['full'][0]['score'][0]))")
    course.chapter("fita", read, needs=("learning", ))
    first = course.rrg("regenerate", "-p", "smoke")
    assert first.returncode == 0 and ran(first) == {
        "learning", "fita"
    } and "learning  trains 1: clip-standin (not made)" in first.stdout, first.stdout + first.stderr
    standin = course.figures / "learning" / "standins" / "clip-standin"
    assert {"standins/clip-standin/weights", "standins/clip-standin/made.json", "parts.json"} <= set(
        json.loads((course.figures / "learning" / "manifest.json").read_text())["outputs"])
    assert (course.figures / "fita" / "score.json").read_text() == "1"

    course.module("learning", STANDIN.replace("DEPTH = 1", "DEPTH = 2"))
    second = course.rrg("regenerate", "-p", "smoke")
    assert second.returncode == 0 and ("fita  trains 1: full-s0 (what it reads may "
                                       "change)") in second.stdout, second.stdout + second.stderr
    assert "fita.full-s0  trained in" in second.stdout and (standin / "weights").read_text() == "ww" and (
        course.figures / "fita" / "score.json").read_text() == "2"
    assert "up to date: learning, fita" in course.rrg("regenerate", "-p", "smoke").stdout
