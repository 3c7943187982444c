"""Exported from nbs/04a_lexicon.ipynb: edit it there, then run `nbdev-export`."""
import re, unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from rrg_core.reports.sections import blocks
import pytest
from rrg_core.labels.lexicon import *


def test_edit_distance_agrees_with_known_values():
    assert edit_distance("kitten", "sitting", 5) == 3 # the textbook example
    assert edit_distance("ab", "ba", 2) == 1 and edit_distance("", "abc", 3) == 3 and edit_distance(
        "same", "same", 0) == 0
    assert edit_distance("pneumonia", "fracture", 2) == 3 # gives up at limit + 1


def test_canonical_mends_typos_and_leaves_words_alone():
    typos = dict(cardiomegally="cardiomegaly",
                 effuson="effusion",
                 pnuemothorax="pneumothorax",
                 atelectesis="atelectasis",
                 silouette="silhouette",
                 consolidaton="consolidation",
                 fratcure="fracture",
                 plueral="pleural",
                 haemorrhage="hemorrhage",
                 edeam="edema",
                 nodlue="nodule")
    assert {w: canonical(w) for w in typos} == typos
    for word in ("infusion diffusion pneumonitis structure infarction bronchiectasis pneumomediastinum abnormal "
                 "capacity vascularity suspicion").split():
        assert canonical(word) == word, word


def test_split_report_keeps_decimals_and_offsets():
    text = "A 1.5 cm nodule vs. scar.no effusion; stable\n\nHeart normal? Correlate. ? mass"
    parts = split_report(text)
    assert [s.strip() for _, s in parts] == [
        "A 1.5 cm nodule vs. scar", "no effusion", "stable", "Heart normal?", "Correlate", "? mass"
    ]
    assert all(text[start:start + len(s)] == s for start, s in parts) and split_report(" \n ") == []
    line = read_line("No left plueral effuson", offset=10)
    assert line.text == "no left pleural effusion" and line.span(line.text.index("pleural"), len(
        line.text)) == (18, 33)


def test_traps_are_not_mentions():
    def seen(text):
        return {o for _, _, e in find_mentions(read_line(text).text) for o in e.observations}

    for text in [
            "pericardial effusion", "massive", "tuberculosis", "portable", "Kerley lines", "sternotomy wires",
            "clips", "coronary stent", "opaque? no", "over the heart", "in the mediastinum", "mass effect",
            "soft tissue edema", "calcified nodule", "vertebral body collapse"
    ]:
        assert not seen(text), text
    assert seen("plate-like atelectasis") == {"Atelectasis"} and seen("massive effusion") == {"Pleural Effusion"}
    assert seen("no pleural or pericardial effusion") == {"Pleural Effusion"
                                                          } and seen("non-calcified nodule") == {"Lung Lesion"}
    assert seen("pleural scarring") == {"Pleural Other"} and seen("cardiomediastinal silhouette") == {
        "Enlarged Cardiomediastinum"
    }
    assert seen("nodular opacity") == {"Lung Lesion", "Lung Opacity"
                                       } and seen("pulmonary fibrosis") == {"Pleural Other"}


def test_cues_read_the_longest_phrase():
    def cues(text):
        return [name for _, _, name in find_cues(read_line(text).text)]

    assert cues("no change in the effusion") == ["keep"] and cues("no effusion") == [
        "denial_before"
    ] and cues("no new effusion") == ["doubt_around"]
    assert cues("cannot exclude") == ["doubt_around"] and cues("cannot be excluded") == [
        "doubt_after"
    ] and cues("is excluded") == ["denial_after"]
    assert cues("has not resolved") == ["keep"] and cues("has resolved") == ["denial_after"
                                                                             ] and cues("likely pneumonia") == []
    assert cues("effusion: none") == ["none_after"] and cues("no longer seen") == ["denial_after"]


def test_cues_tell_what_a_denial_is_about():
    def cues(text):
        return [name for _, _, name in find_cues(read_line(text).text)]

    for text, *names in [
        ("no doubt", "keep"), ("no treatment of", "keep"),
        ("no question of", "denial_before", "doubt_before"),
        ("no imaging evidence of", "denial_before"), ("No. 5 rib", ), ("no 5 mm nodule", "denial_before"),
        ("not inconsistent with", "doubt_around"), ("can rule it out", "denial_before"),
        ("cannot rule it out", "doubt_around"), ("this rules it out", "denial_before"),
        ("has not recurred", "denial_after"), ("it (-)", "minus"), ("it -ve", "minus"), 
        ("it - none", "none_after"),
        ("ddx: it", "doubt_list"), ("differential aeration", ), ("it, ?mass", "doubt_before"),
        ("it (probable)", "doubt_after"), ("is there edema?", "doubt_whole", "mark_after"),
        ("does not show", "denial_before"), ("does not reach", ), ("did not recur", "denial_after"),
        ("has not resolved", "keep"), ("failed to appear", "denial_after"),
        ("no longer requires drainage of", "keep"), ("no longer has", "denial_before"),
        ("not known when", "keep"), ("no more than a", "keep"), ("not there a year ago", "keep"),
        ("not definitely a", "doubt_around"), ("not definitely seen", "denial_after"),
        ("not proven", "doubt_after"), ("not diagnostic of", "doubt_around"), ("not real", "denial_after"),
        ("indistinguishable from", "doubt_both"), ("cannot tell it from", "doubt_whole"),
        ("cannot be confirmed or excluded", "doubt_after"), ("cannot be identified", "denial_after"),
        ("more likely this than", "doubt_before"), ("argues against", "denial_before"),
        ("all but disappeared", "keep"), ("was pulled", "denial_after"), ("was pulled back", ),
        ("edema: not any longer", "none_after"), ("was resected", "denial_after"),
        ("no previous X-ray", "keep"), ("not in a position to exclude", "doubt_around"),
        ("edema? Answer: no", "none_after"), ("edema 0", "minus"),
        ("edema? yes", "yes_after"), ("edema? no", "none_after"), ("edema: not excluded", "doubt_after")
    ]:
        assert cues(text) == names, (text, cues(text))
    for text, *parts in [("No:\n- edema\n- mass", "No \n, edema\n, mass"),
                         ("No edema:\n- mass", "No edema:\n", "mass"),
                         ("Absent:\n\n- edema", "Absent:", "edema"),
                         ("Possible:\n- edema\nHeart: big", "Possible \n, edema", "Heart: big")]:
        assert [s for _, s in split_report(text)] == parts, (text, split_report(text))
    assert canonical("nopneumothorax") == "no pneumothorax" and canonical("pleuraleffusion") == "pleural effusion"
    assert canonical("a" * 100_000) == "a" * 100_000


def test_states_follow_the_convention():
    def state(text):
        return find_state(text, 0, len(text))[1]

    assert state("is normal") == 0 and state("is enlarged") == 1 and state("is stable") == -1 and state(
        "borderline normal") == -1
    assert state("not enlarged") == 0 and state("not normal") == 1 and state(
        "at the upper limits of normal") == 0 and state("stable and enlarged") == 1
    assert find_state("is where it should be", 0, 21) is None


def test_normalize_keeps_the_way_back():
    for text, plain in [
        ("can\u2019t", "can't"), ("e\ufb00usion", "effusion"), ("\u0153dema", "oedema"),
        ("con\u00adsolidation", "consolidation"), ("effu-\nsion", "effusion"), ("effu-\r\n  sion", "effusion"),
        ("effu\u00ad\nsion", "effusion"), ("effu- sion", "effusion"), ("right-\nsided", "right-sided"),
        ("left- and right", "left- and right"), ("a\u200bb\ufeff", "ab"), ("\uff30neumonia", "Pneumonia"),
        ("1\u00bd cm", "1\u00bd cm"), ("a\u00a0b", "a b"), ("a\u2028b\rc\r\nd", "a\nb\nc\nd"),
        ("left\u2010sided", "left-sided"), ("a\u2026b", "a...b"), ("clear", "clear")
    ]:
        made, where = normalize(text)
        assert made == plain and len(where) == len(made) + 1
        assert where[-1] == len(text) and list(where) == sorted(where)
        kept = [i for i, char in enumerate(made) if char.isalnum() and text[where[i]] < "\x80"]
        assert kept and all(made[i] == text[where[i]] for i in kept)
