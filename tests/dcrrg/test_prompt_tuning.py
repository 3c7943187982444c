"""Exported from nbs/13d_prompt_tuning.ipynb: edit it there, then run `nbdev-export`."""
from functools import cached_property
import numpy as np
import pandas as pd
import torch
from peft import PrefixEncoder, PrefixTuningConfig
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from rrg_core.data.study import OBSERVATIONS, named
from rrg_core.data.weights import read_weights
from rrg_core.dcrrg.descriptions import Describer, DescriberConfig, trained_describer, vectors_of
from rrg_core.dcrrg.matching import dcclip_of
from rrg_core.dcrrg.observation_pretraining import ProjectionHead
from rrg_core.engine.settings import Profile
from rrg_core.learning.writers import ReportSystem, Studies, encoded, images_of, words_of
from rrg_core.nets.decoder import count_parameters
from rrg_core.nets.encoders import ResNetConfig, build_encoder
import pytest
from rrg_core.dcrrg.descriptions import Descriptions, descriptions_of
from rrg_core.learning.writers import collate, spoken
from rrg_core.nets.decoder import leaks
from rrg_core.nets.encoders import SmallPyramidConfig
from rrg_core.nets.training import fit
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.reports.tokenizers import decode
from rrg_core.dcrrg.prompt_tuning import *


def test_the_prefix_is_pefts():
    from peft import get_peft_model

    for hidden in (None, 8):
        torch.manual_seed(0)
        decoder = Describer(DescriberConfig(vocab_size=23, width=16, heads=2, feature_width=12, max_tokens=9))
        config = PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=5, token_dim=16, num_layers=2,
                                    num_attention_heads=2, num_transformer_submodules=1,
                                    encoder_hidden_size=hidden, prefix_projection=hidden is not None)
        theirs, ours = get_peft_model(decoder, config), Prefix(5, 2, 16, 2, hidden)
        ours.table.load_state_dict(theirs.prompt_encoder["default"].state_dict())
        cache = theirs.get_prompt(batch_size=3)
        for layer, (keys, values) in enumerate(ours()):
            assert keys.shape == (2, 5, 8)
            torch.testing.assert_close(cache.layers[layer].keys, keys.expand(3, -1, -1, -1))
            torch.testing.assert_close(cache.layers[layer].values, values.expand(3, -1, -1, -1))


def test_only_the_prefix_learns_and_without_it_the_model_is_step_3s():
    torch.manual_seed(0)
    eyes = SmallPyramidConfig(widths=(8, 8, 8, 8, 8), neck=8, labels=14).to_dict()
    small = dict(vocab_size=23, width=16, feed_forward=32, feature_width=12, max_tokens=9, dropout=0., eyes=eyes)
    pixels, ids = torch.randint(256, (3, 1, 32, 32)), torch.randint(1, 23, (3, 6))
    def moved(**settings):
        model = Dcrrg(DcrrgConfig(**small, **settings)).train()
        model(pixels=pixels, decoder_input_ids=ids, labels=ids).loss.backward()
        return model, {n.split(".")[0] for n, q in model.named_parameters() if q.grad is not None}

    decoder = {"words", "layers", "head", "context"}
    model, with_grad = moved(prefix=3)
    assert with_grad == {"prefix"} and not model.image_encoder.training
    assert moved(prefix=3, new_head=True)[1] == {"prefix", "head"}
    model, with_grad = moved(tuning="full")
    assert with_grad == decoder | {"image_encoder", "projection"}
    for n, q in model.named_parameters():
        assert (q.grad is None) == n.startswith(("questions.", "classifier.", "image_encoder.head.")), n
    assert moved(tuning="full", memory="patches")[1] == decoder | {"image_encoder", "cells"}
    step3 = Describer(DescriberConfig(**{k: v for k, v in small.items() if k != "eyes"}))
    model.load_state_dict(step3.state_dict(), strict=False)
    memory = torch.randn(3, 14, 12)
    for m in (step3, model): m.eval()
    torch.testing.assert_close(model(features=memory, decoder_input_ids=ids).logits,
                               step3(features=memory, decoder_input_ids=ids).logits) # l = 0


def test_a_model_with_a_prefix_writes_as_it_reads():
    torch.manual_seed(0)
    eyes = SmallPyramidConfig(widths=(8, 8, 8, 8, 8), neck=8, labels=0).to_dict()
    small = dict(vocab_size=23, width=16, feed_forward=32, feature_width=12, max_tokens=9, dropout=0.)
    pixels, ids, memory = torch.randint(256, (3, 1, 32, 32)), torch.randint(1, 23, (3, 6)), torch.randn(3, 14, 12)
    for more in (dict(prefix=4), dict(prefix=4, prefix_hidden=8), dict(tuning="full")):
        model = Dcrrg(DcrrgConfig(**small | more)).eval()
        if more.get("prefix"): model.prefix.table.requires_grad_(False)
        assert leaks(model, dict(features=memory, decoder_input_ids=ids)) == []
        for beams in (1, 3):
            cached, whole = (model.generate(features=memory, num_beams=beams, use_cache=c) for c in (True, False))
            assert torch.equal(cached, whole)
        plain = model(features=memory, decoder_input_ids=ids).logits
        if more.get("prefix"):
            model.prefix.table.load_state_dict({k: 3 * v for k, v in model.prefix.table.state_dict().items()})
            assert (model(features=memory, decoder_input_ids=ids).logits - plain).abs().max() > 1e-3
    for memory, m in (("prompts", 14), ("whole", 1), ("patches", 1)): # 32 pixels: one cell
        model = Dcrrg(DcrrgConfig(**small, eyes=eyes, memory=memory, prefix=2)).eval()
        seen = model.seen(pixels)
        assert seen.shape == (3, m, 12)
        assert torch.equal(model.generate(pixels=pixels), model.generate(features=seen))
    with pytest.raises(ValueError, match="neither"): model.encode()
    blind = Dcrrg(DcrrgConfig(**small, prefix=2))
    with pytest.raises(ValueError, match="config.eyes"): blind.encode(pixels=pixels)
    for wrong in (dict(prefix=0), dict(prefix=-1, tuning="full"), dict(memory="all"), dict(tuning="lora")):
        with pytest.raises(ValueError, match="prefix of some length|must be one of"):
            DcrrgConfig(**small | wrong)


def test_the_paper_s_size_and_shares_by_hand():
    d, v, p = 512, 4336, 512
    linear = lambda a, b: a * b + b
    resnet = 25_557_032 - linear(2048, 1000)
    head = linear(2048 + 14, p) + linear(p, p)
    decoder = v * d + 2 * (8 * linear(d, d) + linear(d, 2048) + linear(2048, d) + 6 * d) + linear(d, v)
    every = count_parameters(Dcrrg, DcrrgConfig.paper())
    assert every == resnet + head + linear(p, 2) + decoder + 14 * d + 20 * 2 * 2 * d
    share = tuned_share((1, 20))
    assert share.parameters.tolist() == [2048, 40960] # 2,048 for each token of the prefix
    assert share.full[20] == pytest.approx(40960 / (resnet + head + decoder))
    assert share.decoder[20] == pytest.approx(40960 / decoder)
    assert share["with a new head"][20] == pytest.approx((40960 + linear(d, v)) / (resnet + head + decoder))


def test_four_steps_end_to_end():
    import tempfile
    from dataclasses import replace
    from pathlib import Path
    from rrg_core.engine.settings import profile
    from rrg_core.learning.standins import load_standin, train_standin
    from rrg_core.learning.writers import written

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d + "/figures")
        m.setenv("RRG_CACHE", d + "/cache")
        p = replace(profile("smoke"), train=20, valid=6, test=4, image_size=64)
        for name in ("standin-shapes-resnet", "standin-phantom-bert"): train_standin(name, p, say=str)
        one = dict(balanced=True, epochs1=1, batch1=20, rate1=1e-3, encoder_rate1=1e-3, decay1=0.,
                   schedule1="one-cycle", extra=None)
        two = dict(step1=True, matching="calibrated", temperature=.1, centred=False, prompts=1, epochs2=1,
                   batch2=10, rate2=1e-3, decay2=0., schedule2="one-cycle")
        three = dict(step3=True, sources=("image", "text"), epochs3=1, batch3=32, rate3=1e-3,
                     schedule3="one-cycle")
        s = one | two | three | dict(
            site="structured", encoder="standin-shapes-resnet", bert="standin-phantom-bert", text_tokens=64,
            joint=16, size="course", width=16, layers=2, positions=False, asked="decoder", min_count=1,
            max_tokens=40, prefix=3,
            new_head=False, memory="prompts", tuning="prompt", encoder_rate=None, epochs=2, batch=10, rate=1e-2,
            keep="last", judged=3, tested=1, beams=3, precision="no")
        full = dict(tuning="full", encoder_rate=1e-3)
        variants = {"prompt": {}, "full": full, "patches": full | dict(memory="patches", step3=False),
                    "one vector": dict(memory="whole", step1=False, matching=None)}
        for name, other in variants.items():
            system, folder = DcrrgSystem(s | other, p, 0), Path(d, name)
            folder.mkdir()
            start = system.fresh(0, system.read("train")).state_dict()
            system.train(folder, 0)
            model, words = system.saved(folder)
            learned = {k.split(".")[0] for k, v in model.named_parameters()
                       if not torch.equal(v, start[k].half().float())}
            still = {k: torch.equal(v, start[k]) for k, v in model.named_buffers()}
            assert all(still.values()) == (name != "full"), still
            assert learned == {"prompt": {"prefix"}, "one vector": {"prefix"},
                               "full": {"image_encoder", "projection", "layers", "words", "head"},
                               "patches": {"image_encoder", "cells", "layers", "words", "head"}}[name]
            told = written(system, folder)
            assert len(told) == 4 and told.reference.str.len().min() > 0
            assert len(pd.read_csv(folder / "evaluations.csv")) == 2
            data = system.read("test", words)
            scores = system.told(model, data)
            assert (scores is None) == (name in ("patches", "one vector"))
            if name == "prompt": # what was kept is what the saved model sees
                pixels = torch.from_numpy(np.array(images_of("test", "structured", p, str)[0]))
                with torch.no_grad(): seen = model.seen(pixels)
                np.testing.assert_allclose(seen, data.inputs["features"], atol=.02, rtol=.02)
                assert scores.shape == (4, 14) and system.told(model, data).std() > 0
        with pytest.raises(ValueError, match="needs an encoder_rate"):
            DcrrgSystem(s | dict(memory="patches"), p, 0).read("valid")
