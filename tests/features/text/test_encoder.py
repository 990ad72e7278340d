"""Encoders by folder, saved and read again; what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import (
    BertConfig,
    BertModel,
    CanineConfig,
    CanineModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    DebertaV2Config,
    DebertaV2Model,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    SqueezeBertConfig,
    SqueezeBertModel,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
    XLNetConfig,
    XLNetModel,
)

from mnergraph import LabelSet, Pair
from mnergraph.features.text import encoder
from mnergraph.features.text.encoder import TINY, TextEncoderModel, encoder_from_config, load_encoder, tiny_encoder
from mnergraph.models import BERTCRF, UMGF

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
WORDS = ("Paris", "in", "the", "réin", "http://t.co/x", "\u200b", "😀")


def states(backbone: TextEncoderModel) -> torch.Tensor:
    ids = [piece for word in backbone.tokenizer(WORDS) for piece in word]
    return backbone.model.eval()(input_ids=torch.tensor([ids])).last_hidden_state


def test_tiny() -> None:
    torch.manual_seed(0)
    backbone = tiny_encoder(["Paris", "THE"], hidden_size=16, num_layers=1, heads=2, max_length=40)
    assert (backbone.name, backbone.hidden_size, backbone.max_length) == (TINY, 16, 40)
    assert "random" in TINY
    assert [len(word) for word in backbone.tokenizer(["paris", "PARIS", "the", "rain", "é"])] == [1, 1, 1, 4, 1]
    torch.manual_seed(0)
    again = tiny_encoder(["Paris", "THE"], hidden_size=16, num_layers=1, heads=2, max_length=40)
    assert torch.equal(states(backbone), states(again)), "weights depend on torch's random state"
    assert getattr(backbone.model, "pooler", None) is None


def test_tiny_has_pieces_for_all_printable_ascii() -> None:
    pieces = tiny_encoder(hidden_size=8).tokenizer
    for code in range(33, 127):
        for word in (chr(code), "x" + chr(code)):
            assert pieces.unknown not in pieces([word])[0], word


def test_saved_and_rebuilt_untrained(tmp_path: Path) -> None:
    backbone = tiny_encoder(["paris"], hidden_size=16, num_layers=1, heads=2, max_length=40)
    backbone.save(tmp_path)
    assert not list(tmp_path.glob("*.safetensors")), "weights are saved with the model"
    again = encoder_from_config(tmp_path)
    assert (again.name, again.hidden_size, again.max_length) == (TINY, 16, 40)
    assert again.tokenizer(WORDS) == backbone.tokenizer(WORDS)
    assert (again.tokenizer.start, again.tokenizer.end) == (backbone.tokenizer.start, backbone.tokenizer.end)
    assert (again.tokenizer.unknown, again.tokenizer.padding) == (
        backbone.tokenizer.unknown,
        backbone.tokenizer.padding,
    )
    assert not torch.allclose(states(again), states(backbone))
    again.model.load_state_dict(backbone.model.state_dict(), strict=True)
    assert torch.equal(states(again), states(backbone))


def test_pretrained_from_a_folder(tmp_path: Path) -> None:
    backbone = tiny_encoder(["paris"], hidden_size=16, num_layers=1, heads=2)
    folder = tmp_path / "my-encoder"
    model = BertModel(backbone.model.config)  # with a pooler
    model.save_pretrained(folder)
    backbone.tokenizer.tokenizer.save_pretrained(folder)
    found = load_encoder(folder)
    assert found.name == "my-encoder"
    assert found.model.pooler is None, "its output is unused"
    assert next(found.model.parameters()).dtype == torch.float32
    assert found.tokenizer(WORDS) == backbone.tokenizer(WORDS)
    ids = torch.tensor([[5, 6, 7]])
    expected = model.eval()(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found.model.eval()(input_ids=ids).last_hidden_state, expected)


@pytest.mark.parametrize("name", ["no-such/encoder", "nowhere", "a/b/c"])
def test_no_such_encoder_offline(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=f"no text encoder at '{name}': give the name of a Hugging Face encoder while"):
        load_encoder(name)


def test_a_folder_without_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"or a folder with its config.json, model.safetensors and tokenizer.json"):
        load_encoder(tmp_path)


def test_a_sentencepiece_file_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeBERTa-v3 is published with SentencePiece's own file alone; transformers asks for tiktoken then."""
    config = DebertaV2Config(vocab_size=40, **SIZES)
    DebertaV2Model(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "spm.model").write_bytes(b"no model")
    monkeypatch.setattr(encoder, "is_sentencepiece_available", lambda: False)
    with pytest.raises(OSError, match=r"json, or pip install 'mnergraph\[sentencepiece\]' if its tokenizer is an spm"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (T5Model(T5Config(vocab_size=40, d_model=8, num_layers=1, num_heads=1, d_kv=8, d_ff=8)), "has a decoder"),
        (ViTModel(ViTConfig(**SIZES)), "reads pixel_values, not the pieces of words"),
        (CanineModel(CanineConfig(**SIZES)), "has no table of input embeddings"),
        (CLIPModel(CLIPConfig(text_config=SIZES, vision_config=SIZES)), "has no states of one size"),
    ],
)
def test_models_that_are_no_text_encoders(model: PreTrainedModel, fault: str) -> None:
    pieces = tiny_encoder(hidden_size=8).tokenizer
    with pytest.raises(ValueError, match=f"^x: {type(model).__name__} {fault}; mnergraph takes text encoders, such as"):
        TextEncoderModel(model, pieces, "x")


def test_labels_need_embeddings_as_input() -> None:
    """CLIP's text model takes ids alone: it encodes words, and is refused where labels are read."""
    config = CLIPTextConfig(vocab_size=200, **SIZES)
    backbone = TextEncoderModel(CLIPTextModel(config), tiny_encoder(hidden_size=8).tokenizer, "x")
    assert len(BERTCRF(backbone, LabelSet.from_types(["PER"])).predict([Pair(("a",))])) == 1
    with pytest.raises(
        ValueError, match=r"^x: CLIPTextModel takes no embeddings as input; take another encoder, or a model"
    ):
        UMGF(backbone, LabelSet.from_types(["PER"]), hidden_size=8, num_heads=1)


def test_a_pooler_that_its_model_always_calls(tmp_path: Path) -> None:
    model = SqueezeBertModel(SqueezeBertConfig(vocab_size=200, embedding_size=8, **SIZES))
    model.save_pretrained(tmp_path)
    tiny_encoder(hidden_size=8).tokenizer.tokenizer.save_pretrained(tmp_path)
    found = load_encoder(tmp_path)
    assert states(found).isfinite().all()
    states(found).sum().backward()
    assert not [name for name, weight in found.model.named_parameters() if weight.grad is None]


def test_max_length() -> None:
    """RoBERTa's positions start after its padding index; relative positions have no maximum."""
    pieces = tiny_encoder(hidden_size=8, max_length=512).tokenizer
    bert = TextEncoderModel(BertModel(BertConfig(**SIZES, max_position_embeddings=20)), pieces, "b")
    assert bert.max_length == 20
    config = RobertaConfig(**SIZES, vocab_size=40, max_position_embeddings=20, pad_token_id=1)
    roberta = TextEncoderModel(RobertaModel(config), pieces, "r")
    assert roberta.max_length == 18
    for backbone in (bert, roberta):
        backbone.model(input_ids=torch.full((1, backbone.max_length), 7))
        with pytest.raises((IndexError, RuntimeError)):
            backbone.model(input_ids=torch.full((1, backbone.max_length + 1), 7))
    xlnet = XLNetModel(XLNetConfig(vocab_size=40, d_model=8, n_layer=1, n_head=1, d_inner=8))
    assert TextEncoderModel(xlnet, pieces, "x").max_length == 512, "the tokenizer's limit"
