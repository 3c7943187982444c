"""Exported from nbs/12o_asking.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
import numpy as np
import torch
from fastcore.basics import patch
from torch import Tensor
from transformers import GPT2LMHeadModel
from rrg_core.chex.answers import covering, probabilities, prompt_weight, stands_out, suppressed, without_repeats
from rrg_core.chex.baselines import corners, of_regions
from rrg_core.chex.contrast import negated
from rrg_core.chex.hints import packed_hints
from rrg_core.chex.detector import look as look_into
from rrg_core.chex.matching import pad_boxes
from rrg_core.chex.model import LITERAL, STAGES, Chex, ChexConfig, prompt_of
from rrg_core.chex.pooling import to_corners, to_shares
from rrg_core.chex.systems import Lessons, TaskSystem, Training, best_options, features_of, films_of
from rrg_core.chex.tasks import DETECTED, FINDINGS, MS_CXR, TRAINED, Answer, Asked, asked_by, told_regions
from rrg_core.chex.writing import begin_writer, describe, words_of, writer_settings
from rrg_core.data.study import OBSERVATIONS, REGIONS
from rrg_core.learning.published import found_for
import tempfile
import numpy as np, pandas as pd, pytest, torch
from pathlib import Path
from rrg_core.chex.model import STAGES, Chex, tiny_chex
from rrg_core.chex.systems import answered, lessons_from, tiny_cells, tiny_studies, tried
from rrg_core.chex.tasks import FINDINGS, TASKS, TRAINED
from rrg_core.chex.asking import *


def test_terms_follow_tokens_and_targets():
    full = dict(tokens=list(TOKENS), boxes=True, classes=True, contrast=True, trained=0)
    assert set(weights_of(full)) == set(STAGES["joint"]) - {"whole"}
    assert "whole" in weights_of(full | dict(trained=2))
    assert set(weights_of(full | dict(tokens=["sentence"]))) == {"contrast", "sentence_text"}
    assert not {"boxes", "scores", "region_boxes"} & set(weights_of(full | dict(boxes=False)))
    assert not {"classes", "findings"} & set(weights_of(full | dict(classes=False)))
    assert set(weights_of(full, "post")) == set(STAGES["post"])
    assert set().union(*TOKENS.values()) == {t for w in STAGES.values() for t in w}
    with pytest.raises(ValueError, match="got 'regions'"): weights_of(full | dict(tokens=["regions"]))
    with pytest.raises(ValueError, match="no term is left"):
        weights_of(full | dict(tokens=["sentence"], contrast=False), "detect")


def test_a_report_is_what_its_prompts_say():
    k = len(OBSERVED)
    texts, found = [f"Text {i}." for i in range(29)], [False] * 29
    texts[3], found[3], found[k] = "", True, True
    vectors, weights = torch.eye(29), torch.linspace(0, 1, 29)
    make = lambda a, p: report_of(texts, vectors, weights, found, a, p)
    assert make("none", "all") == " ".join(t for t in texts[:k] if t) and make("none", "positive") == ""
    assert make("positive", "none") == f"Text {k}." and make("all", "none").startswith(f"Text {k}. Text {k + 1}.")
    assert make(*DEFAULT_SET) == make("none", "all") + f" Text {k}."
    vectors[1] = vectors[0] # the same again: the surer prompt's stays
    assert make("none", "all").startswith("Text 1. Text 2.")
    frame = pd.DataFrame(dict(study_id=["a"], reference=["r"], reports=[list("abcdefgh")]))
    assert prompt_set(frame, *DEFAULT_SET).hypothesis.tolist() == ["d"] and prompt_set(
        frame, "none", "positive").hypothesis.tolist() == ["h"]
    assert len(PROMPT_SETS) == 8 and DEFAULT_SET in PROMPT_SETS and ("none", "none") not in PROMPT_SETS
    from rrg_core.results.tables import published
    assert set(published("chex_prompt_sets").rows.row) == {f"{a} / {p}" for a, p in PROMPT_SETS}


def test_chex_learns_and_answers_all_tasks():
    import rrg_core.chex.scores as scores_module

    class NoJava:
        def statistics(self, said, told): return np.ones((len(said), 23))

    kinds, tiny = ("Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"), tiny_chex()
    words, draw = tiny.prompt_words, torch.Generator().manual_seed(0)
    pieces, no = torch.randn(len(words), 16, generator=draw), words("No", add_special_tokens=False).input_ids[0]

    def read(input_ids, attention_mask): # texts far apart, and a text from its negation, as in trained towers
        vectors = (pieces[input_ids] * attention_mask[..., None]).sum(1)
        return torch.where((input_ids == no).any(1, keepdim=True), vectors.roll(5, 1), vectors)

    tiny.eyes.read = read
    tiny.eyes.kept.clear()
    studies = tiny_studies(8)
    cells = tiny_cells(studies, dict(zip(kinds, 3 * np.eye(16))))
    system = tried(ChexSystem, tiny_settings(), studies, cells, (tiny.eyes, tiny.prompt_words))
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "METEOR", NoJava())
        system.train(Path(d), 0)
        curve = pd.read_csv(Path(d) / "steps.csv")
        frame = answered(system, Path(d))
        scores = {t: task.parts(frame, system.asked).scores() for t, task in TASKS.items()}
    terms = set(STAGES["joint"]) - {"whole"}
    fall = curve[list(terms)].iloc[-5:].mean() / curve[list(terms)].iloc[:3].mean()
    assert (fall < .9).all()
    assert (fall[["boxes", "region_boxes", "scores", "region_text", "sentence_text"]] < .3).all()
    assert curve.loss.iloc[-5:].mean() < .3 * curve.loss.iloc[0]
    assert scores["OD (MS-CXR)"]["mAP"] > .3 and scores["SG (MS-CXR)"]["mIoU"] > .1 # no sentence has a box
    assert scores["RC (MS-CXR)"]["AUROC"] > .8 and scores["RC (CIG)"]["wAUROC"] > .7
    for q, boxes, texts in zip(system.asked, frame.hints, frame.hint_texts):
        assert len(boxes) == 28 * len(q.hints) and len(texts) == 5 * len(q.hints)
    assert frame.reports.map(len).eq(8).all() and frame.hypothesis[0] == frame.reports[0][3]


def test_variants_ask_for_less():
    kinds, tiny = ("Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"), tiny_chex()
    studies = tiny_studies(4)
    cells = tiny_cells(studies, dict(zip(kinds, 3 * np.eye(16))))
    base = tiny_settings(batch=4, steps=2, classes_drawn=3, regions_drawn=5, sentences_drawn=2, layers=1)
    def made(**changed):
        system = tried(ChexSystem, base | changed, studies, cells, (tiny.eyes, tiny.prompt_words))
        lessons = system.lessons("train")
        return system, system.fresh(0, lessons), lessons

    system, model, lessons = made()
    batch = system.batch(lessons, [0, 1])
    assert len(batch["classes"]) == 3 and len(batch["regions"]) == 5 and max(map(len, batch["sentences"])) == 2
    whole = system.whole_batch(lessons, [0, 1])
    assert len(whole["classes"]) == len(TRAINED) and len(whole["regions"]) == 29
    lost = {"pathology": {"classes", "present", "class_boxes"}, "sentence": {"sentences"},
            "anatomy": {"regions", "findings", "region_present", "region_texts", "region_boxes"}}
    for kind, parts in lost.items():
        system, model, _ = made(tokens=[t for t in TOKENS if t != kind])
        batch = system.batch(lessons, [0, 1])
        assert set(whole) - set(batch) == parts
        model.train()(**batch).loss.backward()
    system, model, _ = made(boxes=False)
    assert not {"class_boxes", "region_boxes"} & set(system.batch(lessons, [0])) and not model.config.box_queries
    model.train()(**system.batch(lessons, [0, 1])).loss.backward()
    system, model, _ = made(forms="code", stages=[dict(stage="detect", steps=1), dict(stage="write", rate=1e-4)])
    assert model.config.pooling == "code"
    learned = []
    for recipe in system.stages(model):
        learned.append(({n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}, recipe))
        model.train()(**system.batch(lessons, [0, 1])).loss.backward()
    assert [l for l, _ in learned] == [{"place", "detector"}, {"post", "writer"}]
    assert [r["rate"] for _, r in learned] == [8e-3, 1e-4] and learned[0][1]["steps"] == 1
    with pytest.raises(ValueError, match="a stage is one of"): system.begin(model, "end")


def test_studies_of_four_sets_share_a_batch():
    from rrg_core.data.study import Box, Image, Report, Sentence, Study

    def made(source, **given):
        film = Image("film", 200, 100, "PA", pixels=np.zeros((100, 200), "u1"))
        return Study(f"{source}/1", "p", source, "train", [film], **given)

    lung = {"right lung": Box("right lung", 0, 0, 90, 100)}
    seen = {"classes": ["Nodule/Mass", "ILD"]}
    four = [made("vindr-cxr", boxes=[Box("Nodule/Mass", 10, 10, 30, 30)], meta=seen),
            made("chest-imagenome", regions=lung, sentences=[Sentence("Fog.", "findings", ("right lung",))],
                 meta={"attributes": {"right lung": {"anatomicalfinding|lung opacity": 1}}}),
            made("ms-cxr", sentences=[Sentence("Air.", "findings", (), "Pneumothorax", 1)],
                 boxes=[Box("Pneumothorax", 0, 0, 100, 50)], meta={"sentence_boxes": [[0]]}),
            made("mimic-cxr", report=Report(findings="All is well."),
                 sentences=[Sentence("All is well.", "findings")])]
    tiny = tiny_chex()
    cells = np.random.default_rng(0).normal(size=(4, 9, 16)).astype("f4")
    system = tried(ChexSystem, tiny_settings(batch=4, layers=1), four, cells, (tiny.eyes, tiny.prompt_words))
    lessons = system.lessons("train")
    model = system.fresh(0, lessons).train()
    known = ~np.isnan(lessons.present)
    assert known[0].all() and lessons.present[0].sum() == 1 and known[1:].sum() == 1 # MS-CXR's own box
    assert [len(p) for p in lessons.pairs] == [0, 0, 1, 0] and lessons.reports[3] == "All is well."
    own = {0: {"boxes", "scores", "classes"}, 1: {"region_boxes", "findings", "region_text", "sentence_text"},
           2: {"boxes", "sentence_text"}, 3: {"sentence_text"}}
    for rows in ([0], [1], [2], [3], [0, 1, 2, 3]):
        model.zero_grad()
        model.config.box_queries = 0.
        terms = model(**system.batch(lessons, rows, draw=False)).terms
        sum(terms.values()).backward()
        learned = {n for n, t in terms.items() if t.requires_grad and t > 0}
        assert set().union(*(own[r] for r in rows)) <= learned, (rows, learned)
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_towers_inside_learn_from_images():
    from rrg_core.learning.pretraining import TowersConfig

    studies = tiny_studies(2)
    inside = tiny_chex(inside=True)
    towers = inside.towers
    base = tiny_settings(batch=2, steps=1, trained=2, box_queries=0., layers=1, hidden=16, cells=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), dtype=np.uint8)
    system = tried(ChexSystem, base, studies, images, (towers, inside.prompt_words))
    model = system.fresh(0, lessons := system.lessons("train"))
    next(system.stages(model))
    torch.testing.assert_close(model.towers.state_dict(), towers.state_dict())
    out = model.train()(**system.batch(lessons, [0, 1]))
    out.loss.backward()
    assert "whole" in out.terms and model.towers.net.image_projection.weight.grad is not None
    assert all(p.grad is None for p in model.towers.net.text.parameters())
