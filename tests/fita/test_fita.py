"""Exported from nbs/11e_variants.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import replace
from rrg_core.engine.code import Registry
from rrg_core.engine.experiments import System
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning import DEFAULTS as R2GEN, decode_r2gen, train_r2gen
from rrg_core.learning.baselines import micro_f1
from rrg_core.learning.published import chosen, standins_among
import pytest
import rrg_core.fita as fita_module
from rrg_core.engine.experiments import merged
from rrg_core.engine.settings import CourseError, profile as load_profile
from rrg_core.fita import *


def test_twice_the_studies_are_twice_the_training_set():
    from dataclasses import replace

    p = load_profile("smoke")
    assert widened({"times_data": 1}, p) is p
    assert widened({"times_data": 2}, p) == replace(p, train=2*p.train)
    with pytest.raises(CourseError, match="trains on all studies: there are no 2 times as many"):
        widened({"times_data": 2}, load_profile("mimic"))


def test_what_is_declared_needs_neither_torch_nor_transformers():
    import subprocess, sys

    heavy = "torch", "transformers", "torchvision", "torchxrayvision", "scipy", "sklearn", "matplotlib"
    for chapter in ("learning", "fita"):
        asked = f"import sys, rrg_core.{chapter}; print(*[m for m in {heavy} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [], chapter
