"""Exported from nbs/04c_chexbert.ipynb: edit it there, then run `nbdev-export`."""
import os
from pathlib import Path
import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel
from rrg_core.data.weights import plain_folder, read_weights
from rrg_core.engine.settings import CourseError, data_root
from rrg_core.data.study import OBSERVATIONS, named_file
import tempfile, pytest
from safetensors.torch import save_file
from rrg_core.labels.chexbert import *


def test_parameter_count_of_the_published_size():
    with torch.device("meta"):
        model = CheXbertModel(BertConfig())
    heads = (13*4 + 2) * (768+1)
    layer = 4 * (768*768 + 768) + 2*768*3072 + 3072 + 768 + 4*768 # attention, feed-forward, two norms
    embeddings = (30522+512+2) * 768 + 2*768
    assert sum(p.numel() for p in model.parameters()) == embeddings + 12*layer + heads


def test_published_layout_gives_the_known_labels():
    classes = [0, 1, 2, 3] * 3 + [3, 1]
    expected = [{0: np.nan, 1: 1., 2: 0., 3: -1.}[c] for c in classes]
    with tempfile.TemporaryDirectory() as d:
        path = write_tiny_chexbert(d, classes)
        labeler = CheXbert(path, batch_size=2)
        labels = labeler(["No effusion.", "", "the heart is normal . " * 400])
        np.testing.assert_array_equal(labels, [expected] * 3)
        assert labeler([]).shape == (0, 14) and labeler.embed([]).shape == (0, 8)
        save_file(
            {
                k.removeprefix("module."): v.contiguous()
                for k, v in torch.load(path, weights_only=True)["model_state_dict"].items()
            }, f"{d}/x.safetensors")
        again = CheXbert(f"{d}/x.safetensors")
        np.testing.assert_array_equal(again.embed(["no effusion"]), labeler.embed(["no effusion"]))


def test_embedding_is_the_first_vector_of_the_last_layer():
    with tempfile.TemporaryDirectory() as d:
        path = write_tiny_chexbert(d, [0] * 14)
        labeler = CheXbert(path)
        state = torch.load(path, weights_only=True)["model_state_dict"]
        bert = BertModel(
            BertConfig.from_pretrained(f"{d}/bert-base-uncased", trust_remote_code=False,
                                       local_files_only=True)).eval()
        bert.load_state_dict(
            {k.removeprefix("module.bert."): v
             for k, v in state.items() if k.startswith("module.bert.")})
        ids = torch.tensor([[2, 5, 8, 15, 3]]) # [CLS] no effusion ##s [SEP]
        with torch.no_grad():
            reference = bert(ids).last_hidden_state[0, 0].numpy()
        got = labeler.embed(["No\n effusions", "the heart is normal ."]) # padded to the longer one
        np.testing.assert_allclose(got[0], reference, atol=1e-5) # float32, sums of 16 terms over two layers


def test_errors_name_the_file_and_the_stand_in():
    class Unsafe: # A pickle that would run code
        def __reduce__(self):
            return (print, ("executed", ))

    with tempfile.TemporaryDirectory() as d:
        with pytest.raises(CourseError, match="RRG_scorers.*'rules' stands in"):
            CheXbert(f"{d}/chexbert.pth")
        path = write_tiny_chexbert(d, [0] * 14)
        (Path(d) / "bert-base-uncased/vocab.txt").unlink()
        with pytest.raises(CourseError, match="vocab.txt does not exist"):
            CheXbert(path)
        torch.save({"weights": torch.ones(2)}, f"{d}/other.pth")
        with pytest.raises(CourseError, match="no CheXbert checkpoint"):
            read_state(f"{d}/other.pth")
        torch.save({"model_state_dict": Unsafe()}, f"{d}/unsafe.pth")
        with pytest.raises(CourseError, match="more than tensors"):
            read_state(f"{d}/unsafe.pth")
        path = write_tiny_chexbert(d, [0] * 14)
        state = torch.load(path, weights_only=True)
        state["model_state_dict"].pop("module.linear_heads.3.bias")
        torch.save(state, path)
        with pytest.raises(CourseError, match="does not fit"):
            CheXbert(path)


def test_errors_of_labels_quote_no_report():
    from rrg_core import labels
    from rrg_core.labels import lexicon, scopes
    from rrg_core.tools.house import quoting

    assert quoting({
        "label": lambda x: labels.label([x]),
        "label bytes": lambda x: labels.label(str(x).encode()),
        "label a dictionary": lambda x: labels.label({"findings": x}),
        "label_many one": lambda x: labels.label_many(str(x)),
        "label_many": lambda x: labels.label_many([x, None]),
        "label_many of lists": lambda x: labels.label_many([[x]]),
        "backend": lambda x: labels.label_many(["a"], x),
        "labeler": labels.labeler,
        "explain": lambda x: labels.explain([x]),
        "explanation": lambda x: labels.explanation([x]),
        "show": lambda x: labels.show([x]),
        "hand_labels": labels.hand_labels,
        "first_run": labels.first_run,
        "read_line": lambda x: lexicon.read_line([x]),
        "split_report": lambda x: list(lexicon.split_report([x])),
        "read_sentence": lambda x: list(scopes.read_sentence([x])),
        "mesh_labels": lambda x: labels.mesh_labels([[x]]),
        "checkpoint": read_state,
    }) == []
    mentions = labels.explain("There is a pleural effusion.")
    assert "effusion" not in repr(mentions) and "effusion" in mentions[0].text
    assert "effusion" not in repr(lexicon.read_line("There is an effusion.")).replace("Pleural Effusion", "")
