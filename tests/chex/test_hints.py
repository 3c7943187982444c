"""Exported from nbs/12q_hints.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
import numpy as np
import pandas as pd
import torch
from torchvision.ops import generalized_box_iou_loss
from rrg_core.chex.scores import Parts
from rrg_core.chex.tasks import _PLACES, _SCORES, Asked, Task, _matched, _packed, _rows
from rrg_core.data.study import OBSERVATIONS
from rrg_core.labels import label_many
import pytest
import numpy as np, pandas as pd
from rrg_core.chex.tasks import Answer, Answers, answer_table, asked
from rrg_core.phantom import render
from rrg_core.phantom.scene import Finding, sample_scene
from rrg_core.chex.hints import *


def test_hints_are_scored_as_the_claims_speak():
    def boxes_of(h): # bare name, coarse, fine, opposite
        wrong = np.array([1 - h.box[2], h.box[1], 1 - h.box[0], h.box[3]])
        return [h.box if h.other is None else h.other, h.box, h.box, wrong]

    def words(h):
        name = h.observation
        return [f"{name}.", f"{name} in the {h.side} lung.", "No pneumothorax.", f"{name}. No pneumothorax.",
                f"Possible {name.lower()}."]

    both = Finding("Pleural Effusion", "effusion", "bilateral", "", .6, key="a")
    spot = Finding("Lung Opacity", "opacity", "left", "left upper lung zone", .8, 1, (.5, .3), key="b")
    scenes = [sample_scene(s, "structured", only=(), prior=0.) for s in (3, 4, 5)]
    studies = [render(scene, 96).study for scene in (scenes[0].plus(both, spot), scenes[1], scenes[2].plus(spot))]
    questions = list(map(asked, studies))
    assert [len(q.hints) for q in questions] == [3, 0, 1]
    made = [Answer(more={"hints": packed_hints(np.array([boxes_of(h) for h in q.hints]).reshape(-1, 4, 4),
                                               np.ones((len(q.hints), 4))),
                         "hint_texts": [t for h in q.hints for t in words(h)]}) for q in questions]
    frame = answer_table(questions, made)
    parts = hint_parts(frame, questions)
    found = parts.scores()
    assert set(found) == set(HINT_SCORES)
    assert found["gIoU none"] > .97 and found["coarse - none"] == found["fine - coarse"] == 0
    assert found["opposite - none"] < -.9
    assert found["queried - other, coarse"] > 1 > 0 > found["queried - other, none"]
    assert [found[f"accuracy {k}"] for k in SAID_OF] == [1, 1, 0, 1, 1] and found["both - best"] == 0
    assert [found[f"specificity {k}"] for k in SAID_OF] == [1, 1, 0, 0, 1] and found["box - text"] == -1
    assert np.isnan(list(parts.scores(np.array([1, 1])).values())).all() # nothing is asked there
    one = parts.scores(np.array([2, 2])) # findings on one side alone
    assert np.isnan(one["queried - other, coarse"]) and one["opposite - none"] < -.9
    system = Answers({0: frame, 1: frame}, questions, tasks={"hints": HINTS})
    assert system.values("hints", ("coarse - none", "accuracy both")).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="4 hints have 4 answers and 5 sentences"):
        hint_parts(frame.assign(hint_texts=[["a"] * 5, [], []]), questions)
    with pytest.raises(ValueError, match="8 boxes with 3 scores"): packed_hints(np.zeros((2, 4, 4)), np.ones(3))
