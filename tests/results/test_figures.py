"""Exported from nbs/08d_figures.ipynb: edit it there, then run `nbdev-export`."""
import html, textwrap
from collections.abc import Sequence
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from rrg_core.labels import label as label_by_rules
from rrg_core.reports import sentences
from rrg_core.data.study import OBSERVATIONS, Box, Study, named
import io, re
import numpy as np, pytest
from matplotlib.colors import to_hex
from skimage.color import deltaE_ciede2000, rgb2lab
from rrg_core.engine.desk import Chapter, set_style
from rrg_core.phantom import render
from rrg_core.data.study import OBSERVATIONS, Box, Image, Report, Study
from rrg_core.results.figures import *


def test_the_nearest_pair_of_colours_is_far_apart():
    def linear(c):
        return np.where(c <= .04045, c / 12.92, ((c+.055) / 1.055)**2.4)

    def shown(c):
        c = np.clip(c, 0, 1)
        return np.where(c <= .0031308, 12.92 * c, 1.055 * c**(1 / 2.4) - .055)

    def nearest(rgb):
        lab = rgb2lab(rgb[None])[0]
        return deltaE_ciede2000(lab[:, None], lab[None])[np.triu_indices(len(rgb), 1)].min()

    # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    blind = {
        "deuteranopia": [[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]],
        "protanopia": [[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]]
    }
    rgb = np.array([[int(c[i:i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS.values()])
    assert list(COLOURS) == OBSERVATIONS and nearest(rgb) > 15
    for name, matrix in blind.items():
        assert nearest(shown(linear(rgb) @ np.array(matrix).T)) > 9, name
    lightness = rgb2lab(rgb[None])[0][:, 0]
    assert 40 < lightness.min() and lightness.max() < 85

    def contrast(a, b): # WCAG 2
        low, high = sorted(
            np.array([
                linear(np.array([int(c[i:i + 2], 16) / 255 for i in (1, 3, 5)])) @ (.2126, .7152, .0722)
                for c in (a, b)
            ]))
        return (high+.05) / (low+.05)

    assert min(contrast(ink(c), c) for c in COLOURS.values()) > 4.5 # what WCAG asks for small text
    assert colour("Edema") == COLOURS["Edema"] and colour("left lung") == OTHER


def test_a_picture_keeps_its_pixels():
    image = np.arange(2400).reshape(40, 60).astype(np.uint8) # every level several times
    assert (rasterised(lambda ax: show_image(ax, image), 40, 60) == image[..., None]).all()


def test_a_box_lands_on_its_pixels():
    image = np.zeros((40, 60), np.uint8)
    out = rasterised(lambda ax: overlay_boxes(ax, image, [Box("Edema", 10, 5, 50, 30)], names=False), 40, 60)
    lit = np.argwhere(out.sum(2, dtype=int) > 60) # the line is 1.25 dots wide, centred on the box's edge
    assert abs(lit.min(0) - (4.5, 9.5)).max() <= 1 and abs(lit.max(0) - (29.5, 49.5)).max() <= 1
    assert out[17, 30].sum() == 0 and out[2, 2].sum() == 0 # nothing inside, nothing outside


def test_boxes_need_names_and_grey_pixels():
    fig, ax = plt.subplots()
    image = np.zeros((8, 9), np.uint8)
    for bad, words in [(lambda: overlay_boxes(ax, image, [(1, 1, 2, 2)]), "no Box"),
                       (lambda: overlay_boxes(ax, image, [(1, 1, 2, 2)], ["a", "b"]), "2 labels"),
                       (lambda: overlay_boxes(ax, image, [Box("a", 1, 1, 2, 2)], scores=[]), "0 scores"),
                       (lambda: show_image(ax, np.zeros((3, 8, 9), np.uint8)), r"\(3, 8, 9\)"),
                       (lambda: show_image(ax, np.zeros((8, 9))), "float64")]:
        with pytest.raises(ValueError, match=words):
            bad()
    overlay_boxes(ax, image, [(1, 1, 2, 2)], ["Edema"], [.5])
    texts = [t.get_text() for t in ax.texts]
    assert texts == ["Edema 0.50"] and to_hex(ax.patches[0].get_edgecolor()) == COLOURS["Edema"]
    show_image(ax, Image("i", 9, 8, pixels=image))
    assert ax.get_xlim() == (0, 9) and ax.get_ylim() == (8, 0) and ax.get_aspect() == 1
    plt.close(fig)


def test_a_cell_of_a_map_covers_its_pixels():
    image = np.full((40, 60), 80, np.uint8)
    grid = np.zeros((4, 3))
    grid[1, 2] = 1
    out = rasterised(lambda ax: overlay_map(ax, image, grid), 40, 60)
    changed = np.argwhere((out != 80).any(2))
    assert changed.min(0).tolist() == [10, 40] and changed.max(0).tolist() == [19, 59] and len(changed) == 200
    red, green, blue = (255 * np.array(plt.colormaps["inferno"](1.))[:3] * .6 +
                        80*.4).round() # alpha .6 over grey 80
    assert abs(out[15, 50].astype(int) - (red, green, blue)).max() <= 2
    fine = np.argwhere((rasterised(lambda ax: overlay_map(ax, image, grid), 40, 60, dots=4) != 80).any(2))
    assert fine.min(0).tolist() == [40, 160] and fine.max(0).tolist() == [79, 239] # not even half a pixel off
    flat = rasterised(lambda ax: overlay_map(ax, image, np.ones((2, 2))), 40, 60)
    assert (flat == 80).all() # a map without a peak shows nothing
    half = rasterised(lambda ax: overlay_map(ax, image, np.full((2, 2), .5), limits=(0, 1)), 40, 60)
    assert (half != 80).any()
    for bad, words in [(np.zeros((1, 2, 2)), r"\(1, 2, 2\)"), (np.array([[np.nan, 1]]), "finite")]:
        with pytest.raises(ValueError, match=words):
            rasterised(lambda ax: overlay_map(ax, image, bad), 40, 60)


def test_a_strip_has_a_panel_for_each_token():
    fig = attention_strip(np.zeros((20, 20), np.uint8),
                          np.random.default_rng(0).random((10, 3, 3)), [f"w{i}" for i in range(9)] + ["$x"],
                          columns=4)
    titles = [ax.get_title(loc="center") for ax in fig.axes]
    assert len(fig.axes) == 12 and titles == [f"w{i}" for i in range(9)] + [r"\$x", "", ""]
    fig.canvas.draw() # a lone dollar would break mathematics here
    for maps, tokens in ((np.zeros((2, 3, 3)), ["a"]), (np.zeros((0, 3, 3)), []), (np.zeros((3, 3)), ["a"])):
        with pytest.raises(ValueError, match="tokens need maps"):
            attention_strip(np.zeros((20, 20), np.uint8), maps, tokens)


def test_show_study_draws_what_is_there():
    s = render(12, 64).study
    fig = show_study(s, regions=["left lung"])
    assert len(fig.axes[0].patches) == 1 + len(s.boxes) and len(show_study(s, boxes=False).axes[0].patches) == 0
    words = " ".join(" ".join(t.get_text() for t in fig.axes[1].texts).split())
    assert s.report.findings.split(". ")[0] in words
    assert "(no report)" in show_study(Study("a", "p", "phantom", "train", s.images)).axes[1].texts[0].get_text()
    assert "Clear." in show_study(Study("a", "p", "phantom", "train",
                                        report=Report(findings="Clear."))).axes[1].texts[0].get_text()
    with pytest.raises(ValueError, match="neither"):
        show_study(Study("a", "p", "phantom", "train"))
    with pytest.raises(ValueError, match="no region 'nose'"):
        show_study(s, regions=["nose"])


def test_the_same_overlay_gives_the_same_bytes():
    def bytes_of(kind):
        import tempfile
        set_style()
        fig, ax = plt.subplots(figsize=(2, 2))
        s = render(12, 64).study
        overlay_map(ax, s.images[0], np.arange(9.).reshape(3, 3))
        overlay_boxes(ax, s.images[0], s.boxes)
        with tempfile.TemporaryDirectory() as d:
            desk = Chapter("demo", "smoke", root=d)
            desk.figure(fig, "a", kind)
            return desk.path(f"a.{kind}").read_bytes()

    assert bytes_of("svg") == bytes_of("svg") and bytes_of("png") == bytes_of("png")


def test_an_arrow_joins_two_boxes():
    boxes = {"a": ((0, 0), "one", "C0"), "b": ((2, 1), "two", "C1"), "c": ((4, 0), "three", "C2")}
    fig = flow_chart(boxes, [("a", "b"), ("b", "c")], "a title")
    ax, = fig.axes
    said = {t.get_text(): t for t in ax.texts if t.get_text()}
    assert set(said) == {"one", "two", "three"} and ax.get_title(loc="left") == "a title"
    inside = lambda t: ax.get_xlim()[0] < t.get_position()[0] < ax.get_xlim()[1]
    assert all(map(inside, said.values())) and sum(t.arrow_patch is not None for t in ax.texts
                                                  if hasattr(t, "arrow_patch")) == 2
    with pytest.raises(ValueError, match="no box 'd'|no box d"): flow_chart(boxes, [("a", "d")])
    assert not flow_chart({"a": boxes["a"]}, []).axes[0].get_title()


def test_errors_are_what_only_one_report_says():
    reference, hypothesis = ("The heart is enlarged. Small left pleural effusion. No "
                             "pneumothorax."), ("Heart size is normal. Left pleural effusion. There is a right "
                                                "pneumothorax.")
    assert report_errors(reference, hypothesis) == {"Cardiomegaly": "missed", "Pneumothorax": "invented"}
    assert report_errors(reference, reference) == {} == report_errors("", "")
    page = compare_reports(reference, hypothesis).data
    left, right = page.split("Hypothesis")
    assert left.count("outline:") == 1 == right.count(
        "outline:") and "+ Cardiomegaly · missed" in left and "+ Pneumothorax · invented" in right
    assert "− Pneumothorax" in left and f"inset 0 -3px {COLOURS['Pleural Effusion']}" in left
    assert "(empty)" in compare_reports(reference, "").data and "no difference" in compare_reports(
        "Clear.", "Clear.").data


def test_a_report_cannot_write_html():
    evil = ('<script>alert(1)</script> & "quoted" <img src=x onerror=alert(2)>. Pleural effusion <b>is</b> '
            'present.')
    page = compare_reports(evil, evil, label=lambda t: {"Pleural Effusion": 1, '"><script>': 1}).data
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z!?]+)", page))
    assert tags <= {"table", "tr", "td", "b", "br", "span", "p", "em"} and "&lt;script&gt;" in page
    assert not re.search(r"<b>is", page) and not re.search(r"<[^>]*\bonerror", page)


def test_errors_of_results_quote_no_report():
    import pandas as pd
    from dataclasses import replace
    from rrg_core.results import claims, systems, tables
    from rrg_core.results.figures import _as_box
    from rrg_core.tools.house import quoting

    def predictions(**columns):
        both = {"study_id": ["s1", "s2"], "hypothesis": ["a", "b"], "reference": ["a", "b"]}
        return pd.DataFrame(both | columns)

    study = Study("s1", "19999901", "mimic-cxr", "test", report=Report(findings="a"))
    box = Box("heart", 0, 0, 1, 1)
    assert quoting({
        "a study twice": lambda x: systems.aligned(predictions(study_id=[str(x)] * 2)),
        "other studies": lambda x: systems.aligned({0: predictions(), 1: predictions(study_id=["s1", str(x)])}),
        "another reference": lambda x: systems.aligned(
            {0: predictions(), 1: predictions(reference=[str(x), "b"])}),
        "a file": systems.aligned,
        "columns": lambda x: systems.Reports(pd.DataFrame({"study_id": ["s1"], str(x): ["a"]})),
        "a score": lambda x: systems.Measured(np.ones((2, 1))).scorer("measured", [str(x)]),
        "a protocol": lambda x: systems.Measured(np.ones((2, 1))).scorer(str(x), ["measured"]),
        "values": lambda x: systems.Measured(x),
        "a published table": tables.published,
        "a paper": claims.claims,
        "a relation": lambda x: claims.verdict_of(x, 0, 0, 1),
        "a picture": lambda x: show_image(x),
        "a map": lambda x: overlay_map(np.zeros((8, 8), np.uint8), x),
        "a box": lambda x: overlay_boxes(np.zeros((8, 8), np.uint8), [x]),
        "a region": lambda x: show_study(study, regions=[str(x)]),
        "compared": lambda x: compare_reports([[x]], [[x]]),
    }) == []
