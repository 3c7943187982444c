"""Exported from nbs/06f_saving.ipynb: edit it there, then run `nbdev-export`."""
import copy, os, shutil, tempfile
from contextlib import contextmanager
from pathlib import Path
import torch
from transformers.utils import logging
from rrg_core.data.weights import plain_folder
from rrg_core.engine.files import atomic
from rrg_core.engine.settings import CourseError
from rrg_core.data.study import named_file
import json
import pytest
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedConfig, PreTrainedModel
from rrg_core.nets.saving import *


def test_what_is_loaded_is_what_was_saved():
    torch.manual_seed(0)
    model = BartForConditionalGeneration(
        BartConfig(vocab_size=50,
                   d_model=16,
                   encoder_layers=1,
                   decoder_layers=1,
                   encoder_attention_heads=2,
                   decoder_attention_heads=2,
                   encoder_ffn_dim=32,
                   decoder_ffn_dim=32,
                   max_position_embeddings=32))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as d:
        folder = half_saved(model, Path(d) / "a", {"trained on": "nothing"}, "A test")
        assert model.dtype == torch.float32 and all(
            torch.equal(v, before[k]) for k, v in model.state_dict().items()) # the original is untouched
        back = load_half(BartForConditionalGeneration, folder)
        # tied weights stay tied
        assert back.dtype == torch.float32 and not back.training
        assert back.lm_head.weight is back.model.shared.weight
        for k, v in back.state_dict().items():
            assert ((v - before[k]).abs() <= before[k].abs() * 2**-11 + 2**-25).all() and torch.equal(
                v, before[k].half().float()), k
        assert (folder / "README.md").read_text().splitlines()[0] == "not for clinical use" and "# A test" in (
            folder / "README.md").read_text()
        assert json.loads((folder / "config.json").read_text())["dtype"] == "float16" and (
            folder / "model.safetensors").stat().st_size < 2.2 * sum(p.numel() for p in model.parameters()) + 9000
        ids = torch.tensor([[0, 7, 9, 2]])
        model.load_state_dict({k: v.half().float() for k, v in before.items()})
        model.eval()
        torch.testing.assert_close(back(ids).logits, model(ids).logits)
        (folder / "stale.txt").write_text("of an older save")
        one = {f.name: f.read_bytes() for f in folder.iterdir() if f.name != "stale.txt"}
        half_saved(back, folder, {"trained on": "nothing"}, "A test")
        assert {f.name: f.read_bytes()
                for f in folder.iterdir()
                } == one and not any(d.encode() in b for b in one.values()) # the same bytes, and no path in them


def test_buffers_and_limits():
    class Config(PreTrainedConfig):
        model_type = "a-test"

    class Model(PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            self.norm, self.line = nn.BatchNorm1d(3), nn.Linear(3, 2)
            self.post_init()

        def forward(self, x):
            return self.line(self.norm(x))

    model = Model(Config())
    model.norm.running_mean += torch.tensor([1., 1 / 3, -7e5])
    model.norm.num_batches_tracked += 70_000
    with tempfile.TemporaryDirectory() as d:
        back = load_half(Model, half_saved(model, f"{d}/m"))
        assert back.norm.num_batches_tracked == 70_000 and torch.equal(back.norm.running_mean,
                                                                       model.norm.running_mean)
        with pytest.raises(ValueError, match="b takes 0.0 MB in half precision, more than 0.0001 MB"):
            half_saved(model, f"{d}/b", limit_mb=1e-4)
        assert not Path(d, "b").exists()

        class Other(Model):
            def __init__(self, config):
                super().__init__(config)
                self.more = nn.Linear(2, 2)
                self.post_init()

        with pytest.raises(ValueError, match="missing more"):
            load_half(Other, f"{d}/m")
        for value, words in ((7e4, "line.bias reaches 7e.04"), (float("nan"),
                                                                "line.bias has a number that is not finite")):
            model.line.bias.data[0] = value
            with pytest.raises(ValueError, match=words):
                half_saved(model, f"{d}/m")
        assert load_half(Model, f"{d}/m").line.bias[0] < 100 # a refused save leaves the last one
        weights = Path(d, "m", "model.safetensors")
        whole, lfs = weights.read_bytes(), b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        for data, words in ((whole[:-9], "truncated"), (lfs, "Git LFS"), (b"PK", "no safetensors")):
            weights.write_bytes(data)
            with pytest.raises(CourseError, match=f"model.safetensors is .*{words}"):
                load_half(Model, f"{d}/m")
        weights.write_bytes(whole)
        settings = json.loads(Path(d, "m", "config.json").read_text())
        Path(d, "m", "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoModel": "spy.Spy"}}))
        with pytest.raises(CourseError, match="config.json has an auto_map"):
            load_half(Model, f"{d}/m")
        weights.unlink()
        with pytest.raises(CourseError, match="m holds no model.safetensors"):
            load_half(Model, f"{d}/m")


def test_errors_of_nets_quote_no_report():
    from rrg_core.nets import decoder, encoders, recipes, training
    from rrg_core.tools.house import quoting

    assert quoting({
        "scale": lambda x: encoders.scaled(torch.zeros(1, 1, 8, 8), x),
        "pixels": lambda x: encoders.scaled(x),
        "a net's setting": lambda x: encoders.SmallResNetConfig(widths=x),
        "an unknown setting": lambda x: encoders.SmallResNetConfig(**{str(x): 1}),
        "a decoder's setting": lambda x: decoder.DecoderConfig(width=x),
        "a start": lambda x: decoder.DecoderConfig(vocab_size=3, bos_token_id=x),
        "model_type": lambda x: encoders.build_encoder({"model_type": x}),
        "weights": lambda x: encoders.read_weights(x, "this course"),
        "weights to fill": lambda x: encoders.fill(torch.nn.Linear(2, 2), {str(x): 1}),
        "a setting": lambda x: recipes.make_recipe({str(x): 1}),
        "a recipe": lambda x: recipes.make_recipe(x),
        "schedule": lambda x: recipes.make_recipe({"schedule": x}),
        "epochs": lambda x: recipes.make_recipe({"epochs": x}),
        "ids": lambda x: decoder.report_batch([[x, x]]),
        "reports": lambda x: decoder.report_batch(x),
        "a rate by prefix": lambda x: recipes.parameter_groups(torch.nn.Linear(2, 2),
                                                               recipes.Recipe(groups={str(x): .1})),
        "a seed": recipes.seed_everything,
        "a folder": lambda x: load_half(torch.nn.Linear, x),
        "history": lambda x: training.History().frame(x),
    }) == []
