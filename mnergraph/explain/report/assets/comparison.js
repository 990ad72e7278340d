"use strict";
const kind = document.getElementById("kind"), find = document.getElementById("find");
const posts = [...document.querySelectorAll("article")], count = document.getElementById("count");
const total = count.textContent;

function choose() {
  const text = find.value.trim().toLowerCase();
  let shown = 0;
  for (const post of posts) {
    const is = !kind.value || post.dataset.kinds.split(" ").includes(kind.value);
    post.hidden = !is || (text !== "" && !post.textContent.toLowerCase().includes(text));
    shown += post.hidden ? 0 : 1;
  }
  count.textContent = shown === posts.length ? total : `${shown} posts`;
}

kind.addEventListener("change", choose);
find.addEventListener("input", choose);
choose();
