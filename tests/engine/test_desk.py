"""Exported from nbs/90b_desk.ipynb: edit it there, then run `nbdev-export`."""
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from rrg_core.engine.files import ENTRUSTED, NOT_TO_BE_HANDED_ON, UNHASHED, atomic, entrust, file_hash, is_tracked, vouched
from rrg_core.engine.settings import CourseError, Profile, chapters, figures_root, profile as load_profile
from rrg_core.shown import _formatted, explore, is_static, is_watched, progress, set_style, show_table
from rrg_core.engine.desk import *


def test_tables_and_figures_are_the_same_bytes_every_time():
    import tempfile
    import matplotlib.pyplot as plt
    import pandas as pd
    import pytest
    from rrg_core.engine.desk import WRITTEN

    frame = pd.DataFrame({"a": [1., 2.], "b": [.123456789012, 1e-9], "c": ["x|y", None]})
    WRITTEN.pop("fita", None) # of what ran before in this process
    with tempfile.TemporaryDirectory() as d:
        desk = Chapter("fita", "smoke", root=d)
        before = None
        for _ in range(2):
            desk.table(frame, "t", "Caption.")
            fig, ax = plt.subplots()
            ax.plot([1, 2])
            desk.figure(fig, "f")
            made = {f.name: f.read_bytes() for f in desk.folder.iterdir()}
            assert before in (None, made)
            before = made
        assert (desk.folder/"t.csv").read_text() == "a,b,c\n1,0.12345679,x|y\n2,1e-09,\n"
        text = (desk.folder/"t.md").read_text()
        assert "| x\\|y |" in text and "rrg regenerate fita --profile smoke" in text
        assert list(WRITTEN["fita"]) == ["t.csv", "t.md", "f.svg"] and b"<dc:date>" not in made["f.svg"]
        with pytest.raises(ValueError, match="outside"): desk.path("../x")
        with pytest.raises(ValueError, match="svg or png"): desk.figure(fig, "f", "jpg")
