"""Exported from nbs/07c_standins.ipynb: edit it there, then run `nbdev-export`."""
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import pandas as pd
from rrg_core.data.study import named
from rrg_core.data.weights import plain_folder, read_weights
from rrg_core.engine.code import Registry, for_readers
from rrg_core.engine.files import file_hash
from rrg_core.engine.experiments import parts_of, standin_folder as _folder_of
from rrg_core.engine.store import Artifact, whole
from rrg_core.engine.settings import Check, CourseError, Profile, data_root, figures_root, profile as load_profile
import os, shutil, tempfile
import pandas as pd, pytest, torch, torchxrayvision as xrv
from rrg_core.learning.pretraining import Towers, TowersConfig, load_saved
from rrg_core.engine.settings import CourseError, profile as load_profile
from rrg_core.learning.standins import _begin_with
from rrg_core.data.weights import read_weights
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM
from rrg_core.learning.standins import *


def test_the_registry_is_complete():
    assert len(WEIGHTS) == len({e.name for e in WEIGHTS.values()}) and not set(WEIGHTS) & set(STANDINS)
    for e in WEIGHTS.values():
        assert e.standin in STANDINS and e.source.startswith("https://") and e.files and e.chapters and e.what
        assert set(e.sha256) <= set(e.files) and all(len(digits) == 64 for digits in e.sha256.values())
        for pattern in e.files: # what could hold code comes last
            assert ".safetensors" not in pattern.partition("|")[2]
    for name in [n.removeprefix("xrv-") for n in WEIGHTS if n.startswith("xrv-")]: # as the package has them
        assert WEIGHTS[f"xrv-{name}"].source == xrv.models.model_urls[name]["weights_url"]
    assert all(n.startswith("standin-") for n in STANDINS) and len(STANDINS) == 10
    for kind in ("towers", "densenet", "resnet", "bert",
                 "llama"): # the twins differ in their world and in nothing else
        a, b = (dict(STANDINS[f"standin-{w}-{kind}"]) for w in ("phantom", "shapes"))
        assert a.pop("data") == "phantom" and b.pop("data") == "shapes" and a == b


def test_a_standin_is_the_same_bytes_again_and_is_not_trained_twice():
    from rrg_core.engine.desk import WRITTEN
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        said = []
        for name in ("standin-shapes-densenet", "standin-shapes-llama", "standin-shapes-towers"):
            hashes = []
            for i in range(2):
                m.setenv("RRG_FIGURES", f"{d}/{i}")
                torch.manual_seed(i)
                torch.rand(i)
                folder = train_standin(name, "smoke", say=said.append)
                hashes.append({f.name: file_hash(f) for f in folder.iterdir()})
            assert hashes[0] == hashes[1] and {"config.json", "model.safetensors", "README.md"
                                               } <= set(hashes[0])
            said.clear()
            train_standin(name, "smoke", say=said.append)
            assert said == [] # loaded
            card = (folder / "README.md").read_text()
            assert card.splitlines(
            )[0] == "not for clinical use" and "stand-in, trained on synthetic data" in card
        said.clear()
        other = train_standin(name, "smoke", seed=1, say=said.append)
        assert said and {f.name: file_hash(f) for f in other.iterdir()} != hashes[0]
        assert not list(other.parent.glob(".*"))
        assert f"standins/{name}/model.safetensors" in WRITTEN["learning"]
    with pytest.raises(ValueError, match="no stand-in is called 'bert'"):
        train_standin("bert", "smoke")


def test_towers_begin_with_the_resnet_of_their_world():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d)
        folder = train_standin("standin-phantom-resnet", "smoke", say=str)
        network = Towers(TowersConfig()).image
        _begin_with(network, folder)
        pixels = torch.randint(256, (2, 1, 64, 64))
        torch.testing.assert_close(
            network.eval()(pixels).patches,
            load_saved(folder)(pixels).patches[..., :network.config.width]) # the labels' places are left out
    assert [n for n in STANDINS if start_of(n)] == [
        "standin-phantom-towers", "standin-shapes-towers"
    ] and start_of("standin-shapes-towers") == "standin-shapes-resnet"
    assert len({standin_artifact("standin-phantom-towers", "smoke", s).key for s in (0, 1)}) == 2


def test_standins_load_by_their_own_classes():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d)
        with pytest.raises(CourseError, match="rrg train learning standin-shapes-bert"):
            load_standin("standin-shapes-bert", "smoke")
        for kind, auto in (("bert", AutoModelForMaskedLM), ("llama", AutoModelForCausalLM), ("towers", AutoModel),
                           ("resnet", None)):
            folder = train_standin(f"standin-shapes-{kind}", "smoke", say=lambda line: None)
            model, tokenizer = load_standin(folder.name, "smoke")
            assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training
            if auto: # by name: the pretraining notebook registers its own Towers where it ran in the same process
                assert type(
                    auto.from_pretrained(folder, trust_remote_code=False,
                                         local_files_only=True)).__qualname__ == type(model).__qualname__
            if kind != "resnet":
                assert tokenizer("A large ring.").input_ids == AutoTokenizer.from_pretrained(
                        folder, trust_remote_code=False, local_files_only=True)(
                    "A large ring.").input_ids
            random, same, other = (load_standin(folder.name, "smoke", init="random", seed=s)[0].state_dict()
                                   for s in (0, 0, 1))
            weight = max((k for k in random if random[k].ndim > 1), key=lambda k: random[k].numel())
            assert torch.equal(random[weight], same[weight]) and not torch.equal(
                random[weight], other[weight]) and not torch.equal(random[weight],
                                                                   model.state_dict()[weight])
        with pytest.raises(ValueError, match="got 'zero'"):
            load_standin(folder.name, "smoke", init="zero")


def test_published_weights_come_first_and_must_be_whole():
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        d = Path(d)
        m.setenv("RRG_FIGURES", str(d / "figures"))
        m.delenv("RRG_ROOT_WEIGHTS", raising=False)
        lines = []
        with pytest.raises(CourseError,
                           match=r"chexzero: best_64.*pt expected in a folder chexzero below "
                           r"RRG_ROOT_WEIGHTS.*github.com/rajpurkarlab.*standin-phantom-towers stands in"):
            weights("chexzero", profile="smoke")
        with pytest.raises(ValueError, match="no weights are called 'resnet'"):
            weights("resnet")
        train_standin("standin-shapes-resnet", "smoke", say=lines.append)
        lines.clear()
        found = weights("imagenet-resnet50", profile="smoke", say=lines.append)
        assert found.standin == "standin-shapes-resnet" and lines == [
            "imagenet-resnet50: standin-shapes-resnet stands in, trained on synthetic data"
        ] and type(found.model()).__name__ == "SmallPyramid"
        (d / "w" / "imagenet-resnet50").mkdir(parents=True)
        m.setenv("RRG_ROOT_WEIGHTS", str(d / "w"))
        file = d / "w" / "imagenet-resnet50" / "resnet50-0676ba61.pth"
        with pytest.raises(CourseError,
                           match="resnet50-0676ba61.pth is missing. It comes from https://download.pytorch.org"):
            weights("imagenet-resnet50", profile="smoke")
        torch.save({"fc.bias": torch.ones(3)}, file)
        with pytest.raises(CourseError, match=r"SHA-256 .* expected 0676ba61"):
            weights("imagenet-resnet50", profile="smoke")
        assert {c.name: c.state for c in check_weights(profile="smoke")}["weights imagenet-resnet50"] == "broken"
        table = weights_table(profile="smoke").set_index("name").used
        assert table["imagenet-resnet50"] == "broken" and table["imagenet-resnet101"] == "stand-in" and table[
            "chexzero"] == "missing"
        (d / "w" / "chexzero").mkdir()
        torch.save({"visual.proj": torch.ones(2, 2)},
                   d / "w" / "chexzero" / "best_64_5e-05_original_22000_0.864.pt")
        found = weights("chexzero", profile="smoke", say=lines.append)
        assert not found.standin and "published weights" in lines[-1] and found.state()["visual.proj"].sum() == 4
        assert lines[-1].endswith("unchecked: no checksum is known)")
        said = {c.name: c.found for c in check_weights(profile="smoke")}
        assert said["weights chexzero"].endswith("chexzero, unchecked: no checksum is known")
        table = weights_table(profile="smoke").set_index("name").checksum
        assert table["imagenet-resnet50"] == "SHA-256" and table["chexzero"] == "unchecked"
        (d / "w" / (name := "xrv-densenet121-res224-nih")).mkdir()
        file = d / "w" / name / WEIGHTS[name].files[0].split("|")[1]
        torch.save(xrv.models.DenseNet(growth_rate=4, block_config=(1, 1), num_init_features=4, num_classes=3),
                   file,
                   _use_new_zipfile_serialization=False) # as released
        with pytest.raises(CourseError, match="densenet121-res224-nih.safetensors"):
            weights(name, profile="smoke", say=lines.append).state()
        shutil.copytree(train_standin("standin-shapes-bert", "smoke", say=lines.append),
                        d / "w" / "bert-base-uncased") # the layout that transformers reads
        bert = weights("bert-base-uncased", profile="smoke", say=lines.append)
        assert type(bert.model()).__name__ == "BertModel"
        settings = json.loads((bert.folder / "config.json").read_text())
        (bert.folder / "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoModel": "spy.Spy"}}))
        (bert.folder / "spy.py").write_text("raise SystemExit('it ran')")
        for read in (bert.model, bert.tokenizer):
            with pytest.raises(CourseError, match="config.json has an auto_map"): read()
        (bert.folder / "config.json").write_text(json.dumps(settings))
        clinical = d / "w" / "bio-clinicalbert" # published as .bin only
        bert.model(BertForMaskedLM).save_pretrained(clinical)
        torch.save(read_weights(clinical / "model.safetensors"), clinical / "pytorch_model.bin")
        shutil.copy(bert.folder / "tokenizer.json", clinical)
        found = weights("bio-clinicalbert", profile="smoke", say=lines.append)
        assert [f.name for f in found.files if "model" in f.name] == ["model.safetensors"]
        (clinical / "pytorch_model.bin").write_bytes(b"not read")
        assert found.model() and found.state()
        (clinical / "model.safetensors").unlink()
        with pytest.raises(CourseError, match="holds more than tensors"):
            weights("bio-clinicalbert", profile="smoke", say=lines.append).state()
