"""Exported from nbs/11e_variants.ipynb: edit it there, then run `nbdev-export`."""
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import System
from rrg_core.engine.settings import Profile
from rrg_core.learning import CODE, OURS, RECIPES as SHARED, SYSTEMS as WRITERS, recipe_of
from rrg_core.learning.baselines import micro_f1
import rrg_core.fita as fita_module
from rrg_core.engine.experiments import merged
from rrg_core.engine.settings import profile as load_profile
from rrg_core.fita import *


def test_what_is_declared_needs_neither_torch_nor_transformers():
    import subprocess, sys

    heavy = "torch", "transformers", "torchvision", "torchxrayvision", "scipy", "sklearn", "matplotlib"
    for chapter in ("learning", "fita"):
        asked = f"import sys, rrg_core.{chapter}; print(*[m for m in {heavy} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [], chapter
