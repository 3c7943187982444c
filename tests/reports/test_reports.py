"""Exported from nbs/03_reports.ipynb: edit it there, then run `nbdev-export`."""
import re
from rrg_core.reports.cleaning import CLEANERS, DATASETS, clean_chex, clean_cvt2distilgpt2, clean_llava_rad, clean_medclip, clean_plain, clean_r2gen, clean_radcliq, clean_rgrg, clean_spaced
from rrg_core.reports.indiana import IndianaReport, iu_reports
from rrg_core.reports.sections import KEYS, OFFICIAL, Sections, as_text, choose, overrides_mimic, section_name, sections, sections_mimic, sentences
from rrg_core.reports.tokenizers import LENGTHS, THRESHOLDS, decode, encode_r2gen, losses, train_bpe, train_words, train_wordpiece
import matplotlib.pyplot as plt
import numpy as np, pandas as pd, pytest, seaborn as sns
from collections import Counter
from hashlib import sha256
from rrg_core.engine.desk import Chapter, show_table
from rrg_core.data.bundled import iu_records
from rrg_core.data.openi import split_of, text_group
from rrg_core.data.study import DataError
from rrg_core.reports import *


def test_words_of_cases():
    assert words_of("Heart isn't enlarged; right-sided, 2.5 cm (XXXX).") == [
        "heart", "isn't", "enlarged", "right-sided", "2", "5", "cm", "xxxx"
    ]
    assert words_of("- 'quoted' x-XXXX/y- ") == ["quoted", "x-xxxx", "y"] and words_of("") == []
    with pytest.raises(DataError):
        words_of(None)


def test_reports_checks():
    reports = iu_reports()
    counts = Counter(w for r in reports for w in words_of(r.findings + " " + r.impression))
    assert [sum(n >= k for n in counts.values())
            for k in (1, 3, 10)] == [2089, 1229, 695] # here and below: counts of another program
    words = sorted(len(words_of(r.findings)) for r in reports if r.findings)
    assert [int(np.percentile(words, q))
            for q in (5, 25, 50, 75, 95)] == [14, 22, 29, 39, 59] and words[-1] == 170
    pairs = [(r.findings, r.impression) for r in reports if r.findings or r.impression]
    assert len({f
                for f, _ in pairs if f}) == 2633 and len({i
                                                          for _, i in pairs
                                                          if i}) == 1839 and len(set(pairs)) == 3159


def test_reports_bad_input():
    for function in (sections, sentences, clean_r2gen, clean_spaced, words_of):
        for bad in (None, float("nan"), 3, b"text"):
            with pytest.raises(ValueError, match="must be text"):
                function(bad)
    without = next(r for r in iu_reports() if not r.findings and r.impression)
    assert sentences(without.findings) == [] and choose(without.sections)[0] == "impression"
    with pytest.raises(DataError, match=f"{without.study_id}: findings is empty"):
        choose(without.sections, ("findings", ), without.study_id)


def test_reports_is_quick_to_import():
    import subprocess, sys

    heavy = set(
        "torch datasets matplotlib scipy sklearn seaborn torchxrayvision transformers nltk IPython numba".split())
    code = "import rrg_core.reports, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert "rrg_core.reports" in loaded and not heavy & set(loaded), heavy & set(loaded)
