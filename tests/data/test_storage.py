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
from rrg_core.engine.files import atomic, file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import OBSERVATIONS, SPLITS, Box, DataError, Image, Report, Sentence, Study, named, named_file
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


def test_several_reads_words_as_they_are_meant():
    SECTIONS = ("indication", "comparison", "findings", "impression")
    for value, out in [
        ("findings", ("findings", )), ("Findings", ("findings", )), (("FINDINGS", ), ("findings", )), ((), ()),
        (["findings", "impression"], ("findings", "impression")), ([" Impression "], ("impression", )),
        (("findings", "Findings"), ("findings", )), ({"comparison": 1}, ("comparison", )),
        (iter(["findings"]), ("findings", )), (SECTIONS, SECTIONS)
    ]:
        assert several("need", value, SECTIONS) == out, value
    for value in ("findngs", "", "findings impression", None, 3, True, (None, ), [["findings"]], ("findings", 3),
                  b"findings", float("nan")):
        with pytest.raises(DataError, match="load: need must be of indication, comparison, findings"):
            several("need", value, SECTIONS)


def test_one_of_takes_one_word():
    assert one_of("boxes", "given", ("given", "fused")) == "given"
    for value in ("Given", "", " given", None, 1, True, ["given"], ("given", ), np.array(["given"]), b"given",
                  "given, fused"):
        with pytest.raises(DataError, match="load: boxes must be of given, fused, got"):
            one_of("boxes", value, ("given", "fused"))


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


def test_errors_of_data_quote_no_report():
    from dataclasses import replace
    from rrg_core.data import bundled, load, mimic_cxr, mirror, openi, study as records, swap_sides
    from rrg_core.tools.house import quoting

    pixels = np.zeros((2, 2), np.uint8)
    good = Study("s1", "p1", "phantom", "train", images=[Image("i1", 2, 2, "PA", pixels=pixels)])
    other = replace(good, study_id="s2", split="test")
    sentence = Sentence("A text.", "findings")
    box = dict(label="heart", x0=0, y0=0, x1=1, y1=1)
    film = dict(image_id="i1", width=2, height=2)

    def changed(**fields): # a field assigned after the study was made
        study = replace(good)
        vars(study).update(fields)
        return Studies.of([study])

    def in_table(name, column): # a value in a column of MIMIC-CXR's tables
        def call(value):
            with tempfile.TemporaryDirectory() as d:
                root = mimic_cxr.fixture(Path(d))
                path = root / f"mimic-cxr-2.0.0-{name}.csv.gz"
                table = bundled.csv_table(path, dtype=str)
                table.assign(**{column: str(value)}).to_csv(path, index=False)
                mimic_cxr.load("train", root, say=lambda line: None)
        return call

    calls = {f"Box {k}": lambda x, k=k: Box(**box | {k: x} | ({"y1": -1} if k == "label" else {})) for k in box}
    calls |= {f"Image {k}": lambda x, k=k: Image(**film | {k: x}) for k in (
        "image_id", "width", "height", "view", "pixels", "photometric")}
    calls |= {f"Sentence {k}": lambda x, k=k: replace(sentence, **{k: x}) for k in (
        "section", "regions", "observation", "polarity", "severity")}
    calls |= {f"Report {k}": lambda x, k=k: Report(**{k: [x]}) for k in vars(Report())}
    calls |= {f"Study {k}": lambda x, k=k: replace(good, **{k: x}) for k in (
        "split", "images", "report", "labels", "regions", "boxes", "sentences")}
    calls |= {f"Study {k}": lambda x, k=k: replace(good, **{k: x, "split": "no"}) for k in (
        "study_id", "patient_id", "source", "site")}
    calls |= {f"assigned {k}": lambda x, k=k: changed(**{k: [x]}) for k in (
        "study_id", "patient_id", "site", "images")}
    calls |= {f"{name} {column}": in_table(name, column) for name, column in (
        ("split", "split"), ("metadata", "Rows"), ("chexpert", "Edema"), ("split", "study_id"))}
    calls |= {
        "a film": lambda x: Image("i", 2, 2, path=x).load(),
        "read_image": records.read_image,
        "to_uint8": lambda x: records.to_uint8(np.array([x], object)),
        "sections": lambda x: Report(findings="a").text(x),
        "reference": lambda x: replace(good, report=Report(findings="a")).reference(x),
        "leak": lambda x: records.check_splits([replace(s, patient_id=str(x)) for s in (good, other)]),
        "group": lambda x: records.check_splits([good, other], lambda s: str(x)),
        "source": lambda x: load(x, "train"),
        "split": lambda x: load("phantom", x),
        "mimic split": lambda x: mimic_cxr.load(x, "."),
        "mimic unit": lambda x: mimic_cxr.load("train", ".", unit=x),
        "mimic need": lambda x: mimic_cxr.load("train", ".", need=[x]),
        "mimic root": lambda x: mimic_cxr.load("train", x),
        "openi split": openi.load,
        "openi views": lambda x: openi.load("train", views=x),
        "openi need": lambda x: openi.load("train", need=[x]),
        "openi root": lambda x: openi.load("train", x),
        "split_of": openi.split_of,
        "a table": bundled.csv_table,
        "a bundled table": bundled.bundled_file,
        "an archive": lambda x: list(bundled.members(x)),
        "a zip": bundled.open_zip,
        "XML": bundled.iu_record,
        "XML's name": lambda x: bundled.iu_record(b"<a", x),
        "run lengths": bundled.siim_mask,
        "a row": lambda x: decode({"study_id": x}),
        "studies": lambda x: Studies.of([x]),
        "a file": Studies.read,
        "a stream": lambda x: next(iter(Studies.stream(x))),
        "an index": lambda x: Studies.of([good])[x],
        "jobs": lambda x: spread(abs, [1], x),
        "swap_sides": swap_sides,
        "mirror": mirror,
    }
    assert quoting(calls) == []
