"""Exported from nbs/01n_brax.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Iterator
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.data.raw import FAULTS, among, chosen, differing, file_of, filled, film, from_folder, labels_of, look_at, opened, or_none, patient_split, prepare_folder, refuse, same_within, table_of, unique, write_dicom
from rrg_core.data.storage import Studies, one_of
from rrg_core.data.study import OBSERVATIONS, VIEWS, Study
import pytest, tempfile
from rrg_core.data.study import SPLITS, DataError, check_splits
from rrg_core.engine.settings import CourseError
from rrg_core.data.brax import *


def test_brax_studies_are_right():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d)
        found = {s.study_id: s for split in SPLITS for s in load(split, root, views=())}
        assert set(found) == {"77001", "77002", "77003", "77004", "77005"}
        assert check_splits(found.values()) and found["77001"].split == found["77002"].split
        assert found["77001"].split == patient_split("brax", "9001")
        s = found["77001"]
        assert (s.patient_id, s.source, s.site, s.report) == ("9001", "brax", "Albert Einstein, São Paulo", None)
        assert {o: v
                for o, v in s.labels.items() if v is not None} == {"Edema": 1, "Pneumonia": -1, "Fracture": 0}
        assert [i.view for i in s.images] == ["PA", "LATERAL"]
        assert s.images[0].image_id == "Series_77001.0/image-77001-0"
        assert s.meta == {"sex": "Male", "age": 45, "projection": {
            "Series_77001.0/image-77001-0": "PA", "Series_77001.1/image-77001-1": "L"}}
        pixels = s.images[0].load()
        assert pixels.shape == (32, 24) and pixels.dtype == np.uint8 and (pixels.min(), pixels.max()) == (0, 255)
        assert found["77002"].images[0].view == "UNKNOWN" and found["77002"].labels["No Finding"] == 1
        assert list(found["77002"].meta["projection"].values()) == [""]
        assert found["77003"].images[0].view == "UNKNOWN" and found["77003"].meta["age"] == 85
        assert found["77004"].meta["sex"] is None and found["77004"].meta["age"] == 0
        assert set(found["77005"].labels.values()) == {None}
        frontal = [load(split, root) for split in SPLITS]
        assert {s.study_id for p in frontal for s in p} == {"77001", "77004"}
        assert sum(p.counts.get("without an image", 0) for p in frontal) == 3
        old = fixture(Path(d) / "old", table="master_spreadsheet.csv")
        assert {s.study_id for split in SPLITS for s in load(split, old)} == {"77001", "77004"}
        (root / "master_spreadsheet.csv").write_text("another, older one")
        assert {s.study_id for split in SPLITS for s in load(split, root)} == {"77001", "77004"}


def test_brax_has_two_releases_of_its_images():
    pytest.importorskip("pydicom")
    with tempfile.TemporaryDirectory() as d:
        for dicom in (".dcm", "bare"):
            root = fixture(Path(d) / dicom, dicom)
            png, dcm = [[s for split in SPLITS for s in load(split, root, files=kind)]
                        for kind in ("png", "dicom")]
            assert [s.study_id for s in png] == [s.study_id for s in dcm]
            for a, b in zip(png, dcm):
                assert (a.images[0].load() == b.images[0].load()).all() and a.images[0].path != b.images[0].path


def test_brax_names_what_is_wrong():
    def refused(change=None, remove="", **options):
        "The first error of loading a miniature that was changed."
        with tempfile.TemporaryDirectory() as d:
            root = fixture(Path(d))
            for path in root.rglob(remove or "no such file"): path.unlink()
            if change:
                table = change(pd.read_csv(root / TABLE, dtype=str, keep_default_na=False))
                table.to_csv(root / TABLE, index=False)
            with pytest.raises((DataError, CourseError, ValueError)) as e:
                for split in SPLITS: list(load(split, root, **{"views": ()} | options))
            assert "\n" not in str(e.value) and "id_9" not in str(e.value) and "9001" not in str(e.value)
            return str(e.value)

    one = lambda column, value, k=0: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    rows = [(one("PngPath", ""), "master_spreadsheet_update.csv record 1: PngPath is missing"),
            (lambda t: t.assign(PngPath=[t.PngPath[1], *t.PngPath[1:]]), "record 2: PngPath is duplicated"),
            (one("PngPath", "../images/x.png", 2), "record 3: PngPath must be a path below the root"),
            (one("PngPath", "/images/x.png"), "record 1: PngPath must be a path below"),
            (one("PngPath", "C:\\x.png"), "record 1: PngPath must be a path below"),
            (one("PngPath", "images/id_9001/x.png"), "record 1: PngPath names an image that is missing"),
            (one("PatientID", "", 3), "record 4: PatientID is missing"),
            (one("PatientID", "Jane Roe", 3), "record 4: PatientID must be one word"),
            (one("PatientID", "9002",
                 1), "record 2: PatientID differs from that of an earlier row with the same Acc"),
            (one("AccessionNumber", "", 5), "record 6: AccessionNumber is missing"),
            (one("AccessionNumber", "77/5", 5), "record 6: AccessionNumber must be one word"),
            (one("PatientSex", "male", 2), "record 3: PatientSex must be one of M, F, O, got 'male'"),
            (one("PatientAge", "456"), "record 1: PatientAge must be a number below 100"),
            (one("PatientAge", "045Y", 1), "record 2: PatientAge must be a number"),
            (one("ViewPosition", "FRONTAL"), "record 1: ViewPosition must be one of PA, AP, LL, L, RL"),
            (one("Edema", "yes", 3), "record 4: Edema must be 1, 0, -1 or empty, got 'yes'"),
            (one("Edema", "3", 3), "record 4: Edema must be 1, 0, -1"),
            (one("Edema", "NaN", 3), "record 4: Edema must"),
            (one("Edema", "0",
                 1), "record 2: Edema differs from that of an earlier row with the same AccessionNumber"),
            (lambda t: t.drop(columns="Lung Lesion"), "column 'Lung Lesion' is missing"),
            (lambda t: t.drop(columns="PngPath"), "column 'PngPath' is missing"),
            (lambda t: t.iloc[:0], "table holds no record")]
    for change, message in rows:
        assert message in refused(change), message
    for options, message in ((dict(remove="*.csv"),
                              "has no master_spreadsheet_update.csv: `python data_scripts/brax.py fetch` says"),
                             (dict(remove="*.png"), "PngPath names an image that is missing"),
                             (dict(remove="*.png", damaged="skip"),
                              "images are missing, all"), (dict(files="dicom"),
                                                           "DicomPath names an image that is missing"),
                             (dict(files="tiff"), "files must be of png, dicom"),
                             (dict(files=("png", "dicom")), "files must be of png, dicom"),
                             (dict(damaged=None), "damaged must be of error, skip"),
                             (dict(views="FRONTAL"),
                              "views must be of PA, AP, LATERAL, LL, UNKNOWN, got 'FRONTAL'")):
        assert message in refused(**options), message


def test_brax_prepared_folder_gives_the_same_studies():
    from rrg_core.engine.settings import repo_root

    with tempfile.TemporaryDirectory() as d:
        root, out = fixture(Path(d) / "raw"), Path(d) / "out"
        raw = {s: load(s, root, views=()) for s in SPLITS}
        prepare(root, out, views=())
        (Path(d) / "raw").rename(Path(d) / "elsewhere")
        for split, studies in raw.items():
            again = load(split, out, views=())
            assert list(again) == list(studies) == list(load(split, out, views=(), stream=True))
            assert again.counts == studies.counts
        with pytest.raises(CourseError, match="views = "):
            load("train", out)
        with pytest.raises(CourseError, match="files = 'png'"):
            load("train", out, views=(), files="dicom")
        with pytest.raises(CourseError, match="must stay outside"):
            prepare(Path(d) / "elsewhere", repo_root() / "figures")


def test_brax_verify_reads_everything():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d)
        films = sorted(root.rglob("*.png"))
        films[0].unlink()
        films[1].write_bytes(films[1].read_bytes()[:-60])
        counts, wrong = verify(root)
    assert counts == {"images": 6, "studies": 5, "patients": 4, "images listed": 6, "images missing": 1,
                      "images damaged": 1}
    assert "images: 6 here, 40,967 published" in wrong
    assert wrong[-2:] == [f"{TABLE} record 1: missing", f"{TABLE} record 2: damaged"]


def test_brax_errors_quote_nothing():
    from rrg_core.tools.house import quoting

    def in_table(column):
        def call(value):
            with tempfile.TemporaryDirectory() as d:
                root = fixture(Path(d))
                pd.read_csv(root / TABLE, dtype=str).assign(**{column: str(value)}).to_csv(root / TABLE,
                                                                                           index=False)
                for split in SPLITS: load(split, root)
        return call

    calls = {column: in_table(column) for column in ("PngPath", "PatientID", "Edema")}
    calls |= {"split": load, "root": lambda x: load("train", x), "views": lambda x: load("train", ".", views=[x]),
              "files": lambda x: load("train", ".", files=x)}
    assert quoting(calls) == []
