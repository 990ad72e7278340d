// What lights up, and for how long.

const TOLD = 5; // how many of the strongest are told in words and named on the picture
const SIDE = 480; // of the drawing of heat, in pixels, before it is stretched over the picture
const heat = make("canvas", "heat"); // one for the whole page; it lies on the picture that is looked at
heat.width = heat.height = SIDE;
let lit = null; // what is pointed at: its post's view, and words or an object
let kept = false; // whether it stays lit wherever the pointer goes

function clear() {
  if (!lit) return;
  const { view } = lit;
  for (const element of view.article.querySelectorAll(".on, .strong")) element.classList.remove("on", "strong");
  for (const word of view.words.flat()) word.style.background = "";
  for (const { chip } of view.objects) chip.style.background = "";
  for (const value of view.article.querySelectorAll(".value")) value.textContent = "";
  view.told.textContent = "";
  view.article.classList.remove("kept");
  heat.remove();
}

function light(next) {
  clear();
  lit = next;
  if (!lit) return;
  lit.view.article.classList.toggle("kept", kept);
  if (lit.object === undefined) lightObjects(lit);
  else lightWords(lit);
}

/** The target of the element that an event is of, or of the nearest one around it. */
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

/** What these words heard: on the list of objects, on the picture, and in words. */
function lightObjects({ view, words }) {
  for (const word of words) for (const span of view.words[word]) span.classList.add("on");
  const objects = heard(view.post, words, "object");
  const cells = heard(view.post, words, "image");
  if (objects) {
    scaled(objects).forEach((share, place) => {
      const { chip, box } = view.objects[place];
      chip.style.background = tinted(share);
      for (const element of [chip, box && box.name]) {
        if (element) element.querySelector(".value").textContent = ` ${objects[place].toFixed(3)}`;
      }
    });
    for (const place of strongest(objects, TOLD)) {
      if (view.objects[place].box) view.objects[place].box.name.classList.add("strong");
    }
  }
  if (view.frame) drawHeat(view, objects, cells);
  const said = [];
  if (objects) said.push(listed(objects, (place) => named(view.post.objects[place], place)));
  if (cells && cells.length === 1) said.push(`the picture ${cells[0].toFixed(3)}`);
  else if (cells) {
    const ends = [Math.min(...cells), Math.max(...cells)].map((value) => value.toFixed(3));
    said.push(`the picture's ${cells.length} cells from ${ends[0]} to ${ends[1]}`);
  }
  const subject = quoted(words.map((word) => view.post.words[word]).join(" "));
  view.told.textContent = said.length ? `${subject} heard ${said.join("; ")}` : nothing();
}

/** By which words this object was heard. */
function lightWords({ view, object }) {
  const { chip, box } = view.objects[object];
  chip.classList.add("on");
  if (box) box.element.classList.add("on");
  const rows = view.post.words.map((_, word) => heard(view.post, [word], "object"));
  if (!rows[0]) {
    view.told.textContent = nothing();
    return;
  }
  const values = rows.map((row) => row[object]);
  scaled(values).forEach((share, word) => {
    for (const span of view.words[word]) span.style.background = tinted(share);
  });
  const hearers = listed(values, (word) => quoted(view.post.words[word]));
  view.told.textContent = `${named(view.post.objects[object], object)} was heard by ${hearers}`;
}

/** Cells, and above them boxes; where boxes overlap the strongest is seen, not their sum. */
function drawHeat(view, objects, cells) {
  const pen = heat.getContext("2d");
  pen.clearRect(0, 0, SIDE, SIDE);
  const fill = (share, left, top, right, bottom) => {
    const place = [left * SIDE, top * SIDE, (right - left) * SIDE, (bottom - top) * SIDE];
    pen.clearRect(...place);
    pen.fillStyle = tinted(share);
    pen.fillRect(...place);
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
    for (const place of strongest(shares, shares.length).reverse()) {
      if (view.objects[place].box) fill(shares[place], ...view.post.objects[place].box);
    }
  }
  view.frame.append(heat);
}

function listed(values, name) {
  const told = strongest(values, TOLD).map((place) => `${name(place)} ${values[place].toFixed(3)}`);
  return told.join(", ") + (values.length > TOLD ? `, and ${values.length - TOLD} more` : "");
}

function quoted(text) {
  return `\u201c\u2068${text}\u2069\u201d`; // what is read from the right stays within its quotes
}

function nothing() {
  return `No word weighed objects or the picture${chosen.layer ? " in this layer" : ""}.`;
}
