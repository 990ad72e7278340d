"""Knowledge written by a language model: equal to direct calls, cached by image and sentence, read at prediction."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import tiny_models
import torch
import transformers as hf
from odd_images import noise

from mnergraph.cli.export import export
from mnergraph.cli.extract import features
from mnergraph.cli.train import train
from mnergraph.data import PostFolder, write_conll
from mnergraph.data.formats.evidence_jsonl import read_context
from mnergraph.features.store.entries import manifest_of
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.captioning import Captioner
from mnergraph.features.vision.knowledge import PROMPT, KnowledgeGenerator
from mnergraph.features.vision.registry import extractor_of
from mnergraph.inference.predictor import Predictor
from mnergraph.models import PGIM, Tagger
from mnergraph.pair import Pair
from mnergraph.training import TrainerConfig

IMAGES = [noise(50, 40, seed) for seed in range(3)]
WORDS = [("Bob", "saw", "Paris"), ("rain",), ("Ann", "saw", "Paris")]
SENTENCES = [(Phrase(" ".join(words), (0, len(words))),) for words in WORDS]


@pytest.fixture(scope="module")
def caption_model(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return Captioner(tiny_models.captioner("git", tmp_path_factory.mktemp("git")), max_new_tokens=4)


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize("described", [True, False])
@torch.no_grad()
def test_what_is_written_equals_direct_calls(
    kind: str, described: bool, caption_model: Captioner, tmp_path: Path
) -> None:
    """One prompt at a time, though prompts of one length are computed together."""
    folder = tiny_models.language_model(kind, tmp_path)
    template = PROMPT if described else "{text} ? Named entities:"
    extractor = KnowledgeGenerator(folder, caption_model if described else None, template, max_new_tokens=6)
    found = list(extractor.extract(IMAGES, SENTENCES, progress=False))
    auto = hf.AutoModelForSeq2SeqLM if kind == "t5" else hf.AutoModelForCausalLM
    model, tokenizer = auto.from_pretrained(folder).eval(), hf.AutoTokenizer.from_pretrained(folder)
    captions = [evidence.caption for evidence in caption_model.extract(IMAGES, progress=False)]
    for words, caption, evidence in zip(WORDS, captions, found, strict=True):
        prompt = template.format(text=" ".join(words), caption=caption)
        inputs = tokenizer(prompt, return_tensors="pt")
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=0,
        )
        new = ids[0] if kind == "t5" else ids[0, inputs["input_ids"].shape[1] :]
        assert evidence.context == (("knowledge", " ".join(tokenizer.decode(new, skip_special_tokens=True).split())),)
        assert evidence.context[0].text
        assert evidence.caption is None


def test_chat_templates_are_applied(tmp_path: Path) -> None:
    extractor = KnowledgeGenerator(tiny_models.language_model("gpt2", tmp_path), prompt="{text} ?", max_new_tokens=3)
    plain = extractor._encode("rain ?")
    extractor.tokenizer.chat_template = "{% for m in messages %}user : {{ m['content'] }}{% endfor %} assistant :"
    chat = extractor.tokenizer("user : rain ? assistant :", add_special_tokens=False)["input_ids"]
    assert extractor._encode("rain ?") == chat != plain


@pytest.mark.parametrize("prompt", ["no field", "{caption}", "{text} {words}", "{text", "{} {text}", PROMPT])
def test_templates_of_other_fields_are_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"the prompt"):
        KnowledgeGenerator("model", prompt=prompt)


def test_through_a_store_to_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached by image and sentence; exported for files; written for a new post when a model predicts."""
    images, posts, store = (tmp_path / name for name in ("images", "posts", "store"))
    images.mkdir()
    posts.mkdir()
    for name in ("1", "2"):  # one image, two sentences
        IMAGES[0].save(images / f"{name}.png")
    pairs = [Pair(("Bob", "saw", "Paris"), ("B-PER", "O", "B-LOC"), id="1"), Pair(("rain",), ("O",), id="2")]
    for split in ("train", "valid", "test"):
        write_conll(pairs, posts / f"{split}.txt")
    # a manifest has the last part of a path
    monkeypatch.chdir(tmp_path)
    folder = tiny_models.language_model("gpt2", Path("lm"))
    caption_model = Captioner(tiny_models.captioner("git", Path("git")), max_new_tokens=4)
    extractor = KnowledgeGenerator(folder, caption_model, prompt="{text} {caption} ?", max_new_tokens=4)
    assert extractor_of(manifest_of(extractor)) == extractor
    with pytest.raises(ValueError, match="this extractor reads the posts' sentences: give posts"):
        features(images, store, extractor, progress=False)
    summary = features(images, store, extractor, posts, progress=False)
    assert summary is not None
    assert summary.extracted == 2
    again = features(images, store, extractor, posts, progress=False)
    assert again is not None
    assert (again.extracted, again.known) == (0, 2)
    export(store, images, tmp_path / "out", posts, progress=False)
    texts = read_context(tmp_path / "out/context.jsonl")
    assert set(texts) == {"1", "2"}
    assert texts["1"] != texts["2"], "the sentences differ"
    trainer = TrainerConfig(epochs=1, accelerator="cpu", progress=False)
    data = partial(PostFolder, images=images)
    train(data, posts, PGIM, tmp_path / "run", stores=(store,), context=("knowledge",), trainer=trainer)
    predictor = Predictor(Tagger.from_pretrained(tmp_path / "run/model"))
    new = Pair(("Ann", "saw", "rain"), image_path=images / "1.png")
    (ready,) = predictor.prepared([new])
    (expected,) = extractor.extract([images / "1.png"], [(Phrase("Ann saw rain", (0, 3)),)], progress=False)
    assert ready.context == expected.context
