// Highlights: what a selection shows, and how long it lasts.

const TOP = 5; // so many of the highest weights are listed, and named on the image
const SIDE = 480; // of the heat map, in pixels, before it is scaled to the image
const heat = make("canvas", "heat"); // one for the whole page; it is on the image of the selected post
heat.width = heat.height = SIDE;
let lit = null; // the selection: its post's view, and words or a node
let kept = false; // whether it stays wherever the pointer goes

function clear() {
  if (!lit) return;
  const { view } = lit;
  for (const element of view.article.querySelectorAll(".on, .strong")) element.classList.remove("on", "strong");
  for (const word of view.words.flat()) word.style.background = "";
  for (const nodes of view.nodes.values()) for (const { chip } of nodes) chip.style.background = "";
  for (const value of view.article.querySelectorAll(".value")) value.textContent = "";
  view.summary.textContent = "";
  for (const outline of view.article.querySelectorAll(".outline")) outline.remove();
  view.article.classList.remove("kept");
  heat.remove();
}

function light(next) {
  clear();
  lit = next;
  if (!lit) return;
  lit.view.article.classList.toggle("kept", kept);
  if (lit.words) lightNodes(lit);
  else lightWords(lit);
}

/** The selection of the element that an event is of, or of the nearest one around it. */
function targetOf(event) {
  let element = event.target;
  while (element && !targets.has(element)) element = element.parentElement;
  return element ? targets.get(element) : null;
}

function point(event) {
  const target = targetOf(event);
  if (target && !kept) light(target);
}

function keep(target) {
  kept = Boolean(target);
  light(target);
}

function tinted(share) {
  return `rgba(0, 114, 178, ${(0.6 * share).toFixed(3)})`;
}

/** Attention of these words: on the lists of nodes, on the image, and in the summary. */
function lightNodes({ view, words, region, boxes, color: ofType }) {
  for (const word of words) for (const span of view.words[word]) span.classList.add("on");
  const parts = [];
  for (const [nodeType, nodes] of view.nodes) {
    const values = attention(view.post, words, nodeType);
    if (!values) continue;
    scaled(values).forEach((share, index) => {
      const { chip, box } = nodes[index];
      chip.style.background = tinted(share);
      for (const element of [chip, box && box.name]) {
        if (element) element.querySelector(".value").textContent = ` ${values[index].toFixed(3)}`;
      }
    });
    for (const index of strongest(values, TOP)) {
      if (nodes[index].box) nodes[index].box.name.classList.add("strong");
    }
    const list = listed(values, (index) => nodes[index].name);
    parts.push(nodeType === "object" ? list : `${nodeType}: ${list}`);
  }
  const cells = attention(view.post, words, "image");
  if (view.frame) drawHeat(view, attention(view.post, words, "object"), cells);
  if (cells && cells.length === 1) parts.push(`the image ${cells[0].toFixed(3)}`);
  else if (cells) {
    const ends = [Math.min(...cells), Math.max(...cells)].map((value) => value.toFixed(3));
    parts.push(`the image's ${cells.length} regions ${ends[0]} to ${ends[1]}`);
  }
  const subject = quoted(words.map((word) => view.post.words[word]).join(" "));
  const verb = words.length > 1 ? "attend to" : "attends to";
  const said = parts.length ? `${subject} ${verb} ${parts.join("; ")}` : nothing();
  view.summary.textContent = lightRegion(view, subject, region, boxes, ofType) + said;
}

/** The box that shows a predicted entity, or a gold entity's boxes, outlined; returns what is said of them. */
function lightRegion(view, subject, region, boxes, ofType) {
  const outlined = [...(boxes || [])];
  let said = "";
  if (region) {
    const [object] = region;
    if (object !== null) {
      view.nodes.get("object")[object].chip.classList.add("on");
      if (view.post.objects[object].box) outlined.push(view.post.objects[object].box);
    }
    said = `${subject} is ${whereShown(view, region)}. `;
  } else if (boxes) {
    said = `${subject} ${boxes.length ? `has ${boxes.length} gold box${boxes.length > 1 ? "es" : ""}` : "is not in the image"}. `;
  }
  if (view.frame) {
    for (const [left, top, right, bottom] of outlined) {
      const outline = make("div", region ? "outline" : "outline gold");
      const sides = { left, top, width: right - left, height: bottom - top };
      for (const [side, share] of Object.entries(sides)) outline.style[side] = `${100 * share}%`;
      outline.style.borderColor = ofType;
      view.frame.append(outline);
    }
  }
  return said;
}

/** The words' attention to this node. */
function lightWords({ view, nodeType, node }) {
  const { name, chip, box } = view.nodes.get(nodeType)[node];
  chip.classList.add("on");
  if (box) box.element.classList.add("on");
  const rows = view.post.words.map((_, word) => attention(view.post, [word], nodeType));
  if (!rows[0]) {
    view.summary.textContent = nothing();
    return;
  }
  const values = rows.map((row) => row[node]);
  scaled(values).forEach((share, word) => {
    for (const span of view.words[word]) span.style.background = tinted(share);
  });
  view.summary.textContent = `attention to ${name}: ${listed(values, (word) => quoted(view.post.words[word]))}`;
}

/** Regions, and above them boxes; where boxes overlap the highest value is shown, not the sum. */
function drawHeat(view, objects, cells) {
  const pen = heat.getContext("2d");
  pen.clearRect(0, 0, SIDE, SIDE);
  const fill = (share, left, top, right, bottom) => {
    const area = [left * SIDE, top * SIDE, (right - left) * SIDE, (bottom - top) * SIDE];
    pen.clearRect(...area);
    pen.fillStyle = tinted(share);
    pen.fillRect(...area);
  };
  if (cells && cells.length > 1) {
    const side = Math.round(Math.sqrt(cells.length));
    scaled(cells).forEach((share, cell) => {
      const [left, top] = [cell % side, Math.floor(cell / side)];
      fill(share, left / side, top / side, (left + 1) / side, (top + 1) / side);
    });
  }
  if (objects) {
    const shares = scaled(objects);
    for (const index of strongest(shares, shares.length).reverse()) {
      if (view.nodes.get("object")[index].box) fill(shares[index], ...view.post.objects[index].box);
    }
  }
  view.frame.append(heat);
}

function listed(values, name) {
  const items = strongest(values, TOP).map((index) => `${name(index)} ${values[index].toFixed(3)}`);
  return items.join(", ") + (values.length > TOP ? `, and ${values.length - TOP} more` : "");
}

function quoted(text) {
  return `\u201c\u2068${text}\u2069\u201d`; // right-to-left text stays within its quotes
}

function nothing() {
  return `No attention of words to the nodes shown here is recorded${chosen.layer ? " in this layer" : ""}.`;
}
