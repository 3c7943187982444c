"""Exported from nbs/15a_contrast.ipynb: edit it there, then run `nbdev-export`."""
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image as Picture
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as pictures
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from rrg_core.data.study import named
from rrg_core.data.weights import plain_folder
from rrg_core.engine.settings import CourseError, Profile
from rrg_core.learning.pretraining import Towers, encode
from rrg_core.learning.published import found_for, load_encoder
from rrg_core.learning.standins import RANDOM, Found
from rrg_core.metrics.retrieval import precision_at_k, recall_at_k
from rrg_core.nets.attention import CourseConfig
from rrg_core.nets.encoders import ENCODERS, ImageEncoder, ImageFeatures, SmallPyramid, SmallPyramidConfig, fill, scaled
import pytest, subprocess, sys, tempfile
from textwrap import dedent
from rrg_core.engine.settings import profile
from rrg_core.learning.published import load_bert
from rrg_core.learning.standins import load_standin
from rrg_core.phantom import render
from rrg_core.nets.recipes import make_recipe, rate_factor
from rrg_core.nets.training import overfit, fit
from rrg_core.llava_rad.contrast import *


def test_the_square_is_cut_from_the_middle_and_boxes_follow():
    image = np.zeros((100, 150), np.uint8)
    image[40:60, 70:80] = 255
    small = square(image, 50)
    assert small.shape == (50, 50) and small.dtype == np.uint8
    box = in_square([[70, 40, 80, 60]], (100, 150), 50)[0]
    assert np.abs(box - [22.5, 20, 27.5, 30]).max() <= .5 # 75 wide, 12.5 cut away; a pixel is whole
    rows, columns = np.nonzero(small > 127)
    assert (rows.min(), rows.max() + 1) == (20, 30) and abs(columns.min() - box[0]) <= 1
    assert np.abs(square(image.T, 50).astype(int) - small.T).max() <= 4 # rounded between the two directions
    assert in_square([[0, 0, 10, 10]], (100, 150), 50)[0].tolist() == [0, 0, 0, 5] # cut away: no area is left
    assert (square(np.full((64, 64), 9, np.uint8), 64) == 9).all()


def test_the_last_block_but_one_is_read_without_the_norm():
    torch.manual_seed(0)
    eye = build_eye(DinoConfig(width=16, layers=3, heads=2, image_size=28)).eval()
    for layer in eye.net.encoder.layer: # a fresh layer scale of 1 on small weights: make blocks differ
        layer.attention.o_proj.weight.data.normal_()
    x = torch.randint(0, 255, (2, 1, 28, 42)).float()
    out = eye(x)
    assert out.patches.shape == (2, 6, 16) and out.pooled.shape == (2, 16) # other sizes interpolate
    states = [eye.net.embeddings(scaled(x, "clip"))]
    for layer in eye.net.encoder.layer: states.append(layer(states[-1]))
    torch.testing.assert_close(out.patches, states[2][:, 1:]) # after block 2 of 3
    torch.testing.assert_close(out.pooled, eye.net.layernorm(states[3])[:, 0])
    assert (out.patches - states[3][:, 1:]).abs().max() > 1e-2
    with torch.device("meta"): large = Dino(DinoConfig())
    # 14·14·3·768 + 768, 1 + 1370 positions of 768, 12 blocks of 12·768² + 15·768 with two layer scales, a norm
    blocks = 12 * (12 * 768**2 + 13 * 768 + 2 * 768)
    assert large.num_parameters() == 588 * 768 + 768 + 768 + 1370 * 768 + blocks + 2 * 768
    assert large(torch.zeros(1, 1, 518, 518, device="meta")).patches.shape == (1, 37 * 37, 768)
    with pytest.raises(ValueError, match="states"): DinoConfig(layer=-14)
    with pytest.raises(ValueError, match="no multiple of 14"): eye(torch.zeros(1, 1, 30, 28))


def test_finer_cells_pool_to_coarser_ones():
    torch.manual_seed(0)
    sizes = dict(widths=(8, 8, 16, 16, 16), neck=8)
    eyes = {k: build_eye(CellsConfig(**sizes, cells=k)).eval() for k in (1, 2, 4)}
    for k in (2, 4): eyes[k].load_state_dict(eyes[1].state_dict())
    x = torch.randint(0, 255, (2, 1, 64, 96)).float()
    grids = {k: e(x).patches.transpose(1, 2).unflatten(-1, e.grid(64, 96)) for k, e in eyes.items()}
    assert [tuple(g.shape) for g in grids.values()] == [(2, 16, 2, 3), (2, 16, 4, 6), (2, 16, 8, 12)]
    torch.testing.assert_close(F.avg_pool2d(grids[4][:, :8], 4), grids[1][:, :8])
    torch.testing.assert_close(F.max_pool2d(grids[4][:, 8:], 4), grids[1][:, 8:])
    plain = SmallPyramid(SmallPyramidConfig(**sizes, labels=0)).eval()
    plain.load_state_dict(eyes[1].state_dict())
    torch.testing.assert_close(plain(x).patches, eyes[1](x).patches) # 1: the stand-in's own
    with pytest.raises(ValueError, match="multiple of 32"): eyes[4](torch.zeros(1, 1, 48, 64))
    with pytest.raises(ValueError, match="cells must be"): CellsConfig(cells=3)
    with pytest.raises(ValueError, match="rrg_cells, rrg_dino"): build_eye({"model_type": "rrg_nothing"})


def test_contrastive_loss_bounds():
    matched, same = torch.eye(4), torch.ones(4, 4) / 2
    assert contrastive_loss(matched, matched)[0] < 1e-4
    torch.testing.assert_close(contrastive_loss(same, same)[0], torch.tensor(4.).log())
    torch.manual_seed(0)
    x, y = (F.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    p = (14 * x @ y.T).numpy()
    rows, columns = (np.exp(p) / np.exp(p).sum(a, keepdims=True) for a in (1, 0))
    want = -(np.log(np.diag(rows)).mean() + np.log(np.diag(columns)).mean()) / 2
    assert contrastive_loss(x, y)[0].item() == pytest.approx(want, rel=1e-5)
    turn = torch.randperm(5)
    torch.testing.assert_close(contrastive_loss(x[turn], y[turn])[0], contrastive_loss(x, y)[0])
    torch.testing.assert_close(contrastive_loss(y, x)[0], contrastive_loss(x, y)[0])
    assert contrastive_loss(x, y[turn])[0] > 0 and contrastive_loss(x.half(), y.half())[0].dtype == torch.float32


def test_two_processes_have_one_batch():
    import inspect
    import rrg_core.llava_rad.contrast as page

    head = """
    import sys, torch, torch.distributed as dist, torch.nn.functional as F
    from torch import Tensor
    """
    ours = "\n".join(inspect.getsource(x) for x in (page._Gathered, page.gathered, page.contrastive_loss))
    tail = """
    def step(rank):
        torch.manual_seed(0)
        image, text, log = torch.randn(7, 5), torch.randn(7, 5), torch.tensor(1.2, requires_grad=True)
        maps = [torch.randn(5, 3, requires_grad=True) for _ in range(2)]
        mine = slice(None) if rank is None else slice(0, 4) if rank == 0 else slice(4, 7)
        x, y = (gathered(F.normalize(v[mine] @ m, dim=-1)) for v, m in zip((image, text), maps))
        loss = contrastive_loss(x, y, log.exp())[0]
        loss.backward()
        grads = [p.grad for p in (*maps, log)]
        if rank is not None:
            for g in grads:
                dist.all_reduce(g) # as DistributedDataParallel: the mean over processes
                g /= 2
        return loss.detach(), *grads
    def joined(rank, folder):
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
        try: return step(rank)
        finally: dist.destroy_process_group()
    """
    space, program = {}, dedent(head) + ours + dedent(tail) # the other process does not import the course
    exec(program, space)
    whole = space["step"](None)
    with tempfile.TemporaryDirectory() as d:
        Path(d, "program.py").write_text(program + "joined(1, sys.argv[1])\n")
        other = subprocess.Popen([sys.executable, "program.py", d], cwd=d, stderr=subprocess.PIPE, text=True)
        try:
            parts = space["joined"](0, d)
            assert not other.wait(120), other.stderr.read()[-2000:]
        finally:
            other.kill()
            other.stderr.close()
    for a, b in zip(parts, whole): torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert len(parts) == 4 and whole[3].abs() > 1e-3


def test_the_papers_towers_have_the_checkpoints_size():
    with torch.device("meta"): paper = ImageText(ImageTextConfig.paper())
    n = paper.num_parameters()
    assert abs(12 * n / 2_363_054_683 - 1) < .002 # weights and two moments of Adam in float32
    assert paper.encode_image(torch.zeros(2, 1, 518, 518, device="meta")).shape == (2, 512)
    small = ImageText(ImageTextConfig(image=CellsConfig(widths=(8, 8, 16), neck=8).to_dict())).eval()
    assert small.log_scale.exp().item() == pytest.approx(1 / .07)
    small.log_scale.data.fill_(9.) # exp(9) = 8,103: clamped
    ids, mask = torch.randint(0, 1000, (3, 7)), torch.ones(3, 7, dtype=torch.long)
    x = torch.randint(0, 255, (3, 1, 32, 32)).float()
    assert small(x, ids, mask).logits.abs().max() <= 100.01
    longer = F.pad(ids, (0, 2)), F.pad(mask, (0, 2)) # padding is not read
    torch.testing.assert_close(small.encode_text(*longer), small.encode_text(ids, mask))
    with tempfile.TemporaryDirectory() as d:
        small.save_pretrained(d)
        again = ImageText.from_pretrained(d, trust_remote_code=False, local_files_only=True).eval()
    torch.testing.assert_close(again(x, ids, mask).logits, small(x, ids, mask).logits)


def test_towers_begin_as_what_was_trained_before():
    p = profile("phantom")
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 1, 64, 64)).astype("f4"))
    resnet = load_standin("standin-shapes-resnet", p)[0]
    towers = load_standin("standin-phantom-towers", p)[0]
    torch.testing.assert_close(load_eye("standin-phantom-towers", p, 1)(x).patches, towers.image(x).patches)
    eye = load_eye("standin-shapes-resnet", p, 1)
    cells = resnet(x).patches # the classifier's cells end in its labels' places
    torch.testing.assert_close(eye(x).patches, cells[..., :eye.config.width])
    bert, tokenizer = load_bert("standin-phantom-bert", p)
    model = begin(eye, bert).eval()
    batch = encode(tokenizer, ["The heart is normal.", "No effusion."], model.config.longest)
    torch.testing.assert_close(model.text.bert(**batch).last_hidden_state, bert(**batch).last_hidden_state)
    torch.testing.assert_close(model.image(x).patches, eye(x).patches)
    assert model.config.longest == bert.config.max_position_embeddings == 128
    with pytest.raises(CourseError, match="only pyramids"): load_eye("standin-phantom-densenet", p)
    with tempfile.TemporaryDirectory() as d:
        torch.manual_seed(0)
        net = Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=14,
                                       image_size=28)).eval()
        net.save_pretrained(d)
        dino = load_dino(d)
    y = x[:, :, :28, :28]
    torch.testing.assert_close(dino(y).pooled, net(scaled(y, "clip")).last_hidden_state[:, 0])


def test_the_released_layout_is_read():
    torch.manual_seed(0)
    image = DinoConfig(width=16, layers=2, heads=2, image_size=28)
    config = ImageTextConfig(image=image.to_dict(), joint=8, longest=16, text=dict(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16))
    draw = lambda *shape: torch.randn(*shape) * .3
    blocks = {f"visual.trunk.blocks.{i}.{n}": draw(*s) for i in range(2) for n, s in {
        "norm1.weight": (16,), "norm1.bias": (16,), "attn.qkv.weight": (48, 16), "attn.qkv.bias": (48,),
        "attn.proj.weight": (16, 16), "attn.proj.bias": (16,), "ls1.gamma": (16,), "norm2.weight": (16,),
        "norm2.bias": (16,), "mlp.fc1.weight": (64, 16), "mlp.fc1.bias": (64,), "mlp.fc2.weight": (16, 64),
        "mlp.fc2.bias": (16,), "ls2.gamma": (16,)}.items()}
    bert = {f"text.transformer.{k}": v for k, v in BertModel(BertConfig(**config.text)).state_dict().items()}
    outside = {"visual.trunk.cls_token": draw(1, 1, 16), "visual.trunk.pos_embed": draw(1, 5, 16),
               "visual.trunk.patch_embed.proj.weight": draw(16, 3, 14, 14), "logit_scale": torch.tensor(3.),
               "visual.trunk.patch_embed.proj.bias": draw(16), "visual.trunk.norm.weight": draw(16),
               "visual.trunk.norm.bias": draw(16), "visual.head.proj.weight": draw(8, 16),
               "text.proj.0.weight": draw(12, 16), "text.proj.2.weight": draw(8, 12)}
    state = blocks | bert | outside
    with tempfile.TemporaryDirectory() as d:
        file = Path(d, "biomedclipcxr_518_checkpoint.pt")
        kept = {"epoch": 3, "name": "x", "state_dict": {f"module.{k}": v for k, v in state.items()},
                "optimizer": {"state": {0: {"exp_avg": draw(3)}}}}
        torch.save(kept, file)
        found = Found("biomedclip-cxr", Path(d), (file,))
        model = load_image_text(found, config)
        del kept["state_dict"]["module.visual.trunk.blocks.1.ls2.gamma"]
        torch.save(kept, file)
        with pytest.raises(ValueError, match="layer_scale2.lambda1 is missing"): load_image_text(found, config)
    x = torch.randint(0, 255, (2, 1, 28, 28)).float()
    h = F.conv2d(scaled(x, "clip"), state["visual.trunk.patch_embed.proj.weight"],
                 state["visual.trunk.patch_embed.proj.bias"], 14).flatten(2).transpose(1, 2)
    h = torch.cat([state["visual.trunk.cls_token"].expand(2, -1, -1), h], 1) + state["visual.trunk.pos_embed"]
    norm = lambda h, n: F.layer_norm(h, (16,), state[f"{n}.weight"], state[f"{n}.bias"], 1e-6)
    line = lambda h, n: F.linear(h, state[f"{n}.weight"], state[f"{n}.bias"])
    for i in range(2): # timm's block, written out
        if i == 1: before = h
        n = f"visual.trunk.blocks.{i}"
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in line(norm(h, f"{n}.norm1"),
                                                                         f"{n}.attn.qkv").chunk(3, -1))
        a = ((q @ k.transpose(-1, -2) / 8**.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        h = h + state[f"{n}.ls1.gamma"] * line(a, f"{n}.attn.proj")
        m = line(F.gelu(line(norm(h, f"{n}.norm2"), f"{n}.mlp.fc1")), f"{n}.mlp.fc2")
        h = h + state[f"{n}.ls2.gamma"] * m
    one = F.normalize(norm(h, "visual.trunk.norm")[:, 0] @ state["visual.head.proj.weight"].T, dim=-1)
    torch.testing.assert_close(model.encode_image(x), one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.image(x).patches, before[:, 1:], rtol=1e-4, atol=1e-5)


def test_the_recipe_can_be_run():
    r = make_recipe({k: v for k, (v, _) in STAGE1.items()})
    total = 32 * 697_435 // 4096
    assert rate_factor(r, 1999, total) == 1 and rate_factor(r, 999, total) == .5
    assert rate_factor(r, total - 1, total) < 1e-6 # half a cosine down to nothing
    images = np.random.default_rng(0).integers(0, 255, (6, 1, 32, 32)).astype("u1")
    data = Pairs(images, [f"film {i}" for i in range(6)], crop=(.9, 1.))
    torch.manual_seed(0)
    first, second = data[0]["pixels"], data[0]["pixels"]
    assert first.shape == (1, 32, 32) and first.dtype == torch.uint8 and not torch.equal(first, second)
    assert torch.equal(Pairs(images, data.texts)[3]["pixels"], torch.from_numpy(images[3]))
    _, tokenizer = load_standin("standin-phantom-bert", "phantom")
    batch = paired(tokenizer, 3)([data[i] for i in range(3)])
    assert batch["pixels"].shape == (3, 1, 32, 32) and batch["input_ids"].shape == (3, 3)
    with pytest.raises(ValueError, match="6 images, but 5"): Pairs(images, data.texts[:5])
    with pytest.raises(ValueError, match="text 1 has no words"): Pairs(images[:2], ["a", " "])


def test_retrieval_counts_equal_texts_as_one():
    texts = ["a", "b", "a", "c"]
    perfect = np.array([[1., 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
    t = retrieval(perfect, texts, ["x", "y", "x", "y"], ks=(1, 2)).set_index(["direction", "K"])
    assert (t["recall, same words"] == 1).all()
    assert t["recall, own"].tolist() == [.5, 1, .5, 1] # the twin is as near
    assert t.loc[("image → text", 1), "precision"] == 1
    assert t.loc[("image → text", 2), "precision"] == .75 # x, x: 2 of 2; y: itself, and at worst an x among ties
    assert t["chance of own"].tolist() == [.25, .5] * 2
    assert "precision" not in retrieval(perfect, texts, ks=(1,))
    lost = retrieval(np.ones((4, 4)), texts, ks=(1,))
    assert (lost["recall, own"] == 0).all() # knows nothing: ties count against


def test_eight_pairs_are_learned_by_heart():
    torch.manual_seed(0)
    _, tokenizer = load_standin("standin-phantom-bert", "phantom")
    image = CellsConfig(widths=(8, 16, 32), neck=8, cells=1).to_dict()
    text = dict(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=64, max_position_embeddings=8, hidden_dropout_prob=0.,
                attention_probs_dropout_prob=0.)
    config = ImageTextConfig(image=image, text=text, joint=16, longest=8)
    model, rng = ImageText(config), np.random.default_rng(0)
    texts = ["Edema.", "No edema.", "Effusion.", "No effusion.", "Heart enlarged.", "Heart normal.", "Fracture.",
             "Lungs clear."]
    coarse = rng.integers(0, 255, (8, 1, 4, 4)).astype("u1") # squares of 8 pixels: eight films that differ
    data = Pairs(coarse.repeat(8, 2).repeat(8, 3), texts)
    history = overfit(model, data, paired(tokenizer, 8), steps=80, rate=5e-3)
    assert history.evaluations[-1]["loss"] < .1 < history.steps[0]["loss"]
    found = retrieval(similarity(model.eval(), data, tokenizer), texts, ks=(1,))
    assert (found["recall, own"] == 1).all()
