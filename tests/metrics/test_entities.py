"""Exported from nbs/05n_entities.ipynb: edit it there, then run `nbdev-export`."""
import re
from functools import lru_cache
from rrg_core.data.study import without_text
from rrg_core.labels.lexicon import Entry, find_mentions, normalize, read_line, split_report
from rrg_core.labels.scopes import atoms_of, decide, find_alternatives, find_scopes, read_sentence
import numpy as np, pandas as pd, pytest
from rrg_core.metrics.radgraph import radgraph_f1
from rrg_core.metrics.entities import *


def test_thirty_sentences_by_hand():
    marks = {"OBS-DP": "+", "OBS-DA": "-", "OBS-U": "?", "ANAT-DP": "/"}
    kinds = {"modify": "~", "located_at": "@", "suggestive_of": ">"}
    def written(text): # "effusion-", "effusion@pleural"
        e = annotate(text)["entities"]
        return {x["tokens"] + marks[x["label"]] for x in e.values()} | {
            x["tokens"] + kinds[k] + e[t]["tokens"] for x in e.values() for k, t in x["relations"]}

    cases = {
        "Small left pleural effusion.": "small+ left/ pleural/ effusion+ small~effusion left~pleural "
                                        "effusion@pleural",
        "No pleural effusion or pneumothorax.": "pleural/ effusion- pneumothorax- effusion@pleural",
        "No focal consolidation, effusion, or pneumothorax.": "focal- consolidation- effusion- pneumothorax- "
                                                              "focal~consolidation",
        "The heart is enlarged.": "heart/ enlarged+ enlarged@heart",
        "The heart is not enlarged.": "heart/ enlarged- enlarged@heart",
        "Enlarged heart.": "heart/ enlarged+ enlarged@heart",
        "The lungs are clear.": "lungs/ clear+ clear@lungs",
        "Heart and mediastinum are normal.": "heart/ mediastinum/ normal+ normal@heart normal@mediastinum",
        "Patchy opacity in the right lower lobe may represent pneumonia.":
            "patchy+ opacity+ right/ lower/ lobe/ pneumonia? patchy~opacity opacity@lobe right~lobe lower~lobe "
            "opacity>pneumonia pneumonia@lobe",
        "Possible right apical pneumothorax.": "right/ apical/ pneumothorax? right~apical pneumothorax@apical",
        "Bibasilar atelectasis is unchanged.": "bibasilar/ atelectasis+ unchanged+ atelectasis@bibasilar "
                                               "unchanged~atelectasis",
        "The effusion has resolved.": "effusion-",
        "Mildly enlarged cardiac silhouette.": "mildly+ enlarged+ cardiac/ silhouette/ mildly~enlarged "
                                               "enlarged@silhouette cardiac~silhouette",
        "Blunting of the left costophrenic angle.": "blunting+ left/ costophrenic/ angle/ left~angle "
                                                    "costophrenic~angle blunting@angle",
        "Cardiomegaly without edema.": "cardiomegaly+ edema-",
        "Old healed fracture of the left seventh rib.": "old+ healed+ fracture+ left/ seventh/ rib/ old~fracture "
                                                        "healed~fracture fracture@rib left~rib seventh~rib",
        "The aorta is tortuous.": "aorta/ tortuous+ tortuous@aorta",
        "Trachea is midline.": "trachea/ midline+ midline@trachea",
        "Right lung is clear, left basilar opacity is new.":
            "right/ lung/ clear+ right~lung clear@lung left/ basilar/ opacity+ new+ left~basilar "
            "opacity@basilar new~opacity",
        "No acute cardiopulmonary abnormality.": "acute- abnormality- acute~abnormality",
        "Edema cannot be excluded.": "edema?",
        "Consolidation versus atelectasis at the left base.": "consolidation? atelectasis? left/ base/ left~base "
                                                              "atelectasis@base",
        "Nodule in the right upper lobe, suspicious for malignancy.":
            "nodule+ right/ upper/ lobe/ malignancy? nodule@lobe right~lobe upper~lobe nodule>malignancy",
        "Hilar contours are unremarkable.": "hilar/ contours/ unremarkable+ hilar~contours unremarkable@contours",
        "Osseous structures are intact.": "osseous/ intact+ intact@osseous",
        "Increased interstitial markings consistent with edema.":
            "increased+ interstitial/ markings/ edema+ interstitial~markings increased@markings edema@markings",
        "Low lung volumes.": "low+ lung/ volumes/ lung~volumes low@volumes",
        "Moderate right effusion, unchanged.": "moderate+ right/ effusion+ unchanged+ moderate~effusion "
                                               "effusion@right",
        "Endotracheal tube tip above the carina.": "tube+ carina/ tube@carina",
        "No displaced rib fracture.": "displaced- rib/ fracture- displaced~fracture fracture@rib",
        "THERE IS A LARGE HIATAL HERNIA.": "large+ hernia+ large~hernia"}
    for text, graph in cases.items():
        assert written(text) == set(graph.split()), (text, sorted(written(text) ^ set(graph.split())))


def test_graphs_have_radgraphs_schema():
    from rrg_core.reports.indiana import iu_reports
    texts = [r.findings for r in iu_reports()[::9] if r.findings]
    assert len(texts) > 300
    labels = {"ANAT-DP", "OBS-DP", "OBS-U", "OBS-DA"}
    for text in texts:
        graph = annotate(text)
        words, e = graph["text"].split(" "), graph["entities"]
        assert list(e) == [str(i + 1) for i in range(len(e))]
        for x in e.values():
            assert x["label"] in labels and " ".join(words[x["start_ix"]:x["end_ix"] + 1]) == x["tokens"]
            assert all(kind in ("modify", "located_at", "suggestive_of") and t in e for kind, t in x["relations"])
            assert all(e[t] is not x for _, t in x["relations"])
        assert radgraph_f1(graph, graph) == float(bool(e))
    full = sum(len(annotate(t)["entities"]) > 3 for t in texts)
    assert full > .95 * len(texts) # a report has something to compare
    assert annotate("") == annotate(" \n") == {"text": "", "entities": {}}
    for bad in (None, 3, ["edema"]):
        with pytest.raises(ValueError, match="a report must be text"): annotate(bad)


def test_f1_of_graphs_notices():
    truth = annotate("Small left pleural effusion. No pneumothorax. Heart is enlarged.")
    for level in ("simple", "partial", "complete", "combined"):
        f1 = lambda text: radgraph_f1(annotate(text), truth, level)
        assert f1("Heart is enlarged. No pneumothorax. Small left pleural effusion.") == 1
        assert f1("Small right pleural effusion. No pneumothorax. Heart is enlarged.") < 1
        assert f1("No left pleural effusion. No pneumothorax. Heart is enlarged.") < 1
        assert f1("No pneumothorax. Heart is enlarged.") < 1 and f1("") == 0
