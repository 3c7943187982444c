"""Exported from nbs/07a_shape_scenes.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass, replace
from functools import cached_property
import numpy as np
from rrg_core.data.study import named
import re, time
import matplotlib.pyplot as plt
import numpy as np, pytest
from rrg_core.engine.desk import set_style
from rrg_core.learning.shape_scenes import *


def test_a_thing_lies_in_its_cell_and_has_its_tone():
    for tone, texture, kind in (("bright", "plain", "circle"), ("dark", "striped", "square"), ("bright", "dotted",
                                                                                               "star")):
        for place in PLACES:
            row, column = divmod(PLACES.index(place), 3)
            t = Thing(kind, place, "large", tone, texture, (column+.5) / 3, (row+.5) / 3)
            with_, without = (draw(things, 96, np.random.default_rng(3)).astype(int) for things in ([t], []))
            changed = np.zeros((3, 3))
            difference = (with_ - without).reshape(3, 32, 3, 32)
            lit = np.abs(difference).mean(
                (1, 3)) > 14 # grain differs by about 8 levels: one more number is drawn before it
            assert lit.sum() == 1 and lit[row, column]
            assert (difference[row, :, column].mean() > 0) == (tone == "bright")
    with pytest.raises(ValueError, match="at least 24"):
        draw([], 20)


def test_shapes_have_their_areas():
    # a large plain bright circle: pi (.95 r)^2 of the image; square (1.6 r)^2; ring 2 pi .75 r * .4 r;
    # triangle 3 sqrt(3) (.55 r)^2; diamond 2 * .6 r^2
    r, size = .135, 320
    expected = {
        "circle": np.pi * (.95 * r)**2, "square": (1.6 * r)**2, "ring": 2 * np.pi * .75 * .4 * r * r,
        "triangle": 3 * 3**.5 * (.55 * r)**2, "diamond": 1.2 * r * r
    }
    for kind, area in expected.items():
        image = draw([Thing(kind, "centre", "large", "bright")], size)
        assert abs((image > 180).mean() / area - 1) < .05, kind # an edge of one pixel is about 3 % of these areas


def test_same_number_same_bytes():
    a, b, other = render(7, 96), render(7, 96), render(8, 96)
    assert (a.image == b.image).all() and a.caption == b.caption and a.things == b.things
    assert a.image.shape != render(7, 64).image.shape and a.caption == render(7, 64).caption
    assert a.caption != other.caption and (a.image != other.image).any()
    train, test = load("train", 30, 32), load("test", 30, 32)
    assert train.images.shape == (30, 32, 32) and train.labels.shape == (30, 14) and len(train) == 30
    for k, boxes in enumerate(train.boxes):
        assert {c
                for c, *_ in boxes} == set(np.flatnonzero(train.labels[k])) and all(
                    0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for _, x0, y0, x1, y1 in boxes)
    assert not set(train.captions) & set(test.captions) and captions("train", 30) == train.captions
    for bad in (lambda: load("dev", 3), lambda: load("train", 0), lambda: load("train", 2_000_000)):
        with pytest.raises(ValueError, match="must"):
            bad()


def test_the_caption_tells_the_classes():
    def classes_said(text): # an independent reading: drop the sentences that deny, look for words
        text = " ".join(s for s in re.split(r"(?<=\.) ", text) if not re.search(r"\b[Nn]o\b", s)).lower()
        return [any(re.search(rf"\b{w}\b", text) for w in WORDS[c]) for c in CLASSES]

    for i in range(300):
        s = render(i, 24)
        assert classes_said(s.caption) == [bool(x) for x in s.labels], s.caption
        assert len({t.place for t in s.things}) == len(s.things) in (1, 2, 3, 4)
        cells = [divmod(PLACES.index(t.place), 3) for t in s.things]
        assert all(
            abs(t.x - (c+.5) / 3) <= .03 and abs(t.y - (r+.5) / 3) <= .03 for t, (r, c) in zip(s.things, cells))


def test_every_class_is_there_and_none_is_always_there():
    share = load("train", 400, 24).labels.mean(0)
    # 2.5 things on average: a kind is in 1 - E[(7/8)^n] = .27 of scenes, a texture in .49, a size or tone in .55
    n = np.arange(1, 5)
    expected = [1 - ((1 - p)**n).mean() for p in [1/8] * 8 + [.3] * 4 + [.25] * 2]
    np.testing.assert_allclose(share, expected, atol=4 * (.25 / 400)**.5) # four standard errors
