"""Exported from nbs/01o_candid_ptx.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.data.bundled import siim_mask
from rrg_core.data.raw import FAULTS, chosen, differing, file_of, filled, files_under, film, from_folder, look_at, opened, or_none, patient_split, prepare_folder, refuse, same_within, table_of, write_dicom
from rrg_core.data.storage import Studies, one_of
from rrg_core.data.study import OBSERVATIONS, SECTIONS, SPLITS, Box, DataError, Report, Study, named
import pytest, tempfile
import matplotlib.pyplot as plt
from rrg_core.data.study import check_splits
from rrg_core.engine.settings import CourseError
from rrg_core.data.candid_ptx import *


def test_a_mask_is_drawn_or_named():
    rng = np.random.default_rng(0)
    for _ in range(5): # there and back, by another way of writing
        at = np.sort(rng.choice(SIDE * SIDE, 40, replace=False))
        starts, lengths = at[::2], np.diff(at)[::2]
        gaps = starts - np.concatenate([[0], (starts + lengths)[:-1]])
        drawn = mask_of(" ".join(f"{g} {n}" for g, n in zip(gaps, lengths)))
        flat = drawn.T.ravel()
        assert flat.sum() == lengths.sum() and all(flat[s:s + n].all() for s, n in zip(starts, lengths))
    corner = box_of("x", mask_of(f"{SIDE * SIDE - 1} 1"), SIDE, SIDE)
    assert corner.xyxy == (SIDE - 1, SIDE - 1, SIDE, SIDE)
    assert box_of("x", mask_of("0 1"), SIDE, SIDE).xyxy == (0, 0, 1, 1)
    for rle in ("", "1", "1 2 3", "-1", "-1 5", "1 -5", "a b", "1.0 2", "1,2", "1 2;3 4", "nan", "0x1 2",
                "1 2 x", None, float("nan"), 7, ["1 2"], "１ ２"):
        with pytest.raises(DataError, match="t.csv record 3: mask_rle must be pairs of a gap and a length"):
            mask_of(rle, "t.csv record 3")
    for rle in ("0 0", f"{SIDE * SIDE} 1", f"0 {SIDE * SIDE + 1}", "5 1 0 0", f"0 1 {SIDE * SIDE - 1} 1",
                "9" * 30 + " 1"):
        with pytest.raises(DataError, match="mask_rle leaves its image of 1024 × 1024 pixels, or is empty"):
            mask_of(rle)


def test_candid_studies_are_right():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d)
        parts = {s: load(s, root) for s in SPLITS}
        found = {s.study_id: s for p in parts.values() for s in p}
        assert set(found) == {"9.1.1", "9.1.2", "9.2.1", "9.3.1"} and check_splits(found.values())
        assert parts["test"].counts["images of two patients"] == 1
        assert parts["test"].counts["chest tube: images without a report"] == 1
        assert parts["test"].counts["acute rib fracture: images without a report"] == 0
        a, b, c, e = found.values() if list(found) == sorted(found) else [found[k] for k in sorted(found)]
        assert (a.patient_id, a.source, a.site, a.split) == ("1", "candid-ptx", "Dunedin", b.split)
        assert a.meta["study"] == b.meta["study"] != c.meta["study"] and a.images[0].view == "PA"
        assert a.meta["evidence"] == {"9.1.1": "set"} and a.images[0].load().shape == (64, 64)
        scale = 64 / SIDE
        assert [x.label for x in a.boxes] == ["Pneumothorax"] * 2
        assert a.boxes[0].xyxy == (700 * scale, 60 * scale, 800 * scale, 260 * scale)
        assert a.boxes[1].xyxy == (300 * scale, 50 * scale, 320 * scale, 90 * scale)
        assert mask_of(a.meta["masks"][0]).sum() == 100 * 200
        assert a.labels["Pneumothorax"] == 1 and a.labels["Fracture"] is None is a.labels["Support Devices"]
        assert (a.report.findings, a.report.impression) == ("An invented line.", "Invented air.")
        assert b.meta["classes"] == ["pneumothorax", "acute rib fracture", "chest tube"] # the tube once
        assert [x.label for x in b.boxes] == ["Pneumothorax", "Fracture", "Support Devices"]
        assert b.labels["Fracture"] == 1 == b.labels["Support Devices"] and b.labels["Edema"] is None
        assert {o for o, v in b.labels.items() if v is not None} == set(CLASSES.values()) # and no others
        assert (b.report.findings, b.report.impression) == ("", "Invented text without a heading.")
        assert c.labels["Pneumothorax"] == 0 and c.boxes == [] and c.meta["masks"] == []
        assert (c.report.indication, c.report.impression) == ("Invented fall.", "Nothing invented.")
        assert e.report is None and e.labels["Fracture"] == 1 and e.labels["Pneumothorax"] == 0
        with_text = {s.study_id for split in SPLITS for s in load(split, root, need="impression")}
        assert with_text == {"9.1.1", "9.1.2", "9.2.1"}
        assert {s.study_id for split in SPLITS for s in load(split, root, need="Findings")} == {"9.1.1"}
        (root / "acute_rib_fracture.csv").rename(root / "Rib_fracture_mask_rle.csv") # the other name
        table = pd.read_csv(root / "Pneumothorax_reports.csv", dtype=str).drop(columns="StudyInstanceUID")
        table.to_csv(root / "Pneumothorax_reports.csv", index=False) # a column that not every copy has
        again = {s.study_id: s for split in SPLITS for s in load(split, root)}
        assert {k: s.boxes for k, s in again.items()} == {k: s.boxes for k, s in found.items()}
        assert again["9.1.1"].meta["study"] != again["9.1.2"].meta["study"]


def test_candid_reads_dicom_files_without_an_ending():
    pytest.importorskip("pydicom")
    with tempfile.TemporaryDirectory() as d:
        png, dcm = fixture(Path(d) / "png"), fixture(Path(d) / "dcm", "dicom")
        a, b = [[s for split in SPLITS for s in load(split, root)] for root in (png, dcm)]
        assert [s.boxes for s in a] == [s.boxes for s in b] and len(a) == 4
        for x, y in zip(a, b):
            assert (x.images[0].load() == y.images[0].load()).all() and y.images[0].path.name == y.study_id
        (dcm / "dataset" / "9.1.1.dcm").write_bytes(b"")
        with pytest.raises(DataError, match="image '9.1.1': file lies there twice, with two endings"):
            load("train", dcm)


def test_candid_names_what_is_wrong():
    PTX = "Pneumothorax_reports.csv"

    def refused(change=None, table=PTX, remove="", **options):
        "The first error of loading a miniature that was changed."
        with tempfile.TemporaryDirectory() as d:
            root = fixture(Path(d))
            for path in root.rglob(remove or "no such file"): path.unlink()
            if change:
                changed = change(pd.read_csv(root / table, dtype=str, keep_default_na=False))
                changed.to_csv(root / table, index=False)
            with pytest.raises((DataError, CourseError, ValueError)) as e:
                for split in SPLITS: list(load(split, root, **options))
            assert "\n" not in str(e.value) and "nvented" not in str(e.value) and "P0000" not in str(e.value)
            return str(e.value)

    one = lambda column, value, k=0: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    rows = [(one("SOPInstanceUID", "", 1), "Pneumothorax_reports.csv record 2: SOPInstanceUID is missing"),
            (one("SOPInstanceUID", "a b", 1), "record 2: SOPInstanceUID must be one word"),
            (one("SOPInstanceUID", "../9", 3), "record 4: SOPInstanceUID must be one word"),
            (one("SOPInstanceUID", "9.8.8", 3), "record 4: SOPInstanceUID names an image that is missing"),
            (one("filename", "", 3), "record 4: filename is missing"),
            (one("filename", "Jane_1",
                 3), "record 4: filename must begin with the patient's number and an underline"),
            (one("filename", "P00003", 3), "record 4: filename must begin"),
            (one("EncodedPixels", "", 3), "record 4: EncodedPixels is missing"),
            (one("EncodedPixels", "5", 3), "record 4: EncodedPixels must be pairs of a gap and a length, or -1"),
            (one("EncodedPixels", "-1 5", 3), "record 4: EncodedPixels must be pairs"),
            (one("EncodedPixels", "1 2 3", 3), "record 4: EncodedPixels must be pairs"),
            (one("EncodedPixels", "pneumothorax", 3), "record 4: EncodedPixels must be pairs"),
            (one("EncodedPixels", "1048570 99", 3), "record 4: EncodedPixels leaves its image"),
            (one("EncodedPixels", "5 0",
                 3), "record 4: EncodedPixels leaves its image of 1024 × 1024 pixels, or is"),
            (one("EncodedPixels", "-1",
                 1), "record 2: EncodedPixels says that there is no mask, and another row has"),
            (one("Report", "Invented, otherwise.",
                 1), "record 2: Report differs from that of an earlier row with the same"),
            (one("StudyInstanceUID", "9.7",
                 1), "record 2: StudyInstanceUID differs from that of an earlier row with the same image"),
            (lambda t: t.drop(columns="Report"), "column 'Report' is missing"),
            (lambda t: t.drop(columns="EncodedPixels"), "column 'EncodedPixels' is missing"),
            (lambda t: t.iloc[:0], "table holds no record")]
    for change, message in rows:
        assert message in refused(change), message
    for table in ("chest_tube.csv", "acute_rib_fracture.csv"):
        for change, message in (
                (one("mask_rle", "", 0), f"{table} record 1: mask_rle is missing"),
                (one("mask_rle", "1 x", 0), f"{table} record 1: mask_rle must be pairs"),
                (one("mask_rle", "1048576 1", 0), f"{table} record 1: mask_rle leaves its image"),
                (one("anon_SOPUID", "", 0), f"{table} record 1: anon_SOPUID is missing"),
                (lambda t: t.rename(columns={"mask_rle": "mask"}), f"{table}: column 'mask_rle' is missing")):
            assert message in refused(change, table), message
    for options, message in ((dict(remove=PTX),
                              "has no Pneumothorax_reports.csv: `python data_scripts/candid_ptx.py fetch` says"),
                             (dict(remove="chest_tube.csv"),
                              "has no chest_tube.csv"), (dict(remove="acute*"), "has no acute_rib_fract"),
                             (dict(remove="9*.png"),
                              "SOPInstanceUID names an image that is missing"), (dict(remove="9*.png",
                                                                                      damaged="skip"),
                                                                                 "images are missing, all"),
                             (dict(need="finding"),
                              "need must be of indication, comparison, findings, impression")):
        assert message in refused(**options), message


def test_candid_prepared_folder_gives_the_same_studies():
    from rrg_core.engine.settings import repo_root

    with tempfile.TemporaryDirectory() as d:
        root, out = fixture(Path(d) / "raw"), Path(d) / "out"
        raw = {s: load(s, root) for s in SPLITS}
        prepare(root, out)
        (Path(d) / "raw").rename(Path(d) / "elsewhere")
        for split, studies in raw.items():
            again = load(split, out)
            assert list(again) == list(studies) == list(load(split, out, stream=True))
            assert again.counts == studies.counts
        with pytest.raises(CourseError, match="need = "):
            load("train", out, need="impression")
        with pytest.raises(CourseError, match="must stay outside"):
            prepare(Path(d) / "elsewhere", repo_root() / "figures")


def test_candid_verify_reads_everything():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d)
        (root / "dataset" / "9.2.1.png").unlink()
        cut = root / "dataset" / "9.3.1.png"
        cut.write_bytes(cut.read_bytes()[:-60])
        counts, wrong = verify(root)
    assert counts == {"images": 5, "patients": 3, "images of two patients": 1, "masks": 6, "images listed": 4,
                      "acute rib fracture: images without a report": 0, "chest tube: images without a report": 1,
                      "images missing": 1, "images damaged": 1}
    assert wrong == ["images: 5 here, 19,237 published", "patients: 3 here, 13,744 published",
                     "Pneumothorax_reports.csv record 4: missing", "Pneumothorax_reports.csv record 5: damaged"]


def test_candid_errors_quote_nothing():
    from rrg_core.tools.house import quoting

    def in_table(column, table="Pneumothorax_reports.csv"):
        def call(value):
            with tempfile.TemporaryDirectory() as d:
                path = fixture(Path(d)) / table
                pd.read_csv(path, dtype=str).assign(**{column: str(value)}).to_csv(path, index=False)
                for split in SPLITS: load(split, d, damaged="error")
        return call

    calls = {column: in_table(column) for column in ("SOPInstanceUID", "EncodedPixels", "filename")}
    calls |= {"mask_rle": in_table("mask_rle", "chest_tube.csv"), "a mask": mask_of, "split": load,
              "root": lambda x: load("train", x), "need": lambda x: load("train", ".", need=[x])}
    assert quoting(calls) == []
