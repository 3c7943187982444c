"""Exported from nbs/07_learning.ipynb: edit it there, then run `nbdev-export`."""
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
from rrg_core.engine.code import Registry, for_readers
from rrg_core.engine.experiments import System
from rrg_core.engine.settings import Profile
from rrg_core.learning.baselines import ORACLE, micro_f1, trivial_reports
from rrg_core.learning.published import chosen
from rrg_core.learning.standins import RANDOM, STANDINS, WEIGHTS, standin_artifact, standin_recipe
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
from rrg_core.learning.r2gen import R2Gen, R2GenConfig
from rrg_core.learning.quality import auroc_columns, described as described_logits, label_scores, label_table, language_table, retrieval_table
from rrg_core.learning.standins import STANDINS, load_standin, standin_folder, weights_table
from rrg_core.learning.writers import R2GenSystem, collate, curves_of, images_of, scale_of, shown, split_of, words_of
from rrg_core.learning.ceilings import ceilings, decodings, swapped
from rrg_core.data.study import OBSERVATIONS
from rrg_core.results.systems import Reports
from rrg_core.results.tables import Measure, comparison, measures, note_costs
from rrg_core.reports.tokenizers import train_words
from rrg_core.nets.training import overfit
from rrg_core.learning import *


def test_throughput_covers_every_model():
    speed = throughput(load_profile("smoke"), steps=1)
    assert len(speed) == 7 and (speed["studies a second"] > 0).all() and speed.hardware.notna().all()


def test_a_step_s_speed_leaves_the_first_out():
    from types import SimpleNamespace
    from rrg_core.learning import _step_row

    def speed_of(*steps): # (studies, seconds) each
        steps = [dict(studies=n, seconds=s) for n, s in steps]
        return _step_row("x", SimpleNamespace(steps=steps, hardware="CPU", precision="no"))["studies a second"]

    assert speed_of((32, 10.), (32, 1.), (16, 1.)) == 24
    for first in (.01, 1., 100.): assert speed_of((32, first), (32, .5), (32, .5)) == 64
    timed = []

    def counted(model, data, collate, **options): # what a training is asked for
        timed.append(options["steps"])
        return SimpleNamespace(steps=[dict(studies=32, seconds=9.)] + [dict(studies=32, seconds=1.)]*3,
                               hardware="CPU", precision="no")

    with pytest.MonkeyPatch.context() as m:
        m.setattr("rrg_core.nets.training.fit", counted)
        rates = throughput(load_profile("smoke"), steps=3)["studies a second"].tolist()
    assert timed == [4]*6 and rates[:6] == [32]*6
