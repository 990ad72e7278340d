"""The card of a saved model: what it is, its drawn graph, its data and their licence, scores, and known limits."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mnergraph.features.text.encoder import TINY
from mnergraph.graph.node_types import Tokens
from mnergraph.graph.schema import Schema
from mnergraph.models.saved_folder import SCHEMA_DRAWING
from mnergraph.pair import Pair

if TYPE_CHECKING:
    from mnergraph.models.base import Tagger

_TEMPLATE = """\
---
{metadata}
---

# {name}

{summary}

- text encoder: {encoder}
- labels: {labels}
- settings: {settings}

## Graph

![Node types and relations]({drawing})

```
{schema}
```

## Data

{data}

Licence: {data_license}

## Evidence of images

{evidence}

## Scores

{scores}

## Known limits

{limits}

## Use

```python
import mnergraph

model = mnergraph.load("this folder or its name on the hub")
pair = mnergraph.Pair(words=("Thousands", "march", "through", "Paris"))
print(model.predict([pair]))
```
"""
#: What stands where a model's metadata have nothing.
_NOTHING = "Not recorded."


def model_card(
    model: Tagger,
    *,
    license: str | None = None,
    language: str | list[str] | None = None,
    data_license: str | None = None,
    limits: Iterable[str] = (),
) -> ModelCard:
    """Return a card with the model's graph, label set, data, scores and limits, as far as its metadata has them.

    Args:
        model: the model.
        license: of the weights, as the hub names it ("mit"); the card states none by itself.
        language: of the texts, as the hub names it ("en").
        data_license: of the training posts; by default that of the data set, where it is known.
        limits: further known limits, a sentence each.
    """
    metadata = model.metadata
    facts = dict(metadata.get("data", {}))
    recorded = facts.pop("license", "")
    tables = [f"### {split}\n\n{table}" for split, table in metadata.get("tables", {}).items()]
    data = ModelCardData(
        library_name="mnergraph",
        pipeline_tag="token-classification",
        tags=["multimodal-named-entity-recognition", "named-entity-recognition", "torch-geometric"],
        license=license,
        language=language,
        model_name=type(model).__name__,
        eval_results=list(_results(metadata)) or None,
    )
    return ModelCard(
        _TEMPLATE.format(
            metadata=data.to_yaml(),
            name=type(model).__name__,
            summary=(inspect.getdoc(type(model)) or "").partition("\n\n")[0],
            encoder=model.encoder.name,
            labels=", ".join(model.labels.tags),
            settings=", ".join(f"{key}={value!r}" for key, value in model.hparams().items()) or "the defaults",
            drawing=SCHEMA_DRAWING,
            schema=model.schema,
            data="\n".join(f"- {key}: {value}" for key, value in facts.items()) or _NOTHING,
            data_license=data_license or recorded or "not recorded; ask those who provide the posts.",
            evidence=_NOTHING if model.processor_config is None else model.processor_config.describe(),
            scores="\n\n".join(tables) or _NOTHING,
            limits="\n".join(f"- {limit}" for limit in [*_limits(model), *limits]),
        )
    )


def draw_schema(schema: Schema) -> bytes:
    """Return the drawing of a schema as the content of a PNG file."""
    return _drawing(_Drawn(schema))


class _Drawn:
    """A schema as a key: equal to another one with the same content."""

    def __init__(self, schema: Schema) -> None:
        self.schema, self.content = schema, json.dumps(schema.to_dict(), sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Drawn) and self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)


@lru_cache(maxsize=8)
def _drawing(drawn: _Drawn) -> bytes:
    from mnergraph.explain.plots.schema import plot_schema  # imports matplotlib

    file = io.BytesIO()
    plot_schema(drawn.schema).savefig(file, format="png", dpi=120)
    return file.getvalue()


def _results(metadata: dict[str, Any]) -> Iterator[EvalResult]:
    """Yield the scores as the hub lists them."""
    name = str(metadata.get("data", {}).get("name", "unknown"))
    for split, scores in metadata.get("scores", {}).items():
        for kind in ("lenient", "strict"):
            for metric in ("f1", "precision", "recall"):
                yield EvalResult(
                    task_type="token-classification",
                    task_name="Named entity recognition",
                    dataset_type=name.lower(),
                    dataset_name=name,
                    dataset_split=split,
                    metric_type=metric,
                    metric_name=f"{kind} {metric}",
                    metric_value=round(scores[kind][metric], 4),
                )


def _limits(model: Tagger) -> Iterator[str]:
    """Yield what follows from the model, its data and how it was scored."""
    types = ", ".join(model.labels.types) or "none"
    yield f"It finds entities of the types {types} alone, and none within another or overlapping one."
    if kinds := model.builder.missing(Pair(words=("a",))):
        yield (
            f"Of a post and its image it reads {', '.join(kinds)}. What a post lacks is left out; "
            "scores on such posts alone are not given here."
        )
    tokens = model.builder.node_types["token"]
    if isinstance(tokens, Tokens) and tokens.max_pieces is not None:
        yield f"Words after the first {tokens.max_pieces} word pieces of a post are cut off and get no entity."
    if model.encoder.name == TINY:
        yield f"Its text encoder, {TINY}, began with random weights and is tiny: for tests and demonstrations alone."
    data = model.metadata.get("data", {})
    if "name" in data:
        yield f"All posts are of {data['name']}; how it does on other text, languages and years is not known."
    if "scores" in model.metadata:
        yield "The scores are those of one training run; other seeds give others."
