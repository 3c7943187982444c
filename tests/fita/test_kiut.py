"""Exported from nbs/11a_kiut.ipynb: edit it there, then run `nbdev-export`."""
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from fastcore.basics import patch
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils import ModelOutput
from rrg_core.nets.attention import Attention, Dropout, ReportCache, causal_mask
from rrg_core.nets.decoder import DecoderConfig, ReportDecoder, _cells, report_loss
from rrg_core.data.study import OBSERVATIONS
import pytest, numpy as np, torch, matplotlib.pyplot as plt
from transformers import BertConfig
from rrg_core.nets.attention import ReportCache
from rrg_core.nets.decoder import leaks
from rrg_core.fita.kiut import *


def test_edges_and_cooccurrence():
    edges = organ_edges()
    assert (edges == edges.T).all() and edges.diagonal().all() and edges[OBSERVATIONS.index("No Finding")].all()
    assert edges[OBSERVATIONS.index("Edema"),
                 OBSERVATIONS.index("Pneumonia")] and not edges[OBSERVATIONS.index("Fracture"),
                                                                OBSERVATIONS.index("Edema")]
    assert sorted(sum(map(list, ORGANS.values()), ["No Finding"])) == sorted(OBSERVATIONS)
    labels = np.array([[1] * 2 + [0] * 12, [1, -1] + [0] * 12, [0] * 14])
    c = cooccurrence(labels)
    assert c[0, 1] == pytest.approx((1 + 2/3) / 4) and c[1, 0] == pytest.approx(
        (1 + 4/3) / 3) and c[13, 0] == pytest.approx(
            2 / 3) and (c.diagonal() == 1).all() # what nobody has is as common beside 0 as beside all


def test_graph_attention_looks_at_neighbours_only():
    torch.manual_seed(0)
    layer = GraphAttention(16).eval()
    x, edges, prior = torch.randn(2, 14, 16), organ_edges(), cooccurrence(np.tril(np.ones((14, 14)))).log()
    out, other = layer(x, edges, prior), x.clone()
    k, far = OBSERVATIONS.index("Fracture"), OBSERVATIONS.index("Edema")
    other[:, far] += 1
    moved = (layer(other, edges, prior) - out).abs().sum((0, 2)) > 1e-5
    assert not moved[k] and moved[far] and (moved == edges[far]).all()
    # a few-line reference for one node and one head
    h = layer.projection(x[0]).view(14, 4, 4)[:, 1]
    js = edges[k].nonzero()[:, 0]
    s = F.leaky_relu((h[k] * layer.source[1]).sum() + (h[js] * layer.target[1]).sum(-1), .2) + prior[k, js]
    own = layer.projection(x).unflatten(-1, (4, -1)).transpose(1, 2)
    torch.testing.assert_close(layer.weights(own, edges, prior)[0, 1, k, js], s.softmax(0))
    assert all(
        p.grad is not None for p in [layer(x, edges, prior).sum().backward() or p for p in layer.parameters()])


def test_words_know_the_past_only():
    torch.manual_seed(0)
    bert = dict(vocab_size=40,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64)
    words = WordFeatures(bert, 12, 3).eval()
    words.pieces.copy_(torch.randint(-1, 40, (12, 3)))
    words.pieces[:, 0] = torch.arange(12)
    ids = torch.randint(12, (3, 9))
    whole = words(ids)
    changed = ids.clone()
    changed[:, 5:] = (ids[:, 5:] + 1) % 12
    assert torch.equal(words(changed)[:, :5], whole[:, :5]) and (words(changed)[:, 5:] != whole[:, 5:]).any()
    cache, parts = ReportCache(), [] # word by word, rows exchanged on the way
    for i in range(9):
        parts.append(words(ids[:, i:i + 1], cache))
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    cache = ReportCache()
    words(ids[:, :4], cache)
    order = torch.tensor([2, 0, 0])
    cache.reorder_cache(order)
    torch.testing.assert_close(words(ids[order][:, 4:5], cache),
                               words(torch.cat([ids[order][:, :4], ids[order][:, 4:5]], 1))[:, 4:],
                               atol=1e-5,
                               rtol=1e-4)


def test_kiut_writes_like_every_writer_of_the_course():
    torch.manual_seed(0)
    bert = dict(vocab_size=40,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64)
    for settings in (dict(bert=bert), dict(), dict(bert=bert, connection="last")):
        model = Kiut(
            KiutConfig(vocab_size=23,
                       width=16,
                       feature_width=12,
                       layers=2,
                       encoder_layers=2,
                       heads=2,
                       graph_heads=2,
                       name_width=8,
                       max_tokens=11,
                       **settings))
        model.graph.set_buffers(torch.randn(14, 8), cooccurrence(np.zeros((3, 14))))
        if model.config.bert: model.text.pieces[:, 0] = torch.arange(23)
        image = dict(features=torch.randn(3, 6, 12), probabilities=torch.rand(3, 14))
        batch = image | dict(decoder_input_ids=torch.randint(1, 23, (3, 7)))
        assert leaks(model, batch) == []
        model.train()
        assert not (model.config.bert and model.text.training)
        model(**batch, labels=torch.randint(1, 23, (3, 7))).loss.backward()
        assert {n
                for n, p in model.named_parameters()
                if p.grad is None} == {n
                                       for n, p in model.named_parameters() if n.startswith("text.")}
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], .01)
        labels = torch.randint(1, 23, (3, 7))
        for _ in range(60):
            optimiser.zero_grad()
            model(**batch, labels=labels).loss.backward()
            optimiser.step() # away from the start, where all images read alike
        for beams in (1, 3):
            cached, plain = (model.generate(**image, num_beams=beams, use_cache=c) for c in (True, False))
            assert torch.equal(cached, plain) and cached.shape[0] == 3 and len(
                {tuple(r)
                 for r in cached.tolist()}) > 1


def test_every_image_input_is_read_and_no_other():
    class Aged(Kiut):
        image_inputs = (*Kiut.image_inputs, "age")

        def symptoms(self, cells, image):
            return super().symptoms(cells, image) + image.get("age", torch.zeros(len(cells)))[:, None, None]

    torch.manual_seed(0)
    sizes = dict(vocab_size=23,
                 width=16,
                 feature_width=12,
                 layers=1,
                 encoder_layers=1,
                 heads=2,
                 graph_heads=2,
                 name_width=8,
                 max_tokens=6)
    aged, plain = (kind(KiutConfig(**sizes)).eval() for kind in (Aged, Kiut))
    image = dict(features=torch.randn(2, 4, 12), probabilities=torch.rand(2, 14))
    age = torch.tensor([.5, 90.])
    ids = torch.randint(1, 23, (2, 5))
    logits = lambda model, **more: model(**image, **more, decoder_input_ids=ids).logits
    assert not torch.allclose(logits(aged, age=age), logits(aged))
    seen, symptoms = [], aged.symptoms
    aged.symptoms = lambda cells, known: seen.append(sorted(known)) or symptoms(cells, known)
    for more in ({}, dict(age=age), dict(age=None), dict(saliency=torch.rand(2, 14, 4), age=age)):
        for beams in (1, 3):
            assert len(aged.generate(**image, **more, num_beams=beams)) == 2
            assert seen.pop() == sorted({"probabilities"} | {k for k, v in more.items() if v is not None})
    for name in ("age", "Saliency", "observation", "probs", "heights"): # nobody's, or another model's
        for model in (plain, aged)[:1 if name == "age" else 2]:
            with pytest.raises(ValueError, match=f"{type(model).__name__} has no input {name}; .* saliency"):
                logits(model, **{name: age})
            with pytest.raises(ValueError, match=name): # transformers names it
                model.generate(**image, **{name: age})


def test_the_answer_is_not_among_the_keys():
    # without the mask on W, the last step would see the word that it has to predict: `leaks` finds it
    torch.manual_seed(0)
    model = Kiut(
        KiutConfig(vocab_size=23,
                   width=16,
                   feature_width=12,
                   layers=1,
                   encoder_layers=1,
                   heads=2,
                   graph_heads=2,
                   name_width=8,
                   bert=dict(vocab_size=40,
                             hidden_size=16,
                             num_hidden_layers=1,
                             num_attention_heads=2,
                             intermediate_size=32,
                             max_position_embeddings=64))).eval()
    model.text.pieces[:, 0] = torch.arange(23)
    batch = dict(features=torch.randn(2, 4, 12),
                 probabilities=torch.rand(2, 14),
                 decoder_input_ids=torch.randint(1, 23, (2, 6)))
    assert leaks(model, batch) == []
    attend = model.injection.attend
    model.injection.attend = lambda h, k, v, mask=None, causal=False: attend(h, k, v, None)
    assert leaks(model, batch) == list(range(5))
    with pytest.raises(ValueError, match="u, last, same"):
        KiutConfig(connection="v")
    with pytest.raises(ValueError, match="3 and 2"):
        KiutConfig(encoder_layers=3, layers=2)


def test_every_level_is_used():
    torch.manual_seed(0)
    model = Kiut(
        KiutConfig(vocab_size=23, width=16, feature_width=12, layers=3, heads=2, graph_heads=2,
                   name_width=8)).eval()
    ids = torch.randint(1, 23, (1, 5))
    known = model.know(torch.randn(1, 4, 12), probabilities=torch.rand(1, 14))
    base = model(encoder_outputs=known, decoder_input_ids=ids).logits
    for level in range(3): # U: all of them; and the deepest one also in the last step
        changed = known.levels.clone()
        changed[:, level] += 1
        assert (model(encoder_outputs=Knowledge(known.last_hidden_state, changed, known.symptoms),
                      decoder_input_ids=ids).logits - base).abs().max() > 1e-4
    assert pairing("u", 3) == [2, 1, 0] and pairing("last", 3) == [2, 2, 2] and pairing("same", 3) == [0, 1, 2]
    for connection, first in (("u", 2), ("last", 2),
                              ("same", 0)): # which level does the first decoder layer see, and the last?
        seen, model.config.connection = [], connection
        hooks = [
            layer.register_forward_pre_hook(lambda layer, args: seen.append(args[1])) for layer in model.layers
        ]
        model(encoder_outputs=known, decoder_input_ids=ids)
        [h.remove() for h in hooks]
        assert [next(k for k in range(3) if torch.equal(v, known.levels[:, k]))
                for v in seen] == pairing(connection, 3) and torch.equal(seen[0], known.levels[:, first])


def test_attention_among_cells_knows_where_they_lie():
    torch.manual_seed(0)
    relation = RegionRelation(heads=2) # its gate's weights are drawn small
    with torch.no_grad(): told = relation(3, 4) # three rows of four cells
    assert told.shape == (2, 12, 12) and torch.equal(told, told.transpose(1, 2))
    assert torch.equal(told[:, 0, 5], told[:, 6, 11]) and not torch.equal(told[:, 0, 1], told[:, 0, 4])
    # cells 0 and 6: two columns and one row apart
    numbers = np.array([np.log(2), np.log(1), 0, 0])
    angle = 100 * numbers[:, None] * 1000.**-(np.arange(8) / 8)
    spread = torch.tensor(np.concatenate([np.sin(angle), np.cos(angle)], 1).reshape(-1), dtype=torch.float32)
    by_hand = (1 + relation.gate(spread)).relu().clamp(min=1e-6).log()
    torch.testing.assert_close(told[:, 0, 6], by_hand, atol=1e-4, rtol=1e-4)
    sizes = dict(vocab_size=23, width=16, feature_width=12, layers=2, encoder_layers=2, heads=2, graph_heads=2,
                 name_width=8)
    cells, order = torch.randn(1, 6, 12), torch.tensor([5, 2, 0, 1, 4, 3])
    for grid in (None, (2, 3), [2, 3]):
        torch.manual_seed(0)
        model = Kiut(KiutConfig(**sizes, grid=grid)).eval()
        rest = dict(probabilities=torch.zeros(1, 14), decoder_input_ids=torch.arange(1, 6)[None])
        say = lambda x: model(x, **rest).logits
        assert torch.allclose(say(cells), say(cells[:, order]), atol=1e-5) == (grid is None)
    for cells in (5, 7):
        with pytest.raises(ValueError, match=f"grid of 2 × 3.*{cells} cells"):
            model(torch.randn(1, cells, 12), **rest)
