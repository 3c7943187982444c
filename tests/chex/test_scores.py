"""Exported from nbs/12l_scores.ipynb: edit it there, then run `nbdev-export`."""
import numpy as np
from rrg_core.data.study import as_numbers, named
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics
from rrg_core.metrics.evaluate import _labels
from rrg_core.metrics.grounding import _overlap, _part, _pixels, _records, _scores
from rrg_core.metrics.stats import draw_counts
from rrg_core.metrics.text import METRICS, text_statistics
from rrg_core.phantom.canvas import compiled
from rrg_core.results.systems import METEOR
import pytest
from rrg_core.metrics.clinical import PROTOCOLS, clinical_scores
from rrg_core.metrics.grounding import average_precision, mean_iou
from rrg_core.metrics.stats import auroc, weighted_auroc
from rrg_core.chex.scores import *


def test_overlap_of_a_draw_is_that_of_the_drawn_sentences():
    rng = np.random.default_rng(0)
    def some(k, scored=True):
        low = rng.uniform(0, 700, (k, 2))
        boxes = np.concatenate([low, low + rng.uniform(20, 300, (k, 2))], 1)
        return dict(boxes=boxes) | (dict(scores=rng.random(k)) if scored else {})

    predictions, truth = ([some(rng.integers(lo, 4), s) for _ in range(40)] for lo, s in ((0, True), (1, False)))
    study = rng.integers(0, 12, 40)
    parts = PixelParts(predictions, truth, study, 12)
    assert parts.scores()["mIoU"] == pytest.approx(mean_iou(predictions, truth), abs=1e-12)
    for rows in (rng.integers(0, 12, 12), [3, 3, 3, 5]):
        drawn = [i for r in rows for i in np.flatnonzero(study == r)]
        want = mean_iou([predictions[i] for i in drawn], [truth[i] for i in drawn])
        assert parts.scores(np.array(rows))["mIoU"] == pytest.approx(want, abs=1e-12)
    empty = PixelParts([], [], [], 3)
    assert np.isnan(empty.scores()["mIoU"]) and len(empty) == 3
    with pytest.raises(ValueError, match="as many"): PixelParts(predictions, truth[:5], study, 12)
    with pytest.raises(ValueError, match="0 to 1"): PixelParts(predictions, truth, study, 2)


def test_precision_of_a_draw_is_the_librarys():
    rng = np.random.default_rng(1)
    def image(k, scored):
        low = rng.uniform(0, 60, (k, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 40, (k, 2))], 1)
        out = dict(boxes=boxes, labels=rng.integers(0, 4, k))
        return out | (dict(scores=rng.random(k).round(2)) if scored else {}) # rounded: some are equal

    predictions, targets = [image(rng.integers(0, 9), True) for _ in range(30)], [
        image(rng.integers(0, 4), False) for _ in range(30)]
    near = [dict(boxes=t["boxes"] + rng.normal(0, 3, t["boxes"].shape).clip(-4, 4), labels=t["labels"],
                 scores=rng.random(len(t["boxes"])).round(1)) for t in targets]
    for said in (predictions, near):
        parts = PrecisionParts(said, targets, np.arange(30), 30)
        own = average_precision(said, targets)
        assert parts.scores()["mAP"] == pytest.approx(own["mAP"], abs=1e-9)
        for c, found in parts.per_class(np.ones((1, 30))).items():
            assert found.mean() == pytest.approx(own["per_class"][c], abs=1e-9)
        rows = np.sort(rng.integers(0, 30, 30)) # sorted: of equal scores the first image's comes first
        drawn = average_precision([said[i] for i in rows], [targets[i] for i in rows])["mAP"]
        assert parts.scores(rows)["mAP"] == pytest.approx(drawn, abs=1e-9)


def test_precision_at_its_ends():
    empty, box = dict(boxes=np.zeros((0, 4)), scores=[], labels=[]), dict(boxes=[[0, 0, 9, 9]], labels=[2])
    sure = box | dict(scores=[1.])
    score = lambda said, there: PrecisionParts(said, there, range(len(there)), len(there)).scores()["mAP"]
    assert score([sure], [box]) == 1 and score([empty], [box]) == 0
    assert np.isnan(score([sure], [dict(boxes=np.zeros((0, 4)), labels=[])])) # nothing is there
    assert score([sure | dict(labels=[1])], [box]) == 0 # another class
    point = dict(boxes=[[3, 3, 3, 3]], labels=[2])
    assert score([point | dict(scores=[.5])], [point]) == 0 # no area, no overlap
    many = dict(boxes=[[50, 50, 59, 59]] * 120 + [[0, 0, 9, 9]], labels=[2] * 121, scores=[.5] * 120 + [.1])
    assert score([many], [box]) == average_precision([many], [box])["mAP"] == 0 # the 121st is not counted
    parts = PrecisionParts([sure, empty], [box, box], [0, 0], 1) # two sentences of one study
    assert parts.scores()["mAP"] == pytest.approx(average_precision([sure, empty], [box, box])["mAP"])
    assert parts.scores(np.array([0, 0, 0])) == parts.scores()
    with pytest.raises(ValueError, match="scores"): score([box], [box])


def test_ranks_of_a_draw_are_scikit_learns():
    rng = np.random.default_rng(2)
    n, regions, classes = 40, 3, 4
    labels = (rng.random((n, regions, classes)) < [.5, .2, .05, 0]).astype(float)
    labels[rng.random(labels.shape) < .2] = np.nan
    scores = (rng.random(labels.shape) + .3 * np.nan_to_num(labels)).round(1) # ties
    flat = lambda x: x.reshape(len(x), -1)
    parts = RankParts(flat(labels), flat(scores), range(n), n, weighted=True)
    assert parts.scores()["wAUROC"] == pytest.approx(weighted_auroc(labels, scores), abs=1e-12)
    for rows in (rng.integers(0, n, n), np.array([1, 1, 2, 7])):
        want = weighted_auroc(labels[rows], scores[rows])
        assert parts.scores(rows)["wAUROC"] == pytest.approx(want, abs=1e-12, nan_ok=True)
    plain = RankParts(flat(labels), flat(scores), range(n), n).scores()["AUROC"]
    own = [auroc(a, b) for a, b in zip(flat(labels).T, flat(scores).T)]
    assert plain == pytest.approx(np.nanmean(own), abs=1e-12)
    study = rng.integers(0, 5, n) # several things a study
    several, rows = RankParts(flat(labels), flat(scores), study, 5), np.array([0, 0, 3])
    drawn = np.concatenate([np.flatnonzero(study == r) for r in rows])
    own = [auroc(a, b) for a, b in zip(flat(labels)[drawn].T, flat(scores)[drawn].T)]
    assert several.scores(rows)["AUROC"] == pytest.approx(np.nanmean(own), abs=1e-12)
    assert np.isnan(RankParts(np.ones((3, 1)), np.ones((3, 1)), range(3), 3).scores()["AUROC"])
    assert RankParts(np.array([[1], [0]]), np.array([[.5], [.5]]), range(2), 2).scores()["AUROC"] == .5
    for bad, words in (((np.full((2, 1), 2.), np.ones((2, 1))), "0, 1 or NaN"),
                       ((np.ones((2, 1)), np.full((2, 1), np.nan)), "is NaN"),
                       ((np.ones(2), np.ones(2)), "columns")):
        with pytest.raises(ValueError, match=words): RankParts(*bad, range(2), 2)


def test_text_scores_of_a_draw_are_the_protocols():
    from rrg_core.labels import label_many
    from rrg_core.metrics.evaluate import _labels
    from rrg_core.metrics.text import text_scores

    told = ["Moderate pulmonary edema.", "No pneumothorax.", "Possible small left pleural effusion.",
            "Right central venous line.", "Severe cardiomegaly.", "No acute chest abnormality."] * 3
    said = ["Mild pulmonary edema.", "Right pneumothorax.", "", "Right central venous line.",
            "Severe cardiomegaly.", "No pneumothorax."] * 3
    study = np.arange(18) // 3
    parts = TextParts(said, told, study, 6)
    for rows in (None, np.array([0, 0, 4]), np.array([5])):
        drawn = range(18) if rows is None else [i for r in rows for i in np.flatnonzero(study == r)]
        some = [[x[i] for i in drawn] for x in (said, told)]
        found = parts.scores(rows)
        for name in ("Mic-F1-14", "Mac-F1-14"):
            p = PROTOCOLS[F1[name]]
            labels = _labels(some[0], None, p, True), label_many(some[1])
            assert found[name] == pytest.approx(clinical_scores(*labels, p)["F1"], abs=1e-12)
        assert found["METEOR"] == pytest.approx(text_scores(*some, "spaced", ("METEOR",))["METEOR"], abs=1e-9)
    whole = TextParts(said[:6], told[:6], range(6), 6, ("Ex-F1-14", "Mic-F1-5+"))
    p = PROTOCOLS["chex-ex-f1-14"]
    want = clinical_scores(_labels(said[:6], None, p, True), label_many(told[:6]), p)["F1"]
    assert whole.scores()["Ex-F1-14"] == pytest.approx(want)
    assert np.isnan(list(TextParts([], [], [], 2).scores().values())).all()
    for bad, words in (((said, told, study, 6, ("F1",)), "no score 'F1'"), ((["a"], [" "], [0], 1), "is empty"),
                       ((said, told[:3], study, 6), "as many"),
                       ((said, told, study, 6, ("Ex-F1-14",)), "several")):
        with pytest.raises(ValueError, match=words): TextParts(*bad)
