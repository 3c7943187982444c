"""Exported from nbs/02b_canvas.ipynb: edit it there, then run `nbdev-export`."""
import math
from functools import cache, cached_property, update_wrapper
from types import FunctionType
import numpy as np
from fastcore.basics import patch
from rrg_core.phantom.scene import Pose
import pytest, numpy as np, matplotlib.pyplot as plt
from rrg_core.phantom.scene import Pose, stream
from rrg_core.phantom.canvas import *


def test_compiled_functions_are_their_python():
    @compiled
    def half(x):
        return x / 2

    @ufunc
    def cube(x):
        return x * x * x

    assert "fast" not in vars(half) # nothing is compiled yet
    for x in (0., 1., -3.5, 1e300):
        assert half(x) == x / 2 == half.function(x)
    assert "fast" in vars(half)
    for dtype in ("f4", "f8"):
        for shape in ((), (1, ), (0, ), (3, 4), (2, 3, 4)):
            x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
            assert cube(x).dtype == dtype and cube(x).shape == shape and np.array_equal(cube(x), x * x * x)
            for f, low, high in ((step, 0, 1), (dome, 0, 1)):
                y = f(np.concatenate([np.ravel(x) * 3, [-1, 0, 1, 2]]).astype(dtype))
                assert y.dtype == dtype and y.min() == low and y.max() == high
    assert step.__name__ == "step" and step.__doc__ == "Smoothstep."


def test_canvas_maps_there_and_back():
    canvas = Canvas(400, Pose(angle=4., zoom=(.9, 1.1), shift=(.03, -.02)))
    points = stream(0, "points").uniform(.3, .7, (50, 2))
    x, y = (canvas.forward(points) * 400).astype(int).T
    back = np.stack([canvas.u[y, x], canvas.v[y, x]], 1)
    assert abs(back - points).max() < 1 / 400 / .9
    rows, columns = canvas.window(.4, .4, .6, .5)
    inside = (canvas.u > .4) & (canvas.u < .6) & (canvas.v > .4) & (canvas.v < .5)
    assert inside.sum() == inside[rows, columns].sum() > 500


def test_stroke_height_is_the_chord():
    for size in (224, 512):
        canvas = Canvas(size)
        line = np.array([[[.2, .5], [.5, .5], [.8, .5]]])
        image = stroke(canvas, None, line, .05, 3.)
        assert abs(image[size//2 - 2:size//2 + 2, size // 2].mean() - 2*3*.05) < .012
        assert abs(image.sum() / size**2 - 3 * np.pi * .05**2 * .6) < .001


def test_a_point_is_shared_by_four_pixels():
    from rrg_core.phantom.canvas import _drop

    image = np.zeros((8, 8))
    _drop(image, 3.5, 2.25, 1.)
    np.testing.assert_allclose(image[2:4, 3:5], [[.375, .375], [.125, .125]])
    _drop(image, -3., 2., 1.)
    _drop(image, 7.5, 2., 1.) # outside
    assert image.sum() == 1


def test_noise_has_unit_variance_and_one_texture_for_all_sizes():
    fields = [noise(Canvas(size), stream(3, "texture"), .05) for size in (128, 512)]
    assert abs(fields[1].std() - 1) < .12
    small = fields[1].reshape(128, 4, 128, 4).mean((1, 3))
    assert np.corrcoef(small.ravel(), fields[0].ravel())[0, 1] > .995
    part = noise(Canvas(128), stream(3, "texture"), .05, slice(10, 30), slice(5, 9))
    np.testing.assert_allclose(part, fields[0][10:30, 5:9], atol=1e-5)


def test_lowpass_matches_the_direct_blur():
    from scipy.ndimage import gaussian_filter

    image = noise(Canvas(224), stream(5, "texture"), .1)
    assert abs(lowpass(image, .1) - gaussian_filter(image, 22.4, mode="nearest"))[
        45:-45, 45:-45].max() < .15 # the field spans -4 to 4; a cell is .4 sigma wide
    assert abs(lowpass(np.ones((100, 100), "f4"), .1) - 1).max() < 1e-5
