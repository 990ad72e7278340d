// One post: its gold and predicted entities, its image and its nodes. All text is set as text, never as HTML.

// Okabe and Ito's colors, light enough for black text
const COLORS = ["#8cc8ea", "#f4b183", "#7fd6b8", "#e6bcd3", "#f2cf80", "#f6ee98", "#c8c8c8"];
const FEW = 8; // up to so many boxes have their names on the image all the time

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function color(type) {
  const index = content.types.indexOf(type);
  return COLORS[(index < 0 ? content.types.length : index) % COLORS.length];
}

function named(object, index) {
  return object.label || `object ${index + 1}`;
}

const sources = new WeakMap(); // by image element, its data, which is set when its post comes near
const targets = new WeakMap(); // by element, the selection made by pointing at it or at an element inside it

/** Where the image shows a predicted entity: [object, null for nowhere, probability]; null for models that do not say. */
function whereShown(view, region) {
  if (!region) return "";
  const [object, probability] = region;
  const where = object === null ? "not in the image" : `shown by ${named(view.post.objects[object], object)}`;
  return `${where}, probability ${probability.toFixed(3)}`;
}

/**
 * A line of the post's words with these entities: predicted ones are [start, end, type, kind of error, score, region],
 * gold ones [start, end, type, kind of error, boxes].
 */
function sentence(view, entities) {
  const line = make("div", "sentence");
  line.dir = "auto";
  const words = view.post.words.map((text, index) => {
    const word = make("span", "word", text);
    view.words[index].push(word);
    targets.set(word, { view, words: [index] });
    return word;
  });
  const starts = new Map(entities.map((entity) => [entity[0], entity]));
  for (let index = 0; index < words.length; ) {
    const entity = starts.get(index);
    if (!entity) {
      line.append(words[index], " ");
      index += 1;
      continue;
    }
    const [start, end, type, kind] = entity;
    const score = view.post.predicted === entities ? entity[4] : undefined;
    const region = score === undefined ? null : entity[5];
    const boxes = score === undefined ? entity[4] : null;
    const mark = make("mark", kind === "type" ? "type-error" : kind);
    mark.style.background = color(type);
    mark.tabIndex = 0;
    const error = kind === "both" ? "boundary and type" : kind;
    mark.title = score === undefined ? `${type}: ${error}` : `${type}, probability ${score.toFixed(3)}: ${error}`;
    if (region) mark.title += `; ${whereShown(view, region)}`;
    for (; index < end; index += 1) mark.append(words[index], index + 1 < end ? " " : "");
    mark.append(make("span", "type", score === undefined ? type : `${type} ${score.toFixed(2)}`));
    const inside = [...Array(end - start).keys()].map((word) => start + word);
    targets.set(mark, { view, words: inside, region, boxes, color: color(type) });
    line.append(mark, " ");
  }
  return line;
}

/** A list of nodes of one type as chips; fills view.nodes for this type with {name, chip, box}. */
function chips(view, nodeType, names, titles) {
  const list = make("div", "chips");
  const nodes = names.map((name, index) => {
    const chip = make("div", "object chip", name);
    chip.dir = "auto";
    chip.tabIndex = 0;
    chip.title = titles[index];
    chip.append(make("span", "value"));
    targets.set(chip, { view, nodeType, node: index });
    list.append(chip);
    return { name, chip, box: null };
  });
  view.nodes.set(nodeType, nodes);
  return list;
}

/** The image with its boxes, and below it lists of all objects and of the nodes of further types. */
function imageSide(view) {
  const { post } = view;
  const side = make("div");
  if (post.image) {
    view.frame = make("div", "image");
    const image = make("img");
    image.alt = post.caption || "the post's image";
    sources.set(image, post.image);
    view.frame.append(image);
    side.append(view.frame);
  } else {
    const fault = post.image_fault ? `The image cannot be shown: ${post.image_fault}.` : "This post has no image.";
    side.append(make("p", "none", fault));
  }
  const names = post.objects.map(named);
  const list = chips(view, "object", names, post.objects.map((object, index) => `${names[index]}, the detector's score ${object.score}`));
  const objects = view.nodes.get("object");
  if (view.frame) {
    post.objects.forEach((object, index) => {
      if (object.box) objects[index].box = box(view, object, index);
    });
  }
  // the smallest on top, so that each can be pointed at
  const boxes = objects.flatMap((object) => object.box || []);
  boxes.sort((one, other) => other.area - one.area);
  if (boxes.length <= FEW) for (const { name } of boxes) name.classList.add("always");
  for (const { element } of boxes) view.frame.append(element);
  if (post.objects.length) side.append(list);
  else if (post.image && content.posts.some(({ objects }) => objects.length)) {
    side.append(make("p", "none", "No objects were found in the image."));
  }
  for (const [nodeType, labels] of post.nodes) {
    if (!labels.length) continue;
    const titles = labels.map((label, index) => `${nodeType} ${index + 1}`);
    side.append(make("b", "node-type", nodeType), chips(view, nodeType, labels, titles));
  }
  if (post.caption) {
    const caption = make("p", "caption", post.caption);
    caption.dir = "auto";
    side.append(caption);
  }
  return side;
}

function box(view, object, index) {
  const [left, top, right, bottom] = object.box;
  const element = make("div", "object box");
  const name = make("span", left > 0.7 ? "name late" : "name", named(object, index));
  Object.assign(element.style, {
    left: `${100 * left}%`,
    top: `${100 * top}%`,
    width: `${100 * (right - left)}%`,
    height: `${100 * (bottom - top)}%`,
  });
  name.append(make("span", "value"));
  element.append(name);
  targets.set(element, { view, nodeType: "object", node: index });
  return { element, name, area: (right - left) * (bottom - top) };
}

/** The post's part of the page, and its elements that a selection highlights. */
function show(post) {
  const view = { post, article: make("article"), words: post.words.map(() => []), nodes: new Map(), frame: null };
  const text = make("div");
  const title = make("h2", "", post.id || "post");
  title.append(" ", make("span", "", post.errors.join(", ")));
  text.append(title);
  for (const [name, entities] of [["gold", post.gold], ["predicted", post.predicted]]) {
    if (!entities) continue;
    const side = make("div", `side ${name}`);
    side.append(make("b", "", name), sentence(view, entities));
    text.append(side);
  }
  for (const [name, predicted, gold] of post.tasks) {
    const task = make("p", "side task");
    task.append(make("b", "", name), ` ${predicted}${gold === null ? "" : `; gold: ${gold}`}`);
    text.append(task);
  }
  view.summary = make("p", "summary");
  view.summary.setAttribute("aria-live", "polite");
  text.append(view.summary);
  view.article.append(text, imageSide(view));
  document.getElementById("list").append(view.article);
  return view;
}
