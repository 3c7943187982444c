"""Exported from nbs/08b_tables.ipynb: edit it there, then run `nbdev-export`."""
import os
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import pandas as pd
from IPython.display import HTML
from rrg_core.data.study import named
from rrg_core.engine.desk import Chapter, show_table
from rrg_core.metrics.stats import interval
from rrg_core.engine.settings import CourseError, Profile, package_root
from rrg_core.results.systems import METEOR, Measured, Reports, System
import tempfile
import pytest
from rrg_core.metrics.evaluate import evaluate
from rrg_core.engine.experiments import write_predictions
from rrg_core.metrics.clinical import PROTOCOLS, Protocol
from rrg_core.metrics.stats import bootstrap_ci
from rrg_core.results.tables import *


def test_every_published_table_can_be_read():
    stems = [f.stem for f in (package_root() / "published").glob("*.csv") if f.stem != "claims"]
    for stem in stems:
        table = published(stem)
        raw = pd.read_csv(package_root() / "published" / f"{stem}.csv", dtype=str, keep_default_na=False)
        numbers = sum(
            pd.to_numeric(raw[c], errors="coerce").notna().sum() for c in raw.columns[1:]
            if not c.endswith("_std") and pd.to_numeric(raw[c].where(
                raw[c] != ""), errors="coerce").notna().sum() == (raw[c] != "").sum())
        assert table.values["published"].notna().sum() == numbers and not table.values.duplicated(
            ["row", "metric"]).any(), stem
    assert len(stems) == 17
    fita = published("fita_table1").values.set_index(["row", "metric"])["published"]
    assert fita["FITA", "CE-F1"] == .326 and np.isnan(
        fita["PPKED",
             "CE-F1"]) and published("fita_table2").rows["IFR"].tolist() == ["no", "yes", "no", "yes", "yes"]
    chex = published("chex_table2").values.set_index(["row", "metric"])
    assert chex.loc[("ChEX", "OD mAP (VinDr-CXR)"), "published"] == 14.12 and chex.loc[("SupOD", "OD mAP (NIH8)"),
                                                                                       "std"] == .82
    assert "positive / none" in published("chex_prompt_sets").rows["row"].tolist() and published(
        "dcrrg_table4").rows["row"].tolist()[0] == "1"
    with pytest.raises(CourseError, match="no published table 'fita': there are chex_prompt_sets"):
        published("fita")


def test_measures_exist_under_their_protocols():
    from rrg_core.metrics.text import METRICS
    for stem in ("fita_table1", "fita_table2", "dcrrg_table1", "dcrrg_table4", "dcrrg_table5", "lm_rrg_table1",
                 "lm_rrg_table2", "lm_rrg_table3", "chex_table2", "chex_prompt_sets", "llava_rad_supp_table1",
                 "llava_rad_supp_table2"):
        for metric, m in measures(stem).items():
            assert m.score.startswith("CE-") or m.score in [
                n for k in PROTOCOLS[m.protocol].metrics for n in METRICS[k].names
            ], (stem, metric)
        left = set(published(stem).metrics) - set(measures(stem))
        assert all(
            any(w in m for w in ("RadCliQ", "RadGraph", "AUROC", "SG ", "OD ", "RC ", "RE "))
            for m in left), (stem, left)
    assert measures("chex_table2")["RG Mac-F1-5+ (MIMIC-CXR)"] == Measure("CE-F1", "chex-mac-f1-5+", 100)


def test_the_long_table_is_complete_and_right():
    from rrg_core.engine.settings import profile

    rng = np.random.default_rng(0)
    hits = (rng.random((80, 3)) < .7).astype(float)
    one = Measured(hits[:, :1], "accuracy", protocol="coin", files=["predictions/x-s0.parquet"])
    three = Measured(hits,
                     "accuracy",
                     protocol="coin",
                     files=["predictions/d-s0.parquet", "predictions/d-s1.parquet", "predictions/d-s2.parquet"])
    p, table = profile("phantom"), published("fita_table2")
    long = long_table(table, {"(d) FITA": three, "a coin": one},
                      {"CE-F1": Measure("accuracy", "coin", 100), "ours alone": Measure("accuracy", "coin")}, p)
    assert list(
        long.columns) == COLUMNS and long["row"].drop_duplicates().tolist() == [*table.rows["row"], "a coin"]
    assert len(long) == 5*9 + 1 + 2 and long["reproduced"].notna().sum(
    ) == 4 # every published number, ours beside and below
    cell = long[(long["row"] == "(d) FITA") & (long["metric"] == "CE-F1")].iloc[0]
    assert cell["published"] == .326 and abs(cell["reproduced"] - 100 * hits.mean()) < 1e-9 and (
        cell["n"], cell["seeds"], cell["profile"]) == (80, 3, "phantom")
    assert cell["low"] < cell["reproduced"] < cell["high"] and cell["predictions"].count(
        ";") == 2 and cell["protocol"] == "coin"
    single = long[(long["row"] == "a coin") & (long["metric"] == "ours alone")].iloc[0]
    np.testing.assert_allclose([single["low"], single["high"]],
                               bootstrap_ci(np.mean, hits[:, 0], n=p.bootstraps)) # one seed: studies alone
    with pytest.raises(CourseError, match="row 'x': none of its systems knows a protocol of fita"):
        long_table(table, {"x": one}, measures("fita_table2"), p)


def test_a_table_on_reports_gives_what_rrg_evaluate_prints():
    plain = {
        "CE-F1": Measure("CE-F1", "llava-rad-neg-macro-f1-5", 100), "BLEU-4": Measure(
            "sacreBLEU-4", "llava-rad-neg-macro-f1-5")
    }
    frame = pd.DataFrame({
        "study_id": [f"s{i}" for i in range(12)],
        "reference": ["The lungs are clear.", "Left pleural effusion. Cardiomegaly.", "Mild edema."] * 4,
        "hypothesis": ["The lungs are clear.", "Pleural effusion.", "", "Cardiomegaly."] * 3
    })
    with tempfile.TemporaryDirectory() as d:
        desk = Chapter("toy", "smoke", root=d)
        with desk.writing("predictions/full-s0.parquet") as tmp:
            write_predictions(frame, tmp)
        shown = comparison(desk, "llava_rad_supp_table2",
                           {"LLaVA-Rad": Reports(desk.path("predictions/full-s0.parquet"))}, plain,
                           "Reports.").data
        csv = pd.read_csv(desk.path("supp_table2.csv")).set_index(["row", "metric"])
        cell = csv.loc[("LLaVA-Rad", "BLEU-4")]
        assert cell["predictions"] == "predictions/full-s0.parquet" and cell[
            "protocol"] == "llava-rad-neg-macro-f1-5"
        printed = evaluate(desk.folder / cell["predictions"], cell["protocol"]).set_index("metric")["value"]
        assert abs(cell["reproduced"] - printed["sacreBLEU-4"]) < 1e-6 and len(csv) == 10*12 + 1
        md = desk.path("supp_table2.md").read_text()
        assert "BLEU-4 ↑ published, MIMIC-CXR" in md and ("BLEU-4 (raw text) ↑ reproduced, "
                                                          "phantom") in md and ("CE-F1 (rules, 5, macro, "
                                                                                "uncertain→negative) ↑ "
                                                                                "reproduced, phantom") in md
        assert "compare within a column, not across" in md and "one seed" in md and (
            "Labelled by our "
            "rules") in md and "loaded" not in md and "published" in shown


def test_the_page_says_loaded_or_trained_the_file_does_not():
    frame = pd.DataFrame(
        {"study_id": ["a", "b"], "hypothesis": ["Clear.", "Effusion."], "reference": ["Clear.", "Effusion."]})
    frame.attrs["how"] = "trained in 38 s"
    with tempfile.TemporaryDirectory() as d:
        desk = Chapter("toy", "smoke", root=d)
        shown = comparison(desk,
                           None, {"full": Reports(frame)},
                           {"CE-F1": Measure("CE-F1", "llava-rad-neg-micro-f1-14")},
                           "Ours.",
                           file="ours").data
        assert "full: seed 0 trained in 38 s." in shown and "38 s" not in desk.path(
            "ours.md").read_text() + desk.path("ours.csv").read_text()
        with pytest.raises(CourseError,
                           match="fita_table2 has no row 'FITA'; it has Baseline .* go into `extra`"):
            comparison(desk, "fita_table2", {"FITA": Reports(frame)}, {}, "")


def test_a_comparison_ends_with_the_line_of_every_table():
    from rrg_core.engine.store import changing_records

    run = lambda made, hardware: dict(made=made, hardware=hardware)
    old, same, other = run("2026-01-05", "A, 1 thread"), run("2026-02-01", "A"), run("2026-02-01", "B")
    first, second = (f"predictions/full-s{seed}.parquet" for seed in (0, 1))
    behind = {
        "no run": ({}, ""), "a part, no run": ({"standins/x": old}, ""),
        "one run": ({first: old}, "trained 2026-01-05 on A"),
        "two days": ({first: old, second: same}, "trained 2026-01-05 to 2026-02-01 on A"),
        "two machines": ({first: old, second: other}, "trained 2026-01-05 to 2026-02-01 on A, B")}
    coin = Measured(np.ones((5, 1)), "accuracy", protocol="coin")
    measured_by = {"CE-F1": Measure("accuracy", "coin")}
    for name, (runs, trained) in behind.items():
        for why in ("", "the labels changed"):
            with tempfile.TemporaryDirectory() as d:
                desk = Chapter("fita", "smoke", root=d)
                with changing_records(desk.folder) as records:
                    records |= {"artifacts": runs, "stale": {"why": why} if why else {}}
                comparison(desk, "fita_table2", {"(d) FITA": coin}, measured_by, "Coins.")
                last = desk.path("table2.md").read_text().splitlines()[-1]
                assert last == desk.footer(), name
            assert trained in last and ("trained" in last) == bool(trained), name
            assert last.endswith(f" · declared stale: {why}") or not why, name


def test_costs_come_from_the_records_and_new_speeds_replace_old_ones():
    from rrg_core.engine.store import changing_records

    with tempfile.TemporaryDirectory() as d:
        desk = Chapter("toy", "smoke", root=d)
        told = {"seconds": 3.5, "memory_mb": 900, "gpu_memory_mb": None, "hardware": "a", "made": "2026-01-01"}
        with changing_records(desk.folder) as records:
            records["artifacts"] = {"predictions/full-s1.parquet": told, "standins/towers": told}
        speed = lambda machine, n: pd.DataFrame([{"variant": "full", "hardware": machine, "precision": "no",
                                                  "studies a second": n}])
        assert note_costs(desk).variant.tolist() == ["full", "towers"]
        note_costs(desk, speed("a", 10.))
        note_costs(desk, speed("b", 30.))
        out = note_costs(desk, speed("a", 20.))
        assert len(out) == 4 and pd.read_csv(desk.folder / "cost.csv").shape == out.shape
        speeds = out.dropna(subset="studies a second").set_index("hardware")["studies a second"]
        assert speeds.to_dict() == {"b": 30., "a": 20.}
        assert out.seed[0] == 1 and out.seconds[0] == 3.5 and pd.isna(out.seed[1])
