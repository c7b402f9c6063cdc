"use strict";
// The theme, and the filters of the documents. Without this script the page shows all of them, in the system's theme.

const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dark.matches;
}

function nameTheme() {
  theme.textContent = isDark() ? "Light theme" : "Dark theme";
}

theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
dark.addEventListener("change", nameTheme);
theme.hidden = false;
nameTheme();

const STEP = 24;
const search = document.getElementById("search");
const source = document.getElementById("source");
const reason = document.getElementById("reason");
const count = document.getElementById("count");
const more = document.getElementById("more");
const documents = Array.from(document.querySelectorAll("#documents article"), (element) => ({
  element,
  text: element.textContent.toLowerCase(),
}));
let limit = STEP;

function matches({ element, text }, words) {
  return (
    (!source.value || element.dataset.source === source.value) &&
    (!reason.value || element.dataset.reason === reason.value) &&
    words.every((word) => text.includes(word))
  );
}

function show() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const one of documents) {
    const matched = matches(one, words);
    found += matched;
    one.element.hidden = !matched || found > limit;
  }
  const shown = Math.min(found, limit);
  count.textContent = found ? `${shown} of ${found} documents shown` : "no document matches";
  more.hidden = found <= limit;
}

function restart() {
  limit = STEP;
  show();
}

search.addEventListener("input", restart);
source.addEventListener("change", restart);
reason.addEventListener("change", restart);
more.addEventListener("click", () => {
  const first = documents.filter((one) => !one.element.hidden).length;
  limit += STEP;
  show();
  const next = documents.filter((one) => !one.element.hidden)[first];
  if (next) {
    next.element.tabIndex = -1;
    next.element.focus();
  }
});
document.querySelector(".filters").hidden = false;
show();
