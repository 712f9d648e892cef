"use strict";
// The data of the page, the theme, and the charts, which are drawn when they come into view.
const DATA = JSON.parse(document.getElementById("data").textContent);
const theme = () => document.documentElement.dataset.theme;

function make(tag, text, attributes = {}) {
  // Text is only ever set as text: prompts and model output come from outside.
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const drawn = new Map();

async function draw(place) {
  const spec = DATA.charts[place.dataset.chart];
  const many = JSON.stringify(spec).length > 150000;
  const before = drawn.get(place);
  const result = await vegaEmbed(place, spec, {
    actions: false,
    ast: true, // expressions are interpreted: the page's policy forbids code made from text
    logLevel: 1, // errors; a chart with a fixed row height warns that its height is fixed
    config: { ...DATA.themes[theme()], axis: { ...DATA.themes[theme()].axis, labelLimit: innerWidth < 600 ? 120 : 220 } },
    renderer: many ? "canvas" : "svg",
    tooltip: { theme: theme() === "dark" ? "dark" : "light" },
  });
  if (before) before.finalize();
  drawn.set(place, result);
  place.dataset.ready = "yes";
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "400px" });
for (const place of document.querySelectorAll("[data-chart]")) {
  // A chart keeps its room before it is drawn: what lies below must not move away from under a click.
  const { height } = DATA.charts[place.dataset.chart];
  if (height) place.style.minHeight = `${height + 47}px`; // 47: the least that axis and title add
  watcher.observe(place);
}

document.getElementById("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
  for (const place of drawn.keys()) draw(place);
});
