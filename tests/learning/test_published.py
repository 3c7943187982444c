"""Exported from nbs/07e_published.ipynb: edit it there, then run `nbdev-export`."""
from pathlib import Path
from rrg_core.data.study import named
from rrg_core.engine.code import weights_hash
from rrg_core.engine.settings import CourseError, Profile, data_root
from rrg_core.learning.standins import RANDOM, WEIGHTS, Found, load_standin, weights
import shutil, tempfile
import pytest, torch, torchxrayvision as xrv
from safetensors.torch import save_file
from rrg_core.engine.settings import CourseError
from rrg_core.learning.standins import load_standin, train_standin
from rrg_core.learning.published import *


def test_weights_are_named_by_what_they_are():
    from rrg_core.engine.settings import profile
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        d, p = Path(d), profile("smoke")
        m.setenv("RRG_FIGURES", str(d / "figures"))
        m.setenv("RRG_ROOT_WEIGHTS", str(d / "w"))
        quiet = lambda line: None
        assert chosen("bert-base-uncased") == "standin-shapes-bert" and standins_among(
            "standin-shapes-bert", "a@1") == ["standin-shapes-bert"]
        with pytest.raises(ValueError, match="no published weights are called 'bert'"):
            chosen("bert")
        for name in ("standin-shapes-bert", "standin-phantom-densenet"):
            train_standin(name, p, say=quiet)
        own, tokenizer = load_bert("standin-shapes-bert", p)
        assert type(own).__name__ == "BertModel" and start_token(tokenizer) == tokenizer.bos_token_id
        shutil.copytree(d / "figures" / "learning" / "standins" / "standin-shapes-bert",
                        d / "w" / "bert-base-uncased")
        choice = chosen("bert-base-uncased")
        assert choice.startswith("bert-base-uncased@") and standins_among(choice) == []
        given, _ = load_bert(choice, p)
        torch.testing.assert_close(given.state_dict(), {k: v.float() for k, v in own.state_dict().items()})
        (d / "w" / "bert-base-uncased" /
         "config.json").write_text((d / "w" / "bert-base-uncased" / "config.json").read_text() + "\n")
        with pytest.raises(CourseError, match="begin again with what is there"):
            load_bert(choice, p)
        assert chosen("bert-base-uncased") != choice
        (d / "w" / (name := "xrv-densenet121-res224-nih")).mkdir()
        torch.manual_seed(0)
        real = xrv.models.DenseNet(num_classes=18) # as large as the released one
        save_file(real.state_dict() | {"op_threshs": torch.full((18, ), .5)},
                  d / "w" / name / f"{name.removeprefix('xrv-')}.safetensors")
        net = load_classifier(chosen(name), p)
        x = torch.rand(1, 1, 64, 64) * 255
        s = (x/255*2 - 1) * 1024
        torch.testing.assert_close(net(x).logits, real.eval().classifier(real.features2(s)), rtol=1e-4, atol=1e-4)
        assert net.config.targets[0] == "Atelectasis" and not net.training
        small = load_classifier(chosen("xrv-densenet121-res224-all"), p)
        assert small.config.growth < net.config.growth # nobody gave that one: the stand-in


def test_an_encoder_is_a_standin_or_torchvision_s_or_nobody_s():
    from dataclasses import replace
    from torchvision.models import resnet50
    from rrg_core.engine.settings import profile
    from rrg_core.learning.standins import WEIGHTS
    with tempfile.TemporaryDirectory() as d, pytest.MonkeyPatch.context() as m:
        d, p = Path(d), profile("smoke")
        m.setenv("RRG_FIGURES", str(d / "figures"))
        m.setenv("RRG_ROOT_WEIGHTS", str(d / "w"))
        train_standin("standin-phantom-resnet", p, say=lambda line: None)
        own, nobody = load_encoder("standin-phantom-resnet", p), load_encoder("random", p)
        assert own.config.to_dict() == nobody.config.to_dict()
        assert not torch.equal(own.head.weight, nobody.head.weight)
        entry = WEIGHTS["imagenet-resnet50"] # its checksum is the real file's
        m.setitem(WEIGHTS, entry.name, replace(entry, sha256={}))
        (d / "w" / entry.name).mkdir(parents=True)
        torch.manual_seed(0)
        published = resnet50(weights=None)
        torch.save(published.state_dict(), d / "w" / entry.name / entry.files[0])
        net = load_encoder(chosen(entry.name), p)
        assert not net.training and torch.equal(net.net.conv1.weight, published.conv1.weight)
        assert net(torch.zeros(1, 1, 64, 64)).patches.shape == (1, 4, 2048)
