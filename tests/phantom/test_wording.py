"""Exported from nbs/02h_wording.ipynb: edit it there, then run `nbdev-export`."""
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from rrg_core.data.study import named
from rrg_core.phantom.scene import Finding
import pytest, numpy as np
from rrg_core.phantom.scene import Finding, KINDS
from rrg_core.phantom.wording import *


def test_dice_are_fair_and_independent():
    throws = np.array([[d.random() for _ in range(2)] for d in (Dice(i, "x") for i in range(4000))])
    assert 0 <= throws.min() and throws.max() < 1
    assert abs(throws.mean() - .5) < 4 * (1 / 12 / 8000)**.5 and abs(np.corrcoef(
        throws.T)[0, 1]) < 4 / 4000**.5 # four standard errors
    assert abs(np.bincount([Dice(i, "y").pick(range(5))
                            for i in range(5000)]) / 5000 - .2).max() < 4 * (.16 / 5000)**.5
    plain = Dice(3, "z", plain=True)
    assert [plain.pick("abc") for _ in range(9)] == ["a"] * 9 and plain.shuffled([2, 1, 3]) == [2, 1, 3]
    assert not any(plain.turns(1.) for _ in range(9)) and plain.turns(0., True)
    assert abs(np.mean([Dice(i, "t").turns(.35) for i in range(4000)]) - .35) < 4 * (.35 * .65 / 4000)**.5


def test_agreement_in_two_languages():
    assert filled("{a}{np} {is} seen{where}.", Phrase("opacity",
                                                      " in the lung")) == "An opacity is seen in the lung."
    assert filled("{a}{np} {has} gone.", Phrase("masses", plural=True, mass=True)) == "Masses have gone."
    assert filled("{the} {np} izquierd@ {np}.", Phrase("derrames",
                                                       plural=True)) == "Los derrames izquierdos derrames."
    assert filled("{the} {np} leve+.", Phrase("lesiones", plural=True, feminine=True)) == "Las lesiones leves."
    assert filled("{the} {np} nuev@.", Phrase("masa", feminine=True)) == "La masa nueva."


def test_every_kind_has_words():
    midline = {
        "enlarged heart", "aortic enlargement", "mediastinal widening", "endotracheal tube", "nasogastric tube",
        "sternal wires"
    }
    cases = [(o, k, s, r) for o in KINDS for k in KINDS[o]
             for s in ([""] if k in midline else ["left", "right", "bilateral"])
             for r in ("left lower lung zone", "")]
    for i, (observation, kind, side, region) in enumerate(cases):
        for certainty, change in ((1, ""), (-1, ""), (1, "new"), (1, "unchanged"), (1, "increased"),
                                  (1, "decreased")):
            if observation == "Support Devices" and change in ("increased", "decreased"): continue
            for language, terse, severity in ((l, t, v) for l in LANGUAGES for t in (False, True)
                                              for v in (.1, .5, .95)):
                finding = Finding(observation, kind, side, region, severity, certainty, change=change)
                text = sentence(finding, Dice(i, kind, language), language, terse)
                assert text[0].isupper() and text.endswith(
                    ".") and not set(text) & set("{}@+|") and "  " not in text and " -" not in text, text


def test_severity_words_are_ordered():
    words = [level(Finding("Edema", "edema", "bilateral", severity=s)) for s in (.1, .49, .5, .79, .8, 1.)]
    assert words == [0, 0, 1, 1, 2, 2]
    assert [level(Finding("Pleural Effusion", "effusion", "left", severity=s))
            for s in (.29, .3, .7)] == [0, 1, 2]


def test_unknown_language_or_kind_is_refused():
    with pytest.raises(ValueError, match="'fr'"):
        lexicon("fr")
    with pytest.raises(ValueError, match="hernia"):
        sentence(Finding("Lung Lesion", "hernia"), Dice(0))


def test_listed_joins():
    assert listed(["a"], "or") == "a" and listed(["a", "b"], "or") == "a or b" and listed(["a", "b", "c"],
                                                                                          "or") == "a, b or c"
    assert listed(["masa", "opacidades"], "o") == "masa u opacidades" and listed(["masa", "infiltrado"],
                                                                                 "y") == "masa e infiltrado"
