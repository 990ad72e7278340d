"""The command ``ls``: what there is, by the registries, which imports nothing of it."""

from __future__ import annotations

from typing import Any

from mnergraph.data.registry import DATASETS
from mnergraph.features.vision.registry import EXTRACTORS
from mnergraph.models.registry import GROUNDERS, MODELS, SCHEMAS
from mnergraph.registry import Registry


def ls(schemas: bool = False) -> None:
    """List models, grounders, data sets and extractors, and the schemas of the models where asked for.

    Args:
        schemas: whether to print every model's node types and relations, which imports the models.
    """
    registries: dict[str, Registry[Any]] = {
        "Models": MODELS,
        "Grounders": GROUNDERS,
        "Data sets": DATASETS,
        "Extractors": EXTRACTORS,
    }
    for title, registry in registries.items():
        print(f"{title}")
        width = max(map(len, registry))
        for name in registry:
            print(f"  {name:<{width}} {registry.summary(name)}")
        print()
    if not schemas:
        print("mnergraph ls --schemas true: the graphs of the models")
        return
    print("Schemas")
    for name, schema in SCHEMAS.items():
        print(f"  {name}")
        for line in str(schema).split("\n"):
            print(f"    {line}")
