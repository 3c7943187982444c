"""Exported from nbs/12v_demo.ipynb: edit it there, then run `nbdev-export`."""
import textwrap
from collections.abc import Sequence
from functools import partial
import matplotlib.pyplot as plt
import numpy as np
from rrg_core.chex.confidence import Familiar
from rrg_core.chex.model import Answer, Chex, prompt_of
from rrg_core.data.study import OBSERVATIONS
from rrg_core.engine.desk import is_static
from rrg_core.results.figures import colour, ink, overlay_boxes
import numpy as np, pytest
from rrg_core.chex.model import tiny_chex
from rrg_core.chex.demo import *


def test_a_question_is_answered_and_drawn():
    from rrg_core.chex.confidence import Familiar
    from rrg_core.chex.demo import answered, demo, drawn, marks

    model, image = tiny_chex(inside=True), np.full((64, 64), 90, np.uint8)
    familiar = Familiar(model, ["Edema", "No edema", "Heart"])
    answer, words = answered(model, image, " Edema ", familiar=familiar)
    assert answer.prompt == "Edema" and "confidence 1.00]" in words
    assert "never read" in answered(model, image, "Giraffe", familiar=familiar)[1]
    box = answered(model, image, box=(8, 8, 40, 40), familiar=familiar)[0]
    assert box.prompt is None and len(drawn(image, box, "a box").axes) == 1
    both, _ = answered(model, image, "Edema", (8, 8, 40, 40))
    assert [m["label"] for m in marks(both)] == ["Edema"] and len(both.boxes) == 1
    np.testing.assert_allclose(marks(both)[0]["box"], (8, 8, 40, 40), atol=1e-4) # shares and back, float32
    with pytest.raises(ValueError, match="ask for something"): answered(model, image, "  ")


def test_weak_boxes_stay_away_but_for_the_best():
    from rrg_core.chex.demo import drawn, marks
    from rrg_core.chex.model import Answer
    from rrg_core.results.figures import OTHER, colour

    def answer(*scores, prompt="Pleural effusion"):
        return Answer(prompt, "", np.tile([1., 2, 3, 4], (len(scores), 1)), np.array(scores), {}, 0.)

    assert [m["label"] for m in marks(answer(.9, .3, .01))] == ["Pleural Effusion 0.90", "Pleural Effusion 0.30"]
    assert [m["label"] for m in marks(answer(.02, .01))] == ["Pleural Effusion 0.02"]
    assert marks(answer(.9))[0]["colour"] == colour("Pleural Effusion") != OTHER
    assert marks(answer(.9, prompt="Left lung"))[0] == dict(box=[1, 2, 3, 4], label="Left lung 0.90",
                                                            colour=OTHER, ink="#000000")
    assert [m["label"] for m in marks(answer(np.nan, prompt=None))] == ["the box"]
    film = drawn(np.zeros((8, 8), np.uint8), answer(.9, .3, .01), "word " * 40).axes[0]
    assert len(film.patches) == 2 and max(map(len, film.get_title().splitlines())) <= 60


def test_where_somebody_watches_a_box_is_drawn():
    from rrg_core.chex.demo import demo

    model = tiny_chex(inside=True)
    films = [np.full((64, 64), 90, np.uint8), np.full((64, 96), 90, np.uint8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_STATIC", "1")
        assert demo(model, films, "Edema").axes
        for name in ("RRG_STATIC", "IN_TEST", "CI"): patch.delenv(name, raising=False)
        controls = demo(model, films, "Edema")
    label = lambda: controls.canvas.marks[0]["label"]
    assert label().startswith("Edema 0.") and controls.canvas.size == [64, 64]
    controls.prompt.value = "Heart" # answers at once
    assert label().startswith("Heart 0.") and controls.canvas.words
    controls.canvas.box = [8, 8, 40, 40]
    assert label() == "Heart" and len(controls.canvas.marks) == 1
    controls.prompt.value = ""
    assert label() == "the box"
    controls.canvas.box = []
    assert controls.canvas.marks == [] and "ask for something" in controls.said.value
    controls.prompt.value, controls.film.value = "Heart", 1
    assert controls.canvas.size == [96, 64] and label().startswith("Heart 0.")
