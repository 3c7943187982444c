"""Exported from nbs/04b_scopes.ipynb: edit it there, then run `nbdev-export`."""
import re
from dataclasses import dataclass, field
from rrg_core.labels.lexicon import Entry, Line, find_cues, find_mentions, find_state, read_line
import pytest
from rrg_core.labels.scopes import *


def test_forward_scopes_end_where_the_sentence_turns():
    def reached(text, wide=True):
        atoms = atoms_of(text)
        return text[:atoms[reach_forward(atoms, 0, wide)].end]

    assert reached(
        "no consolidation , effusion , or pneumothorax") == "no consolidation , effusion , or pneumothorax"
    assert reached("no consolidation , effusion but edema").strip() == "no consolidation , effusion"
    assert reached("no pneumothorax , small effusion").strip() == "no pneumothorax"
    assert reached("no pneumothorax , small nodule , or mass").endswith("mass") and reached(
        "no effusion and pneumothorax are seen").endswith("seen")
    assert reached("no effusion and heart is enlarged").strip() == "no effusion" and reached(
        "possible edema , effusion", wide=False).strip() == "possible edema"


def test_sentences_are_read_with_their_rules():
    def read(text):
        return {
            o: (value, rule)
            for _, _, e, value, rule, _ in read_sentence(read_line(text).text)
            for o in e.observations
        }

    assert read("possible effusion has resolved") == {"Pleural Effusion": (0, "denied after")}
    assert read("no opacity suspicious for pneumonia") == {
        "Lung Opacity": (0, "denied before"), "Pneumonia": (0, "denied before")
    }
    assert read("atelectasis versus infiltrate") == {
        "Atelectasis": (-1, "one or another"), "Lung Opacity": (-1, "one or another")
    }
    assert read("no change in effusion or pneumothorax") == {
        "Pleural Effusion": (1, "no change"), "Pneumothorax": (1, "no change")
    }
    assert read("pacemaker in normal position") == {"Support Devices":
        (1, "mentioned")} and read("no evidence of hardware failure")["Support Devices"][0] == 1
    assert read("Normal heart size, mediastinal contours, and hila") == {
        "Cardiomegaly": (0, "state: normal"), "Enlarged Cardiomediastinum": (0, "state: normal")
    }
    assert read("the heart and a rib") == {"Cardiomegaly": (None, "no word for its state")}


def test_dashes_signs_and_lists_bound_a_scope():
    def read(text):
        return [v for _, _, e, v, _, _ in read_sentence(read_line(text).text) if e.observations]

    for text, *values in [
        ("no edema - effusion", 0, 1), ("no edema, effusion", 0, 0), ("edema (+), effusion (-)", 1, 0),
        ("(-) edema (-) effusion", 0, 0), ("edema [no] effusion [small]", 0, 1), ("effusion, edema: -", 1, 0),
        ("ddx: mild edema, a small mass", -1, -1), ("possible edema, effusion", -1, -1),
        ("possible edema, effusion is small", -1, 1), ("edema is absent, as is effusion", 0, 0),
        ("no evidence, as told by phone, of edema", 0), ("resolution of the edema has not occurred", 1),
        ("after tube removal the edema persists", 0, 1), ("edema, if present, is mild", -1),
        ("no CT was done for the mass", 1), ("no scan is at hand of the mass", 1),
        ("no surgeon has seen the mass", 1),
        ("no focal air is dense consolidation", 0), ("no evidence was found of a mass", 0),
        ("no pain from the mass", 1), ("no cavity in the consolidation", 0, 1), ("no sign of the mass", 0),
        ("no residue of the mass", 0), ("no sign of healing of the fracture", 1), ("no layering of effusion", 1),
        ("no collection of fluid or effusion", 0), ("no sign that the fracture is recent", 1),
        ("no sign that the fracture persists", 0), ("no reason to drain the effusion", 1),
        ("no reason to suspect an effusion", 0), ("nothing explains the edema", 1),
        ("nothing shows the edema", 0), ("has not drained the effusion", 1), ("not seeing the effusion", 0),
        ("without contrast the mass is hidden", 1), ("no fluid in the lungs or effusion", 0),
        ("there was edema, but it has resolved", 0), ("edema is suggested but not proven", -1),
        ("no edema, although it may be hidden", -1), ("edema, but the mass is not seen", 1, 0),
        ("pneumothorax after biopsy?", -1), ("edema, which was severe, has cleared", 0),
        ("effusion, edema: neither", 0, 0), ("left effusion, edema: none", 1, 0),
        ("of edema there is no trace", 0), ("edema I do not see", 0), ("of the mass nothing is left", 0),
        ("absent: edema, effusion", 0, 0), ("no evidence of: edema, effusion", 0, 0),
        ("no edema, only effusion", 0, 1), ("no edema, clear lungs, mass", 0, 1),
        ("probably edema rather than effusion", -1, 0), ("edema, effusion, or both", -1, -1),
        ("edema is not excluded, nor is effusion", -1, -1), ("edema cannot be told from effusion", -1, -1),
        ("consolidation (versus mass)", -1, -1), ("could be in keeping with edema", -1),
        ("has the effusion resolved?", -1),
        ("we cannot say that edema is absent", -1)
    ]:
        assert read(text) == values, (text, read(text))
