"""Exported from nbs/02d_organs.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
import numpy as np
from rrg_core.phantom.anatomy import Anatomy, clavicle_axis, ribs, snapped
from rrg_core.phantom.canvas import Canvas, bins, compiled, dome, fractal, knots, length, interpolated, noise, step, stroke
from rrg_core.phantom.scene import stream
import pytest, numpy as np, matplotlib.pyplot as plt
from rrg_core.phantom.anatomy import Anatomy
from rrg_core.phantom.canvas import Canvas
from rrg_core.phantom.scene import Pose, sample_scene
from rrg_core.phantom.organs import *


def test_air_fills_the_outline():
    from matplotlib.path import Path as Outline

    scene = sample_scene(4, only=(), spread=0.)
    a, canvas = Anatomy(scene), Canvas(256, Pose())
    for side, sign in (("right", -1), ("left", 1)):
        x = air(a, canvas, side)
        lung = a.lungs[side]
        full = np.zeros((256, 256))
        full[x.window] = x.inside
        rows, columns = np.nonzero(full > .5)
        assert abs(rows.min() / 256 - lung.apex) < .012
        far = abs(columns/256 - .5).max()
        assert abs(far - lung.width) < .015


def test_heart_width_follows_its_severity():
    for i in range(30):
        scene = sample_scene(i, spread=0.)
        a, canvas = Anatomy(scene), Canvas(512, Pose())
        m = mediastinum(a, canvas)
        below = canvas.v > a.carina + .3 * (a.heart_bottom - a.carina)
        below &= canvas.v < a.heart_bottom - .05
        span = np.ptp(canvas.u[below & (m > .3)])
        assert abs(span - a.ctr * a.thorax * .985) < .03


def test_organs_are_the_same_with_and_without_a_lung_finding():
    scene = sample_scene(8)
    clear = scene.without("Lung Opacity", "Lung Lesion", "Consolidation", "Pneumonia", "Support Devices")
    for field in (vessels, skeleton):
        np.testing.assert_array_equal(field(Anatomy(scene), Canvas(96, scene.pose)),
                                      field(Anatomy(clear), Canvas(96, scene.pose)))


def test_a_finding_grows_no_other_vessels():
    from rrg_core.phantom.organs import _tree, _twigs
    from rrg_core.phantom.scene import Finding, stream

    healthy = sample_scene(6, only=(), ap=0.)

    def grown(*findings):
        a = Anatomy(healthy.plus(*findings))
        rng = stream(healthy.patient, "vessels", "left")
        e = a.severity("Edema")
        return (*_tree(a, "left", rng, e), *_twigs(a, "left", rng), a)

    axes, radii, twigs, _, a = grown()
    wet_axes, wet_radii, wet_twigs, *_ = grown(Finding("Edema", "edema", "bilateral", "", .9, key="e"))
    np.testing.assert_array_equal(axes, wet_axes)
    np.testing.assert_array_equal(twigs, wet_twigs)
    assert (wet_radii >= radii).all() and (wet_radii > radii * 1.3).any()
    pulled, *_, b = grown(Finding("Atelectasis", "lobar", "left", "", .5, place=(.5, .85), key="c"))
    assert b.mx != a.mx
    shifted = {tuple(np.round(p - p[0], 9).ravel()) for p in axes}
    same = [tuple(np.round(p - p[0], 9).ravel()) in shifted for p in pulled]
    assert np.mean(same) > .9 # cut or freed at the edge, none redrawn
