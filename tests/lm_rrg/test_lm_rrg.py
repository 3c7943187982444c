"""Exported from nbs/14d_variants.ipynb: edit it there, then run `nbdev-export`."""
import shutil
from functools import partial
from importlib import import_module
from pathlib import Path
from rrg_core.engine.code import Registry, weights_hash
from rrg_core.engine.experiments import System, shared
from rrg_core.engine.settings import Profile, data_root, repo_root
from rrg_core.learning import CODE, OURS, RECIPES as SHARED, SYSTEMS as WRITERS, recipe_of
from rrg_core.learning.baselines import micro_f1
import pytest
import pandas as pd
import rrg_core.lm_rrg as lm_rrg_module
from rrg_core.engine.experiments import merged
from rrg_core.engine.settings import profile as load_profile
from rrg_core.lm_rrg import *


def test_variants_are_the_rows_of_table_3():
    from rrg_core.engine.settings import package_root

    published = pd.read_csv(package_root()/"published"/"lm_rrg_table3.csv")
    assert list(ROWS.values()) == published.ablation.tolist() and set(ROWS) | set(ONE_SEED) == set(EXPERIMENTS)
    claims = pd.read_csv(package_root()/"published"/"claims.csv").query("paper == 'lm_rrg'")
    assert set(claims.left) | set(claims.right) <= set(ROWS.values()) and len(claims) == 10
    for p in map(load_profile, ("smoke", "phantom", "openi", "mimic")):
        full = merged(lm_rrg_module, MAIN, p)
        for variant in (v for v in EXPERIMENTS if v != "r2gen"):
            mine = merged(lm_rrg_module, variant, p)
            changed = {k for k in full if full[k] != mine[k]}
            assert changed == set(EXPERIMENTS[variant]), (variant, changed)
    for recipe in RECIPES.values():
        for part in recipe.values():
            assert all(len(v) == 2 and v[1].strip() for v in part.values()) # each value has a source
        assert set(recipe["course"]) == set(recipe["paper"]) and set(recipe["openi"]) <= set(recipe["paper"])
    assert merged(lm_rrg_module, "r2gen", p)["encoder_rate"] == 5e-5 and "reward" not in merged(
        lm_rrg_module, "r2gen", p)


def test_what_is_declared_needs_neither_torch_nor_transformers():
    import subprocess, sys

    heavy = "torch", "transformers", "torchvision", "torchxrayvision", "scipy", "sklearn", "matplotlib"
    asked = f"import sys, rrg_core.lm_rrg as m; m.DEFAULTS; print(*[x for x in {heavy} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_grades_is_part_of_the_key():
    p = load_profile("phantom")
    full, bleu, none = (merged(lm_rrg_module, v, p) for v in ("lm-rrg", "bleu", "no-cqrl"))
    assert set(SYSTEMS["lm_rrg"].needs(full)) == {"standin-phantom-towers", "standin-shapes-llama"}
    assert first_of(full) == first_of(bleu) == first_of(none) and "reward" not in first_of(full)
    assert first_of(full) != first_of(merged(lm_rrg_module, "names", p)) and "graders" not in first_of(full)
    assert "@" in full["graders"]["bertscore"] # the stand-in's bytes
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_ROOT_CHEXBERT", d)
        (Path(d)/"chexbert.pth").write_bytes(b"one")
        one = graders()
        (Path(d)/"chexbert.pth").write_bytes(b"two")
        assert one["chexbert"] != graders()["chexbert"] and one["radgraph"] == "radgraph-standin"
    from rrg_core.lm_rrg import Config, LmRrg, reward_of

    assert LmRrg.config_class is Config and reward_of(9) == 0
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"): lm_rrg_module.Nothing


def test_two_rows_share_a_first_stage():
    import tempfile
    from dataclasses import replace
    from pathlib import Path
    from rrg_core.learning.standins import train_standin

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        d, p = Path(d), replace(load_profile("smoke"), train=10, valid=4, test=5)
        m.setenv("RRG_FIGURES", str(d/"figures"))
        m.setenv("RRG_CACHE", str(d/"cache"))
        for name in ("standin-phantom-towers", "standin-shapes-llama"):
            train_standin(name, p, say=lambda line: None)
        quick = dict(epochs=1, batch=5, rollouts=2, judge_every=1, judged=3, drawn=8, beams=1, tested=1)
        says, folders = [], {}
        for variant in ("lm-rrg", "bleu", "no-cqrl"):
            s = merged(lm_rrg_module, variant, p) | quick
            folders[variant] = d/variant
            folders[variant].mkdir()
            says.append((d/"cache"/"shared").is_dir() and len(list((d/"cache"/"shared").glob("lm-rrg-first-*"))))
            SYSTEMS["lm_rrg"].train(folders[variant], s, 0, p)
            told = SYSTEMS["lm_rrg"].decode(folders[variant], s, 0, p, first=3)
            assert len(told) == 3 and told.study_id.is_unique
            assert told["RadCliQ-standin"].notna().all() and (told.significant <= told.errors).all()
        assert says[1:] == [1, 1] and len(list((d/"cache"/"shared").glob("lm-rrg-first-*"))) == 1
        weights = {v: (f/"model.safetensors").read_bytes() for v, f in folders.items()}
        first = first_stage(s, 0, p, str)
        assert weights["no-cqrl"] == (first/"model.safetensors").read_bytes()
        assert pd.read_csv(folders["lm-rrg"]/"evaluations.csv").step.tolist() == [0, 4, 8]
