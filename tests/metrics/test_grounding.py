"""Exported from nbs/05d_grounding.ipynb: edit it there, then run `nbdev-export`."""
import numpy as np, torch
from rrg_core.data.study import as_numbers, without_text
import contextlib, io
import matplotlib.pyplot as plt
import numpy as np, pandas as pd, pytest, torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou, generalized_box_iou
from rrg_core.metrics.grounding import *


def test_overlaps():
    np.testing.assert_allclose(iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [0, 0, 2, 2], [8, 0, 10, 2]]), [[1 / 3, 1, 0]])
    np.testing.assert_allclose(giou([[0, 0, 2, 2]], [[1, 0, 3, 2], [0, 0, 2, 2], [8, 0, 10, 2]]),
                               [[1 / 3, 1, -.6]])
    rng = np.random.default_rng(0)

    def some(n):
        corner = rng.random((n, 2)) * 100
        return np.hstack([corner, corner + rng.random((n, 2)) * 50])

    x, y = some(7), some(5)
    lap = np.prod(np.clip(np.minimum(x[:, None, 2:], y[:, 2:]) - np.maximum(x[:, None, :2], y[:, :2]), 0, None),
                  -1)
    union = np.prod(x[:, 2:] - x[:, :2], 1)[:, None] + np.prod(y[:, 2:] - y[:, :2], 1) - lap
    hull = np.prod(np.maximum(x[:, None, 2:], y[:, 2:]) - np.minimum(x[:, None, :2], y[:, :2]), -1)
    np.testing.assert_allclose(iou(x, y), lap / union, atol=1e-9)
    np.testing.assert_allclose(giou(x, y), lap/union - (hull-union) / hull, atol=1e-9)
    assert iou([], y).shape == (0, 5) and giou(torch.tensor(x), []).shape == (7, 0) and isinstance(
        iou(torch.tensor(x), y), torch.Tensor)
    assert iou([[1, 1, 1, 1]], [[1, 1, 1, 1], [0, 0, 2, 2]]).tolist() == [[0, 0]] # a point has no area
    for bad in ([[2, 0, 1, 1]], [[0, 0, np.nan, 1]]):
        with pytest.raises(ValueError, match="b, box 0"):
            iou(x, bad)


def test_boxes_of_a_unit_square_are_refused():
    def iou_with_itself(*boxes, **options):
        one = {"boxes": [list(b) for b in boxes], "scores": [.9] * len(boxes)}
        return mean_iou([one], [one], **options)

    for boxes in [ # in the spirit of philip-mueller/chex: what was NaN in silence
        [(0, 0, .5, .5)], [(.1, .1, .9, .9)], [(0, 0, 1, .5)], [(.25, 0, 1, 1)], [(0, 0, 1, 1), (0, 0, .2, .3)],
        [(.999, .999, 1, 1)], [(0, 0, .001, 1)], [(.5, .5, .5, .5)], [(1e-9, 0, 1, 1)],
        [(0, .3, 1, .6), (0, 0, 1, 1)]]:
        with pytest.raises(ValueError, match="prediction 0: boxes are pixels"): iou_with_itself(*boxes)
        with pytest.raises(ValueError, match="target 0: boxes are pixels"):
            mean_iou([{"boxes": [], "scores": []}], [{"boxes": [list(b) for b in boxes]}])
    for boxes in [[(0, 0, 1, 1)], [(0, 0, 2, .5), (0, 0, 2, 2)], [(.4, .4, 9.6, 9.6)], [(0, 0, 512, 512)]]:
        assert iou_with_itself(*boxes) == 1 # one pixel is a box, and corners may be fractions
    assert np.isnan(mean_iou([{"boxes": [], "scores": []}], [{"boxes": []}]))


def test_mean_iou_by_hand_and_by_raster():
    predictions = [{"boxes": [[0, 0, 100, 100]], "scores": [.9]},
                   {"boxes": [[300, 300, 310, 310]], "scores": [.35]}]
    targets = [{"boxes": [[0, 0, 100, 100]]}, {"boxes": [[200, 200, 210, 210]]}]
    assert abs(mean_iou(predictions, targets) - np.mean([10/10.2] * 3 + [10/10.1] * 2)) < 1e-12
    rng = np.random.default_rng(0)

    def some(n):
        corner = rng.random((n, 2)) * 50 - 5
        return np.hstack([corner, corner + rng.random((n, 2)) * 30])

    predictions = [{"boxes": some(n), "scores": rng.random(n)} for n in (0, 1, 3, 6)]
    targets = [{"boxes": some(n)} for n in (1, 0, 2, 3)]

    def painted(boxes):
        raster = np.zeros((40, 60), bool) # height 40, width 60
        for x0, y0, x1, y1 in np.asarray(boxes, float).reshape(-1, 4):
            raster[max(int(y0), 0):max(int(y1), 0), max(int(x0), 0):max(int(x1), 0)] = True
        return raster

    want = []
    for t in (.1, .2, .3, .4, .5):
        pairs = [(painted(p["boxes"][p["scores"] > t]), painted(g["boxes"]))
                 for p, g in zip(predictions, targets)]
        want.append(sum((a & b).sum() for a, b in pairs) / sum((a | b).sum() for a, b in pairs))
    np.testing.assert_allclose(pixel_iou(predictions, targets, image_size=(40, 60)), want, atol=1e-12)
    assert mean_iou([{"boxes": [], "scores": []}], [{"boxes": [[0, 0, 5, 5]]}]) == 0
    assert np.isnan(mean_iou([{"boxes": [], "scores": []}], [{"boxes": []}]))
    with pytest.raises(ValueError, match="1 boxes with 2 scores"):
        mean_iou([{"boxes": [[0, 0, 1, 1]], "scores": [1, 1]}], [{"boxes": []}])
    with pytest.raises(ValueError, match="0 predictions for 1"):
        mean_iou([], [{"boxes": []}])


def test_average_precision_equals_pycocotools():
    def coco(predictions, targets, thresholds):
        data = {
            "images": [{"id": i} for i in range(len(targets))], "categories": [{"id": c} for c in range(5)],
            "annotations": []
        }
        for i, t in enumerate(targets):
            for (x0, y0, x1, y1), c in zip(t["boxes"], t["labels"]):
                data["annotations"].append({
                    "id": len(data["annotations"]) + 1, "image_id": i, "category_id": int(c),
                    "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1-x0) * (y1-y0), "iscrowd": 0
                })
        found = [{
            "image_id": i, "category_id": int(c), "score": s, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]
        } for i, p in enumerate(predictions) for b, s, c in zip(p["boxes"], p["scores"], p["labels"])]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = data
            truth.createIndex()
            e = COCOeval(truth, truth.loadRes(found), "bbox")
            e.params.iouThrs = np.array(thresholds)
            e.evaluate()
            e.accumulate()
        p = e.eval["precision"][:, :, :, 0, -1]
        return np.where(p.min(1) < 0, np.nan, p.mean(1)) # (thresholds, classes)

    thresholds = (.1, .2, .3, .4, .5, .6, .7)
    for seed, images, most in ((0, 12, 6), (1, 100, 2), (2, 3, 30)):
        rng = np.random.default_rng(seed)

        def scene(most, classes):
            n = rng.integers(0, most)
            corner = rng.random((n, 2)) * 80
            return {
                "boxes": np.hstack([corner, corner + 5 + rng.random((n, 2)) * 40]), "labels": rng.integers(
                    0, classes, n), "scores": rng.random(n)
            }

        targets = [scene(most, 3) for _ in range(images)]
        predictions = [scene(most, 4) for _ in range(images)]
        for p, t in zip(predictions, targets): # some hits, jittered
            p["boxes"] = np.vstack([p["boxes"], t["boxes"] + rng.random(t["boxes"].shape) * 4 * [0, 0, 1, 1]])
            p["labels"] = np.append(p["labels"], t["labels"])
            p["scores"] = np.append(p["scores"], rng.random(len(t["labels"])))
        got, want = average_precision(predictions, targets, thresholds), coco(predictions, targets, thresholds)
        assert abs(got["mAP"] - np.nanmean(want)) < 1e-9 and 3 not in got["per_class"]
        np.testing.assert_allclose(list(got["per_threshold"].values()), np.nanmean(want, 1), atol=1e-9)
        np.testing.assert_allclose([got["per_class"][c] for c in sorted(got["per_class"])],
                                   [v for v in want.mean(0) if not np.isnan(v)],
                                   atol=1e-9)


def test_recall_grid_is_double():
    n = 100 # targets, one an image; the first are found, the rest get a false alarm with a lower score
    box, far = [0., 0., 10., 10.], [50., 50., 60., 60.]
    targets = [{"boxes": [box], "labels": [0]} for _ in range(n)]
    for hits in (14, 28, 31,
                 54): # recalls hits / 100 that lie on a point in double and below it in single precision
        predictions = [{"boxes": [box if i < hits else far], "scores": [1 - i/200], "labels": [0]}
                       for i in range(n)]
        assert abs(average_precision(predictions, targets, (.5, ))["mAP"] - (hits+1) / 101) < 1e-12


def test_average_precision_of_nothing():
    nothing, one = {"boxes": [], "labels": [],
                    "scores": []}, {"boxes": [[0, 0, 1, 1]], "labels": [7], "scores": [.5]}
    empty = average_precision([one], [nothing], (.5, ))
    assert np.isnan(empty["mAP"]) and empty["per_class"] == {} and np.isnan(empty["per_threshold"][.5])
    assert average_precision([nothing], [one],
                             (.5, )) == {"mAP": 0, "per_class": {7: 0}, "per_threshold": {.5: 0}}
    assert abs(average_precision([one], [one])["mAP"] - 1) < 1e-12 and list(
        average_precision([one], [one])["per_threshold"]) == [.1, .2, .3, .4, .5, .6, .7]
    assert average_precision([{k: torch.tensor(v)
                               for k, v in one.items()}], [{k: torch.tensor(v)
                                                            for k, v in one.items()}], (.5, ))["mAP"] > 1 - 1e-12
    for p, t, words in [([one], [], "1 predictions for 0"),
                        ([one | {"scores": []}], [one], "prediction 0: 1 boxes with 0 scores"),
                        ([one | {"scores": [np.nan]}], [one], "score is NaN"),
                        ([{k: one[k] for k in ("boxes", "labels")}], [one], "prediction 0 has no scores"),
                        ([one | {"scores": None}], [one], "prediction 0 has no scores"),
                        ([one, {"boxes": [], "scores": []}], [one] * 2, "prediction 1 has no labels"),
                        ([one], [{"labels": [7]}], "target 0 has no boxes"),
                        ([[0, 0, 1, 1]], [one], "prediction 0 must be a dictionary, got a list of 4"),
                        ([one | {"labels": [np.nan]}], [one], "label is no whole number"),
                        ([one | {"labels": [.5]}], [one], "label is no whole number"),
                        ([one | {"scores": ["high"]}], [one], "prediction 0: scores must be numbers"),
                        ([one | {"boxes": [[0, 0, 1]]}], [one], "a box has 4 numbers"),
                        ([one | {"boxes": [[0, 0, np.nan, 1]]}], [one], "prediction 0, box 0"),
                        ([one], [one | {"boxes": [[1, 0, 0, 1]]}], "target 0, box 0")]:
        with pytest.raises(ValueError, match=words):
            average_precision(p, t)
        if "label" not in words and "1 predictions" not in words:
            with pytest.raises(ValueError, match=words):
                mean_iou(p, t, image_size=4)
