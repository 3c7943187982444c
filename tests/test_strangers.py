"""Anyone's data: Learning and FITA from nothing on miniatures in the real layouts, by the papers' own recipes at tiny sizes."""
import os, re, shutil, subprocess, sys
from pathlib import Path

import pandas as pd
import pytest

REPO = Path(__file__).resolve().parents[1]
SAID = ("The heart is enlarged. There is a small left pleural effusion.", "The lungs are clear. No effusion.",
        "There is mild pulmonary edema.", "Right lower lobe consolidation, possibly pneumonia.",
        "The heart is normal. A nodule lies in the left upper lobe.", "No pneumothorax. A line is in place.")


def mimic(root):
    "Thirty-six studies, every third one of validation or test."
    from rrg_core.data import mimic_cxr
    rows = []
    for i in range(36):
        split = ("train", "train", "train", "validate", "test", "test")[i % 6]
        text = f"INDICATION: Cough.\n\nFINDINGS: {SAID[(i + i//6) % 6]}\n\nIMPRESSION: See above."
        rows.append((str(19_000_000 + i), str(59_000_000 + i), split, ("PA",), text, {"No Finding": 1}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mimic_cxr, "_FIXTURE", rows)
        mimic_cxr.fixture(root)


def openi(root):
    "Noise in place of the first, frontal radiographs of thirty reports, named as the National Library does."
    import numpy as np
    from PIL import Image
    from rrg_core.data.bundled import iu_records, iu_views
    from rrg_core.data.openi import split_of, text_group
    rng, wanted, views = np.random.default_rng(0), dict(train=16, valid=6, test=8), iu_views()
    root.mkdir()
    for r in iu_records():
        split = split_of(text_group(r))
        if not (wanted[split] and r["findings"] and r["images"]): continue
        if views[r["images"][0]][0] not in ("PA", "AP"): continue
        wanted[split] -= 1
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(root / f"{r['images'][0]}.png")
    assert not any(wanted.values())


def clone(folder, data, sizes):
    "The library and two chapters, with a profile of smoke's size that reads other data."
    root = folder / "clone"
    listed = subprocess.run(["git", "ls-files", "-z", "rrg_core", "settings.ini", "pyproject.toml", ".gitignore"],
                            cwd=REPO, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        if not (REPO / name).is_file(): continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, root / name)
    settings = (root / "settings.ini").read_text()
    smoke = re.search(r"\[smoke\]\n(.*?)\n\n", settings, re.S)[1]
    mini = smoke.replace("data = phantom", f"data = {data}")
    for k, n in sizes.items(): mini = re.sub(rf"^{k} = .*$", f"{k} = {n}", mini, flags=re.M)
    roots = settings[settings.index("[roots]"):]
    (root / "settings.ini").write_text(
        f"[mini]\n{mini}\n\n[smoke]\n{smoke}\n\n[chapters]\nlearning =\nfita = learning\n\n{roots}")
    (root / "nbs").mkdir()
    for name in ("07_learning", "11_fita"): shutil.copy(REPO / "nbs" / f"{name}.ipynb", root / "nbs")
    for words in (("init", "--quiet"), ("add", "--all")): subprocess.run(["git", *words], cwd=root, check=True)
    return root


def environment(root, **more):
    own = {k: v for k, v in os.environ.items() if not k.startswith("RRG_")}
    return own | {"PYTHONPATH": str(root), "RRG_REPO": str(root), "OMP_NUM_THREADS": "1"} | more


def regenerated(root, **more):
    command = [sys.executable, "-c", "from rrg_core.tools.cli import main; main()"]
    done = subprocess.run([*command, "regenerate", "learning", "fita", "-p", "mini"], cwd=root,
                          env=environment(root, **more), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "build" / "mini" / "figures"


TWENTY = """
import sys
from dataclasses import replace
from pathlib import Path
import pandas as pd
from rrg_core import fita
from rrg_core.engine.experiments import merged
from rrg_core.engine.settings import profile
from rrg_core.fita.model import FitaSystem
p = replace(profile("mini"), epochs=20)
s = merged(fita, "d", p) | dict(judged=2)
FitaSystem(s, p).train(Path(sys.argv[1]), 0)
print(len(pd.read_csv(Path(sys.argv[1]) / "steps.csv")), s["size"], s["optimiser"], s["schedule"], s["rate"])
"""
RUNS = {"mimic-cxr": (mimic, "RRG_ROOT_MIMIC_CXR", dict(train=8, valid=4, test=6)),
        "openi": (openi, "RRG_ROOT_OPENI", dict(train=8, valid=4, test=6))}


@pytest.mark.parametrize("data", RUNS)
def test_learning_and_fita_run_on(data, tmp_path):
    make, variable, sizes = RUNS[data]
    make(tmp_path / "data")
    root = clone(tmp_path, data, sizes)
    given = {variable: str(tmp_path / "data")}
    figures = regenerated(root, **given)
    for chapter, tables in (("learning", ("baselines", "ceilings", "swaps", "plateau")),
                            ("fita", ("table2", "claims", "ceilings", "swaps", "open"))):
        for t in tables: assert (figures / chapter / f"{t}.csv").is_file(), (chapter, t)
        for f in (figures / chapter / "predictions").glob("*.parquet"):
            assert len(pd.read_parquet(f)) == 6, f
    claims = pd.read_csv(figures / "fita" / "claims.csv")
    assert claims.id.tolist() == [f"fita-{k}" for k in range(1, 8)] and (claims.n == 6).all()
    tracked = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True).stdout
    assert not [line for line in tracked.splitlines() if line.startswith("??")], tracked # all of it is private
    (model := tmp_path / "model").mkdir()
    done = subprocess.run([sys.executable, "-c", TWENTY, model], cwd=root, capture_output=True, text=True,
                          env=environment(root, **given))
    assert done.stdout.splitlines()[-1:] == ["20 paper adam step 0.0001"], done.stdout + done.stderr
