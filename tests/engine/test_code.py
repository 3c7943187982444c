"""Exported from nbs/90c_code.ipynb: edit it there, then run `nbdev-export`."""
import ast, inspect, json, symtable, sys, textwrap
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from rrg_core.engine.files import file_hash
from rrg_core.engine.settings import CourseError, Profile, data_root, package_root
from rrg_core.engine.code import *


def test_what_does_not_count():
    same = ["def f(x): return x + 1", "def f(x:int)->int:\n    'Doc.'\n    return x+1  # "
                                      "why", "def f(x): return (x + 1)",
            "def f(x):\n    import os\n    return x + 1"]
    assert len({plain(ast.parse(s)) for s in same}) == 1
    raises = ["def f(x):\n    raise ValueError('a')", "def f(x):\n    raise ValueError(f'b {x}')",
              "def f(x):\n    'D'\n    raise ValueError('a' 'b')"]
    assert len({plain(ast.parse(s)) for s in raises}) == 1
    base = plain(ast.parse("def f(x, y=1): return x + y"))
    for other in ("def f(x, y=2): return x + y", "def f(y, x=1): return x + "
                                                 "y", "def f(x, y=1): return x - "
                                                      "y", "def g(x, y=1): return x + y",
                  "@cache\ndef f(x, y=1): return x + y", "def f(x, y=1):\n    raise "
                                                         "TypeError('x')", "def f(x, y='1'): return x + y",
                  "async def f(x, y=1): return x + y", "def f(x, *, y=1): return x + y"):
        assert plain(ast.parse(other)) != base, other
    assert plain(ast.parse("raise A('x')")) != plain(ast.parse("raise B('x')"))


def test_what_is_reached_decides():
    import tempfile
    from pathlib import Path

    FILES = {"__init__.py": "__version__ = '1'\n", "nets/__init__.py": "", "words/a.txt": "a", "words/b.txt": "b",
        "nets/layers.py": "from ..data import load\nWIDTH = 2\nclass Base:\n    def go(self): return "
                          "WIDTH\nclass Net(Base):\n    'Doc.'\n    x = 1\n",
        "nets/more.py": "from fastcore.basics import patch\nfrom .layers import Base\n@patch\ndef "
                        "extra(self:Base): return 5\n",
        "data.py": "Registry = dict\nSOURCES:Registry = {'a': 'rrg_core.one', 'b': 'rrg_core.two'}\ndef load(k): "
                   "return SOURCES[k]\n",
        "one.py": "def load(): return 1\ndef other(): return 3\n", "two.py": "def load(): return 2\n",
        "scores.py": "def f1(): return 1\n",
        "chapter.py": "from .nets.layers import Net\nfrom . import scores\nfrom .nets import layers as L\nfrom "
                      ".data import load\nfrom pathlib import Path\n"
            "TABLE = {'k': 1}\ndef train():\n    from .one import other\n    open(Path('words')/'a.txt')\n    "
            "raise ValueError('words')\n    return Net(), load('a'), TABLE, L.WIDTH, other()\n"
            "def decode(): return train(), 1\ndef score(): return scores.f1()\n"}

    def key_of(name, edit=None, texts=("a",)):
        with tempfile.TemporaryDirectory() as d:
            for f, s in (FILES | (edit or {})).items():
                (Path(d)/f).parent.mkdir(exist_ok=True)
                (Path(d)/f).write_text(s)
            return Code(d).reach([("rrg_core.chapter", name)], texts).key

    def edited(file, old, new): return {file: FILES[file].replace(old, new)}

    train, decode, score = (key_of(n) for n in ("train", "decode", "score"))
    same = [{"__init__.py": "__version__ = '2'\n"},
            edited("nets/layers.py", "Doc", "Document"),
            edited("chapter.py", "'words')\n    return", "'other words')\n    return"),
            edited("data.py", "'b':", "'c': 'rrg_core.three', 'b':"), {"two.py": "def load(): return 22\n"},
            edited("scores.py", "1", "2"),
            edited("chapter.py", "return train(), 1", "return train(), 2"),
            edited("data.py", "def load(k)", "def load(k:str)->str"), {"new.py": "x = 1\n"}]
    for e in same: assert key_of("train", e) == train, e
    other = [
        edited("nets/layers.py", "WIDTH = 2", "WIDTH = 3"),
        edited("nets/layers.py", "return WIDTH", "return -WIDTH"),
        edited("nets/more.py", "5", "6"),
        edited("one.py", "return 1", "return 11"),
        edited("one.py", "return 3", "return 4"), {"words/a.txt": "aa"}, {"words/b.txt": "bb"},
        edited("chapter.py", "'k': 1", "'k': 2"),
        edited("nets/layers.py", "x = 1", "x = 2"),
        edited("data.py", "SOURCES[k]", "SOURCES.get(k)"),
        edited("data.py", "'a': 'rrg_core.one'", "'a': 'rrg_core.two'")
    ]
    for e in other: assert key_of("train", e) != train, e
    assert key_of("score", edited("scores.py", "1", "2")) != score and key_of(
        "decode", edited("chapter.py", "return train(), 1", "return train(), 2")) != decode
    assert key_of("train", {"two.py": "def load(): return 22\n"}, ("a", "b")) != key_of("train", texts=("a", "b"))
    moved = {f: s
             for f, s in FILES.items() if f != "scores.py"} | {
                 "chapter.py": FILES["chapter.py"].replace("from . import scores", "from .nets import scores"),
                 "nets/scores.py": FILES["scores.py"]
             }
    assert key_of("score", moved) == score # a definition that moves is the same definition


def test_a_page_s_function_counts_by_its_text():
    import sys, types
    from rrg_core.engine.code import reach_of

    page = types.ModuleType("a_page")
    sys.modules["a_page"] = page
    import linecache

    def cell(name, source): # as a notebook keeps a cell's text
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        exec(compile(source, name, "exec"), vars(page))

    cell("<c1>", "from rrg_core.engine.desk import show_table\nFACTOR = 3\ndef inner(x): return x*FACTOR\n")
    cell("<c2>", "def outer(x): return inner(x), show_table\n")
    before = reach_of(page.outer)
    reached = {"page.outer", "page.inner", "page.inner.FACTOR", "rrg_core.shown.show_table"}
    assert reached <= set(before.hashes)
    page.FACTOR = 4
    assert reach_of(page.outer).key != before.key
    page.FACTOR = 3
    cell("<c3>", "def inner(x):\n    'The same.'\n    return x * FACTOR\n")
    assert reach_of(page.outer).key == before.key
    cell("<c4>", "def inner(x): return x + FACTOR\n")
    assert reach_of(page.outer).key != before.key

    from functools import partial # plain values that a `partial` was given are settings

    keys = {
        reach_of(f).key
        for f in (page.outer, partial(page.outer, 1), partial(page.outer, 2), partial(page.outer, x=1),
                  partial(page.outer, x=[1]), partial(partial(page.outer, 1), y=2))
    }
    assert len(keys) == 6 and reach_of(partial(page.outer, 1)).key == reach_of(partial(page.outer, 1)).key
    page.k = 7 # what a loop of the page left behind counts where a function reads it, not where it has its own
    own = ["(k): return k", "(*k): return k", "():\n    k = 1\n    return k", "(): return [k for k in (1, 2)]",
           "():\n    for k in (1, 2): pass\n    return k", "(x): return x.k", "(x): return dict(k=x)",
           "():\n    with open('x') as k: return k", "(): return (lambda k: k)(1)", "(): return (k := 1)",
           "():\n    try: return 1\n    except ValueError as k: raise",
           "():\n    def k(): return 1\n    return k()"]
    read = ["(): return k", "(x=k): return x", "(): return [k for _ in (1, 2)]", "(): return (lambda k: k)(k)",
            "(): return [k for k in (1, 2)] + [k]", "():\n    def inner(): return k\n    return inner",
            "():\n    def inner(k): return k\n    return inner(k)", "(x): return x[k]", "(x): return f'{k}'",
            "():\n    global k\n    k = k + 1", "():\n    class C: x = k\n    return C"]
    for i, body in enumerate(own + read):
        cell(f"<own {i}>", f"def g{body}\n")
        assert ("page.g.k" in reach_of(page.g).hashes) == (body in read), body
