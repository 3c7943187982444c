"""The demo of ChEX in JupyterLab: a prompt is typed and a box is drawn with the mouse, and the page answers.

The model is the smallest there is, taught in the notebook what to say to a prompt and to a box. `pytest -s` prints the times.
"""
import base64
import io
import time

import nbformat
import numpy as np
from PIL import Image

from rrg_core.engine.run import stderr_lines, strip_widgets

CELLS = ["""
import torch
from rrg_core.chex.confidence import Familiar
from rrg_core.chex.demo import demo
from rrg_core.chex.model import tiny_chex
from rrg_core.chex.sentences import text_ids, text_loss
from rrg_core.phantom import render
films = [render(seed, 96).image for seed in (3, 4)]
model = tiny_chex(inside=True)
""", """
torch.manual_seed(0)
corner = torch.rand(24, 2) * .4 + .3
boxes = torch.full((2, 26, 4), torch.nan)
boxes[:, 2:] = torch.cat([corner, torch.rand(24, 2) * .4 + .2], 1)
with torch.no_grad():
    seen = model.see(pixels=torch.stack([torch.from_numpy(f) for f in films])[:, None])
    tokens = model.answer_tokens(seen, ["Edema", "Heart", *[None] * 24], boxes)[2].flatten(0, 1)[:, None]
texts = text_ids(model.words, 2 * ["Edema.", "No edema.", *["A box."] * 24], 24)
learn = torch.optim.Adam(model.writer.parameters(), 5e-3)
for step in range(150):
    loss = text_loss(model.writer, tokens, texts)
    learn.zero_grad(); loss.backward(); learn.step()
""", """
controls = demo(model, films, "Edema", Familiar(model, ["Edema", "No edema", "Heart"]))
controls
"""]

def picture(page):
    "The canvas as the browser shows it, (h, w, 3)."
    url = page.eval_on_selector(".rrg-canvas", "canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)

def asked_box(picture):
    "Edges of the yellow dashes, x0, y0, x1, y1 as shares of the film; None where there are none."
    rows, columns = np.nonzero(abs(picture - (255, 212, 0)).max(-1) < 40)
    if not len(rows): return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / len(picture)

def becomes(page, holds, seconds=20):
    "Wait until the picture is as `holds` wants it, and return it."
    end = time.time() + seconds
    while not holds(now := picture(page)):
        if time.time() > end: raise AssertionError(f"the film never showed it; the box is {asked_box(now)}")
        time.sleep(.1)
    return now

def answer(page, expected, question):
    "Do what asks; the sentence once it holds `expected`, and after how many milliseconds: on the page, in the kernel."
    started = time.perf_counter()
    question()
    page.wait_for_function("text => document.querySelector('.rrg-said')?.innerText.includes(text)", arg=expected,
                           timeout=60_000)
    page_ms, said = 1000 * (time.perf_counter() - started), page.locator(".rrg-said")
    kernel_ms = float(said.locator("xpath=following-sibling::p").inner_text().removesuffix(" ms"))
    print(f"{expected!r}: {page_ms:.0f} ms until the page says it, {kernel_ms:.0f} ms of these in the kernel")
    return said.inner_text(), kernel_ms

def typed(page, prompt):
    field = page.locator(".widget-text input[type=text]").first
    field.fill(prompt)
    field.press("Enter")

def pulled(page, x0, y0, x1, y1):
    "Draw a box with the mouse, corners as shares of the film."
    area = page.locator(".rrg-canvas").bounding_box()
    at = lambda x, y: (area["x"] + x * area["width"], area["y"] + y * area["height"])
    page.mouse.move(*at(x0, y0))
    page.mouse.down()
    page.mouse.move(*at(x1, y1), steps=4)
    page.mouse.up()

def opened(lab, page):
    "The notebook, run in JupyterLab; the demo is there."
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c.strip()) for c in CELLS])
    nb.metadata.kernelspec = dict(name="python3", display_name="python3", language="python")
    nbformat.write(nb, lab.folder / "nbs" / "demo.ipynb")
    lab.open(page, "demo")
    lab.run_all(page)
    page.wait_for_selector(".rrg-said", timeout=240_000)
    page.locator(".rrg-canvas").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.rrg-canvas').height == 480") # a square film is there
    return lab.folder / "nbs" / "demo.ipynb"

def test_a_prompt_is_typed_and_a_box_is_drawn(lab, page):
    path = opened(lab, page)
    first, _ = answer(page, "Edema.", lambda: None)
    assert "confidence 1.00" in first and "No edema." not in first
    edema = picture(page)
    assert edema.std() > 20 and asked_box(edema) is None # a radiograph, and no box of the reader's

    _, took = answer(page, "No edema.", lambda: typed(page, "Heart"))
    heart, times = picture(page), [took]
    assert (abs(edema - heart) > 32).any() # other boxes, another name
    answer(page, "ask for something", lambda: typed(page, ""))

    first_box, second_box = (.25, .25, .5, .75), (.6, .5, .9, .9)
    times += [answer(page, "A box.", lambda: pulled(page, *first_box))[1]]
    one = picture(page)
    np.testing.assert_allclose(asked_box(one), first_box, atol=1 / 96) # whole pixels of the film, lines two wide
    assert page.locator(".widget-checkbox input").is_checked()
    assert [r.inner_text() for r in page.locator(".widget-readout").all()][1:] == ["24 – 48", "24 – 72"]
    assert page.locator(".rrg-canvas").get_attribute("aria-label") == "A box."

    answer(page, "ask for something", lambda: page.locator(".rrg-canvas").click(position=dict(x=20, y=20)))
    assert asked_box(picture(page)) is None # a click takes the box away
    answer(page, "A box.", lambda: pulled(page, *second_box))
    np.testing.assert_allclose(asked_box(picture(page)), second_box, atol=1 / 96)

    page.locator(".noUi-handle").nth(2).focus() # behind that of the film and of the left edge: the right edge
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelectorAll('.widget-readout')[1].innerText == '58 – 85'")
    becomes(page, lambda now: np.allclose(asked_box(now), np.array([58, 48, 85, 86]) / 96, atol=.5 / 96))
    typed(page, "Heart")
    page.wait_for_function("document.querySelector('.rrg-said').innerText.includes('confidence')")
    page.shot("demo")

    page.locator(".rrg-canvas").focus()
    page.keyboard.press("Escape")
    becomes(page, lambda now: (abs(now - heart) <= 2).all()) # as it was without a box
    assert min(times) < 300 # the machine may do something else meanwhile

    page.keyboard.press("Control+s")
    time.sleep(3)
    saved = nbformat.read(path, as_version=4)
    assert not [o for c in saved.cells for o in c.outputs if o.output_type == "error"] and stderr_lines(saved) == []
    assert strip_widgets(saved) and "rrg-said" not in nbformat.writes(saved)
