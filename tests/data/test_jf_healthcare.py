"""Exported from nbs/01p_jf_healthcare.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Iterator
from pathlib import Path
import numpy as np
import pandas as pd
from PIL import Image as PILImage, ImageDraw
from rrg_core.data.raw import FAULTS, NoSplit, differing, files_under, film, filled, from_folder, how_to_fetch, look_at, opened, prepare_folder, refuse, table_of
from rrg_core.data.storage import Studies, one_of
from rrg_core.data.study import Box, DataError, Study, named
import pytest, tempfile
import matplotlib.pyplot as plt
from rrg_core.data.study import SPLITS
from rrg_core.data.jf_healthcare import *


def test_a_cell_is_read_as_shapes():
    assert shapes_of(None) == shapes_of(float("nan")) == shapes_of("") == shapes_of("  ") == shapes_of(";") == []
    one, two, three = shapes_of("0 1 2 3 4; 1 10 20 30.5 40 ;2 0 0 4 0 4 3")
    assert one == {"shape": "rectangle", "points": [[1, 2], [3, 4]]} and two["points"] == [[10, 20], [30.5, 40]]
    assert three == {"shape": "polygon", "points": [[0, 0], [4, 0], [4, 3]]}
    assert box_of(two) == Box("foreign object", 10, 20, 30.5, 40) and box_of(three).xyxy == (0, 0, 4, 3)
    assert mask(shapes_of("0 1 1 3 4")[0], 6, 6).sum() == 12 # 3 × 4, edges included
    assert abs(mask(shapes_of("1 0 0 100 60")[0], 120, 90).mean() * 120 * 90 / (np.pi * 50 * 30) - 1) < .05
    assert mask(shapes_of("2 0 0 40 0 0 40")[0], 50, 50)[5, 5] and not mask(
        shapes_of("2 0 0 40 0 0 40")[0], 50, 50)[35, 35] # a triangle and the corner that it leaves free


def test_a_cell_that_is_no_shape_is_named():
    rows = [ # the cell → what the error says
        ("3 1 2 3 4", "object 1 must begin with 0, 1 or 2, got '3'"), ("0", "object 1 is of four numbers"),
        ("0 1 2 3", "object 1 is of four numbers as rectangle, got 3"), ("1 1 2 3 4 5 6", "ellipse, got 6"),
        ("2 1 2 3 4", "polygon of 4 numbers"), ("2 1 2 3 4 5 6 7", "polygon of 7 numbers"),
        ("0 3 2 1 4", "x1 < x2 and y1 < y2"), ("0 1 4 3 2", "x1 < x2 and y1 < y2"), ("1 5 5 5 9", "x1 < x2"),
        ("2 1 1 5 1 9 1", "has no area"), ("2 4 1 4 2 4 9", "has no area"),
        ("0 1 2 3 x", "numbers alone, got 'x'"), ("0 1 2 3 nan", "numbers alone"), ("0 1 2 3 inf", "numbers"),
        ("0 1,2 3 4", "numbers alone"), ("0 １ 2 3 4", "numbers alone"), ("0 1e3 2 3 4", "numbers alone"),
        ("0 1 2 3 4|1 1 2 3 4", "numbers"), ("0 1 2 3 4;;1 1 2 3 4", "object 2 is empty"),
        (";0 1 2 3 4", "object 1 is empty"), ("button", "must begin with 0, 1 or 2, got 'button'"),
        ("0.0 1 2 3 4", "must begin"), ("-1 1 2 3 4", "must begin"), (7, "must be text"),
        (["0 1 2 3 4"], "must be text")
    ]
    for cell, message in rows:
        with pytest.raises(DataError) as e:
            shapes_of(cell, "train.csv record 7")
        assert str(e.value).startswith("train.csv record 7: annotation") and message in str(e.value), cell


def test_jf_studies_are_right():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d) / "raw")
        train, valid = load("train", root), load("valid", root)
        assert [s.study_id for s in train] == ["00001", "00002", "00003", "00004", "00005"]
        assert [len(s.boxes) for s in train] == [0, 1, 3, 1, 1] and train.counts == {"images": 5, "kept": 5}
        assert [s.meta["foreign object"] for s in train] == [0, 1, 1, 1, 1]
        s = train[2]
        assert [b.xyxy for b in s.boxes] == [(5, 5, 15, 11), (1, 1, 4, 4), (10, 20, 18, 28)]
        assert {b.label for b in s.boxes} == {"foreign object"} and s.labels == {} and s.report is None
        assert [x["shape"] for x in s.meta["shapes"]] == ["ellipse", "rectangle", "polygon"]
        assert (s.patient_id, s.source, s.split, s.images[0].view) == ("00003", "jf-healthcare", "train", "PA")
        assert s.meta["evidence"] == {"00003": "set"}
        assert s.images[0].load().shape == (32, 24) and train[4].boxes[0].xyxy == (0, 0, 24, 32)
        assert [s.study_id for s in valid] == ["08001", "08002"] and valid[1].boxes[0].x0 == 6.5
        assert valid[1].split == "valid"
        with pytest.raises(NoSplit, match="test.csv is missing.*did not publish"):
            load("test", root)
        (root / "dev.csv").rename(root / "elsewhere.csv")
        with pytest.raises(NoSplit, match="dev.csv is missing: `python data_scripts/jf_healthcare.py fetch`"):
            load("valid", root)
        assert len(load("test", fixture(Path(d) / "with", test=True))) == 1
        flat = fixture(Path(d) / "flat")
        for film_ in [*(flat / "train").iterdir(), *(flat / "dev").iterdir()]:
            film_.rename(flat / film_.name)
        for split in ("train", "dev"):
            (flat / split).rmdir()
        same = lambda a, b: [s.boxes for s in load(a, b)] == [s.boxes for s in load(a, fixture(Path(d) / "raw"))]
        assert same("train", flat) and same("valid", flat)


def test_jf_names_what_is_wrong():
    def refused(change=None, table="train", remove="", split="train", **options):
        "The error of loading a miniature that was changed."
        with tempfile.TemporaryDirectory() as d:
            root = fixture(Path(d))
            for path in root.rglob(remove or "no such file"): path.unlink()
            if change:
                path = root / f"{table}.csv"
                change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
            with pytest.raises((DataError, ValueError)) as e:
                list(load(split, root, **options))
            assert "\n" not in str(e.value)
            return str(e.value)

    one = lambda column, value, k=0: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    rows = [
        (one("image_name", "00002.jpg", 4), "train.csv record 5: image_name is duplicated"),
        (one("image_name", "", 1), "train.csv record 2: image_name is missing"),
        (one("image_name", "00001.tiff"), "record 1: image_name must be the name of a .jpg or .png file"),
        (one("image_name", "00001"), "record 1: image_name must be"), (one("image_name", ".."), "must be the"),
        (one("image_name", "a b.jpg"), "record 1: image_name must be the name"),
        (one("image_name", "00009.jpg", 2), "record 3: image_name names an image that is missing"),
        (lambda t: t.drop(columns="annotation"), "column 'annotation' is missing"),
        (lambda t: t.drop(columns="image_name"), "column 'image_path' is missing"),
        (lambda t: t.iloc[:0], "train.csv: table holds no record"),
        (one("annotation", "0 2 3 25 20", 1), "record 2: annotation, object 1 leaves its image of 24 × 32"),
        (one("annotation", "0 2 3 12 33", 1), "leaves its image"),
        (one("annotation", "0 -1 3 12 20", 1), "leaves its image"),
        (one("annotation", "0 1 1 2 2;2 0 0 5 0 5 40", 3), "record 4: annotation, object 2 leaves its image"),
        (one("annotation", "0 12 3 2 20", 1), "record 2: annotation, object 1 has its second corner left of"),
        (one("annotation", "foreign object", 1), "record 2: annotation, object 1 must begin with 0, 1 or 2"),
    ]
    for change, message in rows:
        assert message in refused(change), message
    assert "dev.csv record 1: image_path names an image that lies in another split" in refused(
        one("image_path", "/dev/00003.jpg"), "dev")
    assert "images are missing, all 5 of this split" in refused(remove="000*.jpg", damaged="skip")
    for options, message in ((dict(boxes="skip"), "boxes must be of error, clip, got 'skip'"),
                             (dict(damaged="ignore"), "damaged must be of error, skip, got 'ignore'"),
                             (dict(split="dev"), "split must be one of train, valid, test, got 'dev'"),
                             (dict(boxes=None), "boxes must be of error, clip, got None")):
        assert message in refused(**options), message
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        (root / "train" / "00002.jpg").write_text("no image")
        (root / "train" / "00003.jpg").unlink()
        with pytest.raises(DataError, match="record 2: image_name names an image that is damaged or no image"):
            load("train", root)
        left = load("train", root, damaged="skip")
        assert left.counts == {"images": 3, "damaged images": 1, "missing images": 1, "kept": 3}
        table = pd.read_csv(root / "train.csv", dtype=str)
        table.annotation = ["0 -5 -5 10 10;0 30 1 40 5", *table.annotation[1:]]
        table.to_csv(root / "train.csv", index=False)
        cut = load("train", root, boxes="clip", damaged="skip")
        assert cut[0].boxes == [Box("foreign object", 0, 0, 10, 10)] and cut[0].meta["foreign object"] == 1
        assert cut.counts["clipped boxes"] == 1 and cut.counts["boxes outside of the image"] == 1


def test_jf_prepared_folder_gives_the_same_studies():
    from rrg_core.engine.settings import CourseError

    with tempfile.TemporaryDirectory() as d:
        root, out = fixture(Path(d) / "raw"), Path(d) / "out"
        raw = {s: load(s, root) for s in ("train", "valid")}
        note = prepare(root, out)
        (Path(d) / "raw").rename(Path(d) / "elsewhere")
        for split, studies in raw.items():
            again = load(split, out)
            assert list(again) == list(studies) == list(load(split, out, stream=True))
            assert again.counts == studies.counts and note["splits"][split]["studies"] == len(studies)
        with pytest.raises(NoSplit, match="without a test split"):
            load("test", out)
        with pytest.raises(CourseError, match="boxes = 'error'"):
            load("train", out, boxes="clip")


def test_jf_verify_reads_everything():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        (root / "dev" / "08002.jpg").unlink()
        film_ = root / "train" / "00004.jpg"
        film_.write_bytes(film_.read_bytes()[:-300]) # the header is whole
        counts, wrong = verify(root)
        assert counts == {"train images": 5, "train with objects": 4, "train objects": 6, "valid images": 2,
                          "valid with objects": 1, "valid objects": 1, "images listed": 7, "images missing": 1,
                          "images damaged": 1}
        assert wrong == ["train images: 5 here, 8,000 published", "train with objects: 4 here, 4,000 published",
                         "valid images: 2 here, 1,000 published", "valid with objects: 1 here, 500 published",
                         "train.csv record 4: damaged", "dev.csv record 2: missing"]


def test_jf_errors_quote_nothing():
    from rrg_core.tools.house import quoting

    def in_table(column):
        def call(value):
            with tempfile.TemporaryDirectory() as d:
                root = fixture(Path(d))
                table = pd.read_csv(root / "train.csv", dtype=str)
                table.assign(**{column: str(value)}).to_csv(root / "train.csv", index=False)
                load("train", root)
        return call

    calls = {column: in_table(column) for column in ("image_name", "annotation")}
    calls |= {"a cell": shapes_of, "split": load, "root": lambda x: load("train", x),
              "boxes": lambda x: load("train", ".", boxes=x), "damaged": lambda x: load("train", ".", damaged=x)}
    assert quoting(calls) == []
