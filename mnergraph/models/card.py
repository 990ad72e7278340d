"""The model card: what a stranger must know of saved weights."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from huggingface_hub import ModelCard, ModelCardData

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

```
{schema}
```

## Data

{data}

## Scores

{scores}

## Use

```python
import mnergraph

model = mnergraph.load("this folder or its name on the hub")
pair = mnergraph.Pair(words=("Thousands", "march", "through", "Paris"))
print(model.predict([pair]))
```
"""


def model_card(model: Tagger) -> ModelCard:
    """A card with the model's graph, label set, data and scores, as far as its record knows them."""
    record = model.record
    data = ModelCardData(
        library_name="mnergraph", tags=["multimodal-named-entity-recognition", "torch-geometric"]
    )
    facts = "\n".join(f"- {key}: {value}" for key, value in record.get("data", {}).items())
    tables = [f"### {split}\n\n{table}" for split, table in record.get("tables", {}).items()]
    return ModelCard(
        _TEMPLATE.format(
            metadata=data.to_yaml(),
            name=type(model).__name__,
            summary=(inspect.getdoc(type(model)) or "").partition("\n\n")[0],
            encoder=model.encoder.name,
            labels=", ".join(model.labels.tags),
            settings=", ".join(f"{key}={value!r}" for key, value in model.settings().items())
            or "the defaults",
            schema=model.schema,
            data=facts or "Not recorded.",
            scores="\n\n".join(tables) or "Not recorded.",
        )
    )
