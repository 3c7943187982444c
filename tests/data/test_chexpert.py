"""Exported from nbs/01l_chexpert.ipynb: edit it there, then run `nbdev-export`."""
import json, os, re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
import pandas as pd
from rrg_core.engine.settings import CourseError
from rrg_core.data.raw import FAULTS, NoSplit, among, chosen, differing, film, filled, from_folder, how_to_fetch, labels_of, look_at, numbers, opened, or_none, prepare_folder, refuse, same_within, table_of
from rrg_core.data.storage import Studies, one_of
from rrg_core.data.study import OBSERVATIONS, SECTIONS, SPLITS, VIEWS, DataError, Report, Study, named, named_file
import pytest, shutil, tempfile
import numpy as np
from rrg_core.data.bundled import bundled_file
from rrg_core.data.study import check_splits
from rrg_core.data.chexpert import *


def test_chexpert_reads_every_copy():
    with tempfile.TemporaryDirectory() as d:
        found = {}
        for copy in COPIES:
            root, splits = fixture(Path(d) / copy, copy), SPLITS if copy != "plus" else SPLITS[:2]
            found[copy] = {s.study_id: s for split in splits for s in load(split, root, views=())}
            inside = root / COPIES[copy][1] # the root may be the copy's own folder
            if copy != "batches":
                assert list(load("train", inside)) == list(load("train", root)) == list(
                    load("train", root, views="ap, pa".split(", "), stream=True))
            assert sum(check_splits(found[copy].values()).values()) == (6 if copy != "plus" else 5)
        plain = lambda s: (s.patient_id, s.split, s.labels, s.meta | {"labelled by": ""}, [
            i.view for i in s.images])
        for copy in ("full", "kaggle", "batches", "plus"):
            for key, s in found[copy].items():
                assert plain(s) == plain(found["small"][key]), (copy, key)
        shutil.copytree(Path(d) / "small" / "CheXpert-v1.0-small", Path(d) / "full" / "CheXpert-v1.0-small")
        with pytest.raises(DataError, match="train.csv: table lies in two copies under the root"):
            load("train", Path(d) / "full")
        for table in (Path(d) / "full" / "CheXpert-v1.0-small").glob("*.csv"): table.unlink()
        with pytest.raises(DataError, match="train.csv record 1: image lies in two copies under the root"):
            load("train", Path(d) / "full")


def test_chexpert_studies_are_right():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d)
        train, every = load("train", root), load("train", root, views=())
        assert len(train) == 2 and train.counts == {"frontal images with a lateral projection": 1, "images": 2,
                                                    "without an image": 2, "kept": 2}
        one, two, three, four = every
        assert one.study_id == "chexpert-" + sha256(b"patient99901/study1").hexdigest()[:12]
        assert (one.source, one.split, one.site, one.report) == ("chexpert", "train", "Stanford", None)
        assert one.patient_id == "patient99901"
        assert {o: v for o, v in one.labels.items() if v is not None} == {"Edema": 1, "Pneumonia": -1}
        assert [i.view for i in one.images] == ["AP", "LATERAL"] and one.images[0].load().shape == (32, 24)
        assert one.images[0].image_id == f"{one.study_id}/view1_frontal"
        evidence = {f"{one.study_id}/view1_frontal": "table", f"{one.study_id}/view2_lateral": "table"}
        assert one.meta == {"folder": "patient99901/study1", "labelled by": "chexpert", "sex": "Male", "age": 61,
                            "evidence": evidence}
        assert two.patient_id == one.patient_id and two.study_id != one.study_id and two.images[0].view == "PA"
        assert three.images[0].view == "UNKNOWN" and three.labels["Fracture"] == 0
        assert three.meta["age"] is None is three.meta["sex"] and four.meta["age"] == 90
        assert [s.images[0].view for s in load("train", root, views="lateral")] == ["LATERAL", "LATERAL"]
        assert [s.images[0].view for s in load("train", root, views="unknown")] == ["UNKNOWN"]
        valid, test = load("valid", root), load("test", root)
        assert valid[0].labels["Cardiomegaly"] == 1 and valid[0].labels["Edema"] == 0
        assert [i.view for i in load("test", root, views=())[0].images] == ["AP", "LATERAL"]
        assert set(test[0].meta["evidence"].values()) == {"file name"} and test[0].meta["age"] is None
        (Path(d) / "train_cheXbert.csv").write_text((root / "CheXpert-v1.0-small/train.csv").read_text().replace(
            "-1", "1"))
        (other, *_), (valid, ) = [load(s, root, labels="chexbert") for s in ("train", "valid")]
        assert (other.labels["Pneumonia"], other.meta["labelled by"]) == (1, "chexbert")
        assert (valid.labels["Cardiomegaly"], valid.meta["labelled by"]) == (1, "radiologists")
        assert test[0].meta["labelled by"] == "radiologists"
        with pytest.raises(NoSplit, match="no train_visualCheXbert.csv.*chexpert.py fetch"):
            load("train", root, labels="visualchexbert")


def test_chexpert_plus_has_reports_and_labels():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d, "plus")
        train = load("train", root, views=())
        assert [s.report.impression for s in train] == ["Invented edema.", "Nothing invented.", "No fracture.",
                                                        "An invented device."]
        assert train[0].report.indication == "Invented cough."
        assert train[0].report.findings == "An invented shadow."
        assert train[0].report.comparison == "None." and train[0].labels["Pneumonia"] == -1
        assert {s.meta["labelled by"] for s in train} == {"chexbert-impression"} # the default
        with_findings = load("train", root, need="findings")
        assert len(with_findings) == 1 and with_findings.counts["without findings"] == 3
        table = pd.read_csv(root / PLUS, dtype=str, index_col=0)
        table.assign(section_clinical_history=" Invented fall. ").to_csv(root / PLUS)
        assert load("train", root)[0].report.indication == "Invented fall."
        lines = (root / "chexbert_labels/impression_fixed.json").read_text().splitlines()
        (root / "chexbert_labels/impression_fixed.json").write_text("\n".join(lines[1:])) # one has no labels
        assert load("train", root)[0].labels == {} and load("train", root)[1].labels["No Finding"] == 1
        other = load("train", root, labels="chexbert-findings")[0]
        assert (other.labels["Edema"], other.meta["labelled by"]) == (1, "chexbert-findings")
        shutil.rmtree(root / "chexbert_labels")
        assert (load("train", root)[0].labels, load("train", root)[0].meta["labelled by"]) == ({}, None)
        with pytest.raises(CourseError, match="no impression_fixed.json.*chexbert_labels.zip"):
            load("train", root, labels="chexbert-impression")
        with pytest.raises(NoSplit, match="no image of the test split"):
            load("test", root)


def test_chexpert_plus_has_dicom_files():
    from PIL import Image as PILImage
    from rrg_core.data.raw import write_dicom

    pytest.importorskip("pydicom")
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d, "plus")
        for path in (root / "PNG").rglob("*_frontal.png"):
            out = root / "DICOM" / path.relative_to(root / "PNG").with_suffix(".dcm")
            write_dicom(out, np.asarray(PILImage.open(path)))
        films = load("train", root, files="dicom", views=())
        assert films.counts == {"frontal images with a lateral projection": 1, "images": 3, "missing images": 2,
                                "without an image": 1, "kept": 3}
        assert (films[0].images[0].load() == load("train", root)[0].images[0].load()).all()
        next((root / "DICOM/train").rglob("*.dcm")).write_bytes(b"no DICOM")
        with pytest.raises(DataError, match=r"record \d: path_to_image names an image that is damaged"):
            load("train", root, files="dicom", views=())


def test_chexpert_names_what_is_wrong():
    def refused(change=None, table="train", copy="kaggle", split="train", remove="", **options):
        "The error of loading a miniature that was changed."
        with tempfile.TemporaryDirectory() as d:
            root = fixture(Path(d), copy)
            for path in root.rglob(remove or "no such file"): path.unlink()
            if change:
                path = root / (f"{table}.csv" if copy != "plus" else PLUS)
                change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
            with pytest.raises((DataError, CourseError, ValueError)) as e:
                list(load(split, root, **{"views": ()} | options))
            assert "\n" not in str(e.value) and "nvented" not in str(e.value) and "9990" not in str(e.value)
            return str(e.value)

    one = lambda column, value, k=0: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    again = lambda t: pd.concat([t, t.iloc[1:2]])
    film_1 = "CheXpert-v1.0-small/train/patient99901/study1/view1_frontal.jpg"
    rows = [
        (again, "train.csv record 6: Path is duplicated"), (one("Path", "", 2), "record 3: Path is missing"),
        (one("Path", "train/99901/1/1.jpg"), "record 1: Path must end in patient…/study…/view…_frontal"),
        (one("Path", film_1.replace("jpg", "gif")), "record 1: Path must end in"),
        (one("Path", film_1.replace("frontal", "oblique")), "record 1: Path must end in"),
        (one("Path", film_1.replace("view1", "view7")), "record 1: Path names an image that is missing"),
        (one("Path", film_1.replace("99901", "99911"), 2), "valid.csv record 1: Path names a patient of another"),
        (one("Sex", "M", 1), "record 2: Sex must be one of Male, Female, Unknown, got 'M'"),
        (one("Age", "160"), "record 1: Age must be a number from 0 to 120"), (one("Age", "x"), "Age must be a"),
        (one("Frontal/Lateral", "Lateral"), "record 1: Frontal/Lateral says another view than the file's name"),
        (one("Frontal/Lateral", "PA", 2), "record 3: Frontal/Lateral must be one of Frontal, Lateral, got 'PA'"),
        (one("AP/PA", "", 2), "record 3: AP/PA is missing for a frontal image"),
        (one("AP/PA", "LATERAL", 1), "record 2: AP/PA must be one of AP, PA, LL, RL"),
        (one("Edema", "2"), "record 1: Edema must be 1, 0, -1 or empty, got '2'"),
        (one("Edema", "positive", 2), "record 3: Edema must"), (one("Edema", "NaN", 2), "record 3: Edema must"),
        (one("Edema", "0", 1), "record 2: Edema differs from that of an earlier row with the same study"),
        (one("Sex", "Female", 1), "record 2: Sex differs from that of an earlier row with the same study"),
        (lambda t: t.drop(columns="Pleural Other"), "train.csv: column 'Pleural Other' is missing"),
        (lambda t: t.drop(columns="AP/PA"), "train.csv: column 'AP/PA' is missing"),
        (lambda t: t.drop(columns="Path"), "train.csv: column 'Path' is missing"),
        (lambda t: t.rename(columns={"Lung Lesion": "Nodule"}), "column 'Lung Lesion' is missing"),
        (lambda t: t.iloc[:0], "train.csv: table holds no record")
    ]
    for change, message in rows:
        assert message in refused(change), message
    plus = [
        (one("split", "dev"), "record 1: split must be one of train, valid, test, got 'dev'"),
        (one("split", "valid", 2), "record 3: split names a patient of another split, too"),
        (one("section_impression", "Invented, another.", 1), "record 2: section_impression differs from"),
        (one("path_to_image", "a/b.jpg"), "record 1: path_to_image must end in"),
        (one("frontal_lateral", "Lateral"), "frontal_lateral says another view"),
        (one("sex", "x"), "sex must be one of"), (one("ap_pa", "x"), "ap_pa must be one of"),
        (lambda t: t.drop(columns="section_findings"), "column 'section_findings' is missing")
    ]
    for change, message in plus:
        assert message in refused(change, copy="plus"), message
    for options, message in (
            (dict(remove="train.csv"), "has no train.csv: `python data_scripts/chexpert.py fetch` says"),
            (dict(remove="test_labels.csv", split="test"), "has no test.csv or test_labels.csv"),
            (dict(remove="view*.jpg", damaged="skip"), "images are missing, all 5 of this split"),
            (dict(remove="view*.jpg"), "record 1: Path names an image that is missing"),
            (dict(views="FRONTAL"), "views must be of PA, AP, LATERAL, LL, UNKNOWN, got 'FRONTAL'"),
            (dict(need="findings"), "only CheXpert Plus has reports"), (dict(need="findngs"), "need must be of"),
            (dict(labels="radiologist"), "labels must be of chexpert, chexbert"),
            (dict(files="tiff"), "files must be of picture, dicom"),
            (dict(labels="chexbert-report"), "labels must be of chexpert, chexbert, visualchexbert, got"),
            (dict(labels=""), "labels must be of chexpert"), (dict(labels=["chexbert"]), "labels must be of"),
            (dict(files=()), "files must be of picture"), (dict(damaged="no"), "damaged must be of error, skip"),
            (dict(split="val"), "split must be one of train, valid, test, got 'val'")):
        assert message in refused(**options), message


def test_chexpert_plus_labels_are_checked():
    def changed(line, k=1): # the error of a changed line of labels
        with tempfile.TemporaryDirectory() as d:
            path = fixture(Path(d), "plus") / "chexbert_labels/impression_fixed.json"
            lines = path.read_text().splitlines()
            lines[k] = line(json.loads(lines[k]))
            path.write_text("\n".join(lines))
            with pytest.raises(DataError) as e:
                load("train", d)
            return str(e.value)

    drop = lambda row, name: {k: v for k, v in row.items() if k != name}
    for value in (2, "1", True, [1], 0.5, {"a": 1}, "positive"):
        assert "impression_fixed.json record 2: Edema must be 1, 0, -1 or null" in changed(
            lambda row: json.dumps(row | {"Edema": value})), value
    for line, message in (
            (lambda row: json.dumps(drop(row, "Edema")), "record 2: Edema is missing"),
            (lambda row: json.dumps(drop(row, "path_to_image")), "record 2: path_to_image is missing"),
            (lambda row: json.dumps(row | {"path_to_image": 7}), "record 2: path_to_image must end in"),
            (lambda row: json.dumps(row | {"path_to_image": "x.jpg"}), "record 2: path_to_image must end in"),
            (lambda row: json.dumps(row).replace("2_lateral", "1_frontal"), "record 2: path_to_image is dupl"),
            (lambda row: json.dumps(row)[:-9], "record 2: JSON cannot be"),
            (lambda row: "[1, 2]", "record 2: JSON cannot be"), (lambda row: "7", "record 2: JSON cannot be")):
        assert message in changed(line), message


def test_the_whole_training_table_is_read():
    import gzip

    with tempfile.TemporaryDirectory() as d:
        (Path(d) / "train.csv").write_bytes(gzip.decompress(bundled_file("chexpert").read_bytes()))
        table = read_table(d, "train")
    found = {"images": len(table), "studies": table.study.nunique(), "patients": table.patient.nunique()}
    assert found == {unit: PUBLISHED[f"train {unit}"] for unit in found}
    assert table.study.drop_duplicates().map(study_id_of).is_unique # of all 187,641
    assert (table.side == "Frontal").sum() == 191027 and table.projection.isin(["LL", "RL"]).sum() == 17
    assert table.sex.isna().sum() == 1 and (table.age == 0).sum() == 3
    assert table.record.iloc[-1] == "train.csv record 223414"


def test_chexpert_prepared_folder_gives_the_same_studies():
    from rrg_core.engine.settings import repo_root

    with tempfile.TemporaryDirectory() as d:
        root, out = fixture(Path(d) / "raw", test=False), Path(d) / "out"
        raw = {s: load(s, root, views=["pa", "ap"]) for s in ("train", "valid")}
        prepare(root, out)
        (Path(d) / "raw").rename(Path(d) / "elsewhere")
        for split, studies in raw.items():
            again = load(split, out, views=("AP", "PA"))
            assert list(again) == list(studies) and again.counts == studies.counts
        for options, message in ((dict(views=()), "views = "), (dict(labels="chexbert"), "labels = None"),
                                 (dict(need="findings"), "need = "), (dict(files="dicom"), "files = 'picture'")):
            with pytest.raises(CourseError, match=message):
                load("train", out, **options)
        with pytest.raises(NoSplit, match="without a test split"):
            load("test", out)
        with pytest.raises(CourseError, match="must stay outside"):
            prepare(Path(d) / "elsewhere", repo_root() / "figures")
        with pytest.raises(CourseError, match="another folder"):
            prepare(Path(d) / "elsewhere", Path(d) / "elsewhere")


def test_chexpert_verify_reads_everything():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d, test=False)
        films = sorted(root.rglob("*.jpg"))
        films[0].unlink()
        films[1].write_bytes(films[1].read_bytes()[:-200])
        counts, wrong = verify(root)
        seen = verify(root, images=False)
    assert counts == {"train images": 5, "train studies": 4, "train patients": 3, "valid images": 1,
                      "valid studies": 1, "valid patients": 1, "test images": 0, "images listed": 6,
                      "images missing": 1, "images damaged": 1}
    assert "train images: 5 here, 223,414 published" in wrong
    assert wrong[-2:] == ["train.csv record 1: missing", "train.csv record 2: damaged"]
    assert seen == (counts | {"images damaged": 0}, wrong[:-1])
    with tempfile.TemporaryDirectory() as d:
        counts, wrong = verify(fixture(d, "plus"), images=False)
    assert wrong == ["train images: 5 here, 223,228 published", "valid images: 1 here, 234 published"]


def test_chexpert_errors_quote_nothing():
    from rrg_core.tools.house import quoting

    def in_table(column, copy="kaggle", table="train.csv"):
        def call(value):
            with tempfile.TemporaryDirectory() as d:
                path = fixture(Path(d), copy) / table
                pd.read_csv(path, dtype=str).assign(**{column: str(value)}).to_csv(path, index=False)
                load("train", d)
        return call

    def in_line(value): # among CheXbert's labels
        with tempfile.TemporaryDirectory() as d:
            path = fixture(Path(d), "plus") / "chexbert_labels/impression_fixed.json"
            path.write_text(json.dumps({"path_to_image": str(value)}) + "\n" + str(value))
            load("train", d)

    calls = {column: in_table(column) for column in ("Path", "Edema")}
    calls["split"] = in_table("split", "plus", PLUS)
    calls |= {"a line": in_line, "the split": load, "root": lambda x: load("train", x),
              "views": lambda x: load("train", ".", views=[x]), "need": lambda x: load("train", ".", need=[x]),
              "labels": lambda x: load("train", ".", labels=[x]), "files": lambda x: load("train", ".", files=x)}
    assert quoting(calls) == []
