"""Exported from nbs/06c_decoder.ipynb: edit it there, then run `nbdev-export`."""
from collections.abc import Callable, Sequence
import torch
import torch.nn.functional as F
from fastcore.basics import patch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from rrg_core.nets.attention import Attention, CourseConfig, DecoderLayer, Dropout, EncoderLayer, ReportCache, causal_mask, feed_forward, shifted_norm
from rrg_core.nets.encoders import ENCODERS, SCALES, VIT, ImageEncoder, ImageFeatures, ResNet, ResNetConfig, SmallResNet, SmallResNetConfig, Vit, VitConfig, XrvConfig, XrvDenseNet, build_encoder, fill, scaled
import itertools, math, tempfile, types, warnings
import pytest, torch
from torch import nn
from rrg_core.nets.attention import ReportCache, causal_mask
from rrg_core.nets.encoders import ResNetConfig, SmallResNetConfig
from rrg_core.nets.decoder import *


def test_batches_and_losses():
    batch = report_batch([[0, 7, 8, 0], [0, 5, 0]])
    assert batch["decoder_input_ids"].tolist() == [[0, 7, 8], [0, 5, 0]] and batch["labels"].tolist() == [[
        7, 8, 0
    ], [5, 0, -100]] # the 0 that ends counts, the 0 that pads does not
    logits = torch.zeros(2, 3, 10)
    torch.testing.assert_close(report_loss(logits, batch["labels"]), torch.tensor(10.).log()) # all words alike
    logits[1, 2] = torch.randn(10) # what is written at padding is free
    torch.testing.assert_close(report_loss(logits, batch["labels"]), torch.tensor(10.).log())
    logits[0, 0, 7] = 100. # one word of five is certain
    torch.testing.assert_close(report_loss(logits, batch["labels"]), torch.tensor(10.).log() * 4 / 5)
    half_empty = batch["labels"].clone()
    half_empty[1] = -100 # a row of padding only
    assert report_loss(logits, half_empty).isfinite()
    for bad, words in [(lambda: report_batch([]), "at least one"),
                       (lambda: report_batch([[0, 1], [0]]), "report 1 has 1 ids"),
                       (lambda: report_loss(logits, half_empty.fill_(-100)), r"\(2, 3\)")]:
        with pytest.raises(ValueError, match=words):
            bad()


def test_sinusoids_by_hand():
    two = sinusoids(1, 3, 4)
    expected = [[math.sin(p), math.cos(p), math.sin(p / 100),
                 math.cos(p / 100)] for p in (1, 2)] # 10000^(2/4) = 100
    torch.testing.assert_close(two, torch.tensor(expected))
    assert torch.equal(sinusoids(0, 9, 6)[5:], sinusoids(5, 9, 6)) and sinusoids(0, 2, 5).shape == (2, 5)


def test_settings_are_checked():
    for bad, words in [(dict(width=40, heads=3), "width 40 .* 3 heads"),
                       (dict(vocab_size=2), "eos_token_id must lie below vocab_size 2, got 2"),
                       (dict(layers=0), "layers .* got 0"), (dict(head=3), "'head'")]:
        with pytest.raises(ValueError, match=words):
            DecoderConfig(**bad)
    model, x = ReportDecoder(DecoderConfig(width=8, feature_width=4, layers=1)), torch.zeros(1, 2, 4)
    ids = torch.tensor([[1]])
    for bad, words in [(lambda: model(decoder_input_ids=ids), "neither"),
                       (lambda: model(x, x, decoder_input_ids=ids), "both"),
                       (lambda: model(pixels=x, decoder_input_ids=ids), "image_encoder")]:
        with pytest.raises(ValueError, match=words):
            bad()
    with pytest.raises(ValueError, match="feature_width is 4, the image encoder's is 16"):
        ReportDecoder(
            DecoderConfig(feature_width=4, image_encoder=SmallResNetConfig(widths=(8, 16), blocks=0).to_dict()))
    fake = types.SimpleNamespace(pad_token_id=0, bos_token_id=3, eos_token_id=4, __len__=None)

    class Words(list):
        pad_token_id, bos_token_id, eos_token_id = 0, 0, 0

    config = DecoderConfig.for_tokenizer(Words(range(9)), width=8)
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.heads,
            config.feed_forward) == (9, 0, 0, 1, 16)


def test_decoder_parameters_by_hand():
    def attention(d):
        return 4 * (d*d + d)

    def mlp(d, f):
        return d*f + f + f*d + d

    def by_hand(v, i, d, f, layers, encoder_layers):
        encoder = i*d + d + encoder_layers * (attention(d) + mlp(d, f) + 2*2*d) + (2 * d if encoder_layers else 0)
        return encoder + v*d + layers * (2 * attention(d) + mlp(d, f) + 3*2*d) + 2*d + d*v + v

    assert count_parameters(ReportDecoder, DecoderConfig()) == by_hand(300, 192, 192, 384, 3, 0)
    paper = DecoderConfig(vocab_size=761,
                          feature_width=2048,
                          width=512,
                          heads=8,
                          feed_forward=512,
                          encoder_layers=3)
    assert count_parameters(ReportDecoder, paper) == by_hand(761, 2048, 512, 512, 3, 3)


def test_leaks_are_found():
    torch.manual_seed(0)
    model = ReportDecoder(DecoderConfig(vocab_size=20, width=16, feature_width=4, layers=2,
                                        encoder_layers=1)).train()
    batch = dict(features=torch.randn(3, 5, 4), decoder_input_ids=torch.randint(3, 20, (3, 6)))
    assert leaks(model, batch) == [] and model.training # dropout was off, and is on again
    ids = batch["decoder_input_ids"]
    embed = torch.randn(20, 7)
    reads_next = lambda decoder_input_ids: embed[decoder_input_ids].roll(
        -1, 1) # each position sees the next word, the last one the first
    assert leaks(reads_next, dict(decoder_input_ids=ids), vocab_size=20) == [0, 1, 2, 3, 4]
    reads_fifth = lambda decoder_input_ids: torch.cat(
        [embed[decoder_input_ids[:, [5]]], embed[decoder_input_ids[:, 1:]]], 1)
    assert leaks(reads_fifth, dict(decoder_input_ids=ids), vocab_size=20) == [0]
    reads_itself = lambda words: embed[words]
    assert leaks(reads_itself, dict(words=ids), "words", 20) == [] and leaks(
        reads_itself, dict(words=ids), "words", 20, own=True) == [0, 1, 2, 3, 4, 5]
    assert leaks(reads_next, dict(decoder_input_ids=ids[:, :1]), vocab_size=20) == [] # one word has no future
    for layer in model.layers:
        layer.self_attention.forward = (lambda own: lambda x, causal: type(own).forward(own, x))(
            layer.self_attention) # the causal mask is forgotten
    assert leaks(model, batch) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="vocabulary of 1"):
        leaks(reads_next, dict(decoder_input_ids=ids), vocab_size=1)


def test_cached_equals_uncached():
    for seed in range(4):
        torch.manual_seed(seed)
        model = ReportDecoder(
            DecoderConfig(vocab_size=13, width=32, heads=4, feature_width=6,
                          encoder_layers=seed % 2)).double().eval()
        with torch.no_grad():
            model.head.weight.mul_(4) # more decided than a fresh net
        features, mask = torch.randn(5, 7, 6).double() * 3, torch.rand(5, 7) > .3
        mask[:, 0] = True
        for beams in (1, 3):
            written = [
                model.generate(features, attention_mask=mask, num_beams=beams, max_length=24, use_cache=c)
                for c in (True, False)
            ]
            assert torch.equal(*written) and len({tuple(r) for r in written[0].tolist()}) > 1
            one = model.generate(features[2:3], attention_mask=mask[2:3], num_beams=beams,
                                 max_length=24)[0] # a batch of one
            padded = F.pad(one, (0, written[0].shape[1] - len(one)), value=0)
            assert torch.equal(padded, written[0][2])


def test_beams_find_the_best_report():
    torch.manual_seed(3)
    model = ReportDecoder(DecoderConfig(vocab_size=4, width=16, feature_width=3, layers=1)).double().eval()
    with torch.no_grad():
        model.head.weight.mul_(3)
        model.head.bias[2] = 2.
    features, found = torch.randn(6, 4, 3).double(), []
    for row in features.split(1):
        best = (-math.inf, None)
        for length in range(1, 5): # start, then up to four words of which only the last may be the end
            for words in itertools.product([0, 1, 3], repeat=length - 1):
                for last in ([2] if length < 4 else [0, 1, 2, 3]):
                    ids = torch.tensor([[1, *words, last]])
                    logp = model(row, decoder_input_ids=ids[:, :-1]).logits.log_softmax(-1).gather(
                        2, ids[:, 1:, None]).sum().item()
                    best = max(best, (logp, ids[0].tolist())) # summed, not averaged: no length penalty
        found.append(best[1])
        assert model.generate(row, num_beams=30, max_length=5)[0].tolist() == best[1]
        greedy = model.generate(row, num_beams=1, max_length=5)[0].tolist()
        for i in range(1, len(greedy)): # each word is the most probable next one
            assert greedy[i] == model(row, decoder_input_ids=torch.tensor([greedy[:i]])).logits[0, -1].argmax()
    assert len({len(f) for f in found}) > 1 # reports of different lengths were best


def test_reports_end_and_pad():
    torch.manual_seed(0)
    model = ReportDecoder(DecoderConfig(vocab_size=9, width=16, feature_width=3, max_tokens=20)).double().eval()
    features = torch.randn(12, 4, 3).double() * 5
    with torch.no_grad():
        model.head.weight.mul_(3)
        model.head.bias[2] = .5
    for beams in (1, 3):
        for row in model.generate(features, num_beams=beams).tolist():
            assert row[0] == 1 and len(row) <= 20
            if 2 in row: assert set(row[row.index(2) + 1:]) <= {0} # only padding behind the end
    with torch.no_grad():
        model.head.bias[2] = 1e3
    assert model.generate(features).tolist() == [[1, 2]] * 12 # an empty report is legal
    model.train()
    model.generate(features, num_beams=1)
    assert model.training # dropout was off, the mode is kept
    with torch.no_grad():
        model.head.bias[2] = -1e3
    assert model.generate(features).shape == (12, 20) # never ends: cut at max_tokens


def test_saved_and_loaded():
    torch.manual_seed(0)
    config = DecoderConfig(vocab_size=9,
                           width=16,
                           feature_width=16,
                           encoder_layers=1,
                           max_tokens=11,
                           image_encoder=SmallResNetConfig(widths=(8, 16), blocks=1).to_dict())
    model, films = ReportDecoder(config).eval(), torch.randint(256, (2, 2, 8, 8),
                                                               dtype=torch.uint8) # two views each
    with tempfile.TemporaryDirectory() as d, warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(d)
        back = ReportDecoder.from_pretrained(d, trust_remote_code=False, local_files_only=True).eval()
        ids = torch.tensor([[1, 4], [1, 5]])
        assert all(torch.equal(value, back.state_dict()[name]) for name, value in model.state_dict().items())
        torch.testing.assert_close(
            back(pixels=films, decoder_input_ids=ids).logits,
            model(pixels=films, decoder_input_ids=ids).logits)
        assert torch.equal(back.generate(pixels=films), model.generate(
            pixels=films)) and back.generation_config.max_length == 11 and back.generation_config.num_beams == 3
    assert model(pixels=films, decoder_input_ids=ids).encoder_last_hidden_state.shape == (2, 2 * 4, 16)
    swapped = model(pixels=films.flip(1), decoder_input_ids=ids).encoder_last_hidden_state
    torch.testing.assert_close(swapped,
                               model.encode(pixels=films).roll(4,
                                                               1)) # views are blocks of patches, in their order


def test_where_words_look():
    torch.manual_seed(0)
    model = ReportDecoder(DecoderConfig(vocab_size=9, width=16, heads=2, feature_width=3, layers=2))
    features, mask, ids = torch.randn(2, 5, 3), torch.tensor(
        [[True] * 5, [True] * 3 + [False] * 2]), torch.tensor([[1, 4, 6], [1, 5, 0]])
    weights = cross_attention(model, ids, features=features, attention_mask=mask)
    assert weights.shape == (2, 2, 2, 3, 5) and model.training and weights[1, ..., 3:].sum() == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 2, 3))
    model.eval()
    layer = model.layers[0]
    x = model.embed(ids)
    x = x + layer.self_attention(layer.norms[0](x), causal=True) # the first layer, by hand
    expected = layer.cross_attention.weights(layer.norms[1](x), model.encode(features, attention_mask=mask),
                                             mask[:, None, None])
    torch.testing.assert_close(weights[:, 0], expected)


def test_trains_and_still_agrees():
    torch.manual_seed(0)
    model = ReportDecoder(DecoderConfig(vocab_size=12, width=32, feature_width=4, dropout=0., feature_dropout=0.))
    features = torch.randn(8, 5, 4)
    reports = [[1, *torch.randint(3, 12, (n, )).tolist(), 2] for n in (9, 4, 6, 1, 8, 3, 5, 7)]
    batch, optimiser = report_batch(reports), torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(60):
        loss = model(features, **batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < .05
    for beams in (1, 3):
        for cached in (True, False):
            written = model.generate(features, num_beams=beams, use_cache=cached).tolist()
            assert [row[:len(r)] for row, r in zip(written, reports)] == reports # by heart, single precision
    assert leaks(model, dict(features=features) | {"decoder_input_ids": batch["decoder_input_ids"]}) == []
