"""Exported from nbs/08c_claims.ipynb: edit it there, then run `nbdev-export`."""
import math
from dataclasses import dataclass, field
import numpy as np
import pandas as pd
from IPython.display import HTML
from rrg_core.data.study import named
from rrg_core.engine.desk import Chapter, show_table
from rrg_core.metrics.stats import interval
from rrg_core.engine.settings import CourseError, package_root
from rrg_core.results.systems import METEOR, Measured, System, drawn_seeds, over_seeds
from rrg_core.results.tables import Measure, _found
import tempfile
import matplotlib.pyplot as plt
import pytest
from rrg_core.engine.desk import set_style
from rrg_core.metrics.stats import bootstrap_replicates, paired_bootstrap
from rrg_core.results.systems import Reports
from rrg_core.results.claims import *


def test_all_claims_parse():
    every = claims()
    assert len(every) == 61 and {c.relation
                                 for c in every.values()} == set(RELATIONS) and all(
                                     c.margin > 0 and c.metrics and all(c.right) for c in every.values())
    assert sum(map(len, (claims(p) for p in ("fita", "chex", "dcrrg", "lm_rrg", "llava_rad")))) == 61
    assert (every["fita-5"].right, every["fita-5"].best) == (("(a)", "(b)"), True) and (
        every["llava_rad-10"].right, every["llava_rad-10"].best) == (("LLaVA-Med", "LLaVA"), False)
    assert every["chex-6"].metrics == ("RE Mic-F1-14", "RE Mac-F1-14",
                                       "RE METEOR") and every["chex-5"].metrics == ("RC AUROC", "RC wAUROC")
    assert every["llava_rad-8"].metrics == ("Kendall tau-b, total errors", ) and every["dcrrg-13"].metrics == (
        "AUROC, 6b minus 6a", ) and every["dcrrg-5"].metrics == ("BLEU-4", "CE-F1")
    assert every["dcrrg-9"].relation == ">" and every["llava_rad-9"].relation == "<=" and every[
        "lm_rrg-6"].margin == .05
    with pytest.raises(ValueError, match="x: relation must be one of"):
        parse_claim(dict(id="x", relation="=", margin="1"))
    with pytest.raises(CourseError, match="no claims of 'kiut': the papers are fita, chex"):
        claims("kiut")


def test_the_rules_of_the_verdict():
    table = [(">", .01, .2, "reproduced"), (">", -.2, -.01, "refuted"), (">", -.01, .2, "inconclusive"),
             (">", 0, .2, "inconclusive"), ("<", -.2, -.01, "reproduced"), ("<", .01, .2, "refuted"),
             ("<", -.2, .01, "inconclusive"), ("~", -.01, .015, "reproduced"), ("~", .03, .05, "refuted"),
             ("~", -.05, -.03, "refuted"), ("~", .01, .03, "inconclusive"), ("~", -.05, .05, "inconclusive"),
             (">=", -.01, .2, "reproduced"), (">=", .1, .2, "reproduced"), (">=", -.2, -.03, "refuted"),
             (">=", -.03, .2, "inconclusive"), ("<=", -.2, .01, "reproduced"), ("<=", .03, .2, "refuted"),
             ("<=", -.2, .03, "inconclusive")]
    for relation, low, high, expected in table:
        assert verdict_of(relation, .02, low, high) == expected, (relation, low, high)
    for bad in [(">", .02, 1, 0), ("=", .02, 0, 1), (">", .02, np.nan, 1)]:
        with pytest.raises(ValueError):
            verdict_of(*bad)


def test_effects_are_those_of_the_paired_bootstrap():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 150)
    a, b, c = (np.where(rng.random((150, 3)) < p, truth[:, None], 1 - truth[:, None]) for p in (.8, .75, .75))

    def accuracy(predicted, truth):
        return (predicted == truth).mean()

    A, B, C = (Measured(x, {"accuracy": accuracy}, truth) for x in (a, b, c))
    claim = Claim("x", "toy", "", "A", ("B", ), False, ("accuracy", ), ">", .02, "")
    e = effect_of(claim, "accuracy", Measure("accuracy", "measured"), A, {"B": B}, n=300)
    np.testing.assert_allclose(e.interval, paired_bootstrap(accuracy, a, b, truth, n=300, seeded=True))
    assert abs(e.effect - ((a == truth[:, None]).mean() - (b == truth[:, None]).mean())) < 1e-12
    best = Claim("x", "toy", "", "A", ("B", "C"), True, ("accuracy", ), ">", .02, "")
    e = effect_of(best, "accuracy", Measure("accuracy", "measured"), A, {"B": B, "C": C}, n=300)

    def margin(x, y, z, truth): # as in 05f: the best is chosen anew in each replicate
        scores = [(s == truth[:, None]).mean() for s in (x, y, z)]
        return scores[0] - max(scores[1:])

    np.testing.assert_allclose(np.sort(e.replicates),
                               np.sort(bootstrap_replicates(margin, a, b, c, truth, n=300, seeded=3)))
    low = Claim("x", "toy", "", "A", ("B", "C"), True, ("accuracy", ), "<", .02,
                "") # lower is better: the best is the lowest
    e = effect_of(low, "accuracy", Measure("accuracy", "measured"), A, {"B": B, "C": C}, n=300)
    np.testing.assert_allclose(e.effect, (a == truth[:, None]).mean() - min(
        (x == truth[:, None]).mean() for x in (b, c)))
    for other, words in [(Measured(b[:, :2], {"accuracy": accuracy},
                                   truth), "3 seeds on the left, 2 on the right"),
                         (Measured(b[:99], {"accuracy": accuracy}, truth[:99]), "different studies.*150 and 99")]:
        with pytest.raises(CourseError, match=words):
            effect_of(claim, "accuracy", Measure("accuracy", "measured"), A, {"B": other})


def test_the_needed_numbers_decide_four_times_in_five():
    rng = np.random.default_rng(0)
    delta, sigma_seed, sigma_study, seeds, n = .03, .02, .5, 5, 400
    per_seed = delta + sigma_seed * np.array([-1.2, -.6, 0, .6, 1.2]) / np.std([-1.2, -.6, 0, .6, 1.2],
                                                                               ddof=1) # exactly that variance
    pilot = Effect("m", "r", delta, np.zeros(2), sigma_study**2 / n, per_seed, n)
    need = needed(pilot, ">", .02)
    assert need.seeds is None # 400 studies alone are too noisy for any number of seeds
    assert need.studies == math.ceil(sigma_study**2 / ((delta / 2.8)**2 - sigma_seed**2 / 5))
    for s, studies in [(seeds, need.studies), need.both]:
        estimates = delta + rng.normal(size=4000) * math.sqrt(sigma_seed**2 / s + sigma_study**2 / studies)
        decided = (estimates - 1.96 * math.sqrt(sigma_seed**2 / s + sigma_study**2 / studies) > 0).mean()
        assert .77 < decided < .85, decided
    assert needed(Effect("m", "r", 0., np.zeros(2), .1, per_seed, n), ">", .02) == Needed(None, None, None)
    assert needed(Effect("m", "r", .01, np.zeros(2), .1, per_seed, n), "~", .02).both == needed(
        Effect("m", "r", .03, np.zeros(2), .1, per_seed, n), "~", .02).both # .01 on either side


def test_the_words_name_numbers():
    per_seed = np.array([.00, .02, .04])
    open_ = Effect("m", "r", .02, np.zeros(2), .0001, per_seed, 1000)
    words = in_words(needed(open_, ">", .02), open_)
    # v = .0001 + .0004 / 3 is 4.57333 times (.02 / 2.8)²
    assert words == "would be decided by 14 seeds on 4,574 studies, neither alone"
    d2 = (.02 / 2.8)**2
    assert needed(open_, ">",
                  .02).both == (math.ceil(3 * (.0001 + .0004/3) / d2), math.ceil(1000 * (.0001 + .0004/3) / d2))
    single = Effect("m", "r", .02, np.zeros(2), .0001, per_seed[:1], 1000)
    assert in_words(needed(single, ">", .02), single).startswith("one seed says nothing")
    level = Effect("m", "r", .0, np.zeros(2), .0001, per_seed, 1000)
    assert in_words(needed(level, ">", .02), level).startswith("no number within 100 times these")


def test_known_answers():
    def method(p, n, seeds=3, noise=0., seed=0):
        rng = np.random.default_rng(seed)
        return Measured((rng.random((n, seeds)) < p + noise * rng.normal(size=seeds)).astype(float),
                        "accuracy",
                        protocol="coin")

    def verdict(left, right, relation=">", margin=.02):
        return decide(Claim("t", "t", "", "l", ("r", ), False, ("accuracy", ), relation, margin, ""), left, right,
                      {"accuracy": Measure("accuracy", "coin")})

    better, base, worse, twin = (method(p, 3000, seed=i) for i, p in enumerate((.80, .70, .60, .70)))
    assert [verdict(x, base).verdict for x in (better, worse, twin)] == ["reproduced", "refuted", "inconclusive"]
    assert [verdict(x, base, "<").verdict for x in (better, worse)] == ["refuted", "reproduced"]
    few = verdict(method(.80, 25, seed=5), method(.70, 25, seed=6))
    assert few.verdict == "inconclusive" and needed(few.effect, ">", .02).both[1] > 25 and few.words
    assert verdict(twin, base, "~", .05).verdict == "reproduced" and verdict(
        better, base, "~", .05).verdict == "refuted" and verdict(twin, base, "~", .01).verdict == "inconclusive"
    assert verdict(worse, base, ">=").verdict == "refuted" and verdict(
        better, base, ">=").verdict == "reproduced" and verdict(twin, base, "<=", .05).verdict == "reproduced"
    assert verdict(better, base).words == ""


def test_seed_noise_is_not_an_effect():
    calls = {"studies": 0, "both": 0} # of 60 comparisons of two equal methods whose seeds differ by .05
    for i in range(60):
        rng = np.random.default_rng(100 + i)
        left, right = (Measured((rng.random((3000, 3)) < .7 + .05 * rng.normal(size=3)).astype(float),
                                "a",
                                protocol="coin") for _ in range(2))
        e = effect_of(Claim("t", "t", "", "l", ("r", ), False, ("a", ), ">", .02, ""),
                      "a",
                      Measure("a", "coin"),
                      left, {"r": right},
                      n=100)
        calls["both"] += verdict_of(">", .02, *e.interval) != "inconclusive"
        half = 1.96 * math.sqrt(e.studies_variance)
        calls["studies"] += abs(e.effect) > half
    assert calls["studies"] > 30 and calls[
        "both"] < 26, calls # significance in more than half of cases without an effect, against about a quarter


def test_the_weakest_part_decides():
    rng = np.random.default_rng(0)

    def two(p, q, seed):
        rng = np.random.default_rng(seed)
        return Measured((rng.random((2000, 3, 2)) < [p, q]).astype(float),
                        {"x": lambda v: v[:, 0].mean(), "y": lambda v: v[:, 1].mean()},
                        protocol="coin")

    a, b, c = two(.8, .7, 1), two(.7, .7, 2), two(.6, .6, 3)
    both = {"x": Measure("x", "coin"), "y": Measure("y", "coin")}
    claim = Claim("t", "t", "", "a", ("b", ), False, ("x", "y"), ">", .02, "")
    v = decide(claim, a, b, both)
    assert v.verdict == "inconclusive" and v.effect.metric == "y" and len(v.parts) == 2
    assert decide(claim, a, c, both).verdict == "reproduced" and decide(
        claim, c, a, both).effect.metric == "x" # of two refuted parts the plainer
    each = Claim("t", "t", "", "a", ("b", "c"), False, ("y", ), ">", .02, "")
    v = decide(each, a, {"b": b, "c": c}, {"y": both["y"]})
    assert v.verdict == "inconclusive" and v.effect.against == "b"
    for given, words in [((claim, a, b, {"x": both["x"]}), "t speaks of y: given are x"),
                         ((each, a, {"b": b}, {"y": both["y"]}), "compares with b, c: given are b"),
                         ((claim, a, b, {"x": Measure("x", "fita"), "y": Measure(
                             "y", "coin")}), "nothing on the left is measured under 'fita'")]:
        with pytest.raises(CourseError, match=words):
            decide(*given)
    sets = Claim("t", "t", "", "a", ("b", ), False, ("x", ), ">", .02, "") # one metric on two sets
    assert len(decide(sets, a, c, {"x (one)": both["x"], "x (two)": both["x"]}).parts) == 2


def test_an_effect_that_is_one_statistic():
    auroc_and_f1 = np.array([[.6, .5], [.7, .55], [.75, .6], [.8, .7]]) # four models: their scores rise together
    values = np.repeat(auroc_and_f1[None, None], 50, 0) + np.random.default_rng(0).normal(
        0, .01, (50, 3, 4, 2)) # (studies, seeds, models, scores)

    def slope(v):
        m = v.mean(0)
        return np.corrcoef(m[:, 0], m[:, 1])[0, 1]

    claim = claims("dcrrg")["dcrrg-9"]
    v = decide(claim, Measured(values, {"r": slope}, protocol="models"), None,
               {claim.metrics[0]: Measure("r", "models")})
    assert v.verdict == "reproduced" and v.effect.effect > .9 and v.effect.against == "nothing"
    with pytest.raises(CourseError, match="is undefined: nan"):
        decide(claim, Measured(values * np.nan, {"r": np.mean}, protocol="models"), None,
               {claim.metrics[0]: Measure("r", "models")})


def test_reports_are_decided_like_anything_else():
    words = {True: "Small left pleural effusion.", False: "The lungs are clear."}

    def written(right, seed, n=120):
        rng = np.random.default_rng(seed)
        sick = np.arange(n) % 2 == 0
        said = np.where(rng.random(n) < right, sick, ~sick)
        return pd.DataFrame({
            "study_id": [f"s{i:03}" for i in range(n)], "hypothesis": [words[bool(x)] for x in said],
            "reference": [words[bool(x)] for x in sick]
        })

    good, poor = (Reports({s: written(p, s + 10*i) for s in range(3)}) for i, p in enumerate((.95, .6)))
    claim = claims("llava_rad")["llava_rad-1"]
    how = {"pos_micro_F1-14": Measure("CE-F1", "llava-rad-pos-micro-f1-14", 100)}
    v = decide(claim, good, poor, how, "supp_table2.csv: LLaVA-Rad", n=200)
    # a fraction, whatever the paper prints
    assert v.verdict == "reproduced" and .1 < v.effect.effect < 1 and v.effect.n == 120
    assert decide(claim, poor, good, how, n=200).verdict == "refuted"


def test_three_seeds_cover_three_quarters():
    rng = np.random.default_rng(0)
    truth_inside, drawn = [], drawn_seeds(3, 500)
    for _ in range(400):
        seeds = rng.normal(size=3) # an effect of nothing but seed noise
        low, high = interval(seeds[drawn].mean(1))
        assert abs(low - seeds.min()) < 1e-12 and abs(
            high - seeds.max()) < 1e-12 # from the worst to the best: 1 draw in 27 is three times the worst
        truth_inside.append(low <= 0 <= high)
    assert abs(np.mean(truth_inside) - .75) < .07 # 1 - 2 · (1/2)³; three standard errors of 400 draws


def test_the_ledger_is_complete():
    def made(claim, low, high, seeds=3):
        return decide_effects(claim, [
            Effect("CE-F1", "baseline",
                   (low+high) / 2, np.linspace(low, high, 101), .0001, np.linspace(low, high, seeds), 1000)
        ], "table2.csv: x")

    verdicts = [
        made(c, *bounds)
        for c, bounds in zip(claims("fita").values(), [(.01, .05), (-.01, .05), (-.05, -.01)] * 3)
    ]
    with tempfile.TemporaryDirectory() as d:
        desk = Chapter("fita", "smoke", root=d)
        shown = ledger(desk, verdicts[::-1]).data
        csv = pd.read_csv(desk.path("claims.csv"))
        assert list(csv) == CLAIM_COLUMNS and csv["id"].tolist() == list(
            claims("fita")) and csv.notna().all(axis=None)
        assert csv["verdict"].tolist() == [
            "reproduced", "inconclusive", "refuted", "reproduced", "inconclusive", "reproduced", "reproduced"
        ] # fita-6 claims a loss
        assert csv["effect"][0] == .03 and .01 < csv["low"][0] < csv["high"][0] < .05
        md = desk.path("claims.md").read_text()
        assert "would be decided by" in md and ("FITA writes better "
                                                "text") in md and ("4 reproduced, 2 inconclusive, 1 "
                                                                   "refuted") in md and "smoke" in shown
        for wrong, words in [(verdicts[:-1], "no verdict on fita-7"),
                             (verdicts + verdicts[:1], "fita-1 is no claim of this paper, or judged twice"),
                             (verdicts + [made(claims("chex")["chex-1"], 0, 1)], "chex-1 is no claim")]:
            with pytest.raises(CourseError, match=words):
                ledger(desk, wrong)


def test_the_ledger_ends_with_the_line_of_every_table():
    from rrg_core.engine.store import changing_records

    run = lambda made, hardware: dict(made=made, hardware=hardware)
    one, other = run("2026-01-05", "A, 1 thread"), run("2026-02-01", "B, 2 threads")
    effect = Effect("CE-F1", "baseline", .03, np.linspace(.01, .05, 101), .0001, np.linspace(.01, .05, 3), 1000)
    verdicts = [decide_effects(c, [effect], "table2.csv: x") for c in claims("fita").values()]
    behind = [({}, ""), ({"d-s0": one}, "trained 2026-01-05 on A"),
              ({"d-s0": one, "d-s1": one}, "trained 2026-01-05 on A"),
              ({"d-s0": one, "d-s1": run("2026-02-01", "A")}, "trained 2026-01-05 to 2026-02-01 on A"),
              ({"d-s0": one, "d-s1": other}, "trained 2026-01-05 to 2026-02-01 on A, B")]
    for runs, trained in behind:
        for why in ("", "the labels changed"):
            with tempfile.TemporaryDirectory() as d:
                desk = Chapter("fita", "smoke", root=d)
                with changing_records(desk.folder) as records:
                    records["artifacts"] = {f"predictions/{n}.parquet": r for n, r in runs.items()}
                    records["stale"] = {"why": why} if why else {}
                ledger(desk, verdicts)
                last = desk.path("claims.md").read_text().splitlines()[-1]
                assert last == desk.footer(), (runs, why)
            assert trained in last and ("trained" in last) == bool(trained), runs
            assert last.endswith(f" · declared stale: {why}") or not why, why
