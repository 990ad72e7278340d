// One post: its sentence on both sides, its picture and its objects. All text is set as text, never as HTML.

// Okabe and Ito's colours, light enough for black letters
const COLOURS = ["#8cc8ea", "#f4b183", "#7fd6b8", "#e6bcd3", "#f2cf80", "#f6ee98", "#c8c8c8"];
const FEW = 8; // boxes whose names find room on the picture all at once

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function colour(type) {
  const place = content.types.indexOf(type);
  return COLOURS[(place < 0 ? content.types.length : place) % COLOURS.length];
}

function named(object, place) {
  return object.label || `object ${place + 1}`;
}

const sources = new WeakMap(); // by image, its data, which is unpacked when its post comes near
const targets = new WeakMap(); // by element, what pointing at it or at what is in it lights

/** A line of the post's words with these entities, [start, end, type, kind of error, score if predicted]. */
function sentence(view, entities) {
  const line = make("div", "sentence");
  line.dir = "auto";
  const words = view.post.words.map((text, place) => {
    const word = make("span", "word", text);
    view.words[place].push(word);
    targets.set(word, { view, words: [place] });
    return word;
  });
  const starts = new Map(entities.map((entity) => [entity[0], entity]));
  for (let place = 0; place < words.length; ) {
    const entity = starts.get(place);
    if (!entity) {
      line.append(words[place], " ");
      place += 1;
      continue;
    }
    const [start, end, type, kind, score] = entity;
    const mark = make("mark", kind === "type" ? "type-error" : kind);
    mark.style.background = colour(type);
    mark.tabIndex = 0;
    mark.title = score === undefined ? `${type}: ${kind}` : `${type}, probability ${score.toFixed(3)}: ${kind}`;
    for (; place < end; place += 1) mark.append(words[place], place + 1 < end ? " " : "");
    mark.append(make("span", "type", score === undefined ? type : `${type} ${score.toFixed(2)}`));
    targets.set(mark, { view, words: [...Array(end - start).keys()].map((word) => start + word) });
    line.append(mark, " ");
  }
  return line;
}

/** The picture with its boxes, and a list of all objects beneath. */
function picture(view) {
  const { post } = view;
  const side = make("div");
  if (post.picture) {
    view.frame = make("div", "picture");
    const image = make("img");
    image.alt = post.caption || "the post's picture";
    sources.set(image, post.picture);
    view.frame.append(image);
    side.append(view.frame);
  }
  const chips = make("div", "chips");
  view.objects = post.objects.map((object, place) => {
    const chip = make("div", "object chip", named(object, place));
    chip.dir = "auto";
    chip.tabIndex = 0;
    chip.title = `${named(object, place)}, the detector's score ${object.score}`;
    chip.append(make("span", "value"));
    targets.set(chip, { view, object: place });
    chips.append(chip);
    return { chip, box: object.box && view.frame ? box(view, object, place) : null };
  });
  // the smallest on top, so that each can be pointed at
  const boxes = view.objects.flatMap((object) => object.box || []);
  boxes.sort((one, other) => other.area - one.area);
  if (boxes.length <= FEW) for (const { name } of boxes) name.classList.add("always");
  for (const { element } of boxes) view.frame.append(element);
  if (post.objects.length) side.append(chips);
  if (post.caption) {
    const caption = make("p", "caption", post.caption);
    caption.dir = "auto";
    side.append(caption);
  }
  return side;
}

function box(view, object, place) {
  const [left, top, right, bottom] = object.box;
  const element = make("div", "object box");
  const name = make("span", left > 0.7 ? "name late" : "name", named(object, place));
  Object.assign(element.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
  name.append(make("span", "value"));
  element.append(name);
  targets.set(element, { view, object: place });
  return { element, name, area: (right - left) * (bottom - top) };
}

/** The post's part of the page, and what of it can be lit. */
function show(post) {
  const view = { post, article: make("article"), words: post.words.map(() => []), objects: [], frame: null };
  const text = make("div");
  const title = make("h2", "", post.id || "post");
  title.append(" ", make("span", "", post.errors.join(", ")));
  text.append(title);
  for (const [name, entities] of [["gold", post.gold], ["predicted", post.said]]) {
    if (!entities) continue;
    const side = make("div", `side ${name}`);
    side.append(make("b", "", name), sentence(view, entities));
    text.append(side);
  }
  view.told = make("p", "told");
  view.told.setAttribute("aria-live", "polite");
  text.append(view.told);
  view.article.append(text, picture(view));
  document.getElementById("list").append(view.article);
  return view;
}
