"""The engine end to end, on a miniature course: what is stale, what runs, what survives a kill."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import nbformat
import psutil
import pytest


def wait_for(condition, seconds=300):  # a machine that others use as well is slow
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
    "a size": (lambda c: c.settings(train=47), "one  runs: data changed; profile changed"),
    "replicates": (lambda c: c.settings(bootstraps=51), "one  runs: profile changed"),
    "an edited table": (edit(lambda c: c.figures / "one" / "t.json"), "one  runs: t.json was edited"),
    "a lost table": (lambda c: (c.figures / "two" / "t.json").unlink(), "two  runs: t.json is missing"),
    "no manifest": (lambda c: (c.figures / "one" / "manifest.json").unlink(), "one  runs: never made"),
    "half a manifest": (lambda c: (c.figures / "one" / "manifest.json").write_text('{"chapter": '),
                        "manifest.json is damaged or was edited"),
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
        said = course.regenerate(dry_run=True)
        assert words in said.text + (said.error or ""), (what, said)
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
    assert "01_one.ipynb\n  cell 5: # here\n  ValueError: planted: 7 boxes, 3 labels" in done.error
    assert "04_dies.ipynb\n  cell 4: import os\n  DeadKernelError" in done.error
    assert "not begun: two" in done.error and done.ran == {"three"}
    page = nbformat.read(kernels.root / "build" / "smoke" / "pages" / "one.ipynb", as_version=4)
    assert page.cells[4].outputs[0].ename == "ValueError" and not page.cells[5].outputs
    assert not (kernels.figures / "one" / "manifest.json").exists()


def test_unknown_parameters_and_chapters_are_refused(course):
    course.chapter("one", table(1))
    for options, words in (({"parameters": {"sed": 1}},
                            "unknown parameter 'sed'; the chapter takes profile, seed"),
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
    "A chapter's module whose model is a number; training is written down; `variants`: name → x."
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


# --- stand-ins: what other chapters read ---

STANDIN = """
import os
from functools import partial
from rrg_core.engine.code import Registry, for_readers
from rrg_core.engine.experiments import parts_of
from rrg_core.engine.settings import figures_root
from rrg_core.engine.store import Artifact

DEPTH = 1
EXPERIMENTS: Registry = {}
@for_readers
def card(depth): return f"A card about {depth}."
def build(folder, depth):
    "Two words."
    with open(os.environ["LESSON_LOG"], "a") as f: f.write("clip\\n")
    (folder/"weights").write_text("w"*max(2, depth))
    (folder/"README.md").write_text(card(depth))
def clip(p):
    made = partial(build, depth=DEPTH)
    parts = parts_of(made, {"depth": DEPTH}, p)
    return Artifact(figures_root(p)/"learning", "standins/clip-standin", parts, made, "clip-standin")
PARTS: Registry = {"clip-standin": clip}
"""

READS = """
def train(folder, settings, seed, p):
    from rrg_core.engine.experiments import standin_folder
    with open(os.environ["LESSON_LOG"], "a") as f: f.write("reader\\n")
    (folder/"w").write_text(str(len((standin_folder("clip-standin", p)/"weights").read_text())))
def needs(settings): return ["clip-standin"] if settings["x"] else []
SYSTEMS: Registry = {"number": System(decode, train, needs)}
"""
RUN_PARTS = """
import rrg_core.learning
from rrg_core.engine.experiments import run_parts
save("parts", list(run_parts(desk)))
"""


def test_a_standin_that_changes_reaches_the_chapters_that_read_it(course):
    course.module("learning", STANDIN)
    course.module("one", lesson(full=1, plain=0) + READS)
    course.chapter("learning", RUN_PARTS)
    course.chapter("one", READ, needs=("learning", ))
    first = course.regenerate()
    assert first.ran == {"learning", "one"} and "learning  trains 1: clip-standin (never made)" in first.text
    outputs = set(course.manifest("learning")["outputs"])
    assert outputs == {"parts.json", "standins/clip-standin/README.md", "standins/clip-standin/weights"}
    assert (course.figures / "one" / "sum.json").read_text() == "4.0" and course.trained[0] == "clip"

    for same in (("Two words", "Other words"), ("A card", "Another card"), ("DEPTH = 1", "DEPTH = 1  # low")):
        course.module("learning", STANDIN.replace(*same))
        assert "trains" not in course.planned and len(course.trained) == 3, same

    # made anew with the same weights: nothing that reads it is trained
    course.module("learning", STANDIN.replace("DEPTH = 1", "DEPTH = 2"))
    again = course.regenerate()
    assert "learning  trains 1: clip-standin (settings, code page changed)" in again.text
    assert "one.full-s0  loaded" in again.text and course.trained[3:] == ["clip"]
    course.module("learning", STANDIN.replace("DEPTH = 1", "DEPTH = 3"))
    other = course.regenerate()
    assert "one  trains 1: full-s0 (what it reads is trained)" in other.text
    assert "one.full-s0  trained in" in other.text and course.trained[4:] == ["clip", "reader"]
    assert (course.figures / "one" / "sum.json").read_text() == "5.0"
    assert "up to date: learning, one" in course.regenerate().text


def test_what_others_wait_for_goes_first(course):
    "With one core, the stand-in is made before the variants that do not need it."
    course.module("learning", STANDIN)
    course.module("one", lesson(a=0, b=0, z=1) + READS)
    course.chapter("learning", RUN_PARTS)
    course.chapter("one", READ, needs=("learning", ))
    assert course.regenerate(cores=1).ran == {"learning", "one"}
    assert course.trained == ["clip", "reader", "reader", "reader"]
    jobs = json.loads((course.root / "build" / "smoke" / "plan.json").read_text())["jobs"]
    first = {name: job["priority"] // 10_000 for name, job in jobs.items()}
    assert first["learning.clip-standin"] == 2 and first["one.a-s0"] == 1 and first["one"] == 0
    assert jobs["one.z-s0"]["needs"] == ["learning.clip-standin"] and jobs["one.a-s0"]["needs"] == []


def test_a_lost_standin_says_what_makes_it(course):
    course.module("one", lesson(full=1) + READS)
    course.chapter("one", READ)
    assert "needs the stand-in 'clip-standin'" in course.regenerate().error
    assert "`rrg train learning clip-standin --profile smoke` makes it" in course.regenerate().error


# --- declared stale, and accepted ---


def test_a_chapter_that_is_declared_stale_is_shown_and_not_trained(course):
    from rrg_core.engine.plan import declare
    course.module("one", lesson(a=1, b=2))
    course.chapter("one", READ)
    course.chapter("two", table(1))
    course.regenerate()
    course.module("one", lesson(a=3, b=2))
    assert "one  trains 1: a-s0 (settings, training changed)" in course.planned
    declare("one", "waits for a quiet machine", "smoke")
    assert "one  declared stale: waits for a quiet machine" in course.planned
    assert "trains" not in course.planned and "up to date: two" in course.planned
    shown = course.regenerate()
    assert shown.ran == {"one"} and course.trained == ["1", "2"]
    assert "a: seed 0 loaded, declared stale: waits for a quiet machine" in of_jobs(course)
    assert (course.figures / "one" / "sum.json").read_text() == "21.0"
    assert "declared stale" in course.regenerate().text and course.trained == ["1", "2"]
    assert "loaded: b-s0" in course.train("one", "b").text and course.records("one")["stale"]
    trained = course.train("one")
    assert "one.a-s0  trained in" in trained.text and course.trained == ["1", "2", "3"]
    assert "stale" not in course.records("one") and "stale" not in course.planned
    with pytest.raises(Exception, match="unknown chapter 'three'"):
        declare("three", "x", "smoke")


def test_retraining_lifts_the_mark_of_what_was_asked_for_alone(course):
    from rrg_core.engine.plan import declare
    course.module("one", lesson(a=1))
    course.module("two", lesson(a=2))
    course.chapter("one", READ)
    course.chapter("two", READ.replace("rrg_core.one", "rrg_core.two"), needs=("one", ))
    course.regenerate()
    declare("one", "waits", "smoke")
    declare("two", "waits too", "smoke")
    course.chapter("one", READ, "1 + 1")  # its page runs as well
    done = course.regenerate("two", retrain=True)
    assert done.ran == {"one", "two"} and course.trained == ["1", "2", "2"]
    assert "stale" not in course.records("two") and course.records("one")["stale"]["why"] == "waits"


def test_every_plan_says_why_a_chapter_is_stale(course):
    from rrg_core.engine.plan import declare
    course.module("one", lesson(a=1, b=2))
    course.chapter("one", READ)
    course.train("one", "a")
    declare("one", "waits for a quiet machine", "smoke")
    for said in (course.planned, course.train("one", "a").text, course.train("one", dry_run=True).text):
        assert "one  declared stale: waits for a quiet machine" in said


TORCH = """
import os, time
from pathlib import Path
import pandas as pd
import torch
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import System
from rrg_core.nets.training import fit

EXPERIMENTS: Registry = {"full": {}, "wide": {"width": 5}}
DEFAULTS = dict(width=3, rate=1e-2, beams=1)
MAIN = "full"
class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Dropout(.1),
                                          torch.nn.Linear(width, 1))
    def forward(self, x, y): return {"loss": (self.layers(x)[:, 0] - y).square().mean()}
def collate(items):
    time.sleep(float(os.environ.get("LESSON_PAUSE", 0)))
    return {"x": torch.stack([i[0] for i in items]), "y": torch.stack([i[1] for i in items])}
def data():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return list(zip(x, x.sum(1)))
def train(folder, settings, seed, p):
    torch.manual_seed(seed)
    net = Net(settings["width"])
    fit(net, data(), collate, steps=40, batch=8, rate=settings["rate"], every=4,
        best=None, seed=seed, precision="no")
    torch.save(net.state_dict(), folder/"net.pt")
def decode(folder, settings, seed, p, first=None):
    net = Net(settings["width"])
    net.load_state_dict(torch.load(folder/"net.pt", weights_only=True))
    said = [f"{v:.4f}" for v in net.eval().layers(torch.eye(4).repeat(8, 1))[:, 0].tolist()][:first]
    ids = [f"study {i}" for i in range(len(said))]
    return pd.DataFrame({"study_id": ids, "hypothesis": said, "reference": ids})
SYSTEMS: Registry = {"net": System(decode, train)}
"""

PROVEN = [  # another text, the same numbers
    ("x.sum(1)", "torch.sum(x, dim=1)"),
    ("net = Net(settings[\"width\"])\n    fit",
     "width = settings['width']\n    net = Net(width)\n    fit"),
    ("[f\"{v:.4f}\" for v in", "[format(v, '.4f') for v in"),
    ("batch=8, rate=settings[\"rate\"]", "rate=settings['rate'], batch=2*4"),
]
REFUSED = {  # what changed → how it is refused
    "a rate in the settings": ("rate=1e-2", "rate=2e-2", "settings changed"),
    "a rate in the code": ("rate=settings[\"rate\"]", "rate=2*settings['rate']", "training 1, step 1: loss"),
    "the data": ("x.sum(1)", "x.sum(1)**2", "training 1, step 0: loss"),
    "the order": ("list(zip(x, x.sum(1)))", "list(zip(x, x.sum(1)))[::-1]", "training 1, step 0: loss"),
    "a layer": ("Dropout(.1)", "Dropout(.2)", "training 1, step 0: loss"),
    "a training more": ("    torch.save",
                        "    fit(net, data(), collate, steps=4, batch=8)\n    torch.save", "2 trainings"),
    "fewer steps": ("steps=40", "steps=10", "training 1: 10 steps, before 20"),
    "no losses kept": ("    fit(net", "    from rrg_core.engine.store import Build, building\n"
                       "    with building(None): fit(net", "0 trainings, before 1"),
    "the writing": (":.4f}", ":.3f}", "16 studies are written otherwise"),
    "a study less": ("repeat(8, 1)", "repeat(2, 1)", "16 studies are written otherwise"),
}


@pytest.fixture
def net(course):
    course.jobs = "no"
    course.module("one", TORCH)
    course.chapter("one", READ)
    assert not course.train("one").error
    return course


def accepted(course, why="only names"):
    from rrg_core.tools.keeping import accept
    return course.call(accept, "one", why, "smoke")


def test_what_is_proven_to_be_the_same_keeps_its_results(net):
    before = net.records("one")["artifacts"]
    for old, new in PROVEN:
        assert old in TORCH
        net.module("one", TORCH.replace(old, new))
        assert "one  loaded" not in net.train("one", dry_run=True).text, old
        said = accepted(net, f"wrote {new[:9]!r} otherwise")
        assert not said.error and "one full-s0: accepted" in said.text, (old, said.error)
        assert "one  loaded: full-s0; wide-s0" in net.train("one").text, old
    after = net.records("one")["artifacts"]
    assert {n: r["losses"] for n, r in after.items()} == {n: r["losses"] for n, r in before.items()}
    why = f"wrote {PROVEN[-1][1][:9]!r} otherwise"
    assert after["predictions/full-s0.parquet"]["accepted"][-1]["why"] == why
    assert f"one  keeps its results: {why}" in net.planned
    assert "say why" in accepted(net, " ").error


def test_what_is_another_result_is_refused(net):
    before = net.records("one")
    for what, (old, new, words) in REFUSED.items():
        assert old in TORCH, what
        net.module("one", TORCH.replace(old, new))
        said = accepted(net)
        assert "one: not accepted: " in said.error and words in said.error, (what, said.error)
        assert ": accepted" not in said.text and net.records("one") == before, what


def test_another_setting_after_the_twenty_steps_is_refused(net):
    late = TORCH.replace("width=3", "width=3, saved=1.").replace(
        "    torch.save", "    net.layers[0].weight.data *= settings['saved']\n    torch.save")
    net.module("one", late)
    assert not net.train("one").error
    for old, new in (("saved=1.", "saved=.5"), ('"wide": {', '"wide": {"saved": .5, ')):
        net.module("one", late.replace(old, new))
        assert "another result" in accepted(net).error, new
        net.module("one", late)
        net.train("one")


def test_a_model_in_the_cache_shows_how_it_writes(net):
    net.module("one", TORCH.replace('MAIN = "full"', ""))
    assert not net.train("one").error
    net.module("one", TORCH.replace('MAIN = "full"', "").replace("x.sum(1)", "torch.sum(x, dim=1)"))
    assert not accepted(net).error
    shutil.rmtree(net.figures / "one" / "predictions")  # written again by the models that were accepted
    assert not net.train("one").error


def test_nothing_is_accepted_without_its_evidence(net):
    from rrg_core.engine.store import changing_records
    net.module("one", TORCH.replace("x.sum(1)", "torch.sum(x, dim=1)"))
    with changing_records(net.figures / "one") as records:
        records["artifacts"]["predictions/full-s0.parquet"].pop("losses")
    for model in (net.figures / "one" / "model", net.root / "build" / "cache" / "one"):
        shutil.rmtree(model)
    said = accepted(net).error
    assert "full-s0 (its record holds no losses" in said and "wide-s0 (its model is not here" in said
    net.settings(train=47)
    assert "wide-s0 (data changed: that is another result)" in accepted(net).error
    (net.figures / "one" / "records.json").unlink()
    assert "wide-s0 (no record)" in accepted(net).error


# --- processes: threads, a cluster, and kills ---


def test_trainings_run_side_by_side_with_their_share_of_threads(processes):
    pause = """
def train(folder, settings, seed, p):
    began = time.time()
    time.sleep(2)
    with open(os.environ["LESSON_LOG"], "a") as f:
        f.write(f"{os.environ['OMP_NUM_THREADS']} {began} {time.time()}\\n")
    (folder/"w").write_text("1")
SYSTEMS: Registry = {"number": System(decode, train)}
"""
    processes.module("one", lesson(a=1, b=2) + pause)
    processes.chapter("one", READ)
    assert not processes.train("one", jobs=2).error
    (threads, began, ended), (threads2, began2, ended2) = (line.split() for line in processes.trained)
    assert threads == threads2 == "1" and float(began) < float(ended2) and float(began2) < float(ended)


def test_a_cluster_gets_the_same_jobs(course):
    "Chapters and experiments are planned for SLURM without a cluster."
    pytest.importorskip("snakemake_executor_plugin_slurm",
                        reason="optional dependency: pip install 'rrg-core[slurm]'")
    course.module("one", lesson(a=1, b2=2))
    course.chapter("one", READ)
    course.chapter("two", table(1), needs=("one", ))
    done = course.regenerate(executor="slurm", dry_run=True)
    assert not done.error
    assert all(f"rule {name}:" in done.text for name in ("one", "two", "one.a-s0", "one.b2-s0")), done.text
    assert not course.figures.exists() and not course.trained
    some = course.train("one", "a", [3], executor="slurm", dry_run=True)
    assert "rule one.a-s3:" in some.text and "rule one:" not in some.text and not course.trained


def gone(family):
    "Whether a killed run's processes end by themselves."
    _, alive = psutil.wait_procs(family, timeout=30)
    return [" ".join(p.cmdline()) for p in alive] == []


def family_of(pid):
    return psutil.Process(pid).children(recursive=True)


def test_a_killed_command_takes_its_page_with_it(processes):
    processes.chapter("one", table(2, "early"), "time.sleep(60)\n" + table(3, "late"))
    run = processes.start("regenerate", "-p", "smoke")
    assert wait_for((processes.figures / "one" / "early.json").is_file), run.communicate(timeout=5)
    family = family_of(run.pid)
    said = [" ".join(p.cmdline()) for p in family]
    assert any("ipykernel" in s for s in said) and any("rrg_core.engine.run" in s for s in said)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert gone(family)
    assert {f.name for f in (processes.figures / "one").iterdir()} == {"early.json"}


SLOW = """
def note(what):
    with open(os.environ["LESSON_LOG"], "a") as f: f.write(what + "\\n")
def train(folder, settings, seed, p):
    (folder/"w").write_text("half")
    note("train")
    time.sleep(.5)
    (folder/"w").write_text(str(7*settings["x"]))
def decode(folder, settings, seed, p, first=None):
    note("decode")
    time.sleep(.5)
    return pd.DataFrame({"study_id": ["a"], "hypothesis": [(folder/"w").read_text()], "reference": ["7"]})
SYSTEMS: Registry = {"number": System(decode, train)}
"""
PAGE = """
import rrg_core.one
from rrg_core.engine.experiments import run_experiments
predictions = run_experiments(desk)
save("early", 1)
rrg_core.one.note("page")
time.sleep(.5)
save("sum", sum(float(f["hypothesis"][0]) for seeds in predictions.values() for f in seeds.values()))
"""


def killed(course, forks, phase, after):
    "Begin a run, kill it some seconds after it said that it is in a phase; its family."
    course.log.unlink(missing_ok=True)
    forks.stdin.write(json.dumps({"profile_name": "smoke", "cores": 1}) + "\n")
    forks.stdin.flush()
    while not (line := forks.stdout.readline()).startswith("pid"):
        pass
    pid = int(line.split()[1])
    assert wait_for(lambda: phase in course.trained), (phase, course.trained)
    time.sleep(after)
    family = family_of(pid)
    os.kill(pid, signal.SIGKILL)
    while not (line := forks.stdout.readline()).startswith("ended"):
        pass
    assert line.split()[1] == "9", (phase, line)  # killed: it had not ended by itself
    return family


def assert_whole(course):
    "What lies in its place is whole, and nothing says that the page was made."
    import pandas as pd
    places = [course.figures, course.root / "build" / "cache"]
    files = [f for place in places for f in place.rglob("*") if f.is_file()]
    for f in files:
        if any(part.startswith((".making-", ".partial-")) for part in f.parts):
            continue
        if f.suffix == ".parquet":
            assert len(pd.read_parquet(f)) == 1
        elif f.suffix == ".json":
            json.loads(f.read_text())
        elif f.name == "w":
            assert f.read_text() in ("7", "14"), f
    assert not (course.figures / "one" / "manifest.json").exists()


def test_ten_kills_end_in_the_same_tables(course, tmp_path):
    course.module("one", lesson(a=1, b=2) + SLOW)
    course.chapter("one", PAGE)
    moments = random.Random(0)
    forks = course.forks()
    try:
        for phase in ["train"]*2 + ["decode"]*2 + ["train"]*2 + ["decode"] + ["page"]*3:  # of a, of b
            family = killed(course, forks, phase, moments.uniform(0, .4))
            assert gone(family), phase
            assert_whole(course)
        for out in (None, tmp_path / "whole"):  # the one goes on, the other begins anew
            cache = {"RRG_CACHE": str(tmp_path / "cache")} if out else {}
            asked = {"profile_name": "smoke", "out": out and str(out), "environment": cache}
            forks.stdin.write(json.dumps(asked) + "\n")
            forks.stdin.flush()
            while not (line := forks.stdout.readline()).startswith("ended"):
                pass
            assert line.split()[1] == "0"
    finally:
        forks.stdin.close()
        forks.wait(timeout=60)
    assert course.bytes() == course.bytes(tmp_path / "whole") and "one/sum.json" in course.bytes()
    assert (course.figures / "one" / "sum.json").read_text() == "21.0"
    places = [course.figures, course.root / "build" / "cache"]
    assert [f for place in places for f in place.rglob(".*")] == []


def losses_of(figures):
    records = json.loads((figures / "one" / "records.json").read_text())["artifacts"]
    return records["predictions/full-s0.parquet"]["losses"]


def begin(course, out, n, pause=0.):
    "`rrg train one full --processes n` into a folder, with a cache beside it."
    return course.start("train", "one", "full", "-p", "smoke", "--processes", str(n), "--out", str(out),
                        RRG_CACHE=str(out) + "-cache", LESSON_PAUSE=str(pause), ACCELERATE_USE_CPU="1")


def train_whole(course, out, n, monkeypatch):
    "The same to its end, planned in this process; of two processes torchrun starts both."
    from rrg_core.engine import plan
    monkeypatch.setenv("RRG_CACHE", str(out) + "-cache")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    if n > 1:
        monkeypatch.setattr(plan, "subprocess", subprocess)
    done = course.train("one", "full", out=out, processes=n)
    assert not done.error and "one.full-s0  trained in" in done.text, done.text + done.error


@pytest.mark.parametrize("n", [1, 2])
def test_a_killed_training_goes_on_where_it_was(course, tmp_path, monkeypatch, n):
    "On one process, and on two under torchrun: the losses of an unbroken run."
    course.module("one", TORCH)
    course.chapter("one", READ)
    train_whole(course, tmp_path / "whole", n, monkeypatch)
    broken = begin(course, tmp_path / "broken", n, .2)
    checkpoints = course.root / "build" / "checkpoints"
    assert wait_for(lambda: list(checkpoints.rglob("state.pt"))), broken.communicate(timeout=5)
    family = family_of(broken.pid)
    said = [" ".join(p.cmdline()) for p in family]
    assert sum("rrg_core.engine.run" in s and "torch.distributed.run" not in s for s in said) == n
    os.kill(broken.pid, signal.SIGKILL)
    broken.wait()
    assert gone(family) and not list((tmp_path / "broken").rglob("full*.parquet"))
    assert list(checkpoints.rglob("state.pt"))

    train_whole(course, tmp_path / "broken", n, monkeypatch)
    assert losses_of(tmp_path / "broken") == losses_of(tmp_path / "whole")
    assert len(losses_of(tmp_path / "whole")[0]) == 20 and not list(checkpoints.iterdir())
    assert course.bytes(tmp_path / "broken") == course.bytes(tmp_path / "whole")


# --- what is added ---

ADDED = {  # what → file, dictionary or list, the entry that is added at its head
    "an adapter": ("data/__init__.py", "SOURCES",
                   '"an-addition": Source("New", "CC0", "here", "a folder", "01d", "rrg_core.data.new")'),
    "weights": ("learning/standins.py", "_ALL",
                'Published("an-addition", "New", "", (), "standin-shapes-bert", ())'),
    "a stand-in": ("learning/standins.py", "_RECIPES",
                   '"an-addition": dict(task="labels", trunk="pyramid", **_IMAGE, epochs=1)'),
    "a task": ("learning/pretraining.py", "TASKS", '"an-addition": label_task'),
    "a site": ("phantom/sites.py", "SITES", '"an-addition": None'),
    "a variant": ("learning/__init__.py", "EXPERIMENTS", '"an-addition": {"memory": False}'),
    "a system": ("learning/__init__.py", "SYSTEMS", '"an-addition": System(_trivial)'),
    "a variant of fita": ("fita/__init__.py", "EXPERIMENTS", '"an-addition": {"ifr": True}'),
    "a chapter": ("newchapter/__init__.py", "EXPERIMENTS", '"an-addition": {}'),
}


def with_entry(text, name, entry):
    new, n = re.subn(rf"^({name}\s*(?::\s*\w+\s*)?=\s*[\[{{])", lambda m: f"{m[1]}{entry}, ", text,
                     flags=re.M)
    assert n == 1, name
    return new


@pytest.fixture
def copied(course, monkeypatch):
    "A copy of the library that keys are taken from, with the course's own chapters and tables."
    import rrg_core
    from rrg_core.engine import settings
    repo = Path(__file__).resolve().parent.parent
    shutil.rmtree(course.package)
    shutil.copytree(repo / "rrg_core", course.package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(course.package / "learning", course.package / "newchapter")
    (course.package / "data" / "new.py").write_text("def load(root, split): return []\n")
    monkeypatch.setattr(rrg_core, "__path__", [str(repo / "rrg_core")])
    monkeypatch.setenv("RRG_REPO", str(repo))
    settings.repo_root.cache_clear()
    return course.package


def keys():
    "Of all that learning and fita make at phantom: predictions, models and stand-ins."
    from rrg_core.engine.desk import Desk
    from rrg_core.engine.experiments import artifacts, experiments
    out = {}
    for chapter in ("learning", "fita"):
        desk = Desk(chapter, "phantom")
        out |= {(chapter, n): a.key for n, a in artifacts(desk).items()}
        out |= {(chapter, e.name, "model"): e.model.key for e in experiments(desk) if e.model}
    return out


def test_what_is_added_renames_no_run(copied):
    before = keys()
    assert len(before) > 70 and {c for c, *_ in before} == {"learning", "fita"}

    def renamed(*changes):
        texts = {file: (copied / file).read_text() for file, *_ in changes}
        for file, change, *more in changes:
            text = (copied / file).read_text()
            new = with_entry(text, change, *more) if isinstance(change, str) else change(text)
            assert new != text, file
            (copied / file).write_text(new)
        now = keys()
        for file, text in texts.items():
            (copied / file).write_text(text)
        return {n for n in before if now[n] != before[n]}

    if renamed(*ADDED.values()):  # all at once, since a look at every key takes a second
        assert not {what: found for what, change in ADDED.items() if (found := renamed(change))}
    # what runs do use renames them: of a registry the readers of the entry alone
    used = lambda t: t.replace("history = fit(model", "history = fit(1*model")
    assert len(renamed(("learning/writers.py", used))) > 40
    other = lambda t: t.replace('"masked": masked_task', '"masked": label_task')
    berts = renamed(("learning/pretraining.py", other))
    mine = {n for n in berts if n[0] == "learning"}
    assert mine == {("learning", f"standin-{d}-bert") for d in ("phantom", "shapes")}
