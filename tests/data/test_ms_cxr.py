"""Exported from nbs/01h_ms_cxr.ipynb: edit it there, then run `nbdev-export`."""
import json, os, re
from collections.abc import Iterator
from functools import partial
from numbers import Real
from pathlib import Path
import pandas as pd
from rrg_core.engine.settings import CourseError, data_root
from rrg_core.data.mimic_cxr import image_of, read_images, report_name
from rrg_core.data.raw import NoSplit, differing, filled, from_folder, how_to_fetch, json_field, look_at, numbers, opened, prepare_folder, read_json, refuse, table_of
from rrg_core.data.storage import Studies, one_of
from rrg_core.data.study import SPLITS, Box, DataError, Image, Sentence, Study, check_splits, named, named_file, without_text
import contextlib, io, pytest, tempfile
from importlib.util import module_from_spec, spec_from_file_location
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from rrg_core.data import mimic_cxr
from rrg_core.engine.settings import repo_root
from rrg_core.data.ms_cxr import *


def test_the_eight_names_are_observations():
    from rrg_core.data.study import OBSERVATIONS
    assert len(CLASSES) == 8 and set(CLASSES) < set(OBSERVATIONS) and list(CLASSES) == sorted(CLASSES)


def test_ms_cxr_reads_every_field():
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "ms"), mimic_cxr.fixture(Path(d) / "mimic")
        parts = {s: load(s, root, mimic=mimic) for s in SPLITS}
        assert {s: [x.meta["study"] for x in p] for s, p in parts.items()} == {
            "train": ["59999901", "59999902"], "valid": ["59999903"], "test": ["59999906"]}
        assert check_splits(s for p in parts.values() for s in p) == {"train": 2, "valid": 1, "test": 1}
        s = parts["train"][1]
        dicom = "59999902-00000000-99999999-99999999-99999999"
        assert (s.study_id, s.patient_id, s.source, s.split, s.site) == (
            f"59999902/{dicom}", "19999901", "ms-cxr", "train", "Beth Israel Deaconess")
        assert [(i.image_id, i.width, i.height, i.view) for i in s.images] == [(dicom, 16, 20, "AP")]
        assert s.images[0].load().shape == (20, 16) and s.report is None and s.regions == {}
        assert {k: v for k, v in s.labels.items() if v is not None} == {"Pleural Effusion": 1, "Cardiomegaly": 1}
        assert [(b.label, b.xyxy) for b in s.boxes] == [("Pleural Effusion", (1, 10, 5, 16)), ("Pleural Effusion",
                                                        (11, 9, 16, 20)), ("Cardiomegaly", (4, 8, 13, 15))]
        pairs = [(x.text, x.observation, x.polarity, x.section, [b.xyxy for b in boxes])
                 for x, boxes in grounded(s)]
        assert pairs == [
            ("Invented fluid on both sides.", "Pleural Effusion", 1, "findings",
             [(1, 10, 5, 16), (11, 9, 16, 20)]),
            ("A heart of invented size.", "Cardiomegaly", 1, "findings", [(4, 8, 13, 15)])]
        both = parts["valid"][0] # one sentence under two categories: two pairs, each with its own box
        assert [(x.observation, [b.label for b in boxes]) for x, boxes in grounded(both)] == [
            ("Edema", ["Edema"]), ("Pneumonia", ["Pneumonia"])] and len({x.text for x in both.sentences}) == 1
        trained = {"images that MIMIC-CXR trains on": 2}
        assert parts["train"].counts == trained | {"boxes": 4, "pairs": 3, "kept": 2}
        assert parts["test"][0].boxes[0].xyxy == (0, 0, 6, 7) # it touches two edges


def test_both_forms_and_all_versions_are_one():
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "ms"), mimic_cxr.fixture(Path(d) / "mimic")
        for way in SPLITS_BY:
            for split in SPLITS[way == "chex":]: # which has no training split
                csv, other, default = [list(load(split, root, way, form, mimic, stream=True))
                                       for form in ("csv", "json", None)]
                assert csv == other == default
        old = fixture(Path(d) / "old", "1.0.0")
        for form in ("csv", "json"):
            assert list(load("test", old, "mimic", form, mimic)) == list(
                load("test", root, "mimic", form, mimic))
            with pytest.raises(CourseError, match="states no split"):
                load("test", old, "release", form, mimic)
        fixture(old) # beside it: the higher version is read
        assert annotation_file(old).name == "MS_CXR_Local_Alignment_v1.1.0.csv"
        for name in ("MS_CXR_Local_Alignment_v1.1.0.csv.part", "MS_CXR_Local_Alignment_v9.9.9.csv (1)",
                     "._MS_CXR_Local_Alignment_v9.9.9.csv", "MS_CXR_Local_Alignment_v9.9.csv"):
            (old / name).write_text("half a table")
        (old / "MS_CXR_Local_Alignment_v1.10.0.csv").write_bytes(annotation_file(old).read_bytes())
        assert annotation_file(old).name == "MS_CXR_Local_Alignment_v1.10.0.csv" # ten is above one
        assert annotation_file(old, "json").name == "MS_CXR_Local_Alignment_v1.1.0.json"


def test_three_splits_and_what_they_need():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_ROOT_MIMIC_CXR", raising=False)
        root, mimic = fixture(Path(d) / "ms"), mimic_cxr.fixture(Path(d) / "mimic")
        last = lambda studies: [s.meta["study"][-1] for s in studies]
        ids = lambda way, **options: [last(load(split, root, way, **options)) for split in SPLITS[way == "chex":]]
        assert ids("mimic", mimic=mimic) == [["1", "2"], ["3"], ["6"]]
        assert ids("chex", mimic=mimic) == [["1", "2"], ["3", "6"]]
        with pytest.raises(NoSplit, match="'chex' has no training images"):
            load("train", root, "chex", mimic=mimic)
        assert ids("release", mimic=mimic) == [["6"], ["3"], ["1", "2"]]
        assert load("test", root, "release", mimic=mimic).counts["images that MIMIC-CXR trains on"] == 2
        alone = load("test", root, "release") # without MIMIC-CXR: no files, no views
        unseen = [(i.path, i.view, i.width, i.height) for s in alone for i in s.images]
        assert unseen == [(None, "UNKNOWN", 16, 20)] * 2
        assert "images that MIMIC-CXR trains on" not in alone.counts
        for way in ("mimic", "chex"):
            with pytest.raises(CourseError, match="RRG_ROOT_MIMIC_CXR"):
                load("test", root, way)
        m.setenv("RRG_ROOT_MIMIC_CXR", str(mimic))
        assert ids("mimic") == [["1", "2"], ["3"], ["6"]]
        t = pd.read_csv(table := annotation_file(root))
        for k, words in ((0, "train"), (0, "val"), (1, "train")): # 59999901 and 59999902 are one patient's
            t.assign(split=t.split.mask(t.index == k, words)).to_csv(table, index=False)
            with pytest.raises(DataError, match="split '.*' leaks|is duplicated") as e:
                load("test", root, "release")
            assert "19999901" not in str(e.value)


def test_wrong_records_of_ms_cxr_are_named():
    name, words = "MS_CXR_Local_Alignment_v1.1.0.csv", ("dicom_id", "category_name", "label_text", "path")
    numbers = ("x", "y", "w", "h", "image_width", "image_height")
    put = lambda column, value, k=2: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    rows = [ # the change, and what the error says
        *((lambda t, c=c: t.drop(columns=c), f": column '{c}' is missing") for c in (*words, *numbers)),
        *((put(c, None), f" record 3: {c} is missing") for c in (*words, *numbers)),
        *((put(c, "two"), f" record 3: {c} must be a finite number, got 'two'") for c in numbers),
        *((put(c, "inf"), f" record 3: {c} must be a finite number, got 'inf'") for c in numbers),
        (put("category_name", "Mass"), " record 3: category_name 'Mass' is unknown; known: Atelectasis, Card"),
        (put("category_name", "cardiomegaly"), " record 3: category_name 'cardiomegaly' is unknown"),
        (put("label_text", "  "), " record 3: label_text is missing"),
        (put("w", "0"), " record 3: w must be above 0, got 0"), (put("h", "-3"), " record 3: h must be above 0"),
        (put("x", "-1"), " record 3: box (-1, 9, 5, 11) lies outside its 16 × 20 image"),
        (put("w", "20"), " record 3: box (11, 9, 20, 11) lies outside"),
        (put("y", "9.5"), " record 3: box (11, 9.5, 5, 11) lies outside"),
        (put("image_width", "17"), " record 3: image_width is not that of the image's first record"),
        (put("image_height", "0"), " record 3: image_height must be a number of pixels, got 0"),
        (put("image_height", "20.5"), " record 3: image_height must be a number of pixels, got 20.5"),
        (put("path", "s59999902.jpg"), " record 3: path must be files/p##/"),
        (put("path", "files/p18/p19999901/s59999902/x.jpg"), " record 3: path must be files/p##/"),
        (put("dicom_id", "59999902-00000001-99999999-99999999-99999999"), " record 3: path must be files"),
        (lambda t: pd.concat([t, t.iloc[:1]]), " record 8: box is duplicated"),
        (put("split", "dev"), " record 3: split 'dev' is unknown; known: train, val, test"),
        (put("split", None), " record 3: split is missing"), (lambda t: t[:0], ": table holds no record")
    ]
    with tempfile.TemporaryDirectory() as d:
        t = pd.read_csv(path := annotation_file(fixture(Path(d)), "csv"), dtype=str)
        for change, message in rows:
            change(t).to_csv(path, index=False)
            with pytest.raises(DataError) as e:
                read_boxes(Path(d), "csv")
            said = str(e.value)
            assert said.startswith(name + message), (message, said)
            assert "nvented" not in said and "19999901" not in said


def test_wrong_json_of_ms_cxr_is_named():
    def at(*keys, value=None):
        def change(data):
            for k in keys[:-1]:
                data = data[k]
            if value == "drop": del data[keys[-1]]
            else: data[keys[-1]] = value
        return change

    bbox = lambda value: at("annotations", 1, "bbox", value=value)
    second = " annotations record 2: "
    rows = [ # the change, and what the error says
        (at("images", value="drop"), ": images must be a list, got None"),
        (at("annotations", value={}), ": annotations must be a list, got a dict of 0"),
        (at("annotations", value=[]), ": annotations holds no record"),
        (at("images", 1, "id", value=1), " images record 2: id is duplicated"),
        (at("images", 1, "id", value="2"), " images record 2: id must be a whole number, got a text of 1"),
        (at("images", 1, value=7), " images record 2: id must be a whole number, got None"),
        (at("categories", 0, "id", value=True), " categories record 1: id must be a whole number, got True"),
        (at("annotations", 1, "image_id", value=99), second + "image_id 99 is none of the 4 that are listed"),
        (at("annotations", 1, "category_id", value=0), second + "category_id 0 is none of the 8"),
        (bbox([1, 2, 3]), second + "bbox must hold four numbers, got 3"),
        (bbox([1, 2, 3, 4, 5]), second + "bbox must hold four numbers, got 5"),
        (bbox([1, 2, 3, "4"]), second + "h must be a finite number, got a text of 1"),
        (bbox([1, 2, float("nan"), 4]), second + "w must be a finite number, got nan"),
        (bbox([float("inf"), 2, 3, 4]), second + "x must be a finite number, got inf"),
        (bbox("1 2 3 4"), second + "bbox must be a list"),
        (bbox([1, 10, 4, 0]), second + "h must be above 0"),
        (bbox([13, 10, 4, 6]), second + "box (13, 10, 4, 6) lies outside its"),
        (at("annotations", 1, "label_text"), second + "label_text must be a text, got None"),
        (at("annotations", 1, "label_text", value=" "), second + "label_text is missing"),
        (at("annotations", 1, "split", value="dev"), second + "split 'dev' is unknown"),
        (at("annotations", 1, "split", value=["test"]), second + "split must be a text, got a list of 1"),
        (at("annotations", 1, "split", value=7), second + "split must be a text, got 7"),
        (at("annotations", 1, "split", value=None), second + "split is missing"),
        (at("images", 0, "path", value="drop"), " image 1: path must be a text, got None"),
        (at("images", 0, "width", value="16"), " image 1: width must be a finite number, got a text of 2"),
        (at("images", 0, "file_name", value="other.jpg"), " annotations record 1: path must be files/p##"),
        (at("categories", 4, "name", value="Mass"), " annotations record 1: category_name 'Mass' is unknown")
    ]
    with tempfile.TemporaryDirectory() as d:
        whole = (path := annotation_file(fixture(Path(d)), "json")).read_text()
        for change, message in rows:
            change(data := json.loads(whole))
            path.write_text(json.dumps(data))
            with pytest.raises(DataError) as e:
                read_boxes(Path(d), "json")
            assert str(e.value).startswith(path.name + message), (message, str(e.value))
            assert "nvented" not in str(e.value)
        for text in ("", "{", "invented words", whole[:90], "[1]", "null"):
            path.write_text(text)
            with pytest.raises(DataError, match=f"{path.name}: (JSON cannot be read|images must be a list)"):
                read_boxes(Path(d), "json")


def test_ms_cxr_and_mimic_have_to_agree():
    def refused(table, change, **options):
        with tempfile.TemporaryDirectory() as d:
            root, mimic = fixture(Path(d) / "ms"), mimic_cxr.fixture(Path(d) / "mimic")
            path = mimic / f"mimic-cxr-2.0.0-{table}.csv.gz"
            change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)
            with pytest.raises((DataError, CourseError)) as e:
                load("train", root, mimic=mimic, **options)
            assert "nvented" not in str(e.value) and "1999990" not in str(e.value)
            return str(e.value)

    first = "image '59999901-00000000-99999999-99999999-99999999'"
    assert refused("split", lambda t: t[1:]) == f"{first}: dicom_id is in MS-CXR and not in MIMIC-CXR's tables"
    assert refused("metadata", lambda t: t[1:]) == f"{first}: dicom_id is in MS-CXR and not in MIMIC-CXR's tables"
    assert "names another patient or study" in refused(
        "split", lambda t: t.assign(subject_id=t.subject_id.replace("19999901", "19999909")))
    assert refused("metadata", lambda t: t.assign(Rows=20, Columns=17)) == (
        f"{first}: size is 16 × 20 in MS-CXR and 17 × 20 in MIMIC-CXR's metadata")
    assert "size is 16 × 20" in refused("metadata", lambda t: t.assign(Rows=16, Columns=20)) # the two exchanged
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "ms"), mimic_cxr.fixture(Path(d) / "mimic")
        film = next(mimic.rglob("59999906-00000000-*.jpg"))
        film.unlink()
        with pytest.raises(DataError, match="s59999906/.*jpg: file does not exist"):
            load("test", root, mimic=mimic)[0].images[0].load()
        for options, message in ((dict(split_by="own"), "split_by must be of mimic, chex, release, got 'own'"),
                                 (dict(form="xml"), "form must be of csv, json, got 'xml'")):
            with pytest.raises(DataError, match=message):
                load("test", root, mimic=mimic, **options)
        (empty := Path(d) / "empty").mkdir()
        with pytest.raises(CourseError, match="has no MS_CXR_Local_Alignment_v1.1.0.csv.*ms_cxr.py fetch"):
            load("test", empty, mimic=mimic)


def test_ms_cxr_prepares_and_verifies():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        root, mimic, out = fixture(d / "ms"), mimic_cxr.fixture(d / "mimic"), d / "out"
        raw = {s: load(s, root, mimic=mimic) for s in SPLITS}
        note = prepare(root, out, mimic=mimic)
        counts, differ = verify(root, mimic)
        assert counts == {"boxes": 7, "pairs": 6, "images": 4, "patients": 3, "images listed": 4,
                          "images missing": 0, "images damaged": 0}
        assert differ == ["boxes: 7 here, 1,448 published", "pairs: 6 here, 1,162 published"]
        chex = prepare(root, d / "chex", "chex", mimic=mimic)
        assert chex["splits"]["train"]["studies"] == 0 and len(load("test", d / "chex", "chex")) == 2
        root.rename(d / "elsewhere") # the raw files are not asked any more
        for split, studies in raw.items():
            again = load(split, out)
            assert list(again) == list(studies) == list(load(split, out, stream=True))
            assert again.counts == studies.counts and note["splits"][split]["studies"] == len(studies)
        with pytest.raises(CourseError, match="split_by = 'mimic'"):
            load("valid", out, "chex")
        with pytest.raises(CourseError, match="must stay outside"):
            prepare(d / "elsewhere", repo_root() / "figures" / "ms", mimic=mimic)
        films = sorted(mimic.rglob("*.jpg"))
        films[0].unlink()
        films[2].write_bytes(b"half a film")
        counts, differ = verify(d / "elsewhere", mimic)
        assert list(counts.values())[-2:] == [1, 1] and sum("csv record" in line for line in differ) == 2


def test_the_script_of_ms_cxr_runs():
    spec = spec_from_file_location("script", repo_root() / "data_scripts" / "ms_cxr.py")
    spec.loader.exec_module(script := module_from_spec(spec))
    with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(said := io.StringIO()):
        root, mimic = fixture(Path(d) / "ms"), mimic_cxr.fixture(Path(d) / "mimic")
        given = ["--mimic", str(mimic)]
        assert script.main(["fetch"]) == 0
        # not the published counts
        assert script.main(["verify", str(root), *given, "--images", "--jobs", "1"]) == 1
        assert script.main(["prepare", str(root), f"{d}/out", *given]) == 0
        assert len(load("train", f"{d}/out")) == 2
    assert "differs: boxes: 7 here, 1,448 published" in said.getvalue() and "nvented" not in said.getvalue()
    assert "physionet.org/content/ms-cxr" in said.getvalue()


def test_errors_of_ms_cxr_quote_no_report():
    from rrg_core.tools.house import quoting

    def written(path, text): # a changed file, read
        path.write_text(text)
        read_boxes(path.parent, path.suffix[1:])

    def in_csv(column):
        return lambda value: written(csv, t.assign(**{column: str(value)}).to_csv(index=False))

    def in_json(part, key):
        def call(value):
            data = json.loads(whole)
            for record in data[part]:
                record[key] = value
            written(coco, json.dumps(data, default=str))
        return call

    folder = tempfile.TemporaryDirectory()
    csv, coco = [annotation_file(fixture(Path(folder.name)), form) for form in ("csv", "json")]
    t, whole = pd.read_csv(csv, dtype=str), coco.read_text()
    calls = {f"csv {c}": in_csv(c) for c in (
        "dicom_id", "category_name", "path", "x", "y", "w", "h", "image_width", "image_height", "split")}
    calls |= {f"json {p} {k}": in_json(p, k) for p, keys in {
        "images": ("id", "file_name", "path", "width"), "categories": ("id", "name"),
        "annotations": ("image_id", "category_id", "bbox", "split")}.items() for k in keys}
    calls |= {"form": lambda x: annotation_file(".", x), "split": lambda x: load(x, "."),
              "split_by": lambda x: load("train", ".", x), "root": lambda x: load("train", x),
              "read_boxes": read_boxes, "verify": verify}
    assert quoting(calls) == []
