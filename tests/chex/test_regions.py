"""Exported from nbs/12s_regions.ipynb: edit it there, then run `nbdev-export`."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align
from transformers import PreTrainedTokenizerFast
from rrg_core.chex.baselines import TaskModel, as_map, corners, square, summed
from rrg_core.chex.detector import PromptLayer, grid_positions, mlp
from rrg_core.chex.matching import box_distance
from rrg_core.chex.model import ChexOutput
from rrg_core.chex.pooling import to_corners, to_shares
from rrg_core.chex.sentences import SentenceGenerator, text_ids, text_loss
from rrg_core.chex.systems import TaskSystem, features_of
from rrg_core.chex.tasks import Answer, told_regions
from rrg_core.chex.writing import begin_writer, describe, words_of, writer_settings
from rrg_core.data.study import REGIONS
from rrg_core.nets.attention import CourseConfig
from rrg_core.reports import sentences
import tempfile
import numpy as np, pandas as pd, torch
from pathlib import Path
from rrg_core.chex.systems import answered, tiny_cells, tiny_studies, tried
from rrg_core.chex.regions import *


def test_a_region_writer_learns_what_is_said_where():
    kinds = "Edema", "Pleural Effusion", "Pneumothorax", "Cardiomegaly"
    studies = tiny_studies(8)
    cells = tiny_cells(studies, dict(zip(kinds, 3 * np.eye(16))))
    settings = dict(batch=8, steps=120, epochs=None, rate=5e-3, weight_decay=0., judged=4, heads=2, layers=1,
                    hidden=64, dropout=0., vocab=300, lm_width=32, lm_layers=1, positions=2, prefix_hidden=32,
                    longest=60, max_texts=16, writer_epochs=0)
    system = tried(Generative, settings, studies, cells)
    with tempfile.TemporaryDirectory() as d:
        system.train(Path(d), 0)
        curve = pd.read_csv(Path(d) / "steps.csv")
        frame = answered(system, Path(d))
    assert curve.loss.iloc[-5:].mean() < .25 * curve.loss.iloc[0] and curve.region_text.iloc[-1] < .4
    said = [(a, b) for q, texts in zip(system.asked, frame.region_texts)
            for a, b in zip(texts, (q.region_texts[k] for k in range(len(q.regions)) if q.region_texts[k]))]
    assert sum(a == b for a, b in said) > .5 * len(said)
    assert frame.overlap.isna().all() and frame.hypothesis.str.len().min() > 0
