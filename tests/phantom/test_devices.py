"""Exported from nbs/02f_devices.ipynb: edit it there, then run `nbdev-export`."""
import numpy as np
from rrg_core.phantom.anatomy import Anatomy, bound
from rrg_core.phantom.canvas import Canvas, curve, step, stroke
from rrg_core.phantom.findings import Scan
from rrg_core.phantom.scene import Finding, stream
import pytest, numpy as np
from rrg_core.phantom.anatomy import Anatomy
from rrg_core.phantom.canvas import Canvas
from rrg_core.phantom.scene import Finding, KINDS, Pose, sample_scene
from rrg_core.phantom.devices import *


def test_devices_are_inside_their_boxes_and_keep_their_contrast():
    scene = sample_scene(2, only=(), spread=0.)
    for kind in KINDS["Support Devices"]:
        f = Finding("Support Devices",
                    kind,
                    "" if kind.endswith("tube") and kind != "chest tube" else "left",
                    key="d")
        peak = []
        for size in (128, 448):
            scan = Scan(Anatomy(scene.plus(f)), Canvas(size, Pose()))
            image = draw_devices(scan)
            box = scan.boxes["d"][0]
            peak.append(np.percentile(image[image > .01], 95))
            rows, columns = np.nonzero(image > .02)
            assert box.y0 - 2 <= rows.min() and rows.max() <= box.y1 + 2 and box.x0 - 2 <= columns.min(
            ) and columns.max() <= box.x1 + 2
        assert .6 < peak[0] / peak[1] < 1.5, kind
