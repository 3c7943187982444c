"""The course itself: a clean export, every chapter at smoke, committed figures that are what the chapters make."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib

import nbformat
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rrg_core.engine.run import notebook_of, page_parts, parameters_of, read_manifest, stale_reasons, stderr_lines
from rrg_core.engine.settings import chapters, profile, repo_root
from rrg_core.engine.store import content_of, read_records
from rrg_core.tools.house import notebooks, orphans, strip_all, untidy

RRG = [sys.executable, "-c", "from rrg_core.tools.cli import main; main()"]
ROOT = repo_root()

def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("RRG_")}

def any_seed(file):
    "Predictions of the same variant have one name: smoke trains fewer seeds."
    return re.sub(r"-s\d+\.parquet$", ".parquet", file)

def test_nothing_would_change():
    "Cleaning and exporting again, and the README, give what is committed; no orphan, no widget state."
    assert untidy() == []

def test_what_is_planted_is_found(tmp_path):
    "The check above can fail: a stale module, an orphan, widget state; in a course of the engine's notebooks."
    for name in ("rrg_core", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("nbs", "figures"):
        (tmp_path / name).mkdir()
    for path in [*ROOT.glob("nbs/90*.ipynb"), ROOT / "nbs" / "index.ipynb"]:
        shutil.copy(path, tmp_path / "nbs")
    for name in ("pyproject.toml", "settings.ini", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "nbs" / "90f_run.ipynb").unlink()
    lost = [p.as_posix() for p in orphans(tmp_path)]
    assert "rrg_core/engine/run.py" in lost and "rrg_core/engine/desk.py" not in lost
    with open(tmp_path / "rrg_core" / "engine" / "desk.py", "a") as f:
        f.write("\nhand_edited = True\n")
    path = tmp_path / "nbs" / "90b_desk.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.metadata.widgets = {"state": {}}
    nbformat.write(nb, path)
    found = untidy(tmp_path)
    for file in ("rrg_core/engine/desk.py", "rrg_core/engine/run.py", "tests/engine/test_run.py", "nbs/90b_desk.ipynb"):
        assert any(line.startswith(file + ":") for line in found), (file, found)
    assert strip_all(tmp_path) == [path] and strip_all(tmp_path) == []

def test_notebooks_hold_no_trace_of_a_machine():
    for path in notebooks():
        text = path.read_text()
        nb = json.loads(text)
        outputs = json.dumps([c.get("outputs") for c in nb["cells"]])
        assert not re.search(r"(/work/|/home/|/root/|/tmp/|/Users/)[a-z]",
                             outputs) and "/work/" not in text, f"{path.name} holds an absolute path"
        assert set(nb["metadata"]) == {"kernelspec"}, path.name
        assert all(set(c["metadata"]) <= {"tags"} for c in nb["cells"]), path.name
        assert len(text) < 1_000_000, f"{path.name} is larger than a page that one would read"
        assert all(c.get("execution_count") is None for c in nb["cells"]), path.name

def locked():
    "The requirements of requirements.lock with their hashes."
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        requirement, *hashes = line.split("--hash=")
        yield Requirement(requirement), [h.strip() for h in hashes]

def test_each_locked_file_has_a_hash():
    for requirement, hashes in locked():
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in hashes), requirement.name
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)) and not requirement.url, requirement.name

@pytest.mark.parametrize("python", ["3.11.0", "3.11.7", "3.12.0", "3.12.9"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_the_lock_holds_what_pyproject_asks_for(python, system):
    "Each requirement, of every extra and of the build, once and within its range."
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    here = {"python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": system}
    found = {}
    for requirement, _ in locked():
        if requirement.marker is None or requirement.marker.evaluate(here):
            assert canonicalize_name(requirement.name) not in found, requirement.name
            found[canonicalize_name(requirement.name)] = str(requirement.specifier)[2:]
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"],
             *(r for extra in project["project"]["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, asked):
        version = found.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), f"{requirement}: run `make lock`"

def test_settings_and_notebooks_agree():
    for chapter in chapters():
        assert list(parameters_of(notebook_of(chapter))) == ["profile", "seed"]

@pytest.mark.parametrize("chapter", list(chapters()))
def test_committed_figures_are_what_the_chapter_makes(chapter):
    "Code, settings and data in the manifest are today's, and so are the bytes of every output."
    p, folder = profile("phantom"), ROOT / "figures" / chapter
    parts = page_parts(chapter, p, {"profile": p.name, "seed": p.seed}, ROOT / "figures")
    assert stale_reasons(folder, parts) == []

@pytest.mark.parametrize("chapter", list(chapters()))
def test_records_say_what_lies_there(chapter):
    "Each committed artifact has a record with the hash of its content, time, hardware and precision, outside of it."
    folder = ROOT / "figures" / chapter
    records = read_records(folder)["artifacts"]
    assert "records.json" not in read_manifest(folder)["outputs"]
    for name, record in records.items():
        assert record["content"] == content_of(folder, name), name
        assert record["key"] and record["parts"] and (name.endswith(".csv") or record["hardware"]), name
    kept = {f.relative_to(folder).as_posix() for f in folder.rglob("*.parquet")}
    assert kept == {n for n in records if n.endswith(".parquet")}

@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    "All chapters at smoke, from nothing, into a temporary folder."
    out = tmp_path_factory.mktemp("figures")
    done = subprocess.run(
        [*RRG, "regenerate", "-p", "smoke", "--out", str(out)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return out

@pytest.mark.parametrize("chapter", list(chapters()))
def test_a_chapter_is_complete_at_smoke(smoke, chapter):
    "The same tables and figures as at phantom, with content; and a page without a warning."
    made = {f.relative_to(smoke / chapter).as_posix() for f in (smoke / chapter).rglob("*") if f.is_file()}
    committed = {
        f.relative_to(ROOT / "figures" / chapter).as_posix()
        for f in (ROOT / "figures" / chapter).rglob("*") if f.is_file()
    }
    optional = {"records.json", "manifest.json", "cost.csv"}
    if stale := read_records(ROOT / "figures" / chapter)["stale"]: # runs may wait for their training
        optional |= {any_seed(f) for f in made - committed if f.startswith("predictions/")}
    assert {any_seed(f) for f in made} - optional == {any_seed(f) for f in committed} - optional
    manifest = json.loads((smoke / chapter / "manifest.json").read_text())
    assert manifest["profile"] == "smoke" and manifest["seeds"] == list(profile("smoke").seeds)
    for file in made:
        text = (smoke / chapter / file).read_bytes()
        assert len(text) > 10 and str(ROOT).encode() not in text, file
    for file in sorted(f for f in made if f.endswith(".csv") and f != "cost.csv"):
        table, there = (pd.read_csv(folder / chapter / file) for folder in (smoke, ROOT / "figures"))
        assert list(table.columns) == list(there.columns) and not table.columns.duplicated().any(), file
        if stale and not len(there): continue # its run waits as well
        assert len(table) and not table.isna().all(axis=None), file
    page = nbformat.read(smoke / ".run" / "pages" / f"{chapter}.ipynb", as_version=4)
    assert stderr_lines(page) == []

def test_nothing_to_do_takes_seconds(smoke):
    start = time.time()
    done = subprocess.run(
        [*RRG, "regenerate", "-p", "smoke", "--out", str(smoke)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=ROOT)
    assert done.returncode == 0 and "runs:" not in done.stdout and time.time() - start < 20, done.stdout

def test_the_same_seed_gives_the_same_bytes(smoke, tmp_path):
    chapter = next(iter(chapters()))
    again = subprocess.run([*RRG, "regenerate", chapter, "-p", "smoke", "--out",
                            str(tmp_path)],
                           capture_output=True,
                           text=True,
                           env=clean_environment(),
                           cwd=ROOT)
    assert again.returncode == 0, again.stderr
    outputs = json.loads((smoke / chapter / "manifest.json").read_text())["outputs"]
    assert outputs == json.loads((tmp_path / chapter / "manifest.json").read_text())["outputs"]
