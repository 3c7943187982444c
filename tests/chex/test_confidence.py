"""Exported from nbs/12u_confidence.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Sequence
import numpy as np
import torch
from torch import Tensor
from rrg_core.chex.asking import OBSERVED
from rrg_core.chex.contrast import cosines, negated
from rrg_core.chex.model import prompt_of
from rrg_core.chex.systems import Lessons
from rrg_core.chex.tasks import CIG, FINDINGS, TRAINED, VINDR
from rrg_core.chex.writing import said_in
from rrg_core.data.study import REGIONS, named
import pytest
from rrg_core.chex.model import tiny_chex
from rrg_core.chex.confidence import *


def test_prompts_are_familiar_or_not():
    from rrg_core.chex.confidence import Familiar, fifty, read_in, words_in
    from rrg_core.chex.systems import lessons_from, tiny_studies

    texts = read_in(lessons_from(tiny_studies(4)))
    assert {"Edema", "No edema", "Right lung"} <= set(texts) and texts == sorted(set(texts))
    familiar = Familiar(tiny_chex(), texts)
    np.testing.assert_allclose(familiar.known(["Edema", "Giraffe", "Giraffe on the right lung"]), [1, 0, .8])
    np.testing.assert_allclose(familiar.near(["Edema", "Right lung"]), 1, atol=1e-5)
    sure = familiar.confidence(["Edema", "Giraffe"])
    assert sure[0] == pytest.approx(1, abs=1e-5) and sure[1] == 0
    assert familiar.marked(["Edema", "Giraffe"]).tolist() == [False, True]
    inside, outside = fifty(texts)
    assert len(outside) == 50 and len(set(inside)) == len(inside) >= 25 # these texts know no *in*
    assert not familiar.marked(inside).any() and familiar.marked(outside).all()
    for wrong in ("Edema", ["?"], [None]):
        with pytest.raises(ValueError): familiar.confidence(wrong)
    with pytest.raises(ValueError, match="read no text"): Familiar(tiny_chex(), [])
