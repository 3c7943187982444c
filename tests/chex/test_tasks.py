"""Exported from nbs/12i_tasks.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
import numpy as np
import pandas as pd
from rrg_core.chex.classes import CIG, DETECTED, FINDINGS, MS_CXR, NIH8, TRAINED, VINDR, Label, class_table
from rrg_core.chex.scores import Parts, PixelParts, PrecisionParts, RankParts, TextParts
from rrg_core.data.study import REGIONS, Study, named
from rrg_core.engine.settings import CourseError
from rrg_core.metrics.stats import draw_counts
from rrg_core.phantom.grammar import fact_of
from rrg_core.phantom.scene import Finding
from rrg_core.results.systems import System, aligned
from rrg_core.results.tables import Measure
import pytest
import numpy as np, pandas as pd
import matplotlib.pyplot as plt
from rrg_core.data.study import OBSERVATIONS, REGIONS, Box, Image, Sentence, Study
from rrg_core.phantom import render
from rrg_core.results.figures import overlay_boxes
from rrg_core.chex.tasks import *


def test_questions_follow_from_the_scene():
    from rrg_core.phantom.scene import sample_scene

    both = Finding("Pleural Effusion", "effusion", "bilateral", "", .6, key="a")
    maybe = Finding("Lung Opacity", "fibrosis", "left", "left upper lung zone", .7, -1, (.5, .3), key="b")
    faint = Finding("Lung Lesion", "nodule", "right", "right mid lung zone", .5, 1, (.5, .5), key="c")
    scene = sample_scene(3, "structured", only=(), prior=0.).plus(both, maybe, faint)
    study = render(scene, 128).study
    q = asked(study)
    assert len(q.sentences) == 2 and sorted(map(len, q.sentence_boxes)) == [1, 2] # the nodule is no MS-CXR class
    assert [MS_CXR[k].name for k in sorted(q.classes)] == ["Lung Opacity", "Pleural Effusion", "Pleural Effusion"]
    assert len(q.box_texts) == 3 and len(set(q.box_texts)) == 2
    counts = {s: [DETECTED[s][k].name for k in q.found[s][1]] for s in DETECTED}
    assert counts["VinDr-CXR"] == ["Nodule/Mass", "Pleural effusion", "Pleural effusion", "Pulmonary fibrosis"]
    assert counts["NIH8"] == ["Effusion", "Nodule"] # one box a class
    one, two = q.found["NIH8"][0][0], q.found["VinDr-CXR"][0][1:3]
    np.testing.assert_allclose(one, [*two[:, :2].min(0), *two[:, 2:].max(0)])
    state = lambda region, name: q.findings[REGIONS.index(region), [x.name for x in FINDINGS].index(name)]
    assert state("left costophrenic angle", "pleural effusion") == state("left lung", "pleural effusion") == 1
    assert np.isnan([state("left upper lung zone", "lung opacity"), state("left lung", "lung opacity")]).all()
    assert state("right mid lung zone", "lung lesion") == 1 and state("left mid lung zone", "lung lesion") == 0
    assert state("left clavicle", "atelectasis") == 0
    assert "reticular" in about(study, "left lung") and "reticular" not in about(study, "right lung")
    assert presence(study, VINDR[15]) == 1 and presence(study, VINDR[5]) == 0
    study.meta["findings"][2]["boxes"] = [] # too faint
    assert np.isnan(presence(study, VINDR[15])) and not len(boxes_of(study, VINDR[15]))
    ways = {(h.observation, h.side): h for h in q.hints}
    assert set(ways) == {("Lung Opacity", "left"), ("Pleural Effusion", "right"), ("Pleural Effusion", "left")}
    spot, right = ways["Lung Opacity", "left"], ways["Pleural Effusion", "right"]
    assert spot.other is None and spot.asked()["fine"] == "Lung opacity in the left upper lung"
    assert spot.asked()["opposite"] == "Lung opacity in the right lung" and right.zone == "lower"
    np.testing.assert_allclose(right.other, ways["Pleural Effusion", "left"].box)
    assert right.box[0] < .5 < right.other[2] # the patient's right is on the left
    for bare in (render(sample_scene(3, "structured", only=(), prior=0.), 64).study,): # nothing is wrong
        q = asked(bare)
        assert not q.sentences and not q.hints and q.boxes.shape == (0, 4) and q.reference
        assert np.nansum(q.findings) == 0
        assert all(boxes.shape == (0, 4) for boxes, _ in q.found.values())


def test_other_sets_bring_their_own_truth():
    pixels = Image("film", 200, 100, "PA", pixels=np.zeros((100, 200), "u1"))
    made = lambda **given: Study("s", "p", "ms-cxr", "test", [pixels], **given)
    pair = Sentence("Fluid on both sides.", "findings", (), "Pleural Effusion", 1)
    fluid = [Box("Pleural Effusion", 0, 50, 20, 100), Box("Pleural Effusion", 180, 50, 200, 100)]
    other = Sentence("Air.", "findings", (), "Pneumothorax", 1)
    q = asked(made(sentences=[pair, other], boxes=[*fluid, Box("Pneumothorax", 0, 0, 100, 50)],
                   meta={"sentence_boxes": [[0, 1], [2]]}))
    assert q.sentences == ["Fluid on both sides.", "Air."] and q.reference == ""
    np.testing.assert_allclose(q.sentence_boxes[0], [[0, .5, .1, 1], [.9, .5, 1, 1]])
    assert q.classes.tolist() == [5, 5, 7] and len(q.found["MS-CXR"][0]) == 3
    film = made(boxes=[Box("Nodule/Mass", 10, 10, 30, 30)], meta={"classes": ["Nodule/Mass", "ILD"]})
    label = {x.name: x for x in VINDR}
    assert [presence(film, label[n]) for n in ("Nodule/Mass", "ILD", "Edema")] == [1, 1, 0]
    assert np.isnan(presence(made(), label["Edema"]))
    one = made(boxes=[Box("ILD", 10, 10, 30, 30)], meta={"classes": ["Edema"], "set": "VinDr-CXR"})
    assert presence(one, label["ILD"]) == 0 and presence(one, label["Edema"]) == 1 # two of three readers said so
    assert list(asked(one).found) == ["VinDr-CXR"] and asked_by([q, asked(one)], "NIH8") == [0]
    air = made(boxes=[Box("Pneumothorax", 0, 0, 40, 50)], meta={"classes": ["Pneumothorax"], "set": "NIH8"})
    assert presence(air, label["Pneumothorax"]) == 1 and np.isnan(presence(air, label["Edema"]))
    assert list(asked(air).found) == ["NIH8"] and not asked(air).hints # MS-CXR alone asks for those
    graph = made(regions={"right lung": Box("right lung", 0, 0, 50, 90)},
                 meta={"attributes": {"right lung": {"finding|lung opacity": 1, "disease|pneumonia": 0}}})
    names = [x.name for x in FINDINGS]
    states = asked(graph).findings[REGIONS.index("right lung")]
    assert [states[names.index(n)] for n in ("lung opacity", "pneumonia", "consolidation")] == [1, 0, 0]
    assert np.isnan(asked(graph).findings[REGIONS.index("spine")]).all() # not in the image


def test_the_tasks_are_those_of_table_2():
    from rrg_core.results.tables import published

    table = published("chex_table2")
    assert set(MEASURES) == set(table.metrics) and len(TASKS) == 9
    assert set(MEASURES) == set(dict.fromkeys(table.metrics)) and MEASURES["SG mIoU (MS-CXR)"].scale == 100


def test_the_truth_has_full_marks_and_silence_has_none():
    studies = [render(s, 64, site="structured").study for s in range(100, 112)]
    questions = list(map(asked, studies))
    frame = answer_table(questions, list(map(truth_of, questions)))
    assert set(frame) == {"study_id", "hypothesis", "reference"} | {t.column for t in TASKS.values()}
    assert frame.class_boxes[0].dtype == np.int16
    for name in ("SG (MS-CXR)", *(f"OD ({d})" for d in DETECTED), "RC (MS-CXR)", "RC (CIG)"):
        for score, value in TASKS[name].parts(frame, questions).scores().items():
            assert value == 1 or "IoU" in score and value > .99, (name, score) # thousandths of the raster
    quiet = [Answer([(np.zeros((0, 4)), [])] * len(q.sentences), {}, np.full((len(q.boxes), 8), .5),
                    np.full((29, len(FINDINGS)), .5)) for q in questions]
    none = answer_table(questions, quiet)
    assert "box_texts" not in none and "hypothesis" not in none
    value = lambda name: list(TASKS[name].parts(none, questions).scores().values())
    assert value("SG (MS-CXR)") == [0, 0, 0] and value("OD (VinDr-CXR)") == [0]
    assert value("RC (MS-CXR)") == [.5] and value("RC (CIG)") == [.5]
    shuffled = frame.sample(frac=1, random_state=0)
    again = detection(shuffled, questions, "MS-CXR").scores()
    assert again == detection(frame, questions, "MS-CXR").scores() # by study, not by row


def test_a_part_of_the_test_set_is_answered_as_the_whole():
    studies = [render(s, 64, site="structured").study for s in range(100, 108)]
    questions = list(map(asked, studies))
    truth = list(map(truth_of, questions))
    whole, part = answer_table(questions, truth), answer_table(questions[:3], truth[:3], questions)
    assert part.equals(whole[:3])
    assert not answer_table(questions[:3], truth[:3]).equals(whole[:3]) # few studies can rank few findings


def test_texts_of_boxes_regions_and_reports_are_scored():
    from collections import Counter
    import rrg_core.chex.scores as scores_module

    class Counts: # METEOR without Java: words in common
        def statistics(self, said, told):
            out = np.zeros((len(said), 23))
            for i, (a, (b,)) in enumerate(zip(said, told)):
                both = (Counter(a.split()) & Counter(b.split())).total()
                out[i, :2], out[i, 4:6], out[i, 20:] = (len(a.split()), len(b.split())), both, (0, both, both)
            return out

    studies = [render(s, 64, site="structured").study for s in range(100, 106)]
    questions = list(map(asked, studies))
    frame = answer_table(questions, list(map(truth_of, questions)))
    empty = [Answer(box_texts=[""] * len(q.boxes), region_texts=[""] * len(told_regions(q)), report="")
             for q in questions]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "METEOR", Counts())
        for name in ("RE (MS-CXR)", "RE (CIG)", "RG (MIMIC-CXR)"):
            task = TASKS[name]
            full, nothing = (task.parts(f, questions).scores() for f in (frame, answer_table(questions, empty)))
            assert set(full) == set(task.scores) and full["Mic-F1-14"] == full["METEOR"] == 1, name
            assert nothing["METEOR"] == 0 and nothing["Mac-F1-14"] < .1, name # an empty text is No Finding


def test_answers_that_do_not_fit_are_refused():
    from rrg_core.tools.house import quoting

    study = render(47, 64, site="structured").study
    q = asked(study)
    truth = truth_of(q)
    def changed(**parts): return answer_table([q], [Answer(**{**vars(truth), **parts})])

    for parts, words in ((dict(grounded=[]), "every sentence"), (dict(box_texts=["a"] * 9), "texts of boxes"),
                         (dict(region_texts=[]), "texts of regions"),
                         (dict(box_classes=np.full((len(q.boxes), 8), 1.2)), "between 0 and 1"),
                         (dict(detected={"NIH8": (np.zeros((2, 4)), [.1], [0, 1])}), "2 boxes with 1 scores")):
        with pytest.raises(ValueError, match=words): changed(**parts)
    many = list(map(asked, [render(s, 64, site="structured").study for s in (100, 101, 102)]))
    frame = answer_table(many, list(map(truth_of, many)))
    for call, words in ((lambda: grounding(frame.drop(columns="sentence_boxes"), many), "no sentence_boxes"),
                        (lambda: grounding(frame[1:], many), "1 studies have no prediction"),
                        (lambda: region_findings(frame, many[:2]), "were they made of others")):
        with pytest.raises(CourseError, match=words): call()
    wild = [Answer(findings=np.full((29, len(FINDINGS)), 2.)) for _ in many]
    with pytest.raises(ValueError, match="finding's score must lie between"): answer_table(many, wild)
    with pytest.raises(ValueError, match="VinDr-CXR, NIH8, MS-CXR"): detection(frame, many, "VinDr")
    assert quoting({"data": lambda x: detection(frame, many, x)}) == []


def test_a_system_has_intervals_on_every_task():
    from rrg_core.results.tables import measured
    from rrg_core.engine.settings import profile

    studies = [render(s, 64, site="structured").study for s in range(100, 110)]
    questions = list(map(asked, studies))
    rng = np.random.default_rng(0)
    def guess(q): # the true boxes, moved
        moved = [(b + np.tile(rng.normal(0, .05, (len(b), 2)), 2), rng.random(len(b))) for b in q.sentence_boxes]
        return Answer(moved, box_classes=rng.random((len(q.boxes), 8)))

    frames = {s: answer_table(questions, list(map(guess, questions))) for s in (0, 1)}
    system = Answers(frames, questions[::-1], "a guess")
    assert system.ids == [q.study_id for q in questions] and system.seeds == [0, 1]
    assert system.knows("SG (MS-CXR)") and not system.knows("OD (NIH8)") and not system.knows("default")
    rows = measured(system, {k: m for k, m in MEASURES.items() if k.startswith("SG")}, profile("smoke"))
    assert (rows.low <= rows.reproduced).all() and (rows.reproduced <= rows.high).all()
    assert 5 < rows.set_index("metric").reproduced["SG mIoU (MS-CXR)"] < 100
    with pytest.raises(CourseError, match="not measured on"): system.values("OD (NIH8)", ("mAP",))
    with pytest.raises(CourseError, match="has no score 'AP'"): system.values("SG (MS-CXR)", ("AP",))
    with pytest.raises(CourseError, match="nothing is asked about"): Answers(frames, questions[1:])
