"""Exported from nbs/01i_vindr_cxr.ipynb: edit it there, then run `nbdev-export`."""
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
import pandas as pd
from rrg_core.engine.settings import CourseError
from rrg_core.data.bundled import TO_OBSERVATION as SHARED
from rrg_core.data.bundled import VINDR_LABELS, bundled_file
from rrg_core.data.raw import FAULTS, NoSplit, differing, filled, film, from_folder, how_to_fetch, look_at, numbers, opened, patient_split, prepare_folder, refuse, size_or_fault, table_of, unique, write_dicom
from rrg_core.data.storage import Studies, one_of, spread
from rrg_core.data.study import Box, DataError, Study, named, named_file
import contextlib, io, pytest, tempfile
from importlib.util import module_from_spec, spec_from_file_location
import numpy as np
from PIL import Image as PILImage
from rrg_core.data.bundled import vindr_boxes
from rrg_core.data.study import OBSERVATIONS, SPLITS
from rrg_core.engine.settings import repo_root
from rrg_core.data.vindr_cxr import *


def test_vindr_classes_are_those_of_the_course_s_labeler():
    from rrg_core.labels import label
    assert len(CLASSES) == len(set(CLASSES)) == 28 and len(LOCAL) == 22
    assert set(VINDR_LABELS) < set(CLASSES) and set(TO_OBSERVATION.values()) < set(OBSERVATIONS)
    for name, observation in TO_OBSERVATION.items():
        if name == "No finding": continue
        read = label(f"There is {name.lower().replace('/', ' and ')}.")
        assert read[observation] == 1, (name, observation, {o: v for o, v in read.items() if v})


def test_fusing_three_readers_boxes():
    box = lambda label, *x: Box(label, *map(float, x))
    assert fuse([]) == [] and fuse([box("a", 0, 0, 1, 1)]) == [box("a", 0, 0, 1, 1)]
    same = [box("a", 0, 0, 10, 10)] * 3
    assert fuse(same) == same[:1] and fuse(same + [box("b", 0, 0, 10, 10)]) == [same[0], box("b", 0, 0, 10, 10)]
    a, b, c = box("a", 0, 0, 10, 10), box("a", 2, 0, 12, 10), box("a", 40, 0, 50, 10)
    assert fuse([a, b, c]) == [box("a", 1, 0, 11, 10), c] == fuse([b, a, c])
    assert fuse([a, b], iou=.66) == [box("a", 1, 0, 11, 10)] and fuse([a, b], iou=.67) == [a, b] # 80 / 120 = .667
    edge = box("a", 9, 0, 19, 10) # overlaps a by 10 / 190
    assert fuse([a, edge]) == [a, edge] and fuse([a, edge], iou=.05) == [box("a", 4.5, 0, 14.5, 10)]
    (chain, ) = fuse([a, b, edge]) # the mean of the first two overlaps it by 20 / 180 = .111
    np.testing.assert_allclose(chain.xyxy, (11/3, 0, 41/3, 10))
    assert fuse([a, b, edge], iou=.12) == [box("a", 1, 0, 11, 10), edge]
    assert fuse([edge, a, b]) == [edge, box("a", 1, 0, 11, 10)] # the order matters, as the page says
    nested = [box("a", 0, 0, 10, 10), box("a", 4, 4, 6, 6)] # 4 / 100
    assert len(fuse(nested)) == 2 and fuse(nested, iou=.03) == [box("a", 2, 2, 8, 8)]
    rng = np.random.default_rng(0)
    for _ in range(50): # the mean of a group lies among its boxes, and nothing overlaps by more than 1
        xy = rng.uniform(0, 50, (6, 2))
        boxes = [box("a", *p, *(p + s)) for p, s in zip(xy, rng.uniform(5, 40, (6, 2)))]
        out = fuse(boxes)
        assert 1 <= len(out) <= 6 and fuse(boxes, 1.) == boxes
        assert min(b.x0 for b in boxes) <= min(b.x0 for b in out)
        assert max(b.y1 for b in out) <= max(b.y1 for b in boxes)


def test_vindr_reads_every_field():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        parts = {s: load(s, root, split_by="chex") for s in SPLITS}
        assert {s: len(p) for s, p in parts.items()} == {"train": 6, "valid": 2, "test": 2}
        normal, heart, alone, three, opacity, rib = parts["train"]
        assert heart.study_id == heart.patient_id == heart.images[0].image_id == f"{2:032x}"
        assert (heart.source, heart.split, heart.report, heart.sentences) == ("vindr-cxr", "train", None, [])
        assert [(i.width, i.height, i.view, i.load().shape) for i in heart.images] == [(30, 40, "PA", (40, 30))]
        assert heart.meta == {"classes": ["Cardiomegaly"], "votes": {"Cardiomegaly": 3, "Pleural effusion": 1},
                              "readers": ["R8", "R9", "R9", "R10"]}
        assert [(b.label, b.xyxy) for b in heart.boxes] == [
            ("Cardiomegaly", (4, 20, 24, 30)), ("Cardiomegaly", (5, 20, 25, 30)),
            ("Pleural Effusion", (2, 24, 10, 36)), ("Cardiomegaly", (6, 20, 26, 30))]
        positive = lambda s: {o for o, v in s.labels.items() if v == 1}
        assert [positive(s) for s in parts["train"]] == [
            {"No Finding"}, {"Cardiomegaly"}, {"No Finding"}, set(), {"Lung Opacity", "Pneumonia"}, {"Fracture"}]
        assert {o for o, v in heart.labels.items() if v is None} == {
            "Enlarged Cardiomediastinum", "Support Devices"} # no class speaks of them
        assert normal.boxes == [] and normal.meta["votes"] == {"No finding": 3} and len(three.boxes) == 3
        assert alone.meta == {"classes": ["No finding"], "votes": {"Pleural effusion": 1, "No finding": 2},
                              "readers": ["R8"]} and len(alone.boxes) == 1
        assert [b.label for b in three.boxes] == ["Lung Opacity", "Calcification", "ILD"] # two keep their names
        assert rib.meta["classes"] == ["Rib fracture", "Other diseases"]
        assert rib.boxes[0].xyxy == (0, 0, 30, 40)
        assert parts["train"].counts == {"images": 6, "boxes": 15, "films without a box": 1, "kept": 6}
        test = {s.study_id[-2:]: s for p in ("valid", "test") for s in parts[p]}
        assert test["66"].labels["Pleural Effusion"] == 1 and "readers" not in test["66"].meta # 0x66 = 102
        assert positive(test["68"]) == {"Lung Lesion"}
        assert test["68"].meta["classes"] == ["Aortic enlargement", "Lung tumor"]
        assert test["66"].meta["classes"] == ["Pleural effusion", "Other diseases"]


def test_vindr_boxes_are_fused_in_training_alone():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        fused = {s.study_id: s for p in SPLITS for s in load(p, root, "fused", "own", "chex")}
        given = {s.study_id: s for p in SPLITS for s in load(p, root, "given", "own", "chex")}
        heart, opacity = fused[f"{2:032x}"], fused[f"{5:032x}"]
        assert [(b.label, b.xyxy) for b in heart.boxes] == [
            ("Cardiomegaly", (5, 20, 25, 30)), ("Pleural effusion", (2, 24, 10, 36))]
        assert len(opacity.boxes) == 2 and "readers" not in heart.meta
        np.testing.assert_allclose(opacity.boxes[0].xyxy, (10/3, 10/3, 40/3, 40/3)) # of 3, 4, 3 and 3, 3, 4
        assert fused[f"{6:032x}"].boxes[0].xyxy == (0, 0, 30, 40) # two readers, the whole film
        for i in range(101, 105):
            assert fused[f"{i:032x}"] == given[f"{i:032x}"]
        course = next(s for s in load("train", root, "fused", split_by="chex") if s.study_id == f"{4:032x}")
        assert [b.label for b in course.boxes] == ["Lung Opacity", "Calcification", "ILD"]


def test_vindr_kaggle_s_copy():
    from rrg_core.data import vindr_cxr
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        root = fixture(Path(d), "kaggle")
        assert layout(root) == "kaggle" and layout(fixture(Path(d) / "p")) == "physionet"
        found = {s.study_id[-1]: s for p in SPLITS for s in load(p, root, "given", "own", "hash")}
        assert set(found) == set("123456") and found["2"].meta["classes"] == ["Cardiomegaly"]
        assert found["4"].meta["classes"] == [] and found["5"].meta["classes"] == ["Lung Opacity"]
        assert found["6"].meta["classes"] == ["No finding"]
        assert found["6"].meta["votes"] == {"No finding": 2, "Nodule/Mass": 1}
        assert {o for o, v in found["2"].labels.items() if v is None} == {
            "Enlarged Cardiomediastinum", "Edema", "Pneumonia", "Fracture", "Support Devices"} # not asked for
        for split in SPLITS:
            with pytest.raises(DataError, match="split_by 'chex' needs the test films, which Kaggle's copy"):
                load(split, root, split_by="chex")
        for stream in (False, True):
            with pytest.raises(NoSplit, match="no labels of its test films: split_by='hash' draws a test"):
                list(load("test", root, stream=stream))
        assert len(load("train", root)) + len(load("valid", root)) == 6
        note = vindr_cxr.prepare(root, Path(d) / "out")
        assert note["splits"]["test"]["studies"] == 0
        with pytest.raises(NoSplit, match="without a test split"):
            load("test", Path(d) / "out")
        m.setattr(vindr_cxr, "bundled_file", lambda name: Path(d) / "elsewhere.csv")
        (root / "train.csv").rename(Path(d) / "elsewhere.csv") # as the installed table
        again = [s for p in SPLITS for s in vindr_cxr.load(p, root, "given", "own", "hash")]
        assert {s.study_id[-1]: s for s in again} == found


def test_vindr_splits_are_drawn_once():
    from rrg_core.data.raw import patient_split
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        number = lambda studies: [int(s.study_id, 16) for s in studies]
        ids = lambda *way: [number(load(split, root, "given", "own", *way, stream=True)) for split in SPLITS]
        train, valid, test = ids("official")
        assert test == [101, 102, 103, 104] and sorted(train + valid) == [1, 2, 3, 4, 5, 6]
        assert ids() == ids("official") # the default
        assert ids("chex")[0] == [1, 2, 3, 4, 5, 6]
        half = pd.Series(range(101, 105)).sample(frac=1, random_state=12345).tolist() # ChEX's own line
        assert [set(x) for x in ids("chex")[1:]] == [set(half[:2]), set(half[2:])]
        assert sorted(sum(ids("hash"), [])) == [1, 2, 3, 4, 5, 6] # the test films are in none of them
        tenth = [k for k in range(1, 7) if patient_split("vindr-cxr", f"{k:032x}", (.9, .1)) == "valid"]
        assert valid == tenth and train == [k for k in range(1, 7) if k not in tenth]
        path = root / "annotations" / "image_labels_test.csv"
        t = pd.read_csv(path)
        t.assign(image_id=[f"{1:032x}", *t.image_id[1:]]).to_csv(path, index=False)
        with pytest.raises(DataError, match=f"image '{1:032x}': split leaks: it is in train and in test"):
            load("train", root)


def test_vindr_reads_dicom():
    pytest.importorskip("pydicom")
    with tempfile.TemporaryDirectory() as d:
        root, copy = fixture(Path(d) / "dicom", picture="dicom"), fixture(Path(d) / "png")
        assert film_files(root)[f"{1:032x}"].suffix == ".dicom"
        for a, b in zip(load("train", root, split_by="chex"), load("train", copy, split_by="chex"), strict=True):
            assert (a.boxes, a.labels, a.meta) == (b.boxes, b.labels, b.meta) and a.images[0].width == 30
            assert (a.images[0].load() == 255 - b.images[0].load()).all() # MONOCHROME1: inverted
        (root / "train" / f"{1:032x}.png").write_bytes(b"a copy beside it")
        assert film_files(root)[f"{1:032x}"].suffix == ".dicom"
        path = film_files(root)[f"{3:032x}"]
        for data in (b"", b"no film", path.read_bytes()[:150], b"secret" * 50):
            path.write_bytes(data)
            with pytest.raises(DataError, match="labels_train.csv record 7: image_id names .* damaged") as e:
                load("train", root, split_by="chex")
            assert "secret" not in str(e.value)


def test_vindr_boxes_follow_a_shrunk_film():
    from functools import partial
    from rrg_core.data import vindr_cxr
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        load = partial(vindr_cxr.load, split_by="chex")
        before = list(load("train", root))
        for path in (root / "train").iterdir():
            PILImage.open(path).resize((15, 10)).save(path) # half as wide, a quarter as high
        outside = r"annotations_train.csv record 4: box \(4, 20, 24, 30\) lies outside of its 15 × 10 image"
        with pytest.raises(DataError, match=outside):
            load("train", root)
        meta = pd.DataFrame({"image_id": [s.study_id for s in before], "dim0": 40, "dim1": 30})
        meta.to_csv(root / "train_meta.csv", index=False)
        for a, b in zip(before, load("train", root), strict=True):
            assert (b.images[0].width, b.images[0].height) == (15, 10) and a.labels == b.labels
            half = [tuple(v * s for v, s in zip(x.xyxy, (.5, .25, .5, .25))) for x in a.boxes]
            assert half == [x.xyxy for x in b.boxes]
        for change, message in ((lambda t: t.assign(dim0=0), "record 1: dim0 must be a number of at least 1"),
                                (lambda t: t.assign(dim1=None), "record 1: dim1 is missing"),
                                (lambda t: t.drop(columns="dim1"), "column 'dim1' is missing"),
                                (lambda t: pd.concat([t, t]), "record 7: image_id is duplicated")):
            change(meta).to_csv(root / "train_meta.csv", index=False)
            with pytest.raises(DataError, match=f"train_meta.csv:? ?{message}"):
                load("train", root)


def test_wrong_records_of_vindr_are_named():
    put = lambda column, value, k=4: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    more = lambda k, **cells: lambda t: pd.concat([t, t.iloc[[k]].assign(**cells)])
    train, test = "annotations_train", "annotations_test" # record 5 is a heart
    labels, consensus = "image_labels_train", "image_labels_test"
    rows = [ # table, the change, and what the error says of it
        *((train, lambda t, c=c: t.drop(columns=c), f": column '{c}' is missing") for c in (
            "image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max")),
        *((train, put(c, None), f" record 5: {c} is missing") for c in ("image_id", "rad_id", "class_name")),
        *((train, put(c, None), " record 5: box has some of its four numbers") for c in ("x_min", "y_max")),
        *((train, put(c, "two"), f" record 5: {c} must be a finite number, got 'two'") for c in (
            "y_min", "x_max")),
        (train, put("x_max", "4"), " record 5: box (5, 20, 4, 30) is no rectangle"),
        (train, put("y_max", "20"), " record 5: box (5, 20, 25, 20) is no rectangle"),
        (train, put("x_max", "31"), " record 5: box (5, 20, 31, 30) lies outside of its 30 × 40 image"),
        (train, put("y_min", "-1"), " record 5: box (5, -1, 25, 30) lies outside of its 30 × 40 image"),
        (train, put("class_name", "Cardiomegally"), " record 5: class_name 'Cardiomegally' is unknown; known: A"),
        (train, put("class_name", "No finding"), " record 5: box belongs to a class that has none"),
        (train, put("class_name", "COPD"), " record 5: box belongs to a class that has none"),
        (train, put("class_name", "Edema", 0), " record 1: box is missing"),
        (train, more(4), " record 21: record is duplicated"),
        (train, put("image_id", "f" * 32), " record 5: image_id is in no table of labels"),
        (train, lambda t: t[:0], ": table holds no record"),
        (test, lambda t: t.drop(columns="class_name"), ": column 'class_name' is missing"),
        (test, put("x_max", "0", 1), " record 2: box (2, 24, 0, 36) is no rectangle"),
        *((labels, lambda t, c=c: t.drop(columns=c), f": column '{c}' is missing") for c in (
            "image_id", "rad_id", "Edema", "Other diseases")),
        (labels, lambda t: t.assign(Scoliosis=0), ": column 'Scoliosis' is no class of VinDr-CXR"),
        (labels, put("Edema", "2"), " record 5: Edema must be 0 or 1, got 2"),
        (labels, put("Edema", None), " record 5: Edema must be 0 or 1, got nan"),
        (labels, put("Edema", "yes"), " record 5: Edema must be a finite number, got 'yes'"),
        (labels, put("No finding", "1"), " record 5: No finding is 1 beside a finding"),
        (labels, more(4), " record 19: image_id is duplicated"),
        (labels, more(4, rad_id="R11"), f": image '{2:032x}' was read by 4, expected 3"),
        (labels, lambda t: t.drop(index=4), f": image '{2:032x}' was read by 2, expected 3"),
        (labels, put("rad_id", None), " record 5: rad_id is missing"),
        (consensus, more(1), " record 5: image_id is duplicated"),
        (consensus, lambda t: t.drop(columns="Other disease"), ": column 'Other diseases' is missing")
    ]
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        for table, change, message in rows:
            path = root / "annotations" / f"{table}.csv"
            whole = path.read_bytes()
            change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)
            with pytest.raises(DataError) as e:
                for split in SPLITS:
                    list(load(split, root, split_by="chex", stream=True))
            assert str(e.value).startswith(f"{table}.csv{message}"), (table, message, str(e.value))
            path.write_bytes(whole)


def test_wrong_records_of_kaggle_s_table_are_named():
    rows = [
        (dict(class_id="3"), "record 1: class_id is not the number of its class"),
        (dict(class_id=None), "record 1: class_id is not the number of its class"),
        (dict(rad_id="R1"), r"image '0+1' was read by 1, expected 3|record 2: record is duplicated")
    ]
    with tempfile.TemporaryDirectory() as d:
        path = fixture(Path(d), "kaggle") / "train.csv"
        t = pd.read_csv(path, dtype=str)
        for cells, message in rows:
            t.assign(**cells).to_csv(path, index=False)
            with pytest.raises(DataError, match=f"train.csv:? ?({message})"):
                read_votes(Path(d))
        both = t.iloc[[0]].assign(class_name="ILD", class_id="5", x_min="1", y_min="1", x_max="9", y_max="9")
        pd.concat([t, both]).to_csv(path, index=False)
        with pytest.raises(DataError, match=f"image '{1:032x}' has a reader who saw no finding and a finding"):
            read_votes(Path(d))


def test_vindr_films_that_are_missing():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        files, skip = film_files(root), dict(split_by="chex", damaged="skip")
        files[f"{2:032x}"].unlink()
        with pytest.raises(DataError, match="image_labels_train.csv record 4: image_id names .* missing"):
            load("train", root, split_by="chex")
        assert load("train", root, **skip).counts["missing images"] == 1
        files[f"{3:032x}"].write_text("no film")
        counts = load("train", root, **skip).counts
        names = ("images", "missing images", "damaged images", "kept")
        assert [counts[name] for name in names] == [4, 1, 1, 4]
        for path in files.values():
            path.unlink(missing_ok=True)
        with pytest.raises(DataError, match="images are missing, all 6 of this split"):
            load("train", root, **skip)
        (Path(d) / "empty").mkdir()
        with pytest.raises(CourseError, match="holds neither.*vindr_cxr.py fetch"):
            load("train", Path(d) / "empty")
        (root / "annotations" / "annotations_test.csv").unlink()
        with pytest.raises(CourseError, match="annotations_test.csv.*vindr_cxr.py fetch"):
            load("test", root)
        for options in (dict(boxes="wbf"), dict(names="mine"), dict(damaged="ignore"), dict(split_by="random"),
                        dict(boxes=None), dict(names=3), dict(split_by=None)):
            with pytest.raises(DataError, match=f"load: {[*options][0]} must be of"):
                load("train", root, **options)


def test_vindr_prepares_and_verifies():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        root, out = fixture(d / "raw"), d / "out"
        raw = {s: load(s, root, "fused") for s in SPLITS}
        note = prepare(root, out, boxes="fused")
        counted = lambda n: dict(zip(("images listed", "images missing", "images damaged"), n))
        tables = {"train films": 6, "train boxes": 15, "test films": 4, "test boxes": 3}
        published = ["train films: 6 here, 15,000 published", "test films: 4 here, 3,000 published"]
        assert verify(root) == (tables | counted((10, 0, 0)), published)
        sorted((root / "train").iterdir())[0].unlink()
        sorted((root / "test").iterdir())[0].write_bytes(b"half")
        wrong = ["image_labels_train.csv record 1: missing", "image_labels_test.csv record 1: damaged"]
        assert verify(root) == (tables | counted((10, 1, 1)), published + wrong)
        assert verify(root, images=False) == (tables | counted((10, 1, 0)), published + wrong[:1])
        root.rename(d / "elsewhere") # the raw files are not asked any more
        for split, studies in raw.items():
            again = load(split, out, "fused")
            assert list(again) == list(studies) == list(load(split, out, "fused", stream=True))
            assert again.counts == studies.counts and note["splits"][split]["studies"] == len(studies)
        with pytest.raises(CourseError, match="boxes = 'fused'"):
            load("train", out)
        with pytest.raises(CourseError, match="must stay outside"):
            prepare(d / "elsewhere", repo_root() / "figures" / "vindr")


def test_vindr_sizes_are_read_in_several_processes():
    from rrg_core.data import vindr_cxr
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        assert list(vindr_cxr.load("train", root, jobs=2)) == list(load("train", root))


def test_the_script_of_vindr_runs():
    spec = spec_from_file_location("script", repo_root() / "data_scripts" / "vindr_cxr.py")
    spec.loader.exec_module(script := module_from_spec(spec))
    with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(said := io.StringIO()):
        root = fixture(Path(d) / "raw")
        assert script.main(["fetch"]) == 0
        assert script.main(["verify", str(root), "--jobs", "1"]) == 1 # not the published counts
        chosen = ["--boxes", "fused", "--split-by", "hash", "--jobs", "1"]
        assert script.main(["prepare", str(root), f"{d}/out", *chosen]) == 0
        assert sum(len(load(s, f"{d}/out", "fused", split_by="hash")) for s in SPLITS) == 6
    assert "differs: train films: 6 here, 15,000 published" in said.getvalue()
    assert "physionet.org/content/vindr-cxr" in said.getvalue()


def test_errors_of_vindr_quote_nothing_long():
    from rrg_core.tools.house import quoting

    folder = tempfile.TemporaryDirectory()
    root = fixture(Path(folder.name))

    def in_table(name, column):
        path = root / "annotations" / f"{name}.csv"
        whole = pd.read_csv(path, dtype=str)

        def call(value):
            whole.assign(**{column: str(value)}).to_csv(path, index=False)
            try:
                read_boxes(path) if "annotations" in name else read_votes(root)
            finally:
                whole.to_csv(path, index=False)
        return call

    calls = {f"{t} {c}": in_table(t, c) for t, columns in {
        "annotations_train": ("class_name", "x_min", "y_max"),
        "image_labels_train": ("image_id", "Edema", "No finding")}.items() for c in columns}
    calls |= {f"option {o}": lambda x, o=o: load("train", root, **{o: x}) for o in (
        "boxes", "names", "split_by", "damaged")}
    calls |= {"split": lambda x: load(x, root), "root": lambda x: load("train", x), "layout": layout,
              "read_votes": read_votes, "verify": verify}
    assert quoting(calls) == []
