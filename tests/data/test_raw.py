"""Exported from nbs/01g_raw.ipynb: edit it there, then run `nbdev-export`."""
import json, os, re, warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from numbers import Real
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.engine.files import entrust
from rrg_core.engine.settings import PUBLIC, CourseError, repo_root
from rrg_core.data.bundled import csv_table
from rrg_core.data.openi import split_of
from rrg_core.data.storage import PREPARED, Studies, prepared, read_prepared, several, spread, write_prepared
from rrg_core.data.study import OBSERVATIONS, SPLITS, DataError, Image, Study, _is_dicom, image_size, named, named_file, read_image, without_text
import io, pytest, tempfile
from dataclasses import replace
from PIL import Image as PILImage
from rrg_core.data.raw import *


def test_files_are_found_by_their_whole_names():
    with tempfile.TemporaryDirectory() as d:
        for name in ("a_1.csv.part", "._a_1.csv", "a_1.csv~", "a_1 (1).csv", "b.csv"):
            (Path(d) / name).write_bytes(b"")
        with pytest.raises(CourseError,
                           match="has no a_1.csv: `python data_scripts/jf_healthcare.py fetch` says"):
            file_of(d, "a_1.csv", "jf-healthcare", r"a_\d\.csv(\.gz)?")
        (Path(d) / "a_2.csv").write_bytes(b"")
        assert file_of(d, "a_1.csv", "jf-healthcare", r"a_\d\.csv(\.gz)?").name == "a_2.csv"
        (Path(d) / "a_2.csv.gz").write_bytes(b"")
        with pytest.raises(DataError, match="a_2.csv.gz: table lies beside a_2.csv: leave one of them there"):
            file_of(d, "a_1.csv", "jf-healthcare", r"a_\d\.csv(\.gz)?")
    with tempfile.TemporaryDirectory() as d: # in a folder below the root
        with pytest.raises(CourseError, match="has no x/y.csv: `python data_scripts/nih.py fetch` says"):
            file_of(d, "x/y.csv", "nih")
        (Path(d) / "x").mkdir()
        for name in ("y.csv", "zy.csv", "y_csv"):
            (Path(d) / "x" / name).write_bytes(b"")
        assert file_of(d, "x/y.csv", "nih") == Path(d) / "x/y.csv" # the dot is a dot
    with tempfile.TemporaryDirectory() as d:
        for name in ("a/1.png", "b/c/2.png", "b/2.png.part", ".cache/3.png", "a/._1.png", "a/4.jpg", "5.png~"):
            (Path(d) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(d) / name).write_bytes(b"")
        found = files_under(d, r".*\.png")
        assert found == {"1.png": Path(d) / "a/1.png", "2.png": Path(d) / "b/c/2.png"}
        (Path(d) / "1.png").write_bytes(b"")
        with pytest.raises(DataError, match="file '1.png': name occurs in two folders"):
            files_under(d, r".*\.png")
    with tempfile.TemporaryDirectory() as d: # a link to another disk, and one that leads back
        (Path(d) / "disk").mkdir()
        (Path(d) / "disk" / "6.png").write_bytes(b"")
        (Path(d) / "root").mkdir()
        (Path(d) / "root" / "images").symlink_to(Path(d) / "disk")
        (Path(d) / "disk" / "back").symlink_to(Path(d) / "root")
        assert files_under(Path(d) / "root", r".*\.png") == {"6.png": Path(d) / "root/images/6.png"}


def test_a_table_is_checked_cell_by_cell():
    def written(text, needed=("id", "x"), **options):
        with tempfile.TemporaryDirectory() as d:
            (Path(d) / "t.csv").write_bytes(text.encode() if isinstance(text, str) else text)
            return table_of(Path(d) / "t.csv", needed, **options)

    t = written("id, x\n" + "9" * 39 + ",\n007,NaN\n") # a blank before the name; an empty cell; a word
    assert t.id.tolist() == ["9" * 39, "007"] and t.record.tolist() == [1, 2]
    assert t.x.isna().tolist() == [True, False] and t.x[1] == "NaN"
    assert written("\ufeffid,x\n1,2\n").id.tolist() == ["1"] # a byte order mark
    assert written("id\tx\n1\t2\n", sep="\t").x[0] == written("ID,X\n1,2\n", rename=str.lower).x[0] == "2"
    for text, message in (("id\n1\n", "t.csv: column 'x' is missing"), ("", "t.csv: table cannot be read"),
                          ("id,x\n", "t.csv: table holds no record"), ("id;x\n1;2\n", "column 'id' is missing"),
                          ("id,x, x\n1,2,3\n", "column 'x' occurs twice"), ("ID,x\n1,2\n", "column 'id' is"),
                          ("id,x,x\n1,2,3\n", "column 'x' occurs twice"),
                          ("id,x\n1,2,3\n", "t.csv: table has records with more cells than its header"),
                          ("id,x\n1,2,3\n1,2,3,4\n", "t.csv: table cannot be read"),
                          (b"id,x\n\xff,1\n", "t.csv: table cannot be read")):
        with pytest.raises(DataError, match=message):
            written(text)
    with pytest.raises(DataError, match="absent.csv: table does not exist"):
        table_of(Path("absent.csv"), ["id"])
    t = written("id,x\n1,1\n2,0\n3,-1.0\n4,\n")
    labels = labels_of("t.csv", t.assign(**{o: t.x for o in OBSERVATIONS}))
    assert labels.Edema.tolist()[:3] == [1, 0, -1] and labels.Edema.isna().tolist() == [False] * 3 + [True]
    for word in ("2", "0.5", "-2", "NaN", "nan", "None", "positive", "1,0", "inf", "--1", "x", " "):
        wrong = pd.concat([t, pd.DataFrame({"id": ["5"], "x": [word], "record": [5]})])
        with pytest.raises(DataError, match="t.csv record 5: Enlarged Cardiomediastinum must be 1, 0, -1 or "):
            labels_of("t.csv", wrong.assign(**{o: wrong.x for o in OBSERVATIONS}))
    part = t[t.record > 2] # the number is the file's, whatever was left out
    with pytest.raises(DataError, match="t.csv record 4: x is missing"):
        filled("t.csv", part, "id", "x")
    with pytest.raises(DataError, match="t.csv record 2: id is missing"): # a blank is no word
        filled("t.csv", written("id,x\na,1\n  ,1\n"), "id")
    assert numbers("t.csv", t, "x", -1, 1).tolist()[:3] == [1, 0, -1]
    for low, high, empty, message in ((0, 1, True, "record 3: x must be a number from 0 to 1, got '-1.0'"),
                                      (1, np.inf, True, "record 2: x must be a number of at least 1, got '0'"),
                                      (-1, 0, True, "record 1: x must be"),
                                      (-1, 1, False, "record 4: x is missing")):
        with pytest.raises(DataError, match=message):
            numbers("t.csv", t, "x", low, high, empty)
    for word, shown in (("two", "'two'"), ("inf", "'inf'"), ("NaN", "'NaN'"), ("1,5", "a text of 3"),
                        ("0x1", "'0x1'"), ("the heart is normal", "a text of 19 characters")):
        with pytest.raises(DataError, match=f"t.csv record 2: x must be a finite number, got {shown}"):
            numbers("t.csv", written(f'id,x\n1,-3e2\n2,"{word}"\n'), "x")
    with pytest.raises(DataError, match="t.csv record 4: x must be one of 1, 0, -1.0, got nan"):
        among("t.csv", t, "x", ["1", "0", "-1.0"])
    among("t.csv", t, "x", ["1", "0", "-1.0"], empty=True)
    unique("t.csv", t, "id")
    again = t.assign(id=["1", "1", "2", "2"])
    same_within("t.csv", again.assign(x=[None, None, "1", "1"]), "id", "x")
    for values, record in ((["1", "0", None, None], 2), (["1", "1", None, "1"], 4), (["1", "1", "0", None], 4)):
        with pytest.raises(DataError, match=f"t.csv record {record}: x differs"):
            same_within("t.csv", again.assign(x=values), "id", "x")


def test_json_fields_are_asked_for_by_kind():
    good = {"a": "text", "b": [1], "c": {}, "d": 7, "e": 1.5}
    for name, kind in zip("abcdede", (str, list, dict, int, Real, Real, Real)):
        assert json_field("x.json", good, name, kind) == good[name]
    wrong = [(None, str, "a text, got None"), (7, str, "a text, got 7"), (["a"], str, "a text, got a list of 1"),
             ("secret words", list, "a list, got a text of 12 characters"), ({}, list, "a list, got a dict of 0"),
             ([], dict, "an object, got a list of 0"), (1.5, int, "a whole number, got 1.5"),
             (True, int, "a whole number, got True"), ("7", int, "a whole number, got a text of 1"),
             (float("nan"), Real, "a finite number, got nan"), (float("inf"), Real, "a finite number, got inf"),
             (False, Real, "a finite number, got False"), ("1", Real, "a finite number, got a text of 1")]
    for value, kind, message in wrong:
        with pytest.raises(DataError) as e:
            json_field("x.json record 3", {"f": value}, "f", kind)
        assert str(e.value).startswith(f"x.json record 3: f must be {message}"), (value, str(e.value))
    for record in ({}, None, [], "f", 7):
        with pytest.raises(DataError, match="f must be a text, got None"):
            json_field("x.json", record, "f", str)
    assert read_json("x.json", b"[1]") == [1]
    for data in (b"", b"{", b"secret words", b"\xff\xfe", b'{"a": "secret'):
        with pytest.raises(DataError, match="x.json: JSON cannot be read") as e:
            read_json("x.json", data)
        assert e.value.__context__ is None and "secret" not in str(e.value)


def test_a_films_header_is_read():
    with tempfile.TemporaryDirectory() as d:
        path, grey = Path(d) / "a.png", PILImage.fromarray(np.zeros((3, 5), np.uint8))
        grey.save(path)
        whole = path.read_bytes()
        for data in (b"", b"P", whole[:5], whole[:20], b"\x89PNG" + bytes(200), bytes(128) + b"DICM",
                     bytes(128) + b"DICM" + bytes(90), b"GIF89a" + bytes(9), b"BM" + bytes(30),
                     b"II*\0" + bytes(9)):
            path.write_bytes(data)
            with pytest.raises(DataError, match=r"t.csv record 1: Path names an image that is damaged") as e:
                film("t.csv record 1", "Path", "a", path, "PA", "error", Counter())
            assert film("t.csv record 1", "Path", "a", path, "PA", "skip", counts := Counter()) is None
            assert counts == {"damaged images": 1}, data
        path.write_bytes(whole[:-20]) # the header is whole
        assert film("r", "Path", "a", path, "PA", "error", Counter()).width == 5
        for absent in (None, Path(d) / "nowhere.png", Path(d)):
            with pytest.raises(DataError, match="that is missing"):
                film("r", "Path", "a", absent, "PA", "error", Counter())
        told = [film("r", "Path", "a", path, "AP", "skip", counts, x) for x in ((7, 9), "missing", "damaged")]
        assert (told[0].width, told[0].height, *told[1:]) == (7, 9, None, None) # the file was not asked again
        assert spread(size_or_fault, [path, None], 2) == [(5, 3), "missing"]


def test_a_dicom_headers_size_is_read():
    pytest.importorskip("pydicom")
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "folder" / "1.2.3" # an id is no ending
        for kind in (np.uint8, np.uint16):
            write_dicom(path, pixels := np.arange(63, dtype=kind).reshape(7, 9))
            image = film("r", "Path", "a", path, "PA", "error", Counter())
            assert (image.width, image.height) == (9, 7) and image.load().shape == (7, 9)
            assert (image.load() == pixels).all() or kind == np.uint16
        bright = Path(d) / "bright.dcm"
        write_dicom(bright, pixels.astype(np.uint8), "MONOCHROME1")
        assert (Image("i", 9, 7, path=bright).load() == 255 - pixels).all()
        write_dicom(bright, np.zeros((0, 9), np.uint8)) # a header without a height
        with pytest.raises(DataError, match="bright.dcm: file has no size in its header"):
            film_size(bright)
        with pytest.MonkeyPatch.context() as m, pytest.raises(CourseError, match="needs pydicom"):
            m.setitem(__import__("sys").modules, "pydicom", None)
            film("r", "Path", "a", path, "PA", "skip", Counter())


def test_look_at_counts_what_is_missing_and_damaged():
    with tempfile.TemporaryDirectory() as d:
        listed = [(f"t.csv record {k}", Path(d) / f"{k}.png") for k in range(1, 5)]
        for _, path in listed[1:]:
            PILImage.fromarray(np.zeros((9, 9), np.uint8)).save(path)
        listed[1][1].write_bytes(listed[1][1].read_bytes()[:40])
        listed[2][1].write_text("no image")
        counted = lambda *n: dict(zip(("images listed", "images missing", "images damaged"), n))
        wrong = ["t.csv record 1: missing", "t.csv record 2: damaged", "t.csv record 3: damaged"]
        assert look_at(listed) == (counted(4, 1, 2), wrong) and look_at([]) == (counted(0, 0, 0), [])
        assert look_at(iter(listed), read=False, jobs=2) == (counted(4, 1, 0), wrong[:1])
        assert look_at([("r", None)]) == (counted(1, 1, 0), ["r: missing"])
    assert differing({"a": 1, "b": 2000, "c": 3}, {"a": 1, "b": 4, "d": 9}) == ["b: 2,000 here, 4 published"]


def test_a_patient_has_one_side_for_ever():
    sides = {s: [patient_split(s, f"{k}") for k in range(4000)] for s in ("brax", "padchest")}
    assert sides["brax"][:6] == [patient_split("brax", f"{k}") for k in range(6)] != sides["padchest"][:6]
    assert {patient_split("nih", f"{k}", (0, .5)) for k in range(99)} == {"valid", "test"}
    both = np.mean(np.array(sides["brax"]) == np.array(sides["padchest"]))
    assert abs(both - (.7**2 + .1**2 + .2**2)) < .05 # independent: one standard deviation is .008
    for source, found in sides.items():
        share = pd.Series(found).value_counts(normalize=True)
        assert abs(share["train"] - .7) < .03 and abs(share["valid"] - .1) < .02 # one is below .008


def test_the_ways_into_a_source_are_checked():
    one = Study("s1", "p1", "nih", "train")
    make = lambda counts: iter([one])
    with tempfile.TemporaryDirectory() as d:
        raw, out = Path(d) / "raw", Path(d) / "out"
        raw.mkdir()
        assert list(from_folder("nih", "train", raw, {}, make, stream=True)) == [one]
        load_raw = lambda split: from_folder("nih", split, raw, {"a": 1}, make)
        note = prepare_folder("nih", raw, out, {"a": 1}, load_raw)
        again = from_folder("nih", "train", out, {"a": 1}, None)
        assert note["splits"]["train"]["counts"] == {"kept": 1} == again.counts
        with pytest.raises(CourseError, match="prepared with a = 1"):
            from_folder("nih", "train", out, {"a": 2}, make)
        for wrong in ((raw, raw), (out, raw), (out, out)):
            with pytest.raises(CourseError, match="must be another folder than the raw one"):
                prepare_folder("nih", *wrong, {}, load_raw)
        for source in ("ms-cxr", "vindr-cxr", "chexpert"):
            with pytest.raises(CourseError, match=f"lies in the repository.* {source} must stay outside"):
                prepare_folder(source, raw, repo_root() / "figures" / "x", {}, load_raw)
    rows = [("validate", "/", ValueError, "'validate'"), (None, "/", ValueError, "None"),
            ("train", None, CourseError, "RRG_ROOT_NIH.*nih in settings.ini.*fetch"),
            ("train", "/nonexistent", CourseError, "/nonexistent is no folder.*nih.py")]
    for split, root, error, message in rows:
        with pytest.raises(error, match=message):
            from_folder("nih", split, root, {}, make)


def test_a_split_without_a_table_is_not_an_empty_split():
    one = Study("s1", "p1", "jf-healthcare", "train", [Image("i1", 2, 2)])

    def load_one(split, root, absent=("test", )):
        def make(counts):
            if split in absent: raise NoSplit(f"there is no {split}.csv")
            counts["images"] += 1
            return iter([one] if split == "train" else [])
        return from_folder("jf-healthcare", split, root, {"views": ()}, make)

    with tempfile.TemporaryDirectory() as d:
        raw, out = Path(d) / "raw", Path(d) / "out"
        raw.mkdir()
        assert load_one("train", raw).counts == {"images": 1, "kept": 1} and len(load_one("valid", raw)) == 0
        note = prepare_folder("jf-healthcare", raw, out, {"views": ()}, lambda split: load_one(split, raw))
        assert {s: n["studies"] for s, n in note["splits"].items()} == {"train": 1, "valid": 0, "test": 0}
        assert list(load_one("train", out)) == [one] and load_one("valid", out).counts["kept"] == 0
        for root in (raw, out):
            with pytest.raises(NoSplit, match="no test.csv|without a test split"):
                load_one("test", root)
        with pytest.raises(NoSplit, match="no test.csv"): # a copy without any split is no copy
            prepare_folder("jf-healthcare", raw, Path(d) / "none", {}, lambda split: load_one(split, raw, SPLITS))
        assert not (Path(d) / "none" / PREPARED).exists()

        def all_missing(counts):
            counts["missing images"] += 3
            return iter(())

        def all_damaged(counts): # such as pointers of Git LFS
            yield from all_missing(counts)
            counts["damaged images"] += 1000

        for make, message in ((all_missing, "are missing, all 3"),
                              (all_damaged, "are missing or damaged, all 1,003")):
            for stream in (False, True):
                with pytest.raises(DataError, match=f"images {message} of this split: is this the root"):
                    list(from_folder("jf-healthcare", "train", raw, {}, make, stream))


def test_the_scripts_prepare_and_verify_and_print_numbers():
    import contextlib
    from importlib import import_module
    from importlib.util import module_from_spec, spec_from_file_location

    def script(name):
        spec = spec_from_file_location(name, repo_root() / "data_scripts" / f"{name}.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    outside = tempfile.gettempdir() # an entrusted process gets another one, inside of the repository
    for name, damaged in (("chexpert", "error"), ("padchest", "skip"), ("brax", "error"), ("candid_ptx", "error"),
                          ("jf_healthcare", "error")):
        module, out = import_module(f"rrg_core.data.{name}"), io.StringIO()
        with tempfile.TemporaryDirectory(dir=outside) as d, contextlib.redirect_stdout(out):
            root, there = module.fixture(Path(d) / "raw"), Path(d) / "out"
            main = script(name).main
            assert main(["fetch"]) == 0 and f"data_scripts/{name}.py prepare ROOT OUT" in out.getvalue()
            out.truncate(out.seek(0))
            assert main(["prepare", str(root), str(there)]) == 0 and "kept: " in out.getvalue()
            raw = module.load("train", root, damaged=damaged)
            assert list(module.load("train", there, damaged=damaged)) == list(raw)
            assert main(["verify", str(root), "--images", "--jobs", "1"]) == 1 and "published" in out.getvalue()
            for path in root.rglob("*.csv"): path.unlink()
            for command in (["prepare", str(root), str(there)], ["verify", str(root), "--jobs", "1"]):
                with pytest.raises(CourseError, match=f"data_scripts/{name}.py fetch"):
                    main(command)
        assert not re.search("nvented|invent|patient99|P90|id_9|9\\.1\\.1|77001", out.getvalue()), out.getvalue()


def test_the_door_finds_the_adapters_and_marks_what_is_entrusted():
    from importlib import import_module
    from rrg_core import data
    from rrg_core.engine.files import ENTRUSTED

    for source in ("jf-healthcare", "nih", "vindr-cxr", "chexpert", "padchest", "brax", "candid-ptx"):
        known = data.SOURCES[source]
        assert (repo_root() / "nbs" / f"{known.chapter}.ipynb").is_file()
        with tempfile.TemporaryDirectory() as d:
            module = import_module(known.adapter)
            root = module.fixture(d)
            assert list(data.load(source, "train", root)) == list(module.load("train", root))
        assert (source in ENTRUSTED) == known.credentialed == (source not in PUBLIC)


def test_errors_of_raw_folders_quote_nothing():
    from rrg_core.tools.house import quoting

    t = pd.DataFrame({"id": ["a", "a"], "x": ["1", "2"], "record": [1, 2]})
    cell = lambda value: t.assign(x=[str(value)] * 2)
    calls = {
        "split": lambda x: from_folder("brax", x, ".", {}, None), "root": lambda x: opened("jf-healthcare", x),
        "a file of it": lambda x: file_of(str(x)[:99], "t.csv", "brax"),
        "a film's size": lambda x: film_size(Path(str(x)[:99])),
        "JSON": lambda x: read_json("t.json", str(x).encode()),
        "a field": lambda x: json_field("t.json record 1", {"f": [x]}, "f", str),
        "a table": lambda x: table_of(Path(str(x)[:99]), ["a"]),
        "a word": lambda x: among("t.csv", cell(x), "x", ["M"]),
        "a number": lambda x: numbers("t.csv", cell(x), "x", 0, 1),
        "a label": lambda x: labels_of("t.csv", t.assign(**{o: str(x) for o in OBSERVATIONS})),
        "an id": lambda x: unique("t.csv", cell(x), "x"),
        "a repeated id": lambda x: same_within("t.csv", t.assign(id=str(x)), "id", "x"),
        "a film": lambda x: film("t.csv record 1", "Path", "i", Path(str(x)[:99]), "PA", "error", Counter()),
        "a view": lambda x: Image("i", 1, 1, x),
        "a prepared folder": lambda x: prepare_folder("brax", x, x, {}, None),
    }
    assert quoting(calls) == []
