"""Exported from nbs/02e_findings.ipynb: edit it there, then run `nbdev-export`."""
from functools import cached_property
import numpy as np
from rrg_core.phantom.anatomy import Anatomy, clavicle_axis, clavicle_break_point, regions, rib_break_points
from rrg_core.phantom.canvas import Canvas, bins, fractal, gaussian_filter, length, noise, step, stroke
from rrg_core.phantom.organs import Air, air
from rrg_core.phantom.scene import Finding, stream
from rrg_core.data.study import Box
import pytest, numpy as np
from rrg_core.phantom.anatomy import Anatomy
from rrg_core.phantom.canvas import Canvas
from rrg_core.phantom.scene import Finding, Pose, sample_scene
from rrg_core.phantom.findings import *


def test_opacities_combine_and_gas_excludes_fluid():
    scene = sample_scene(3, only=())
    effusion_ = Finding("Pleural Effusion", "effusion", "right", severity=.5, key="a")
    gas = Finding("Pneumothorax", "pneumothorax", "right", severity=.6, key="b")
    wet = Finding("Edema", "edema", "bilateral", severity=.9, key="c")
    scan = Scan(Anatomy(scene.plus(effusion_, gas, wet)), Canvas(128, scene.pose))
    draw_findings(scan)
    assert (scan.gas * scan.fluid).max() < .26 and (scan.gas * scan.pleural).max() < .26 # products of soft edges
    assert scan.fluid.max() <= 1 and set(scan.boxes) == {"a", "b", "c"} and len(scan.boxes["c"]) == 2


def test_air_fluid_level_is_flat():
    scene = sample_scene(3, only=(), spread=0.)
    pool = Finding("Pleural Effusion", "effusion", "right", severity=.5, key="a")
    gas = Finding("Pneumothorax", "pneumothorax", "right", severity=.6, key="b")
    rise = []
    for findings in ((pool, gas), (pool, )):
        scan = Scan(Anatomy(scene.plus(*findings)), Canvas(256, Pose()))
        draw_findings(scan)
        columns = slice(int(256 * (.5 - .75 * scan.a.lungs["right"].width)),
                        int(256 * (.5 - .45 * scan.a.lungs["right"].width)))
        rise.append(np.ptp([np.flatnonzero(c > .5)[0] for c in scan.pleural.T[columns]]))
    assert rise[0] <= 1 < 3 < rise[1]


def test_severity_grows_the_opacity():
    scene = sample_scene(5, only=(), spread=0.)
    for observation, kind, layer in [("Lung Opacity", "opacity", "fluid"), ("Lung Lesion", "mass", "fluid"),
                                     ("Edema", "edema", "fluid"), ("Consolidation", "lobar", "fluid"),
                                     ("Pneumonia", "bronchopneumonia", "fluid"),
                                     ("Atelectasis", "lobar", "fluid"),
                                     ("Pleural Effusion", "effusion", "pleural"),
                                     ("Pneumothorax", "pneumothorax", "gas")]:
        amount = []
        for s in (.1, .4, .85):
            f = Finding(observation,
                        kind,
                        "bilateral" if kind == "edema" else "left",
                        severity=s,
                        place=(.5, .5),
                        key=observation)
            scan = Scan(Anatomy(scene.plus(f)), Canvas(96, Pose()))
            draw_findings(scan)
            amount.append(float(getattr(scan, layer).sum()))
        assert 0 < amount[0] < amount[1] < amount[2], (observation, amount)


def test_boxes_hold_the_finding():
    scene = sample_scene(5, only=(), spread=0.)
    f = Finding("Lung Lesion", "mass", "right", severity=.3, place=(.5, .5), key="m")
    scan = Scan(Anatomy(scene.plus(f)), Canvas(512, Pose()))
    draw_findings(scan)
    box = scan.boxes["m"][0]
    u, v = scan.centre(f, "right")
    r = (.043 + .045*.3) * 512
    assert abs((box.x0 + box.x1) / 2 - u*512) < .15 * r and abs((box.y0 + box.y1) / 2 - v*512) < .15 * r
    assert abs((box.x1 - box.x0) / 2 - r) < .25 * r
