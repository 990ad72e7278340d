"""One model used by several threads at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from PIL import Image

from mnergraph import DetectedObject, LabelSet, Pair, pipeline, tiny_encoder
from mnergraph.explain.recorder import record_attention
from mnergraph.models import GEI, UMGF, Tagger

THREADS = 4
POSTS = [
    Pair(
        tuple(f"w{index}x{word}" for word in range(3 + index % 4)),
        id=str(index),
        objects=tuple(DetectedObject(f"t{index}_{number}") for number in range(1 + index % 5)),
    )
    for index in range(24)
]


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """Threads take turns after 10 µs, so that their calls overlap."""
    interval, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-5)
    torch.set_num_threads(1)
    yield
    sys.setswitchinterval(interval)
    torch.set_num_threads(threads)


@pytest.fixture(params=[UMGF, GEI])
def model(request: pytest.FixtureRequest) -> Tagger:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_heads": 2, "num_layers": 1}
    built: Tagger = request.param(tiny_encoder(), LabelSet.from_types(["PER", "LOC"]), **sizes)
    return built


def in_threads(call: Callable[[Pair], Any]) -> list[Any]:
    start = Barrier(THREADS)

    def every(first: int) -> list[Any]:
        start.wait()
        return [call(post) for post in POSTS[first::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(every, range(THREADS)))
    return [parts[index % THREADS][index // THREADS] for index in range(len(POSTS))]


def test_pipeline(model: Tagger) -> None:
    read = pipeline(model)
    one_by_one = [list(read(post)) for post in POSTS]
    assert any(entity["attention_box_label"] for found in one_by_one for entity in found)
    assert in_threads(lambda post: list(read(post))) == one_by_one


def test_modes_are_those_before(model: Tagger) -> None:
    part = next(module for module in model.modules() if isinstance(module, torch.nn.Dropout))
    part.eval()
    before = [module.training for module in model.modules()]
    assert model.training
    expected = [model.predict([post]) for post in POSTS]
    assert in_threads(lambda post: model.predict([post])) == expected
    assert [module.training for module in model.modules()] == before


def test_recorded_are_the_calls_of_the_block(model: Tagger) -> None:
    def recorded(post: Pair) -> list[str]:
        with record_attention(model) as record:
            model.predict([post])
        return [one.pair.id for one in record.posts]

    assert in_threads(recorded) == [[post.id] for post in POSTS]


def test_recorded_weights(model: Tagger) -> None:
    def recorded(post: Pair) -> list[list[torch.Tensor]]:
        with record_attention(model) as record:
            model.predict([post])
        return [[weights.values for weights in call.captured] for call in record.calls]

    expected = [recorded(post) for post in POSTS]
    for found, known in zip(in_threads(recorded), expected, strict=True):
        for call, known_call in zip(found, known, strict=True):
            for one, other in zip(call, known_call, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_failing_call_leaves_the_mode(model: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch: Any) -> None:
        assert not model.training
        raise MemoryError

    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(MemoryError):
        model.predict(POSTS[:1])
    assert model.training


def test_images_in_memory(model: Tagger) -> None:
    read = pipeline(model)
    paths = in_threads(lambda post: read._image_file(Image.new("RGB", (4, 4))))
    assert len(set(paths)) == len(POSTS)
    assert len({path.parent for path in paths}) == 1
