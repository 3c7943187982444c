"""Exported from nbs/90d_freshness.ipynb: edit it there, then run `nbdev-export`."""
import ast, io, json, tokenize
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from fastcore.nbio import read_nb
from rrg_core.engine.files import file_hash
from rrg_core.engine.settings import CourseError, Profile, chapters, data_root, package_root, profile, repo_root
import os, shutil, tempfile
import pytest
from rrg_core.engine.freshness import *


def test_code_only_ignores_comments_and_nothing_else():
    assert code_only("a = 1 # one\n\n# two\nb = '# 3'\n") == "a = 1\nb = '# 3'"
    assert code_only("a = 1") != code_only("a = 2")
    assert code_only("if a:\n    b") != code_only("if a:\n  b") # indentation is kept: it may be inside a string
    assert code_only("%matplotlib inline # magic") == "%matplotlib inline"


def test_modules_reached_follows_every_kind_of_import():
    with tempfile.TemporaryDirectory() as d:
        p = Path(d)
        (p / "sub").mkdir()
        (p / "a.py").write_text("from .b import x\n")
        (p / "b.py").write_text("import rrg_core.sub.c as c\n")
        (p / "sub" / "__init__.py").write_text("")
        (p / "sub" / "c.py").write_text("from ..d import y\nfrom . import e\n")
        (p / "sub" / "e.py").write_text("ADAPTER = 'rrg_core.f'\n")
        for n in "dfg":
            (p / f"{n}.py").write_text("")
        assert set(
            modules_reached(["from rrg_core.a import x"],
                            p)) == {f"rrg_core.{n}"
                                    for n in ("a", "b", "sub.c", "d", "sub", "sub.e", "f")}


def test_stale_reasons_name_the_part():
    with tempfile.TemporaryDirectory() as d:
        folder = Path(d)
        parts = {"cells": "1", "profile": "2"}
        assert stale_reasons(folder, parts) == ["never made"]
        (folder / "t.csv").write_text("a\n1\n")
        (folder / "manifest.json").write_text(
            json.dumps({"ingredients": parts, "outputs": {"t.csv": file_hash(folder / "t.csv")}}))
        assert stale_reasons(folder, parts) == []
        os.utime(folder / "t.csv")
        assert stale_reasons(folder, parts) == []
        assert stale_reasons(folder, parts | {"cells": "9"}) == ["cells changed"]
        assert stale_reasons(folder, {"cells": "1", "new": "3"}) == ["new is new", "profile is gone"]
        (folder / "t.csv").write_text("a\n2\n")
        assert stale_reasons(folder, parts) == ["t.csv was edited"]
        (folder / "t.csv").unlink()
        assert stale_reasons(folder, parts) == ["t.csv is missing"]
        (folder / "manifest.json").write_text("{half")
        assert stale_reasons(folder, parts) == ["never made"]


def test_ingredients_see_code_and_not_prose():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        root = Path(d)
        (root / "nbs").mkdir()
        shutil.copy(repo_root() / "settings.ini", root)
        repo_root.cache_clear()
        m.setenv("RRG_REPO", d)
        settings = (root / "settings.ini").read_text()
        (root / "settings.ini").write_text(settings[:settings.index("[chapters]")] +
                                           "[chapters]\ndemo =\n[roots]\nopeni =\n")

        def parts(md="prose", code="x = 1", out=()):
            cells = [
                dict(cell_type="markdown", id="a", metadata={}, source=md),
                dict(cell_type="code", id="b", metadata={}, source=code, outputs=list(out), execution_count=None)
            ]
            (root / "nbs" / "01_demo.ipynb").write_text(
                json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
            return ingredients("demo", profile("smoke"), {"profile": "smoke"}, root / "figures")

        base = parts()
        assert parts(md="other words") == base and parts(code="x = 1 # why") == base
        assert parts(out=[dict(output_type="stream", name="stdout", text="1")]) == base
        assert {k for k, v in parts(code="x = 2").items() if base[k] != v} == {"cells"}
        repo_root.cache_clear()
    repo_root.cache_clear()
