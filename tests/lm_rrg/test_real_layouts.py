"""LM-RRG's two stages from nothing on a miniature of MIMIC-CXR in its real layout, by the paper's recipe."""
from dataclasses import replace

import pandas as pd
import pytest

import rrg_core.lm_rrg as lm_rrg
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


def test_two_stages_by_the_paper_s_recipe(tmp_path, monkeypatch):
    mimic(tmp_path / "mimic")
    for name, value in dict(RRG_ROOT_MIMIC_CXR="mimic", RRG_FIGURES="figures", RRG_CACHE="cache").items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("RRG_ROOT_WEIGHTS", raising=False)
    p = replace(profile("smoke"), data="mimic-cxr", train=12, valid=4, test=6, image_size=64, epochs=2)
    for name in ("standin-phantom-towers", "standin-shapes-llama"): train_standin(name, p, say=str)
    settings = merged(lm_rrg, "lm-rrg", p) | dict(judged=2, keep="last")
    assert settings["size"] == "paper" and settings["encoder_rate"] == 1e-5 and settings["lora"] == 16
    assert settings["vocabulary"] == "the language model's" and settings["rollouts"] == 1
    system, folder = lm_rrg.SYSTEMS["lm_rrg"], tmp_path / "model"
    folder.mkdir()
    system.train(folder, {k: v for k, v in settings.items() if k not in system.decoding}, 0, p)
    told = system.decode(folder, settings, 0, p)
    assert len(told) == 6 and told.study_id.is_unique and told.reference.str.len().min() > 0
    assert told["RadCliQ-standin"].notna().all() and "errors" not in told # no scene is known
    made = [f.name.rpartition("-")[0] for f in (tmp_path / "cache" / "shared").iterdir()]
    assert made.count("lm-rrg-first") == 1 and "images-train" in made
    seen = pd.read_csv(folder / "evaluations.csv")
    assert len(seen) == 2 and {"training reward", "drawn kl"} <= set(seen)
