"""Exported from nbs/01q_raw.ipynb: edit it there, then run `nbdev-export`."""
import os, re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.engine.files import entrust
from rrg_core.engine.settings import PUBLIC, CourseError, repo_root
from rrg_core.data.bundled import csv_table
from rrg_core.data.openi import split_of
from rrg_core.data.storage import PREPARED, Studies, prepared, read_prepared, several, spread, write_prepared
from rrg_core.data.study import OBSERVATIONS, SPLITS, DataError, Image, Study, image_size, named, named_file, read_image
import io, pytest, tempfile
from PIL import Image as PILImage
from rrg_core.data.raw import *


def test_files_are_found_by_their_whole_names():
    with tempfile.TemporaryDirectory() as d:
        for name in ("a_1.csv.part", "._a_1.csv", "a_1.csv~", "a_1 (1).csv", "b.csv"):
            (Path(d) / name).write_bytes(b"")
        with pytest.raises(CourseError,
                           match="has no a_1.csv: `python data_scripts/jf_healthcare.py fetch` says"):
            file_of(d, r"a_\d\.csv(\.gz)?", "a_1.csv", "jf-healthcare")
        (Path(d) / "a_2.csv").write_bytes(b"")
        assert file_of(d, r"a_\d\.csv(\.gz)?", "a_1.csv", "jf-healthcare").name == "a_2.csv"
        (Path(d) / "a_2.csv.gz").write_bytes(b"")
        with pytest.raises(DataError, match="a_2.csv.gz: table lies beside a_2.csv: leave one of them"):
            file_of(d, r"a_\d\.csv(\.gz)?", "a_1.csv", "jf-healthcare")
    with tempfile.TemporaryDirectory() as d:
        for name in ("a/1.png", "b/c/2.png", "b/2.png.part", ".cache/3.png", "a/._1.png", "a/4.jpg", "5.png~"):
            (Path(d) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(d) / name).write_bytes(b"")
        found = files_under(d, r".*\.png")
        assert found == {"1.png": Path(d) / "a/1.png", "2.png": Path(d) / "b/c/2.png"}
        (Path(d) / "1.png").write_bytes(b"")
        with pytest.raises(DataError, match="file '1.png': name occurs in two folders"):
            files_under(d, r".*\.png")


def test_a_table_is_checked_cell_by_cell():
    def written(text, needed=("id", "x")):
        with tempfile.TemporaryDirectory() as d:
            (Path(d) / "t.csv").write_bytes(text.encode() if isinstance(text, str) else text)
            return table_of(Path(d) / "t.csv", needed)

    t = written("id, x\n" + "9" * 39 + ",\n007,NaN\n") # a blank before the name; an empty cell; a word
    assert t.id.tolist() == ["9" * 39, "007"] and t.record.tolist() == [1, 2]
    assert t.x.isna().tolist() == [True, False] and t.x[1] == "NaN"
    assert written("\ufeffid,x\n1,2\n").id.tolist() == ["1"] # a byte order mark
    for text, message in (("id\n1\n", "t.csv: column 'x' is missing"), ("", "t.csv: table cannot be read"),
                          ("id,x\n", "t.csv: table holds no record"), ("id;x\n1;2\n", "column 'id' is missing"),
                          ("id,x, x\n1,2,3\n", "column 'x' occurs twice"), ("ID,x\n1,2\n", "column 'id' is"),
                          ("id,x\n1,2,3\n1,2,3,4\n", "t.csv: table cannot be read"),
                          (b"id,x\n\xff,1\n", "t.csv: table cannot be read")):
        with pytest.raises(DataError, match=message):
            written(text)
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
    assert numbers("t.csv", t, "x", -1, 1).tolist()[:3] == [1, 0, -1]
    for low, high, empty, message in ((0, 1, True, "record 3: x must be a number from 0 to 1, got '-1.0'"),
                                      (-1, 0, True, "record 1: x must be"),
                                      (-1, 1, False, "record 4: x must be")):
        with pytest.raises(DataError, match=message):
            numbers("t.csv", t, "x", low, high, empty)
    with pytest.raises(DataError, match="t.csv record 4: x must be one of 1, 0, -1.0, got nan"):
        among("t.csv", t, "x", ["1", "0", "-1.0"])
    among("t.csv", t, "x", ["1", "0", "-1.0"], empty=True)
    unique("t.csv", t, "id")
    again = t.assign(id=["1", "1", "2", "2"])
    same_within("t.csv", again.assign(x=[None, None, "1", "1"]), "id", "x")
    for values, record in ((["1", "0", None, None], 2), (["1", "1", None, "1"], 4), (["1", "1", "0", None], 4)):
        with pytest.raises(DataError, match=f"t.csv record {record}: x differs"):
            same_within("t.csv", again.assign(x=values), "id", "x")


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


def test_a_dicom_headers_size_is_read():
    pytest.importorskip("pydicom")
    with tempfile.TemporaryDirectory() as d:
        path = Path(d) / "folder" / "1.2.3" # an id is no ending
        for kind in (np.uint8, np.uint16):
            write_dicom(path, pixels := np.arange(63, dtype=kind).reshape(7, 9))
            image = film("r", "Path", "a", path, "PA", "error", Counter())
            assert (image.width, image.height) == (9, 7) and image.load().shape == (7, 9)
            assert (image.load() == pixels).all() or kind == np.uint16
        with pytest.MonkeyPatch.context() as m, pytest.raises(CourseError, match="needs pydicom"):
            m.setitem(__import__("sys").modules, "pydicom", None)
            film("r", "Path", "a", path, "PA", "skip", Counter())


def test_a_patient_has_one_side_for_ever():
    sides = {s: [patient_split(s, f"{k}") for k in range(4000)] for s in ("brax", "padchest")}
    assert sides["brax"][:6] == [patient_split("brax", f"{k}") for k in range(6)] != sides["padchest"][:6]
    both = np.mean(np.array(sides["brax"]) == np.array(sides["padchest"]))
    assert abs(both - (.7**2 + .1**2 + .2**2)) < .05 # independent: one standard deviation is .008
    for source, found in sides.items():
        share = pd.Series(found).value_counts(normalize=True)
        assert abs(share["train"] - .7) < .03 and abs(share["valid"] - .1) < .02 # one is below .008


def test_a_split_without_a_table_is_not_an_empty_split():
    one = Study("s1", "p1", "jf-healthcare", "train", [Image("i1", 2, 2)])

    def load_one(split, root, stream=False):
        def make(counts):
            if split == "test": raise NoSplit("there is no test.csv")
            counts["images"] += 1
            return iter([one] if split == "train" else [])
        return loaded("jf-healthcare", split, opened("jf-healthcare", split, root), {"views": ()}, make, stream)

    with tempfile.TemporaryDirectory() as d:
        raw, out = Path(d) / "raw", Path(d) / "out"
        raw.mkdir()
        assert list(load_one("train", raw)) == [one] == list(load_one("train", raw, stream=True))
        assert load_one("train", raw).counts == {"images": 1, "kept": 1} and len(load_one("valid", raw)) == 0
        note = prepare_raw("jf-healthcare", raw, out, {"views": ()}, lambda split: load_one(split, raw))
        assert {s: n["studies"] for s, n in note["splits"].items()} == {"train": 1, "valid": 0, "test": 0}
        assert list(load_one("train", out)) == [one] and load_one("valid", out).counts["kept"] == 0
        for root in (raw, out):
            with pytest.raises(NoSplit, match="no test.csv|without a test split"):
                load_one("test", root)
        for wrong in (raw, out):
            with pytest.raises(CourseError, match="must be another folder"):
                prepare_raw("jf-healthcare", wrong, wrong, {}, None)
        with pytest.raises(CourseError, match="must stay outside"):
            prepare_raw("brax", raw, repo_root() / "figures", {}, None)

        def all_missing(counts):
            counts["missing images"] += 3
            return iter(())

        with pytest.raises(DataError, match="images are missing, all 3 of this split"):
            loaded("jf-healthcare", "train", raw, {}, all_missing)


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
            assert main(["verify", str(root), "--jobs", "1"]) == 1 and "published" in out.getvalue()
            for path in root.rglob("*.csv"): path.unlink()
            for command in (["prepare", str(root), str(there)], ["verify", str(root), "--jobs", "1"]):
                with pytest.raises(CourseError, match=f"data_scripts/{name}.py fetch"):
                    main(command)
        assert not re.search("nvented|invent|patient99|P90|id_9|9\\.1\\.1|77001", out.getvalue()), out.getvalue()


def test_the_door_finds_the_adapters_and_marks_what_is_entrusted():
    from importlib import import_module
    from rrg_core import data
    from rrg_core.engine.files import ENTRUSTED

    for source in ("jf-healthcare", "chexpert", "padchest", "brax", "candid-ptx"):
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
        "split": lambda x: opened("brax", x, "."), "damaged": lambda x: opened("brax", "train", ".", x),
        "root": lambda x: opened("jf-healthcare", "train", x),
        "a table": lambda x: table_of(Path(str(x)[:99]), ["a"]),
        "a word": lambda x: among("t.csv", cell(x), "x", ["M"]),
        "a number": lambda x: numbers("t.csv", cell(x), "x", 0, 1),
        "a label": lambda x: labels_of("t.csv", t.assign(**{o: str(x) for o in OBSERVATIONS})),
        "an id": lambda x: unique("t.csv", cell(x), "x"),
        "a repeated id": lambda x: same_within("t.csv", t.assign(id=str(x)), "id", "x"),
        "a film": lambda x: film("t.csv record 1", "Path", "i", Path(str(x)[:99]), "PA", "error", Counter()),
        "a view": lambda x: Image("i", 1, 1, x),
        "a prepared folder": lambda x: prepare_raw("brax", x, x, {}, None),
    }
    assert quoting(calls) == []
