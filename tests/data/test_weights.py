"""Exported from nbs/01q_weights.ipynb: edit it there, then run `nbdev-export`."""
import json, os
from pathlib import Path
from rrg_core.data.study import named_file
from rrg_core.engine.settings import CourseError
import pickle, pytest, shutil, tempfile
import torch
import torchxrayvision as xrv
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel
from rrg_core.data.weights import *


def test_a_file_is_read_as_numbers_or_named():
    class Trap:
        def __reduce__(self): return (Path.touch, (Path(d, "it ran"), ))

    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        save_file({"a": torch.arange(40.)}, d / "a.safetensors")
        whole = (d / "a.safetensors").read_bytes()
        assert read_weights(d / "a.safetensors")["a"].tolist() == list(range(40))
        for key in ("state_dict", "model_state_dict"):
            torch.save({"epoch": 7, key: {"w": torch.ones(2)}}, d / "a.pt")
            assert read_weights(d / "a.pt")["w"].sum() == 2
        torch.save(xrv.models.DenseNet(growth_rate=4, block_config=(1, 1), num_init_features=4), d / "xrv.pt")
        assert "classifier.weight" in read_weights(d / "xrv.pt") # a pickled module, as the package publishes them
        torch.save({"w": Trap()}, d / "trap2.pt")
        torch.save({"w": torch.ones(2), "note": "words"}, d / "words.bin")
        torch.save([1], d / "list.pth")
        torch.save({"state_dict": [torch.ones(2)]}, d / "nested.pth")
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"
        broken = {
            "cut.safetensors": (whole[:-1], "is truncated"), "header.safetensors": (whole[:30], "is truncated"),
            "empty.safetensors": (b"", "no safetensors"), "short.safetensors": (b"12", "no safetensors"),
            "page.safetensors": (b"<html>not found</html>" * 9, "no safetensors"),
            "long.safetensors": (whole + b"more", "truncated or damaged"),
            "lfs.safetensors": (pointer.encode(), "pointer of Git LFS"),
            "lfs.pt": (pointer.encode(), "git lfs pull"),
            "pickle.safetensors": (pickle.dumps({"w": Trap()}), "no safetensors"),
            "trap.pt": (pickle.dumps({"w": Trap()}, 2), "more than tensors"), "half.pt": (
                (d / "xrv.pt").read_bytes()[:999], "damaged"), "trap2.pt": (None, "more than tensors"),
            "words.bin": (None, "dictionary of tensors"), "list.pth": (None, "got list"),
            "nested.pth": (None, "got list"),
        }
        for name, (data, words) in broken.items():
            if data is not None: (d / name).write_bytes(data)
            with pytest.raises(CourseError, match=words) as caught: read_weights(d / name)
            assert name in str(caught.value), name
        with pytest.raises(CourseError, match="gone.pt are missing: they come from there; a-standin stands in"):
            read_weights(d / "gone.pt", "there", "a-standin")
        assert not (d / "it ran").exists()


def test_a_folder_holds_no_code():
    torch.manual_seed(0)
    small = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    read, lfs = lambda path: json.loads(path.read_text()), "version https://git-lfs.github.com/spec/v1\n"
    code = '{"auto_map": {"AutoTokenizer": ["spy.Spy", null]}}'
    spy = "raise SystemExit('it ran')\n"
    with tempfile.TemporaryDirectory() as d:
        good = Path(d) / "good"
        BertModel(BertConfig(**small)).save_pretrained(good)
        (good / "tokenizer_config.json").write_text("{}")
        assert plain_folder(good) == good
        weights, config = (good / "model.safetensors").read_bytes(), read(good / "config.json")
        mapped = json.dumps(config | {"auto_map": {"AutoModel": "spy.Spy"}, "model_type": "spy"})
        changes = {
            ("config.json", mapped): "config.json has an auto_map: .* runs no code",
            ("config.json", json.dumps(config | {"auto_map": {}})): "has an auto_map",
            ("tokenizer_config.json", code): "tokenizer_config.json has an auto_map",
            ("processor_config.json", code): "processor_config.json has an auto_map",
            ("config.json", "{"): "config.json is damaged", ("config.json", None): "config.json does not exist",
            ("config.json", lfs): "config.json is a pointer of Git LFS",
            ("tokenizer.json", lfs): "tokenizer.json is a pointer of Git LFS",
            ("pytorch_model.bin", lfs): "pytorch_model.bin is a pointer",
            ("model.safetensors", weights[:-3]): "model.safetensors is truncated",
            ("model-00002-of-00002.safetensors", b"no weights"): "model-00002-of-00002.safetensors is",
        }
        for n, ((name, value), words) in enumerate(changes.items()):
            folder = shutil.copytree(good, Path(d) / str(n))
            (folder / "spy.py").write_text(spy)
            if value is None: (folder / name).unlink()
            else: (folder / name).write_bytes(value if isinstance(value, bytes) else value.encode())
            with pytest.raises(CourseError, match=words): plain_folder(folder)
        with pytest.raises((ValueError, OSError)): # transformers itself: an error, and no question to a person
            AutoModel.from_pretrained(Path(d) / "0", trust_remote_code=False, local_files_only=True)
