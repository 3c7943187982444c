"""Exported from nbs/98e_guard.ipynb: edit it there, then run `nbdev-export`."""
import gzip, io, json, re, shutil, subprocess, zipfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from rrg_core.data.chexpert import study_id_of
from rrg_core.data.mimic_cxr import credentialed_ids
from rrg_core.engine.files import NOT_TO_BE_HANDED_ON
from rrg_core.engine.settings import PUBLIC, CourseError, Profile, repo_root
from rrg_core.tools.guard import *


def test_what_must_not_leave_is_found_in_files_of_every_kind():
    import pandas as pd
    from rrg_core.tools.guard import _INVENTED

    subject, study, image = "1" + "2345678", "5" + "1234567", "-".join(["0badc0de"]*5)
    def notebook(*outputs, source="x", **metadata):
        cells = [{"id": study, "cell_type": "code", "source": source, "outputs": list(outputs)}]
        return json.dumps({"cells": cells, "metadata": metadata}).encode()
    def table(**columns):
        pd.DataFrame(columns).to_parquet(out := io.BytesIO())
        return out.getvalue()
    def packed(**files):
        with zipfile.ZipFile(out := io.BytesIO(), "w") as z:
            for name, text in files.items(): z.writestr(name, text)
        return out.getvalue()
    page = f"Data of mimic-cxr: {NOT_TO_BE_HANDED_ON}."
    held = [("a.md", subject.encode()), ("a.csv", f"id,x\n{study},1".encode()),
            ("a.json", f'["{study}"]'.encode()), ("a.svg", f"<title>{subject}</title>".encode()),
            ("a.log", f"study {study}: bad".encode()), ("a.csv.gz", gzip.compress(f"id\n{study}\n".encode())),
            ("a.parquet", table(study_id=[study])), ("a.parquet", table(number=[int(study)])),
            ("a.parquet", table(**{study: [1]})), ("a.parquet", table(deep=[[{"id": study}]])),
            ("a.npz", packed(**{"ids.txt": study})), ("a.bin", f"\0p{subject}\0".encode()),
            ("a.py", f"x = 's{study}'".encode()), (f"p{subject}/a.txt", b""), ("a.txt", image.encode()),
            ("a.png", b"\x89PNG tEXt" + b" s" + study.encode() + b" "),
            ("a.ipynb", notebook({"text": [f"study {study}"]})),
            ("a.ipynb", notebook({"data": {"text/html": f"<td>{study}</td>"}})),
            ("a.ipynb", notebook({"traceback": [f"KeyError: '{study}'"], "evalue": ""})),
            ("a.ipynb", notebook(source=f"'{study}'")),
            ("a.ipynb", notebook({"data": {"application/json": {"id": study}}})),
            ("a.ipynb", notebook(seen=study)), ("a.ipynb", notebook({"data": {"text/markdown": page}})),
            ("half.parquet", b"PAR1 s" + study.encode() + b" ")]
    for name, data in held: assert findings_in(name, data), (name, data[:80])
    clean = [("a.md", b"0.12345678 12345678.5 1.5e10 #12345678"), ("a.csv", b"1234567\n123456789\n22345678\n"),
             ("a.ipynb", notebook(source="x = 1")), ("a.svg", b'<path d="M 51234567.5,3 '
                                                              b'L12345678.1"/>'), ("a.py", b"n = 1" b"2345678"),
             ("a.parquet", table(study_id=["phantom-12"])), ("a.txt", b"p19999901 s59999905 59999901")]
    for name, data in clean: assert not findings_in(name, data), (name, findings_in(name, data))
    assert findings_in("a.parquet", table(text=["a Zebrafinch lung"]), ["Zebrafinch"]) == ["1 planted word"]
    assert all(subject not in w and study not in w for n, d in held for w in findings_in(n, d))


def test_the_ids_of_every_entrusted_set_are_found():
    from importlib import import_module
    import tempfile
    from rrg_core.data import SOURCES, SPLITS
    from rrg_core.data.mimic_cxr import fixture as mimic_fixture
    from rrg_core.tools.guard import SHAPES

    hexes, digits = "0badc0de", "2053" # of which the ids below are made, so that this page is not found itself
    real = { # source → ids in the shape of its own, none of them anybody's
        "vindr-cxr": [hexes*4], "brax": [f"images/id_{hexes}/Study_1.2.3/Series_1.2.3/image-1.png"],
        "chexpert": ["patient" + "12345", f"a/patient{'54321'}/study1/view1_frontal.jpg",
                     "chexpert-" + hexes + "0bad"],
        "padchest": [digits*9, digits*9 + "205", digits*9 + "_k6ga29.png", digits*5 + "_00-102-064"],
        "candid-ptx": [f"1.2.276.0.7230010.3.1.4.{digits*3}", f"1.2.276.0.{digits*3}.1.4",
                       f"2.25.1.1.1.{digits*4}"]}
    mimic = {"mimic-cxr", "ms-cxr", "chest-imagenome"}
    assert real.keys() == SHAPES.keys() and not mimic & SHAPES.keys()
    assert {s for s, known in SOURCES.items() if known.credentialed} == mimic | SHAPES.keys()
    for source, ids in real.items():
        for i in ids:
            for name, text in (("a.md", f"film {i}."), ("a.csv", f"x,{i},1\n"), ("a.py", f"x = '{i}'"),
                               ("a.json", f'{{"id": "{i}"}}'), ("a.svg", f"<title>{i}</title>")):
                assert findings_in(name, text.encode()) == ["1 id"], (source, name, i)
    no_ids = ["1.2.840.10008.1.2.1", "1.2.840.10008.5.1.4.1.1.1.1", hexes*8, "0." + digits*10, hexes*4 + "x",
              "patient#####", "patient-" + "12345", "chexpert-impression", "1" + "0"*15 + "19884624838656",
              "M 1.2 3.4 0." + digits*3, "study_" + hexes, f"{0:032x}", "v1.2.3.4.5.6"]
    assert [t for t in no_ids if findings_in("a.md", t.encode())] == []

    with tempfile.TemporaryDirectory() as d: # the miniatures bear invented ids, and so do their studies
        for source in sorted(mimic | SHAPES.keys()):
            adapter = import_module(SOURCES[source].adapter)
            root = adapter.fixture(Path(d)/source)
            files = [(str(p.relative_to(d)), p.read_bytes()) for p in root.rglob("*") if p.is_file()]
            assert scan(files) == {}, source
            own = {"mimic": mimic_fixture(Path(d)/"films")} if source in ("ms-cxr", "chest-imagenome") else {}
            studies = [s for split in SPLITS for s in adapter.load(split, root, **own)]
            told = [f"{s.study_id} {s.meta} {[i.image_id for i in s.images]}" for s in studies]
            assert told and scan([("a.md", "\n".join(told).encode())]) == {}, source


def test_nothing_committed_is_entrusted():
    import pytest
    from rrg_core.engine.settings import repo_root

    if not (repo_root()/".git").exists(): pytest.skip("a copy without git")
    files = list(tracked_files())
    assert len(files) > 200 and scan(files) == {}


def test_entrusted_chapters_are_opened_as_copies():
    import tempfile
    from dataclasses import replace

    from rrg_core.engine.settings import profile

    with tempfile.TemporaryDirectory() as d:
        for name in ("01_data.ipynb", "solutions/01.ipynb", ".ipynb_checkpoints/x.ipynb"):
            (Path(d)/"nbs"/name).parent.mkdir(parents=True, exist_ok=True)
            (Path(d)/"nbs"/name).write_text("{}")
        assert lab_folder(profile("smoke"), d) == Path(d)/"nbs"
        mine = lab_folder(profile("mimic"), d)
        assert mine == Path(d)/"build"/"mimic"/"lab"
        assert {f.name for f in mine.rglob("*.ipynb")} == {"01_data.ipynb", "01.ipynb"}
        (mine/"01_data.ipynb").write_text("mine")
        assert (lab_folder(profile("mimic"), d)/"01_data.ipynb").read_text() == "mine"
