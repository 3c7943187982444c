"""Exported from nbs/07_learning.ipynb: edit it there, then run `nbdev-export`."""
import re
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerFast
from rrg_core.learning.baselines import ORACLE, trivial_reports
from rrg_core.reports.cleaning import clean_r2gen
from rrg_core.data import load
from rrg_core.nets.encoders import SmallPyramidConfig
from rrg_core.nets.decoder import report_batch
from rrg_core.engine.parts import code_parts, data_parts, digest, folder_hash, model_part, prefix, standin_folder
from rrg_core.learning.pretraining import TASKS, world
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.r2gen import R2Gen, R2GenConfig
from rrg_core.nets.saving import half_saved, load_half
from rrg_core.learning.quality import label_table
from rrg_core.learning.standins import STANDINS, load_standin, standin_recipe, start_of, train_standin
from rrg_core.reports.tokenizers import decode, encode_r2gen, train_words
from rrg_core.nets.training import fit
import time, pytest, numpy as np, pandas as pd, torch, matplotlib.pyplot as plt
from dataclasses import replace
from rrg_core.engine.artifacts import Chapter, explore
from rrg_core.learning.baselines import NORMAL, ORACLE, best_constant_labels, constant_report
from rrg_core.results.claims import Claim, judge
from rrg_core.engine.experiments import about, experiments, note_speeds, run_experiments, run_parts
from rrg_core.results.figures import attention_strip, colour, compare_reports, show_study
from rrg_core.labels import label, label_many
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.nets.decoder import cross_attention, leaks, report_batch
from rrg_core.engine.parts import digest, folder_hash, note_outputs
from rrg_core.phantom import render, seeds
from rrg_core.engine.settings import profile as load_profile
from rrg_core.learning.quality import auroc_columns, described as described_logits, label_scores, label_table, language_table, retrieval_table
from rrg_core.learning.standins import STANDINS, load_standin, weights_table
from rrg_core.data.study import OBSERVATIONS
from rrg_core.results.systems import Reports
from rrg_core.results.tables import Measure, comparison, measures
from rrg_core.reports.tokenizers import train_words
from rrg_core.nets.training import overfit
from rrg_core.learning import *


def test_spoken_is_read_like_the_original():
    said = "The heart is enlarged. There is no pleural effusion."
    assert spoken(clean_r2gen(said, "iu_xray")) == said.lower()
    assert label(spoken(clean_r2gen(said, "iu_xray"))) == label(said)


def test_features_are_standardised_by_the_training_images():
    rng = np.random.default_rng(0)
    raw = rng.normal(3, [1, 5], (40, 6, 2)).astype("f4")
    scale = np.stack([raw.mean((0, 1)), raw.std((0, 1)) + 1e-3])
    assert abs(standardised(raw, scale).mean(
        (0, 1), dtype="f4")).max() < .01 and abs(standardised(raw, scale).std((0, 1), dtype="f4") - 1).max() < .01
    assert standardised(raw[:1] + 5,
                        scale).mean(dtype="f4") > 1 # others are not made to look like the training images


def test_throughput_covers_every_model():
    speed = throughput(load_profile("smoke"), steps=1)
    assert len(speed) == 7 and (speed["studies a second"] > 0).all() and speed.hardware.notna().all()
