"""Exported from nbs/14g_verdicts.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
import numpy as np
import pandas as pd
from rrg_core.lm_rrg import ROWS
from rrg_core.lm_rrg.errors import UNREADABLE, radcliq_column
from rrg_core.metrics.rexval import COUNTS
from rrg_core.results.claims import Claim, Missing, Verdict, claims, common_seeds, decide, effect_of, unmeasured
from rrg_core.results.systems import Measured, Reports, System, aligned
from rrg_core.results.tables import Measure, measures
import pytest
from rrg_core.engine.settings import CourseError
from rrg_core.lm_rrg.verdicts import *


def test_every_claim_has_its_sides():
    from rrg_core.lm_rrg import EXPERIMENTS, ONE_SEED

    every = claims("lm_rrg")
    assert {c.left for c in every.values()} | {r for c in every.values() for r in c.right} <= set(VARIANT)
    assert set(VARIANT.values()) <= set(EXPERIMENTS) - set(ONE_SEED)
    lost = judged_all(Sides({}))
    assert [v.claim.id for v in lost] == list(every) and {v.verdict for v in lost} == {"inconclusive"}
    assert "runs missing: lm-rrg, no-global" in lost[0].words
    assert {m for c in every.values() for m in c.metrics} <= set(measures_of("lm_rrg_table3"))
    assert "RadCliQ" not in measures_of("lm_rrg_table2")


def test_verdicts_of_made_up_runs():
    LINES = ["There is a left effusion.", "The heart is enlarged.", "There is edema.", "The lungs are clear."]
    rng, n = np.random.default_rng(0), 60
    truth = [LINES[k] for k in rng.integers(4, size=n)]
    def run(right, radcliq, seed, errors=2.):
        r = np.random.default_rng(seed)
        said = [t if r.random() < right else LINES[r.integers(4)] for t in truth]
        frame = pd.DataFrame(dict(study_id=[f"s{i}" for i in range(n)], hypothesis=said, reference=truth))
        frame["RadCliQ-standin"] = (radcliq + .05*r.standard_normal(n)).astype("f4")
        return frame.assign(errors=r.poisson(errors, n).astype("i2"), significant=0)

    rows = {"lm-rrg": (.9, -.2, 1.), "no-global": (.9, -.2, 2.), "no-regions": (.3, .3, 2.),
            "names": (.9, -.2, 2.), "no-instruction": (.9, -.2, 2.), "no-disease": (.5, -.2, 2.),
            "no-cqrl": (.9, .2, 3.), "bleu": (.9, .6, 2.), "fixed": (.9, -.2, 2.)}
    runs = {v: {s: run(a, b, 10*k + s, e) for s in range(5)} for k, (v, (a, b, e)) in enumerate(rows.items())}
    sides = Sides(runs, 100)
    found = {v.claim.id.partition("-")[2]: v for v in judged_all(sides)}
    for k in "2", "5", "6", "9": assert found[k].verdict == "reproduced", (k, found[k].effect)
    assert found["10"].verdict == "absent" and found["6"].effect.metric == "RadCliQ"
    assert abs(found["6"].effect.effect + .4) < .05 and found["6"].effect.published == pytest.approx(.865 - 1.023)
    table = difference_in(sides, "lm-rrg", "no-cqrl", ("errors", "RadCliQ")).set_index("score")
    assert table.high["errors"] < 0 and -2.6 < table.change["errors"] < -1.4 and table.seeds["errors"] == 5
    of = sides.of("names")[1]
    draws = [rng.integers(n, size=n) for _ in range(3)]
    want = [[f[["RadCliQ-standin", "errors"]].to_numpy("f8")[rows].mean(0) for rows in draws]
            for f in runs["names"].values()]
    score = of.scorer(COUNTED, ("RadCliQ", "errors"))
    np.testing.assert_allclose([score(draws, k) for k in range(5)], want)
    with pytest.raises(CourseError, match="no score 'typos'"): of.scorer(COUNTED, ("typos", ))
    part = Sides({v: {0: f[0]} for v, f in runs.items()}, 20)
    assert all(v.verdict == "inconclusive" for v in judged_all(part)) # one seed says nothing
    bare = runs["names"][0].drop(columns="RadCliQ-standin")
    with pytest.raises(CourseError, match="no RadCliQ"): counted_of({0: bare})
