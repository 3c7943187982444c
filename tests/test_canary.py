"""Entrusted data with planted words goes through every command, and stays where it may be."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from rrg_core.tools.guard import texts_of

REPO = Path(__file__).resolve().parent.parent
WORDS = ("Zebrafinch", "Quokkapouch", "Axolotlgill") # in texts that are read, in texts that are not, in labels
SUBJECT, STUDY = 17000000, 57000000
HELD = re.compile("|".join(WORDS) + r"|[15]70000\d\d", re.I)

LESSON = '''
import os, time
import numpy as np, pandas as pd
from rrg_core.data import load
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import System
from rrg_core.engine.store import current_build

EXPERIMENTS: Registry = {"echo": {}, "bad": {"fails": True}}
DEFAULTS = {"fails": False}
MAIN = "echo"

def train(folder, settings, seed, p):
    studies = load(p.data, "train", need=("findings",))
    texts = [s.report.findings for s in studies]
    print("\\n".join(texts), flush=True)
    current_build().say("trained on " + str(len(texts)))
    np.save(folder/"pixels.npy", studies[0].images[0].load())
    (folder/"words.txt").write_text(" ".join(texts))
    time.sleep(float(os.environ.get("CANARY_SLEEP", 0)))
    if settings["fails"]: raise KeyError(texts[0]) from ValueError(texts[1])

def decode(folder, settings, seed, p, first=None):
    found = load(p.data, "test", need=("findings",))
    rows = [(s.study_id, s.report.findings, s.report.findings) for s in found]
    return pd.DataFrame(rows, columns=["study_id", "hypothesis", "reference"])[:first]

SYSTEMS = {"echo": System(decode, train)}
'''
CELLS = ["profile = None\nseed = None", '''
import logging, os, tempfile, time, warnings
import matplotlib.pyplot as plt, pandas as pd
from rrg_core.data import load
from rrg_core.engine.desk import Chapter, progress
from rrg_core.engine.experiments import run_experiments
desk = Chapter("canary", profile, seed)
studies = load(desk.profile.data, "train", need=("findings",))
texts = [s.report.findings for s in studies]''', '''
print(texts)
warnings.warn(texts[0])
logging.getLogger().error(texts[1])
for t in progress(texts, desc=texts[0]): pass
folder = tempfile.mkdtemp()
open(folder + "/note.txt", "w").write(texts[0])
texts''', '''
fig, ax = plt.subplots(figsize=(2, 2))
ax.imshow(studies[0].images[0].load())
ax.set_title(texts[0])
desk.figure(fig, "film")''', '''
desk.table(pd.DataFrame({"study": [s.study_id for s in studies], "text": texts}), "texts", texts[0])''', '''
run_experiments(desk, ["echo"]);''', '''
time.sleep(float(os.environ.get("CANARY_SLEEP", 0)))
if os.environ.get("CANARY_FAILS"): raise KeyError(texts[0])''']


def studies(root):
    "A miniature MIMIC-CXR in which every report holds a planted word."
    from rrg_core.data import mimic_cxr
    rows = []
    for i in range(12):
        split = ("train", "validate", "test")[i % 3]
        text = (f"INDICATION: {WORDS[1]} cough.\n\nFINDINGS: The {WORDS[0]} lung {i} is clear. No effusion.\n\n"
                f"IMPRESSION: {WORDS[2]} normal.")
        rows.append((str(SUBJECT + i), str(STUDY + i), split, ("PA", ), text, {"No Finding": 1}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mimic_cxr, "_FIXTURE", rows)
        mimic_cxr.fixture(root)


class House:
    "A clone with one chapter on the miniature, its data root, and a TMPDIR of its own."
    def __init__(self, folder):
        self.folder, self.root, self.tmp, self.said = folder, folder / "clone", folder / "tmp", []
        listed = subprocess.run(["git", "ls-files", "-z", "rrg_core", "settings.ini", "pyproject.toml", ".gitignore"],
                                cwd=REPO, capture_output=True, check=True).stdout.decode().split("\0")
        for name in filter(None, listed):
            if not (REPO / name).is_file(): continue
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, self.root / name)
        settings = (self.root / "settings.ini").read_text()
        smoke = re.search(r"\[smoke\]\n(.*?)\n\n", settings, re.S)[1]
        canary = smoke.replace("data = phantom", "data = mimic-cxr").replace("jobs = no", "jobs = yes")
        sizes = {"train": 3, "valid": 3, "test": 3}
        for k, n in sizes.items(): canary = re.sub(rf"^{k} = .*$", f"{k} = {n}", canary, flags=re.M)
        roots = settings[settings.index("[roots]"):]
        (self.root / "settings.ini").write_text(f"[canary]\n{canary}\n\n[smoke]\n{smoke}\n\n[chapters]\ncanary =\ndata =\n\n{roots}")
        (self.root / "nbs").mkdir()
        shutil.copy(REPO / "nbs" / "01_data.ipynb", self.root / "nbs" / "02_data.ipynb")
        (self.root / "rrg_core" / "canary").mkdir()
        (self.root / "rrg_core" / "canary" / "__init__.py").write_text(LESSON)
        cells = [nbformat.v4.new_code_cell(c.strip()) for c in CELLS]
        cells[0].metadata["tags"] = ["parameters"]
        nb = nbformat.v4.new_notebook(cells=cells)
        nb.metadata.kernelspec = dict(name="python3", display_name="python3", language="python")
        nbformat.write(nb, self.root / "nbs" / "01_canary.ipynb")
        self.tmp.mkdir()
        studies(folder / "data")
        self.git("init", "--quiet")
        self.git("add", "--all")
    def git(self, *words):
        return subprocess.run(["git", *words], cwd=self.root, capture_output=True, text=True, check=True).stdout
    def environment(self, **extra):
        own = {k: v for k, v in os.environ.items() if not k.startswith("RRG_")}
        return own | {"PYTHONPATH": str(self.root), "RRG_REPO": str(self.root), "TMPDIR": str(self.tmp),
                      "RRG_ROOT_MIMIC_CXR": str(self.folder / "data"), "OMP_NUM_THREADS": "1"} | extra
    def command(self, *words):
        return [sys.executable, "-c", "from rrg_core.tools.cli import main; main()", *map(str, words)]
    def rrg(self, *words, code=0, **extra):
        done = subprocess.run(self.command(*words), cwd=self.root, capture_output=True, text=True,
                              env=self.environment(**extra))
        self.said.append((words, done.stdout + done.stderr))
        assert code is None or done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr
    def holders(self):
        "Files that hold what was planted, read for what they are."
        files = [f for f in [*self.root.rglob("*"), *self.tmp.rglob("*")] if f.is_file() and ".git" not in f.parts]
        return [f for f in files if HELD.search(str(f)) or HELD.search(texts_of(f.name, f.read_bytes()))]
    def check(self):
        "Nothing outside of the private folders, nothing for other users, nothing said."
        private = [self.root / "build" / "canary", self.root / "build" / "cache"]
        for f in self.holders():
            assert any(f.is_relative_to(p) for p in private), f
            for part in (f, *f.parents):
                if part == self.root / "build": break
                assert not part.stat().st_mode & 0o077, (part, oct(part.stat().st_mode))
        for words, text in self.said: assert not HELD.search(text), (words, text)
        assert self.git("status", "--porcelain", "--untracked-files=all").count("\n?? ") == 0


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return House(tmp_path_factory.mktemp("canary"))


def test_what_is_planted_stays_through_every_command(house):
    house.rrg("doctor", code=None)
    house.rrg("data", "--help")
    assert "made" in house.rrg("regenerate", "canary", "-p", "canary", code=1) # the variant that fails, and its words
    assert "bad-s0" in house.said[-1][1] and "may quote data" in house.said[-1][1]
    text = (house.root / "rrg_core" / "canary" / "__init__.py").read_text()
    (house.root / "rrg_core" / "canary" / "__init__.py").write_text(text.replace(', "bad": {"fails": True}', ""))
    house.rrg("regenerate", "canary", "-p", "canary")
    assert "up to date" in house.rrg("regenerate", "canary", "-p", "canary")
    figures = house.root / "build" / "canary" / "figures"
    predictions = figures / "canary" / "predictions" / "echo-s0.parquet"
    held = {f.relative_to(figures).as_posix() for f in house.holders() if f.is_relative_to(figures)}
    assert {"canary/texts.csv", "canary/texts.md", "canary/predictions/echo-s0.parquet"} <= held # it can be seen
    house.check()
    house.rrg("regenerate", "canary", "-p", "canary", "--force", code=1, CANARY_FAILS="1")
    house.rrg("train", "canary", "-p", "canary", "--retrain")
    house.rrg("train", "canary", "echoes", "-p", "canary", code=1)
    house.rrg("evaluate", predictions, code=None)
    house.rrg("evaluate", predictions, "--protocol", "nowhere", code=None)
    house.rrg("verify", "-p", "canary", code=None)
    house.rrg("stale", "canary", "--why", "a test", "-p", "canary")
    house.rrg("regenerate", "canary", "-p", "canary", "-n")
    house.rrg("stale", "canary", "--off", "-p", "canary")
    house.rrg("accept", "canary", "--why", "a test", "-p", "canary", code=None)
    for words in (("--out", house.root / "figures"), ("--out", house.root / "nbs"), ("--out", house.root / "here")):
        assert "git may track" in house.rrg("regenerate", "canary", "-p", "canary", *words, code=1)
    assert "git may track" in house.rrg("train", "canary", "-p", "canary", "--out", house.root / "figures", code=1)
    assert "git may track" in house.rrg("regenerate", "canary", "-p", "canary", code=1, RRG_FIGURES=str(house.root / "x"))
    house.check()
    with open(predictions, "r+b") as f: f.write(b"damaged")
    for words in (("regenerate",), ("train", "canary"), ("verify",)):
        assert "damaged" in house.rrg(*words, "-p", "canary", code=1)
    house.rrg("evaluate", predictions, code=None)
    predictions.unlink()
    house.rrg("regenerate", "canary", "-p", "canary")
    house.check()


def test_the_course_s_own_chapter_on_data_keeps_it(house):
    "Of the chapters that read the profile's studies, the one that runs on twelve of them."
    assert "made" in house.rrg("regenerate", "data", "-p", "canary")
    house.check()


def test_a_page_that_was_copied_is_found_before_it_is_committed(house):
    house.rrg("regenerate", "canary", "-p", "canary")
    page = house.root / "build" / "canary" / "pages" / "canary.ipynb"
    assert "nothing entrusted" in house.rrg("guard") and HELD.search(page.read_text())
    copies = [("nbs/02_copy.ipynb", page), ("notes.md", house.root / "build/canary/figures/canary/texts.md"),
              ("p.csv", house.root / "build/canary/figures/canary/texts.csv")]
    for name, source in copies:
        shutil.copy(source, house.root / name)
        house.git("add", "--force", name)
        assert name in house.rrg("guard", "--staged", code=1)
        house.git("rm", "--force", "--quiet", name)
    from rrg_core.tools.house import take_outputs
    own = house.root / "nbs" / "01_canary.ipynb"
    before = own.read_bytes()
    assert take_outputs(own, page) == 0 and not HELD.search(own.read_text())
    own.write_bytes(before)
    house.check()


def test_what_a_killed_run_leaves_stays_and_is_swept(house):
    source = house.root / "rrg_core" / "canary" / "__init__.py"
    source.write_text(source.read_text().replace("texts[0]", "texts[0] * 1")) # trained anew
    for wait in (2.5, 4, 6):
        run = subprocess.Popen(house.command("regenerate", "canary", "-p", "canary", "--force"), cwd=house.root, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                               env=house.environment(CANARY_SLEEP="1.5"))
        time.sleep(wait + random.random())
        os.killpg(run.pid, signal.SIGKILL)
        house.said.append(("killed", run.communicate()[0]))
        time.sleep(1.5) # the children see it
        house.check()
    house.rrg("regenerate", "canary", "-p", "canary", "--force")
    left = [f for f in (house.root / "build" / "cache" / "tmp").rglob("*") if f.is_file()]
    assert not left and not [f for f in house.root.rglob(".making-*")]
    house.check()


def test_an_open_kernel_beside_the_tracked_notebooks_is_refused(house):
    code = ("import os, sys; from IPython.terminal.interactiveshell import TerminalInteractiveShell as T; T.instance(); "
            "os.chdir(sys.argv[1]); from rrg_core.engine.desk import Chapter; Chapter('canary', 'canary')")
    own = {k: v for k, v in house.environment().items() if k not in ("CI", "IN_TEST", "RRG_STATIC")}
    for place, words in ((house.root / "nbs", "make lab PROFILE=canary"), (house.root / "build" / "canary", "")):
        done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, env=own)
        assert words in done.stderr and bool(words) == bool(done.returncode), done.stderr
