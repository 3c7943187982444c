"""Exported from nbs/90a_settings.ipynb: edit it there, then run `nbdev-export`."""
import configparser, os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
import pandas as pd, pytest
from rrg_core.engine.settings import repo_root
from rrg_core.engine.settings import *


def test_profile_values():
    p = profile("smoke")
    assert p.name == "smoke" and p.seed == p.seeds[0] and p.studies("train") == p.train
    assert profile("mimic").train is None
    with pytest.raises(ValueError, match="split must be"):
        p.studies("dev")


def test_profile_refuses_what_it_does_not_know():
    settings = read_settings()
    with pytest.raises(CourseError, match="unknown profile 'smok'"):
        profile("smok", settings)
    settings["smoke"]["epoch"] = "3"
    with pytest.raises(CourseError, match="epoch: unknown key"):
        profile("smoke", settings)
    del settings["smoke"]["epoch"]
    settings["smoke"]["seeds"] = "0 0"
    with pytest.raises(CourseError, match="seeds = '0 0'"):
        profile("smoke", settings)
    del settings["smoke"]["seeds"]
    with pytest.raises(CourseError, match="seeds is missing"):
        profile("smoke", settings)


def test_profile_follows_the_environment():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_PROFILE", "smoke")
        assert profile().name == "smoke"
        m.delenv("RRG_PROFILE")
        assert profile().name == "phantom"


def test_chapters_are_in_order():
    settings = read_settings()
    names = list(chapters(settings))
    assert all(names.index(need) < names.index(c) for c, needs in chapters(settings).items() for need in needs)
    settings["chapters"]["data"] = "nowhere"
    with pytest.raises(CourseError, match="data needs nowhere"):
        chapters(settings)


def test_roots_prefer_the_environment():
    settings = read_settings()
    settings["roots"]["openi"] = "~/data/openi"
    with pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_ROOT_OPENI", raising=False)
        assert data_root("openi", settings) == data_root("openi", settings).expanduser()
        assert data_root("openi", settings).parts[-2:] == ("data", "openi")
        m.setenv("RRG_ROOT_OPENI", "/x")
        assert str(data_root("openi", settings)) == "/x"


def test_figures_go_where_they_belong():
    with pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_FIGURES", raising=False)
        m.delenv("RRG_CACHE", raising=False)
        assert figures_root(profile("phantom")) == repo_root() / "figures"
        assert figures_root(profile("smoke")) == repo_root() / "build/smoke/figures"
        with figures_at(Path("/x")): assert figures_root(profile("smoke")) == Path("/x")
        assert figures_root(profile("smoke")) == repo_root() / "build/smoke/figures"
        assert cache_root() == repo_root() / "build/cache"
