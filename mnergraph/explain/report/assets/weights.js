"use strict";
// What words heard of objects and of the picture's cells, by the layer and the head chosen.

const content = JSON.parse(document.getElementById("content").textContent);
const chosen = { layer: 0, head: -1 }; // the first layer is 1, the first head 0; before them lie the means

/** The numbers of a part, 0 to 255, [heads, words, senders]; unpacked when first asked for. */
function numbers(part) {
  if (!part.bytes) part.bytes = Uint8Array.from(atob(part.data), (sign) => sign.charCodeAt(0));
  return part.bytes;
}

/** What these words heard, on average, of every "object" or cell of the "image"; null where nothing weighed it. */
function heard(post, words, sender) {
  const parts = post.parts.filter(
    (part) => part.sender === sender && (!chosen.layer || part.layer === content.layers[chosen.layer - 1]),
  );
  if (!parts.length || !words.length) return null;
  const sums = new Array(parts[0].count).fill(0);
  for (const part of parts) {
    // what has fewer heads, as gates have, is shown as the mean of those it has
    const all = [...Array(part.heads).keys()];
    const heads = all.includes(chosen.head) ? [chosen.head] : all;
    const share = part.most / 255 / (parts.length * heads.length * words.length);
    for (const head of heads) {
      for (const word of words) {
        const row = (head * post.words.length + word) * part.count;
        for (let other = 0; other < part.count; other += 1) sums[other] += numbers(part)[row + other] * share;
      }
    }
  }
  return sums;
}

/** Where each number lies between the least and the most of all, 0 to 1. */
function scaled(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  return values.map((value) => (high > low ? (value - low) / (high - low) : high > 0 ? 1 : 0));
}

/** The places of the greatest numbers, greatest first. */
function strongest(values, most) {
  return [...values.keys()].sort((one, other) => values[other] - values[one]).slice(0, most);
}
