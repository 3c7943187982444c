"""Exported from nbs/12k_variants.ipynb: edit it there, then run `nbdev-export`."""
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import System
from rrg_core.engine.settings import Profile
from rrg_core.learning import OURS, recipe_of
import pytest
import rrg_core.chex as chex_module
from rrg_core.engine.experiments import merged
from rrg_core.engine.settings import profile as load_profile
from rrg_core.chex import *


def test_what_is_declared_needs_neither_torch_nor_transformers():
    import subprocess, sys

    heavy = "torch", "transformers", "torchvision", "torchxrayvision", "scipy", "sklearn", "matplotlib"
    asked = f"import sys, rrg_core.chex; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_training_reaches_what_it_needs_and_no_more():
    from rrg_core.engine.code import reach_of

    def reached(kind):
        settings = merged(chex_module, kind, load_profile("phantom"))
        names = reach_of(SYSTEMS[kind].train, [settings, "phantom"]).hashes
        return {n.rpartition(".")[0] for n in names}, {n.rpartition(".")[2] for n in names}

    modules, names = reached("chex")
    assert {"Chex", "PromptDetector", "ChexTraining", "Lessons", "box_loss"} <= names
    assert not {"ChexSystem", "hint_answers", "report_of", "SupOD", "Answers"} & names
    assert not {"rrg_core.chex.hints", "rrg_core.chex.regions", "rrg_core.chex.ceilings"} & modules
    modules, names = reached("supod")
    assert "BoxDetector" in names and not {"Chex", "CamNet", "Grounder"} & names
    assert "rrg_core.chex.asking" not in modules


def test_every_variant_can_be_made():
    from rrg_core.engine.experiments import Experiment

    for name in ("smoke", "phantom", "mimic"):
        p = load_profile(name)
        for variant in EXPERIMENTS:
            s = merged(chex_module, variant, p)
            model = system_of(s["system"])(s, p).planned()
            assert (model is None) == (s["system"] == "contrastive")
            if name != "phantom" or model is None: continue
            learn = sum(q.numel() for q in model.parameters() if q.requires_grad)
            assert 2 * learn < 6e6, variant # half precision, to be committed
    p = load_profile("phantom")
    of = {v: merged(chex_module, v, p) for v in EXPERIMENTS}
    assert of["no-boxes"]["boxes"] is False and of["chex"]["boxes"] and "boxes" not in of["supod"]
    assert of["twice"]["epochs"] == 2 * of["chex"]["epochs"] and of["supvg"]["towers"] == of["chex"]["towers"]
    assert set(NAMES) <= set(EXPERIMENTS) and MAIN not in ONE_SEED and set(ONE_SEED) <= set(EXPERIMENTS)
    large = merged(chex_module, "chex", load_profile("mimic"))
    assert [s["stage"] for s in large["stages"]] == ["detect", "post", "write"] and large["trained"] == 4
    made = Experiment("chex", "supod", 0, p, None, merged(chex_module, "supod", p), chex_module)
    assert not {"tokens", "boxes_each", "vocab", "tested"} & set(made.learned) # no setting of ChEX
