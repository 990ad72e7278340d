"use strict";
// Attention of words to objects, image regions and other nodes, by the selected layer and head.

const content = JSON.parse(document.getElementById("content").textContent);
const chosen = { layer: 0, head: -1 }; // layers count from 1, heads from 0; the values below them are the means

/** The numbers of a part, 0 to 255, [heads, words, nodes]; decoded at first use. */
function numbers(part) {
  if (!part.bytes) part.bytes = Uint8Array.from(atob(part.data), (char) => char.charCodeAt(0));
  return part.bytes;
}

/** Mean attention of these words to every node of a type ("object", "image", ...); null if none is recorded. */
function attention(post, words, nodeType) {
  const parts = post.parts.filter(
    (part) => part.sender === nodeType && (!chosen.layer || part.layer === content.layers[chosen.layer - 1]),
  );
  if (!parts.length || !words.length) return null;
  const sums = new Array(parts[0].count).fill(0);
  for (const part of parts) {
    // a part with fewer heads, such as gates, is shown by the mean of its heads
    const all = [...Array(part.heads).keys()];
    const heads = all.includes(chosen.head) ? [chosen.head] : all;
    const share = part.most / 255 / (parts.length * heads.length * words.length);
    for (const head of heads) {
      for (const word of words) {
        const row = (head * post.words.length + word) * part.count;
        for (let node = 0; node < part.count; node += 1) sums[node] += numbers(part)[row + node] * share;
      }
    }
  }
  return sums;
}

/** Each number relative to the highest of all, 0 to 1: equal numbers look equal, and zero is nothing. */
function scaled(values) {
  const high = Math.max(...values);
  return values.map((value) => (high > 0 ? Math.max(0, value) / high : 0));
}

/** The indices of the highest numbers, highest first. */
function strongest(values, count) {
  return [...values.keys()].sort((one, other) => values[other] - values[one]).slice(0, count);
}
