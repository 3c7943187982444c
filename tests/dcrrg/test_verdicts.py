"""Exported from nbs/13j_verdicts.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
from dataclasses import replace
import numpy as np
from rrg_core.dcrrg import ROWS
from rrg_core.dcrrg.probes import rare_ones
from rrg_core.dcrrg.ranks import Gain, Ranked, _mean, five_of, observations_of, retrieval_of, together
from rrg_core.dcrrg.towers import of_observations
from rrg_core.results.claims import Claim, Missing, Verdict, claims, common_seeds, decide, decide_effects, unmeasured
from rrg_core.results.systems import Measured, Reports
from rrg_core.results.tables import Measure, measures
import pandas as pd
import pytest
from rrg_core.data.study import FIVE, OBSERVATIONS
from rrg_core.dcrrg.verdicts import *


def test_every_claim_has_its_sides():
    from rrg_core.dcrrg.verdicts import _SIDES, _TABLE

    every = claims("dcrrg")
    assert set(_TABLE) == set(every) and set(_SIDES) | {"dcrrg-9"} == set(every)
    lost = judged_all(Sides({}))
    assert [v.claim.id for v in lost] == list(every) and {v.verdict for v in lost} == {"inconclusive"}
    assert lost[8].claim.margin == 0 and "runs missing: 6d, 6a, 6, 6c" in lost[7].words
    assert "tower-clip" in lost[9].words and "tower-generic" in lost[11].words


def test_verdicts_of_made_up_runs():
    LINES = ["There is a left effusion.", "The heart is enlarged.", "There is edema.", "The lungs are clear."]
    rng, n = np.random.default_rng(0), 40
    truth = [LINES[k] for k in rng.integers(4, size=n)]
    def written(right, seed): # reports of which a share is right
        r = np.random.default_rng(seed)
        said = [t if r.random() < right else LINES[r.integers(4)] for t in truth]
        return pd.DataFrame(dict(study_id=[f"t{i}" for i in range(n)], hypothesis=said, reference=truth))

    labels = np.where(rng.random((n, 14)) < .5, 1., np.nan)
    labels[:, :4] = np.nan
    labels[:3, :4] = 1 # rare: 3 of 40
    def answered(good, seed, found=.5, step1=True): # towers whose odds follow the labels by so much
        r = np.random.default_rng(seed)
        out = {f"label {o}": labels[:, k] for k, o in enumerate(OBSERVATIONS)}
        odds = np.nan_to_num(labels) * good + r.standard_normal((n, 14))
        if step1: out |= {f"odds {o}": odds[:, k] for k, o in enumerate(OBSERVATIONS)}
        for share in ("0.01", "1"):
            of = lambda o: 3 * odds[:, OBSERVATIONS.index(o)] + r.standard_normal(n)
            out |= {f"{share} run 0 {o}": of(o) for o in FIVE}
        test = pd.DataFrame(out | dict(study_id=[f"t{i}" for i in range(n)], set="test"))
        hits = pd.DataFrame({f"P@{k}": (r.random(50) < found).astype(float) for k in (1, 2, 5, 10)})
        return pd.concat([test, hits.assign(study_id=[f"f{i}" for i in range(50)], set="5x200")])

    level = {"6a": (.3, .3), "6c": (.5, .8), "6": (.8, 1.5), "6d": (.95, 3)}
    runs = {v: {s: written(a, 10 * s + i) for s in range(5)} for i, (v, (a, _)) in enumerate(level.items())}
    runs |= {f"tower-{v}": {s: answered(b, 7 * s + i, .9) for s in range(5)}
             for i, (v, (_, b)) in enumerate(level.items())}
    runs |= {v: {s: written(.8, 100 + s) for s in range(5)} for v in ("7",)}
    runs |= {f"tower-{v}": {s: answered(0, 50 + s, .2, False) for s in range(5)}
             for v in ("clip", "convirt", "medclip", "generic")}
    found = {v.claim.id: v for v in judged_all(Sides(runs, 100))}
    assert found["dcrrg-6"].verdict == "reproduced" and found["dcrrg-6"].effect.seeds == 5
    assert found["dcrrg-9"].verdict == "reproduced" and found["dcrrg-9"].effect.effect > .6
    assert found["dcrrg-9"].claim.margin == 0
    for k in (10, 11, 12): assert found[f"dcrrg-{k}"].verdict == "reproduced", k
    assert "runs missing: 3" in found["dcrrg-1"].words
    gain = found["dcrrg-13"].effect
    rare = (labels == 1).mean(0) < .1
    assert rare.any() and gain.n == n and np.isfinite(gain.effect)
    one = Sides({v: {0: f[0]} for v, f in runs.items()}, 20)
    assert all(v.verdict == "inconclusive" for v in judged_all(one)) # one seed says nothing
