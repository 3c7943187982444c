"""Exported from nbs/03g_translation.ipynb: edit it there, then run `nbdev-export`."""
import re, unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from rrg_core.data.study import named
from rrg_core.reports.chat import Answers, asked_many
from rrg_core.reports.sections import as_text, sentences
import json
import numpy as np, pandas as pd
import pytest
from rrg_core.data.study import FIVE, OBSERVATIONS, told
from rrg_core.labels import label, label_many, same_labels
from rrg_core.metrics.clinical import Protocol, clinical_scores
from rrg_core.phantom.grammar import stated
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.reports.chat import endpoint, standin_server
from rrg_core.shown import show_table
from rrg_core.reports.translation import *


def test_every_levante_report_keeps_its_claims():
    for k in range(300, 480):
        report, claims = report_at("levante", scene_at("levante", k))
        found = glossary(report.findings)
        assert found.unknown == [] and not re.search(r"[áéíóúñ@+{}]|the the| ,", found.english), report.findings
        assert len(sentences(found.english)) == len(sentences(report.findings))
        if "cayado" not in report.findings.lower(): assert label(found.english) == stated(claims), report.findings


def test_the_glossary_knows_its_limits():
    say = lambda text, **options: glossary(text, **options).english
    assert say("Derrame pleural derecho pequeño.") == "Small right pleural effusion."
    assert say("Se observan opacidades en ambos pulmones.") == "There are opacities in both lungs."
    assert say("Se observa un nódulo de 12 mm en lóbulo superior izquierdo.") == \
        "There is a nodule of 12 mm in the left upper lobe."
    assert say("Sin derrame ni neumotórax. No se observan infiltrados.") == \
        "No effusion or pneumothorax. There are no infiltrates."
    assert say("No se puede descartar neumonía en LM.") == "Pneumonia in the middle lobe cannot be excluded."
    assert say("derram pleural izquierd . sin cambi .", stemmed=True) == "Left pleural effusion. No change."
    assert "Consolid" in say("consolid ."), "no stems unless it is said so"
    assert say("consolid .", stemmed=True) == "Consolidation."
    unknown = glossary("Zafra en base derecha. Derrame grozo.")
    assert unknown.unknown == ["zafra", "grozo"] and unknown.words == 6 and "zafra" in unknown.english.lower()
    assert say("Nódulo más denso.") == "Nodule more dense." and "ass" not in say("más")
    assert say("mas pulmon . mas dens .", stemmed=True) == "Pulmonary mass. More dense."
    assert say("") == "" and glossary("").words == 0
    assert [phrase(p).article for p in ("derrame", "edema", "nódulos", "opacidad tenue", "opacidad")] == [
        "an", "", "", "a", "an"]
    assert phrase("hilios normales").text == "normal hila" and phrase("masas").text == "masses"
    assert len({e.spanish for e in GLOSSARY}) == len(GLOSSARY) and {e.kind for e in GLOSSARY} == set("nmlxp01234")
    for wrong in (None, 3, ["canary sings"]):
        with pytest.raises(ValueError, match="must be text") as e: glossary(wrong)
        assert "canary" not in told(e.value)


def test_padchest_gives_numbers_alone():
    real = padchest_agreement(label_many, 1500)
    assert real["reports"] > 200 and .5 < real["words known"] < 1
    assert 0 < real["whole reports"] < real["words known"]
    assert list(real["F1"]) == OBSERVATIONS
    assert all(type(v) is float and type(n) is int for v, n in real["F1"].values())
    assert real["F1"]["Pleural Effusion"][0] > .5 and real["F1"]["Cardiomegaly"][0] > .5 # it reads something
    blind = padchest_agreement(lambda texts: np.full((len(texts), 14), np.nan), 1500)
    assert all(v == 0 for v, _ in blind["F1"].values())


def test_unfaithful_translations_are_found():
    reports = [report_at("levante", scene_at("levante", k))[0].findings for k in range(120)]
    own = [glossary(r).english for r in reports]
    assert all(unfaithful(r, e, label) == "" for r, e in zip(reports, own))
    assert all(unfaithful(r, r) for r in reports if len(r.split()) > 6)
    denial = r"(?i)\b(?:there is no|there are no|no evidence of|no|without) "
    denied = [(r, re.sub(denial, "", e)) for r, e in zip(reports, own)
              if re.search(r"(?i)\bno (?:pneumothorax|effusion|pleural|consol|edema)", e)]
    assert len(denied) > 15 and all(unfaithful(r, e, label) for r, e in denied)
    mixed = [unfaithful(a, b, label) for a, b in zip(reports, own[1:]) if a != reports[reports.index(a) - 1]]
    assert sum(map(bool, mixed)) > .8 * len(mixed) # another study's
    assert unfaithful("Nódulo de 1,2 cm.", "Nodule of 1.2 cm.") == ""
    assert "numbers" in unfaithful("Nódulo de 12 mm.", "Nodule of mm.") and "empty" in unfaithful("Derrame.", " ")
    assert unfaithful("Zafra.", "Cardiomegaly.", label) == "" # the glossary cannot tell
    assert unfaithful("Derrame.", "Effusion and cardiomegaly.", label) == "it adds Cardiomegaly"
    assert unfaithful("", "") == ""


def test_both_paths_translate_many():
    texts = [report_at("levante", scene_at("levante", k))[0].findings for k in range(8)]
    own = translate(texts)
    assert own.answers == [glossary(t).english for t in texts] and own.counts()["refused"] == 0
    mixed = translate([texts[0], "Zafra en base derecha."])
    assert mixed.answers[1] is None and mixed.counts()["refused: the glossary lacks words of it"] == 1
    assert "zafra" not in translate(["Zafra en base derecha."], partial=True).answers[0].lower()
    right = lambda m: json.dumps({"english": glossary(m[1]["content"]).english})
    with standin_server(right, ("busy", "malformed")) as (url, seen):
        assert translate(texts, endpoint(url, "m"), label).answers == own.answers
    system, user = (m["content"] for m in seen[0]["messages"])
    assert "Keep every statement" in system and user in texts
    with standin_server(lambda m: json.dumps({"english": "Pneumothorax."})) as (url, seen):
        wrong = translate(texts, endpoint(url, "m"), label, tries=2)
    assert wrong.answers == [None] * 8 and len(seen) == 2 * len(set(texts)) # each asked twice
    assert all(wrong.reasons) and "stems" in question("derram", True)[0]["content"]
    for bad in (["canary", None], [3]):
        with pytest.raises(ValueError, match="must be text") as e: translate(bad)
        assert "canary" not in told(e.value)
