"""Exported from nbs/12e_sentences.ipynb: edit it there, then run `nbdev-export`."""
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.cache_utils import DynamicCache
from rrg_core.chex.detector import PromptLayer, mlp
from rrg_core.data.study import named, without_text
from rrg_core.nets.attention import Dropout
from rrg_core.nets.decoder import report_batch, report_loss
import pytest, torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2Config
from rrg_core.chex.detector import grid_positions
from rrg_core.nets.decoder import leaks, report_loss
from rrg_core.phantom import render
from rrg_core.reports.tokenizers import decode, train_bpe
from rrg_core.chex.sentences import *


def test_the_gate_opens_with_the_first_step():
    torch.manual_seed(0)
    post = PostDecoder(16, 2, layers=2).train()
    tokens, patches, target = torch.randn(3, 5, 4, 16), torch.randn(3, 9, 16), torch.randn(3, 5, 4, 16)
    optimiser = torch.optim.SGD(post.parameters(), .1)
    for step in range(2):
        optimiser.zero_grad()
        (post(tokens, patches, None, patches.mean(1)) - target).square().mean().backward()
        inside = [p.grad.abs().sum().item() for p in post.layers.parameters()]
        assert all(v == 0 for v in inside) if step == 0 else all(v > 0 for v in inside)
        assert post.gate.grad != 0 and post.norm.weight.grad.abs().sum() > 0
        optimiser.step()


def test_at_rest_nothing_is_drawn():
    torch.manual_seed(0)
    post = PostDecoder(16, 2, layers=1, hide=.5)
    nn.init.ones_(post.gate)
    tokens, patches = torch.randn(2, 3, 4, 16), torch.randn(2, 9, 16)
    where, whole = grid_positions(3, 3, 16), torch.randn(2, 16)
    rest = post.eval()(tokens, patches, where, whole)
    assert torch.equal(post(tokens, patches, where, whole), rest)
    drawn = [post.train()(tokens, patches, where, whole) for _ in range(2)]
    assert not torch.allclose(*drawn) and not torch.allclose(drawn[0], rest)
    shown = torch.stack([post.shown(torch.zeros(10, 20, 4, 1)) for _ in range(20)]).float()
    assert (shown[..., 0] == 1).all() and abs(shown[..., 1:].mean() - .5) < 4 * (.25 / 12000)**.5
    one = tokens[:, :, :1] # a box query has no box tokens to hide
    assert torch.equal(post(one, patches, where, whole), post.eval()(one, patches, where, whole))
    for q in range(3): # prompts are still apart
        torch.testing.assert_close(post(tokens[:, q:q + 1], patches, where, whole), rest[:, q:q + 1])
    for changed in ((patches + torch.randn(2, 9, 16), whole), (patches, torch.randn(2, 16))): # both are read
        assert (post(tokens, changed[0], where, changed[1]) - rest).abs().max() > 1e-4
    for hide in (-.1, 1.1):
        with pytest.raises(ValueError, match="hide is a probability"): PostDecoder(8, 2, hide=hide)


def test_the_papers_prefix_network_is_larger_than_its_language_model():
    with torch.device("meta"): large = SentenceGenerator(512, MEDIUM, hidden=2048)
    count = lambda part: sum(p.numel() for p in part.parameters())
    numbers = 5 * 2 * 24 * 1024
    assert count(large.prefix) == 512 * 2048 + 2048 + 2048 * numbers + numbers == 504_612_864
    d, vocabulary = 1024, 50257
    block = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d)
    assert count(large.lm) == vocabulary * d + 1024 * d + 24 * block + 2 * d == 354_823_168 # one matrix of words
    assert count(large) == count(large.prefix) + count(large.lm)


def test_a_prefix_is_keys_and_values_before_the_words():
    torch.manual_seed(0)
    lm = dict(vocab_size=30, n_positions=16, n_embd=12, n_layer=2, n_head=3, bos_token_id=1, eos_token_id=2,
              pad_token_id=0)
    writer = SentenceGenerator(8, lm, positions=5, hidden=10).eval()
    tokens, ids = torch.randn(2, 3, 8), torch.randint(3, 30, (2, 6))
    numbers = writer.prefix(tokens).view(2, 3 * 5, 2, 2, 12) # (k, places, key or value, layer, width)
    heads = lambda x: x.view(2, -1, 3, 4).transpose(1, 2)
    net = writer.lm.transformer
    x = net.wte(ids) + net.wpe(torch.arange(6)) # from position 0
    for layer, block in enumerate(net.h):
        q, k, v = block.attn.c_attn(block.ln_1(x)).chunk(3, -1)
        k, v = (torch.cat([numbers[:, :, i, layer], own], 1) for i, own in enumerate((k, v)))
        scores = heads(q) @ heads(k).transpose(-1, -2) / 4**.5
        future = torch.ones(6, 6).triu(1).bool()
        scores[..., 15:] = scores[..., 15:].masked_fill(future, float("-inf"))
        x = x + block.attn.c_proj((scores.softmax(-1) @ heads(v)).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.ln_2(x))
    by_hand = net.ln_f(x) @ net.wte.weight.T
    torch.testing.assert_close(writer(tokens, ids), by_hand, atol=1e-5, rtol=1e-4)
    assert writer.read(tokens).get_seq_length() == 15
    with pytest.raises(ValueError, match="at least one position"): SentenceGenerator(8, lm, positions=0)


def test_no_word_sees_the_future_and_padding_is_not_learned():
    torch.manual_seed(0)
    bpe = train_bpe(["One two three four.", "Five."], 270)
    writer = SentenceGenerator(8, small_gpt2(bpe, 16, 2, 2)).eval()
    tokens = torch.randn(2, 1, 8)
    batch = text_ids(bpe, ["One two three four.", "Five."])
    assert leaks(lambda ids: writer(tokens, ids), {"ids": batch["decoder_input_ids"]}, "ids", len(bpe)) == []
    pair = enumerate(("One two three four.", "Five."))
    each = [text_loss(writer, tokens[i:i + 1], text_ids(bpe, [t])) for i, t in pair]
    n = (batch["labels"] != -100).sum(1)
    want = (each[0] * n[0] + each[1] * n[1]) / n.sum()
    torch.testing.assert_close(text_loss(writer, tokens, batch), want) # filling changes nothing
    logits = writer(tokens, batch["decoder_input_ids"])
    filled = batch["labels"].clone()
    filled[filled == -100] = bpe.pad_token_id
    torch.testing.assert_close(text_loss(writer, tokens, batch, learn_padding=True),
                               F.cross_entropy(logits.flatten(0, 1), filled.flatten()))
    assert text_ids(bpe, [""])["labels"].tolist() == [[bpe.eos_token_id]] # nothing to say is said at once
    assert text_ids(bpe, ["One two three four."], longest=3)["labels"].shape == (1, 2) # without its end
    for wrong in (None, 3, ["One"], b"One", {"text": 1}, 1.5):
        with pytest.raises(ValueError, match="text 1 must be a text"): text_ids(bpe, ["Five.", wrong])


def test_the_cache_changes_nothing():
    torch.manual_seed(0)
    lm = dict(vocab_size=40, n_positions=20, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2,
              pad_token_id=0)
    writer = SentenceGenerator(8, lm, positions=3)
    tokens, optimiser = torch.randn(6, 2, 8), torch.optim.Adam(writer.parameters(), 1e-2)
    ends = torch.randint(3, 40, (6, 10))
    for i in range(6): ends[i, 3 + i], ends[i, 4 + i:] = 2, -100 # each is longer than the one before
    inputs = torch.cat([torch.full((6, 1), 1), ends[:, :-1].clamp(min=0)], 1)
    for _ in range(80): # away from the start, where all rows write alike
        optimiser.zero_grad()
        report_loss(writer(tokens, inputs), ends).backward()
        optimiser.step()
    with torch.no_grad():
        ids = torch.full((6, 1), 1)
        for _ in range(19): # the whole sentence at every step
            ids = torch.cat([ids, writer.eval()(tokens, ids)[:, -1:].argmax(-1)], 1)
    written = write(writer.train(), tokens, 20)
    assert writer.training and written.shape[1] <= 20
    for ours, whole in zip(written.tolist(), ids.tolist()):
        end = whole.index(2) + 1 if 2 in whole else len(whole)
        assert ours[:end] == whole[:end][:len(ours)] and set(ours[end:]) <= {0}
    assert len({w.index(2) for w in written.tolist() if 2 in w}) > 3 # at different times, as they learned it
    for i in range(6): # alone, and with others
        alone = write(writer, tokens[i:i + 1], 20)[0].tolist()
        assert written[i, :len(alone)].tolist() == alone
    assert write(writer, tokens, 5).shape[1] <= 5 and write(writer, tokens, 100).shape[1] <= 20
    assert write(writer, tokens[:0]).shape == (0, 1)


def test_eight_vectors_are_learned_by_heart():
    torch.manual_seed(0)
    said = [f"{a} {b}." for a in ("Small", "Large") for b in ("effusion", "opacity", "lesion", "heart")]
    bpe = train_bpe(said, 300)
    writer, vectors = SentenceGenerator(16, small_gpt2(bpe, 32, 2)), torch.randn(8, 1, 16)
    optimiser = torch.optim.Adam(writer.parameters(), 5e-3)
    for _ in range(60):
        loss = text_loss(writer, vectors, text_ids(bpe, said))
        optimiser.zero_grad(), loss.backward(), optimiser.step()
    assert [decode(bpe, ids) for ids in write(writer, vectors).tolist()] == said
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in writer.parameters())


def test_vectors_are_repeated_in_training():
    torch.manual_seed(0)
    bpe = train_bpe(["One two."], 262)
    writer = SentenceGenerator(8, small_gpt2(bpe, 16, 1, 2), positions=2, dropout=.3)
    seen, read = [], writer.read
    writer.read = lambda tokens: seen.append(tokens.detach()) or read(tokens)
    vectors, texts = torch.ones(3, 8), text_ids(bpe, ["One two."] * 3)
    for _ in range(40): repeated_loss(writer.train(), vectors, texts).backward()
    times = [t.shape[1] for t in seen]
    assert set(times) == {1, 2, 3, 4}
    assert {round(v, 3) for v in torch.cat([t.flatten() for t in seen]).unique().tolist()} == {
        0., round(256 / (256 - 77), 3)} # dropout of .3, by the byte
    seen.clear()
    assert torch.equal(repeated_loss(writer.eval(), vectors, texts), text_loss(writer, vectors[:, None], texts))
    assert seen[0].shape == (3, 1, 8) and (seen[0] == 1).all()
    for most in (0, -1):
        with pytest.raises(ValueError, match="at least once"): repeated_loss(writer, vectors, texts, most)
