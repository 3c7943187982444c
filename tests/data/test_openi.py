"""Exported from nbs/01c_openi.ipynb: edit it there, then run `nbdev-export`."""
import json, re
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
import pandas as pd
from PIL import Image as PILImage
from rrg_core.data.bundled import iu_records, iu_views
from rrg_core.engine.desk import file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.storage import PREPARED, Studies, prepared, read_prepared, spread, write_prepared
from rrg_core.data.study import SPLITS, DataError, Image, Report, Study, read_image
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


def test_the_whole_collection_is_text():
    parts = {s: load(s) for s in SPLITS}
    assert sum(len(p) for p in parts.values()) == 3927 and sum(p.counts["reports"]
                                                               for p in parts.values()) == 3955
    findings = [load(s, need=("findings", )) for s in SPLITS]
    assert sum(map(len, findings)) == 3425 and all(s.reference("findings") for s in findings[1])
    assert check_splits((s for p in parts.values() for s in p),
                        lambda s: s.meta["group"])["valid"] == len(parts["valid"])
