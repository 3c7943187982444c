"""Exported from nbs/12h_model.ipynb: edit it there, then run `nbdev-export`."""
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
import numpy as np
import torch
import torch.nn.functional as F
from fastcore.basics import patch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import ModelOutput
from rrg_core.chex.answers import covering, probabilities, prompt_weight, stands_out, suppressed, without_repeats
from rrg_core.chex.contrast import CONTRASTS, class_loss, feature_loss, finding_loss, global_loss, negated, sentence_loss
from rrg_core.chex.detector import AGGREGATIONS, AMONG, Detected, PromptDetector, grid_positions, look
from rrg_core.chex.matching import ROUNDS, box_loss, doubt, pad_boxes, score_loss
from rrg_core.chex.pooling import FORMS, to_corners, to_shares
from rrg_core.chex.sentences import MEDIUM, PostDecoder, SentenceGenerator, small_gpt2, text_ids, text_loss, write
from rrg_core.chex.towers import VIT_B_32, ChexTowers, Seen, build_towers
from rrg_core.data.study import Box, Study, as_numbers, named, without_text
from rrg_core.engine.settings import CourseError
from rrg_core.nets.attention import CourseConfig
from rrg_core.reports.tokenizers import decode
import tempfile
import numpy as np, pandas as pd, pytest, torch
import matplotlib.pyplot as plt
from rrg_core.chex.matching import pad_boxes
from rrg_core.chex.pooling import to_corners, to_shares
from rrg_core.chex.sentences import small_gpt2
from rrg_core.chex.towers import CourseTowers
from rrg_core.data.study import OBSERVATIONS, Box, as_numbers
from rrg_core.learning.pretraining import TowersConfig, make_tokenizer
from rrg_core.nets.decoder import count_parameters
from rrg_core.nets.saving import half_saved, load_half
from rrg_core.nets.training import fit, learning_curve
from rrg_core.phantom import render
from rrg_core.reports.tokenizers import train_bpe
from rrg_core.results.figures import overlay_boxes
from rrg_core.chex.model import *


def test_settings_that_cannot_be_meant_are_refused():
    assert ChexConfig(**LITERAL).pooling == "code" and ChexConfig.from_dict(ChexConfig(**LITERAL).to_dict()).alpha
    assert set(sum((list(w) for w in STAGES.values()), [])) == set(TERMS)
    for settings, words in [(dict(width=0), "width must be a positive"), (dict(tokens=0), "tokens"),
                            (dict(pooling="mean"), "paper, code, got 'mean'"), (dict(among="all slots"), "among"),
                            (dict(rounds=1), "rounds"), (dict(contrast="clip"), "contrast must be"),
                            (dict(weights={"box": 1}), "no term is called 'box'"),
                            (dict(weights={"boxes": -1}), "weight of boxes"), (dict(hide=-1), "hide"),
                            (dict(skip=2), "skip is a probability"), (dict(box_queries=1.5), "box_queries"),
                            (dict(tau_whole=0), "tau_whole must be"), (dict(directions=3), "1, 2, got 3"),
                            (dict(contrast_on="post"), "needs the settings of a GPT-2"),
                            (dict(layer=3), "no setting 'layer'"), (dict(contrast_on="both"), "roi, post")]:
        with pytest.raises(ValueError, match=words): ChexConfig(**settings)


def test_the_papers_size_is_a_billion():
    d, h, linear = 512, 2048, lambda a, b: a * b + b
    layer = 8 * linear(d, d) + linear(d, h) + linear(h, d) # attention twice, feed-forward
    layer += 4 * 2 * d + 3 * d # norms, LayerScale
    detector = 6 * layer + 3 * d # and three tokens
    detector += (2 * d + linear(d, d) + linear(d, 4)) + (2 * d + linear(d, d)) # boxes, patches
    detector += (2 * d + linear(d, h) + linear(h, d)) + (linear(d, d) + linear(d, 1)) # output, scores
    post = 3 * layer + 1 + 2 * d
    prefix = linear(d, h) + linear(h, 5 * 2 * 24 * 1024)
    clip, gpt2 = 151_277_313, 354_823_168 # derived in 12f and 12e
    assert count_parameters(Chex, ChexConfig.paper()) == clip + detector + post + prefix + gpt2 == 1_051_468_551
    blocks = 4 * (4 * 768 + 4 * linear(768, 768) + linear(768, 3072) + linear(3072, 768)) # of 12, four learn
    learning = count_parameters(Chex, ChexConfig.paper(), trainable=True)
    assert learning == detector + post + prefix + gpt2 + blocks + 2 * 768 + 768 * 512


def test_the_courses_size_can_be_committed():
    class Words: # a tokenizer of a thousand words
        bos_token_id, eos_token_id, pad_token_id = 1, 2, 0
        def __len__(self): return 1000

    course_ = ChexConfig.course(Words())
    assert 2 * count_parameters(Chex, course_) < 6e6 # bytes in half precision, the towers lie elsewhere
    assert course_.lm["vocab_size"] == 1000 and course_.lm["n_positions"] == course_.longest == 64
    assert ChexConfig.course(Words(), longest=30).lm["n_positions"] == 30 and ChexConfig.course().lm is None
    assert ChexConfig.course(Words(), layers=2, width=64).width == 64


def test_a_study_says_what_is_asked():
    one = render(47, 160, site="structured").study
    places = ["left mid lung zone", "left lung"]
    t = study_targets([one, one], ["Edema", "Lung Opacity", "Pleural Effusion"], places)
    assert t["present"].tolist() == [[1, 1, 0]] * 2 and t["class_boxes"].shape == (2, 3, 2, 4)
    corners = to_corners(t["class_boxes"][0, 0], 160, 160)
    assert sorted(corners.round().tolist()) == sorted(list(b.xyxy) for b in one.boxes if b.label == "Edema")
    lung = to_corners(t["region_boxes"][1, 1, 0], 160, 160)
    torch.testing.assert_close(lung, torch.tensor(one.regions["left lung"].xyxy))
    opacity = "Mild reticular opacities in the left mid lung."
    assert t["region_texts"][0][0] == [opacity] and opacity in t["sentences"][0]
    assert t["region_present"][0, 0].tolist()[1] == 1 and t["region_present"][0, 1].tolist()[2] != 1
    assert np.isnan(t["region_present"][0, 0, 0].item()) # nobody spoke of an edema of this zone
    assert study_targets([one]).keys() == {"sentences"} and study_targets([]) == {}
    assert prompt_of("Pleural Effusion") == "Pleural effusion" and prompt_of("svc") == "Svc"


def test_any_subset_of_targets_is_a_batch():
    tiny = tiny_chex(weights={n: 1. for n in TERMS}, box_queries=0.)
    image = dict(features=torch.randn(2, 9, 16))
    box = [.5, .5, .3, .3]
    groups = {
        "classes": dict(classes=["Edema", "Effusion"], present=torch.tensor([[1., 0.], [torch.nan, 1.]]),
                        class_boxes=pad_boxes([[[box], []], [[], []]])),
        "regions": dict(regions=["Heart", "Lung"], region_boxes=pad_boxes([[[box], [box, box]], [[], []]]),
                        findings=["Edema"], region_present=torch.tensor([[[1.], [0.]], [[torch.nan]] * 2]),
                        region_texts=[["Edema.", None], [None, None]]),
        "sentences": dict(sentences=[["Edema.", "No edema."], []])}
    made = {"classes": {"boxes", "scores", "classes"}, "sentences": {"contrast", "whole", "sentence_features",
            "sentence_text"}, "regions": {"region_boxes", "findings", "region_features", "region_text"}}
    for mask in range(8):
        some = [g for k, g in enumerate(groups) if mask >> k & 1]
        for mode in (False, True):
            out = tiny.train(mode)(**image, **{k: v for g in some for k, v in groups[g].items()})
            assert set(out.terms) == set(TERMS) and out.loss.isfinite()
            for name, term in out.terms.items():
                there = any(name in made[g] for g in some)
                lonely = name == "whole" # one report in the batch has no rival
                assert (term > 0) == (there and not lonely), name
                assert term.requires_grad == (there and not lonely), name
            tiny.zero_grad()
            if some: out.loss.backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in tiny.parameters())
        whole = tiny.eval()(**image, **{k: v for g in groups.values() for k, v in g.items()})
        for g in some: # a group costs what it costs alone
            alone = tiny(**image, **groups[g])
            for name in made[g]: torch.testing.assert_close(alone.terms[name], whole.terms[name])


def test_only_what_has_something_to_say_is_decoded():
    torch.manual_seed(0)
    tiny = tiny_chex()
    torch.nn.init.ones_(tiny.post.gate)
    seen_, roi, features = tiny.see(torch.randn(3, 9, 16)), torch.randn(3, 5, 16), torch.randn(3, 5, 3, 16)
    some = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]]).bool()
    for f in (features, None):
        torch.testing.assert_close(tiny.after_some(seen_, roi, f, some), tiny.after(seen_, roi, f)[some])
    batch_ = dict(features=torch.randn(3, 9, 16), sentences=[["Edema."] * 4, ["No edema."], ["Edema.", "Heart."]])
    written, go_on = [], tiny.writer.read
    tiny.writer.read = lambda tokens: written.append(len(tokens)) or go_on(tokens)
    for most, mode, want in ((None, True, 7), (3, True, 3), (3, False, 7), (9, True, 7)):
        tiny.config.max_texts = most
        assert tiny.train(mode)(**batch_).terms["sentence_text"] > 0 and written.pop() == want


def test_single_targets_may_be_missing():
    tiny = tiny_chex(sentences=False, box_queries=0.)
    image, box = dict(features=torch.randn(2, 9, 16)), [.5, .5, .3, .3]
    boxes = pad_boxes([[[box]], [[]]])
    absent, nobody = torch.zeros(2, 1), pad_boxes([[[]], [[]]])
    for given, names in [(dict(class_boxes=boxes), {"boxes", "scores"}), # no labels: scores of what has boxes
                         (dict(present=torch.tensor([[0.], [1.]])), {"classes"}),
                         (dict(present=absent * torch.nan, class_boxes=nobody), set()), # nothing is known
                         (dict(present=absent, class_boxes=nobody), {"scores", "classes"})]:
        out = tiny(**image, classes=["Edema"], **given)
        assert {n for n, t in out.terms.items() if t != 0} == names
        assert out.loss.requires_grad == bool(names)
    regions = dict(regions=["Heart"])
    assert tiny(**image, **regions).loss == 0
    assert tiny(**image, **regions, region_texts=[["Edema."], [None]]).loss == 0 # it cannot write
    assert tiny(**image, **regions, region_boxes=boxes).terms["region_boxes"] > 0
    assert tiny(**image, sentences=[[], []]).loss == 0 # studies without a report


def test_targets_that_do_not_fit_are_named():
    tiny, x, nan = tiny_chex(), torch.randn(2, 9, 16), torch.nan
    edema, heart = dict(classes=["Edema"]), dict(regions=["Heart"])
    wrong = [(dict(), "either features or pixels"), (dict(features=x, pixels=x), "not both"),
             (dict(features=x[..., :8]), r"\(b, n, 16\)"), (dict(features=x[0]), r"\(b, n, 16\)"),
             (dict(features=x[:, :8]), "3 × 3 has no 8 cells"), (dict(features=x, grid=(2, 4)), "2 × 4 has no 9"),
             (dict(features=x, present=torch.zeros(2, 1)), "present needs classes"),
             (dict(features=x, class_boxes=torch.full((2, 1, 1, 4), nan)), "class_boxes needs classes"),
             (dict(features=x, region_boxes=torch.full((2, 1, 1, 4), nan)), "region_boxes needs regions"),
             (dict(features=x, **heart, region_present=torch.zeros(2, 1, 1)), "needs regions and findings"),
             (dict(features=x, **edema, present=torch.zeros(2, 2)), r"present must be \(2, 1\), got \(2, 2\)"),
             (dict(features=x, **edema, present=torch.zeros(1, 1)), "present must be"),
             (dict(features=x, **edema, present=[[1], [0]]), "present must be a tensor, got a list of 2"),
             (dict(features=x, **edema, class_boxes=torch.zeros(2, 1, 4)), r"class_boxes must be \(2, 1, t, 4\)"),
             (dict(features=x, **edema, class_boxes=torch.zeros(2, 1, 1, 5)), "class_boxes must be"),
             (dict(features=x, **heart, region_texts=[["a"]]), "a list for each of 2 studies"),
             (dict(features=x, **heart, region_texts=[["a", "b"], ["c", "d"]]), "1 texts for each study"),
             (dict(features=x, **heart, region_texts=["a", "b"]), "a list for each"),
             (dict(features=x, sentences="Edema."), "a list for each"),
             (dict(features=x, sentences=["Edema.", "Edema."]), "a list for each"),
             (dict(features=x, classes="Edema"), "several, got one text"),
             (dict(features=x, classes=[[]]), "prompt 0 has no text"),
             (dict(features=x, classes=["Edema", ""]), "text 1 must be a text"),
             (dict(features=x, classes=["Edema", None]), "text 1 must be a text"),
             (dict(features=x, sentences=[["Edema", 3], []]), "text 1 must be a text")]
    for batch, words_ in wrong:
        with pytest.raises((ValueError, CourseError), match=words_): tiny(**batch)


def test_eight_studies_are_learned_by_heart():
    from rrg_core.metrics.grounding import iou

    few = [render(s, 160, site="structured").study for s in range(8)]
    heard = sorted({x.text for s in few for x in s.sentences})
    bert, bpe = make_tokenizer("wordpiece", [*heard, *OBSERVATIONS], 500), train_bpe(heard, 600)
    torch.manual_seed(0)
    towers_ = TowersConfig(widths=(8, 8, 16, 16, 16), neck=16, width=32, layers=1, vocab_size=len(bert), joint=32)
    eyes = CourseTowers(towers_.to_dict()).eval()
    torch.nn.init.normal_(eyes.net.text.embeddings.word_embeddings.weight)
    learner = Chex(ChexConfig(width=32, heads=4, layers=2, post_layers=1, dropout=0., box_queries=0., skip=1.,
                              layer_scale=.3, lm=small_gpt2(bpe, 48, 2, longest=60, dropout=0.), longest=60))
    learner.attach(eyes, bert, bpe)
    films_ = torch.stack([torch.tensor(s.images[0].load())[None] for s in few])
    with torch.no_grad(): views = eyes(films_).patches
    views = (views - views.mean((0, 1))) / views.std((0, 1))
    targets = dict(features=views, **study_targets(few, OBSERVATIONS[:13], ["left lung"]))
    start = learner.eval()(**targets).terms
    fit(learner, range(8), lambda rows: targets, steps=100, batch=8, rate=8e-3, weight_decay=0., best=None,
        precision="no", say=lambda line: None)
    end = learner(**targets).terms
    assert all(end[n] < start[n] / 2 for n in ("boxes", "scores", "classes", "contrast", "region_boxes"))
    assert all(end[n] < start[n] / 10 for n in ("region_text", "sentence_text"))
    found, hits = learner.detect(targets["classes"], views), []
    for i, k in zip(*(~targets["class_boxes"][:, :, 0].isnan().any(-1)).nonzero(as_tuple=True)):
        true = targets["class_boxes"][i, k]
        best = found.boxes[i, k, found.logits[i, k].argmax()]
        hits.append(iou(to_corners(best)[None], to_corners(true[~true.isnan().any(-1)])).max().item())
    assert np.mean(hits) > .6 # of the surest box of every finding
    told_ = [(i, t) for i, row in enumerate(targets["sentences"]) for t in row]
    again = [learner.describe([t], views[i:i + 1])[0][0] == t for i, t in told_]
    assert np.mean(again) > .9


def test_prompts_are_independent_and_nothing_is_drawn():
    tiny, cells = tiny_chex(hide=.5, skip=.5, drop_path=.3), torch.randn(2, 9, 16)
    torch.nn.init.ones_(tiny.post.gate)
    asked = ["Edema", ["Effusion", "Fluid"], "Heart"]
    found = tiny.train().detect(asked, cells)
    assert tiny.training and torch.equal(tiny.detect(asked, cells).roi, found.roi)
    for k, prompt in enumerate(asked):
        alone = tiny.detect([prompt], cells)
        for name in found: torch.testing.assert_close(alone[name][:, 0], found[name][:, k], atol=1e-6, rtol=1e-4)
    order = tiny.detect(asked[::-1], cells)
    torch.testing.assert_close(order.roi, found.roi.flip(1), atol=1e-6, rtol=1e-4)
    said = tiny.describe(asked, cells)
    assert said == tiny.describe(asked, cells) and [len(s) for s in said] == [3, 3]
    assert [tiny.describe([p], cells)[0][0] for p in asked] == said[0]
    mean = torch.stack([tiny.vectors([p])[0] for p in ("Effusion", "Fluid")]).mean(0)
    torch.testing.assert_close(tiny.vectors([["Effusion", "Fluid"]])[0], mean)
    torch.manual_seed(0)
    drawn = torch.stack([tiny.vectors([["Effusion", "Fluid"]], draw=True)[0] for _ in range(40)])
    assert len(drawn.unique(dim=0)) == 2


def test_gradients_arrive_everywhere_but_in_what_is_frozen():
    box = [.5, .5, .3, .3]
    batch = dict(pixels=torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8), classes=["Edema", "Effusion"],
                 present=torch.tensor([[1., 0.], [0., 1.]]), class_boxes=pad_boxes([[[box], []], [[], [box]]]),
                 regions=["Heart"], region_boxes=pad_boxes([[[box]], [[box]]]), findings=["Edema"],
                 region_present=torch.tensor([[[1.]], [[0.]]]), region_texts=[["Edema."], ["No edema."]],
                 sentences=[["Edema."], ["No edema."]])
    for trained in (0, 2):
        model_ = tiny_chex(inside=True, trained=trained, weights={n: 1. for n in TERMS})
        torch.nn.init.constant_(model_.post.gate, .5)
        for by_box in (0., 1.):
            model_.config.box_queries = by_box
            model_.train().zero_grad()
            model_(**batch).loss.backward()
            without = {n for n, p in model_.named_parameters() if p.grad is None}
            frozen = {n for n, p in model_.named_parameters() if not p.requires_grad}
            assert without == frozen and all(n.startswith("towers.") for n in frozen)
            assert any(n.startswith("towers.net.image") for n, p in model_.named_parameters()
                       if p.grad is not None) == (trained > 0)
            assert not any(n.startswith("towers.net.text") for n in set(dict(model_.named_parameters())) - frozen)
        assert not model_.towers.net.text.training and model_.detector.training
        model_.detector.requires_grad_(False)
        assert not model_.train().detector.training and model_.writer.training # what does not learn is at rest


def test_boxes_are_asked_in_training_only():
    tiny, cells = tiny_chex(box_queries=1.), torch.randn(2, 9, 16)
    two = pad_boxes([[[[.2, .2, .2, .2], [.8, .8, .2, .2]], []], [[], [[.5, .5, .1, .1]]]])
    batch = dict(features=cells, regions=["Heart", "Lung"], region_boxes=two, findings=["Edema"],
                 region_present=torch.ones(2, 2, 1), region_texts=[["Edema.", "Edema."], ["Edema.", "Edema."]])
    seen, looked = [], tiny.detector.pool
    tiny.detector.pool = lambda patches, boxes, grid: seen.append(boxes.detach()) or looked(patches, boxes, grid)
    assert tiny.eval()(**batch).terms["region_boxes"] > 0 and seen.pop().shape == (2, 6, 4) # three a region
    terms = tiny.train()(**batch).terms
    assert terms["region_boxes"] == 0 and terms["findings"] > 0 and terms["region_text"] > 0
    asked = seen.pop()
    torch.testing.assert_close(asked[0, 0], torch.tensor([.5, .5, .8, .8])) # around both boxes of the region
    assert asked[0, 1].tolist() == [0] * 4 # it has no box, and counts for nothing:
    changed = batch | dict(region_present=torch.tensor([[[1.], [0.]], [[0.], [1.]]]))
    torch.testing.assert_close(tiny(**changed).terms["findings"], terms["findings"])
    none = batch | dict(region_boxes=pad_boxes([[[], []], [[], []]]))
    assert tiny(**none).terms["findings"] > 0 and seen.pop().shape == (2, 6, 4) # no box at all: asked by name
    tiny.config.box_queries = .5
    torch.manual_seed(0)
    coins = [tiny.asks_by_box(two) for _ in range(200)]
    assert 60 < sum(coins) < 140


def test_three_kinds_of_questions():
    tiny = tiny_chex(classes=["Edema", "Effusion"])
    torch.nn.init.ones_(tiny.post.gate)
    image = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)
    box, other = (10, 20, 50, 60), Box("here", 60, 5, 90, 30)
    answers = tiny.explain(image, prompts=["Edema", None, "Edema", "Heart"], boxes=[None, box, box, other])
    text, drawn, both, fourth = answers
    assert 1 <= len(text.boxes) <= 3 and (text.boxes >= 0).all() and (text.boxes <= [96, 64, 96, 64]).all()
    assert (np.diff(text.scores) <= 0).all() and 0 < text.weight < 1 and np.isnan(drawn.weight)
    for a, b in ((drawn, box), (both, box), (fourth, other.xyxy)):
        np.testing.assert_allclose(a.boxes, [b], atol=1e-3)
        assert np.isnan(a.scores).all()
    assert [a.prompt for a in answers] == ["Edema", None, "Edema", "Heart"]
    assert all(set(a.probabilities) == {"Edema", "Effusion"} and isinstance(a.text, str) for a in answers)
    spread = [np.abs(a.token - b.token).max() for a in answers for b in answers if a is not b]
    assert min(spread) > 1e-4 # words and box both count
    assert [a.text for a in tiny.explain(image, ["Edema"])] == [text.text] # as asked alone
    np.testing.assert_allclose(tiny.explain(image, boxes=[box])[0].token, drawn.token, atol=1e-5)
    again = tiny.train().explain(image, prompts=["Edema", None], boxes=[None, box])
    assert tiny.training and all((a.token == b.token).all() for a, b in zip(again, tiny.explain(
        image, prompts=["Edema", None], boxes=[None, box])))
    every = tiny.explain(image, ["Edema"], overlap=1.)[0]
    assert len(every.boxes) == 3
    found = tiny.detect(["Edema"], pixels=torch.tensor(image)[None, None])
    np.testing.assert_allclose(sorted(every.scores), sorted(found.logits[0, 0].sigmoid().tolist()), rtol=1e-5)
    np.testing.assert_allclose(every.token, found.roi[0, 0], rtol=1e-5)
    assert tiny.explain(image, ["Edema"], classes=[])[0].probabilities == {}


def test_a_question_about_a_box_reads_the_box():
    tiny = tiny_chex()
    tiny.post.gate.data.zero_() # the box alone
    cells, other = (torch.randn(1, 36, 16) for _ in range(2))
    other[:, :18] = cells[:, :18] # the lower half of the image differs
    box = lambda *centre: torch.tensor([[[*centre, .05, .05]]])
    def late(image, where): return tiny.answer_tokens(tiny.see(image), [None], where)[2]

    assert (late(cells, box(.9, .9)) - late(other, box(.9, .9))).abs().max() > 1e-2
    torch.testing.assert_close(late(cells, box(.1, .1)), late(other, box(.1, .1)))
    assert (late(cells, box(.1, .1)) - late(cells, box(.9, .1))).abs().max() > 1e-2
    both = torch.cat([torch.full((1, 1, 4), torch.nan), box(.5, .5)], 1) # a text, then a box
    said = tiny.describe(["Edema", None], cells, boxes=both)
    assert said == [[tiny.describe(["Edema"], cells)[0][0], tiny.describe(None, cells, boxes=box(.5, .5))[0][0]]]
    for wrong in (both[:, :1], both[..., :3], both.expand(2, 2, 4)):
        with pytest.raises(ValueError, match=r"boxes must be \(1, 2, 4\)"):
            tiny.describe(["Edema", None], cells, boxes=wrong)


def test_questions_that_are_none_are_refused():
    tiny, image = tiny_chex(), np.zeros((64, 64), np.uint8)
    box, nan = (1, 2, 30, 40), float("nan")
    wrong = [(dict(), "at least one"), (dict(prompts=[]), "at least one"), (dict(prompts="Edema"), "several"),
             (dict(prompts=["Edema"], boxes=[box, box]), "1 prompts and 2 boxes are no pairs"),
             (dict(prompts=[None]), "question 0 has neither"),
             (dict(prompts=["Edema", None], boxes=[None, None]), "question 1 has neither"),
             (dict(boxes=[(1, 2, 3)]), "box 0: four finite"), (dict(boxes=[box, (1, nan, 3, 4)]), "box 1: four"),
             (dict(boxes=[(30, 2, 1, 40)]), "ends before"), (dict(boxes=[(70, 2, 80, 40)]), "outside"),
             (dict(boxes=[(-9, -9, 0, 0)]), "outside"), (dict(boxes=["abcd"]), "box 0"),
             (dict(prompts=[""]), "text 0"), (dict(prompts=[[]]), "no text"), (dict(prompts=[3]), "text 0 must"),
             (dict(prompts=["a"], overlap=2), "overlap"),
             (dict(prompts=["a"], classes=["b"], temperature=0), "temperature is positive"),
             (dict(prompts=["a"], classes=["b"], negatives=["c", "d"]), "1 classes and 2 negatives")]
    for asked, words_ in wrong:
        with pytest.raises(ValueError, match=words_): tiny.explain(image, **asked)
    for bad in (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64)), np.zeros((0, 64), np.uint8), "film.png",
                None, 3.):
        with pytest.raises(ValueError, match="an image must be uint8"): tiny.explain(bad, ["Edema"])
    bare = Chex(tiny.config)
    with pytest.raises(CourseError, match="no towers"): bare.explain(image, ["Edema"])
    with pytest.raises(CourseError, match="tokenizer for prompts"): bare.detect(["Edema"], torch.randn(1, 9, 16))
    with pytest.raises(CourseError, match="tokenizer for sentences"):
        bare.describe(features=torch.randn(1, 9, 16), boxes=torch.rand(1, 1, 4))
    with pytest.raises(ValueError, match="width is 32, the towers' 16"):
        Chex(ChexConfig(width=32)).attach(tiny.eyes)
    with pytest.raises(ValueError, match="no sentence generator"):
        tiny_chex(sentences=False).describe(["Edema"], torch.randn(1, 9, 16))


def test_a_report_is_made_of_answers():
    tiny, image = tiny_chex(), np.zeros((64, 64), np.uint8)
    says = {"Edema": "An edema.", "Heart": "The heart is large.", "Lung": "Nothing here.",
            "Effusion": "An edema.", "Bone": ""}
    token = {"Heart": 1., "Lung": -1.} # on the side of the positive prompts, or of the negatives
    yes, no = tiny.vectors(["Edema"])[0], tiny.vectors(["No edema"])[0]
    made = lambda p, k: Answer(p, says[p], np.zeros((1, 4)), np.ones(1), {}, k / 10, (
        (yes if token.get(p, 1.) > 0 else no).numpy()))
    tiny.explain = lambda image, prompts, **options: [made(p, k) for k, p in enumerate(prompts)]
    text, parts = tiny.report(image, ["Edema", "Effusion", "Bone"], ["Heart", "Lung"], classes=["Edema"])
    assert text == "An edema. The heart is large."
    assert [a.prompt for a in parts] == ["Effusion", "Heart"] # the surer of two
    assert tiny.report(image, ["Bone"]) == ("", [])
    with pytest.raises(ValueError, match="if_found needs classes"): tiny.report(image, [], ["Heart"])


def test_what_is_used_is_what_was_saved():
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for inside in (True, False):
        tiny = tiny_chex(inside=inside, classes=["Edema"])
        torch.nn.init.ones_(tiny.post.gate)
        with tempfile.TemporaryDirectory() as d:
            tiny.save_pretrained(d)
            back = Chex.from_pretrained(d, trust_remote_code=False, local_files_only=True)
            half_saved(tiny, Path(d) / "half")
            halved = load_half(Chex, Path(d) / "half")
        names = set(back.state_dict())
        assert any(n.startswith("towers.") for n in names) == inside
        for loaded, tolerance in ((back, 1e-6), (halved, 2e-2)):
            if not inside: loaded.attach(tiny.eyes)
            answers = [m.eval().explain(image, ["Edema", "Heart"]) for m in (tiny, loaded)]
            for ours, theirs in zip(*answers):
                np.testing.assert_allclose(theirs.token, ours.token, atol=tolerance)
                assert loaded is halved or theirs.text == ours.text and theirs.probabilities
        assert back.writer.lm.lm_head.weight.data_ptr() == back.writer.lm.transformer.wte.weight.data_ptr() # tied
        assert tiny.words("Edema.").input_ids == back.words("Edema.").input_ids
        assert back.words.eos_token == tiny.words.eos_token


def test_errors_quote_nothing():
    from rrg_core.chex.contrast import negated
    from rrg_core.chex.sentences import text_ids
    from rrg_core.chex.towers import build_towers
    from rrg_core.tools.house import quoting

    tiny, image, cells = tiny_chex(), np.zeros((64, 64), np.uint8), torch.randn(1, 9, 16)
    assert quoting({
        "a prompt": lambda x: tiny.detect([x], cells), "prompts": lambda x: tiny.detect(x, cells),
        "an image": lambda x: tiny.explain(x, ["Edema"]), "a box": lambda x: tiny.explain(image, boxes=[x]),
        "boxes": lambda x: tiny.explain(image, ["Edema"], x), "classes": lambda x: tiny(cells, classes=x),
        "negatives": lambda x: tiny.explain(image, ["Edema"], classes=["Edema"], negatives=[x]),
        "sentences": lambda x: tiny(cells, sentences=x), "a sentence": lambda x: tiny(cells, sentences=[[x]]),
        "region texts": lambda x: tiny(cells, regions=["Heart"], region_texts=x),
        "a region's text": lambda x: tiny(cells, regions=["Heart"], region_texts=[[x]]),
        "present": lambda x: tiny(cells, classes=["Edema"], present=x), "targets": lambda x: pad_boxes([[[x]]]),
        "settings": lambda x: ChexConfig(pooling=x), "weights": lambda x: ChexConfig(weights={str(x): 1}),
        "a name": lambda x: ChexConfig(**{str(x): 1}), "towers": lambda x: build_towers({"model_type": x}),
        "a finding": negated, "a text": lambda x: text_ids(tiny.words, [x]),
    }) == []


def test_a_step_of_the_released_code():
    box, cells = [.5, .5, .3, .3], torch.randn(2, 9, 16)
    batch = dict(features=cells, classes=["Edema", "Effusion"], present=torch.tensor([[1., 1.], [0., 1.]]),
                 class_boxes=pad_boxes([[[box], [box]], [[], [box]]]), regions=["Heart"],
                 region_boxes=pad_boxes([[[box]], [[box]]]), findings=["Edema"],
                 region_present=torch.tensor([[[1.]], [[0.]]]),
                 region_texts=[["Edema."], [["No edema.", "Edema."]]],
                 sentences=[["Edema."], ["No edema.", "Edema."]])
    for stage, weights in STAGES.items():
        late = dict(contrast_on="post") if stage == "post" else {}
        for forms in ({}, LITERAL):
            tiny = tiny_chex(weights=weights, box_queries=0., max_texts=1, **forms, **late).train()
            terms = tiny(**batch).terms
            assert set(terms) == set(weights) and all(t.isfinite() for t in terms.values())
            learned = {n for n, t in terms.items() if t.requires_grad}
            assert learned == set(weights) - {"whole"} # the towers are outside
            sum(terms.values()).backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in tiny.parameters())
    ours, theirs = (tiny_chex(**forms) for forms in ({}, LITERAL))
    theirs.load_state_dict(ours.state_dict())
    a, b = (m(**batch).terms for m in (ours, theirs))
    assert all((a[n] - b[n]).abs() > 1e-4 for n in ("scores", "classes", "findings")) # every form is read
