"""Exported from nbs/02c_anatomy.ipynb: edit it there, then run `nbdev-export`."""
import io, re, zipfile
from functools import cache
from pathlib import Path
import numpy as np
import pandas as pd
from fastcore.basics import patch
from PIL import Image as Picture
from rrg_core.phantom.canvas import Canvas, curve, knots, interpolated, step
from rrg_core.phantom.scene import Pose, Scene, annotation_file, sample_scene, stream
from rrg_core.data.study import Box, REGIONS
import pytest, numpy as np, pandas as pd, matplotlib.pyplot as plt
from rrg_core.phantom.canvas import Canvas
from rrg_core.phantom.scene import Pose, Scene, sample_scene
from rrg_core.data.study import REGIONS
from rrg_core.phantom.anatomy import *


def test_lung_profile_of_two_rectangles():
    mask = np.zeros((512, 512), bool)
    mask[100:400, 60:220] = True
    mask[100:400, 292:452] = True
    profile, frame = lung_profile(mask)
    np.testing.assert_allclose(frame, [100 / 512, 100 / 512, 400 / 512, 400 / 512, 196 / 512, 196 / 512, .5],
                               atol=.005)
    np.testing.assert_allclose(profile[:12], 1, atol=.02)
    np.testing.assert_allclose(profile[12:24], 36 / 196, atol=.02)
    np.testing.assert_allclose(profile[26:33], 1, atol=.01)
    np.testing.assert_allclose(profile[69], np.log(300 / 392), atol=.02)
    assert lung_profile(np.zeros((64, 64), bool)) is None


def test_shape_table_comes_from_the_masks():
    table, kept = fit_shape(real_lungs()[0])
    assert kept > .8
    np.testing.assert_allclose(shape_table(), table, atol=2e-4)


def test_regions_are_exact():
    for i in range(40):
        scene = sample_scene(i, spread=0., only=())
        a, canvas = Anatomy(scene), Canvas(1000)
        boxes = regions(a, canvas)
        assert list(boxes) == REGIONS
        for side, sign in (("right", -1), ("left", 1)):
            lung, box = a.lungs[side], boxes[f"{side} lung"]
            assert abs(box.y0 - 1000 * lung.apex) < 1 and abs((box.x0 if sign < 0 else box.x1) - 1000 *
                                                              (.5 + sign * lung.width)) < 12
            inner = [boxes[f"{side} {z} lung zone"] for z in ("upper", "mid", "lower")]
            assert (box.x1 < 500
                    if sign < 0 else box.x0 > 500) and inner[0].y0 == box.y0 and inner[2].y1 == box.y1 and abs(
                        inner[0].y1 - inner[1].y0) < 12 and abs(inner[1].y1 - inner[2].y0) < 12


def test_pose_moves_boxes_as_it_moves_outlines():
    scene = sample_scene(3, only=())
    a = Anatomy(scene)
    tilted = Canvas(1000, Pose(angle=5.))
    spine = regions(a, tilted)["spine"]
    assert spine.x1 - spine.x0 > 150 # .1 wide, 1 high: tan 5 degrees adds .09
    heart = regions(a, Canvas(1000))["cardiac silhouette"]
    assert abs((heart.x1 - heart.x0) / 1000 - a.ctr * a.thorax * .985) < .002


def test_only_the_finding_changes_the_anatomy():
    for i in range(60):
        scene = sample_scene(i)
        a, b = Anatomy(scene), Anatomy(scene.without("Cardiomegaly"))
        assert a.knob == b.knob and a.lungs["left"].width == b.lungs["left"].width and a.bone == b.bone
        if scene.of("Cardiomegaly"): assert a.ctr > (.55 if a.ap else .5) > b.ctr
