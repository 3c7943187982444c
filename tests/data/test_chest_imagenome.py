"""Exported from nbs/01k_chest_imagenome.ipynb: edit it there, then run `nbdev-export`."""
import json, os, zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
import numpy as np
import pandas as pd
from PIL import Image as PILImage
from rrg_core.engine.settings import CourseError, data_root
from rrg_core.data.bundled import open_zip, read_member
from rrg_core.data.mimic_cxr import image_of, read_images, report_name
from rrg_core.data.raw import NoSplit, differing, file_of, filled, from_folder, how_to_fetch, json_field, look_at, numbers, opened, prepare_folder, read_json, refuse, table_of, unique
from rrg_core.data.storage import Studies, one_of
from rrg_core.data.study import REGIONS, SECTIONS, SPLITS, Box, DataError, Image, Sentence, Study, check_splits, named, named_file, without_text
import contextlib, io, pytest, tempfile
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from rrg_core.data import mimic_cxr
from rrg_core.data.study import OBSERVATIONS, told
from rrg_core.engine.settings import repo_root
from rrg_core.data.chest_imagenome import *


def test_imagenome_labels_are_those_of_the_course_s_labeler():
    from rrg_core.labels import label
    for name, observation in TO_OBSERVATION.items():
        said = name.removesuffix(" (not otherwise specified)").replace("/", " and ")
        read = label(f"There is {said}.")
        assert read[observation] == 1, (name, observation, {o: v for o, v in read.items() if v})
    assert observation_of("anatomicalfinding|hernia") is None and observation_of("nlp|abnormal") is None
    assert observation_of("tubesandlines|chest tube") == "Support Devices" in OBSERVATIONS
    assert observation_of("anatomicalfinding|lung opacity") == "Lung Opacity" and observation_of("x") is None


def test_letterbox_puts_places_where_they_belong():
    assert letterbox((16, 20)) == (11.2, 22, 0) # 16 × 11.2 = 179.2: 179 columns, 45 of padding, 22 on the left
    assert letterbox((20, 16)) == (11.2, 0, 22) and letterbox((224, 224)) == (1, 0, 0)
    assert letterbox((2544, 3056)) == (224/3056, 19, 0) # 186 columns: 38 of padding
    assert letterbox((3056, 2544), 512) == (512/3056, 0, 43)


def test_imagenome_sentences_are_put_together():
    line = lambda *a: {"phrases": ["A b."], "attributes": [list(a)]}
    yes, no = "anatomicalfinding|yes|pneumothorax", "anatomicalfinding|no|pneumothorax"
    regions, (s, ), (said, ) = told_of([("x", {"bbox_name": r} | line(a)) for r, a in (
        ("right lung", no), ("left lung", yes), ("neck", no))])
    assert s.regions == ("right lung", "left lung") and regions["neck"] == {"anatomicalfinding|pneumothorax": 0}
    assert (s.observation, s.polarity) == ("Pneumothorax", 1) and labels_of(regions) == {"Pneumothorax": 1}
    (s, ), _ = told_of([("x", {"bbox_name": "neck"} | line("tubesandlines|yes|a tube"))])[1:]
    assert s.regions == () and (s.observation, s.polarity, s.section) == ("Support Devices", 1, "findings")
    two = {"bbox_name": "left lung", "phrases": ["A b.", "A b."], "attributes": [[yes], [no]],
           "phrase_IDs": ["1|1", "1|2"], "sections": ["impression", "finalreport"]}
    _, sentences, said = told_of([("x", two)]) # the same words in two places of a report
    assert [(s.section, s.polarity) for s in sentences] == [("impression", 1), ("findings", 0)]
    assert told_of([("x", {"bbox_name": "left lung", "phrases": [], "attributes": []})]) == ({}, [], [])
    assert told_of([]) == ({}, [], []) and labels_of({}) == {}


def test_imagenome_reads_every_field():
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "cig"), mimic_cxr.fixture(Path(d) / "mimic")
        parts = {s: load(s, root, mimic=mimic) for s in SPLITS}
        assert {s: [x.meta["study"] for x in p] for s, p in parts.items()} == {
            "train": ["59999901", "59999902"], "valid": ["59999903"], "test": ["59999906"]}
        s = parts["train"][0]
        dicom = "59999901-00000000-99999999-99999999-99999999"
        assert (s.study_id, s.patient_id, s.source, s.split, s.site, s.report, s.boxes) == (
            f"59999901/{dicom}", "19999901", "chest-imagenome", "train", "Beth Israel Deaconess", None, [])
        assert [(i.image_id, i.width, i.height, i.view, i.path.name) for i in s.images] == [
            (dicom, 16, 20, "PA", f"{dicom}.jpg")]
        usual = {"right lung": (1, 2, 7, 15), "left lung": (9, 2, 15, 15), "trachea": (7, 0, 9, 6),
                 "mediastinum": (6, 2, 11, 15), "abdomen": (1, 15, 15, 20)}
        assert {k: b.xyxy for k, b in s.regions.items()} == usual | {
            "cardiac silhouette": (5, 9, 13, 16), "left costophrenic angle": (12, 13, 16, 17)} # joined, and cut
        assert all(k == b.label for k, b in s.regions.items())
        assert [(x.text, x.section, x.regions, x.observation, x.polarity) for x in s.sentences] == [
            ("An invented shadow on the right.", "findings", ("right lung", "right lower lung zone"),
             "Lung Opacity", 1),
            ("No invented fluid and no invented air.", "findings", ("right lung", "left lung"), None, None),
            ("An invented tube ends in the neck.", "impression", (), "Support Devices", 1)]
        assert {o: v for o, v in s.labels.items() if v is not None} == {
            "Lung Opacity": 1, "Pleural Effusion": 0, "Pneumothorax": 0, "Support Devices": 1}
        assert s.meta["attributes"]["right lung"] == {
            "anatomicalfinding|lung opacity": 1, "nlp|abnormal": 1, "anatomicalfinding|pleural effusion": 0,
            "anatomicalfinding|pneumothorax": 0, "nlp|normal": 1}
        assert s.meta["attributes"]["neck"] == {"tubesandlines|invented tube": 1}
        assert s.meta["sentence_attributes"][1] == {
            "anatomicalfinding|pleural effusion": 0, "anatomicalfinding|pneumothorax": 0, "nlp|normal": 1}
        assert parts["train"][1].sentences[0].polarity == 0 and parts["train"][1].labels["Cardiomegaly"] == 0
        assert parts["valid"][0].labels == {} and parts["valid"][0].sentences[0].observation is None # a hernia
        assert parts["train"].counts == {
            "films to avoid": 0, "films without a scene graph": 0, "boxes cut at the border": 1,
            "boxes whose two places differ": 0, "boxes without an area in the film": 2,
            "regions with two boxes": 1,
            "boxes of other regions": 1, "images that MIMIC-CXR trains on": 2, "regions": 13,
            "films that are not frontal": 1, "kept": 2}
        assert parts["valid"].counts["films with fewer than 5 regions"] == 1 == parts["valid"].counts[
            "films without a scene graph"]
        assert parts["test"].counts["films to avoid"] == 1 and sum(check_splits(
            x for p in parts.values() for x in p).values()) == 4


def test_imagenome_archive_or_files():
    with tempfile.TemporaryDirectory() as d:
        d, mimic = Path(d), mimic_cxr.fixture(Path(d) / "mimic")
        take = lambda root: [list(load(s, root, mimic=mimic, stream=True)) for s in SPLITS]
        packed, files = fixture(d / "packed"), fixture(d / "files", zipped=False)
        assert take(packed) == take(files)
        (deep := files / "silver_dataset" / "scene_graph" / "scene_graph").mkdir() # as some unpack it
        for path in list(deep.parent.glob("*.json")):
            path.rename(deep / path.name)
        assert take(packed) == take(files)
        archive = packed / "silver_dataset" / "scene_graph.zip"
        data = archive.read_bytes()
        for wrong in (data[:200], b"", b"no archive", data[:-10]):
            archive.write_bytes(wrong)
            with pytest.raises(DataError, match="scene_graph.zip: archive is damaged"):
                take(packed)
        at = data.index(b"An invented shadow")
        archive.write_bytes(data[:at] + b"\xff" + data[at + 1:])
        with pytest.raises(DataError, match="scene_graph.zip: member .*59999901-.*json is damaged") as e:
            take(packed)
        assert "nvented" not in told(e.value)
        archive.unlink()
        with pytest.raises(CourseError, match="neither silver_dataset/scene_graph.zip nor.*imagenome.py fetch"):
            take(packed)


def test_imagenome_two_splits_and_films_to_avoid():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_ROOT_MIMIC_CXR", raising=False)
        root, mimic = fixture(Path(d) / "cig"), mimic_cxr.fixture(Path(d) / "mimic")
        last = lambda studies: [s.meta["study"][-1] for s in studies]
        ids = lambda **options: [last(load(s, root, mimic=mimic, stream=True, **options)) for s in SPLITS]
        assert ids() == [["1", "2"], ["3"], ["6"]] == ids(split_by="mimic")
        assert ids(avoid=False) == [["1", "2"], ["3"], ["5", "6"]] == ids(split_by="mimic", avoid=False)
        assert ids(least=0) == [["1", "2"], ["3", "4"], ["6"]] and ids(least=7) == [["1"], [], []]
        split = mimic / "mimic-cxr-2.0.0-split.csv.gz" # MIMIC-CXR trains on the patient that this set tests on
        t = pd.read_csv(split, dtype=str)
        t.assign(split=t.split.mask(t.subject_id == "19999903", "train")).to_csv(split, index=False)
        assert ids(split_by="mimic") == [["1", "2", "6"], ["3"], []] and ids() == [["1", "2"], ["3"], ["6"]]
        assert load("test", root, mimic=mimic).counts["images that MIMIC-CXR trains on"] == 1
        with pytest.raises(CourseError, match="RRG_ROOT_MIMIC_CXR"):
            load("test", root)
        m.setenv("RRG_ROOT_MIMIC_CXR", str(mimic))
        assert last(load("test", root)) == ["6"]
        for options, message in ((dict(split_by="chex"), "split_by must be of own, mimic, got 'chex'"),
                                 (dict(gold="yes"), "gold must be True or False"),
                                 (dict(avoid=1), "avoid must be True or False"),
                                 (dict(least=-1), "least must be"), (dict(least=30), "least must be"),
                                 (dict(least=True), "least must be"), (dict(least="5"), "least must be")):
            with pytest.raises(DataError, match=f"load: {message}"):
                load("test", root, **options)


def test_imagenome_gold_is_read_like_silver():
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "cig"), mimic_cxr.fixture(Path(d) / "mimic")
        studies = load("test", root, gold=True, mimic=mimic)
        (s, ) = studies
        assert (s.meta["study"], s.patient_id, s.images[0].view) == ("59999905", "19999903", "AP")
        assert s.regions["left lung"].xyxy == (8, 1, 15, 15) and len(s.regions) == 6
        assert [(x.text, x.regions, x.observation) for x in s.sentences] == [
            ("Invented fluid, no invented air.", ("right lung", "left lung"), None)]
        assert s.meta["sentence_attributes"] == [
            {"anatomicalfinding|pleural effusion": 1, "anatomicalfinding|pneumothorax": 0}]
        assert s.meta["attributes"]["right lung"] == {"anatomicalfinding|pneumothorax": 0}
        assert {o: v for o, v in s.labels.items() if v is not None} == {"Pleural Effusion": 1, "Pneumothorax": 0}
        assert studies.counts["gold records without a relation"] == 1 == studies.counts["regions with two boxes"]
        for split in ("train", "valid"):
            with pytest.raises(NoSplit, match=f"gold=True has no {split} split"):
                load(split, root, gold=True, mimic=mimic)


def test_the_two_sets_of_coordinates_agree():
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "cig", zipped=False), mimic_cxr.fixture(Path(d) / "mimic")
        study = load("train", root, mimic=mimic)[1]
        small = letterboxed(study)
        graph = json.loads(next(root.rglob("59999902-00000000-*.json")).read_text())
        for o in graph["objects"]: # places in the copy: ours and the release's
            theirs = [o[c] for c in ("x1", "y1", "x2", "y2")]
            np.testing.assert_allclose(small.regions[o["bbox_name"]].xyxy, theirs)
        pixels = small.images[0].pixels
        assert pixels.shape == (224, 224) and pixels.any()
        assert not pixels[:, :22].any() and not pixels[:, -23:].any()
        assert (small.study_id, small.labels, small.sentences) == (study.study_id, study.labels, study.sentences)
        assert abs(float(pixels[:, 22:201].mean()) - float(study.images[0].load().mean())) < 3
        wide = replace(study, images=[Image("w", 20, 16, "PA", pixels=np.full((16, 20), 9, np.uint8))], regions={
            "abdomen": Box("abdomen", 0, 0, 20, 16)})
        square = letterboxed(wide, 100)
        assert square.regions["abdomen"].xyxy == (0, 10, 100, 90) and (square.images[0].pixels[10:90] == 9).all()
        for o in graph["objects"][:2]:
            o["x1"] += 3
        path = next(root.rglob("59999902-00000000-*.json"))
        path.write_text(json.dumps(graph))
        assert load("train", root, mimic=mimic).counts["boxes whose two places differ"] == 2


def test_wrong_graphs_are_named():
    def at(*keys, value=None):
        def change(graph):
            for k in keys[:-1]:
                graph = graph[k]
            if value == "drop": del graph[keys[-1]]
            else: graph[keys[-1]] = value
        return change

    first = "59999901-00000000-99999999-99999999-99999999_SceneGraph.json"
    box, line = " objects record 2: ", " attributes record 1: "
    phrases = lambda value: at("attributes", 0, "phrases", value=value)
    triple = lambda value: at("attributes", 0, "attributes", value=[[value], []])
    rows = [ # the change, and what the error says
        (at("image_id", value="other"), ": image_id is not that of the file"),
        (at("image_id", value="drop"), ": image_id must be a text, got None"),
        (at("patient_id", value=19999902), ": patient_id is another one in MIMIC-CXR's tables"),
        (at("patient_id", value="drop"), ": patient_id is another one"),
        (at("study_id", value=59999909), ": study_id is another one in MIMIC-CXR's tables"),
        (at("viewpoint", value=7), ": viewpoint must be a text, got 7"),
        (at("objects", value="drop"), ": objects must be a list, got None"),
        (at("attributes", value={}), ": attributes must be a list, got a dict of 0"),
        (at("objects", 1, value="a box"), box + "bbox_name must be a text, got None"),
        (at("objects", 1, "bbox_name", value=7), box + "bbox_name must be a text, got 7"),
        (at("objects", 1, "original_x1", value="drop"), box + "original_x1 must be a finite number, got None"),
        (at("objects", 1, "original_y2", value="15"), box + "original_y2 must be a finite number, got a text"),
        *((at("objects", 1, "original_x2", value=float(v)), box + f"original_x2 must be a finite number, got {v}")
          for v in ("nan", "inf", "-inf")),
        (at("objects", 1, "x1", value=None), box + "x1 must be a finite number, got None"),
        (at("attributes", 0, "bbox_name", value="drop"), line + "bbox_name must be a text, got None"),
        (phrases("An invented text."), line + "phrases must be a list, got a text of 17"),
        (phrases(["An invented text."]), line + "attributes must be a list of 1, one for each of the phrases, "),
        (phrases([None, "An invented text."]), line + "phrases must be texts, got None"),
        (phrases([" ", "An invented text."]), line + "phrases must be texts, got a text of 1"),
        (at("attributes", 0, "sections", value=["findings"]), line + "sections must be a list of 2"),
        (at("attributes", 0, "phrase_IDs", value="invented"), line + "phrase_IDs must be a list of 2"),
        (at("attributes", 0, "attributes", value=["a|yes|b", []]), line + "attributes must be lists of texts"),
        (triple("anatomicalfinding|yes"), line + "attributes must be category|relation|label, got a text of"),
        (triple("a|yes|b|c"), line + "attributes must be category|relation|label"),
        (triple("a|yes|"), line + "attributes must be category|relation|label"),
        (triple(None), line + "attributes must be category|relation|label, got None"),
        (triple("a|maybe|b"), line + "attributes relation 'maybe' is neither yes nor no"),
        (triple("a|YES|b"), line + "attributes relation 'YES' is neither yes nor no")
    ]
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "cig", zipped=False), mimic_cxr.fixture(Path(d) / "mimic")
        whole = (path := next(root.rglob(first))).read_text()
        for change, message in rows:
            change(graph := json.loads(whole))
            path.write_text(json.dumps(graph))
            with pytest.raises(DataError) as e:
                list(load("train", root, mimic=mimic, stream=True))
            assert str(e.value).startswith(first + message), (message, str(e.value))
            assert "nvented" not in told(e.value) and "1999990" not in str(e.value)
        for text in ("", "{", whole[:300], "[1]", "null", "invented words"):
            path.write_text(text)
            with pytest.raises(DataError, match=f"{first}: (JSON cannot be read|image_id must be a text)") as e:
                list(load("train", root, mimic=mimic, stream=True))
            assert "nvented" not in told(e.value)


def test_wrong_tables_of_imagenome_are_named():
    put = lambda column, value, k=0: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    none, twice = lambda t: t[:0], lambda t: pd.concat([t, t[:1]])
    splits, boxes = "silver_dataset/splits/", "gold_dataset/gold_bbox_coordinate_annotations_1000images.csv"
    words = "gold_dataset/gold_object_attribute_with_coordinates.txt"
    rows = [ # table, the change, what the error says of it
        *((f"{splits}train.csv", lambda t, c=c: t.drop(columns=c), f"train.csv: column '{c}' is missing")
          for c in ("dicom_id", "subject_id", "study_id")),
        (f"{splits}train.csv", put("dicom_id", None), "train.csv record 1: dicom_id is missing"),
        (f"{splits}train.csv", twice, "train.csv record 4: dicom_id is duplicated"),
        (f"{splits}train.csv", none, "train.csv: table holds no record"),
        (f"{splits}train.csv", put("dicom_id", "59999909-0"), "image '59999909-0': dicom_id is in train.csv and"),
        (f"{splits}train.csv", put("study_id", "59999902"), "study_id is another one in MIMIC-CXR's tables"),
        (f"{splits}train.csv", put("subject_id", "19999902"), "leaks: study"), # it is in valid.csv, too
        (f"{splits}test.csv", put("dicom_id", "59999901-00000000-99999999-99999999-99999999"), "is duplicated"),
        (f"{splits}images_to_avoid.csv", lambda t: t.drop(columns="dicom_id"), "avoid.csv: column 'dicom_id' is"),
        *((boxes, lambda t, c=c: t.drop(columns=c), f"images.csv: column '{c}' is missing") for c in (
            "image_id", "bbox_name", "original_x1", "y2")),
        (boxes, put("original_y1", None, 2), "images.csv record 3: original_y1 is missing"),
        (boxes, put("original_y1", "top", 2), "images.csv record 3: original_y1 must be a finite number, got 't"),
        (boxes, put("bbox_name", None, 2), "images.csv record 3: bbox_name is missing"),
        (boxes, put("image_id", "59999909.dcm", 2), "image '59999909': image_id is in gold and not in MIMIC"),
        *((words, lambda t, c=c: t.drop(columns=c), f"coordinates.txt: column '{c}' is missing") for c in (
            "row_id", "sentence", "bbox", "relation", "label_name", "context", "categoryID")),
        (words, put("relation", "2", 1), "coordinates.txt record 2: relation must be 0 or 1, got 2"),
        (words, put("relation", None, 1), "coordinates.txt record 2: relation is missing"),
        (words, put("context", "maybe", 1), "coordinates.txt record 2: context must be yes or no, got 'maybe'"),
        (words, put("image_id", "59999909.dcm", 1), "coordinates.txt record 2: image_id has no box in gold_bbox"),
        (words, put("sentence", None, 1), "coordinates.txt record 2: sentence is missing"),
        (words, lambda t: t.assign(patient_id="19999901"), "patient_id is another one in MIMIC-CXR's tables"),
        (words, put("label_name", "a|b", 1), "coordinates.txt record 2: attributes must be category|relation|")
    ]
    with tempfile.TemporaryDirectory() as d:
        root, mimic = fixture(Path(d) / "cig"), mimic_cxr.fixture(Path(d) / "mimic")
        for name, change, message in rows:
            whole, sep = (path := root / name).read_bytes(), "\t" if name.endswith(".txt") else ","
            change(pd.read_csv(path, dtype=str, sep=sep)).to_csv(path, index=False, sep=sep)
            gold = name.startswith("gold")
            with pytest.raises(DataError) as e:
                list(load("test" if gold else "train", root, gold=gold, mimic=mimic, stream=True))
            assert message in str(e.value), (name, message, str(e.value))
            assert "nvented" not in told(e.value) and "1999990" not in str(e.value)
            path.write_bytes(whole)
        for name in (f"{splits}valid.csv", f"{splits}images_to_avoid.csv", boxes, words):
            whole = (path := root / name).read_bytes()
            path.unlink()
            with pytest.raises(CourseError, match=f"has no {name}.*chest_imagenome.py fetch"):
                list(load("test", root, gold=name.startswith("gold"), mimic=mimic, stream=True))
            path.write_bytes(whole)


def test_imagenome_prepares_and_verifies():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        root, mimic, out = fixture(d / "cig"), mimic_cxr.fixture(d / "mimic"), d / "out"
        raw = {s: load(s, root, mimic=mimic) for s in SPLITS}
        note = prepare(root, out, mimic)
        counts, differ = verify(root, mimic)
        assert differ == [f"{s} films listed: {k} here, {n} published" for s, k, n in zip(
            SPLITS, (3, 3, 2), ("166,521", "23,953", "47,393"))]
        assert [counts[f"{s} films listed"] for s in SPLITS] == [3, 3, 2]
        assert [counts[f"{s} films"] for s in SPLITS] == [2, 1, 1] and counts["films to avoid"] == 1
        assert (counts["images listed"], counts["images missing"], counts["regions"]) == (4, 0, 25)
        prepare(root, d / "gold", mimic, gold=True)
        root.rename(d / "elsewhere") # the raw files are not asked any more
        for split, studies in raw.items():
            again = load(split, out)
            assert list(again) == list(studies) == list(load(split, out, stream=True))
            assert again.counts == studies.counts and note["splits"][split]["studies"] == len(studies)
        assert len(load("test", d / "gold", gold=True)) == 1
        with pytest.raises(NoSplit, match="gold=True has no train split"):
            load("train", d / "gold", gold=True)
        for options, message in ((dict(avoid=False), "avoid = True"), (dict(gold=True), "gold = False"),
                                 (dict(split_by="mimic"), "split_by = 'own'"), (dict(least=3), "least = 5")):
            with pytest.raises(CourseError, match=message):
                load("test", out, **options)
        with pytest.raises(CourseError, match="must stay outside"):
            prepare(d / "elsewhere", repo_root() / "figures" / "cig", mimic)
        next(mimic.rglob("59999906-*.jpg")).unlink()
        next(mimic.rglob("59999903-*.jpg")).write_bytes(b"half")
        counts, differ = verify(d / "elsewhere", mimic)
        assert list(counts.values())[-2:] == [1, 1]
        assert differ[-2:] == ["valid film 1: damaged", "test film 1: missing"]


def test_the_script_of_imagenome_runs():
    spec = spec_from_file_location("script", repo_root() / "data_scripts" / "chest_imagenome.py")
    spec.loader.exec_module(script := module_from_spec(spec))
    with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(said := io.StringIO()):
        root, mimic = fixture(Path(d) / "cig"), mimic_cxr.fixture(Path(d) / "mimic")
        given = ["--mimic", str(mimic)]
        assert script.main(["fetch"]) == 0
        assert script.main(["verify", str(root), *given, "--jobs", "1"]) == 1 # not the published counts
        assert script.main(["prepare", str(root), f"{d}/out", *given]) == 0
        assert script.main(["prepare", str(root), f"{d}/gold", "--gold", *given]) == 0
        assert len(load("train", f"{d}/out")) == 2 and len(load("test", f"{d}/gold", gold=True)) == 1
    assert "differs: train films listed: 3 here, 166,521 published" in said.getvalue()
    assert "physionet.org/content/chest-imagenome" in said.getvalue() and "nvented" not in said.getvalue()


def test_errors_of_imagenome_quote_no_report():
    from rrg_core.tools.house import quoting

    record = {"bbox_name": "left lung", "phrases": ["A b."], "attributes": [["a|yes|b"]], "phrase_IDs": ["1"],
              "sections": ["findings"]}
    corners = {f"{p}{c}": 1 + (c[1] == "2") for p in ("", "original_") for c in ("x1", "y1", "x2", "y2")}
    an_object = {"bbox_name": "left lung", **corners}
    calls = {f"record {k}": lambda x, k=k: told_of([("x", record | {k: x})]) for k in (
        "bbox_name", "attributes", "phrase_IDs", "sections")}
    calls |= {f"of record {k}": lambda x, k=k: told_of([("x", record | {k: [x] * 2})]) for k in (
        "phrases", "sections")}
    calls |= {"a phrase": lambda x: told_of([("x", record | {"phrases": [[x]]})]),
              "an attribute": lambda x: told_of([("x", record | {"attributes": [[x]]})]),
              "a relation": lambda x: told_of([("x", record | {"attributes": [[f"a|{x}|b"]]})])}
    calls |= {f"object {k}": lambda x, k=k: region_boxes([("x", an_object | {k: x if k != "bbox_name" else [x]})],
                                                         (9, 9), Counter()) for k in an_object}
    folder = tempfile.TemporaryDirectory()
    root = fixture(Path(folder.name) / "cig", zipped=False)
    mimic = mimic_cxr.fixture(Path(folder.name) / "mimic")

    def in_gold(name, column):
        sep = "\t" if name.endswith(".txt") else ","
        path = root / "gold_dataset" / name
        whole = path.read_bytes()
        t = pd.read_csv(path, dtype=str, sep=sep)

        def call(value):
            t.assign(**{column: str(value)}).to_csv(path, index=False, sep=sep)
            try:
                gold_graphs(root, Counter())
            finally:
                path.write_bytes(whole)
        return call

    calls |= {f"gold {c}": in_gold("gold_object_attribute_with_coordinates.txt", c) for c in (
        "relation", "context", "image_id")}
    calls |= {f"gold {c}": in_gold("gold_bbox_coordinate_annotations_1000images.csv", c) for c in (
        "original_x1", "image_id")}
    calls |= {f"option {o}": lambda x, o=o: load("train", root, mimic=mimic, **{o: x}) for o in (
        "split_by", "gold", "avoid", "least")}
    calls |= {"split": lambda x: load(x, root), "root": lambda x: load("train", x),
              "graphs": Graphs, "own_split": own_split, "gold": lambda x: gold_graphs(x, Counter())}
    assert quoting(calls) == []
