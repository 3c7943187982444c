"""Exported from nbs/07_learning.ipynb: edit it there, then run `nbdev-export`."""
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from rrg_core.engine.code import Registry, for_readers
from rrg_core.engine.experiments import System
from rrg_core.engine.settings import Profile
from rrg_core.learning.baselines import ORACLE, trivial_reports
from rrg_core.learning.pretraining import TASKS, world
from rrg_core.learning.r2gen import R2Gen, R2GenConfig
from rrg_core.learning.standins import STANDINS, standin_artifact, standin_recipe
from rrg_core.learning.writers import RANDOM, Pairs, collate, decode_writer, described, features_of, image_encoder, micro_f1, paired, pixels_of, read_writer, scale_of, split_of, spoken, standardised, train_writer, words_of, write_reports
from rrg_core.nets.encoders import SmallPyramidConfig
from rrg_core.nets.training import fit
import time, pytest, numpy as np, pandas as pd, torch, matplotlib.pyplot as plt
from dataclasses import replace
from rrg_core.engine.desk import Chapter, explore
from rrg_core.learning.baselines import NORMAL, ORACLE, best_constant_labels, constant_report
from rrg_core.results.claims import Claim, decide
from rrg_core.reports.cleaning import clean_r2gen
from rrg_core.engine.experiments import experiments, kept, run_experiments, run_parts
from rrg_core.results.figures import attention_strip, colour, compare_reports, show_study
from rrg_core.labels import label, label_many
from rrg_core.metrics.clinical import PROTOCOLS, ClinicalStatistics
from rrg_core.metrics.stats import bootstrap_replicates, interval
from rrg_core.nets.decoder import cross_attention, leaks, report_batch
from rrg_core.phantom import render, seeds
from rrg_core.engine.settings import profile as load_profile
from rrg_core.learning.quality import auroc_columns, described as described_logits, label_scores, label_table, language_table, retrieval_table
from rrg_core.learning.standins import STANDINS, load_standin, standin_folder, weights_table
from rrg_core.data.study import OBSERVATIONS
from rrg_core.results.systems import Reports
from rrg_core.results.tables import Measure, comparison, measures, note_costs
from rrg_core.reports.tokenizers import train_words
from rrg_core.nets.training import overfit
from rrg_core.learning import *


def test_throughput_covers_every_model():
    speed = throughput(load_profile("smoke"), steps=1)
    assert len(speed) == 7 and (speed["studies a second"] > 0).all() and speed.hardware.notna().all()
