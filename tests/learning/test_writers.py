"""Exported from nbs/07h_writers.ipynb: edit it there, then run `nbdev-export`."""
import re
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerFast
from rrg_core.data import load
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.standins import RANDOM, load_standin
from rrg_core.nets.decoder import report_batch
from rrg_core.nets.saving import half_saved, load_half
from rrg_core.nets.training import fit
from rrg_core.reports.cleaning import clean_r2gen
from rrg_core.reports.tokenizers import decode, encode_r2gen, train_words
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
