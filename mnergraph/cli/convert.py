"""The command ``convert``: a checkpoint of the authors' own code as a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal


def convert(
    system: Literal["UMT", "UMGF", "MGCMT"],
    checkpoint: Path,
    out: Path,
    encoder: str = "bert-base-cased",
    types: list[str] | None = None,
    num_heads: int | None = None,
    word_vectors: Path | None = None,
    posts: list[Path] | None = None,
    progress: bool = True,
) -> None:
    """Convert a checkpoint of the authors' own code into a saved model, the released variant.

    Args:
        system: whose code it is of.
        checkpoint: the file that it wrote: the state dict of the model, tensors only.
        out: folder of the saved model, which must not exist.
        encoder: name or folder of the encoder that it was run with, for tokenizer and configuration; its weights are
            those of the checkpoint.
        types: entity types in the order of the authors' code, by default MISC, PER, ORG, LOC for UMT and MGCMT, and
            PER, LOC, ORG, OTHER for UMGF.
        num_heads: attention heads, which a checkpoint does not show; by default the paper's.
        word_vectors: the table of word vectors of MGCMT, which its checkpoint does not hold.
        posts: files of posts whose words MGCMT looks up in it, train, dev and test.
        progress: whether to show progress bars.

    Raises:
        CheckpointError: when tensors are missing or misshapen, by their names.
        FileExistsError: when the folder exists.
        ValueError: when MGCMT's table is not given.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; give another --out")
    from mnergraph.features.text.encoder import TextEncoderModel
    from mnergraph.models import umt_checkpoint as umt
    from mnergraph.models.authors_checkpoint import UMT_TYPES, Reader
    from mnergraph.models.authors_checkpoint import convert as convert_checkpoint
    from mnergraph.models.mgcmt import checkpoint as mgcmt
    from mnergraph.models.umgf import checkpoint as umgf
    from mnergraph.training.build import text_encoder

    options: dict[str, Any] = {} if num_heads is None else {"num_heads": num_heads}
    if system == "MGCMT":
        options["nearest_words"] = _nearest_words(word_vectors, posts or (), progress)
    elif word_vectors is not None:
        raise ValueError(f"{system} reads no nearest words; leave word_vectors out")
    if not checkpoint.is_file():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint}")
    readers: dict[str, Reader] = {"UMT": umt.read, "UMGF": umgf.read, "MGCMT": mgcmt.read}
    text = text_encoder(encoder, ())
    if not isinstance(text, TextEncoderModel):
        raise ValueError(f"the authors' codes read a BERT, and {encoder!r} are word vectors")
    model, unused = convert_checkpoint(
        readers[system], checkpoint, text, types or (umgf.UMGF_TYPES if system == "UMGF" else UMT_TYPES), **options
    )
    model.save_pretrained(out)
    print(f"{out}: {system}, released variant, tags {', '.join(model.labels.tags)}")
    print(f"{len(unused)} tensors of the checkpoint are not used by the computation" + ":" * bool(unused))
    for name in unused:
        print(f"  {name}")


def _nearest_words(word_vectors: Path | None, posts: Sequence[Path], progress: bool) -> Any:
    """Return the nearest words of the posts' words, as MGCMT's released code looks them up."""
    from mnergraph.data.formats.conll import read_conll
    from mnergraph.features.text.nearest_words import NearestWords
    from mnergraph.models.mgcmt.model import MGCMT

    if word_vectors is None or not posts:
        raise ValueError(
            "MGCMT's checkpoint holds no nearest words: give --word_vectors, the table of word vectors that it was "
            "trained with, and --posts '[train.txt, valid.txt, test.txt]', the posts whose words are looked up in it"
        )
    words = (word for path in posts for post in read_conll(path) for word in post.words)
    options = MGCMT.nearest_words_options("released")
    return NearestWords.from_file(word_vectors, words, **options, progress=progress)
