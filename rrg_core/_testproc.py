"""Export `#| test name` cells to `tests/<package>/test_<module>.py` (by hand: nbdev needs it to export)."""
import ast
import re
from pathlib import Path
from textwrap import TextWrapper

import nbdev.maker
from nbdev.config import get_config
from nbdev.processors import Processor


def _narrower(width, **settings):
    "For the lines of `__all__`, whose first begins with that name: nbdev has no setting for their width."
    return TextWrapper(width=98, **settings)


nbdev.maker.TextWrapper = _narrower


class TestProc(Processor):
    "Collect a notebook's test cells while nbdev exports it, then write them as functions that pytest runs."
    __test__ = False

    def begin(self):
        self.tests, self.imports, self.module = {}, {}, None
        self.name = Path(self.nb.path_).name

    def _default_exp_(self, cell, name):
        self.module = name

    def _test_(self, cell, name):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"{self.name}: `#| test {name}` needs a lower-case name with underscores")
        if name in self.tests:
            raise ValueError(f"{self.name}: two test cells are named {name}")
        self.tests[name] = cell.source.strip("\n")

    def cell(self, cell):
        "Remember the imports of cells that hold nothing else: a test finds the names that its notebook has."
        if cell.cell_type == "code":
            self.imports |= dict.fromkeys(_only_imports(cell.source))

    def end(self):
        config = get_config()
        root = Path(config.config_path).resolve()
        if not self.module:
            if self.tests:
                raise ValueError(f"{self.name} has test cells but no `#| default_exp`")
            return
        target = root / test_file(self.module)
        if not self.tests:
            target.unlink(missing_ok=True)
            return
        source = Path(self.nb.path_).resolve().relative_to(root).as_posix()
        star = f"from {config.lib_path.name}.{self.module.removesuffix('.__init__')} import *"
        head = f'"""Exported from {source}: edit it there, then run `nbdev-export`."""\n'
        target.parent.mkdir(parents=True, exist_ok=True)
        functions = "".join(_function(n, s) for n, s in self.tests.items())
        target.write_text(head + "\n".join([*self.imports, star]) + "\n" + functions)


def test_file(module):
    "Where a module's tests go: `tests/` mirrors the packages; a package's own in `tests/data/test_data.py`."
    *packages, name = module.split(".")
    return Path("tests", *packages, f"test_{packages[-1] if name == '__init__' else name}.py")


def _only_imports(source):
    "The statements of a cell in which every statement is an import; nothing of any other cell."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    only = all(isinstance(b, (ast.Import, ast.ImportFrom)) for b in body)
    return [ast.unparse(b) for b in body] if only else []


def _function(name, source):
    body = "\n".join("    " + line if line.strip() else "" for line in source.splitlines())
    return f"\n\ndef test_{name}():\n{body}\n"
