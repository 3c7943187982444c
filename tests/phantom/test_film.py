"""Exported from nbs/02g_film.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass, fields, replace
import numpy as np
from rrg_core.data.study import named
from rrg_core.phantom.anatomy import Anatomy
from rrg_core.phantom.canvas import Canvas, curve, gaussian_filter, lowpass, stroke
from rrg_core.phantom.scene import stream
import pytest, numpy as np, matplotlib.pyplot as plt
from rrg_core.phantom.film import *


def test_photograph_is_monotone_and_noise_follows_the_dose():
    wedge = np.linspace(.1, 1.1, 256, dtype="f4")[None].repeat(256, 0)
    body = np.full_like(wedge, .8)
    lungs = np.full_like(wedge, .3)
    lungs[:, ::2] = 0
    clean = photograph(wedge, body, lungs, Look(dose=0., edge=0., compress=0.), stream(0, "noise")).astype(int)
    assert (np.diff(clean.mean(0)) >= 0).all() and clean[0, -1] > clean[0, 0] + 60
    from rrg_core.phantom.film import _curve

    look = Look(dose=.01, edge=0., compress=0., scatter=0., blur=.0001, gamma=1., low=2., high=2.)
    grain = lambda z: photograph(np.full((256, 256), z, "f4"), body, lungs, look, stream(0, "noise")).std()
    assert abs(grain(1.) / grain(.5) - np.exp(3.1 * .5 / 2)) < .12


def test_stamp_stays_inside():
    for place in ((0., 0.), (1., 1.)):
        image = stamp(np.zeros((64, 64), "u1"),
                      Look(marker="R", place=place, boxed=True, words="BED", collimation=(.1, 0, 0, .1)),
                      stream(0, "stamp"))
        assert image.max() == 240 and image.shape == (64, 64)
    with pytest.raises(ValueError, match="no 'contrast'"):
        sample_look(stream(0, "look"), contrast=1)
    assert sample_look(stream(0, "look"), marker="L", low=.3).low == .3
