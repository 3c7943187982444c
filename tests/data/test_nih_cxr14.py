"""Exported from nbs/01j_nih_cxr14.ipynb: edit it there, then run `nbdev-export`."""
import os, re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.engine.settings import CourseError
from rrg_core.data.bundled import NIH_LABELS, bundled_file
from rrg_core.data.bundled import TO_OBSERVATION as SHARED
from rrg_core.data.raw import FAULTS, differing, files_under, film, filled, from_folder, how_to_fetch, look_at, numbers, opened, patient_split, prepare_folder, refuse, size_or_fault, table_of, unique
from rrg_core.data.storage import Studies, one_of, spread
from rrg_core.data.study import Box, DataError, Study, named, named_file, without_text
import contextlib, io, pytest, tempfile
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from PIL import Image as PILImage
from rrg_core.data.bundled import nih, nih_boxes
from rrg_core.data.study import OBSERVATIONS, SPLITS, check_splits
from rrg_core.engine.settings import repo_root
from rrg_core.data.nih_cxr14 import *


def test_nih_classes_are_those_of_the_course_s_labeler():
    from rrg_core.labels import label
    assert len(BOXED) == 8 and set(BOXED) < set(NIH_LABELS) and set(TO_OBSERVATION.values()) < set(OBSERVATIONS)
    assert set(NIH_LABELS) - set(TO_OBSERVATION) == {"Emphysema", "Fibrosis", "Hernia"}
    for name, observation in TO_OBSERVATION.items():
        if name != "No Finding":
            assert label(f"There is {name.lower().replace('_', ' ')}.")[observation] == 1, name


def test_nih_tables_agree_with_the_other_reader():
    with tempfile.TemporaryDirectory() as d:
        mine, theirs = read_labels(d), nih() # of 01b, which splits the labels in another way
        assert mine.image.tolist() == theirs.image.tolist() and mine.age.tolist() == theirs.age.tolist()
        assert mine.patient.astype(int).tolist() == theirs.patient.tolist()
        assert mine["view"].tolist() == theirs["view"].tolist() and mine.sex.tolist() == theirs.sex.tolist()
        for c in NIH_LABELS:
            assert (mine.labels.map(lambda found: c in found) == theirs[c]).all(), c
        a, b = read_boxes(d, mine), nih_boxes()
        assert a[["image", "label"]].equals(b[["image", "label"]])
        np.testing.assert_allclose(a[["x0", "y0", "x1", "y1"]], b[["x0", "y0", "x1", "y1"]] * 1024, rtol=1e-12)


def test_nih_halves_share_no_patient():
    with tempfile.TemporaryDirectory() as d:
        labels = read_labels(d)
        boxes = read_boxes(d, labels)
        home = split_images(d, labels, boxes, "boxes")
        patient = labels.set_index("image").patient
        groups = {s: set(patient[home == s]) for s in SPLITS}
        assert not groups["valid"] & groups["test"] and not groups["train"] & (groups["valid"] | groups["test"])
        assert set(home.index[home.isin(("valid", "test"))]) == set(boxes.image) and len(groups["valid"]) + len(
            groups["test"]) == 726 # patients with a box, counted by another program
        assert abs((home == "valid").sum() / 880 - .5) < .06 # 726 patients: one standard deviation is .019
        again = split_images(d, labels.sample(frac=1, random_state=1), boxes[::-1], "boxes")
        assert again.sort_index().equals(home.sort_index()) # no order changes it
        assert all(boxes[boxes.image.map(home) == s].label.nunique() == 8 for s in ("valid", "test"))


def test_nih_reads_every_field():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        parts = {s: load(s, root, names="own") for s in SPLITS}
        found = {s.study_id: s for p in parts.values() for s in p}
        assert len(found) == 10 and check_splits(found.values())["test"] == 6
        s = found["00090002_000"]
        assert (s.patient_id, s.source, s.split, s.site, s.report) == (
            "00090002", "nih", "test", "NIH Clinical Center", None)
        assert [(i.image_id, i.width, i.height, i.view, i.load().shape) for i in s.images] == [
            ("00090002_000", 32, 32, "AP", (32, 32))]
        assert [(b.label, b.xyxy) for b in s.boxes] == [("Mass", (0, 0, 4, 3)), ("Nodule", (30, 31, 32, 32))]
        assert s.meta == {"classes": ["Mass", "Nodule"], "age": 81, "sex": "M"}
        assert {o: v for o, v in s.labels.items() if v is not None} == {"Lung Lesion": 1} # nothing is 0
        assert [(b.label, b.xyxy) for b in found["00090003_000"].boxes] == [
            ("Infiltration", (2, 2.015625, 12, 16.015625)), ("Effusion", (2, 21.875, 10, 31.25))]
        assert [found[f"0009000{k}_000"].meta["age"] for k in (3, 5, 6, 1)] == [None, 60, 0, 57]
        assert found["00090005_000"].images[0].load().shape == (32, 32) # it was a colour image
        assert found["00090004_000"].labels == {} and found["00090004_000"].meta["classes"] == ["Hernia"]
        assert found["00090001_001"].labels["No Finding"] == 1
        assert found["00090006_000"].labels["Pleural Other"] == found["00090006_000"].labels["Edema"] == 1
        assert parts["test"].counts == {"images": 6, "boxes": 8, "impossible ages": 1, "kept": 6}
        course = {s.study_id: [b.label for b in s.boxes] for s in load("test", root, stream=True)}
        assert course["00090002_000"] == ["Lung Lesion", "Lung Lesion"] and course["00090003_000"] == [
            "Lung Opacity", "Pleural Effusion"]


def test_nih_reads_older_tables_and_other_folders():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        new, old = fixture(d / "new"), fixture(d / "old", "")
        flat = fixture(d / "flat")
        (flat / "images").mkdir()
        for path in sorted(flat.glob("images_*/images/*.png")):
            path.rename(flat / "images" / path.name)
        take = lambda root, way: [replaced(s) for p in SPLITS for s in load(p, root, way, stream=True)]
        replaced = lambda s: (s.study_id, s.split, s.labels, s.boxes, s.meta, s.images[0].width, s.images[0].view)
        for way in SPLITS_BY:
            assert take(new, way) == take(old, way) == take(flat, way)
        for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"):
            t = (new / name).read_text().splitlines()
            (new / name).write_text("\n".join([t[0].replace(",", " , "), *t[1:]]) + "\n") # stray blanks
        assert take(new, "boxes") == take(old, "boxes")
        (flat / "images" / "._00090001_000.png").write_bytes(b"of a Mac")
        (flat / "images" / "00090001_000 (1).png").write_bytes(b"a second copy")
        assert take(flat, "boxes") == take(old, "boxes")
        (flat / "images_001" / "00090001_000.png").write_bytes(b"")
        with pytest.raises(DataError, match="file '00090001_000.png': name occurs in two folders under the root"):
            load("test", flat)


def test_nih_halves_of_the_miniature():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        parts = {s: load(s, root, "boxes") for s in SPLITS}
        ids = {s: [x.study_id for x in p] for s, p in parts.items()}
        assert ids["train"] == ["00090004_000", "00090004_001", "00090005_000", "00090006_000"]
        assert sorted(ids["valid"] + ids["test"]) == [
            "00090001_000", "00090002_000", "00090003_000", "00090007_000", "00090007_001"]
        for patient in ("00090007", "00090004"): # the two films of each stay together
            assert len({s for s in ids for i in ids[s] if i.startswith(patient)}) == 1
        assert parts["train"].counts["films without a box, of patients with one"] == 1
        (root / "test_list.txt").unlink()
        assert [x.study_id for x in load("test", root, "boxes", stream=True)] == ids["test"] # it needs no list
        with pytest.raises(CourseError, match="has no test_list.txt.*'boxes' does without"):
            load("test", root)


def test_wrong_records_of_nih_are_named():
    cell = lambda k, column, value: lambda rows: [
        ",".join([*r.split(",")[:column], value, *r.split(",")[column + 1:]]) if i == k else r
        for i, r in enumerate(rows)]
    twice, none = lambda k: lambda rows: [*rows, rows[k]], lambda rows: rows[:1]
    entry, boxes = "Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"
    rows = [ # file, the change to its lines (0 is the header), what the error says of it
        (entry, cell(0, 0, "Image"), ": column 'Image Index' is missing"),
        (entry, cell(0, 1, "Labels of findings"), ": column 'Finding Labels' is missing"),
        (entry, cell(0, 5, "Gender"), ": column 'Patient Sex' is missing"),
        (entry, cell(0, 6, "Patient Sex"), ": column 'Patient Sex' occurs twice"),
        (entry, cell(0, 4, "Age"), ": column 'Patient Age' is missing"),
        (entry, cell(3, 1, ""), " record 3: Finding Labels is missing"),
        (entry, cell(3, 1, "Mass|Pneumo"), " record 3: Finding Labels has an unknown label 'Pneumo'"),
        (entry, cell(3, 1, "mass"), " record 3: Finding Labels has an unknown label 'mass'"),
        (entry, cell(3, 1, "Mass|Mass"), " record 3: Finding Labels has a label twice"),
        (entry, cell(3, 1, "Mass|No Finding"), " record 3: Finding Labels has No Finding beside a finding"),
        (entry, cell(3, 0, "2_000.png"), " record 3: Image Index must be ########_###.png"),
        (entry, cell(3, 3, "3"), " record 3: Patient ID is not the number"),
        (entry, cell(3, 3, "two"), " record 3: Patient ID is not the number"),
        (entry, cell(3, 4, "old"), " record 3: Patient Age must be a number of years, got 'old'"),
        (entry, cell(3, 4, "-1"), " record 3: Patient Age must be a number of years, got '-1'"),
        (entry, cell(3, 5, "X"), " record 3: Patient Sex 'X' is neither F nor M"),
        (entry, cell(3, 6, "LL"), " record 3: View Position 'LL' is neither AP nor PA"),
        (entry, twice(3), " record 11: Image Index is duplicated"), (entry, none, ": table holds no record"),
        (boxes, cell(0, 2, "Box ["), ": column 'x' is missing"),
        (boxes, cell(0, 5, "height]"), ": column 'h' is missing"),
        (boxes, cell(2, 1, "Masses"), " record 2: Finding Label 'Masses' is unknown; known: Atelectasis"),
        (boxes, cell(2, 1, "Hernia"), " record 2: Finding Label 'Hernia' is unknown"),
        (boxes, cell(2, 1, ""), " record 2: Finding Label is missing"),
        (boxes, cell(2, 2, ""), " record 2: x is missing"),
        (boxes, cell(2, 2, "left"), " record 2: x must be a finite number, got 'left'"),
        (boxes, cell(2, 4, "0"), " record 2: box (0, 0, 0, 96) has no width or no height"),
        (boxes, cell(2, 5, "-9"), " record 2: box (0, 0, 128, -9) has no width or no height"),
        (boxes, cell(2, 2, "-1"), " record 2: box lies outside of its 1024 × 1024 film"),
        (boxes, cell(2, 4, "1025"), " record 2: box lies outside of its 1024 × 1024 film"),
        (boxes, cell(2, 0, "00090009_000.png"), " record 2: Image Index names no film of the label table"),
        (boxes, cell(2, 1, "Effusion"), " record 2: Finding Label is none of the labels of its film"),
        (boxes, twice(2), " record 9: box is duplicated"), (boxes, none, ": table holds no record"),
        ("test_list.txt", twice(2), " record 7: image is duplicated"),
        ("test_list.txt", cell(2, 0, "00090009_000.png"), " record 3: image is not in the label table"),
        ("test_list.txt", cell(2, 0, "../secret.png"), " record 3: image is not in the label table")
    ]
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        for name, change, message in rows:
            whole = (path := root / name).read_text()
            path.write_text("\n".join(change(whole.splitlines())) + "\n")
            with pytest.raises(DataError) as e:
                labels = read_labels(root)
                split_images(root, labels, read_boxes(root, labels))
            assert str(e.value).startswith(name + message), (name, message, str(e.value))
            path.write_text(whole)
        lists = {p: (root / f"{p}_list.txt").read_text().split() for p in ("test", "train_val")}
        train, test = lists["train_val"], lists["test"]
        leaks = [([*train, test[0]], test, "'00090001_000.png': split leaks: it is in both official lists"),
                 (train[1:], test, "'00090004_000.png': split is in no official list, one of 1"),
                 ([*train, test[-1]], test[:-1], "'00090007_000.png': split leaks: its patient is in both lists")]
        for train, test, message in leaks:
            (root / "train_val_list.txt").write_text("\n".join(train))
            (root / "test_list.txt").write_text("\n".join(test))
            with pytest.raises(DataError) as e:
                load("train", root)
            assert message in str(e.value), (message, str(e.value))


def test_nih_films_that_are_missing():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        files = {p.name: p for p in root.rglob("*.png")}
        files["00090002_000.png"].unlink()
        with pytest.raises(DataError, match="Data_Entry_2017_v2020.csv record 3: Image Index names .* missing"):
            load("test", root)
        assert load("test", root, damaged="skip").counts["missing images"] == 1
        files["00090003_000.png"].write_bytes(files["00090003_000.png"].read_bytes()[:20])
        counts = load("test", root, damaged="skip").counts
        names = ("images", "missing images", "damaged images", "kept")
        assert [counts[name] for name in names] == [4, 1, 1, 4]
        for path in files.values():
            path.unlink(missing_ok=True)
        with pytest.raises(DataError, match="images are missing, all 6 of this split"):
            load("test", root, damaged="skip")
        for options in (dict(split_by="chex"), dict(names="nih"), dict(damaged=True)):
            with pytest.raises(DataError, match=f"load: {[*options][0]} must be of"):
                load("train", root, **options)


def test_nih_prepares_and_verifies():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        root, out = fixture(d / "raw"), d / "out"
        raw = {s: load(s, root, "boxes") for s in SPLITS}
        note = prepare(root, out, "boxes", jobs=2)
        counts, differ = verify(root)
        assert counts == {"films": 10, "patients": 7, "boxes": 8, "images listed": 10, "images missing": 0,
                          "images damaged": 0}
        assert differ == ["films: 10 here, 112,120 published", "patients: 7 here, 30,805 published",
                          "boxes: 8 here, 984 published"]
        files = sorted(root.rglob("*.png"))
        files[0].unlink()
        files[1].write_bytes(b"half")
        wrong = [f"Data_Entry_2017_v2020.csv record {k}" for k in ("1: missing", "2: damaged")]
        assert verify(root)[1] == differ + wrong and verify(root, False)[1] == differ + wrong[:1]
        root.rename(d / "elsewhere") # the raw files are not asked any more
        for split, studies in raw.items():
            again = load(split, out, "boxes")
            assert list(again) == list(studies) and again.counts == studies.counts
            assert note["splits"][split]["studies"] == len(studies)
        with pytest.raises(CourseError, match="split_by = 'boxes'"):
            load("train", out)


def test_the_script_of_nih_runs():
    spec = spec_from_file_location("script", repo_root() / "data_scripts" / "nih.py")
    spec.loader.exec_module(script := module_from_spec(spec))
    with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(said := io.StringIO()):
        root = fixture(Path(d) / "raw")
        assert script.main(["fetch"]) == 0
        assert script.main(["verify", str(root), "--jobs", "1"]) == 1 # not the published counts
        assert script.main(["prepare", str(root), f"{d}/out", "--split-by", "boxes", "--jobs", "1"]) == 0
        assert len(load("train", f"{d}/out", "boxes")) == 4
    assert "differs: films: 10 here, 112,120 published" in said.getvalue()
    assert "nihcc.app.box.com" in said.getvalue()


def test_errors_of_nih_quote_nothing_long():
    from rrg_core.tools.house import quoting

    folder = tempfile.TemporaryDirectory()
    root = fixture(Path(folder.name))
    entry, drawn = root / "Data_Entry_2017_v2020.csv", root / "BBox_List_2017.csv"

    def in_table(path, column):
        whole = path.read_bytes()
        t = pd.read_csv(path, dtype=str)

        def call(value):
            t.assign(**{column: str(value)}).to_csv(path, index=False)
            try:
                read_boxes(root, read_labels(root))
            finally:
                path.write_bytes(whole)
        return call

    calls = {f"entry {c}": in_table(entry, c) for c in (
        "Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Sex", "View Position")}
    calls |= {f"boxes {c}": in_table(drawn, c) for c in ("Image Index", "Finding Label", "Bbox [x", "h]")}
    calls |= {f"option {o}": lambda x, o=o: load("train", root, **{o: x}) for o in (
        "split_by", "names", "damaged")}
    none = pd.DataFrame({"image": [], "patient": []})
    calls |= {"split": lambda x: load(x, root), "root": lambda x: load("train", x),
              "split_images": lambda x: split_images(x, none, none)}
    assert quoting(calls) == []
