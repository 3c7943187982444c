"""Exported from nbs/05q_rexval.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Sequence
import numpy as np
import pandas as pd
from rrg_core.data.study import named
from rrg_core.metrics.composite import COMPONENTS, RadCliQ, bleu2
from rrg_core.metrics.perturb import perturb
from rrg_core.metrics.stats import bootstrap_ci, kendall_tau_b
from rrg_core.phantom import seeds
from rrg_core.phantom.errors import CATEGORIES, CannotCorrupt, corrupt_several, edits
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.data.study import Study
import pytest
from rrg_core.phantom.errors import claims
from rrg_core.metrics.rexval import *


def test_rewording_keeps_every_label():
    from rrg_core.labels import label
    from rrg_core.reports.sections import sentences

    reports = [report_at("hospital", scene_at("hospital", s))[0].findings for s in range(40)]
    turned = [reworded(t, k) for k, t in enumerate(reports)]
    assert [label(t) for t in turned] == [label(t) for t in reports]
    assert sum(a != b for a, b in zip(turned, reports)) > 35
    assert all(len(sentences(a)) == len(sentences(b)) for a, b in zip(turned, reports))
    assert reworded(reports[0], 0) == turned[0] and reworded("", 0) == ""


def test_panel_counts_what_was_done():
    panel = phantom_pairs(12, candidates=3, seed=1)
    assert (panel[list(COUNTS)].sum(axis=1) == panel.errors).all()
    assert (panel[[c for c in COUNTS if ", significant" in c]].sum(axis=1) == panel.significant).all()
    assert set(panel.errors) == {0, 1, 2, 3, 4} and 0 < panel.reworded.mean() < 1
    plain = panel[~panel.reworded]
    assert ((plain.hypothesis == plain.reference) == (plain.errors == 0)).all()
    assert len(panel) + panel.attrs["left_out"] == 36
    pd.testing.assert_frame_equal(panel, phantom_pairs(12, candidates=3, seed=1))
    assert not panel.hypothesis.equals(phantom_pairs(12, candidates=3, seed=2).hypothesis)
    assert not set(panel.study) & set(phantom_pairs(5, candidates=1, skip=12).study)
    assert set(phantom_pairs(5, most=0, reword=0).errors) == {0}
    fixed = phantom_pairs(6, site="structured", candidates=2)
    assert fixed.study.str.startswith("phantom-structured").all() and fixed.errors.max() > 1
    with pytest.raises(ValueError, match="at least one"): phantom_pairs(0)


def test_errors_are_all_in_the_findings():
    from rrg_core.phantom import errors as module

    kept, original = [], module._records
    def watched(study, first, last, made):
        records = original(study, first, last, made) # refuses what is not exact in the whole report
        kept.append((first, last, records))
        return records
    module._records = watched
    try: pairs = phantom_pairs(15, candidates=3, reword=0)
    finally: module._records = original
    assert len(kept) == len(pairs) > 40
    for first, last, records in kept:
        a, b = (claims([l for l in lines if l.section == "findings"]) for lines in (first, last))
        assert {k for k in {*a, *b} if a.get(k) != b.get(k)} == {r.key for r in records}


def test_agreement_is_scipys_and_knows_the_constant():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    errors, studies = rng.integers(0, 5, 60), np.repeat(np.arange(15), 4)
    scores = pd.DataFrame({"perfect": -errors, "RadCliQ-fitted": errors, "noisy": -errors + rng.normal(0, 3, 60),
                           "backwards": errors, "constant": 0., "holes": np.where(errors == 2, np.nan, -errors)})
    table = agreement(scores, errors, studies, n=100).set_index("metric")
    assert np.allclose(table.tau_b[["perfect", "RadCliQ-fitted", "holes"]], 1) and table.tau_b["backwards"] == -1
    assert np.isclose(table.tau_b["noisy"], -kendalltau(scores.noisy, errors)[0])
    assert table.low["noisy"] < table.tau_b["noisy"] < table.high["noisy"]
    assert table.loc["constant", ["tau_b", "low", "high"]].isna().all() and table.index[-1] == "constant"
    assert table.pairs["holes"] == (errors != 2).sum() and table.pairs["noisy"] == 60
    copied = pd.concat([scores]*3, ignore_index=True) # the same studies three times over are no further studies
    wide = agreement(copied[["noisy"]], np.tile(errors, 3), np.tile(studies, 3), n=200)
    narrow = agreement(copied[["noisy"]], np.tile(errors, 3), np.arange(180), n=200)
    assert (wide.high - wide.low)[0] > 1.3*(narrow.high - narrow.low)[0]


def test_radcliq_learns_to_count_on_other_studies():
    panel = phantom_pairs(40, seed=3)
    scores = score_panel(panel)
    mine = panel.study.isin(panel.study.unique()[:20])
    fitted = fit_radcliq(scores[mine], panel.errors[mine])
    assert not set(panel.study[mine]) & set(panel.study[~mine])
    counted = fitted.score(*components_of(scores).to_numpy().T)
    equal = (panel.hypothesis == panel.reference).to_numpy()
    assert equal.any() and counted[equal].max() < counted[panel.errors >= 3].mean()
    assert abs(counted[mine].mean() - panel.errors[mine].mean()) < 1e-6 # least squares with an intercept
    scores["RadCliQ-fitted"] = counted
    table = agreement(scores[~mine], panel.errors[~mine], panel.study[~mine], n=50).set_index("metric")
    assert table.tau_b["RadCliQ-fitted"] > .4 and table.low["RadCliQ-fitted"] > 0
    assert np.isnan(table.tau_b["constant"])
    assert table.tau_b["RadCliQ-standin"] > table.tau_b["number of words"]


def test_each_kind_has_its_row():
    words = lambda hypotheses, references: [len(h.split()) for h in hypotheses]
    table = seen_errors(words, 15).set_index("kind")
    assert list(table.index) == list(COUNTS) and table.pairs.max() <= 15
    assert table.change["false finding, significant"] > 0 > table.change["omission, significant"]
    assert table.pairs["false finding, significant"] == 15
    nothing = seen_errors(lambda hypotheses, references: np.zeros(len(hypotheses)), 5)
    assert (nothing.change.dropna() == 0).all()
