"""Exported from nbs/01b_bundled.ipynb: edit it there, then run `nbdev-export`."""
import re, tarfile, zipfile
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
import numpy as np
import pandas as pd
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from PIL import Image as PILImage
from rrg_core.engine.desk import file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import OBSERVATIONS, DataError
import pytest, tempfile
from rrg_core.data.bundled import *


def test_bundled_files_and_their_fingerprint():
    assert len(fingerprint("iu")) == 64 and fingerprint("iu") != fingerprint("nih") and fingerprint(
        "iu", "nih") == fingerprint("nih", "iu")
    assert fingerprint() == fingerprint(*FILES) and all(bundled_file(n).is_file() for n in FILES)
    with pytest.raises(ValueError, match="unknown table 'mimic'"):
        bundled_file("mimic")


def test_archives_that_attack():
    def tar(name, kind=tarfile.REGTYPE, data=b"x"):
        out = BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as t:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(
                data) if kind == tarfile.REGTYPE else 0, kind, "/etc/hostname"
            t.addfile(info, BytesIO(data))
        return out.getvalue()

    assert list(members(tar("a/b.xml", data=b"hi"))) == [("a/b.xml", b"hi")]
    for bad, message in [(tar("../x"), "leaves"), (tar("/x"), "leaves"), (tar("a/../../x"), "leaves"),
                         (tar("x", tarfile.SYMTYPE), "link"), (tar("x", tarfile.LNKTYPE), "link"),
                         (tar("x", data=b"0" * 99), "more than"), (tar("x")[:20], "damaged"),
                         (b"no archive", "damaged")]:
        with pytest.raises(DataError, match=message):
            list(members(bad, limit=50))
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("../x", "y")
    with pytest.raises(DataError, match="leaves"):
        list(members(out.getvalue()))


def test_iu_reports_agree_with_an_independent_count():
    records = iu_records() # counts of another program
    assert len(records) == len({r["uid"] for r in records}) == 3955
    assert [sum(bool(r[s]) for r in records)
            for s in ("comparison", "indication", "findings", "impression")] == [3333, 3865, 3425, 3921]
    assert sum(bool(r["findings"] and r["impression"])
               for r in records) == 3419 and sum(not (r["findings"] or r["impression"]) for r in records) == 28
    images = [len(r["images"]) for r in records]
    assert [images.count(n)
            for n in range(6)] == [104, 446, 3208, 181, 15, 1] and len({i
                                                                        for r in records
                                                                        for i in r["images"]}) == 7470
    assert sum(r["mesh"] == ["normal"]
               for r in records) == 1391 and sum("Technical Quality of Image Unsatisfactory" in r["mesh"]
                                                 for r in records) == 86
    assert len({(r["findings"], r["impression"]) for r in records if r["findings"] or r["impression"]}) == 3159


def test_iu_xml_that_attacks_or_lacks():
    good = (b'<e><uId id="CXR9"/><AbstractText Label="COMPARISON"/><AbstractText '
            b'Label="INDICATION">a</AbstractText><AbstractText Label="FINDINGS"/><AbstractText '
            b'Label="IMPRESSION"> b &lt; c </AbstractText><MeSH><major>Catheters, Indwelling/right '
            b'</major></MeSH><parentImage id="CXR9_IM-1-1"/></e>')
    r = iu_record(good)
    assert r == {
        "uid": "CXR9", "comparison": "", "indication": "a", "findings": "", "impression": "b < c",
        "mesh": ["Catheters, Indwelling/right"], "automatic": [], "images": ["CXR9_IM-1-1"]
    }
    bomb = b'<!DOCTYPE e [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + good.replace(b" b ", b"&b;")
    for xml, message in [(bomb, "XML"), (good[:50], "XML"), (good.replace(b"CXR9\"/>", b"9\"/>", 1), "uId"),
                         (good.replace(b"FINDINGS", b"FINDING"), "CXR9: FINDINGS is missing")]:
        with pytest.raises(DataError, match=message):
            iu_record(xml, "7.xml")


def test_iu_views_keep_to_the_evidence():
    views = iu_views()
    first = {r["images"][0] for r in iu_records() if r["images"]}
    assert len(views) == 7470 and sum(v[1] == "cluster" for v in views.values()) == len(first) == 3851
    assert sum(views[i][0] == "LATERAL" for i in first) == 584 and all(views[i][0] in ("PA", "AP", "LATERAL")
                                                                       for i in first)
    table = iu_dicom()
    assert {"CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"} <= set(
        table.index) and len(set(views) & set(table.index)) == 7469
    assert sum(table.photometric == "MONOCHROME1") == 3584


def test_chexpert_agrees_with_an_independent_count():
    t = chexpert() # counts of another program
    assert (len(t), t.patient.nunique(), t.study.nunique(), int(
        t.frontal.sum())) == (223414, 64540, 187641, 191027)
    f = chexpert(frontal=True)
    assert dict(f.view.value_counts()) == {"AP": 161590, "PA": 29420, "UNKNOWN": 17} and t.image.is_unique
    assert list(f.columns[-14:]) == OBSERVATIONS and set(f[OBSERVATIONS].stack().dropna()) == {-1, 0, 1}
    assert round((f["Atelectasis"] == -1).mean() * 100, 1) == 15.6 and round(
        (f["Lung Opacity"] == 1).mean() * 100, 1) == 49.3
    alone = f[f["No Finding"] == 1].drop(columns=["No Finding", "Support Devices"])
    assert not (alone[[o for o in OBSERVATIONS[:12]]] == 1).any(axis=None)


def test_nih_agrees_with_an_independent_count():
    t, b = nih(), nih_boxes() # counts of another program
    assert (len(t), t.patient.nunique(), dict(
        t.view.value_counts())) == (112120, 30805, {"PA": 67310, "AP": 44810})
    assert [
        round(t[c].mean() * 100, 1) for c in ("No Finding", "Infiltration", "Effusion", "Pneumothorax", "Hernia")
    ] == [53.8, 17.7, 11.9, 4.7, .2]
    assert len(b) == 984 and b.image.nunique() == 880 and dict(b.label.value_counts())["Infiltration"] == 123
    heart = b[b.label == "Cardiomegaly"]
    assert round(float(
        ((heart.x0 + heart.x1) / 2).mean()), 3) == .575 and round(float((heart.x1 - heart.x0).mean()), 2) == .47
    labels = t.set_index("image")
    assert all(labels.loc[r.image, r.label] for r in b.itertuples()) # every box has its label


def test_vindr_agrees_with_an_independent_count():
    b, n = vindr_boxes(), vindr_images() # counts of another program
    assert (len(b), b.image.nunique(), len(n), int((n == 0).sum())) == (36096, 4394, 15000, 10606)
    assert dict(b.label.value_counts())["Aortic enlargement"] == 7162 and b[
        b.label == "Cardiomegaly"].image.nunique() == 2300
    r = vindr_relative().groupby("label")[["dx", "dy", "w", "h"]].median()
    assert abs(r.loc["Cardiomegaly"] - [0, 0, 1, .37]).max() < .02 and abs(r.loc["Aortic enlargement"] -
                                                                           [-.01, -.74, .29, .32]).max() < .03


def test_siim_masks():
    assert siim_mask("1 2 2 1", 4).astype(int).tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0],
                                                            [0, 0, 0,
                                                             0]] # column 0: rows 1, 2; gap 2: column 1, row 1
    assert not siim_mask(None, 4).any()
    for bad in ("1 2 3", "0 17", "-1 2"):
        with pytest.raises(ValueError):
            siim_mask(bad, 4)
    t = siim()
    masks = t[t.rle.notna()]
    assert (len(t), t.image.nunique(), len(masks), masks.image.nunique()) == (
        12954, 12047, 3576, 2669) # counts of another program
    areas = [siim_mask(r).mean() for r in masks.rle[:200]]
    assert .001 < np.median(areas) < .02


def test_lung_masks_are_lung_only():
    some = list(lung_masks(12))
    assert len(some) == 12 and all(m.dtype == bool and m.ndim == 2
                                   for _, m in some) and 0 < np.mean([m.mean() for _, m in some]) < .6
    assert sum(1 for _ in members(bundled_file("lungs"))) == 517
