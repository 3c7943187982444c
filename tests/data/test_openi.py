"""Exported from nbs/01c_openi.ipynb: edit it there, then run `nbdev-export`."""
import json, os, re
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
import pandas as pd
from PIL import Image as PILImage
from rrg_core.data.bundled import csv_table, iu_dicom, iu_records, iu_views
from rrg_core.engine.files import file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.storage import PREPARED, Studies, prepared, read_prepared, several, spread, write_prepared
from rrg_core.data.study import SECTIONS, SPLITS, DataError, Image, Report, Study, first_record, image_size, named, named_file, read_image, without_text
import io, pytest, tarfile, tempfile
import numpy as np
from rrg_core.data.study import check_splits
from rrg_core.data.openi import *


def test_split_by_text_cannot_leak():
    records = [r for r in iu_records() if r["findings"] or r["impression"]]
    home = {}
    for r in records:
        assert home.setdefault((r["findings"], r["impression"]), split_of(text_group(r))) == split_of(
            text_group(r))
    assert len(records) - len(home) == 768 # the repeats, counted by another program
    findings = {}
    for r in records:
        if r["findings"]:
            assert findings.setdefault(r["findings"], split_of(text_group(r))) == split_of(text_group(r))
    share = pd.Series([split_of(text_group(r)) for r in records]).value_counts(normalize=True)
    assert abs(share["train"] -
               .7) < .03 and abs(share["valid"] - .1) < .02 # 3,056 groups: one standard deviation is below .01
    a = {"findings": "The heart is normal.", "impression": "x", "uid": "CXR1"}
    assert text_group(a) == text_group(a | {"findings": "the HEART is  normal", "impression": "y"}) != text_group(
        a | {"findings": "The heart is large."})
    assert [
        split_of(g)
        for g in ("000000000000", "b33333333333", "b33333333334", "ccccccccccc0", "cccccccccccd", "ffffffffffff")
    ] == ["train", "train", "valid", "valid", "test", "test"]


def test_openi_reads_all_three_layouts():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        archive = fixture_archive(d / "reports.tgz")
        names = {"CXR1", "CXR9001", "CXR9002", "CXR9005"}
        for kind in ("nlm", "kaggle", "r2gen"):
            root = fixture_images(d / kind, kind)
            assert layout(root) == kind
            parts = [load(split, root, archive=archive) for split in SPLITS]
            found = {s.study_id: s for p in parts for s in p}
            assert set(found) == (names if kind != "r2gen" else names - {"CXR9002"})
            assert check_splits(
                found.values(),
                lambda s: s.meta["group"]) and found["CXR1"].split == found["CXR9001"].split # same words
            assert {i.image_id for i in found["CXR1"].images} == {"CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"}
            assert all(i.load().shape == (32, 24) and i.load().dtype == np.uint8 for s in found.values()
                       for i in s.images)
            total = Counter()
            [total.update(p.counts) for p in parts]
            assert total["reports"] == 6 and total["kept"] == len(found) and total["reports"] == sum(
                v for k, v in total.items() if k.startswith("without")) + total["kept"]
            if kind == "kaggle": assert [i.view for i in found["CXR9005"].images] == ["PA", "LATERAL", "LATERAL"]
            if kind == "kaggle": assert found["CXR9002"].images[0].load().max() == 255 # 16 bits
        home = {
            s.study_id: s.split
            for split in SPLITS
            for s in load(split, d / "r2gen", split_by="r2gen", archive=archive)
        }
        assert set(home) == {"CXR1", "CXR9001", "CXR9005"
                             } and len(set(home.values())) == 3 # R2Gen's split parts CXR1 from its twin


def test_openi_pairs_and_single_frontals():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        archive, root = fixture_archive(d / "r.tgz"), fixture_images(d / "k", "kaggle")
        pairs = [s for split in SPLITS for s in load(split, root, views="pair", archive=archive)]
        assert {s.study_id
                for s in pairs} == {"CXR1", "CXR9001", "CXR9005"} and all(
                    [i.view for i in s.images] == ["PA", "LATERAL"] for s in pairs)
        single = [
            s for split in SPLITS
            for s in load(split, root, views="frontal", need=("findings", "impression"), archive=archive)
        ]
        assert {s.study_id
                for s in single} == {"CXR1", "CXR9001", "CXR9005"} and all(len(s.images) == 1 for s in single)
        table = pd.read_csv(root / "indiana_projections.csv")
        table.loc[table.uid == 9001, "projection"] = ["Lateral", "Frontal"]
        table.to_csv(root / "indiana_projections.csv", index=False)
        swapped = next(
            s for split in SPLITS for s in load(split, root, archive=archive) if s.study_id == "CXR9001")
        assert [i.view for i in swapped.images] == ["PA", "LATERAL"] and swapped.images[0].image_id.endswith(
            "-2001") # frontal first


def test_openi_keeps_the_better_known_projection():
    from rrg_core.data.bundled import iu_dicom

    headers = iu_dicom().position
    known = {p: headers.index[headers == p][3] for p in ("AP", "PA", "LL")} | {"none": "CXR9999_IM-9999-1001"}
    expected = { # what the copy states → the view by the header's word
        "Frontal": {"AP": "AP", "PA": "PA", "LL": "PA", "none": "PA"}, "Lateral": dict.fromkeys(known, "LATERAL"),
        "AP": dict.fromkeys(known, "AP"), "PA": dict.fromkeys(known, "PA"), None: dict.fromkeys(known)
    }
    with tempfile.TemporaryDirectory() as d:

        def stated(word, names): # The views of images whose rows in the table say `word`
            rows = {"filename": [f"{n}.dcm.png" for n in names], "projection": [word] * len(names)}
            pd.DataFrame(rows).to_csv(Path(d) / "indiana_projections.csv", index=False)
            return kaggle_views(d, {n: Path(f"{n}.dcm.png") for n in known.values()})

        for word, views in expected.items():
            for header, name in known.items():
                found = stated(word, [name])
                assert found == ({name: (views[header], "projection")} if word else {}), (word, header)
        for word in ("frontal", "Frontal ", "FRONTAL", " frontal", "lateral", "LATERAL", "Lateral ", "pa", "ap",
                     "Ap"):
            plain = word.strip().upper()
            same = expected[plain if plain in ("AP", "PA") else plain.capitalize()]
            for header, name in known.items():
                assert stated(word, [name]) == {name: (same[header], "projection")}, (word, header)
        for word in ("L", "LL", "Oblique", "Front", "Frontal/Lateral", "0", "lat", "AP/PA", "none", "NaN"):
            with pytest.raises(DataError, match="indiana_projections.csv record 1: projection .* is unknown"):
                stated(word, [known["AP"]])
        with pytest.raises(DataError, match="indiana_projections.csv record 2: filename is duplicated"):
            stated("Frontal", [known["AP"]] * 2)
        assert stated("Frontal", []) == {}
        (Path(d) / "indiana_projections.csv").write_bytes(b"\xff\xfe")
        with pytest.raises(DataError, match="indiana_projections.csv: table cannot be read"):
            kaggle_views(d, {})


def test_openi_reads_images_by_their_exact_names():
    from rrg_core.data.bundled import iu_dicom
    assert all(
        re.fullmatch(r"CXR\d+_[\w-]+", i) for i in iu_views()) # every real id has the shape that is looked for
    unfinished = {
        "nlm": [
            "CXR1_IM-0001-4001.png.part", "CXR1_IM-0001-4001 (1).png", "._CXR1_IM-0001-4001.png", "CXR1~.png",
            ".CXR1_IM-0001-4001.png", "CXR1_IM-0001-4001.png.crdownload", "CXR_IM-0001-4001.png", "CXR.png"
        ], "kaggle": [
            "._9_IM-0001-4001.dcm.png", "9_IM-0001-4001.dcm.png.part", "9_IM-0001-4001 (1).dcm.png",
            ".9_IM-0001-4001.dcm.png", "9_IM-0001-4001.dcm.png~", "9_IM-0001-4001.dcm (1).png", "x.dcm.png"
        ]
    }
    with tempfile.TemporaryDirectory() as d:
        archive = fixture_archive(Path(d) / "reports.tgz")
        for kind, names in unfinished.items():
            root = fixture_images(Path(d) / kind, kind)
            whole = image_files(root, iu_records(archive))
            for name in names:
                (root / name).write_bytes(b"half an image")
                (alone := Path(d) / kind / name.replace(".", "-")).mkdir()
                (alone / name).write_bytes(b"half an image")
                with pytest.raises(CourseError, match="no Open-i images"):
                    layout(alone)
            assert image_files(root, iu_records(archive)) == whole and layout(root) == kind
        ap = iu_dicom().query("position == 'AP'").index[0]
        kaggle = f"{ap.removeprefix('CXR')}.dcm.png"
        (Path(d) / "one").mkdir()
        PILImage.fromarray(np.zeros((9, 9), np.uint8)).save(Path(d) / "one" / kaggle)
        pd.DataFrame({"filename": [kaggle], "projection": ["Frontal"]}).to_csv(
            Path(d) / "one" / "indiana_projections.csv")
        found = [s for split in SPLITS for s in load(split, Path(d) / "one")]
        assert [(i.image_id, i.view) for s in found for i in s.images] == [(ap, "AP")]
        assert found[0].meta["evidence"] == {ap: "projection"}


def test_openi_names_what_is_wrong():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        archive, root = fixture_archive(d / "r.tgz"), fixture_images(d / "n")
        cut, text = root / "CXR9001_IM-9001-1001.png", root / "CXR9005_IM-9005-1001.png"
        cut.write_bytes(cut.read_bytes()[:60])
        text.write_text("no image")
        with pytest.raises(DataError, match="CXR9005_IM-9005-1001"):
            [load(s, root, archive=archive) for s in SPLITS]
        parts = [load(s, root, archive=archive, damaged="skip") for s in SPLITS]
        assert sum(p.counts.get("damaged images", 0) for p in parts) >= 1 and verify(
            root, archive)[1] == ["CXR9001_IM-9001-1001", "CXR9005_IM-9005-1001"]
        with pytest.raises(CourseError, match="openi.py"):
            load("train", d / "absent")
        (d / "empty").mkdir()
        with pytest.raises(CourseError, match="no Open-i images"):
            load("train", d / "empty")
        with pytest.raises(ValueError, match="validate"):
            load("validate")
        with pytest.raises(CourseError, match="annotation.json"):
            load("train", root, split_by="r2gen")
        (root / "more").mkdir()
        (root / "more" / "CXR9002_IM-9002-1001.png").write_bytes(b"")
        with pytest.raises(DataError, match="twice"):
            load("train", root, archive=archive)


def test_openi_prepared_folder_gives_the_same_studies():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        archive, root, out = fixture_archive(d / "r.tgz"), fixture_images(d / "k", "kaggle"), d / "out"
        raw = {s: load(s, root, archive=archive) for s in SPLITS}
        note = prepare(root, out, archive=archive)
        root.rename(d / "elsewhere") # the raw files are not asked any more
        for split, studies in raw.items():
            again = load(split, out, archive=archive)
            assert list(again) == list(studies) == list(
                load(split, out, archive=archive, stream=True
                     )) and again.counts == studies.counts and note["splits"][split]["studies"] == len(studies)
        with pytest.raises(CourseError, match="views = 'all'"):
            load("train", out, views="pair", archive=archive)
        with pytest.raises(CourseError, match="archive"):
            load("train", out)
        with pytest.raises(CourseError, match="another folder"):
            prepare(d / "elsewhere", d / "elsewhere", archive=archive)
        (out / "train.parquet").unlink()
        with pytest.raises(CourseError, match="train.parquet"):
            load("train", out, archive=archive)


def test_openi_streams_from_raw_files_too():
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        archive, root = fixture_archive(d / "r.tgz"), fixture_images(d / "n")
        assert list(load("train", root, archive=archive, stream=True)) == list(
            load("train", root, archive=archive))


def test_r2gen_records_are_counted_from_one():
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "annotation.json"
        for key in ("train", "val", "test"):
            for k in range(3):
                for change, message in (({"id": None}, "id is missing"), ({
                        "image_path": None
                }, "image_path is missing"), ({"id": "CXR100_x"}, "id is duplicated")):
                    items = {
                        s: [{"id": f"CXR{10 * j + i}_x", "image_path": []} for i in range(3)]
                        for j, s in enumerate(("train", "val", "test"))
                    }
                    items["train"].insert(0, {"id": "CXR100_x", "image_path": []})
                    item = items[key][k + (key == "train")]
                    item |= change
                    for name in [c for c, value in change.items() if value is None]:
                        del item[name]
                    path.write_text(json.dumps(items))
                    number = k + 1 + (key == "train")
                    with pytest.raises(DataError, match=f"annotation.json {key} record {number}: {message}"):
                        r2gen_items(d)


def test_openi_loads_that_find_nothing_are_errors():
    def annotated(root, change):
        "A miniature of R2Gen's copy whose first record was changed."
        data = json.loads((fixture_images(root, "r2gen") / "annotation.json").read_text())
        key = next(k for k in ("train", "val", "test") if data[k])
        data[key][0] |= change(data[key][0])
        (root / "annotation.json").write_text(json.dumps(data))
        return f"annotation.json {key} record 1: "

    rows = [ # what the record says → what the error says of it
        ({"id": 9001}, "id must begin with CXR and a number, got 9001"),
            ({"id": "9001"}, "id must begin with CXR"),
        ({"id": None}, "id must begin with CXR and a number, got None"), ({"id": ["CXR9001_x"]}, "id must begin"),
        ({"id": ""}, "id must begin with CXR"), ({"id": "cxr9001_x"}, "id must begin with CXR"),
        ({"id": 9001.0}, "id must begin with CXR and a number, got 9001.0"),
            ({"id": "CXR_IM-9"}, "id must begin"),
        ({"id": "CXR9001x"}, "id must begin with CXR"), ({"id": True}, "id must begin with CXR"),
        ({"image_path": "CXR1_IM-1/0.png"}, "image_path must be a list of paths, got a text of 15 characters"),
        ({"image_path": None}, "image_path must be a list of paths, got None"),
        ({"image_path": [0, 1]}, "image_path must be a list"), ({"image_path": {"0": "a"}}, "image_path must be"),
        ({"image_path": [["a.png"]]}, "image_path must be a list of paths")
    ]
    with tempfile.TemporaryDirectory() as d:
        d, archive = Path(d), fixture_archive(Path(d) / "reports.tgz")
        for k, (change, message) in enumerate(rows):
            where = annotated(d / str(k), lambda item: change)
            with pytest.raises(DataError) as e:
                load("train", d / str(k), archive=archive)
            assert str(e.value).startswith(where + message), (change, str(e.value))
        read = lambda root: {s.study_id: len(s.images) for p in SPLITS for s in load(p, root, archive=archive)}
        whole = read(fixture_images(d / "whole", "r2gen"))
        annotated(d / "windows", lambda item: {"image_path": [p.replace("/", "\\") for p in item["image_path"]]})
        assert read(d / "windows") == whole and len(whole) == 3
        annotated(d / "climbs", lambda item: {"image_path": ["..\\..\\a.png"]})
        with pytest.raises(DataError, match="image_path leaves its folder"):
            read(d / "climbs")
        for kind, pattern in (("r2gen", "*.png"), ("kaggle", "*.png")): # the table is there, the images are not
            for film in fixture_images(d / f"no {kind}", kind).rglob(pattern):
                film.unlink()
            with pytest.raises(DataError, match=f"images are missing.*layout {kind}"):
                read(d / f"no {kind}")
        (d / "foreign").mkdir()
        PILImage.fromarray(np.zeros((9, 9), np.uint8)).save(d / "foreign" / "CXR5555_IM-1-1.png")
        with pytest.raises(DataError, match="images are missing"):
            read(d / "foreign")
        for need in ("findings", "Findings", ("FINDINGS", ), ["findings"]):
            assert [len(load(s, need=need, archive=archive)) for s in SPLITS] == [
                len(load(s, need=("findings", ), archive=archive)) for s in SPLITS]
        for need in ("findngs", "f", None, 3, ("findings", "body")):
            with pytest.raises(ValueError, match="need must be of indication, comparison, findings, impression"):
                load("train", need=need, archive=archive)


def test_the_whole_collection_is_text():
    parts = {s: load(s) for s in SPLITS}
    assert sum(len(p) for p in parts.values()) == 3927 and sum(p.counts["reports"]
                                                               for p in parts.values()) == 3955
    findings = [load(s, need=("findings", )) for s in SPLITS]
    assert sum(map(len, findings)) == 3425 and all(s.reference("findings") for s in findings[1])
    assert check_splits((s for p in parts.values() for s in p),
                        lambda s: s.meta["group"])["valid"] == len(parts["valid"])
