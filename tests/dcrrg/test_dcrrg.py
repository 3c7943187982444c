"""Exported from nbs/13f_variants.ipynb: edit it there, then run `nbdev-export`."""
from importlib import import_module
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import System
from rrg_core.engine.settings import Profile
from rrg_core.learning import CODE, OURS, RECIPES as SHARED, SYSTEMS as WRITERS, recipe_of
from rrg_core.learning.baselines import micro_f1
import pandas as pd
import pytest
import rrg_core.dcrrg as dcrrg_module
from rrg_core.engine.experiments import merged
from rrg_core.engine.settings import profile as load_profile
from rrg_core.dcrrg import *


def test_both_recipes_have_the_same_settings_and_each_a_source():
    for system, recipes in dcrrg_module.RECIPES.items():
        assert set(recipes["course"]) == set(recipes["paper"]), system
        assert set(recipes.get("openi", ())) <= set(recipes["paper"])
        for recipe in recipes.values():
            for name, (value, source) in recipe.items(): assert isinstance(source, str) and source, name
    recipes = dcrrg_module.RECIPES["dcrrg"]
    assert recipes["paper"]["rate1"][0] == recipes["paper"]["rate3"][0] == 1e-4 # appendix A
    assert [recipes["paper"][k][0] for k in ("batch1", "batch3", "beams")] == [32, 16, 3]
    p = load_profile("phantom")
    assert merged(dcrrg_module, "6", p)["encoder"] == "standin-shapes-resnet" # where nothing is published
    writer, towers = (dcrrg_module.DEFAULTS(p, s) for s in ("dcrrg", "towers"))
    shared = set(writer) & set(towers) - {"system"} # so that both find the same steps 1 and 2
    assert len(shared) > 20 and all(writer[k] == towers[k] for k in shared)
    small = dcrrg_module.DEFAULTS(load_profile("smoke"))
    assert [small[k] for k in ("epochs1", "epochs2", "epochs3", "epochs")] == [1] * 4


def test_what_is_declared_needs_neither_torch_nor_transformers():
    import subprocess, sys

    heavy = "torch", "transformers", "torchvision", "torchxrayvision", "scipy", "sklearn", "matplotlib", "peft"
    asked = f"import sys, rrg_core.dcrrg; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_variants_are_the_paper_s_rows():
    from importlib.resources import files

    p = load_profile("phantom")
    paper = lambda stem: pd.read_csv(files("rrg_core") / "published" / f"dcrrg_{stem}.csv", dtype=str)
    for r in paper("table4").itertuples():
        s = merged(dcrrg_module, r.model, p)
        assert (r.step1 == "yes") == s["step1"] and (r.step2 == "yes") == (s["matching"] == "calibrated")
        assert (r.step3 == "yes") == s["step3"] and {"PT": "prompt", "FFT": "full"}[r.step4] == s["tuning"]
        assert (s["encoder_rate"] is None) == (s["tuning"] == "prompt") # frozen or not
    for r in paper("table5").itertuples():
        s = merged(dcrrg_module, dcrrg_module.ROWS["table5"][r.model], p)
        assert (r.balancing == "yes") == s["balanced"] and (r.extra_data == "yes") == (s["extra"] == "registry")
    assert set(dcrrg_module.ROWS["table1"]) <= set(paper("table1").model)
    assert set(dcrrg_module.ROWS["table2"]) == set(paper("table2").model)
    for row, tower in dcrrg_module.ROWS["table6"].items(): # the towers that the report writers begin with
        writer = merged(dcrrg_module, dcrrg_module.ROWS["table5"][row], p)
        mine = merged(dcrrg_module, tower, p)
        assert all(mine[k] == writer[k] for k in set(mine) & set(writer) - {"system"})
    every = set(dcrrg_module.EXPERIMENTS)
    assert set(dcrrg_module.ONE_SEED) < every and dcrrg_module.MAIN in every
    assert {v for rows in dcrrg_module.ROWS.values() for v in rows.values()} <= every
    for v in every: # each has its system's defaults, and a system that can be asked
        assert merged(dcrrg_module, v, p)["system"] in dcrrg_module.SYSTEMS


def test_public_names_come_when_they_are_asked_for():
    from rrg_core.dcrrg import Config, Dcclip, Dcrrg

    assert Dcrrg.config_class is Config and Config.model_type == "rrg_dcrrg"
    assert Dcclip.main_input_name == "pixels"
    assert "calibrated" in dcrrg_module.LOSSES
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"): dcrrg_module.Nothing


def test_the_recipe_card_is_of_the_paper_s_size():
    from dataclasses import replace
    from rrg_core.engine.settings import CourseError
    from rrg_core.learning.recipe_cards import planned, recipe_card

    p = load_profile("mimic")
    for variant, learning in (("6", 40_960), ("7", None)):
        settings = merged(dcrrg_module, variant, p)
        model = planned(dcrrg_module.system_of("dcrrg")(settings, p), "imagenet-resnet50")
        assert model.device.type == "meta" and model.config.eyes["depth"] == 50
        learned = sum(q.numel() for q in model.parameters() if q.requires_grad)
        assert learned == (learning or sum(
            q.numel() for n, q in model.named_parameters() if not n.startswith(("classifier.", "questions."))))
    card = recipe_card("dcrrg", "6", p)
    assert "40,960 of" in card and "DCRRG, appendix A" in card
    card = recipe_card("dcrrg", "tuned-6", p)
    assert "23,518,277 of 23,518,277 parameters learn" in card and "GLoRIA's code" in card
    for variant in ("tower-6", "tower-clip"):
        with pytest.raises(CourseError, match="learns nothing"): recipe_card("dcrrg", variant, p)


def test_rows_share_the_steps_that_they_begin_with():
    import tempfile
    from dataclasses import replace
    from pathlib import Path
    from rrg_core.learning.standins import train_standin

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d + "/figures")
        m.setenv("RRG_CACHE", d + "/cache")
        p = replace(load_profile("smoke"), train=24, valid=4, test=4, image_size=64)
        for name in ("standin-shapes-resnet", "standin-phantom-bert"): train_standin(name, p, say=str)
        def made(variant): # shared artifacts after a variant was trained, by their step
            settings = merged(dcrrg_module, variant, p) | {f"epochs{k}": 1 for k in (1, 2, 3)} | {"judged": 2}
            system, folder = dcrrg_module.SYSTEMS["dcrrg"], Path(d, variant)
            folder.mkdir()
            system.train(folder, {k: v for k, v in settings.items() if k not in system.decoding}, 0, p)
            told = system.decode(folder, settings, 0, p, first=3)
            assert len(told) == 3 and set(told) == {"study_id", "hypothesis", "reference"}
            names = [f.name for f in Path(d, "cache", "shared").iterdir() if f.name.startswith("dcrrg-step")]
            return [sum(n.startswith(f"dcrrg-step{k}") for n in names) for k in ("1-image", "1-text", "2", "3")]
        assert made("6") == [1, 1, 1, 1]
        assert made("7") == [1, 1, 1, 1] # all of it shared
        assert made("6d") == [2, 1, 2, 2] # other films, the same texts
