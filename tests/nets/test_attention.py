"""Exported from nbs/06a_attention.ipynb: edit it there, then run `nbdev-export`."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.utils import logging
from rrg_core.data.study import named
import pytest, torch
from torch import nn
from rrg_core.nets.attention import *


def test_a_misspelt_setting_is_refused():
    class Tiny(CourseConfig):
        model_type = "rrg_tiny"
        width: int = 8

        def __post_init__(self, **extra):
            super().__post_init__(**extra)
            self.positive("width")

    assert Tiny(width=4).width == 4 and Tiny.from_dict(Tiny(width=4).to_dict()).width == 4
    for bad, words in [({"widht": 4}, "widht"), ({"width": 0}, "got 0"), ({"width": True}, "got True")]:
        with pytest.raises(ValueError, match=words):
            Tiny(**bad)


def test_dropout_is_unbiased():
    torch.manual_seed(0)
    for rate in (.1, .5):
        out = Dropout(rate).train()(torch.ones(1000, 999))
        share = round(256 * rate) / 256
        assert abs((out == 0).float().mean().item() - share) < 4 * (share *
                                                                    (1-share) / 999000)**.5 # four standard errors
        by_byte = (out.flatten()[:998000] == 0).view(-1, 8).float().mean(0) # no byte of the eight is special
        assert (by_byte - share).abs().max() < 5 * (share * (1-share) / 124750)**.5
        assert torch.equal(out.unique(), torch.tensor([0, 256 / (256 - round(256 * rate))]))
    x = torch.randn(3, 5)
    assert Dropout(.5).eval()(x) is x and Dropout(0.).train()(x) is x
    with pytest.raises(ValueError, match="got 1"):
        Dropout(1)
    x = torch.ones(7, requires_grad=True)
    y = Dropout(.5).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_attention_against_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3).double(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x, context = torch.randn(2, 5, 12).double(), torch.randn(2, 4, 12).double()
    seen = torch.tensor([[True, True, False, True], [True, False, False, False]])
    expected, weights = theirs(x, context, context, key_padding_mask=~seen, average_attn_weights=False)
    mask = seen[:, None, None]
    torch.testing.assert_close(ours(x, context, mask), expected)
    torch.testing.assert_close(ours.weights(x, context, mask), weights)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(x, causal=True), theirs(x, x, x, attn_mask=hidden)[0])
    with pytest.raises(ValueError, match="width 12 .* 5 heads"):
        Attention(12, 5)


def test_attention_edges():
    torch.manual_seed(0)
    attention = Attention(8, 2).eval()
    assert attention(torch.randn(1, 1, 8)).shape == (1, 1, 8) # one token of one study
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(attention(x[:1]), attention(x)[:1]) # alone or in a batch
    none = attention(x, x, torch.zeros(2, 1, 1, 3, dtype=torch.bool)) # a study without one visible cell
    torch.testing.assert_close(none, attention.out.bias.expand(2, 3, 8)) # nothing was read, nothing is NaN


def test_shifted_norm_by_hand():
    norm, x = nn.LayerNorm(2, eps=0.), torch.tensor([[[1., 3.]]]) # mean 2, standard deviation 1: (-1, 1)
    assert shifted_norm(norm, x).tolist() == [[[-1, 1]]]
    assert shifted_norm(norm, x, (torch.tensor([2., 0.]), torch.tensor([5., 7.]))).tolist() == [[[-3 + 5, 1 + 7]]]
    zero = torch.zeros(1, 1, 2)
    torch.testing.assert_close(shifted_norm(norm, x, (zero, zero)), norm(x))


def test_beams_take_their_states_along():
    cache = ReportCache()
    keys = torch.arange(3.).view(3, 1, 1, 1)
    cache.words(0, keys, keys)
    cache.image(0, lambda: (keys, keys))
    cache.states["memory"] = torch.tensor([[0.], [1.], [2.]])
    cache.reorder_cache(torch.tensor([2, 0, 0]))
    assert cache.states["memory"].flatten().tolist() == [2, 0, 0]
    assert cache.words(0, keys, keys)[0].flatten(1).tolist() == [[2, 0], [0, 1], [0, 2]
                                                                 ] and cache.get_seq_length() == 2
    assert cache.image(0, None)[0].flatten().tolist() == [0, 1, 2] # not computed again, not moved


def test_causal_mask_by_hand():
    assert causal_mask(2, 1).tolist() == [[True, True, False], [True, True, True]]
    assert causal_mask(1, 4).all() and causal_mask(3).sum() == 6 and causal_mask(0).shape == (0, 0)


def test_layers_with_and_without_cache():
    torch.manual_seed(0)
    layer = DecoderLayer(8, 2, 16, .1).double().eval()
    x, image = torch.randn(2, 5, 8).double(), torch.randn(2, 3, 8).double()
    mask = torch.tensor([[True, True, False], [False, True, True]])[:, None, None]
    whole = layer(x, image, mask)
    for pieces in ([1] * 5, [3, 2], [2, 1, 2], [5]):
        cache = ReportCache()
        parts = [layer(part, image, mask, cache) for part in x.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole)
    changed = x.clone()
    changed[:, 3:] = 7
    torch.testing.assert_close(layer(changed, image, mask)[:, :3], whole[:, :3]) # no word sees the future
    assert not torch.allclose(layer(changed, image, mask)[:, 3:], whole[:, 3:])
    image[0, 2] = image[1, 0] = 9
    torch.testing.assert_close(layer(x, image, mask), whole) # nor a hidden cell


def test_encoder_layer_is_blind_to_order():
    torch.manual_seed(0)
    layer, x = EncoderLayer(8, 2, 8, .1).eval(), torch.randn(2, 6, 8)
    order = torch.randperm(6)
    torch.testing.assert_close(
        layer(x[:, order]),
        layer(x)[:, order]) # R2Gen gives image cells no position: it cannot tell left from right by place
