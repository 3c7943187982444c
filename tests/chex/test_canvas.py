"""Exported from nbs/12w_canvas.ipynb: edit it there, then run `nbdev-export`."""
import base64, html, io, time
from collections.abc import Callable, Sequence
import anywidget
import ipywidgets as w
import numpy as np
from fastcore.basics import patch
from PIL import Image as Picture
from traitlets import List, Unicode
import re
import numpy as np, pytest
from rrg_core.chex.canvas import *


def test_a_film_reaches_the_browser_as_it_is():
    import base64, io
    from PIL import Image as Picture
    from rrg_core.chex.canvas import Canvas

    canvas, image = Canvas(), np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8)
    canvas.marks = [dict(box=[0, 0, 8, 8], label="Edema", colour="#ffffff", ink="#000000")]
    canvas.show(image)
    head, _, data = canvas.film.partition(",")
    assert head == "data:image/png;base64" and canvas.size == [64, 48] and canvas.marks == []
    np.testing.assert_array_equal(np.asarray(Picture.open(io.BytesIO(base64.b64decode(data)))), image)
    for wrong in (image.astype(float), image[0], np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"): canvas.show(wrong)


def test_the_script_asks_for_traits_that_there_are():
    import re
    from rrg_core.chex.canvas import SCRIPT, Canvas

    asked = set(re.findall(r'model\.[gs]et\("(\w+)"', SCRIPT)) | set(re.findall(r'"change:(\w+)"', SCRIPT))
    listed, = re.findall(r"for \(const name of \[(.*?)\]\)", SCRIPT)
    own = {name for name in Canvas.class_traits(sync=True) if name in vars(Canvas)} - {"_esm", "_css"}
    assert asked | set(re.findall(r"\w+", listed)) == own == {"film", "size", "box", "marks", "words"}


def test_a_box_is_one_question_wherever_it_is_drawn():
    from rrg_core.chex.canvas import Controls

    asked = []
    def ask(image, prompt, box):
        asked.append((image.shape, prompt, box))
        if not prompt and not box: raise ValueError("ask for <something>")
        return [dict(box=box or [1, 2, 3, 4], label=prompt, colour="#ffffff", ink="#000000")], f"<{prompt}>"

    controls = Controls([np.zeros((60, 80), np.uint8), np.zeros((20, 40), np.uint8)], ask, "Edema")
    assert asked == [((60, 80), "Edema", None)] and "&lt;Edema&gt;" in controls.said.value
    controls.canvas.box = [4, 5, 60, 50] # as the mouse does
    assert asked[1:] == [((60, 80), "Edema", [4, 5, 60, 50])] and controls.boxed.value
    assert [side.value for side in controls.sides] == [(4, 60), (5, 50)]
    assert controls.canvas.marks[0]["box"] == [4, 5, 60, 50]
    controls.canvas.box = [8, 9, 30, 40] # both sliders move, and one question is asked
    assert asked[2:] == [((60, 80), "Edema", [8, 9, 30, 40])]
    controls.sides[0].value = (10, 20)
    assert asked[3:] == [((60, 80), "Edema", [10, 9, 20, 40])] and controls.canvas.box == [10, 9, 20, 40]
    controls.prompt.value = ""
    assert asked[4:] == [((60, 80), "", [10, 9, 20, 40])]
    controls.film.value = 1 # a smaller film: the box lies outside of it
    assert asked[5:] == [((20, 40), "", None)] and [side.max for side in controls.sides] == [40, 20]
    assert controls.canvas.marks == [] and "ask for &lt;something&gt;" in controls.said.value
    controls.sides[1].value = (2, 9) # nobody asks about a box
    assert len(asked) == 6
    controls.boxed.value = True
    assert asked[6:] == [((20, 40), "", [10, 2, 20, 9])]
    controls.boxed.value = False
    assert asked[7:] == [((20, 40), "", None)]
