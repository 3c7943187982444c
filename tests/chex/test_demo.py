"""Exported from nbs/12v_demo.ipynb: edit it there, then run `nbdev-export`."""
import time
from collections.abc import Sequence
import matplotlib.pyplot as plt
import numpy as np
from rrg_core.chex.confidence import Familiar
from rrg_core.chex.model import Answer, Chex
from rrg_core.engine.desk import is_static
from rrg_core.results.figures import overlay_boxes
import numpy as np, pytest
from rrg_core.chex.model import tiny_chex
from rrg_core.chex.demo import *


def test_a_question_is_answered_and_drawn():
    from rrg_core.chex.confidence import Familiar
    from rrg_core.chex.demo import answered, demo, drawn

    model, image = tiny_chex(inside=True), np.full((64, 64), 90, np.uint8)
    familiar = Familiar(model, ["Edema", "No edema", "Heart"])
    answer, words = answered(model, image, " Edema ", familiar=familiar)
    assert answer.prompt == "Edema" and "confidence 1.00]" in words
    assert "never read" in answered(model, image, "Giraffe", familiar=familiar)[1]
    box = answered(model, image, box=(8, 8, 40, 40), familiar=familiar)[0]
    assert box.prompt is None and len(drawn(image, box, "a box").axes) == 1
    assert answered(model, image, "Edema", (8, 8, 40, 40))[0].boxes.shape == (1, 4)
    with pytest.raises(ValueError, match="ask for something"): answered(model, image, "  ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_STATIC", "1")
        assert demo(model, [image], "Edema", familiar).axes
        for name in ("RRG_STATIC", "IN_TEST", "CI"): patch.delenv(name, raising=False)
        controls = demo(model, [image, image], "Edema", familiar)
        assert [c.description for c in controls.children[:3]] == ["film", "prompt", "box"]
        controls.children[1].value = "Heart" # answers at once
