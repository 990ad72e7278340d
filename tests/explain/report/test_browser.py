"""The page in a browser, with real pointer, keys and clicks, and its content policy in force."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pages import HOSTILE, a_post, content
from PIL import Image

from benchmarks.browser import NoBrowser, chromium
from mnergraph.explain.report import summarize, write_report
from mnergraph.labels import Entity
from mnergraph.metrics.errors import ERROR_KINDS
from mnergraph.pair import Pair

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BOXES = [
    {"label": "hat", "score": 0.9, "box": [0, 0, 1, 1]},
    {"label": "cap", "score": 0.5, "box": [0.5, 0.5, 1, 1]},
]


class Browsed:
    """A page that is open, and the actions of a user and the visible results; words and posts count from 0."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def point(self, selector: str, index: int = 0, *, click: bool = False) -> None:
        from selenium.webdriver import ActionChains

        # at once, so that the pointer crosses nothing on its way
        moves = ActionChains(self.driver, duration=0).move_to_element(self.all(selector)[index])
        (moves.click() if click else moves).perform()

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def js(self, program: str) -> Any:
        return self.driver.execute_script(program)

    def values(self) -> list[str]:
        """The numbers on the first post's list of objects."""
        return [value.text for value in self.all("article:first-child .chip .value")]

    def heat(self) -> list[int]:
        """How opaque the heat is at the middle of the image's upper left and lower right quarter."""
        return self.js(
            "const heat = document.querySelector('article:first-child .image .heat');"
            "if (!heat) return [];"
            "const canvas = new OffscreenCanvas(4, 4).getContext('2d', {willReadFrequently: true});"
            "canvas.drawImage(heat, 0, 0, 4, 4);"
            "return [1, 2].map((place) => canvas.getImageData(place, place, 1, 1).data[3])"
        )

    def words(self, side: str = "predicted") -> list[bool]:
        """Which of the first post's words are tinted."""
        return self.js(
            f"return [...document.querySelectorAll('article:first-child .{side} .word')]"
            ".map((word) => parseFloat(getComputedStyle(word).backgroundColor.split(',')[3] ?? 1) > 0.5)"
        )

    def summary(self) -> str:
        return str(self.all("article .summary")[0].text)

    def posts(self) -> list[bool]:
        return [article.is_displayed() for article in self.all("article")]

    def asked_for(self) -> list[str]:
        """The addresses of everything that the page asked for, data in the page itself apart."""
        events = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        addresses = [event["request"]["url"] for event in sent]
        return [address for address in addresses if not address.startswith("data:")]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    try:
        with chromium() as driver:
            yield driver
    except NoBrowser as missing:
        pytest.skip(str(missing))


@pytest.fixture
def browse(driver: Chrome, tmp_path: Path) -> Iterator[Callable[..., Browsed]]:
    """``browse(post, ...)``: the page of these posts, open; the browser must log no error."""

    def opened(*posts: dict[str, Any], **values: Any) -> Browsed:
        path = tmp_path / "page.html"
        write_report({**content(*posts), **values}, path)
        driver.get("about:blank")
        for kind in ("browser", "performance"):
            driver.get_log(kind)  # discard earlier entries
        driver.get(path.as_uri())
        return Browsed(driver)

    yield opened
    assert [line["message"] for line in driver.get_log("browser")] == []


def a_picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (200, 100), "red").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def ann(**values: Any) -> dict[str, Any]:
    """A post whose first word attends to the hat, all others to the cap, whose box lies in the hat's."""
    sides = {"gold": [[0, 1, "PER", "right"]], "predicted": [[0, 2, "PER", "boundary", 0.914]]}
    return a_post("Ann", "wins", "here", **{"image": a_picture(), "objects": BOXES, **sides, **values})


def test_pointing_at_a_word_highlights_its_objects(browse: Callable[..., Browsed]) -> None:
    page = browse(ann())
    assert page.values() == ["", ""]
    page.point(".predicted .word")
    assert page.values() == ["0.750", "0.250"]
    assert page.summary() == "“\u2068Ann\u2069” attends to hat 0.750, cap 0.250"
    upper, lower = page.heat()
    assert upper > 100
    assert lower == upper, "the cap's box lies in the hat's, and the highest value is shown"
    page.point(".gold .word", 2)
    assert page.values() == ["0.250", "0.750"]
    upper, lower = page.heat()
    assert lower > 100
    assert upper == pytest.approx(lower / 3, abs=1), "from zero: a third of the weight is a third of the color"


def test_pointing_at_an_entity_highlights_the_mean_of_its_words(browse: Callable[..., Browsed]) -> None:
    page = browse(ann())
    page.point(".predicted mark .type")
    assert page.values() == ["0.500", "0.500"]
    assert page.summary().startswith("“\u2068Ann wins\u2069” attend to")
    assert [word.text for word in page.all(".predicted .word.on")] == ["Ann", "wins"]
    assert page.all(".predicted mark .type")[0].text == "PER 0.91"


def test_pointing_at_an_object_highlights_the_words_that_attend_to_it(browse: Callable[..., Browsed]) -> None:
    page = browse(ann())
    page.point(".chip")
    assert page.words() == page.words("gold") == [True, False, False]
    receivers = [f"“\u2068{word}\u2069” {value}" for word, value in (("Ann", 0.75), ("wins", 0.25), ("here", 0.25))]
    assert page.summary() == f"attention to hat: {', '.join(f'{receiver}0' for receiver in receivers)}"
    cap = next(index for index, box in enumerate(page.all(".box")) if box.text == "cap")
    page.point(".box", cap)
    assert page.words() == [False, True, True]
    assert page.all(".chip.on")[0].text == "cap"


def test_nodes_of_a_custom_type(browse: Callable[..., Browsed]) -> None:
    """Two hashtags; in layer 7 alone "Ann" attends to the first, all other words to the second."""
    from selenium.webdriver import Keys

    rows = bytes([255, 0, 0, 255, 0, 255])
    part = {"layer": "7", "relation": "topics", "what": "attention", "sender": "hashtag", "heads": 1, "count": 2}
    post = ann(nodes=[["hashtag", ["#oakland", HOSTILE[0]]], ["scene", []]])
    post["parts"].append({**part, "most": 0.8, "data": base64.b64encode(rows).decode()})
    page = browse(post)
    assert [title.text for title in page.all(".node-type")] == ["HASHTAG"], "no title of a list without nodes"
    assert [chip.text for chip in page.all(".chip")] == ["hat", "cap", "#oakland", HOSTILE[0]]
    page.point(".predicted .word")
    assert page.values() == ["0.750", "0.250", "0.800", "0.000"]
    assert page.summary() == (
        f"“\u2068Ann\u2069” attends to hat 0.750, cap 0.250; hashtag: #oakland 0.800, {HOSTILE[0]} 0.000"
    )
    page.point(".chip", 2)
    assert page.words() == page.words("gold") == [True, False, False]
    assert page.summary().startswith("attention to #oakland: “\u2068Ann\u2069” 0.800, ")
    assert page.all(".chip.on")[0].text.startswith("#oakland")
    page.all("#layer")[0].send_keys(Keys.ARROW_RIGHT)
    assert page.all("#layer-name")[0].text == "4"
    page.point(".predicted .word")
    assert page.values() == ["1.000", "0.000", "", ""], "layer 4 has no attention to hashtags"
    page.point(".chip", 3)
    assert page.summary() == "No attention of words to the nodes shown here is recorded in this layer."


def test_layers_and_heads(browse: Callable[..., Browsed]) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.select import Select

    page = browse(ann())
    slider, head = page.all("#layer")[0], page.all("#head")[0]
    page.point(".predicted .word", click=True)
    page.point(".predicted .word", 2)
    assert page.values() == ["0.750", "0.250"], "a click keeps it"
    # in the second layer the second head attends to the other object
    width = slider.size["width"]
    ActionChains(page.driver, duration=0).move_to_element_with_offset(
        slider, 8 - width // 2, 0
    ).click_and_hold().move_by_offset(width - 16, 0).release().perform()
    assert page.all("#layer-name")[0].text == "7"
    assert page.values() == ["0.500", "0.500"]
    Select(head).select_by_visible_text("1")
    assert page.values() == ["0.000", "1.000"]
    slider.send_keys(Keys.ARROW_LEFT)
    assert page.all("#layer-name")[0].text == "4"
    assert page.values() == ["1.000", "0.000"]
    page.press(Keys.ESCAPE)
    assert page.values() == ["", ""]
    assert page.heat() == []
    page.point(".predicted .word", 2)
    assert page.values() == ["0.000", "1.000"], "Escape lets it go"


def test_by_keyboard(browse: Callable[..., Browsed]) -> None:
    from selenium.webdriver import Keys

    page = browse(ann(gold=None))
    page.all("#find")[0].click()
    page.press(Keys.TAB)
    assert page.summary().startswith("“\u2068Ann wins\u2069” attend to"), "the entity comes first"
    page.press(Keys.TAB)
    assert page.summary().startswith("attention to hat: ")
    page.press(Keys.ENTER, Keys.TAB)
    assert page.summary().startswith("attention to hat: ")


def test_filters(browse: Callable[..., Browsed]) -> None:
    posts = [
        ann(errors=["boundary"]),
        a_post("Bob", "runs", gold=[[0, 1, "PER", "missed"]], errors=["missed"]),
        a_post("Eve", "runs", gold=[]),
    ]
    page = browse(*posts)
    assert page.posts() == [True, True, True]
    page.point("#kinds input[value=missed]", click=True)
    assert page.posts() == [False, True, False]
    assert page.all("#count")[0].text == "1 of 3 posts"
    page.point("#kinds input[value=boundary]", click=True)
    assert page.posts() == [True, True, False]
    page.all("#find")[0].send_keys("RUNS")
    assert page.posts() == [False, True, False]


def a_summary(**values: Any) -> dict[str, Any]:
    return {**content()["summary"], **values}


def test_summary_above_the_posts(browse: Callable[..., Browsed]) -> None:
    scores = [["all", 0.5, 0.25, 0.3333, 8], ["PER", 1.0, 0.5, 0.6667, 4], [HOSTILE[2], 0.0, 0.0, 0.0, 4]]
    confidence = {"right": [0] * 9 + [6], "wrong": [2] + [0] * 8 + [3], "unknown": [0] * 10}
    errors = {"missed": 3, "spurious": 0, "boundary": 1, "type": 2}
    counts = {"posts": 20, "labelled": 20, "with_errors": 5, "without_image": 4}
    summary = a_summary(scores=scores, confidence=confidence, errors=errors, **counts)
    page = browse(ann(), summary=summary, facts=[["model", "UMGF"], ["data", "Twitter2017, test"]])
    rows = [row.text for row in page.all("#summary tr")]
    assert rows == [
        "model UMGF",
        "data Twitter2017, test",
        "posts 20, 4 without an image",
        "type P R F1 gold",
        "all 50.0 25.0 33.3 8",
        "PER 100.0 50.0 66.7 4",
        f"{HOSTILE[2]} 0.0 0.0 0.0 4",
        "missed 3",
        "spurious 0",
        "boundary 1",
        "type 2",
    ]
    assert page.all("#summary .errors .key")[0].text == "in 5 of 20 posts"
    heights = page.js(
        "return [...document.querySelectorAll('.histogram > div')].map((column) =>"
        "[...column.children].map((part) => part.getBoundingClientRect().height))"
    )
    (wrong, right), (lowest, _) = heights[9], heights[0]
    assert right == pytest.approx(2 * wrong, abs=1), "6 right ones and 3 wrong ones of 0.9 and more"
    assert lowest == pytest.approx(right / 3, abs=1)
    assert all(sum(column) == 0 for column in heights[1:9])
    assert page.all("#summary .confidence .key")[0].text.split() == ["6", "right", "5", "wrong"]
    widths = [bar.size["width"] for bar in page.all("#summary .bar")]
    assert widths[0] == pytest.approx(3 * widths[1], abs=1)


def test_a_run_without_errors(browse: Callable[..., Browsed]) -> None:
    right = summarize([Pair(("Ann",), ("B-PER",))] * 20, [[Entity(0, 1, "PER", 0.9)]] * 20)
    page = browse(summary=right.to_dict())
    assert page.all("#empty")[0].text == "The model makes no error in 20 posts."
    assert not page.all("header")[0].is_displayed()
    assert browse().all("#empty")[0].text == "There are no posts."


def test_filters_that_nothing_matches(browse: Callable[..., Browsed]) -> None:
    page = browse(ann())
    assert not page.all("#empty")[0].is_displayed()
    page.all("#find")[0].send_keys("nothing of this kind")
    assert page.all("#empty")[0].text == "No post matches the filters."


def test_sorting(browse: Callable[..., Browsed]) -> None:
    from selenium.webdriver.support.select import Select

    right, wrong = [0, 1, "PER", "right", 0.6], [0, 1, "PER", "spurious", 0.8]
    page = browse(
        a_post("one", id="a", gold=[[0, 1, "PER", "right"]], predicted=[right]),
        a_post("two", "words", "here", id="b", gold=[[1, 2, "PER", "missed"]], predicted=[]),
        a_post("three", "words", id="c", gold=[[1, 2, "PER", "missed"]], predicted=[wrong]),
    )

    def order(name: str) -> str:
        Select(page.all("#sort")[0]).select_by_visible_text(name)
        return "".join(title.text.split()[0] for title in page.all("article h2"))

    assert order("most errors") == "cba"
    assert order("least certain") == "acb", "posts without entities come last"
    assert order("surest errors") == "cab"
    assert order("longest") == "bca"
    assert order("as given") == "abc"
    page.point(".predicted .word")
    assert page.summary().startswith("“\u2068one\u2069” attends to")


def test_posts_without_gold_are_not_sorted_by_errors(browse: Callable[..., Browsed]) -> None:
    page = browse(a_post("one"))
    assert page.js("return [...document.getElementById('sort').options].map((option) => option.text)") == [
        "as given",
        "least certain",
        "longest",
    ]


def test_posts_without_image_or_objects_say_so(browse: Callable[..., Browsed]) -> None:
    bare = {"objects": [], "parts": []}
    page = browse(
        a_post("one", **bare),
        a_post("two", image_fault="truncated, or not an image", **bare),
        ann(**bare),
        ann(),
    )
    said = page.js(
        "return [...document.querySelectorAll('article')].map((post) => post.querySelector('.none')?.innerText)"
    )
    assert said == [
        "This post has no image.",
        "The image cannot be shown: truncated, or not an image.",
        "No objects were found in the image.",
        None,
    ]


@pytest.mark.parametrize("width", [1100, 420])
def test_widths(browse: Callable[..., Browsed], driver: Chrome, width: int) -> None:
    """At 1100 pixels the controls are in one row; at 420 nothing is wider than the window."""
    errors = {"missed": 123, "spurious": 45, "boundary": 678, "type": 90}
    scores = [["all", 0.5, 0.25, 0.3333, 8], ["an unusually long entity type", 1.0, 0.5, 0.6667, 4]]
    confidence = {"right": [5] * 10, "wrong": [3] * 10, "unknown": [0] * 10}
    facts = [["text encoder", "sentence-transformers-all-MiniLM-L6-v2-" * 3], ["data", "Twitter2017, test"]]
    summary = a_summary(posts=99, labelled=99, scores=scores, errors=errors, confidence=confidence)
    posts = [ann(id=f"{'long' * 30}{index}", errors=["missed", "spurious", "boundary", "type"]) for index in range(100)]
    try:
        driver.set_window_size(width, 900)
        page = browse(*posts, facts=facts, summary=summary)
        assert page.js("return document.documentElement.clientWidth") == width
        assert page.js("return document.documentElement.scrollWidth") == width
        tops = page.js(
            "return [...document.querySelectorAll('header label, header #find, header #count')]"
            ".map((part) => part.getBoundingClientRect()).map((box) => (box.top + box.bottom) / 2)"
        )
        assert len(tops) == 2 + len(ERROR_KINDS) + 1 + 2
        if width == 1100:
            assert max(tops) - min(tops) < 6, "one row"
        parts = "[...document.querySelectorAll('.card *, header *')]"
        assert page.js(f"return Math.max(...{parts}.map((part) => part.getBoundingClientRect().right))") <= width
    finally:
        driver.set_window_size(1300, 900)


def test_smallest_of_overlapping_boxes_is_selected(browse: Callable[..., Browsed]) -> None:
    page = browse(ann(objects=BOXES[::-1]))
    index = next(index for index, box in enumerate(page.all(".box")) if box.text == "cap")
    page.point(".box", index)
    assert page.summary().startswith("attention to cap: ")


def test_grid_cells(browse: Callable[..., Browsed]) -> None:
    cells = bytes([0, 0, 0, 255]) + bytes(8)
    part = {"layer": "4", "relation": "shows", "what": "attention", "sender": "image", "heads": 1, "count": 4}
    parts = [{**part, "most": 0.8, "data": base64.b64encode(cells).decode()}]
    page = browse(ann(objects=[], parts=parts))
    page.point(".predicted .word")
    upper, lower = page.heat()
    assert upper == 0
    assert lower > 100
    assert page.summary().endswith("attends to the image's 4 regions 0.000 to 0.800")


def test_a_model_without_images(browse: Callable[..., Browsed]) -> None:
    page = browse(a_post("Ann", "wins", parts=[], objects=[]), layers=[], heads=0)
    assert not page.all("#layer")[0].is_displayed()
    assert not page.all("#kinds")[0].is_displayed(), "without gold there are no errors"
    page.point(".word")
    assert page.summary() == "No attention of words to the nodes shown here is recorded."


def test_images_load_when_their_post_is_near(browse: Callable[..., Browsed]) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    page = browse(*[ann(id=str(index)) for index in range(30)])

    def widths() -> list[int]:
        return page.js("return [...document.images].map((image) => image.naturalWidth)")

    wait = WebDriverWait(page.driver, 10, 0.05)
    wait.until(lambda _: widths()[0] == 200)
    assert widths()[-1] == 0
    page.js("document.querySelector('article:last-child').scrollIntoView()")
    wait.until(lambda _: widths()[-1] == 200)


def test_predictions_of_further_heads(browse: Callable[..., Browsed]) -> None:
    page = browse(a_post("hi", tasks=[["matters", "label no, score 0.7", "yes"], [HOSTILE[0], HOSTILE[1], None]]))
    lines = page.js("return [...document.querySelectorAll('.task')].map((line) => line.textContent)")
    assert lines == ["matters label no, score 0.7; gold: yes", f"{HOSTILE[0]} {HOSTILE[1]}"]


def test_hostile_text_is_inert(browse: Callable[..., Browsed]) -> None:
    labels = [{"label": text, "score": 1.0, "box": [0, 0, 1, 1]} for text in HOSTILE]
    expected = {"id": HOSTILE[0], "caption": HOSTILE[2], "image": a_picture(), "parts": []}
    predicted = [[0, 1, HOSTILE[3], "spurious", 0.5]]
    page = browse(a_post(*HOSTILE, objects=labels, predicted=predicted, **expected), a_post("hi"), model=HOSTILE[2])
    page.point(".word", 2)
    page.point(".chip", 2)
    shown = page.js("return [...document.querySelectorAll('article:first-child .word')].map((w) => w.textContent)")
    assert shown == [text.replace("\ud800", "?") for text in HOSTILE]
    inside = page.js("return [...new Set([...document.querySelectorAll('main *')].map((e) => e.localName))]")
    assert set(inside) == {"article", "b", "div", "h2", "img", "mark", "p", "span"}
    assert page.driver.title == f"Predictions and attention of {HOSTILE[2]}"
    (address,) = page.asked_for()
    assert address.startswith("file:")


def test_injected_html_is_blocked_by_the_content_policy(browse: Callable[..., Browsed]) -> None:
    """The content policy: even if text were parsed as HTML, nothing in it would run or be fetched."""
    page = browse(a_post("hi"))
    page.js(
        "document.body.insertAdjacentHTML('beforeend', "
        "'<img src=http://x.invalid/a.png><img src=data: onerror=\"window.ran = 1\">');"
        "const script = document.createElement('script'); script.textContent = 'window.ran = 2';"
        "document.body.append(script);"
    )
    refused = [line["message"] for line in page.driver.get_log("browser")]
    assert len([expected for expected in refused if "Content Security Policy" in expected]) == 3, refused
    assert page.js("return window.ran") is None


def test_boxes_of_an_entity_are_outlined(browse: Callable[..., Browsed]) -> None:
    gold = [[0, 1, "PER", "right", [[0, 0, 1, 1], [0.5, 0.5, 1, 1]]], [1, 2, "LOC", "missed", []]]
    predicted = [[0, 1, "PER", "right", 0.9, [1, 0.75]], [1, 2, "LOC", "spurious", 0.8, [None, 0.625]]]
    page = browse(ann(gold=gold, predicted=predicted))
    outlines = "return [...document.querySelectorAll('.outline')].map((one) => [one.className, one.style.left])"
    page.point(".predicted mark .type", 0)
    assert page.summary().startswith(
        "“\u2068Ann\u2069” is shown by cap, probability 0.750. “\u2068Ann\u2069” attends to"
    )
    assert page.js(outlines) == [["outline", "50%"]]
    assert page.all(".chip")[1].get_attribute("class") == "object chip on"
    page.point(".predicted mark .type", 1)
    assert page.summary().startswith("“\u2068wins\u2069” is not in the image, probability 0.625. ")
    assert page.js(outlines) == []
    page.point(".gold mark .type", 0)
    assert page.summary().startswith("“\u2068Ann\u2069” has 2 gold boxes. ")
    assert page.js(outlines) == [["outline gold", "0%"], ["outline gold", "50%"]]
    page.point(".gold mark .type", 1)
    assert page.summary().startswith("“\u2068wins\u2069” is not in the image. ")
