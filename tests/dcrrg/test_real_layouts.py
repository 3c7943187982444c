"""DCRRG's four steps from nothing on miniatures of MIMIC-CXR and CheXpert in their real layouts, by the paper's recipe."""
from dataclasses import replace

import pandas as pd
import pytest

import rrg_core.dcrrg as dcrrg
from rrg_core.engine.experiments import merged
from rrg_core.engine.settings import profile
from rrg_core.learning.standins import train_standin

SAID = ("The heart is enlarged. There is a small left pleural effusion.", "The lungs are clear. No effusion.",
        "There is mild pulmonary edema.", "Right lower lobe consolidation, possibly pneumonia.",
        "The heart is normal. A nodule lies in the left upper lobe.", "No pneumothorax. A line is in place.")


def mimic(root):
    "Twenty-four studies, half of them for training; patients and words invented."
    from rrg_core.data import mimic_cxr
    rows = []
    for i in range(24):
        split = ("train", "train", "train", "validate", "test", "test")[i % 6]
        text = f"INDICATION: Cough.\n\nFINDINGS: {SAID[(i + i//6) % 6]}\n\nIMPRESSION: See above."
        rows.append((str(19_000_000 + i), str(59_000_000 + i), split, ("PA",), text, {"No Finding": 1}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mimic_cxr, "_FIXTURE", rows)
        mimic_cxr.fixture(root)


def test_four_steps_by_the_paper_s_recipe(tmp_path, monkeypatch):
    from rrg_core.data import chexpert
    mimic(tmp_path / "mimic")
    chexpert.fixture(tmp_path / "chexpert")
    for name, value in dict(RRG_ROOT_MIMIC_CXR="mimic", RRG_ROOT_CHEXPERT="chexpert", RRG_FIGURES="figures",
                            RRG_CACHE="cache").items(): monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("RRG_ROOT_WEIGHTS", raising=False)
    p = replace(profile("smoke"), data="mimic-cxr", train=12, valid=4, test=6, image_size=64, epochs=2)
    for name in ("standin-shapes-resnet", "standin-phantom-bert"): train_standin(name, p, say=str)
    settings = merged(dcrrg, "6d", p) | dict(judged=2, keep="last")
    assert settings["size"] == "paper" and settings["extra"] == "chexpert" and settings["temperature"] == 1
    assert settings["rate1"] == settings["rate3"] == settings["rate"] == 1e-4 and settings["batch1"] == 32
    system, folder = dcrrg.SYSTEMS["dcrrg"], tmp_path / "model"
    folder.mkdir()
    system.train(folder, {k: v for k, v in settings.items() if k not in system.decoding}, 0, p)
    told = system.decode(folder, settings, 0, p)
    assert len(told) == 6
    assert told.reference.str.len().min() > 0 and told.study_id.is_unique
    made = {f.name.rpartition("-")[0] for f in (tmp_path / "cache" / "shared").iterdir()}
    assert {"images-extra", "dcrrg-step1-image", "dcrrg-step1-text", "dcrrg-step2", "dcrrg-step3"} <= made
    assert len(pd.read_csv(folder / "evaluations.csv")) == 2
