"""The command ``convert-data``: annotated posts from one format to another."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from mnergraph.data.formats.conversion_options import ConversionOptions, SourceFormat, TargetFormat


def convert_data(
    source: Path,
    out: Path,
    target_format: TargetFormat,
    source_format: SourceFormat = "auto",
    conversion: ConversionOptions = ConversionOptions(),
    progress: bool = True,
) -> None:
    """Convert annotated posts among annotation tools, CoNLL files, Hugging Face data sets and folders of ours.

    What a format has no place for, and what was changed, is counted and printed.

    Args:
        source: the file or folder.
        out: the file or folder to write, which must not exist.
        target_format: its format: folder (what train takes), conll, posts (posts.jsonl), label-studio, doccano, brat or
            datasets.
        source_format: the format of the source: one of these, columns (CoNLL files of any columns), or predictions
            (of predict), whose entities become pre-annotations; auto detects it from the content.
        conversion: how posts are read and written.
        progress: whether to show a progress bar.

    Raises:
        AnnotationError: for a post that can't be converted, naming its place.
        FileExistsError: when out exists.
    """
    from mnergraph.data.convert_data import describe_texts, detect_format, read_texts, require_absent, write_texts
    from mnergraph.data.formats.text_spans import Notes

    require_absent(out, target_format)
    found = detect_format(source) if source_format == "auto" else source_format
    notes = Notes()
    predicted = found == "predictions"
    with TemporaryDirectory(prefix="mnergraph-") as folder:
        texts = read_texts(source, found, conversion, notes, image_folder=Path(folder))
        print(f"{source}, read as {found}: {describe_texts(texts)}")
        written = write_texts(texts, out, target_format, conversion, notes, predictions=predicted, progress=progress)
    for line in (*notes.lines(), *written):
        print(line)
