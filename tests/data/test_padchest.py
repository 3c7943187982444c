"""Exported from nbs/01m_padchest.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.data.raw import FAULTS, among, chosen, differing, file_of, filled, files_under, film, from_folder, look_at, numbers, opened, or_none, patient_split, prepare_folder, refuse, same_within, table_of, unique
from rrg_core.data.storage import Studies, one_of
from rrg_core.data.study import OBSERVATIONS, SPLITS, VIEWS, DataError, Report, Study
import pytest, tempfile
from rrg_core.data.bundled import bundled_file
from rrg_core.data.study import check_splits
from rrg_core.engine.settings import CourseError
from rrg_core.data.padchest import *


def test_a_list_is_read_without_running_it():
    import ast

    for text in ("[]", "['a']", "['a', 'b']", '["it\'s", \'b\']', "[['a', 'b'], ['c']]", "[[], ['a']]",
                 " [ 'a' , 'b' ] ", r"['a\'b']", "['']", "['[', ',']", "['nan']", "[['x'], 'y']"):
        read = ast.literal_eval(text.strip())
        assert list_of(text) == tuple(tuple(x) if isinstance(x, list) else x for x in read), text
    assert list_of("nan") is None is list_of(" nan ") and list_of("[nan, ['a']]") == (None, ("a", ))
    for text in ("", " ", "[", "]", "['a'", "'a'", "['a',]", "[,'a']", "['a' 'b']", "[a]", "['a]", "['a']]",
                 "[['a'", "[[['a']]]", "None", "[None]", "[1, 2]", "('a', 'b')", "{'a': 1}", "['a'] + ['b']",
                 "['a', , 'b']", "__import__('os').getcwd()", "['a', print(1)]", "[nanny]", "NaN", None, 7,
                 float("nan"), ["a"], "[" * 10000, "['a'], ['b']", "['a'] # b"):
        with pytest.raises(DataError, match="t.csv record 7: Labels is no list of texts as Python writes one"):
            list_of(text, "t.csv record 7", "Labels")


def test_names_mean_what_the_labeler_reads():
    from rrg_core.labels import label

    decided = { # name → what the labeler reads and the map does not
        "fibrotic band": {"Pleural Other"}, "pulmonary fibrosis": {"Pleural Other"}, "mass": {"Lung Lesion"},
        "mediastinal mass": {"Lung Lesion"}, "soft tissue mass": {"Lung Lesion"}, "breast mass": {"Lung Lesion"},
        "pleural mass": {"Lung Lesion"}, "mammary prosthesis": {"Support Devices"},
        "prosthesis": {"Support Devices"}, "humeral prosthesis": {"Support Devices"}
    }
    mapped = set(sum(NAMES.values(), []))
    for name in mapped | OTHER:
        read = {o for o, v in label(name).items() if v == 1 and o != "No Finding"}
        ours = {o for o, v in labels_of_names((name, )).items() if v == 1 and o != "No Finding"}
        assert read - ours == decided.get(name, set()), (name, read, ours)
    assert len(mapped | OTHER) == 193 and not OTHER & mapped
    assert labels_of_names(None) == labels_of_names(()) == {}
    assert labels_of_names(("normal", ))["No Finding"] == 1 and labels_of_names(("normal", ))["Edema"] is None
    assert labels_of_names(("normal", "pacemaker"))["No Finding"] == 1
    assert labels_of_names(("normal", "pneumonia"))["No Finding"] is None
    assert set(labels_of_names(("scoliosis", )).values()) == {None} # labelled, and nothing of the fourteen


def test_patients_who_share_a_report_are_one_group():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"PatientID": rng.integers(0, 60, 90).astype(str), "ReportID": rng.integers(0, 70, 90).astype(str)})
    found = groups(table)
    for column in ("PatientID", "ReportID"): # no patient and no report lies in two groups
        assert found.groupby(table[column]).nunique().max() == 1
    edges = {}
    for p, r in zip(table.PatientID, table.ReportID): # the same, by walking
        edges.setdefault(("p", p), set()).add(("r", r))
        edges.setdefault(("r", r), set()).add(("p", p))

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            if (node := todo.pop()) not in seen:
                seen.add(node)
                todo += edges[node]
        return min(name for kind, name in seen if kind == "p")

    assert found.tolist() == [reached(("p", p)) for p in table.PatientID] and found.nunique() > 3
    assert groups(table[::-1])[::-1].tolist() == found.tolist() # the order of rows is no matter


def test_padchest_studies_are_right():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d)
        parts = [load(s, root, views=()) for s in SPLITS]
        found = {s.study_id: s for p in parts for s in p}
        assert set(found) == {"S901", "S902", "S903", "S905", "S906"}
        assert check_splits(found.values(), lambda s: s.meta["group"])
        assert found["S901"].split == found["S902"].split and found["S901"].meta["group"] == found["S902"].meta[
            "group"]
        total = {k: sum(p.counts.get(k, 0) for p in parts) for p in parts for k in p.counts}
        assert total == {"images of studies with two patients": 2, "images": 6, "kept": 5, "missing images": 1,
                         "without an image": 1, "excluded by its readers": 1, "kept without labels": 1,
                         "images with the projection EXCLUDE": 1}
        s = found["S901"]
        assert (s.patient_id, s.source, s.site) == ("P901", "padchest", "San Juan, Alicante")
        assert [i.view for i in s.images] == ["PA", "LATERAL"] and s.images[0].image_id == "901_00-001-001"
        assert {o for o, v in s.labels.items() if v} == {"Pneumonia", "Pleural Effusion"}
        assert s.meta["labels"] == ["pneumonia", "pleural effusion"] and s.meta["places"] == ["left", "basal"]
        assert s.meta["sentences"] == [{"labels": ["pneumonia"],
                                        "places": ["left", "basal"]}, {"labels": [], "places": []},
                                       {"labels": ["pleural effusion"], "places": ["left"]}]
        assert s.report == Report(findings="imagen invent 9001 .", language="es") and s.meta["stemmed"]
        assert s.meta["age"] == 65 and s.meta["sex"] == "Male" and s.meta["labelled by"] == "Physician"
        pixels = s.images[0].load()
        assert pixels.shape == (32, 24) and pixels.dtype == np.uint8 and pixels.max() == 255 and pixels.min() == 0
        assert found["S902"].meta["projection"] == {"902_00-002-001": "AP_horizontal"}
        assert found["S902"].images[0].view == "AP" and found["S902"].meta["labels"] == ["NSG tube", "scoliosis"]
        assert found["S902"].meta["sentences"] == [] and found["S902"].labels["Support Devices"] == 1
        assert found["S903"].labels["No Finding"] == 1 and found["S903"].meta["age"] is None
        assert [i.view for i in found["S905"].images] == ["UNKNOWN"] and found["S906"].labels == {}
        assert found["S906"].report.findings == "" and found["S902"].meta["sex"] is None
        frontal = {s.study_id for split in SPLITS for s in load(split, root)}
        assert frontal == {"S901", "S902", "S903", "S906"}
        doctors = {s.study_id for split in SPLITS for s in load(split, root, labelled="physician")}
        assert doctors == {"S901"}
        with tempfile.TemporaryDirectory() as flat:
            one = [s for split in SPLITS for s in load(split, fixture(flat, False), views=())]
            assert {s.study_id: s.meta for s in one} == {k: s.meta for k, s in found.items()}


def test_padchest_names_what_is_wrong():
    def refused(change=None, remove="", **options):
        "The first error of loading a miniature that was changed."
        with tempfile.TemporaryDirectory() as d:
            root = fixture(Path(d))
            for path in root.rglob(remove or "no such file"): path.unlink()
            if change:
                table = change(pd.read_csv(root / TABLE, dtype=str, keep_default_na=False, index_col=0))
                table.to_csv(root / TABLE)
            with pytest.raises((DataError, CourseError, ValueError)) as e:
                for split in SPLITS: list(load(split, root, **{"views": ()} | options))
            assert "\n" not in str(e.value) and "invent" not in str(e.value) and "P90" not in str(e.value)
            return str(e.value)

    one = lambda column, value, k=0: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    both = lambda column, value: lambda t: t.assign(**{column: [value, value, *t[column][2:]]})
    sentence = "LabelsLocalizationsBySentence"
    rows = [(one("ImageID", "901_00-001-001.png", 3), "01.02.19.csv record 4: ImageID is duplicated"),
            (one("ImageID", ""), "record 1: ImageID is missing"),
            (one("ImageID", "a.jpg", 2), "record 3: ImageID must be"),
            (one("ImageID", "../a.png"), "record 1: ImageID must be a name in .png"),
            (one("PatientID", "", 4), "record 5: PatientID is missing"),
            (one("PatientID", "Jane Roe", 4), "record 5: PatientID must be digits"),
            (one("StudyID", "S 1"), "record 1: StudyID must be digits"),
            (one("ReportID", "1.0", 2), "ReportID must be"),
            (one("Projection", "LL", 3), "record 4: Projection must be one of PA, AP, AP_horizontal, L, COSTAL"),
            (one("MethodLabel", "model"), "record 1: MethodLabel must be one of Physician, RNN_model"),
            (one("PatientSex_DICOM", "X", 1), "record 2: PatientSex_DICOM must be one of M, F, O, nan, got 'X'"),
            (one("PatientBirth", "1.1.50"), "record 1: PatientBirth must be a number from 1890 to 2030"),
            (one("PatientBirth", "2016"), "record 1: PatientBirth is after the study"),
            (one("StudyDate_DICOM", "2015-1-1", 3), "record 4: StudyDate_DICOM must be eight digits"),
            (one("Labels", "['pneumonia']",
                 1), "record 2: Labels differs from that of an earlier row with the same StudyID"),
            (one("Report", "otr", 1), "record 2: Report differs from that of an earlier row"),
            (both("Labels", "['pneumonia'"), "record 1: Labels is no list of texts as Python writes one"),
            (both("Labels", "pneumonia"), "record 1: Labels is no list"),
            (both("Labels", "[['a']]"), "must be a list of t"),
            (both("Labels", "['pneumonai']"), "record 1: Labels holds a name that the set does not have"),
            (both("Localizations", "['left']"), "record 1: Localizations must be a list of places"),
            (both("Localizations", "[nan]"), "record 1: Localizations must be a list of texts"),
            (both(sentence, "['pneumonia']"), f"record 1: {sentence} must be a list for each sentence"),
            (both(sentence, "[['pneumonai']]"), f"record 1: {sentence} holds a name that the set does not have"),
            (both(sentence, "[[1]]"), f"record 1: {sentence} is no list of texts"),
            (lambda t: t.drop(columns="Labels"), "column 'Labels' is missing"),
            (lambda t: t.rename(columns={"Projection": "View"}), "column 'Projection' is missing"),
            (lambda t: t.iloc[:0], "table holds no record")]
    for change, message in rows:
        assert message in refused(change), (message, refused(change))
    for options, message in ((dict(
            remove="*.csv"), "has no PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv: `python data_scripts/"
                              "padchest.py fetch` says"), (dict(remove="*.png"), "images are missing, all"),
                             (dict(damaged="error"), "ImageID names an image that is missing"),
                             (dict(views="costal"),
                              "views must be of PA, AP, LATERAL, LL, UNKNOWN, got 'costal'"),
                             (dict(labelled="nurse"),
                              "labelled must be of Physician, RNN_model"), (dict(damaged=None),
                                                                            "damaged must be")):
        assert message in refused(**options), message
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        (root / "copy").mkdir()
        (root / "copy" / "901_00-001-001.png").write_bytes(b"")
        with pytest.raises(DataError, match="occurs in two folders under the root"):
            [load(s, root) for s in SPLITS]
        (root / "copy" / "901_00-001-001.png").unlink()
        (root / "0" / "901_00-001-001.png").write_bytes(b"no image")
        parts = [load(s, root) for s in SPLITS]
        assert sum(p.counts.get("damaged images", 0) for p in parts) == 1
        (root / TABLE).rename(root / "PADCHEST_chest_x_ray_images_labels_160K_02.csv")
        fixture(root)
        with pytest.raises(DataError, match="table lies beside"):
            load("train", root)


def test_the_whole_table_of_padchest_is_read():
    import shutil

    real = bundled_file("nih").parent / f"{TABLE}.gz"
    if not real.is_file(): pytest.skip("this torchxrayvision has no table of PadChest")
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(real, d)
        table, left = read_table(d)
    every = pd.concat([table, left])
    assert [every[c].nunique() for c in ("ImageID", "StudyID", "PatientID")] == [*PUBLISHED.values()]
    assert len(left) == 3 and left.StudyID.nunique() == 1
    for column in ("PatientID", "ReportID", "StudyID"): # none lies in two splits
        assert table.groupby(column).split.nunique().max() == 1
    pairs = table.drop_duplicates("PatientID").groupby("group").size().value_counts().to_dict()
    assert pairs.keys() == {1, 2} and pairs[2] == 1120
    share = table.drop_duplicates("StudyID").split.value_counts(normalize=True)
    assert abs(share["train"] - .7) < .01 and abs(share["valid"] - .1) < .01
    assert table.view.isna().sum() == 11 and table.age.isna().sum() == 6 and table.sex.isna().sum() == 22
    assert check_lists(table) == {"without labels": 590, "excluded": 964, "by sentence": 26413}


def test_padchest_prepared_folder_gives_the_same_studies():
    from rrg_core.engine.settings import repo_root

    with tempfile.TemporaryDirectory() as d:
        root, out = fixture(Path(d) / "raw"), Path(d) / "out"
        raw = {s: load(s, root) for s in SPLITS}
        prepare(root, out)
        (Path(d) / "raw").rename(Path(d) / "elsewhere")
        for split, studies in raw.items():
            again = load(split, out, views=("PA", "ap"))
            assert list(again) == list(studies) and again.counts == studies.counts
        for options in (dict(views=()), dict(labelled="Physician")):
            with pytest.raises(CourseError, match=f"{next(iter(options))} = "):
                load("train", out, **options)
        with pytest.raises(CourseError, match="must stay outside"):
            prepare(Path(d) / "elsewhere", repo_root() / "figures")


def test_padchest_verify_reads_everything():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(d)
        cut = next(root.rglob("903*.png"))
        cut.write_bytes(cut.read_bytes()[:-60])
        counts, wrong = verify(root)
        seen = verify(root, images=False)
    assert counts == {"images": 11, "studies": 8, "patients": 6, "images listed": 9, "images missing": 1,
                      "images damaged": 1}
    assert "images: 11 here, 160,861 published" in wrong
    assert wrong[-2:] == [f"{TABLE} record 4: damaged", f"{TABLE} record 11: missing"]
    assert seen == (counts | {"images damaged": 0}, [*wrong[:-2], wrong[-1]])


def test_padchest_errors_quote_nothing():
    from rrg_core.tools.house import quoting

    def in_table(column):
        def call(value):
            with tempfile.TemporaryDirectory() as d:
                root = fixture(Path(d))
                table = pd.read_csv(root / TABLE, dtype=str, index_col=0).assign(**{column: str(value)})
                table.to_csv(root / TABLE)
                for split in SPLITS: load(split, root, damaged="error")
        return call

    calls = {column: in_table(column) for column in ("Labels", "Report", "PatientID")}
    calls |= {"a list": list_of, "split": load, "root": lambda x: load("train", x),
              "views": lambda x: load("train", ".", views=[x]), "who": lambda x: load("train", ".", labelled=[x])}
    assert quoting(calls) == []
