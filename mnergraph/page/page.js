"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const KINDS = ["missed", "spurious", "boundary", "type"];
  // Okabe and Ito's colours, light enough for black letters
  const COLOURS = ["#8cc8ea", "#f4b183", "#7fd6b8", "#e6bcd3", "#f2cf80", "#f6ee98", "#c8c8c8"];
  const layer = document.getElementById("layer");
  const head = document.getElementById("head");
  const find = document.getElementById("find");
  const shown = new Set();
  let lit = null; // what is pointed at: its post's view, and words or an object

  /** An element with a class and a text; text is never read as HTML. */
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

  // --- what was heard ---------------------------------------------------------------------------------

  function bytes(part) {
    if (!part.bytes) part.bytes = Uint8Array.from(atob(part.data), (sign) => sign.charCodeAt(0));
    return part.bytes;
  }

  /** What these words heard of every object or cell, by the layer and head chosen; null where nobody weighed it. */
  function heard(post, words, sender) {
    const chosen = Number(layer.value);
    const parts = post.parts.filter(
      (part) => part.sender === sender && (chosen === 0 || part.layer === content.layers[chosen - 1]),
    );
    if (!parts.length || !words.length) return null;
    const sums = new Array(parts[0].count).fill(0);
    for (const part of parts) {
      const one = Number(head.value);
      // what has fewer heads, as gates have, is shown as the mean of those it has
      const heads = one >= 0 && one < part.heads ? [one] : [...Array(part.heads).keys()];
      const share = part.most / 255 / (parts.length * heads.length * words.length);
      const numbers = bytes(part);
      for (const place of heads) {
        for (const word of words) {
          const row = (place * post.words.length + word) * part.count;
          for (let other = 0; other < part.count; other += 1) sums[other] += numbers[row + other] * share;
        }
      }
    }
    return sums;
  }

  /** Where a number lies between the least and the most of all, 0 to 1. */
  function scaled(values) {
    const low = Math.min(...values);
    const high = Math.max(...values);
    return values.map((value) => (high > low ? (value - low) / (high - low) : high > 0 ? 1 : 0));
  }

  // --- lighting ---------------------------------------------------------------------------------------

  function clear() {
    if (!lit) return;
    const { view } = lit;
    for (const element of view.article.querySelectorAll(".on")) element.classList.remove("on");
    for (const word of view.words.flat()) word.style.background = "";
    for (const object of view.objects) {
      object.heat.style.opacity = 0;
      object.value.textContent = "";
    }
    if (view.grid) for (const cell of view.grid.children) cell.style.opacity = 0;
  }

  function light(next) {
    clear();
    lit = next;
    if (!lit) return;
    const { view, words, object, element } = lit;
    element.classList.add("on");
    if (object === undefined) {
      for (const word of words) for (const span of view.words[word]) span.classList.add("on");
      const values = heard(view.post, words, "object");
      if (values) {
        scaled(values).forEach((share, place) => {
          view.objects[place].heat.style.opacity = 0.65 * share;
          view.objects[place].value.textContent = " " + values[place].toFixed(2);
        });
      }
      const cells = heard(view.post, words, "image");
      if (cells && cells.length > 1 && view.frame) {
        scaled(cells).forEach((share, place) => {
          grid(view, cells.length).children[place].style.opacity = 0.65 * share;
        });
      }
      return;
    }
    const values = view.post.words.map((_, word) => heard(view.post, [word], "object"));
    if (!values[0]) return;
    scaled(values.map((row) => row[object])).forEach((share, word) => {
      for (const span of view.words[word]) span.style.background = `rgba(0, 114, 178, ${(0.6 * share).toFixed(3)})`;
    });
  }

  function grid(view, cells) {
    if (!view.grid) {
      const side = Math.round(Math.sqrt(cells));
      view.grid = make("div", "grid");
      view.grid.style.gridTemplateColumns = `repeat(${side}, 1fr)`;
      for (let cell = 0; cell < cells; cell += 1) view.grid.append(make("i"));
      view.frame.append(view.grid);
    }
    return view.grid;
  }

  function pointed(element, target) {
    for (const event of ["mouseenter", "focus"]) element.addEventListener(event, () => light({ ...target, element }));
  }

  // --- one post ---------------------------------------------------------------------------------------

  function sentence(view, entities, scored) {
    const line = make("div", "sentence");
    line.dir = "auto";
    const words = view.post.words.map((text, place) => {
      const word = make("span", "word", text);
      view.words[place].push(word);
      pointed(word, { view, words: [place] });
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
      mark.title = scored ? `${type}, probability ${score.toFixed(3)}: ${kind}` : `${type}: ${kind}`;
      for (; place < end; place += 1) mark.append(words[place], place + 1 < end ? " " : "");
      mark.append(make("span", "type", scored ? `${type} ${score.toFixed(2)}` : type));
      pointed(mark.lastChild, { view, words: [...Array(end - start).keys()].map((word) => start + word) });
      mark.addEventListener("focus", () =>
        light({ view, words: [...Array(end - start).keys()].map((word) => start + word), element: mark }),
      );
      line.append(mark, " ");
    }
    return line;
  }

  function picture(view) {
    const side = make("div");
    const chips = make("div", "chips");
    if (view.post.picture) {
      view.frame = make("div", "picture");
      const image = make("img");
      image.decoding = "async";
      image.alt = view.post.caption || "the post's picture";
      image.src = view.post.picture;
      view.frame.append(image);
      side.append(view.frame);
    }
    view.post.objects.forEach((object, place) => {
      const boxed = object.box && view.frame;
      const element = make("div", boxed ? "object box" : "object chip");
      const heat = make("div", "heat");
      const name = make("span", "name", object.label || `object ${place}`);
      const value = make("span", "value");
      name.append(value);
      element.append(heat, name);
      element.tabIndex = 0;
      element.title = `${object.label || "object"}, score ${object.score}`;
      if (boxed) {
        const [left, top, right, bottom] = object.box.map((share) => 100 * share);
        Object.assign(element.style, {
          left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%`,
        });
      }
      (boxed ? view.frame : chips).append(element);
      view.objects.push({ element, heat, value });
      pointed(element, { view, object: place });
    });
    if (chips.children.length) side.append(chips);
    if (view.post.caption) side.append(make("p", "caption", view.post.caption));
    return side;
  }

  function show(post) {
    const article = make("article");
    const view = { post, article, words: post.words.map(() => []), objects: [], frame: null, grid: null };
    const text = make("div");
    const title = make("h2", "", post.id || "post");
    title.append(" ", make("span", "", post.errors.join(", ")));
    text.append(title);
    const sides = [["predicted", post.said, true]];
    if (post.gold) sides.unshift(["gold", post.gold, false]);
    for (const [name, entities, scored] of sides) {
      const side = make("div", `side ${name}`);
      side.append(make("b", "", name), sentence(view, entities, scored));
      text.append(side);
    }
    article.append(text, picture(view));
    document.getElementById("list").append(article);
    return view;
  }

  // --- controls ---------------------------------------------------------------------------------------

  const views = content.posts.map(show);

  function filter() {
    const text = find.value.toLowerCase();
    let count = 0;
    for (const { post, article } of views) {
      const wanted = !shown.size || post.errors.some((kind) => shown.has(kind));
      const told = !text || `${post.id} ${post.words.join(" ")}`.toLowerCase().includes(text);
      article.hidden = !(wanted && told);
      count += wanted && told ? 1 : 0;
    }
    document.getElementById("count").textContent = `${count} of ${views.length} posts`;
  }

  function weigh() {
    const chosen = Number(layer.value);
    document.getElementById("layer-name").textContent = chosen ? content.layers[chosen - 1] : "mean of all";
    light(lit);
  }

  layer.max = content.layers.length;
  head.append(new Option("mean of all", "-1"));
  for (let place = 0; place < content.heads; place += 1) head.append(new Option(String(place), String(place)));
  for (const kind of KINDS) {
    const label = make("label");
    const box = make("input");
    box.type = "checkbox";
    box.value = kind;
    const count = content.posts.filter((post) => post.errors.includes(kind)).length;
    label.append(box, ` ${kind} (${count})`);
    box.addEventListener("change", () => {
      if (box.checked) shown.add(kind);
      else shown.delete(kind);
      filter();
    });
    document.getElementById("kinds").append(label);
  }
  layer.addEventListener("input", weigh);
  head.addEventListener("change", weigh);
  find.addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") light(null);
  });
  weigh();
  filter();
})();
