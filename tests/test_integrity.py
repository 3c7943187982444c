"""Any single byte of what is committed is vouched for; a plan stops where one is not as it was made."""
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrg_core.engine.plan import make_plan
from rrg_core.engine.settings import CourseError, chapters, profile, repo_root
from rrg_core.tools.keeping import verify

FIGURES = repo_root() / "figures"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "The committed figures in a temporary folder, with a cache of its own."
    out = tmp_path_factory.mktemp("copy") / "figures"
    shutil.copytree(FIGURES, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_CACHE", str(out.parent / "cache"))
        yield out


def flipped(file, at, bit):
    data = bytearray(file.read_bytes())
    data[at] ^= 1 << bit
    file.write_bytes(data)


def test_all_of_it_is_as_it_was_made_and_checked_in_seconds(copy):
    started = time.process_time()
    assert list(verify(out=copy)) == []
    assert time.process_time() - started < 10


def test_any_flipped_byte_is_found(copy):
    rng = random.Random(os.environ.get("RRG_FLIPS", "2026"))
    files = sorted(f for f in copy.rglob("*") if f.is_file())
    always = [f for f in files if f.name in ("SHA256SUMS", "records.json", "manifest.json", "cost.csv")]
    sizes = [f.stat().st_size for f in files] # every byte is as likely as another, and every kind comes up
    chosen = always + rng.choices(files, sizes, k=50) + rng.choices(files, k=100 - 50 - len(always) + 20)
    assert len(chosen) >= 100 and {".json", ".csv", ".parquet", ".svg"} <= {f.suffix for f in chosen}
    for file in chosen:
        before, at = file.read_bytes(), rng.randrange(file.stat().st_size)
        flipped(file, at, rng.randrange(8))
        chapter = None if file.parent == copy else file.relative_to(copy).parts[0]
        found = list(verify(chapter, out=copy))
        assert found, (file, at)
        if chapter: assert file in [f for f, _ in found], (file, at, found)
        file.write_bytes(before)
    assert list(verify(out=copy)) == []


HARMS = {
    "truncated weights": ("learning/standins/standin-phantom-resnet/model.safetensors", lambda f: os.truncate(f, 1000)),
    "a flipped bit in weights": ("learning/standins/standin-phantom-resnet/model.safetensors", lambda f: flipped(f, 5000, 3)),
    "an LFS pointer": ("learning/standins/standin-phantom-towers/model.safetensors", lambda f: f.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")),
    "edited predictions": ("fita/predictions/d-s0.parquet", lambda f: flipped(f, -20, 0)),
    "truncated predictions": ("fita/predictions/d-s0.parquet", lambda f: os.truncate(f, 100)),
    "half a record": ("fita/records.json", lambda f: os.truncate(f, f.stat().st_size // 2)),
    "a seed in a record": ("fita/records.json", lambda f: f.write_text(f.read_text().replace('"seed": "0"', '"seed": "1"'))),
    "a list for a manifest": ("fita/manifest.json", lambda f: f.write_text("[]")),
    "a lost list": ("SHA256SUMS", lambda f: f.unlink()),
    "another file in a model": ("fita/model/extra.bin", lambda f: f.write_text("x")),
    "a lost file of a model": ("fita/model/config.json", lambda f: f.unlink()),
}


@pytest.mark.parametrize("what", HARMS)
def test_every_plan_says_damaged_and_stops(copy, what):
    name, harm = HARMS[what]
    file = copy / name
    before = file.read_bytes() if file.exists() else None
    harm(file)
    after = file.read_bytes() if file.exists() else None
    try:
        with pytest.raises(CourseError, match="damaged|is missing|is new|was changed|vouch"):
            make_plan((), profile("phantom"), copy)
        assert list(verify(out=copy))
        assert after == (file.read_bytes() if file.exists() else None) # nothing was healed or hashed anew
    finally:
        if before is None: file.unlink()
        else: file.write_bytes(before)
    assert list(verify(out=copy)) == []


def test_an_output_outside_of_its_folder_is_never_removed(copy):
    "A manifest that names a stranger's file: refused, and the file is there."
    from rrg_core.engine.files import vouched
    victim, file = copy.parent / "victim.txt", copy / "data" / "manifest.json"
    victim.write_text("mine")
    before = file.read_text()
    with vouched(file) as tmp: tmp.write_text(before.replace('"outputs": {', '"outputs": {"../../victim.txt": "0",', 1))
    with pytest.raises(CourseError, match="lies outside"): make_plan(["data"], profile("phantom"), copy)
    with vouched(file) as tmp: tmp.write_text(before)
    assert victim.read_text() == "mine"


def test_the_command_names_each_file_and_the_way_back(copy):
    file = copy / "data" / sorted(f.name for f in (copy / "data").glob("*.csv"))[0]
    before = file.read_bytes()
    file.write_bytes(before + b" ")
    run = lambda *words: subprocess.run([sys.executable, "-c", "from rrg_core.tools.cli import main; main()", *words],
                                        capture_output=True, text=True, cwd=repo_root())
    done = run("verify", "data", "--out", str(copy))
    assert done.returncode == 1 and f"{file.name} was changed: " in done.stdout and "1 damaged" in done.stdout
    file.write_bytes(before)
    done = run("verify", "--out", str(copy))
    assert done.returncode == 0 and done.stdout == "everything is as it was made\n", done.stdout
    assert set(chapters()) <= {f.name for f in copy.iterdir()}
