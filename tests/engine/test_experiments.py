"""Exported from nbs/90e_experiments.ipynb: edit it there, then run `nbdev-export`."""
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from rrg_core.engine.code import Registry, canonical, data_parts, digest, reach_of, weights_hash
from rrg_core.engine.desk import Desk, progress
from rrg_core.engine.files import entrust, way_back
from rrg_core.engine.settings import CourseError, Profile, cache_root, figures_root, package_root
from rrg_core.engine.store import Artifact, key_of, read_records, whole
from rrg_core.engine.experiments import *


def test_a_difference_may_follow_the_defaults():
    import types
    from rrg_core.engine.settings import profile

    module = types.SimpleNamespace(DEFAULTS=lambda p: {"epochs": p.epochs, "beams": 3}, EXPERIMENTS={
        "plain": {}, "twice": {"epochs": lambda defaults: 2*defaults["epochs"]}, "long": {"epochs": 24}})
    for name in ("smoke", "phantom"):
        p = profile(name)
        assert merged(module, "twice", p) == {"epochs": 2*p.epochs, "beams": 3}
        assert merged(module, "plain", p)["epochs"] == p.epochs and merged(module, "long", p)["epochs"] == 24
    recipes = {"plain": {"epochs": 12}, "other": {"width": 3}}
    module = types.SimpleNamespace(
        RECIPES=recipes, DEFAULTS=lambda p, system="plain": {"system": system} | recipes[system],
        EXPERIMENTS={"a": {}, "b": {"system": "other"}, "c": {"system": "other", "width": 4},
                     "d": {"system": "?"}})
    assert merged(module, "a", p) == {"system": "plain", "epochs": 12}
    assert merged(module, "b", p) == {"system": "other", "width": 3} and merged(module, "c", p)["width"] == 4
    assert merged(module, "d", p) == {"system": "?", "epochs": 12} # one without a recipe: the chapter's defaults


def test_what_phantoms_alone_have_is_asked_of_them_alone():
    import tempfile, types
    from dataclasses import replace

    import pytest
    from rrg_core.engine.desk import Desk
    from rrg_core.engine.settings import CourseError, profile

    module = types.SimpleNamespace(EXPERIMENTS={"all": {}, "truth": {}}, PHANTOM_ONLY=("truth",))
    with tempfile.TemporaryDirectory() as d:
        here = Desk("one", "smoke", root=d)
        there = Desk("one", replace(profile("smoke"), data="openi"), root=d)
        names = lambda desk, *asked: [e.variant for e in experiments(desk, asked, [0], module)]
        assert names(here) == ["all", "truth"] and names(here, "truth") == ["truth"]
        assert names(there) == names(there, "all") == ["all"]
        with pytest.raises(CourseError, match="one truth needs what phantoms alone have"): names(there, "truth")


def test_what_a_change_renames():
    import tempfile, types
    from dataclasses import replace
    from pathlib import Path

    import pandas as pd
    import pytest
    from rrg_core.engine.desk import Desk
    from rrg_core.engine.settings import CourseError, cache_root, profile
    from rrg_core.engine.store import declare_stale, read_records, set_aside

    seen = types.SimpleNamespace(trained=[], wrote=[]) # no setting: a list that a function names would count
    trained, wrote = seen.trained, seen.wrote
    def train(folder, settings, seed, p):
        seen.trained.append(settings["x"])
        (folder/"w").write_text(str(settings["x"]*(seed + 1)))
    def decode(folder, settings, seed, p, first=None):
        seen.wrote.append(settings["x"])
        w = int((folder/"w").read_text()) if folder else 0
        return pd.DataFrame(
            {"study_id": ["a", "b"], "hypothesis": [str(w + settings["beams"]), ""], "reference": ["7",
                                                                                                   "8"]})[:first]
    def module(**names):
        score = lambda frame: {"F1": float(frame.hypothesis.iloc[0])}
        return types.SimpleNamespace(
            **{
                "DEFAULTS": {"x": 1, "beams": 3, "system": "number"}, "MAIN": "full", "SYSTEMS":
                    {"number": System(decode, train, score=score), "constant": System(decode, score=score)},
                "EXPERIMENTS": {"full": {}, "double": {"x": 2}, "constant": {"system": "constant"}}, "ONE_SEED":
                    ("constant", )
            } | names)

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_CACHE", d)
        desk = Desk("one", replace(profile("smoke"), seeds=(0, 1)), root=Path(d)/"figures")
        ran = lambda **n: (trained.clear(), wrote.clear(),
                           run_experiments(desk, module=module(**n), say=lambda w: None))[-1]
        first = ran()
        assert trained == [1, 1, 2, 2] and wrote == [1, 1, 2, 2, 1
                                                     ] and (desk.folder / "model" / "w").read_text() == "1"
        assert first["double"][1].hypothesis[0] == "7" and first["full"][0].attrs["how"].startswith("trained")
        assert ran()["full"][0].attrs["how"] == "loaded" and not trained + wrote
        fewer = [e.name for e in experiments(desk, module=module(SEEDS=1))]
        assert fewer == ["full-s0", "double-s0", "constant-s0"]
        ran(DEFAULTS={"x": 1, "beams": 4, "system": "number"}) # other beams: written anew, nothing is trained
        assert not trained and len(wrote) == 5
        # a setting of the training, for the variants that have it
        ran(DEFAULTS={"x": 5, "beams": 4, "system": "number"})
        assert trained == [5, 5] and sorted(set(wrote)) == [5]
        ran(DEFAULTS={"x": 5, "beams": 4, "system": "number"},
            EXPERIMENTS={"new": {"x": 9}, "full": {}, "double": {"x": 2}})
        assert trained == [9, 9]
        declare_stale(desk.folder, "a reason")
        assert "declared stale: a reason" in ran(
            DEFAULTS={"x": 6, "beams": 4, "system": "number"})["full"][0].attrs["how"] and not trained
        for bad, words in (({"": {}}, "name is letters"), ({"a-s1": {
        }}, "does not end"), ({"full": {"y": 1}}, "unknown setting 'y'")):
            with pytest.raises(CourseError, match=words): experiments(desk, module=module(EXPERIMENTS=bad))


def test_a_page_is_made_of_the_runs_that_are_there():
    import tempfile, types
    from dataclasses import replace
    from pathlib import Path

    import pandas as pd
    import pytest
    from rrg_core.engine.desk import Desk
    from rrg_core.engine.settings import profile

    def decode(folder, settings, seed, p, first=None):
        return pd.DataFrame({"study_id": ["a"], "hypothesis": [str(settings["x"] + seed)], "reference": ["7"]})

    module = types.SimpleNamespace(DEFAULTS={"x": 1}, MAIN="full", SYSTEMS={"only": System(decode)},
                                   EXPERIMENTS={"full": {}, "double": {"x": 2}, "once": {"x": 3}},
                                   ONE_SEED=("once", ))
    every = ["full-s0", "full-s1", "double-s0", "double-s1", "once-s0"]
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRG_CACHE", d)
        def at(name, jobs): # runs, what is missing
            desk = Desk("one", replace(profile("smoke"), seeds=(0, 1), jobs=jobs), root=Path(d)/name)
            runs, missing = gathered(desk, module.ONE_SEED, module, lambda words: None)
            return [f"{v}-s{s}" for v, frames in runs.items() for s in frames], missing
        assert at("small", False) == (every[:4], every[4:])
        assert at("large", True) == (every, []) # where there is none, all are made
        folder = Path(d)/"large"/"one"/"predictions"
        for name in ("full-s0", "full-s1", "double-s0"): (folder/f"{name}.parquet").unlink()
        assert at("large", True) == (["full-s0", "double-s1", "once-s0"], ["full-s1", "double-s0"])
        assert at("large", False) == (every, []) # what is there is shown, `once` too


def test_one_more_seed_or_not():
    import tempfile
    from pathlib import Path

    from rrg_core.engine.desk import Desk
    from rrg_core.engine.store import changing_records

    with tempfile.TemporaryDirectory() as d:
        desk = Desk("one", "smoke", root=d)
        old = {
            "predictions/a-s0.parquet": .50, "predictions/a-s1.parquet": .52, "predictions/a-s2.parquet": .51,
            "predictions/b-s0.parquet": .9
        }
        new = old | {"predictions/a-s0.parquet": .515, "predictions/a-s1.parquet": .60}
        with changing_records(desk.folder) as r:
            r["aside"] = {k: {"key": "x", "score": {"F1": v}} for k, v in old.items()}
            r["artifacts"] = {k: {"key": "x", "score": {"F1": v}} for k, v in new.items()}
        lines = compared(desk, list(old))
        assert "as one more seed" in lines[0] and "outside" in lines[1] and "as one more seed" in lines[3]
        assert abs(spread_of({"a": [.5, .52, .51], "b": [.9]})[0] - .01) < 1e-12 and spread_of({"b": [.9]
                                                                                                })[1] == 0


def test_predictions_are_checked():
    import pandas as pd
    import pytest
    from rrg_core.engine.settings import CourseError

    good = dict(study_id=["a", "b"], hypothesis=["x", ""], reference=["r", "s"])
    assert len(checked(pd.DataFrame(good, index=[5, 9]), "n")) == 2
    assert len(checked(pd.DataFrame(good | {"reference": ["r", ""]}), "n")) == 2 # of b no report is asked
    cases = [(None, "row a study"), (pd.DataFrame(), "without a row"),
             (pd.DataFrame({"id": ["a"]}), "no column study_id"), (good | {"study_id": ["a", "a"]}, "twice"),
             (good | {"study_id": ["a", 3]}, "must be a text"),
             (good | {"hypothesis": ["x", 5]}, "no text but a "
              "int"), (good | {"reference": ["r", " "]}, "the reference is empty"),
             (good | {"reference": ["", "s"]}, "a: the reference is empty"),
             ({k: v
               for k, v in good.items() if k != "reference"}, "go together")]
    for frame, words in cases:
        with pytest.raises(CourseError, match=words):
            checked(pd.DataFrame(frame) if isinstance(frame, dict) else frame, "n")
    secret = good | {"reference": ["SECRET", 3]}
    with pytest.raises(CourseError) as error: checked(pd.DataFrame(secret), "n")
    assert "SECRET" not in str(error.value)
