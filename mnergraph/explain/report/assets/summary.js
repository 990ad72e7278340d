// Above the posts: model and data, scores, errors by kind, and a histogram of probabilities.

function card(name, title) {
  const element = make("div", `card ${name}`);
  element.append(make("h2", "", title));
  document.getElementById("summary").append(element);
  return element;
}

/** A table with a line of titles, if there are any, and lines whose first cell names them. */
function table(titles, rows) {
  const element = make("table");
  if (titles.length) {
    const line = element.createTHead().insertRow();
    for (const title of titles) line.append(make("th", "", title));
  }
  const body = element.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((cell, index) => line.append(make(index ? "td" : "th", "", cell)));
  }
  return element;
}

function percent(share) {
  return (100 * share).toFixed(1);
}

/** Bars of the numbers of right, wrong and unknown entities in each tenth of probability, one above the other. */
function histogram(confidence) {
  const kinds = ["right", "wrong", "unknown"].filter((kind) => confidence[kind].some((count) => count));
  const sums = confidence.right.map((_, bin) => kinds.reduce((sum, kind) => sum + confidence[kind][bin], 0));
  const highest = Math.max(...sums, 1);
  const bars = make("div", "histogram");
  sums.forEach((_, bin) => {
    const column = make("div");
    const said = kinds.map((kind) => `${confidence[kind][bin]} ${kind}`).join(", ");
    column.title = `probability ${bin / 10} to ${(bin + 1) / 10}: ${said}`;
    for (const kind of [...kinds].reverse()) {
      const part = make("div", kind);
      part.style.height = `${(100 * confidence[kind][bin]) / highest}%`;
      column.append(part);
    }
    bars.append(column);
  });
  const axis = make("div", "axis");
  for (const end of ["0", "0.5", "1"]) axis.append(make("span", "", end));
  const key = make("p", "key");
  for (const kind of kinds) {
    const total = confidence[kind].reduce((sum, count) => sum + count, 0);
    key.append(make("i", kind), kind === "unknown" ? `${total} entities ` : `${total} ${kind} `);
  }
  return [bars, axis, key];
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function showSummary({ facts, summary }) {
  const about = facts.map(([name, value]) => [name, value]);
  about.push(["posts", `${summary.posts}${summary.without_image ? `, ${summary.without_image} without an image` : ""}`]);
  card("facts", "model and data").append(table([], about));
  if (summary.labelled) {
    const rows = summary.scores.map(([type, precision, recall, f1, gold]) => [
      type, percent(precision), percent(recall), percent(f1), String(gold),
    ]);
    const scores = table(["type", "P", "R", "F1", "gold"], rows);
    scores.tBodies[0].rows[0].className = "all";
    card("scores", "scores in percent").append(scores);
    const kinds = Object.entries(summary.errors);
    const most = Math.max(...kinds.map(([, count]) => count), 1);
    const errors = table([], kinds.map(([kind, count]) => [kind, String(count), ""]));
    kinds.forEach(([, count], index) => {
      const bar = make("span", "bar");
      bar.style.width = `${(6 * count) / most}rem`;
      if (count) errors.tBodies[0].rows[index].cells[2].append(bar);
    });
    const said = `in ${summary.with_errors} of ${plural(summary.labelled, "post")}`;
    card("errors", "entities in error").append(errors, make("p", "key", said));
  }
  card("confidence", "predicted entities by probability").append(...histogram(summary.confidence));
}

showSummary(content);
