"""Exported from nbs/01b_bundled.ipynb: edit it there, then run `nbdev-export`."""
import gzip, lzma, os, re, struct, tarfile, zipfile, zlib
from contextlib import nullcontext
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
from rrg_core.engine.files import file_hash
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import OBSERVATIONS, DataError, first_record, named, named_file
import pytest, tempfile
from rrg_core.data.bundled import *


def test_bundled_files_and_their_fingerprint():
    assert len(fingerprint("iu")) == 64 and fingerprint("iu") != fingerprint("nih") and fingerprint(
        "iu", "nih") == fingerprint("nih", "iu")
    assert fingerprint() == fingerprint(*FILES) and all(bundled_file(n).is_file() for n in FILES)
    with pytest.raises(ValueError, match="unknown table 'mimic'"):
        bundled_file("mimic")


def test_a_damaged_table_is_named():
    import gzip

    text = b"id,words\n" + b"7,invented words\n"*50
    whole = gzip.compress(text, mtime=0)
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "t.csv.gz"
        path.write_bytes(whole)
        assert len(csv_table(path)) == 50
        spoilt = [whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1:] for k in range(10, len(whole))]
        for wrong in (b"", text, whole[:30], whole[:-4], b"no table", gzip.compress(b""),
                      gzip.compress(b"\xff\xfe"), gzip.compress(b"a,b\n1,2,3\n1,2,3,4,5\n"), *spoilt):
            path.write_bytes(wrong)
            with pytest.raises(DataError, match=r"t\.csv\.gz: table cannot be read") as e:
                csv_table(path)
            assert "words" not in str(e.value)
        path.write_bytes(whole)
        with pytest.raises(DataError, match=r"t\.csv\.gz: table cannot be read"):
            csv_table(path, usecols=["id", "image"])
        with pytest.raises(DataError, match="absent.csv: table does not exist"):
            csv_table(Path(d) / "absent.csv")


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


def test_a_damaged_archive_is_one_error():
    def zipped(method):
        with zipfile.ZipFile(out := BytesIO(), "w", method) as z:
            for name in ("a.xml", "b.xml"):
                z.writestr(name, f"<a>invented words of {name}</a>" * 3)
        return out.getvalue()

    def tarred():
        with tarfile.open(fileobj=(out := BytesIO()), mode="w:gz") as t:
            info = tarfile.TarInfo("a.xml")
            info.size = len(data := b"invented words" * 9)
            t.addfile(info, BytesIO(data))
        return out.getvalue()

    def answer(path, data):
        path.write_bytes(data)
        try:
            return str(list(members(path)))
        except DataError as e:
            assert str(e).startswith(f"{path.name}: ") and "words" not in str(e), e
            return str(e)

    methods = ("STORED", "DEFLATED", "BZIP2", "LZMA")
    whole = {f"{m}.zip": zipped(getattr(zipfile, f"ZIP_{m}")) for m in methods} | {"a.tgz": tarred()}
    with tempfile.TemporaryDirectory() as d:
        for name, data in whole.items():
            path, answers = Path(d) / name, set()
            assert answer(path, data).startswith("[('a.xml'")
            for k in range(0, len(data), 3):
                answers |= {
                    answer(path, data[:k] + bytes([data[k] ^ 0xFF]) + data[k + 1:]),
                    answer(path, data[:k])
                }
            assert any("archive is damaged" in a for a in answers)
            assert name == "a.tgz" or any("member a.xml is damaged" in a for a in answers)
        locked = bytearray(whole["STORED.zip"])
        for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)): # a member's own header, and the table of contents
            locked[locked.index(header) + flags] |= 1 # it needs a password
        assert "member a.xml is damaged (RuntimeError)" in answer(path, bytes(locked))
    with pytest.raises(DataError, match="absent.zip: archive does not exist"):
        list(members("/nonexistent/absent.zip"))


def test_one_member_of_a_zip_names_archive_and_member():
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "reports.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("s1.txt", b"invented words " * 9)
        data = path.read_bytes()
        with open_zip(path) as z:
            assert read_member(z, "s1.txt").startswith(b"invented")
            with pytest.raises(DataError, match="reports.zip: member s2.txt is missing"):
                read_member(z, "s2.txt")
        path.write_bytes(data[:45] + bytes([data[45] ^ 0xFF]) + data[46:])
        with open_zip(path) as z, pytest.raises(DataError, match="reports.zip: member s1.txt is damaged"):
            read_member(z, "s1.txt")
        for wrong in (b"", b"no archive", data[:-8], data[:20], bytes(200), b"PK\5\6" + bytes(6)):
            path.write_bytes(wrong)
            with pytest.raises(DataError, match="reports.zip: archive is damaged"):
                open_zip(path)
        with pytest.raises(DataError, match="absent.zip: archive does not exist"):
            open_zip(Path(d) / "absent.zip")


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


def test_iu_words_under_tags_and_in_second_sections():
    def read(findings, more=""):
        sections = "".join(f'<AbstractText Label="{s}"/>' for s in ("COMPARISON", "INDICATION", "IMPRESSION"))
        body = f'<AbstractText Label="FINDINGS">{findings}</AbstractText>{more}{sections}'
        return iu_record(f'<e><uId id="CXR9"/>{body}</e>'.encode())["findings"]

    second = '<AbstractText Label="FINDINGS">{}</AbstractText>'
    for findings, more, out in [
        ("Heart <i>is</i> large.", "", "Heart is large."), ("<i>Heart</i> is large.", "", "Heart is large."),
        ("Heart is <b>large</b>", "", "Heart is large"), ("<p>a</p><p>b</p>", "", "ab"),
        ("a <i>b <b>c</b> d</i> e", "", "a b c d e"), ("a<br/>b", "", "ab"), ("a <!-- c --> b", "", "a  b"),
        ("a<![CDATA[ <5 mm]]>", "", "a <5 mm"), ("1 &lt; 2", "", "1 < 2"), ("<i/>", "", ""), ("  a\n", "", "a"),
        ("a", second.format("b"), "a\nb"), ("", second.format("b"), "b"), ("a", second.format(""), "a"),
        ("a", second.format("<i>b</i> c"), "a\nb c"), ("a", second.format("b") + second.format("c"), "a\nb\nc")
    ]:
        assert read(findings, more) == out, (findings, more)
    with tempfile.TemporaryDirectory() as d:
        with zipfile.ZipFile(Path(d) / "empty.zip", "w") as z:
            z.writestr("readme.txt", "no report")
        with pytest.raises(DataError, match="empty.zip: reports are missing"):
            iu_records(Path(d) / "empty.zip")


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


def test_wrong_records_are_counted_from_one():
    from rrg_core.data.bundled import _checked_boxes

    columns = ["label", "x0", "y0", "x1", "y1"]
    good = [["Mass", 0, 0, 1, 1]] * 3
    for k in range(3):
        for j, value, message in ((0, "Massive", "label 'Massive' is unknown"), (0, np.nan,
                                                                                 "label nan is unknown"),
                                  (1, 1, r"box \(1, 0, 1, 1\) is no rectangle"), (2, 2, ".*is no rectangle"),
                                  (3, np.nan, ".*is no rectangle"), (4, np.inf, ".*is no rectangle")):
            t = pd.DataFrame([list(r) for r in good], columns=columns).astype({c: float for c in columns[1:]})
            t.iloc[k, j] = value
            for skipped in range(k + 1): # that many records before it carry no box
                boxed = pd.Series([i >= skipped for i in range(3)])
                with pytest.raises(DataError, match=f"t.csv record {k + 1}: {message}"):
                    _checked_boxes("t.csv", t, boxed, ("Mass", ))
    assert len(_checked_boxes("t.csv", t.assign(y1=1), pd.Series([False, True, True]), ("Mass", ))) == 2


def test_wrong_records_of_label_tables_are_counted_from_one():
    from rrg_core.data import bundled
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        path = Path(d) / "t.csv"
        m.setattr(bundled, "bundled_file", lambda name: path)
        for k in range(3):
            paths = [f"train/patient{i}/study1/view1_frontal.jpg" for i in range(3)]
            paths[k] = "train/view1_frontal.jpg"
            pd.DataFrame({"Path": paths}).to_csv(path, index=False)
            with pytest.raises(DataError, match=f"chexpert_train.csv.gz record {k + 1}: Path names no patient"):
                bundled._chexpert.__wrapped__()
            columns = [
                "Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position"
            ]
            labels = ["Mass", "Mass|Hernia", "No Finding"]
            labels[k] += "|Pneumo"
            pd.DataFrame([["1.png", text, 1, 40, "F", "PA"] for text in labels],
                         columns=columns).to_csv(path, index=False)
            with pytest.raises(DataError, match=f"record {k + 1}: Finding Labels has an unknown label 'Pneumo'"):
                bundled._nih.__wrapped__()


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
