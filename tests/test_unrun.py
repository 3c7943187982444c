"""What no check runs, the browser's tests and the timings, names modules and functions that there are."""
import ast
import importlib

import pytest

from rrg_core.engine.settings import repo_root

TESTS = repo_root() / "tests"
FILES = sorted(f for folder in ("browser", "benchmarks") for f in (TESTS / folder).glob("*.py"))

def named_in(source):
    "Module and name (None for the module itself) of each import of the course's own, wherever it stands."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.partition(".")[0] == "rrg_core":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, None) for a in node.names if a.name.partition(".")[0] == "rrg_core")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "rrg_core" in node.value:
            try: yield from named_in(node.value) # a program that the test hands on, or a cell
            except SyntaxError: pass # prose

def lost(source):
    "The imports of a file that fail."
    for module, name in named_in(source):
        try:
            found = importlib.import_module(module)
            if name and not hasattr(found, name): importlib.import_module(f"{module}.{name}")
        except ModuleNotFoundError as e: yield e.name

@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_what_is_imported_is_there(file):
    assert list(lost(file.read_text())) == []

def test_what_is_lost_is_found():
    assert {f.name for f in FILES} >= {"test_jupyterlab.py", "test_demo.py", "test_start.py"}
    assert list(lost("from rrg_core.tools import guard\nimport rrg_core.tools.guard, numpy")) == []
    source = ("import rrg_core.gone\nfrom rrg_core.engine.run import nothing, notebook_of\n"
              "def late():\n    from rrg_core.lost import x\ncell = 'from rrg_core.chex import MAIN, MINE'\n")
    assert sorted(lost(source)) == ["rrg_core.chex.MINE", "rrg_core.engine.run.nothing", "rrg_core.gone", "rrg_core.lost"]
