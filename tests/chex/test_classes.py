"""Exported from nbs/12r_classes.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
import pandas as pd
from rrg_core.chex.classes import *


def test_classes_are_those_of_the_sets():
    from rrg_core.data import ms_cxr, vindr_cxr
    from rrg_core.data.bundled import NIH_LABELS
    from rrg_core.phantom.scene import KINDS

    assert {x.name for x in VINDR} == set(vindr_cxr.LOCAL) and len(VINDR) == 22
    assert {x.name for x in MS_CXR} == set(ms_cxr.CLASSES) and {x.name for x in NIH8} < set(NIH_LABELS)
    assert len(CIG) == len({x.name for x in CIG}) == 53
    from rrg_core.data.chest_imagenome import TO_OBSERVATION
    assert set(TO_OBSERVATION) <= {x.name for x in CIG}
    sizes = {name: len(labels) for name, labels in DETECTED.items()}
    assert sizes == {"VinDr-CXR": 12, "NIH8": 8, "MS-CXR": 8} and len(TRAINED) == 15 and len(FINDINGS) == 18
    for label in (*VINDR, *NIH8, *MS_CXR, *CIG): # names what a phantom has
        assert all(o in KINDS and set(kinds) <= set(KINDS[o]) for o, kinds in label.parts), label.name
        if label.name in KINDS: assert label.rendered
    of = {x.name: x for x in VINDR}
    nodule, plaque = (dict(observation=o, kind=k) for o, k in (("Lung Lesion", "nodule"),
                                                              ("Pleural Other", "pleural plaque")))
    assert of["Nodule/Mass"].counts(nodule) and not of["Calcification"].counts(nodule)
    assert not any(x.counts(plaque) for x in VINDR) and not of["ILD"].counts(nodule)
    assert of["Nodule/Mass"].prompt == "Mass or nodule" and FINDINGS[2].prompt == "Pleural effusion"
    assert {x.prompt for x in FINDINGS} >= {"Pulmonary edema or hazy opacity", "Linear or patchy atelectasis"}
    assert [x.place for x in MS_CXR][1] == "Cardiac silhouette" and [x.place for x in VINDR][3] == "Cardiomegaly"
