// Filters of posts, selection of layer and head, pointer and keys.

const KINDS = ["missed", "spurious", "boundary", "type", "both"];
const [layer, head, find] = ["layer", "head", "find"].map((id) => document.getElementById(id));
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
if (!content.layers.length) for (const control of [layer, head]) control.parentElement.hidden = true;
document.getElementById("kinds").hidden = !content.posts.some((post) => post.gold);
layer.addEventListener("input", update);
head.addEventListener("change", update);
find.addEventListener("input", filter);
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
