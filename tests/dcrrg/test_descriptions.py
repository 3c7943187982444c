"""Exported from nbs/13c_descriptions.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import replace
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from rrg_core.data.study import OBSERVATIONS, named
from rrg_core.dcrrg.matching import _ONE, _TWO, Dcclip, dcclip_of, paired
from rrg_core.dcrrg.observation_pretraining import save_weights
from rrg_core.engine.experiments import shared
from rrg_core.engine.settings import Profile
from rrg_core.labels import label
from rrg_core.learning.writers import collate, images_of, read_by, spoken, words_of
from rrg_core.nets.attention import DecoderLayer, causal_mask
from rrg_core.nets.decoder import DecoderConfig, ReportDecoder, report_loss, sinusoids
from rrg_core.nets.training import fit
from rrg_core.reports import sentences
from rrg_core.reports.cleaning import clean_r2gen
from rrg_core.reports.tokenizers import decode, encode_r2gen
import matplotlib.pyplot as plt
import pytest
from rrg_core.nets.decoder import count_parameters, leaks
from rrg_core.phantom.sites import report_at, scene_at
from rrg_core.dcrrg.descriptions import *


def test_sentences_go_to_all_that_they_mention():
    told = descriptions_of("The lungs are clear. No effusion, pneumothorax or focal consolidation. "
                           "Possible effusion on the left. The heart is normal.")
    assert {o: told[o] for o in ("Consolidation", "Pneumothorax")} == dict.fromkeys(
        ("Consolidation", "Pneumothorax"), "No effusion, pneumothorax or focal consolidation.")
    assert told["Pleural Effusion"].endswith("consolidation. Possible effusion on the left.")
    assert told["No Finding"] == "The lungs are clear." and told["Cardiomegaly"] == "The heart is normal."
    assert list(told) == [o for o in OBSERVATIONS if o in told] and descriptions_of("") == {}
    every = [report_at("structured", scene_at("structured", i))[0].findings for i in range(40)]
    for r in every: # nothing is lost, and nothing is made up
        assert {s for d in descriptions_of(r).values() for s in sentences(d)} == set(sentences(r))


def test_samples_are_counted():
    table = sample_table(["No effusion or pneumothorax.", "Left effusion.", "The lungs are clear."])
    assert table.loc["Pleural Effusion", ["reports", "times"]].tolist() == [2, pytest.approx(4 / 3)]
    assert table.loc["all", "times"] == pytest.approx(2 * 4 / 3) and table.loc["Fracture", "times"] == 0
    whole = ". ".join(f"No {o.lower()}" for o in OBSERVATIONS[:13]) + ". Nothing else."
    assert sample_table([whole]).loc["all", "times"] <= 28


def test_a_layer_is_equations_10_to_12():
    torch.manual_seed(0)
    layer = PostNormLayer(16, 2, 32, 0.).double().eval()
    x, memory = torch.randn(2, 5, 16).double(), torch.randn(2, 3, 16).double()
    see = torch.ones(5, 5).tril().bool()
    norm, ff = layer.norms, layer.feed_forward
    attn = norm[0](layer.self_attention(x, mask=see) + x)
    ca = norm[1](layer.cross_attention(attn, memory) + attn)
    torch.testing.assert_close(layer(x, memory), norm[2](ff(ca) + ca))
    front = tuple(torch.randn(2, 4, 8).double() for _ in range(2)) # (h, l, d/h)
    keys, values = layer.self_attention.keys(x)
    joined = [torch.cat([p.expand(2, -1, -1, -1), w], 2) for p, w in zip(front, (keys, values))]
    seen = torch.cat([torch.ones(5, 4).bool(), see], 1) # the prefix is seen by all
    attn = norm[0](layer.self_attention.attend(x, *joined, seen) + x)
    ca = norm[1](layer.cross_attention(attn, memory) + attn)
    torch.testing.assert_close(layer(x, memory, prefix=front), norm[2](ff(ca) + ca))
    nothing = tuple(torch.zeros(2, 0, 8).double() for _ in range(2))
    torch.testing.assert_close(layer(x, memory, prefix=nothing), layer(x, memory))


def test_a_describer_writes_as_it_reads():
    torch.manual_seed(0)
    sizes = dict(vocab_size=23, width=16, feed_forward=32, feature_width=12, max_tokens=9, dropout=0.)
    ids = torch.randint(1, 23, (3, 6))
    for more in ({}, dict(positions=True), dict(feature_width=16, asked="vector")):
        model = Describer(DescriberConfig(**sizes | more)).eval()
        memory, k = torch.randn(3, 14, model.config.feature_width), [3, 0, 13]
        assert leaks(model, dict(features=memory, decoder_input_ids=ids)) == []
        first = model.starts(k)
        assert first == ([1] * 3 if "asked" in more else [26, 23, 36])
        for beams in (1, 3):
            options = dict(features=memory, num_beams=beams, decoder_start_token_id=first)
            cached, whole = (model.generate(**options, use_cache=c) for c in (True, False))
            assert torch.equal(cached, whole) and cached[:, 0].tolist() == first
            assert cached[:, 1:].max() < 23 # a question is never written
        assert isinstance(model.context.map, nn.Identity) == (model.config.feature_width == 16)
        plain = ReportDecoder.embed(model, ids, 2) # as every report decoder, where there are positions
        if model.config.positions: torch.testing.assert_close(model.embed(ids, 2), plain)
    with pytest.raises(ValueError, match="decoder or vector"): DescriberConfig(**sizes, asked="image")


def test_one_vector_leaves_nothing_to_choose():
    torch.manual_seed(0)
    model = Describer(DescriberConfig(vocab_size=23, width=16, feed_forward=32, feature_width=12, max_tokens=9))
    ids = torch.randint(1, 23, (3, 6))
    for m, trained in ((1, False), (2, True)):
        model.zero_grad()
        model(features=torch.randn(3, m, 12), decoder_input_ids=ids, labels=ids).loss.backward()
        for layer in model.layers:
            moved = [getattr(layer.cross_attention, n).weight.grad.abs().max() > 1e-7 for n in ("query", "key")]
            assert all(moved) if trained else not any(moved)


def test_the_paper_s_decoder_by_hand():
    d, v = 512, 4336
    linear = lambda a, b: a * b + b
    layer = 8 * linear(d, d) + linear(d, 2048) + linear(2048, d) + 3 * 2 * d
    size = v * d + 2 * layer + linear(d, v)
    assert count_parameters(Describer, DescriberConfig.paper(asked="vector")) == size
    assert count_parameters(Describer, DescriberConfig.paper()) == size + 14 * d # a word for each observation


def test_descriptions_are_learned_by_heart_from_both_sources():
    reports = [report_at("structured", scene_at("structured", i))[0].findings for i in range(4)]
    words, rng = words_of(reports, 1), np.random.default_rng(0)
    sources = list(rng.standard_normal((2, 4, 14, 16)).astype("f2"))
    data = Descriptions(reports, sources, words, 60)
    assert len(data) == 2 * len(data.ids) == len(data.lengths)
    m = len(data.ids)
    study, k = data.places[3]
    assert np.array_equal(data[3]["features"], sources[0][study]) and data[3]["ids"][0] == len(words) + k
    assert np.array_equal(data[m + 3]["features"], sources[1][study])
    assert data[m + 3]["ids"] == data.ids[3]
    alone = Descriptions(reports, sources, words, 60, asked="vector")
    assert np.array_equal(alone[3]["features"], sources[0][study, k][None])
    assert [i[1:] for i in alone.ids] == [i[1:] for i in data.ids] and alone.ids[3][0] == words.bos_token_id
    torch.manual_seed(0)
    sizes = dict(width=48, feature_width=16, dropout=0., max_tokens=30)
    model = Describer(DescriberConfig.for_tokenizer(words, **sizes))
    fit(model, data, collate, epochs=80, batch=32, rate=4e-3, best=None, weight_decay=0., lengths=data.lengths)
    scores = description_scores(model, data)
    assert scores["validation loss"] < .05 and scores["right"] == 1
    for source in sources:
        said = describe(model, source[data.places[:, 0]], data.places[:, 1], words)
        assert sum(a == spoken(clean_r2gen(b, "iu_xray")) for a, b in zip(said, data.texts)) >= .95 * m


def test_step_3_is_made_once_for_each_pair_of_towers():
    import tempfile
    from dataclasses import replace
    from rrg_core.data.weights import read_weights
    from rrg_core.engine.settings import profile
    from rrg_core.learning.standins import train_standin

    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        m.setenv("RRG_FIGURES", d + "/figures")
        m.setenv("RRG_CACHE", d + "/cache")
        p = replace(profile("smoke"), train=20, valid=8, test=3, image_size=64)
        for name in ("standin-shapes-resnet", "standin-phantom-bert"): train_standin(name, p, say=str)
        s = dict(site="structured", joint=16, balanced=True, epochs1=1, batch1=20, rate1=1e-3,
                 encoder_rate1=1e-3, decay1=0.,
                 schedule1="one-cycle", precision="no", encoder="standin-shapes-resnet", extra=None, prompts=1,
                 bert="standin-phantom-bert", text_tokens=64, step1=False, matching="infonce", centred=False,
                 temperature=.1, epochs2=1, batch2=20, rate2=1e-3, decay2=0., schedule2="one-cycle",
                 size="course", width=16, layers=2, positions=False, asked="decoder", min_count=1, max_tokens=40,
                 sources=("image", "text"), epochs3=1, batch3=32, rate3=1e-3, schedule3="one-cycle")
        made = vectors_of(s, "valid", 0, p)
        assert made["image"].shape == made["text"].shape == (8, 14, 16) and made["image"].dtype == np.float16
        model, tokenizer = dcclip_of(s, 0, p)
        images, table = images_of("valid", "structured", p, str)
        v = model.image.head.each(model.image.raw(torch.from_numpy(np.array(images[:1]))))
        np.testing.assert_allclose(made["image"][0], v[0].detach(), atol=2e-3)
        towers = lambda: sorted(f.name for f in Path(d, "cache", "shared").iterdir() if "-step" in f.name)
        before = towers()
        assert len(vectors_of(s, "test", 0, p, tested=2)["image"]) == 2 * p.test and towers() == before
        folder = trained_describer(s, 0, p, str)
        assert trained_describer(s | dict(balanced=False), 0, p, str) == folder # step 1 is not asked for
        words = words_of(images_of("train", "structured", p, str)[1].findings, 1)
        Describer(describer_config(s, words)).load_state_dict(read_weights(folder / "decoder.safetensors"))
        assert pd.read_csv(folder / "evaluations.csv").right.between(0, 1).all()
