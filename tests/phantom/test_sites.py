"""Exported from nbs/02j_sites.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass, field
import pandas as pd
from rrg_core.engine.code import Registry
from rrg_core.phantom.grammar import Style, draft, stated, write_report
from rrg_core.phantom.scene import KINDS, Finding, Scene, sample_scene
from rrg_core.data.study import OBSERVATIONS, Report, Sentence, named as shown
import pytest, re, numpy as np
from rrg_core.phantom.scene import KINDS, Finding, sample_scene
from rrg_core.phantom.wording import level
from rrg_core.phantom.film import sample_look
from rrg_core.phantom.grammar import Style, draft, stated
from rrg_core.data.study import OBSERVATIONS
from rrg_core.phantom.sites import *


def test_the_structured_site_is_plain_and_whole():
    from rrg_core.labels import label_many

    wordings, distinct, texts, truth, lengths = {}, set(), [], [], []
    for i in range(2000):
        scene = scene_at("structured", i)
        report, sentences = report_at("structured", scene)
        lines = [l for l in draft(scene, scene.seed, STYLES["structured"]) if l.section == "findings"]
        order = [("devices", "lungs", "pleura", "heart", "bones").index(l.organ) for l in lines]
        assert order == sorted(order), i
        found = {f.key: f for f in scene.findings}
        for line in lines:
            distinct.add(line.text)
            for fact in (f for f in line.facts if f.key in found): # its kind, place, severity, doubt and change
                f = found[fact.key]
                what = (f.observation, f.kind, f.side, f.region, level(f), f.certainty, fact.change)
                wordings.setdefault(what, set()).add(line.text)
                assert fact.change == (f.change if f.certainty == 1 and not (
                    f.observation == "Fracture" and f.change in ("increased", "decreased")) else ""), line.text
        assert stated(sentences)["No Finding"] == (1 if scene.labels()["No Finding"] == 1 else None)
        for o in ("Pleural Effusion", "Pneumothorax"): # denied by rule: whenever absent, and never otherwise
            gone = any(f.observation == o for l in lines for f in l.facts if f.change == "resolved")
            denied = any(f.observation == o and f.polarity == 0 for l in lines for f in l.facts)
            assert denied == (scene.labels()[o] == 0), (i, o, gone)
        texts.append(report.findings)
        truth.append([scene.labels()[o] for o in OBSERVATIONS])
        lengths.append(len(re.findall(r"\w+|[.,]", report.findings)))
    assert len(distinct) >= 200 and max(map(len, wordings.values())) == 1
    assert np.quantile(lengths, .98) <= 60 # tokens
    read, truth = label_many(texts), np.array(truth, float)
    hedged, positive = (read == -1), (read == 1)
    assert (hedged == (truth == -1)).all() and (positive == (truth == 1)).all() # no hedge without a doubt


def test_the_registry_has_the_eleven_sites():
    assert len(SITES) == 11 and sum(s.held_out for s in SITES.values()) == 2
    assert sorted(len(s.classes) for s in SITES.values() if not s.style) == [1, 3, 6, 14, 14]
    assert [s.language for s in SITES.values() if s.style and not s.held_out] == ["en", "en", "en", "es"]
    with pytest.raises(ValueError, match="nowhere"):
        site("nowhere")


def test_looks_are_understood_by_the_renderer():
    for s in SITES.values():
        look = sample_look(np.random.default_rng(0), "PA", **s.look)
        for key, value in s.look.items():
            got = getattr(look, key)
            assert (value[0] <= got <= value[1]) if isinstance(
                value, tuple) and key != "place" else got == value, (s.name, key)


def test_what_classes_imply_is_true():
    informative = {name: 0 for name in CLASS_LISTS}
    for name in CLASS_LISTS:
        for i in range(300):
            scene = scene_at(name, i)
            truth = scene.labels()
            for o, v in labels_at(name, scene).items():
                if v is None or o == "No Finding": continue
                informative[name] += 1
                assert abs(v) == abs(truth[o]), (name, i, o)
                if site(name).uncertain and v: assert v == truth[o]
    assert all(informative.values())


def test_coarse_classes_say_nothing_for_certain():
    both = observations_of("panel", {"Fluid": 1})
    assert both["Edema"] is None and both["Pleural Effusion"] is None
    assert observations_of("panel", {"Fluid": 0})["Edema"] == 0
    assert observations_of("trauma", {"Rib fracture": 1})["Fracture"] == 1 and observations_of(
        "trauma", {"Rib fracture": 0})["Fracture"] is None
    assert observations_of("panel", {"Tumor": 0})["Lung Lesion"] is None # a calcification may remain
    normal = observations_of("panel", {"Normal": 1})
    assert normal["Edema"] == 0 and normal["Support Devices"] is None and normal["No Finding"] == 1
    with pytest.raises(ValueError, match="Flood"):
        observations_of("panel", {"Flood": 1})


def test_registry_labels_have_gaps():
    values = [v for i in range(200) for v in classes_at("registry", scene_at("registry", i)).values()]
    assert {1, 0, -1, None} == set(values) and .4 < values.count(None) / len(values) < .8
    assert set(v for i in range(50) for v in classes_at("archive", scene_at("archive", i)).values()) == {0, 1}


def test_spanish_notes_are_short_and_spanish():
    texts = [report_at("levante", scene_at("levante", i))[0] for i in range(400)]
    lengths = sorted(len(t.findings.split()) for t in texts)
    assert 6 <= lengths[200] <= 14 and all(t.language == "es" and not t.impression
                                           for t in texts) # PadChest: median 11
    english = re.compile(r"\b(the|of|with|and|is|no evidence|right|left|lung)\b", re.I)
    assert not any(english.search(t.findings) for t in texts)


def test_spanish_agrees_in_gender_and_number():
    masculine = re.compile(
        r"\b(derrame|neumotórax|infiltrado|nódulo|edema|tubo|catéter|engrosamiento)( pleural| apical| pulmonar| "
        r"alveolar)* (derecha|izquierda|pequeña|moderada|extensa|severa|densa)\b", re.I)
    feminine = re.compile(
        r"\b(opacidad|consolidación|atelectasia|neumonía|masa|fractura|cardiomegalia|sonda|vía central)( "
        r"pulmonar| laminar| lobar)* (derecho|izquierdo|pequeño|moderado|extenso|severo|denso)\b", re.I)
    plural = re.compile(
        r"\b(derrames|opacidades|infiltrados)( pleurales| bilaterales| parchead[oa]s)* "
        r"(leve|moderad[oa]|extens[oa]|tenue|dens[oa])\b", re.I)
    for i in range(400):
        text = report_at("levante", scene_at("levante", i))[0].findings
        assert not masculine.search(text) and not feminine.search(text) and not plural.search(text), text
