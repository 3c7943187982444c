"""Four sets of annotations as one training and one test: miniatures in the real layouts, the paper's recipe at tiny sizes."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
HOME = dict.fromkeys("1234", "train") | dict.fromkeys("56", "validate") | dict.fromkeys("789", "test")
SAID = { # Study → category, words, boxes, region, attribute
    "1": ("Pneumothorax", "A rim of air lies at the right apex.", [(1, 2, 5, 6)], "right lung", "pneumothorax"),
    "2": ("Pleural Effusion", "Both bases hold fluid.", [(1, 10, 4, 5), (10, 10, 4, 5)], "left lung",
          "pleural effusion"),
    "3": ("Cardiomegaly", "The heart takes up half of the chest.", [(5, 8, 8, 7)], "cardiac silhouette",
          "enlarged cardiac silhouette"),
    "4": ("Consolidation", "The right base is solid.", [(2, 9, 5, 6)], "right lung", "consolidation"),
    "5": ("Edema", "Hazy water in both lungs.", [(1, 3, 13, 11)], "left lung", "pulmonary edema/hazy opacity"),
    "7": ("Pneumothorax", "Air has got beside the left lung.", [(10, 2, 4, 8)], "left lung", "pneumothorax"),
    "8": ("Pleural Effusion", "A little fluid on the right.", [(1, 11, 5, 4)], "right lung",
          "pleural effusion"),
    "9": ("Edema", "Swollen vessels and haze.", [(2, 3, 12, 10)], "right lung",
          "pulmonary edema/hazy opacity")}


def four(root):
    "The four sets, and MIMIC-CXR below two of them; VinDr-CXR and NIH as their adapters make them."
    from rrg_core.data import chest_imagenome, mimic_cxr, ms_cxr, nih_cxr14, vindr_cxr
    films, graphs, boxes = [], [], []
    for k, home in HOME.items():
        study, (category, words, places, region, attribute) = f"5999990{k}", SAID.get(k, [None] * 5)
        words = words or "Nothing new is seen."
        report = f"FINDINGS: {words} The bones are whole.\n\nIMPRESSION: As above."
        films.append((f"1999990{k}", study, home, ("PA",), report if k != "9" else f"IMPRESSION: {words}", {}))
        told = [("The bones are whole.", "findings", {"spine": ["nlp|yes|normal"]})]
        if region: told.append((words, "findings", {region: [f"anatomicalfinding|yes|{attribute}"]}))
        own = {"validate": "valid"}.get(home, home)
        graphs.append((study, 0, "PA", own, [*chest_imagenome._USUAL.items(), ("spine", (7, 0, 9, 20))], told))
        if category: boxes.append((study, 0, category, words, places, {"validate": "val"}.get(home, home)))
    with pytest.MonkeyPatch.context() as patch:
        for module, rows in ((mimic_cxr, films), (chest_imagenome, graphs), (ms_cxr, boxes)):
            patch.setattr(module, "_FIXTURE", rows)
        for module, name in ((mimic_cxr, "mimic-cxr"), (chest_imagenome, "chest-imagenome"), (ms_cxr, "ms-cxr"),
                             (vindr_cxr, "vindr-cxr"), (nih_cxr14, "nih")):
            module.fixture(root / name)


TWENTY = """
import json, sys
from dataclasses import replace
from pathlib import Path
import numpy as np, pandas as pd, torch
import rrg_core.chex.scores as scores_module
from rrg_core import chex
from rrg_core.chex.asking import ChexSystem
from rrg_core.chex.systems import answered, agreement, studies_of
from rrg_core.chex.tasks import TASKS, Answers
from rrg_core.engine.experiments import checked, merged
from rrg_core.engine.settings import profile

class NoJava: # in the place of METEOR
    def statistics(self, said, told): return np.ones((len(said), 23))

class Watched(ChexSystem):
    seen = {}
    def batch(self, lessons, rows, draw=True):
        out = super().batch(lessons, rows, draw)
        if draw:
            there = {k: bool((~out[k].isnan()).any()) for k in ("class_boxes", "region_boxes", "present",
                                                                "region_present")}
            there |= dict(sentences=any(out["sentences"]), region_texts=any(map(any, out["region_texts"])))
            for k, found in there.items(): self.seen[k] = self.seen.get(k, 0) + found
            self.sets.append(sorted({lessons.sets[i] for i in rows}))
        return out

torch.set_num_threads(1)
scores_module.METEOR = NoJava()
p = replace(profile("smoke"), data="mimic-cxr", train=None, valid=None, test=None, image_size=160)
s = merged(chex, "chex", p)
told = dict(size=s["size"], schedule=s["schedule"], batch=s["batch"], copies=s["copies"],
            stages=[[x[k] for k in ("stage", "rate", "epochs", "sets")] for x in s["stages"]])
steps = dict(detect=8, post=6, write=6)
s |= dict(batch=6, writer_epochs=1, judged=8, lm_width=32, lm_layers=1, prefix_hidden=32, longest=24, vocab=300,
          stages=[x | dict(steps=steps[x["stage"]], sets=dict.fromkeys(x["sets"], 1)) # there are few of CIG
                  | ({"batch": 3, "accumulate": 2} if "batch" in x else {}) for x in s["stages"]])
system, folder = Watched(s, p), Path(sys.argv[1])
system.sets = []
system.train(folder, 0)
curve = pd.read_csv(folder / "steps.csv")
frame, questions = checked(answered(system, folder), "chex"), system.questions("test")
given = Answers({0: frame}, questions)
scores = {t: dict(zip(x.scores, map(float, given.values(t, x.scores)[0]))) for t, x in TASKS.items()}
loss = curve.groupby("stage")[[c for c in curve if c not in ("step", "epoch", "stage")]].max()
asked = {q.study_id.partition("/")[0]: [] for q in questions}
for q in questions: asked[q.study_id.partition("/")[0]].append([
    sorted(q.found), len(q.sentences), len(q.boxes), len(q.regions), bool(q.reference), len(q.hints)])
print(json.dumps(told | dict(
    steps=len(curve), finite=bool(np.isfinite(curve.loss).all()), by=curve.groupby("stage").size().tolist(),
    terms=[sorted(k for k, v in row.items() if v > 0 and k not in ("rate", "norm", "items", "studies", "loss",
                                                                   "seconds")) for _, row in loss.iterrows()],
    seen=Watched.seen, sets=[system.sets[:8], system.sets[8:]], scores=scores, asked=asked,
    agreement=agreement(frame), empty=(frame.hypothesis == "").tolist(),
    reference=frame.reference.tolist(), ids=frame.study_id.tolist())))
"""


def run(folder, code, **more):
    own = {k: v for k, v in os.environ.items() if not k.startswith("RRG_")}
    roots = {f"RRG_ROOT_{n.upper().replace('-', '_')}": str(folder / n)
             for n in ("mimic-cxr", "chest-imagenome", "ms-cxr", "vindr-cxr", "nih")}
    own |= roots | {"PYTHONPATH": str(REPO), "RRG_REPO": str(REPO), "RRG_FIGURES": str(REPO / "figures"),
                    "RRG_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"} | more
    return subprocess.run([sys.executable, "-c", code, folder / "model"], env=own, capture_output=True, text=True)


def test_twenty_steps_of_the_papers_recipe_on_four_sets(tmp_path):
    four(tmp_path)
    (tmp_path / "model").mkdir()
    done = run(tmp_path, TWENTY)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout.splitlines()[-1])
    assert (out["size"], out["schedule"], out["batch"]) == ("paper", "cosine", 256)
    assert out["stages"] == [["detect", 1e-4, 50, {"CIG": 1, "VinDr-CXR": 15}], ["post", 1e-3, 200, {"CIG": 1}],
                             ["write", 3e-4, 20, {"CIG": 1}]]
    assert out["copies"] == {n: f"unprepared folder {n}" for n in ("chest-imagenome", "vindr-cxr", "ms-cxr",
                                                                   "nih")}
    assert out["steps"] == 20 and out["by"] == [8, 6, 6] and out["finite"]
    assert out["terms"] == [
        ["boxes", "classes", "contrast", "findings", "region_boxes", "scores", "whole"],
        ["contrast", "findings", "region_features", "sentence_features"],
        ["region_features", "region_text", "sentence_features", "sentence_text"]]
    assert all(out["seen"].values()) and len(out["seen"]) == 6
    assert {"CIG", "VinDr-CXR"} == set(sum(out["sets"][0], [])) and {"CIG"} == set(sum(out["sets"][1], []))

    asked = out["asked"]
    assert {n: {tuple(x[0]) for x in some} for n, some in asked.items()} == {
        "CIG": {()}, "VinDr-CXR": {("VinDr-CXR",)}, "MS-CXR": {("MS-CXR",)}, "NIH8": {("NIH8",)}}
    sentences, boxes, regions, report, hints = ({n: [x[k] for x in some] for n, some in asked.items()}
                                                for k in range(1, 6))
    for table, owner in ((sentences, "MS-CXR"), (boxes, "MS-CXR"), (regions, "CIG"), (hints, "MS-CXR")):
        assert [n for n, values in table.items() if any(values)] == [owner]
    assert sentences["MS-CXR"] == [1, 1, 1, 1] and regions["CIG"] == [7, 7, 7]
    assert sorted(report["CIG"]) == [False, True, True] # one report has no findings
    assert [bool(r) for r in out["reference"]] == [i in ("CIG/59999907", "CIG/59999908") for i in (
        x[:12] for x in out["ids"])]
    assert all(e for e, r in zip(out["empty"], out["reference"]) if not r)
    assert len(out["scores"]) == 9 and all(v == v for task in out["scores"].values() for v in task.values())
    assert set(out["agreement"]) == {"mean overlap", "micro F1-14"}


def test_a_set_that_is_missing_is_named(tmp_path):
    four(tmp_path)
    code = """
from dataclasses import replace
from rrg_core.chex.systems import studies_of
from rrg_core.engine.settings import CourseError, profile
p = replace(profile("smoke"), data="mimic-cxr", train=2)
print(sorted(s.study_id.partition("/")[0] for s in studies_of(p, "train", None)))
try: studies_of(p, "test", None)
except CourseError as e: print(e)
"""
    done = run(tmp_path, code, RRG_ROOT_NIH="")
    assert done.returncode == 0, done.stderr
    train, said = done.stdout.splitlines()
    assert train == str(["CIG", "CIG", "MS-CXR", "MS-CXR", "VinDr-CXR", "VinDr-CXR"])
    assert said.startswith("nih needs its folder: set RRG_ROOT_NIH") and "data_scripts/nih.py fetch" in said
