"""Exported from nbs/01a_study.ipynb: edit it there, then run `nbdev-export`."""
import json, math, os, re, warnings
from collections import Counter
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
import numpy as np
from fastcore.basics import patch
from PIL import Image as PILImage, UnidentifiedImageError
from rrg_core.engine.code import for_readers
from rrg_core.engine.settings import CourseError
import pytest, tempfile
from dataclasses import replace
from rrg_core.data.study import *


def test_box_refuses_what_is_no_rectangle():
    for wrong in [(5, 0, 5, 1), (5, 0, 4, 1), (0, 2, 1, 2), (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1),
                  (None, 0, 1, 1), ("0", 0, 1, 1), (True, 0, 3, 3)]:
        with pytest.raises(DataError, match="heart"):
            Box("heart", *wrong)
    with pytest.raises(ValueError, match="label"):
        Box("", 0, 0, 1, 1)
    with pytest.raises(ValueError, match="label"):
        Box(float("nan"), 0, 0, 1, 1)
    assert Box("a", np.int64(0), np.float32(0), 2, 3).xyxy == (0, 0, 2, 3)


def test_box_geometry():
    b = Box("heart", 10, 20, 40, 80)
    assert (b.width, b.height, b.center, b.area) == (30, 60, (25, 50), 1800)
    assert b.mirrored(100).xyxy == (60, 20, 90, 80) and b.mirrored(100).mirrored(100) == b
    assert b.clipped(30, 50).xyxy == (10, 20, 30, 50) and b.clipped(10, 100) is None and b.clipped(100, 100) == b


def test_image_files_that_are_not_what_they_say():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        pixels = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
        PILImage.fromarray(pixels).save(d / "good.png")
        data = (d / "good.png").read_bytes()
        (d / "cut.png").write_bytes(data[:len(data) // 2])
        (d / "text.png").write_text("no picture")
        (d / "empty.png").write_bytes(b"")
        assert (read_image(d / "good.png") == pixels).all()
        for name in ("cut", "text", "empty", "absent"):
            with pytest.raises(DataError, match=f"{name}.png"):
                read_image(d / f"{name}.png")
        assert (Image("a", 30, 40, "PA", d / "good.png").load() == pixels).all()
        with pytest.raises(DataError, match="shape"):
            Image("a", 40, 30, "PA", d / "good.png").load()
        with pytest.raises(DataError, match="no picture"):
            Image("a", 40, 30, "PA").load()


def test_image_depth_and_inversion():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        deep = np.array([[100, 1124], [2148, 4195]], np.uint16)
        grey = np.array([[0, 64], [128, 255]], np.uint8)
        PILImage.fromarray(deep).save(d / "deep.png")
        PILImage.fromarray(grey).save(d / "grey.png")
        PILImage.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)])).save(d / "rgba.png")
        assert read_image(d / "deep.png").tolist() == [[0, 64], [128, 255]] # (v - 100)/4095*255, rounded
        for kind in ("MONOCHROME1", "monochrome1", "Monochrome1", " MONOCHROME1 "): # DICOM pads with a space
            assert read_image(d / "deep.png", kind).tolist() == [[255, 191], [127, 0]]
            image = Image("i", 2, 2, "PA", d / "deep.png", photometric=kind)
            assert image.load().tolist() == [[255, 191], [127, 0]] and image.photometric == "MONOCHROME1"
        for kind in ("MONOCHROME", "RGB", "", None, 1, b"MONOCHROME1", ["MONOCHROME1"]):
            for call in (lambda: read_image(d / "deep.png", kind),
                         lambda: Image("i", 2, 2, "PA", d / "deep.png", photometric=kind)):
                with pytest.raises(DataError, match="photometric .* is unknown"):
                    call()
        assert (read_image(d / "rgba.png") == grey).all() and (read_image(d / "grey.png") == grey).all()
    assert to_uint8(np.full((2, 2), 7, np.uint16)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="finite"):
        to_uint8(np.array([[np.nan, 1.]]))


def test_pixels_that_are_no_numbers_name_their_file():
    with tempfile.TemporaryDirectory() as d:
        for value in (np.nan, np.inf, -np.inf):
            for place in ((0, 0), (3, 1), ...): # the first pixel, one inside, all of them
                for name, kind in (("a.tif", "TIFF"), ("b.png", "TIFF"), ("c.pfm", "PPM")):
                    pixels = np.arange(20, dtype=np.float32).reshape(5, 4)
                    pixels[place] = value
                    PILImage.fromarray(pixels).save(path := Path(d) / name, kind)
                    for read in (lambda: read_image(path), lambda: read_image(str(path), "MONOCHROME1"),
                                 Image("i", 4, 5, "PA", path).load):
                        with pytest.raises(DataError, match=f"{name}: pixels must be finite"):
                            read()
        PILImage.fromarray(np.float32([[-1, 0], [0, 4]])).save(Path(d) / "good.tif")
        assert read_image(Path(d) / "good.tif").tolist() == [[0, 51], [51, 255]]


def test_study_refuses_each_bad_input():
    good = dict(study_id="s1",
                patient_id="p1",
                source="phantom",
                split="train",
                images=[Image("i1", 100, 80, "PA")],
                boxes=[Box("mass", 0, 0, 100, 80)])
    Study(**good)
    bad = [(dict(split="val"), "split"), (dict(labels={"Effusion": 1}), "label"),
           (dict(labels={"Edema": float("nan")}), "Edema"), (dict(labels={"Edema": 2}), "Edema"),
           (dict(boxes=[Box("mass", 0, 0, 101, 80)]), r"boxes\[0\].*outside"),
           (dict(boxes=[Box("mass", -1, 0, 10, 80)]), "outside"), (dict(images=[]), "no image"),
           (dict(regions={"heart": Box("heart", 0, 0, 1, 1)}), "region"),
           (dict(images=[Image("i1", 100, 80)] * 2), "2 times"), (dict(meta={"a": {1, 2}}), "meta"),
           (dict(study_id=""), "study_id"), (dict(patient_id=7), "patient_id"), (dict(report="text"), "report"),
           (dict(sentences=["text"]), "sentences"), (dict(meta={"a": float("nan")}), "meta")]
    for change, message in bad:
        with pytest.raises(DataError, match=message) as e:
            Study(**good | change)
        assert str(e.value).startswith("study 's1'") or "study_id" in change
    for wrong in (dict(findings=None), dict(findings=float("nan"))):
        with pytest.raises(DataError, match="findings"):
            Report(**wrong)


def test_text_never_shows_itself():
    for value, expected in ((None, "None"), (float("nan"), "nan"), (np.nan, "nan"), (b"secret", "a bytes of 6"),
                            (["secret"], "a list of 1"), ({"secret": 1}, "a dict of 1"), (7, "an int"),
                            ("secret", "a text of 6 characters"), (np.array(["secret"] * 2), "a ndarray of 2"),
                            (("secret", ), "a tuple of 1"), (np.array("secret"), "a ndarray")):
        assert without_text(value) == expected
        if not isinstance(value, str):
            with pytest.raises(DataError, match=f"findings must be text, got .*{expected}$"):
                Report(findings=value)
    secret = "invented secret words"
    study = Study("s1",
                  "p1",
                  "mimic-cxr",
                  "train",
                  report=Report(findings=secret),
                  sentences=[Sentence(secret, "findings")])
    assert "secret" not in repr(study) + str(study) + repr(study.report) + repr(study.sentences)
    whole = replace(study, patient_id="19999901", meta={"note": secret}, images=[
        Image("i1", 20, 20, "PA", Path("files/p19/p19999901/s1/i1.jpg"))])
    assert repr(whole) == ("Study('s1', 'mimic-cxr', 'train', Report(findings: 3 words), 1 images, 1 sentences, "
                           "1 meta)")
    assert "19999901" not in repr(whole.images)
    with pytest.raises(DataError) as e:
        Study("s1", "p1", "mimic-cxr", "train", report=secret)
    assert "secret" not in str(e.value)
    with pytest.raises(DataError) as e:
        Report(findings=[secret])
    assert "secret" not in str(e.value)


def test_only_short_names_are_shown():
    report = "The heart is normal. No effusion."
    shown = ("val", "chex-mic-f1-5+", "rules", "MONOCHROME1", "a/b.c", "x" * 30, "Pleural Effusion", "left lung")
    for value in shown:
        assert named(value) == repr(value), value
    for value in (0, -1, 2.5, True, float("nan"), np.int64(7), np.float32(.5)):
        assert named(value) == f"{value}" and "np." not in named(value)
    hidden = (report, "x" * 31, "", "two words", "line\nbreak", "p19999901", "patient99912", "Ä", [report],
              (report, ), {report: report}, {report}, report.encode(), np.array([report]), Path(report), object(),
              type("Shown", (), {"__repr__": lambda self: report})(),
              type("Text", (str, ), {"__repr__": lambda self: self})(report))
    for value in hidden:
        assert not re.search("heart|x{31}|words|break|19999901|99912|Ä", named(value)), value
    assert named("59999901", True) == "'59999901'" and named(report, True) == "a text of 33 characters"
    for path, name in (("/data/p19/p19999901/s59999901/a.jpg", "s59999901/a.jpg"), ("films/1.png", "films/1.png"),
                       ("/d/p19999901/s59999901.txt", "…/s59999901.txt"), ("patient99912/x.png", "…/x.png"),
                       ("no such film.png", "no such film.png"), (report, "a text of 33 characters"),
                       (f"{report}/config.json", "a text of 45 characters"),
                       (report * 20, "a text of 660 characters"), (None, "None"), (b"a.png", "a bytes of 5")):
        assert named_file(path) == named_file(path and Path(path) if isinstance(path, str) else path) == name
    assert named_file("/data/nowhere", True) == "/data/nowhere"


def test_an_error_tells_all_that_it_came_from():
    try:
        try:
            b"secret \xff".decode()
        except ValueError:
            raise DataError("study 7", "report", "cannot be read") from None
    except DataError as e:
        e.add_note("a note")
        assert "secret" in told(e) and "a note" in told(e) and "study 7: report cannot be read" in told(e)
    assert "secret" in told(ExceptionGroup("two", [ValueError("secret"), KeyError("b")]))


def test_an_empty_reference_is_an_error():
    assert Report(findings=" a ",
                  impression="b").text() == "a\nb" and Report(impression="b").text("findings") == ""
    with pytest.raises(DataError, match="s9.*findings"):
        Study("s9", "p", "phantom", "test", report=Report(impression="b")).reference("findings")
    with pytest.raises(DataError, match="s9"):
        Study("s9", "p", "phantom", "test").reference()
    assert Study("s9", "p", "phantom", "test", report=Report(impression="b")).reference() == "b"


def test_an_error_travels_between_processes():
    import pickle

    e = pickle.loads(pickle.dumps(DataError("study 7", "split", "is unknown")))
    assert (str(e), e.record, e.field, type(e)) == ("study 7: split is unknown", "study 7", "split", DataError)


def test_a_leak_names_two_studies_and_no_patient():
    rows = [Study(f"s{i}", f"p{i//2}", "phantom", "train" if i < 4 else "test") for i in range(6)]
    assert check_splits(rows) == {"train": 4, "valid": 0, "test": 2}
    rows.append(Study("s9", "p0", "phantom", "test"))
    with pytest.raises(DataError, match="study 's9': split 'test' leaks: study 's0' .* in 'train'") as e:
        check_splits(rows)
    assert "p0" not in str(e.value)
    twice = Study("s5", "p7", "phantom", "valid") # another patient's, in another split: no patient leaks
    with pytest.raises(DataError, match="study 's5': study_id is duplicated: in 'test', and in 'valid'"):
        check_splits([*rows[:6], twice])
    for missing in (None, float("nan")):
        with pytest.raises(DataError, match="study 's0': group is missing"):
            check_splits(rows[:6], group=lambda s: missing)
