"""Exported from nbs/90c_artifacts.ipynb: edit it there, then run `nbdev-export`."""
import html, json, os, sys, time
from pathlib import Path
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from fastcore.basics import patch
from IPython import get_ipython
from IPython.display import HTML
from rrg_core.engine.files import Desk, atomic, file_hash, figures_root
from rrg_core.engine.settings import Profile
import json, tempfile
import pytest
from rrg_core.engine.artifacts import *


def test_kept_makes_once_and_again_when_the_key_changes():
    with tempfile.TemporaryDirectory() as d:
        desk, made, seen = Chapter("demo", "smoke", root=Path(d)), [], []

        def make():
            made.append(1)
            return pd.DataFrame({"a": [1 / 3, 2.], "b": ["x", "y"]})

        for key in ("one", "one", "two"):
            frame = desk.kept("slow", key, make)
            desk.write_csv(frame, "slow")
            seen.append(frame) # as `table` below does
            first = (Path(d) / "demo/slow.csv").read_bytes() if len(made) == 1 else first
        assert len(made) == 2 and (Path(d) / "demo/slow.csv").read_bytes() == first
        assert seen[0].equals(seen[1]) and seen[0].a[0] == .33333333 # made or loaded, it is the same table

        def stopped():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            desk.kept("slow", "three", stopped)
        other = lambda: pd.DataFrame({"a": [9.]})
        desk.kept("slow", "three", other) # killed here, before `table`:
        assert desk.kept("slow", "three", stopped).a.tolist() == [9.] # the key does not stand beside the old file
        os.environ["RRG_RETRAIN"] = "1"
        try:
            desk.kept("slow", "three", make)
        finally:
            del os.environ["RRG_RETRAIN"]
        assert len(made) == 3


def test_the_same_figure_gives_the_same_bytes():
    set_style()

    def draw(kind):
        fig, ax = plt.subplots()
        ax.plot([1, 3, 2])
        ax.set_title("Same")
        ax.fill_between([0, 1], [1, 2])
        with tempfile.TemporaryDirectory() as d:
            desk = Chapter("demo", "smoke", root=d)
            desk.figure(fig, "a", kind)
            return desk.path(f"a.{kind}").read_bytes()

    assert draw("svg") == draw("svg") and draw("png") == draw("png")


def test_a_column_has_one_number_of_decimals():
    frame = pd.DataFrame(
        {"f1": [1., .5, np.nan], "n": [1000., 2., np.nan], "mixed": ["all", 3, None], "ok": [True, False, True]})
    shown = show_table(frame, digits=2).data
    cells = [[c.strip() for c in row.split("<td>")[1:]] for row in shown.split("<tr>")[1:]]
    assert [[c.split("</td>")[0] for c in row] for row in cells if row] == [["1.00", "1,000", "all", "yes"],
                                                                            ["0.50", "2", "3", "no"],
                                                                            ["", "", "", "yes"]]


def test_table_keeps_numbers_and_escapes():
    frame = pd.DataFrame({"a|b": ["x|y", "<i>"], "n": [1234, 5], "v": [.123456789, np.nan]})
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_RECORD", str(Path(d) / "record"))
        desk = Chapter("demo", "smoke", root=d)
        shown = desk.table(frame, "t", "Caption & more").data
        back = pd.read_csv(desk.path("t.csv"))
        assert back.n.tolist() == [1234, 5] and back.v[0] == .12345679 and np.isnan(back.v[1])
        assert "&lt;i&gt;" in shown and "Caption &amp; more" in shown and "1,234" in desk.path("t.md").read_text()
        assert [json.loads(l) for l in open(Path(d) / "record")] == [["demo", "t.csv"], ["demo", "t.md"]]


def test_explore_is_static_in_a_batch():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_STATIC", "1")
        assert explore(lambda a, b, c: (a, b, c), a=(2, 9), b=["x", "y"], c=True) == (2, "x", True)
        assert explore(lambda a: a, a=[("one", 1), ("two", 2)]) == 1


def test_progress_passes_items_through_in_silence():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_STATIC", "1")
        assert list(progress(iter("abc"), "spelling", total=3)) == ["a", "b", "c"]
