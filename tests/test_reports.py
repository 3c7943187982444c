"""Exported from nbs/03_reports.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections import Counter
from hashlib import sha256
from rrg_core.cleaning import CLEANERS, DATASETS, clean_chex, clean_cvt2distilgpt2, clean_llava_rad, clean_medclip, clean_plain, clean_r2gen, clean_radcliq, clean_rgrg, clean_spaced
from rrg_core.indiana import IndianaReport, iu_reports
from rrg_core.sections import KEYS, OFFICIAL, Sections, as_text, choose, section_name, sections, sentences
from rrg_core.tokenizers import LENGTHS, THRESHOLDS, decode, encode_r2gen, losses, train_bpe, train_words, train_wordpiece
import matplotlib.pyplot as plt
import numpy as np, pandas as pd, pytest, seaborn as sns
from rrg_core.artifacts import Chapter, show_table
from rrg_core.study import DataError
from rrg_core.reports import *


def test_words_of_cases():
    assert words_of("Heart isn't enlarged; right-sided, 2.5 cm (XXXX).") == ["heart", "isn't", "enlarged", "right-sided", "2", "5", "cm", "xxxx"]
    assert words_of("- 'quoted' x-XXXX/y- ") == ["quoted", "x-xxxx", "y"] and words_of("") == []
    with pytest.raises(DataError): words_of(None)


def test_text_split_sides():
    many = [text_split(f"report {i}", seed=3) for i in range(4000)]
    assert abs(many.count("train")/4000 - .7) < 4*(.7*.3/4000)**.5 # four standard errors of a share
    assert text_split("No  effusion.\n") == text_split("no effusion.") and text_split("a", train=0) == "test" and text_split("a", train=1) == "train"
    assert len({tuple(text_split(str(i), seed=s) for i in range(30)) for s in range(5)}) == 5
    with pytest.raises(DataError): text_split(float("nan"))


def test_reports_checks():
    reports = iu_reports()
    counts = Counter(w for r in reports for w in words_of(r.findings + " " + r.impression))
    assert [sum(n >= k for n in counts.values()) for k in (1, 3, 10)] == [2089, 1229, 695] # datasets-facts §1.1
    words = sorted(len(words_of(r.findings)) for r in reports if r.findings)
    assert [int(np.percentile(words, q)) for q in (5, 25, 50, 75, 95)] == [14, 22, 29, 39, 59] and words[-1] == 170
    pairs = [(r.findings, r.impression) for r in reports if r.findings or r.impression]
    assert len({f for f, _ in pairs if f}) == 2633 and len({i for _, i in pairs if i}) == 1839 and len(set(pairs)) == 3159


def test_reports_bad_input():
    for function in (sections, sentences, clean_r2gen, clean_spaced, words_of, text_split):
        for bad in (None, float("nan"), 3, b"text"):
            with pytest.raises(ValueError, match="must be text"): function(bad)
    without = next(r for r in iu_reports() if not r.findings and r.impression)
    assert sentences(without.findings) == [] and choose(without.sections)[0] == "impression"
    with pytest.raises(DataError, match=f"{without.study_id}: findings is empty"): choose(without.sections, ("findings",), without.study_id)
