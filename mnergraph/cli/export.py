"""The command ``export``: a feature store as files of evidence."""

from __future__ import annotations

from pathlib import Path

from mnergraph.features.text.noun_chunks import Chunker, RuleChunker


def export(
    store: Path,
    images: Path,
    out: Path,
    posts: Path | None = None,
    chunker: Chunker | None = None,
    tensors: bool = True,
    progress: bool = True,
) -> None:
    """Write what a feature store has of a folder's images as files of evidence, objects.jsonl and the like.

    The others are captions.jsonl, context.jsonl and features.safetensors.

    Args:
        store: folder of the store.
        images: folder of the images, ``<id>.jpg`` or the like.
        out: folder of the files, such as that of the posts; files that exist are not replaced.
        posts: folder of the posts, for a store of grounded phrases or knowledge, whose entries are of an image and its
            sentence.
        chunker: found the phrases of that store, by default `RuleChunker`.
        tensors: whether to write region vectors and image features, too.
        progress: whether to show a progress bar.

    Raises:
        FileNotFoundError: when there is no such store or folder.
        FileExistsError: when a file that is to be written exists.
        ValueError: when the store has none of the images.
    """
    import torch
    from tqdm.auto import tqdm

    from mnergraph.cli.extract import wanted_images
    from mnergraph.data.evidence import CAPTIONS, CONTEXT, FEATURES, OBJECTS
    from mnergraph.data.formats.evidence_jsonl import Detections, write_captions, write_context, write_objects
    from mnergraph.data.formats.feature_file import write_features
    from mnergraph.features.store.entries import from_store_entry
    from mnergraph.features.store.reader import FeatureStore
    from mnergraph.features.vision.extractor import Extractor
    from mnergraph.features.vision.registry import EXTRACTORS
    from mnergraph.files import replacing_entries

    if not images.is_dir():
        raise FileNotFoundError(f"images={str(images)!r} is no folder")
    opened = FeatureStore(store)
    detections: dict[str, Detections] = {}
    captions, context, regions, features = {}, {}, {}, {}
    extractor = EXTRACTORS.get(opened.manifest.extractor, Extractor)
    finds = extractor.chunker_for(chunker or RuleChunker())
    tasks = wanted_images(images, posts, None if posts is None else finds)
    absent = 0
    for task in tqdm(tasks, "exporting", unit="image", disable=not progress):
        key = next((key for key in task.keys if key in opened), None)
        if key is None:
            absent += 1
            continue
        evidence = from_store_entry(opened, key)
        if evidence.objects is not None and evidence.size is not None:
            detections[task.id] = Detections(*evidence.size, evidence.objects)
            vectors = [item.region for item in evidence.objects if item.region is not None]
            if vectors and len(vectors) == len(evidence.objects):
                regions[task.id] = torch.stack(vectors)
        if evidence.caption is not None:
            captions[task.id] = evidence.caption
        if evidence.context is not None:
            context[task.id] = evidence.context
        rows = evidence.grid if evidence.grid is not None else evidence.pooled
        if rows is not None:
            features[task.id] = rows.reshape(-1, rows.shape[-1])
    if absent == len(tasks):
        raise ValueError(f"{store} has none of the {len(tasks)} images of {images}; a grounded store needs --posts")
    files = {OBJECTS: bool(detections), CAPTIONS: bool(captions), CONTEXT: bool(context)}
    files[FEATURES] = tensors and bool(regions or features)
    wanted = [out / name for name, written in files.items() if written]
    if there := [str(path) for path in wanted if path.exists()]:
        raise FileExistsError(f"{', '.join(there)} exists; give another out")
    with replacing_entries(out) as unfinished:  # all of them or none
        if detections:
            write_objects(detections, unfinished / OBJECTS)
        if captions:
            write_captions(captions, unfinished / CAPTIONS)
        if context:
            write_context(context, unfinished / CONTEXT)
        if files[FEATURES]:
            write_features(regions, features, unfinished / FEATURES)
    print(f"{len(tasks) - absent} images" + (f", {absent} that the store does not have" if absent else ""))
    for path in wanted:
        print(path)
