"""The component of spaCy's pipelines: tokens, images, entities that were there, streams, and its settings saved."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mnergraph import LabelSet, load, pipeline, tiny_encoder
from mnergraph.inference import EntityComponent, docs_with_images
from mnergraph.models import BERTCRF, UMGF

spacy = pytest.importorskip("spacy", reason="the extra phrases is not installed")
PROJECT = Path(__file__).parents[2]
#: White space at the start, twice, and of lines, emoji of several code points, clitics, right-to-left words.
TEXTS = ["  Ann  Lee\nsang 👩‍🚀 here", "don't, Ann\u00a0Lee!", "שלום Ann\t", "José vive in Rome.", "Ann"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("spacy") / "model"
    model = BERTCRF(tiny_encoder(), LabelSet.from_types(["PER", "LOC"]))
    with torch.no_grad():  # so that some words are outside, some not
        model.layers[-1].linear.bias[0] += 0.6
    model.save_pretrained(path)
    return str(path)


@pytest.fixture
def nlp(folder: str) -> Any:
    built = spacy.blank("en")
    built.add_pipe("mnergraph", config={"model": folder})
    return built


def entities(doc: Any) -> list[tuple[int, int, str, float]]:
    return [(ent.start, ent.end, ent.label_, ent._.score) for ent in doc.ents]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_the_tokens_of_spacy(nlp: Any, folder: str, text: str) -> None:
    doc = nlp(text)
    assert doc.text == text
    places = [token.i for token in doc if not token.is_space]
    found = pipeline(folder)([doc[place].text for place in places], is_split_into_words=True)
    assert entities(doc) == [
        (places[entity["word_start"]], places[entity["word_end"] - 1] + 1, entity["label"], entity["score"])
        for entity in found
    ]
    assert doc.ents
    marked = {token.i for ent in doc.ents for token in ent}
    assert [token.ent_iob_ != "O" for token in doc] == [token.i in marked for token in doc]
    assert doc._.mnergraph_error is None


def test_documents_without_words(nlp: Any) -> None:
    for text in ("", "  ", "\n"):
        assert nlp(text).ents == ()
    texts = ["", TEXTS[0], " ", "\n", TEXTS[1], "  "]
    for size in (1, 2, 100):
        docs = list(nlp.pipe(texts, batch_size=size))
        assert [doc.text for doc in docs] == texts
        assert [entities(doc) for doc in docs] == [entities(nlp(text)) for text in texts]
    assert list(nlp.pipe([])) == []
    assert len(list(nlp.pipe([" "]))) == 1


def test_pipe_reads_batch_size_documents(nlp: Any) -> None:
    read = []

    def texts() -> Iterator[str]:
        for number in range(10):
            read.append(number)
            yield f"Ann {number}"

    stream = nlp.pipe(texts(), batch_size=3)
    next(stream)
    assert len(read) == 3
    assert len(list(stream)) == 9
    tuples = list(nlp.pipe([(TEXTS[0], 7), (TEXTS[3], "id")], as_tuples=True))
    assert [context for _, context in tuples] == [7, "id"]
    assert [entities(doc) for doc, _ in tuples] == [entities(nlp(TEXTS[0])), entities(nlp(TEXTS[3]))]


@pytest.mark.parametrize("overwrite", [False, True])
def test_entities_that_were_there(folder: str, overwrite: bool) -> None:
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    nlp.add_pipe("mnergraph", config={"model": folder, "overwrite_ents": overwrite})
    text = "Ann Lee sang in Rome and then Bob came to Paris"
    alone = entities(spacy_pipeline(folder)(text))
    first, words = alone[0], text.split()
    assert len(alone) > 1
    # two rules: one token more than the model's first entity, and a token that is in none
    wide = first[0], first[1] + 1
    taken = {place for ent in [*alone, wide] for place in range(*ent[:2])}
    free = next(place for place in range(len(words)) if place not in taken)
    ruler.add_patterns([{"label": "WIDE", "pattern": " ".join(words[slice(*wide)])}])
    ruler.add_patterns([{"label": "FREE", "pattern": words[free]}])
    found = entities(nlp(text))
    rules = [(free, free + 1, "FREE", None)]
    if not overwrite:
        rules.append((*wide, "WIDE", None))
        alone = [ent for ent in alone if ent[1] <= wide[0] or wide[1] <= ent[0]]
    assert found == sorted(alone + rules)


def spacy_pipeline(folder: str, **config: Any) -> Any:
    nlp = spacy.blank("en")
    nlp.add_pipe("mnergraph", config={"model": folder, **config})
    return nlp


def test_settings_are_saved(nlp: Any, folder: str, tmp_path: Path) -> None:
    nlp = spacy_pipeline(folder, overwrite_ents=True, workers=0, batch_pieces=64)
    nlp.to_disk(tmp_path / "nlp")
    again = spacy.load(tmp_path / "nlp")
    component = again.get_pipe("mnergraph")
    assert isinstance(component, EntityComponent)
    assert component.overwrite_ents
    assert (component.ner.steps.batching.workers, component.ner.steps.batching.batch_pieces) == (0, 64)
    assert again.config["components"]["mnergraph"] == nlp.config["components"]["mnergraph"]
    assert entities(again(TEXTS[0])) == entities(nlp(TEXTS[0]))
    assert again.pipe_labels == {"mnergraph": ["PER", "LOC"]}
    other = spacy_pipeline(folder, overwrite_ents=True).from_bytes(nlp.to_bytes())
    assert entities(other(TEXTS[0])) == entities(nlp(TEXTS[0]))


def test_wrong_settings() -> None:
    nlp = spacy.blank("en")
    with pytest.raises(ValueError, match="model"):
        nlp.add_pipe("mnergraph")
    with pytest.raises(FileNotFoundError, match=r"no/such/folder"):
        nlp.add_pipe("mnergraph", config={"model": "./no/such/folder"})


def test_scores(nlp: Any) -> None:
    doc = nlp(TEXTS[3])
    gold = {"entities": [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]}
    example = spacy.training.Example.from_dict(nlp.make_doc(TEXTS[3]), gold)
    assert nlp.evaluate([example])["ents_f"] == 1.0


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """UMGF over objects' crops: entities depend on the image."""
    from runs import tiny_run

    return str(tiny_run(tmp_path_factory.mktemp("run")).model)


def test_images(image_model: str, tmp_path: Path) -> None:
    colors = ("red", "blue")
    for color in colors:
        image = Image.effect_noise((48, 32), 80).convert("RGB")
        image.paste(color, (4, 4, 40, 28))
        image.save(tmp_path / f"{color}.png")
    nlp = spacy_pipeline(image_model)
    assert isinstance(load(image_model), UMGF)
    path = tmp_path / "red.png"
    forms: list[Any] = [path, str(path), path.read_bytes(), Image.open(path).convert("RGB"), tmp_path / "blue.png"]
    text = "Jordan wins in Jordan"
    docs = list(nlp.pipe(docs_with_images(nlp, [(text, image) for image in forms])))
    expected = pipeline(image_model)([text.split()] * 5, image=forms, is_split_into_words=True)
    for doc, result, image in zip(docs, expected, forms, strict=True):
        assert doc._.image is image
        scores = [(ent._.score, ent._.attention_box, ent._.attention_weight) for ent in doc.ents]
        assert scores == [(e["score"], e["attention_box"], e["attention_weight"]) for e in result]
    assert entities(docs[0]) == entities(docs[2]) != entities(docs[4])
    one = nlp.make_doc(text)
    one._.image = path
    assert entities(nlp(one)) == entities(docs[0])
    ((with_image, _), (bare, _)) = nlp.pipe([(one, 1), (nlp.make_doc(text), 2)], as_tuples=True)
    assert entities(with_image) == entities(docs[0]) != entities(bare)


def test_a_document_that_cannot_be_predicted(nlp: Any, tmp_path: Path) -> None:
    docs = list(docs_with_images(nlp, [("Ann sang", None), ("Bob came", tmp_path / "gone.png"), ("Ann sang", None)]))
    docs[1].set_ents([spacy.tokens.Span(docs[1], 0, 1, label="OLD")])
    with pytest.raises(ValueError, match="there is no image"):
        nlp(docs[1].copy())
    with pytest.warns(UserWarning, match="1 of 3 posts have an error"):
        found = list(nlp.pipe(docs))
    assert [doc.text for doc in found] == ["Ann sang", "Bob came", "Ann sang"]
    assert found[1]._.mnergraph_error == f"there is no image {tmp_path / 'gone.png'}"
    assert [ent.label_ for ent in found[1].ents] == ["OLD"]
    assert entities(found[0]) == entities(found[2])


def run_python(program: str, path: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that finds modules in this path alone."""
    environment = {"PYTHONPATH": path, "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


def test_spacy_finds_the_component_by_its_entry_point(tmp_path: Path) -> None:
    table = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = tmp_path / "mnergraph_entry-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mnergraph-entry\nVersion: 0\n")
    lines = [f"[{group}]\n" + "\n".join(f"{a} = {b}" for a, b in names.items()) for group, names in table.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    program = (
        "import sys, spacy\n"
        "nlp = spacy.blank('en')\n"
        "assert nlp.has_factory('mnergraph')\n"
        "heavy = {'torch_geometric', 'transformers', 'mnergraph.models', 'mnergraph.inference.pipeline'}\n"
        "print(sorted(heavy & set(sys.modules)), nlp.get_factory_meta('mnergraph').default_config['workers'])\n"
    )
    done = run_python(program, f"{tmp_path}:{PROJECT}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[] 2\n"


def test_without_spacy() -> None:
    program = (
        "import sys; sys.modules['spacy'] = sys.modules['spacy.language'] = None\n"
        "import mnergraph.inference\n"
        "try:\n    mnergraph.inference.docs_with_images\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = run_python(program, str(PROJECT))
    assert done.stdout == "the spaCy component needs spaCy: pip install 'mnergraph[phrases]'\n", done.stderr
