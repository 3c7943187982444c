"""Exported from nbs/01d_mimic_cxr.ipynb: edit it there, then run `nbdev-export`."""
import json, os, re, zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib import import_module
from pathlib import Path
import pandas as pd
from rrg_core.engine.files import entrust, file_hash
from rrg_core.engine.settings import CourseError, repo_root
from rrg_core.data.bundled import csv_table, open_zip, read_member
from rrg_core.data.raw import look_at, opened
from rrg_core.data.storage import Studies, prepared, read_prepared, several, spread, write_prepared
from rrg_core.data.study import OBSERVATIONS, SECTIONS, SPLITS, DataError, Image, Report, Study, check_splits, first_record, named, named_file, read_image
import contextlib, gzip, io, logging, pytest, tempfile
import numpy as np
from rrg_core.data.mimic_cxr import *


def test_published_counts_are_those_of_the_files():
    from rrg_core.engine.settings import package_root

    t = pd.read_csv(package_root() / "published" / "llava_rad_supp_table3.csv", index_col=0)
    ours = PUBLISHED[PUBLISHED["where"] == "LLaVA-Rad Supp. Table 3"][["train", "valid",
                                                                       "test"]].to_numpy().tolist()
    assert ours == [
        t.loc[k].astype(int).tolist() for k in ("Patients", "Studies", "DICOMs (AP/PA)", "Rule-based reports")
    ]
    assert PUBLISHED.loc[0, ["train", "valid", "test"]].sum() == 377110 and PUBLISHED.loc[
        1, ["train", "valid", "test"]].sum() == 227835


def test_mimic_funnel_counts_each_filter():
    with tempfile.TemporaryDirectory() as d, tempfile.TemporaryDirectory() as z:
        lines = []
        f, _ = funnel(fixture(Path(d)), say=lines.append)
        t = f.counts.set_index(["step", "unit"])[["train", "valid", "test"]]
        assert len(lines) == 4 and t.loc[("official split", "images")].tolist() == [
            4, 3, 2
        ] and t.loc[("frontal", "images")].tolist() == [3, 1, 2]
        assert t.loc[("frontal", "patients")].tolist() == [1, 1, 1] and t.loc[("report", "images")].tolist() == [
            3, 1, 1
        ] and t.loc[("frontal + findings", "images")].tolist() == [3, 0, 1]
        g, _ = funnel(Path(d), views=(), say=lines.append)
        assert g.counts.set_index(
            ["step", "unit"]).loc[("all views + findings", "images")][["train", "valid",
                                                                       "test"]].tolist() == [4, 2, 1]
        h, _ = funnel(fixture(Path(z), zipped=True), say=lines.append)
        assert h.counts.equals(f.counts)
        assert set(f.counts.dropna(subset=["where"]).step) | set(g.counts.dropna(subset=["where"]).step) == set(
            PUBLISHED.step)


def test_mimic_studies_are_right():
    quiet = lambda line: None
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        parts = {s: load(s, root, say=quiet) for s in ("train", "valid", "test")}
        found = {s.study_id: s for p in parts.values() for s in p}
        assert set(found) == {"59999901", "59999902", "59999906"} and found["59999906"].split == "test" and len(
            parts["valid"]) == 0
        s = found["59999902"]
        assert s.patient_id == "19999901" and len(
            s.images
        ) == 2 and s.labels["Pleural Effusion"] == 1 and s.labels["Edema"] == -1 and s.labels["Fracture"] is None
        assert s.report.indication == "Invented cough." and s.report.findings == (
            "An invented "
            "effusion.") and s.images[0].load().shape == (20, 16)
        both = {s.study_id: s for s in load("train", root, views=(), say=quiet)}
        assert [i.view for i in both["59999901"].images] == ["PA", "LATERAL"]
        valid = list(load("valid", root, views=(), need=(), say=quiet))
        assert [i.view for s in valid
                for i in s.images] == ["PA", "LATERAL", "UNKNOWN"] and valid[0].split == "valid"
        images = [s.study_id for s in load("train", root, unit="image", say=quiet)]
        assert len(images) == 3 and all("/" in i
                                        for i in images) and sum(check_splits(found.values()).values()) == 3


def test_mimic_images_by_their_ids():
    with tempfile.TemporaryDirectory() as d:
        t = read_images(fixture(Path(d)))
        row = t.loc["59999902-00000001-99999999-99999999-99999999"]
        assert len(t) == 9 and (row.subject_id, row.study_id, row.split, row.ViewPosition, row.Rows,
                                row.Columns) == ("19999901", "59999902", "train", "AP", 20, 16)
        image = image_of(d, row)
        assert (image.width, image.height, image.view, image.load().shape) == (16, 20, "AP", (20, 16))
        assert [image_of(d, r).view for r in t.itertuples()].count("UNKNOWN") == 1


def test_mimic_names_what_is_wrong():
    from rrg_core.data.study import told

    def broken(change, name="split"):
        with tempfile.TemporaryDirectory() as d:
            root = fixture(Path(d))
            path = root / f"mimic-cxr-2.0.0-{name}.csv.gz"
            t = change(pd.read_csv(path, dtype=str))
            path.unlink() if t is None else t.to_csv(path, index=False)
            with pytest.raises((DataError, CourseError)) as e:
                list(load("train", root, say=lambda line: None))
            return str(e.value)

    assert "split.csv.gz: column 'split' is missing" in broken(lambda t: t.drop(columns="split"))
    assert "split.csv.gz record 10: dicom_id is duplicated" in broken(lambda t: pd.concat([t, t.iloc[:1]]))
    for k in (0, 1, 8):
        changed = lambda column, value: broken(lambda t: t.assign(
            **{column: [*t[column][:k], value, *t[column][k + 1:]]}))
        assert f"split.csv.gz record {k + 1}: split 'dev' is unknown" in changed("split", "dev")
        assert f"split.csv.gz record {k + 1}: dicom_id is missing" in changed("dicom_id", None)
    assert "fetch" in broken(lambda t: None) and "Rows" in broken(lambda t: t.assign(Rows=None), "metadata")
    for word in ("7", "NaN", "NA", "None", "null", "positive"): # an empty cell is missing, a word is none
        changed = lambda t: t.assign(Edema=[*t.Edema[:2], word, *t.Edema[3:]])
        message = "chexpert.csv.gz record 3: Edema must be 1, 0, -1 or empty, got "
        assert message + ("7.0" if word == "7" else repr(word)) in broken(changed, "chexpert"), word
    assert "column 'Fracture' is missing" in broken(lambda t: t.drop(columns="Fracture"), "chexpert")
    for word in ("NaN", "0", "-5", "sixteen"):
        assert "metadata.csv.gz record 1: Columns must be a number of pixels" in broken(
            lambda t: t.assign(Columns=word), "metadata"), word
    assert "record 2: study_id has two patients" in broken(
        lambda t: t.assign(subject_id=[t.subject_id[0], "19999902", *t.subject_id[2:]]))
    assert "record 2: study_id lies in two splits" in broken(
        lambda t: t.assign(split=[t.split[0], "test", *t.split[2:]]))
    with pytest.raises(ValueError, match="validate"):
        load("validate", ".")
    for root in (None, "/nonexistent"):
        with pytest.raises(CourseError, match="RRG_ROOT_MIMIC_CXR|fetch"):
            load("train", root)
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        (root / report_name("19999901", "59999901")).write_bytes(b"secret \xff")
        with pytest.raises(DataError, match="s59999901.txt") as e:
            load("train", root, say=lambda line: None)
        assert "secret" not in told(e.value) and "19999901" not in told(e.value)
        film = next(root.rglob("*.jpg"))
        film.write_bytes(b"secret")
        with pytest.raises(DataError, match=film.name) as e:
            read_image(film)
        assert "secret" not in told(e.value) and "p19999901" not in told(e.value)
    assert repr(Funnel(pd.DataFrame({"subject_id": ["19999901"]}))) == "Funnel(1 images after no filter)"


def test_mimic_loads_that_find_nothing_are_errors():
    quiet = lambda line: None

    def refused(table="", change=None, remove="", **options):
        "The error of loading a miniature that was changed."
        with tempfile.TemporaryDirectory() as d:
            root = fixture(Path(d))
            for path in root.rglob(remove or "no such file"):
                path.unlink()
            if table:
                path = root / f"mimic-cxr-2.0.0-{table}.csv.gz"
                change(pd.read_csv(path, dtype=str)).to_csv(path, index=False)
            with pytest.raises(DataError) as e:
                load("train", root, say=quiet, **options)
            assert "\n" not in str(e.value) and "nvented" not in str(e.value)
            return str(e.value)

    each = lambda column, f: lambda t: t.assign(**{column: t[column].map(f)})
    one = lambda column, value, k=0: lambda t: t.assign(**{column: [*t[column][:k], value, *t[column][k + 1:]]})
    rows = [ # SVT-Yang/MedST#4 is a root without reports; the other kinds are our own
        ("MedST#4", "reports are missing", dict(remove="*.txt")),
        ("ids s5…", "split.csv.gz record 1: study_id must be digits", dict(
            table="split", change=each("study_id", "s{}".format))),
        ("ids 5….0", "split.csv.gz record 1: study_id must be digits", dict(
            table="split", change=each("study_id", "{}.0".format))),
        ("a blank before", "record 1: study_id must be digits", dict(
            table="split", change=each("study_id", " {}".format))),
        ("a blank behind", "record 3: study_id must be digits", dict(
            table="split", change=one("study_id", "59999902 ", 2))),
        ("another digit", "record 1: study_id must be digits", dict(
            table="split", change=one("study_id", "5999990１"))),
        ("no id", "split.csv.gz record 2: study_id is missing",
         dict(table="split", change=one("study_id", None, 1))),
        ("no patient", "record 2: subject_id is missing", dict(table="split", change=one("subject_id", None, 1))),
        ("patients p1…", "record 1: subject_id must be digits", dict(
            table="split", change=each("subject_id", "p{}".format))),
        ("a float patient", "record 1: subject_id must be digits", dict(
            table="split", change=each("subject_id", "{}.0".format))),
        ("labels s5…", "chexpert.csv.gz record 1: study_id must be digits", dict(
            table="chexpert", change=each("study_id", "s{}".format))),
        ("labels 5….0", "chexpert.csv.gz record 2: study_id must be digits", dict(
            table="chexpert", change=one("study_id", "59999902.0", 1))),
        ("other images", "metadata table: dicom_id names no image", dict(
            table="metadata", change=each("dicom_id", "{}.dcm".format))),
        ("a patient in two splits", "split.csv.gz study '59999902': split 'test' leaks", dict(
            table="split", change=lambda t: t.assign(split=t.split.mask(t.study_id == "59999902", "test")))),
        ("a study in two splits", "split.csv.gz record 2: study_id lies in two splits", dict(
            table="split", change=one("split", "validate", 1))),
        ("FRONTAL", "views must be of AP, PA, LATERAL, LL, got 'FRONTAL'", dict(views=("FRONTAL", ))),
        ("frontal", "views must be of", dict(views="frontal")),
            ("views=None", "views must be of", dict(views=None)),
        ("AP,PA", "views must be of", dict(views="AP,PA")),
            ("empty view", "views must be of", dict(views=("", ))),
        ("findngs", "need must be of indication, comparison, findings, impression", dict(need="findngs")),
        ("need=None", "need must be of", dict(need=None)), ("last_paragraph", "need must", dict(
            need=("last_paragraph", )))
    ]
    for what, message, change in rows:
        assert message in refused(**change), (what, refused(**change))
    for sections, overrides in (("mimic", None), ("Official", None), (None, None),
                                ("course", "section_parser.py")):
        with tempfile.TemporaryDirectory() as d, pytest.raises(ValueError, match="sections"):
            load("train", fixture(Path(d)), say=quiet, sections=sections, overrides=overrides)


def test_mimic_sections_of_the_official_parser():
    texts = {
        "59999901": " FINAL REPORT\n HISTORY:  Cough.\n \n Lungs are clear.\n", # its rules
        "59999902": " FINAL REPORT\n INDICATION: Tube. FINDINGS: Clear.\n IMPRESSION:  Normal.\n",
        "59999903": " FINAL REPORT\n INDICATION:  Large effusion.\n \n IMPRESSION:\n", # overrides
        "59999904": " FINAL REPORT\n COMPARISON:  Two tubes. Done.\n",
        "59999906": " FINAL REPORT\n COMPARISON:  Heart is large.\n"
    }
    fake = "\n".join([
        "def rules():", "    custom_section_names = {'s59999903': 'indication'} # invented",
        "    custom_indices = {'s59999904': [28, 38], 's59999909': [0, 0]}", "raise SystemExit('never run')"])
    with tempfile.TemporaryDirectory() as d, tempfile.TemporaryDirectory() as elsewhere:
        root, lines, quiet = fixture(Path(d)), [], lambda line: None
        for file in root.rglob("s*.txt"):
            file.write_text(texts[file.stem[1:]])

        def read(**options):
            found = [s for split in SPLITS for s in load(split, root, (), (), **{"say": quiet} | options)]
            return {s.study_id: {k: v for k, v in vars(s.report).items() if v and k != "language"} for s in found}

        course, plain = read(), read(sections="official", say=lines.append)
        assert course["59999901"] == {"indication": "Cough."} and course["59999902"] == {
            "indication": "Tube.", "findings": "Clear.", "impression": "Normal."}
        assert plain["59999901"] == {"indication": "Cough.", "impression": "Lungs are clear."}
        assert plain["59999902"] == {"indication": "Tube. FINDINGS: Clear.", "impression": "Normal."}
        assert plain["59999903"] == {"indication": "Large effusion."} and plain["59999906"] == {
            "impression": "Heart is large."}
        assert sum("section_parser.py" in line for line in lines) == 3
        for place, given in ((root, False), (root / "txt", False), (Path(elsewhere), True)):
            place.mkdir(exist_ok=True)
            (place / "section_parser.py").write_text(fake)
            named_one = {"overrides": place / "section_parser.py"} if given else {}
            cut = read(sections="official", **named_one)
            assert cut["59999903"] == {"impression": "Large effusion."} # and no indication that is the answer
            assert cut["59999904"] == {"impression": texts["59999904"][28:38].strip()} and cut[
                "59999901"] == plain["59999901"]
            (place / "section_parser.py").unlink()
        for wrong, message in (("x = 1", "custom_section_names is missing"),
                               ("def (", "cannot be read as Python"),
                               ("custom_section_names = {}", "custom_indices is missing"),
                               (fake.replace("[28, 38]", "[28]"), "custom_indices must map"),
                               (fake.replace("[28, 38]", "[28, -1]"), "custom_indices must map"),
                               (fake.replace("'indication'", "open('x')"), "custom_section_names must map"),
                               (fake.replace("'s59999903'", "'59999903'"), "custom_section_names must map"),
                               (fake.replace("'indication'", "'nothing'"), "s59999903.txt: section 'nothing'")):
            (root / "section_parser.py").write_text(wrong)
            with pytest.raises(DataError, match=message):
                read(sections="official")
        with pytest.raises(DataError, match="section_parser.py: file cannot be read"):
            read(sections="official", overrides=root / "nowhere" / "section_parser.py")


def test_mimic_reads_tables_by_their_exact_names():
    def copied(names): # The table of splits under each of these names, its images called after the name
        with tempfile.TemporaryDirectory() as d:
            for name in names:
                row = {"dicom_id": [name], "study_id": ["5"], "subject_id": ["1"], "split": ["train"]}
                pd.DataFrame(row).to_csv(Path(d) / name,
                                         index=False,
                                         compression="gzip" if name.endswith("gz") else None)
            return read_table(Path(d), "split").dicom_id.item()

    stem = "mimic-cxr-2.0.0-split.csv"
    unfinished = [
        f"{stem}.gz.part", f"{stem}.gz.1", f"{stem}.gz~", f"{stem}~", f"{stem}.gz.crdownload", f".{stem}.gz",
        f"{stem}.part", f"{stem}.bak", f"{stem}.gz.aria2", f"{stem}.gz (1)", f"{stem}.zip", f"{stem}.gz.tmp",
        f"._{stem}.gz", f"{stem} copy.gz", "mimic-cxr-2.x-split.csv", "mimic-cxr-2.1.0-old-split.csv"
    ]
    for name in unfinished:
        assert copied([name, f"{stem}.gz"]) == f"{stem}.gz" and copied([name, stem]) == stem
        with pytest.raises(CourseError, match="fetch"):
            copied([name])
    order = [
        stem, f"{stem}.gz", "mimic-cxr-2.1.0-split.csv", "mimic-cxr-2.9.9-split.csv.gz",
        "mimic-cxr-2.10.0-split.csv"
    ]
    for k in range(1, len(order) + 1): # each is preferred to those before it
        assert copied(order[:k]) == order[k - 1]


def test_mimic_damaged_archives_and_tables_are_named():
    def damaged(name, change, zipped=True):
        with tempfile.TemporaryDirectory() as d:
            path = fixture(Path(d), zipped) / name
            path.write_bytes(change(bytearray(path.read_bytes())))
            with pytest.raises(DataError) as e:
                list(load("train", Path(d), say=lambda line: None))
            assert "nvented" not in str(e.value)
            return str(e.value)

    def flipped(data, at):
        data[at] ^= 0xFF
        return data

    reports = "mimic-cxr-reports.zip"
    member = f"{reports}: member …/s59999901.txt is damaged"
    for change, message in ((lambda b: flipped(b, b.index(b"FINAL")), member), (lambda b: flipped(b, 0), member),
                            (lambda b: b[:len(b) // 2], f"{reports}: archive is damaged"),
                            (lambda b: b[:-9],
                             f"{reports}: archive is damaged"), (lambda b: b"", f"{reports}: archive is damaged"),
                            (lambda b: flipped(b,
                                               len(b) - 22), f"{reports}: archive is damaged")):
        assert message in damaged(reports, change)
    for name in ("split", "metadata", "chexpert"):
        table = f"mimic-cxr-2.0.0-{name}.csv.gz"
        for change in (lambda b: b[:40], lambda b: b[:-4], lambda b: b"", lambda b: b"no table",
                       lambda b: flipped(b,
                                         len(b) // 2), lambda b: flipped(b,
                                                                         len(b) - 8)):
            assert f"{table}: table cannot be read" in damaged(table, change, zipped=False)


def test_mimic_options_in_one_word_and_any_letters():
    quiet = lambda line: None
    with tempfile.TemporaryDirectory() as d:
        root, out = fixture(Path(d) / "raw"), Path(d) / "out"
        ids = lambda where=root, **options: [
            s.study_id for s in load("train", where, say=quiet, **options)]
        default = ids()
        for options in (dict(need="findings"), dict(need="Findings"), dict(need=("FINDINGS", )),
                        dict(need=["findings", "Findings"]), dict(views=("ap", "pa")),
                        dict(views=["PA", "AP", "pa"])):
            assert ids(**options) == default == ["59999901", "59999902"], options
        for options, expected in ((dict(views="AP"), ["59999902"]), (dict(views="pa"), ["59999901"]),
                                  (dict(views="lateral"), ["59999901"]), (dict(views="LL"), []),
                                  (dict(views=" AP "), ["59999902"]), (dict(need="impression"), default),
                                  (dict(need="indication"), ["59999902"]), (dict(need="comparison"), []),
                                  (dict(need=()), default),
                                  (dict(need=("indication", "findings")), ["59999902"])):
            assert ids(**options) == expected, options
        prepare(root, out, need="Findings", views=["ap", "pa"], say=quiet)
        assert ids(out) == ids(out, need="findings", views=("AP", "PA")) == default
        (root / report_name("19999901", "59999901")).write_text(" FINDINGS:  ___\n \n IMPRESSION:  ___.\n")
        assert ids() == ids(need="impression") == ["59999902"] # blanks alone are no reference
        (root / report_name("19999901", "59999902")).unlink() # of one report that is missing, none is a lie
        assert ids(need=()) == ["59999901"]


def test_mimic_prepared_folder_gives_the_same_studies():
    quiet = lambda line: None
    with tempfile.TemporaryDirectory() as d:
        root, out = fixture(Path(d) / "raw"), Path(d) / "out"
        raw = {s: load(s, root, say=quiet) for s in SPLITS}
        note = prepare(root, out, say=quiet)
        (Path(d) / "raw").rename(Path(d) / "elsewhere")
        lines = [] # the raw files are not asked any more
        for split, studies in raw.items():
            again = load(split, out, say=lines.append)
            assert list(again) == list(studies) == list(load(
                split, out, say=quiet, stream=True)) and note["splits"][split]["studies"] == len(studies)
            pd.testing.assert_frame_equal(again.counts, studies.counts, check_dtype=False)
        assert lines == ["train: 2 studies, prepared", "valid: 0 studies, prepared", "test: 1 studies, prepared"]
        with pytest.raises(CourseError, match=r"views = \['AP', 'PA'\]"):
            load("train", out, views=(), say=quiet)
        with pytest.raises(CourseError, match="unit = 'study'"):
            load("train", out, unit="image", say=quiet)
        (out / "test.parquet").write_bytes((out / "train.parquet").read_bytes())
        with pytest.raises(CourseError, match="test.parquet"):
            load("test", out, say=quiet)
        assert all("Invented" not in p.read_text() and "nvented" not in p.read_text() for p in out.glob("*.json"))
        for wrong, message in ((repo_root() / "figures", "repository"), (Path(d) / "elsewhere",
                                                                         "another folder")):
            with pytest.raises(CourseError, match=message):
                prepare(Path(d) / "elsewhere", wrong, say=quiet)


def test_a_prepared_folder_knows_who_cut_its_reports():
    tables = "custom_section_names = {}\ncustom_indices = {'s59999901': [0, %d]}"
    with tempfile.TemporaryDirectory() as d:
        root, quiet, copies = fixture(Path(d) / "raw"), lambda line: None, []
        for k in (20, 30):
            copies.append(Path(d) / f"{k}" / "section_parser.py")
            copies[-1].parent.mkdir()
            copies[-1].write_text(tables % k)
        asked = dict(need=(), say=quiet, sections="official")
        for copy, other in (copies, copies[::-1]):
            out = Path(d) / f"out {copy.parent.name}"
            prepare(root, out, overrides=copy, **asked)
            mine = list(load("train", out, overrides=copy, **asked))
            assert mine == list(load("train", out, **asked)) == list(load("train", root, overrides=copy, **asked))
            for wrong in (other, Path(d) / "nowhere.py"):
                with pytest.raises(CourseError, match="was prepared with overrides"):
                    load("train", out, overrides=wrong, **asked)
        prepare(root, Path(d) / "bare", **asked) # without a copy
        with pytest.raises(CourseError, match="was prepared with overrides = None"):
            load("train", Path(d) / "bare", overrides=copies[0], **asked)


def test_mimic_reports_in_several_processes():
    from rrg_core.data import mimic_cxr # what is defined on this page is not known to another process
    with tempfile.TemporaryDirectory() as d, tempfile.TemporaryDirectory() as z:
        pairs = [("19999901", "59999901"), ("19999901", "59999902"), ("19999903", "59999905"),
                 ("19999903", "59999906")]
        wanted = pd.DataFrame(pairs, columns=["subject_id", "study_id"])
        one = read_reports(fixture(Path(d)), pd.concat([wanted, wanted]))
        assert list(one) == ["59999901", "59999902", "59999906"] and one == mimic_cxr.read_reports(
            fixture(Path(z), zipped=True), wanted, jobs=2)
        assert list(load("train", Path(d), say=lambda line: None, stream=True)) == list(
            load("train", Path(d), say=lambda line: None))


def test_mimic_verify_counts():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        jpg = sorted(root.rglob("*.jpg"))
        jpg[0].unlink()
        jpg[1].write_bytes(jpg[1].read_bytes()[:200])
        assert verify(root) == {
            "images listed": 9, "images missing": 1, "images damaged": 1, "reports listed": 6,
            "reports missing": 1
        }


def test_text_of_credentialed_sets_stays_where_it_is():
    with tempfile.TemporaryDirectory() as d:
        root = fixture(Path(d))
        out, err, log = io.StringIO(), io.StringIO(), io.StringIO()
        handler = logging.StreamHandler(log)
        logging.getLogger().addHandler(handler)
        level = logging.getLogger().level
        logging.getLogger().setLevel(1)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                for split in ("train", "valid", "test"):
                    studies = load(split, root, views=(), need=())
                    print(studies, studies.counts.to_string(), *map(repr, studies))
                print(verify(root))
                for s in studies:
                    try:
                        s.reference("comparison")
                    except DataError as e:
                        print(e)
        finally:
            logging.getLogger().removeHandler(handler)
            logging.getLogger().setLevel(level)
        shown = (out.getvalue() + err.getvalue() + log.getvalue()).lower()
        assert "official split" in shown and not any(w in shown
                                                     for w in ("invented", "effusion.", "nodule.", "cough"))


def test_nothing_committed_has_credentialed_ids():
    dicom = "-".join(["0badc0de"] * 5)
    assert credentialed_ids(f"p1{'2345678'} s5{'1234567'} {dicom}") and not credentialed_ids(
        "p19999901 s59999905 59999901-00000000-99999999-99999999-99999999")
    places = [
        p for folder in ("figures", "nbs", "data_scripts", "rrg_core/published")
        for p in (repo_root() / folder).rglob("*")
        if p.suffix in (".csv", ".md", ".svg", ".json", ".ipynb", ".py")
    ]
    found = {
        p.relative_to(repo_root()).as_posix(): i
        for p in places if (i := credentialed_ids(p.read_text(errors="replace")))
    }
    assert not found, found
