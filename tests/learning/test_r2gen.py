"""Exported from nbs/07g_r2gen.ipynb: edit it there, then run `nbdev-export`."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from rrg_core.nets.attention import ReportCache
from rrg_core.nets.decoder import DecoderConfig, ReportDecoder
import tempfile, warnings
import pytest, torch
from torch import nn
from rrg_core.nets.encoders import SmallResNetConfig
from rrg_core.nets.decoder import DecoderConfig, ReportDecoder, count_parameters, leaks, report_batch, report_loss
from rrg_core.learning.r2gen import *


def test_memory_step_by_hand():
    torch.manual_seed(0)
    memory, words = RelationalMemory(12, slots=2, heads=3).double(), torch.randn(2, 4, 12).double()
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double() # an independent attention
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([memory.query.weight, memory.key.weight, memory.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([memory.query.bias, memory.key.bias, memory.value.bias]))
        theirs.out_proj.load_state_dict(memory.out.state_dict())
    m, expected = torch.zeros(2, 2, 12).double(), []
    m[:, 0, 0] = m[:, 1, 1] = 1
    for t in range(4):
        y = words[:, t:t + 1]
        both = torch.cat([m, y], 1)
        new = m + theirs(m, both, both)[0]
        new = new + memory.feed_forward(new)
        i, f = (memory.word_gates(y) + memory.slot_gates(torch.tanh(m))).split(12, -1)
        m = torch.sigmoid(i) * torch.tanh(new) + torch.sigmoid(f) * m
        expected.append(m)
    history = memory(words)
    torch.testing.assert_close(history, torch.stack(expected, 1))
    torch.testing.assert_close(memory(words[:, 2:], history[:, 1]),
                               history[:, 2:]) # going on is the same as going through
    assert memory.start(2).shape == (2, 2, 12) and RelationalMemory(2, slots=3, heads=1).start(1).shape == (
        1, 3, 2) # more slots than width: the rest is zero
    with pytest.raises(ValueError, match="memory width 12 .* 5 heads"):
        RelationalMemory(12, heads=5)


def test_the_walk_equals_the_formula():
    def formula(m, words, memory): # R2Gen §3.2, a word at a time
        b, d, h, out = len(words), words.shape[-1], m.heads, []
        heads = lambda x: x.view(b, -1, h, d // h).transpose(1, 2) # (b, h, n, d/h)
        for y in words.split(1, 1):
            both = torch.cat([memory, y], 1)
            q, k, v = heads(m.query(memory)), heads(m.key(both)), heads(m.value(both))
            z = (q @ k.transpose(-1, -2) / (d / h)**.5).softmax(-1) @ v
            new = memory + m.out(z.transpose(1, 2).flatten(2))
            new = new + m.feed_forward(new)
            i, f = (m.word_gates(y) + m.slot_gates(memory.tanh())).sigmoid().chunk(2, -1)
            memory = i * new.tanh() + f*memory
            out.append(memory)
        return torch.stack(out, 1)

    def found(walk, m, words, memory, weight):
        words, memory = (x.detach().clone().requires_grad_() for x in (words, memory))
        m.zero_grad()
        out = walk(words, memory)
        (out * weight).sum().backward()
        return dict(out=out, words=words.grad, memory=memory.grad) | {n: p.grad for n, p in m.named_parameters()}

    cases = [(1, 1, 1, 4, 1), (2, 5, 3, 12, 3), (3, 7, 1, 8, 2), (1, 4, 5, 6, 1), (4, 2, 2, 10, 5),
             (2, 1, 3, 16, 8), (5, 3, 4, 3, 3), (2, 40, 3, 8, 1), (1, 9, 2, 2, 2), (3, 6, 6, 4, 4)]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        for b, t, slots, width, heads in cases:
            torch.manual_seed(width)
            m = RelationalMemory(width, slots, heads).to(dtype)
            words, memory = (torch.randn(b, n, width, dtype=dtype) for n in (t, slots))
            weight = torch.randn(b, t, slots, width, dtype=dtype)
            ours = found(m, m, words, memory, weight)
            theirs = found(lambda *x: formula(m, *x), m, words, memory, weight)
            size = max(x.abs().max() for x in theirs.values()).item()
            for name in theirs:
                torch.testing.assert_close(ours[name],
                                           theirs[name],
                                           rtol=0,
                                           atol=tolerance * max(size, 1),
                                           msg=lambda text: f"{name} {b, t, slots, width, heads}: {text}")


def test_slots_that_start_equal_stay_equal():
    torch.manual_seed(0)
    memory, words = RelationalMemory(8, heads=2).double(), torch.randn(1, 6, 8).double()
    same = memory(words, torch.zeros(1, 3, 8).double())
    torch.testing.assert_close(same[:, :, 0], same[:, :, 1])
    torch.testing.assert_close(same[:, :, 0], same[:, :, 2])
    assert (memory(words)[:, -1, 0] - memory(words)[:, -1, 1]).abs().max() > 1e-3


def test_shifts_against_single_nets():
    torch.manual_seed(0)
    shifts, memories = MemoryShifts(6, 5, 4, 7).double(), torch.randn(2, 3, 2, 3).double()
    nn.init.normal_(shifts.first_bias)
    nn.init.normal_(shifts.second_bias)
    out = shifts(memories)
    assert len(out) == 4
    for i, (scale, offset) in enumerate(out):
        for j, value in ((2 * i, scale), (2*i + 1, offset)):
            hidden = torch.relu(memories.reshape(2, 3, 6) @ shifts.first[j] + shifts.first_bias[j])
            torch.testing.assert_close(value, hidden @ shifts.second[j] + shifts.second_bias[j])


def test_r2gen_parameters_by_hand():
    d, v = 512, 761
    a, f, norm = 4 * (d*d + d), 2 * (d*d + d), 2 * d
    encoder = 3 * (a + f + 2*norm) + norm
    decoder = 3 * (2*a + f + 3*norm) + norm
    gates = 2 * (d*2*d + 2*d)
    nets = 18 * (3*d*d + d + d*d + d)
    plain = 2048*d + d + encoder + decoder + v*d + d*v + v
    assert (encoder, decoder, a + f + gates, nets) == (4_734_976, 7_889_920, 2_626_560, 18_892_800)
    resnet = dict(model_type="rrg_resnet") # 42,500,160: derived in 06b_encoders
    assert count_parameters(R2Gen, R2GenConfig(vocab_size=v)) == plain + a + f + gates + nets
    assert count_parameters(R2Gen, R2GenConfig(
        vocab_size=v, image_encoder=resnet)) == 42_500_160 + plain + a + f + gates + nets == 78_473_529
    assert count_parameters(R2Gen, R2GenConfig(vocab_size=v, memory=False)) == plain
    one_more = count_parameters(R2Gen, R2GenConfig(vocab_size=v, slots=4)) - count_parameters(
        R2Gen, R2GenConfig(vocab_size=v))
    assert one_more == 18 * d * d # a slot costs 4.7 million, all of it in the nets


def test_without_memory_it_is_the_plain_decoder():
    torch.manual_seed(0)
    sizes = dict(vocab_size=20,
                 width=16,
                 heads=2,
                 feed_forward=32,
                 feature_width=6,
                 encoder_layers=2,
                 bos_token_id=0,
                 eos_token_id=0,
                 attention_dropout=0.,
                 max_tokens=15)
    plain, base = ReportDecoder(DecoderConfig(**sizes)).double().eval(), R2Gen(
        R2GenConfig(**sizes, memory=False)).double().eval()
    full = R2Gen(R2GenConfig(**sizes)).double().eval()
    base.load_state_dict(plain.state_dict()) # the same parameters, not one more
    left, more = full.load_state_dict(plain.state_dict(), strict=False)
    assert not more and {name.split(".")[0] for name in left} == {"memory", "memory_shifts"}
    features, ids = torch.randn(3, 5, 6).double(), torch.randint(1, 20, (3, 7))
    expected = plain(features, decoder_input_ids=ids).logits
    assert torch.equal(base(features, decoder_input_ids=ids).logits, expected) and torch.equal(
        base.generate(features), plain.generate(features))
    assert not torch.allclose(full(features, decoder_input_ids=ids).logits, expected)
    for p in full.memory_shifts.parameters():
        nn.init.zeros_(p) # a memory that moves nothing
    torch.testing.assert_close(full(features, decoder_input_ids=ids).logits, expected)


def test_gradients_and_the_future():
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig.course(48, vocab_size=20, feature_width=6))
    batch = dict(features=torch.randn(4, 9, 6)) | report_batch([[0, *torch.randint(1, 20, (n, )).tolist(), 0]
                                                                for n in (8, 5, 3, 1)])
    out = model(**batch)
    out.loss.backward()
    assert out.logits.shape == (4, 9, 20) and all(p.grad is not None and p.grad.isfinite().all()
                                                  for p in model.parameters())
    for part in (model.memory, model.memory_shifts, model.memory_projection, model.context):
        assert all(
            p.grad.abs().sum() > 0 for n, p in part.named_parameters()
            if n != "key.bias" and not n.endswith("attention.key.bias")) # a key's bias moves all scores alike
    reads = {k: v for k, v in batch.items() if k != "labels"}
    assert leaks(model, reads) == []
    states = model.memory(torch.randn(1, 6, 16)) # but earlier words do reach later ones through the memory
    first, later = torch.randn(1, 6, 16), None
    changed = first.clone()
    changed[:, 0] += 1
    assert ((model.memory(first) - model.memory(changed)).abs().amax((0, 2, 3)) > 1e-6).all()


def test_cached_equals_uncached_with_memory():
    for seed in range(4):
        torch.manual_seed(seed)
        model = R2Gen(R2GenConfig.course(48, vocab_size=13, feature_width=6, memory=seed < 3)).double().eval()
        with torch.no_grad():
            model.head.weight.mul_(4)
        features = torch.randn(5, 7, 6).double() * 3
        for beams in (1, 3):
            cached, uncached = (model.generate(features, num_beams=beams, max_length=24, use_cache=c)
                                for c in (True, False))
            assert torch.equal(cached, uncached) and len({tuple(r) for r in cached.tolist()}) > 1
            one = model.generate(features[1:2], num_beams=beams, max_length=24)[0] # a batch of one
            assert torch.equal(F.pad(one, (0, cached.shape[1] - len(one))), cached[1])


def test_a_memory_left_behind_is_noticed():
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig.course(48, vocab_size=13, feature_width=6)).double().eval()
    with torch.no_grad():
        model.head.weight.mul_(4)
    features, right = torch.randn(8, 7, 6).double() * 3, None
    right = model.generate(features, num_beams=3, max_length=24)

    class Forgetful(ReportCache):
        def reorder_cache(self, beam_idx):
            self.self_attention_cache.reorder_cache(beam_idx) # the keys move, the memory stays

    assert not torch.equal(model.generate(features, num_beams=3, max_length=24, past_key_values=Forgetful()),
                           right)


def test_eight_reports_by_heart():
    for memory in (True, False):
        torch.manual_seed(0)
        image = dict(image_encoder=SmallResNetConfig(widths=(8, 16), blocks=1).to_dict(),
                     feature_width=16) if memory else dict(feature_width=8) # end to end, or on cached features
        model = R2Gen(
            R2GenConfig.course(48, vocab_size=30, memory=memory, dropout=0., feature_dropout=0., **image))
        seen = dict(pixels=torch.randint(256, (8, 1, 12, 12), dtype=torch.uint8)) if memory else dict(
            features=torch.randn(8, 9, 8))
        reports = [[0, *torch.randint(1, 30, (n, )).tolist(), 0] for n in (8, 4, 7, 1, 5, 9, 3, 6)]
        batch, optimiser = report_batch(reports), torch.optim.AdamW(model.parameters(), 4e-3)
        for _ in range(60):
            loss = model(**seen, **batch).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert loss < .02
        for options in (dict(num_beams=1), dict(num_beams=3), dict(num_beams=3, use_cache=False)):
            written = model.generate(**seen, **options).tolist()
            assert [row[:len(r)] for row, r in zip(written, reports)] == reports
            assert not any(any(row[len(r):]) for row, r in zip(written, reports)) # nothing behind the end


def test_saved_in_half_precision():
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig.course(48, vocab_size=20, feature_width=6)).eval()
    features, ids = torch.randn(2, 4, 6), torch.tensor([[0, 4, 5], [0, 6, 7]])
    with tempfile.TemporaryDirectory() as d, warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = model(features, decoder_input_ids=ids).logits
        model.save_pretrained(d)
        same = R2Gen.from_pretrained(d, trust_remote_code=False, local_files_only=True).eval()
        assert all(torch.equal(value, same.state_dict()[name]) for name, value in model.state_dict().items())
        torch.testing.assert_close(same(features, decoder_input_ids=ids).logits, expected)
        model.half().save_pretrained(d)
        back = R2Gen.from_pretrained(
            d, dtype=torch.float32, trust_remote_code=False, local_files_only=True).eval()
        assert {p.dtype
                for p in back.parameters()
                } == {torch.float32} and back.config.memory_width == 16 and back.generation_config.num_beams == 3
        torch.testing.assert_close(back(features, decoder_input_ids=ids).logits, expected, atol=.02, rtol=.02)


def test_bf16_on_the_processor():
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig.course(48, vocab_size=20, feature_width=6))
    batch = dict(features=torch.randn(2, 4, 6)) | report_batch([[0, 4, 5, 0], [0, 6, 0]])
    exact = model.eval()(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**batch)
    torch.testing.assert_close(out.loss, exact.loss, atol=.02, rtol=.01) # eight bits of mantissa
    out.loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    model.to(torch.bfloat16)
    for beams in (1, 3):
        assert model.generate(batch["features"], num_beams=beams, max_length=8).shape[0] == 2


def test_bf16_on_a_gpu():
    if not torch.cuda.is_available(): pytest.skip("no GPU")
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig.course(48, vocab_size=20, feature_width=6)).cuda()
    batch = {
        k: v.cuda()
        for k, v in (dict(features=torch.randn(2, 4, 6)) | report_batch([[0, 4, 5, 0], [0, 6, 0]])).items()
    }
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())
    written = model.to(torch.bfloat16).generate(batch["features"].bfloat16(), max_length=8)
    assert written.shape[0] == 2 and written.is_cuda


def test_the_two_normalisations():
    def home_made(x, eps=1e-6):
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps)

    x = torch.randn(5, 192, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(home_made(x, 0.), F.layer_norm(x, (192, ), eps=0.) * (191 / 192)**.5)
    tiny = torch.tensor([-1e-6, 0., 1e-6]).double() # unbiased deviation: 1e-6
    torch.testing.assert_close(home_made(tiny)[2].item(), .5)
    assert abs(F.layer_norm(tiny, (3, ))[2].item() - 1e-6 / 1e-5**.5) < 1e-8 # ε decides


def test_words_and_positions():
    torch.manual_seed(0)
    model = R2Gen(R2GenConfig(vocab_size=761, feature_width=4, memory=False, layers=1, encoder_layers=0)).eval()
    words = model.words.weight * 512**.5
    assert abs(words.square().mean().sqrt().item() -
               (2 * 512 / (761+512))**.5) < .01 # 390,000 draws: the standard error is below .001
    place = model.embed(torch.zeros(1, 50, dtype=torch.long)) - words[0]
    assert abs(place.square().mean().item() - .5) < 1e-5 # sine and cosine of each angle
