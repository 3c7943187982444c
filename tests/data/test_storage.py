"""Exported from nbs/01f_storage.ipynb: edit it there, then run `nbdev-export`."""
import json, os, tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
import numpy as np
from fastcore.basics import patch
from PIL import Image as PILImage, UnidentifiedImageError
from rrg_core.engine.desk import atomic, file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import OBSERVATIONS, SPLITS, Box, DataError, Image, Report, Sentence, Study, named
import pytest
from dataclasses import replace
from rrg_core.data.storage import *


def test_storage_gives_back_what_went_in():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6), dtype=np.uint8)
    full = Study("s1", "p1", "phantom", "valid", [
        Image("i1", 6, 8, "AP", pixels=pixels),
        Image("i2", 30, 40, "LATERAL", "x/y.png", photometric="MONOCHROME1")
    ], Report("pain", "none", "Näht.\n2nd line", "",
              "de"), {"Edema": -1, "Fracture": 0}, {"carina": Box("carina", 1, 2, 3, 4)},
                 [Box("mass", 0, 0, 6, 8), Box("mass", 0.5, 0, 1, 1)], [
                     Sentence("No edema.", "findings", ("left lung", "right lung"), "Edema", 0, .25),
                     Sentence("Ok.", "impression")
                 ], "site A", {"age": 7, "tags": ["a,b"]})
    bare = Study("s2", "p1", "phantom", "valid")
    with tempfile.TemporaryDirectory() as d:
        studies = Studies.of([full, bare], Path(d) / "a.arrow")
        studies.write(Path(d) / "a.parquet")
        for got in (list(studies), list(Studies.stream(Path(d) / "a.parquet")),
                    list(Studies.read(Path(d) / "a.parquet",
                                      Path(d) / "cache")), list(Studies.read(Path(d) / "a.parquet"))):
            assert got == [full, bare] and (got[0].images[0].load()
                                            == pixels).all() and got[1].report is None and got[1].labels == {}
        assert studies[-1] == bare and len(
            studies[:1]) == 1 and studies[::-1][0] == bare and studies.column("study_id") == ["s1", "s2"]
        with pytest.raises(IndexError):
            studies[2]


def test_a_duplicated_id_and_a_missing_column_are_named():
    s = Study("s1", "p1", "phantom", "train")
    with pytest.raises(DataError, match="'s1'.*duplicated"):
        Studies.of([s, s])
    with tempfile.TemporaryDirectory() as d:
        with pytest.raises(DataError, match="'s1'.*duplicated"):
            Studies.write([s, s], Path(d) / "a.parquet")
        assert not list(Path(d).iterdir())
        with pytest.raises(CourseError, match="absent.parquet"):
            next(Studies.stream(Path(d) / "absent.parquet"))
    row = encode(s)
    del row["images"]
    with pytest.raises(DataError, match="'s1'.*'images'.*missing"):
        decode(row)
    row = encode(replace(s, images=[Image("i1", 9, 9, pixels=np.zeros((9, 9), np.uint8))]))
    whole = row["images"][0]["png"]
    for png in (b"", b"no image", whole[:20], whole[:-30], whole[:40] + bytes(9) + whole[49:]):
        row["images"][0]["png"] = png
        with pytest.raises(DataError, match="'i1': png is damaged"):
            decode(row)
    with tempfile.TemporaryDirectory() as d: # a split may be empty
        none = Studies.of([])
        none.write(Path(d) / "none.parquet")
        for empty in (none, Studies.read(Path(d) / "none.parquet"), Studies.stream(Path(d) / "none.parquet")):
            assert list(empty) == []


def test_a_prepared_folder_is_used_only_as_it_was_made():
    one = Study("s1", "p1", "phantom", "train", report=Report(findings="a"))
    with tempfile.TemporaryDirectory() as d:
        folder, options = Path(d), {"need": ("findings", ), "views": "all"}
        assert prepared(folder, "phantom", "train", options) is None and prepared(
            None, "phantom", "train", options) is None
        note = write_prepared(folder, "phantom", options, lambda split:
                              ([replace(one, split=split)], {"kept": 1}))
        before = file_hash(folder / PREPARED)
        assert write_prepared(folder, "phantom", options, lambda split:
                              ([replace(one, split=split)], {"kept": 1})) == note and file_hash(
                                  folder / PREPARED) == before # the same data: the same version
        entry = prepared(folder, "phantom", "valid", options)
        assert entry["studies"] == 1 and entry["counts"] == {
            "kept": 1
        } and read_prepared(entry)[0].split == "valid" and next(read_prepared(entry,
                                                                              stream=True)).split == "valid"
        for source, asked, message in (("openi", options, "prepared for phantom"),
                                       ("phantom", options | {"views": "pair"}, "views = 'all'"), ("phantom", {
                                           "unit": "image"
                                       }, "unit = None")):
            with pytest.raises(CourseError, match=message):
                prepared(folder, source, "valid", asked)
        (folder / "valid.parquet").write_bytes(b"rot")
        with pytest.raises(CourseError, match="valid.parquet.*again"):
            prepared(folder, "phantom", "valid", options)
        assert prepared(folder, "phantom", "test", options) # another split is not concerned

        def breaks(split):
            if split == "test": raise CourseError("the line broke")
            return [replace(one, split=split)], {}

        with pytest.raises(CourseError, match="broke"):
            write_prepared(folder, "phantom", options, breaks)
        assert prepared(folder, "phantom", "train", options) is None # half-made is not made


def test_spread_keeps_order_and_errors():
    assert spread(abs, list(range(-500, 0)), 2, "counting") == list(range(500, 0, -1)) == spread(
        abs, list(range(-500, 0)))
    assert spread(abs, [], 2) == [] and spread(abs, [-1], 2) == [1]
    with pytest.raises(TypeError):
        spread(abs, [1, "a", 2], 2)
    with pytest.raises(ValueError, match="0"):
        spread(abs, [1], 0)
