"""Exported from nbs/03c_cleaning.ipynb: edit it there, then run `nbdev-export`."""
import re
from functools import partial
from rrg_core.data.study import named
from rrg_core.reports.sections import as_text, sentences
import pytest
import pandas as pd
from rrg_core.engine.desk import show_table
from rrg_core.data.study import DataError
from rrg_core.reports.cleaning import *


def test_r2gen_accidents():
    r = clean_r2gen
    assert r("Nodule of 2.5 x 3.0 cm.") == "nodule of 25 x 30 cm ." # decimals lose their point
    assert r("approx./unchanged") == "approxunchanged ." and r("and/or") == "andor ." # words fuse
    assert r("Dr. Smith agrees.") == "dr . smith agrees ." # two sentences
    assert r("Right-sided effusion?") == "right-sided effusion ." # the hyphen stays
    assert r("1. Clear.") == "clear ." and r("5. Clear.") == "5 . clear ." # a leading 5. stays
    assert r("Clear. 5. Normal.") == "clear . normal ." and r("Clear 3. Normal.") == "clear . normal ." and r(
        "Clear. 6. Normal.") == "clear . 6 . normal ."
    assert r("Fracture of T11. The rest") == "fracture of t1the rest ." # "1. " is deleted anywhere
    assert r("___ year-old with ___.") == " year-old with  ." # blanks vanish, their spaces stay
    assert r("") == " ." and r("Clear.") == "clear ." # an empty report is a full stop
    assert r("a # $ ~ | 9 b") == "a # $ ~ | 9 b ." and r("a:;<=>?@[b]{c}") == "abc ."
    assert r("isn't \"clear\"") == "isnt clear ."


def test_r2gen_datasets():
    mimic, iu = (partial(clean_r2gen, dataset=d) for d in ("mimic_cxr", "iu_xray"))
    assert mimic("Heart\nis  fine. Clear.") == "heart is fine . clear ." and iu(
        "Heart\nis  fine. Clear.") == "heart\nis  fine . clear ." # IU keeps white space
    dots = "a" + "."*20 + " b"
    assert mimic(dots) == "a . b ." and iu(dots) == "a . b ." # 3 passes leave 3 stops, which the class removes
    assert iu(
        "a........ b") == "a . b ." and iu("XXXX are normal.") == "xxxx are normal ." # the redaction is a word
    for bad in ("mimic", "IU", None):
        with pytest.raises(ValueError, match=str(bad)):
            clean_r2gen("a", bad)


def test_r2gen_alphabet():
    import random

    draw, alphabet = random.Random(0), "".join(map(chr, range(32, 127)))
    for _ in range(300):
        out = clean_r2gen("".join(draw.choice(alphabet) for _ in range(60)))
        assert out == out.lower() and out.endswith(" .") and not set(out) & set("\"/\\',?;*!%^&_+():<=>@[]{}")
        assert all(word == "." or "." not in word for word in out.split())


def test_other_rules():
    assert clean_spaced("A 2.5 cm nodule,\tright.\nClear.") == "A 2 .5 cm nodule, right . Clear ."
    assert clean_radcliq("A 2.5 cm nodule.\nClear.") == "a 2.5 cm nodule . clear ."
    assert clean_llava_rad(" A ___\n b ") == "A ___\n b" and clean_plain(" A ___\n b ") == "A ___ b"
    assert clean_chex("1. no effusion. 2. Clear. 3. No effusion..") == "No effusion."
    assert clean_medclip("No pleural effusion seen. Clear lungs. Café.") == "no pleural effusion seen ."
    assert {
        f("")
        for f in (clean_spaced, clean_radcliq, clean_llava_rad, clean_plain, clean_chex, clean_medclip)
    } == {""}
    assert clean_cvt2distilgpt2("a.") == clean_rgrg("a.") == "a ."


def test_cleaned_twice():
    text = "Right-sided effusion, 2.5 cm. No change."
    for name in ("spaced", "llava-rad", "chex", "radcliq", "plain"):
        assert CLEANERS[name](CLEANERS[name](text)) == CLEANERS[name](text), name
    once = clean_r2gen(text)
    assert once == "right-sided effusion 25 cm . no change ." and clean_r2gen(once) != once


def test_cleaners_refuse():
    for name, rule in CLEANERS.items():
        for bad in (None, float("nan"), 3, b"a"):
            with pytest.raises(DataError, match="must be text"):
                rule(bad)
