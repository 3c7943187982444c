"""Exported from nbs/07h_writers.ipynb: edit it there, then run `nbdev-export`."""
import re
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from fastcore.basics import patch
from transformers import PreTrainedTokenizerFast
from rrg_core.data import load
from rrg_core.engine.code import Registry, for_readers
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.baselines import micro_f1
from rrg_core.learning.published import load_encoder, standins_among
from rrg_core.learning.r2gen import R2Gen, R2GenConfig
from rrg_core.learning.standins import RANDOM
from rrg_core.metrics.text import text_scores
from rrg_core.nets.decoder import report_batch, report_loss
from rrg_core.nets.recipes import Recipe
from rrg_core.nets.saving import half_saved, load_half
from rrg_core.nets.training import fit
from rrg_core.reports.cleaning import clean_r2gen
from rrg_core.reports.tokenizers import decode, encode_r2gen, train_words
import pytest
from rrg_core.learning.writers import *


def test_spoken_is_read_like_the_original():
    from rrg_core.labels import label
    from rrg_core.reports.cleaning import clean_r2gen

    said = "The heart is enlarged. There is no pleural effusion."
    assert spoken(clean_r2gen(said, "iu_xray")) == said.lower()
    assert label(spoken(clean_r2gen(said, "iu_xray"))) == label(said)


def test_features_are_standardised_by_the_training_images():
    import numpy as np

    rng = np.random.default_rng(0)
    raw = rng.normal(3, [1, 5], (40, 6, 2)).astype("f4")
    scale = np.stack([raw.mean((0, 1)), raw.std((0, 1)) + 1e-3])
    assert abs(standardised(raw, scale).mean((0, 1), dtype="f4")).max() < .01
    assert abs(standardised(raw, scale).std((0, 1), dtype="f4") - 1).max() < .01
    # others are not made to look like the training images
    assert standardised(raw[:1] + 5, scale).mean(dtype="f4") > 1


def test_a_batch_holds_every_input():
    table = pd.DataFrame(dict(study_id=["a", "b", "c"], findings=["x", "y", "z"]))
    made = Studies(table, None, [[0, 5, 0], [0, 6, 7, 0], [0, 8, 0]],
                   features=np.ones((3, 4, 2), "f2"), pixels=np.zeros((3, 1, 8, 8), np.uint8),
                   word_states=[torch.ones(2, 3), torch.ones(3, 3), torch.ones(2, 3)], kind=np.arange(3))
    whole, = made.batches()
    assert {k: (tuple(v.shape), v.dtype) for k, v in whole.items()} == {
        "decoder_input_ids": ((3, 3), torch.int64), "labels": ((3, 3), torch.int64),
        "features": ((3, 4, 2), torch.float32), "pixels": ((3, 1, 8, 8), torch.uint8),
        "word_states": ((3, 3, 3), torch.float32), "kind": ((3, ), torch.int64)}
    assert whole["word_states"][0, 2].tolist() == [0, 0, 0] and whole["labels"][0].tolist() == [5, 0, -100]
    assert [len(b["labels"]) for b in made.batches(2)] == [2, 1]
    assert len(made.first(2)) == 2 and len(made.first(None)) == 3
    assert made.first(2).inputs["kind"].tolist() == [0, 1]


def test_dimmed_features_lose_a_share_of_their_channels():
    x = np.ones((3, 4, 10), "f2")
    assert [(dimmed(x, s)[0, 0] == 0).sum() for s in (0, .3, 1)] == [0, 3, 10]
    assert np.array_equal(dimmed(x, .3)[0], dimmed(x, .3)[2]) and x.all()
    with pytest.raises(ValueError, match="between 0 and 1"): dimmed(x, 30)


def test_curves_are_read_from_the_records():
    runs = {"a": {0: pd.DataFrame(), 1: pd.DataFrame()}, "b": {3: pd.DataFrame()}}
    for k, frame in enumerate(f for frames in runs.values() for f in frames.values()):
        frame.attrs["evaluations"] = {"step": [2, 4], "epoch": [1, 2], "F1": [k, k + .5], "seconds": [0, 0]}
    found = curves_of(runs, ["a", "b"])
    assert found.groupby("variant").F1.max().to_dict() == {"a": .5, "b": 2.5} and "seconds" not in found
    assert curves_of(runs, ["a"], 1).F1.tolist() == [1, 1.5]


def test_a_silenced_encoder_passes_on_what_it_kept():
    from rrg_core.nets.encoders import SmallResNet, SmallResNetConfig

    encoder = SmallResNet(SmallResNetConfig(widths=(8, 16, 16), blocks=1)).eval()
    pixels, seen = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8), []
    for stage in silenced(encoder, .3).stages: # hooks of the test come after those that silence
        stage.register_forward_hook(lambda _, given, out: seen.append((out == 0).all((0, 2, 3))))
    with torch.no_grad(): encoder(pixels)
    assert [len(s) for s in seen] == [8, 16, 16] and all(s.sum() >= round(.3*len(s)) for s in seen)
    same = SmallResNet(SmallResNetConfig(widths=(8, 16, 16), blocks=1)).eval()
    with torch.no_grad():
        before = same(pixels).patches
        assert torch.equal(silenced(same, 0.)(pixels).patches, before)
        assert not silenced(same, 1.)(pixels).patches.any()
    with pytest.raises(ValueError, match="between 0 and 1"): silenced(same, 30)


def test_a_system_trains_saves_and_writes_frozen_or_end_to_end():
    import tempfile
    from dataclasses import replace
    from pathlib import Path
    from rrg_core.engine.settings import profile
    from rrg_core.learning import DEFAULTS
    from rrg_core.learning.standins import train_standin

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        d, p = Path(d), replace(profile("smoke"), train=8, valid=4, test=5)
        m.setenv("RRG_FIGURES", str(d/"figures"))
        m.setenv("RRG_CACHE", str(d/"cache"))
        train_standin("standin-shapes-resnet", p, say=lambda line: None)
        start = load_encoder("standin-shapes-resnet", p).state_dict()
        for rate in (None, 1e-3):
            s = DEFAULTS(p) | dict(encoder="standin-shapes-resnet", encoder_rate=rate, epochs=2, judged=3)
            s["batch"] = 4
            system, folder = R2GenSystem(s, p), d/f"model {rate}"
            folder.mkdir()
            system.train(folder, 0)
            model, words = system.saved(folder)
            told = written(system, folder, 3)
            assert told.study_id.is_unique and len(told) == 3 and told.reference.str.len().min() > 0
            assert len(written(system, folder)) == 5
            seen = pd.read_csv(folder/"evaluations.csv")
            assert len(seen) == 2 and seen["validation loss"].gt(0).all()
            assert seen[["validation F1", "validation BLEU-4"]].stack().between(0, 1).all()
            assert len(pd.read_csv(folder/"steps.csv")) == 4
            if rate: # what was frozen has no encoder inside
                learned = model.image_encoder.state_dict()
                same = {k for k in start if torch.equal(learned[k], start[k].half().float())}
                assert same == {k for k in start if k.startswith("head.")}
            else:
                assert model.config.image_encoder is None


def test_errors_of_learning_quote_no_report():
    from rrg_core.learning import baselines, pretraining, published, quality, shape_scenes, standins
    from rrg_core.tools.house import quoting

    assert quoting({
        "rates": baselines.best_constant_labels,
        "nearest": lambda x: baselines.nearest_labels(x, x),
        "data": lambda x: pretraining.world(x, "train", 2, 32),
        "tokenizer": lambda x: pretraining.make_tokenizer(["a"], 300, x),
        "texts": lambda x: pretraining.make_tokenizer([x, None], 300, "bpe"),
        "a saved model": pretraining.load_saved,
        "a choice": published.chosen,
        "weights": standins.weights,
        "a stand-in": standins.standin_folder,
        "its recipe": standins.standin_recipe,
        "its start": lambda x: standins.load_standin("generic", init=x),
        "a split": lambda x: shape_scenes.captions(x, 2),
        "labels": lambda x: quality.auroc_columns(x, x),
        "a reference": lambda x: baselines.micro_f1(pd.DataFrame({"hypothesis": [x], "reference": [x]})),
        "a written report": lambda x: spoken([x]),
        "reports": lambda x: words_of([[x]], 1),
    }) == []
