// Filters of posts, selection of layer and head, pointer and keys.

const KINDS = ["missed", "spurious", "boundary", "type", "both"];
const [layer, head, find, sort] = ["layer", "head", "find", "sort"].map((id) => document.getElementById(id));
const views = content.posts.map(show);
const filters = new Set();

function unpack(article) {
  const image = article.querySelector("img");
  if (image && !image.src) image.src = sources.get(image);
}

function filter() {
  const text = find.value.toLowerCase();
  let count = 0;
  for (const { post, article } of views) {
    const erred = !filters.size || post.errors.some((kind) => filters.has(kind));
    const matches = `${post.id} ${post.words.join(" ")}`.toLowerCase().includes(text);
    article.hidden = !(erred && matches);
    count += erred && matches ? 1 : 0;
  }
  document.getElementById("count").textContent = `${count} of ${views.length} posts`;
  const empty = document.getElementById("empty");
  empty.hidden = count > 0;
  empty.textContent = views.length ? "No post matches the filters." : nothingToShow();
}

/** Why there are no posts. */
function nothingToShow() {
  const { posts, labelled } = content.summary;
  if (!posts) return "There are no posts.";
  return labelled ? `The model makes no error in ${plural(posts, "post")}.` : "No posts were chosen to be shown.";
}

/** The numbers by which posts are sorted, the lowest first. */
const ORDERS = {
  "as given": () => 0,
  "most errors": ({ gold, predicted }) => -errors(gold || []) - predicted.filter((it) => it[3] === "spurious").length,
  "least certain": ({ predicted }) => Math.min(2, ...predicted.map((entity) => entity[4])),
  "surest errors": ({ predicted }) => -Math.max(-1, ...wrong(predicted).map((entity) => entity[4])),
  "longest": ({ words }) => -words.length,
};

function wrong(entities) {
  return entities.filter((entity) => entity[3] !== "right");
}

function errors(entities) {
  return wrong(entities).length;
}

/** Put the posts into the chosen order; equal ones stay as they are given. */
function order() {
  const value = ORDERS[sort.value];
  const sorted = [...views].sort((one, other) => value(one.post) - value(other.post));
  document.getElementById("list").append(...sorted.map(({ article }) => article));
}

function update() {
  chosen.layer = Number(layer.value);
  chosen.head = Number(head.value);
  document.getElementById("layer-name").textContent = chosen.layer ? content.layers[chosen.layer - 1] : "mean of all";
  light(lit);
}

layer.max = content.layers.length;
head.append(new Option("mean of all", "-1"));
for (let index = 0; index < content.heads; index += 1) head.append(new Option(String(index), String(index)));
for (const kind of KINDS) {
  const label = make("label");
  const tick = make("input");
  tick.type = "checkbox";
  tick.value = kind;
  const count = content.posts.filter((post) => post.errors.includes(kind)).length;
  label.append(tick, make("mark", kind === "type" ? "type-error" : kind, kind), String(count));
  tick.addEventListener("change", () => {
    if (tick.checked) filters.add(kind);
    else filters.delete(kind);
    filter();
  });
  document.getElementById("kinds").append(label);
}
for (const name of Object.keys(ORDERS)) {
  const needsGold = name.includes("error");
  if (!needsGold || content.posts.some((post) => post.gold)) sort.append(new Option(name));
}
if (!content.layers.length) for (const control of [layer, head]) control.parentElement.hidden = true;
document.getElementById("kinds").hidden = !content.posts.some((post) => post.gold);
if (!views.length) for (const part of [document.querySelector("header"), document.querySelector(".hint")]) part.hidden = true;
layer.addEventListener("input", update);
head.addEventListener("change", update);
find.addEventListener("input", filter);
sort.addEventListener("change", order);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") keep(null);
});
const list = document.getElementById("list");
list.addEventListener("mouseover", point);
list.addEventListener("focusin", point);
list.addEventListener("click", (event) => keep(targetOf(event)));
list.addEventListener("keydown", (event) => {
  if (event.key === "Enter") keep(targetOf(event));
});
// decoding hundreds of images at once would keep the page from opening
const near = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => unpack(entry.target)),
  { rootMargin: "1000px 0px" },
);
for (const { article } of views) near.observe(article);
window.addEventListener("beforeprint", () => views.forEach(({ article }) => unpack(article)));
update();
filter();
