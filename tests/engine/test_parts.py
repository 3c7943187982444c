"""Exported from nbs/90g_parts.ipynb: edit it there, then run `nbdev-export`."""
import ast, inspect, json, os, sys, textwrap
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from rrg_core.engine.files import figures_root, file_hash
from rrg_core.engine.freshness import _data_parts, code_only, modules_reached
from rrg_core.engine.once import is_current, once, owned_by, run_of, whole_folder
from rrg_core.engine.settings import CourseError, Profile, package_root, profile, repo_root
import sys
from rrg_core.engine.parts import _exported_twin, _free_code
import tempfile
from importlib import import_module
import pytest
from rrg_core.metrics.stats import auroc
from rrg_core.engine.parts import *


def test_code_that_matters_is_hashed():
    first = ("from rrg_core.metrics.stats import auroc\ndef helper(x): return 2 * x\ndef train(s): return "
             "helper(s)\ndef unused(): return 1\n")

    def parts(source):
        with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
            (Path(d) / "lesson_of_a_student.py").write_text(source)
            m.syspath_prepend(d)
            lesson = import_module("lesson_of_a_student")
            del sys.modules["lesson_of_a_student"]
            sys.modules["lesson_of_a_student"] = lesson
            try:
                return code_parts(lesson.train)
            finally:
                del sys.modules["lesson_of_a_student"]

    assert parts(first) == parts(first + "# a comment\n") == parts(first.replace(
        "return 1", "return 2")) # what is not reached does not matter
    assert parts(first) != parts(first.replace("2 * x", "3 * x"))
    assert "code rrg_core.metrics.stats" in parts(first.replace("return helper(s)", "return auroc(helper(s), s)"))


def test_a_notebook_finds_what_its_module_made():
    import __main__, types

    source = ("FACTOR = 2\nclass Box:\n    side = 3\n    def __init__(self, x): self.x = x\ndef helper(x): "
              "return "
              "FACTOR*x\ndef make(x): return helper(Box(x).x) + 1\n")
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:

        def load(text, name, file):
            path = Path(d) / file
            path.write_text(text)
            module = types.ModuleType(name)
            module.__file__ = str(path)
            exec(compile(text, str(path), "exec"), vars(module))
            return module

        twin = load(source, "rrg_core.twin", "twin.py")
        m.setitem(sys.modules, "rrg_core.twin", twin)

        def in_notebook(text):
            module = load(text, "__main__", f"page{abs(hash(text))}.py")
            m.setitem(sys.modules, "__main__", module)
            seen = {}
            _free_code(module.make, seen)
            return _exported_twin(module.make, seen)

        assert in_notebook(source) == "rrg_core.twin" and in_notebook("# a remark\n" + source) == "rrg_core.twin"
        for change in (("FACTOR = 2", "FACTOR = 3"), ("FACTOR*x", "FACTOR*x*1"), ("+ 1", "+ 2"),
                       ("side = 3", "side = 4"), ("self.x = x", "self.x = -x")):
            assert in_notebook(source.replace(*change)) == ""


def test_a_new_variant_does_not_change_the_others():
    from rrg_core.engine.parts import _without_declarations

    module = "EXPERIMENTS: dict = {'a': {}}\nNEEDS = {}\ndef run_variant(): return 1"
    more = module.replace("{'a': {}}", "{'a': {},\n 'b': {'x': 1}}")
    assert digest(code_only(_without_declarations(module))) == digest(code_only(_without_declarations(more)))
    assert digest(code_only(_without_declarations(module))) != digest(
        code_only(_without_declarations(module.replace("return 1", "return 2"))))
    from rrg_core.metrics.evaluate import score_texts
    from rrg_core.metrics.clinical import clinical_scores

    found = code_parts(score_texts)
    assert "code rrg_core.metrics.text" in found and "code rrg_core.data.study" in code_parts(
        clinical_scores) and "code rrg_core.labels.lexicon" in found and not {f"code {m}"
                                                                              for m in PLUMBING} & set(found)


def test_credentialed_data_stay_out_of_figures():
    for folder in (repo_root() / "figures", repo_root() / "build" / ".." / "figures" / "fita"):
        with pytest.raises(CourseError, match="profile mimic reads mimic-cxr, whose licence"):
            refuse_credentialed(folder, profile("mimic"))
    refuse_credentialed(repo_root() / "build", profile("mimic"))
    refuse_credentialed(repo_root() / "figures", profile("phantom"))
    with pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_FIGURES", raising=False)
        assert figures_root(profile("mimic")).is_relative_to(repo_root() / "build")


def test_a_prefix_is_made_once_and_named_by_its_settings():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_CACHE", d)
        m.setenv("RRG_RETRAIN", "")
        made, p = [], profile("smoke")

        def build(folder):
            made.append(1)
            (folder / "weights").write_text("x")

        def ask(**settings):
            return prefix("encoder", settings, build, p, say=str)

        with asking(), pytest.raises(NotMade, match="encoder"):
            ask(depth=2)
        first = ask(depth=2)
        assert ask(depth=2) == first and (first / "weights").read_text() == "x" and len(made) == 1
        with asking():
            assert ask(depth=2) == first

        def part(p, say):
            return ask(depth=2)

        assert missing("encoder", part, p) is None and missing("encoder", lambda p, say: ask(depth=9), p) is False
        with pytest.raises(CourseError, match="part encoder: ZeroDivisionError.* does nothing before"):
            missing("encoder", lambda p, say: 1 / 0, p)
        assert ask(depth=3) != first and len(made) == 2
        assert prefix("encoder", {"depth": 2}, build, p, seed=1, say=str) != first and prefix(
            "encoder", {"depth": 2}, build, profile("phantom"), say=str) != first
        with run_of(retrain=True):
            assert ask(depth=2) == ask(depth=2) == first # anew, but once
        assert len(made) == 5


def test_a_standin_is_retrained_when_its_settings_change():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d)
        m.setenv("RRG_RETRAIN", "")
        m.setenv("RRG_RECORD", str(Path(d) / "record"))

        def build(depth):
            return lambda folder: (folder / "w").write_text(str(depth))

        for depth in (2, 2, 3):
            folder = standin("clip-standin", {"depth": depth}, build(depth), profile("smoke"), say=str)
        assert missing("clip-standin", lambda p, say: standin("clip-standin", {"depth": 4}, build(4), p),
                       profile("smoke")) is True
        assert (folder / "w").read_text() == "3" and folder == Path(d) / "learning" / "standins" / "clip-standin"
        assert json.loads((folder / "made.json").read_text())["settings"] == {"depth": 3}
        assert '["learning", "standins/clip-standin/w"]' in (Path(d) / "record").read_text()
        m.setenv("RRG_RETRAIN", "1")
        m.setenv("RRG_RUN", "another")
        seen = [(folder / "w").stat().st_ctime_ns]
        for chapter in ("other", "learning"):
            m.setenv("RRG_CHAPTER", chapter)
            standin("clip-standin", {"depth": 3}, build(3), profile("smoke"), say=str)
            seen.append((folder / "w").stat().st_ctime_ns)
        assert seen[0] == seen[1] < seen[2] # its owner's run alone makes it anew
        m.setenv("RRG_FIGURES", str(repo_root() / "figures"))
        with pytest.raises(CourseError, match="whose licence forbids"):
            standin("clip-standin", {}, build(1), profile("mimic"))
