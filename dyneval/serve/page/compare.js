// Two results for one prompt, side by side.
import { at, make } from "/kit.js";
import { SCORES, badge, question, wanted } from "/verdict.js";

const SIDES = ["Left image", "Right image"];

let drawn = ""; // a list that somebody has open is not made anew for nothing

// `two`: the pairs shown; `choices`: all that may be; `choose(side, id)` is called with another one for a side.
export function showComparison(two, choices, mode, choose) {
  const key = JSON.stringify([two, choices].map((pairs) => pairs.map((pair) => [pair.id, pair.result])));
  if (drawn === key) return;
  drawn = key;
  const grid = make("div", null, { class: "sides" });
  grid.append(...two.map((pair, side) => head(pair, two[1 - side], side, choices, mode, choose)));
  at("two").replaceChildren(grid, ...alignment(two), ...quality(two));
}

function head(pair, other, side, choices, mode, choose) {
  const box = make("div", null, { class: "side" }), select = make("select", null, { "aria-label": SIDES[side] });
  for (const one of choices) {
    const option = make("option", one.name, { value: one.id });
    option.selected = one === pair;
    select.append(option);
  }
  select.addEventListener("change", () => {
    choose(side, select.value);
    at("two").querySelectorAll("select")[side].focus();
  });
  const list = make("dl");
  for (const [name, title] of wanted(mode, SCORES)) list.append(figure(title, pair.scores?.[name], other.scores?.[name]));
  if (pair.url) box.append(make("img", null, { src: pair.url, alt: pair.name }));
  box.append(select, list);
  return box;
}

function figure(title, value, other) {
  const row = make("div");
  const ahead = value !== undefined && other !== undefined ? value - other : 0;
  row.append(make("dt", title), make("dd", value === undefined ? "–" : value.toFixed(2)));
  if (value !== undefined) row.dataset.score = Math.round(value);
  if (ahead >= 0.005) row.append(make("dd", `+${ahead.toFixed(2)}`, { class: "ahead" }));
  return row;
}

// Questions about alignment come from the prompt: those that both images were asked stand beside each other.
function alignment(two) {
  const byText = two.map((pair) => new Map((pair.t2ia ?? []).map((one) => [one.question, one])));
  const texts = [...new Set(byText.flatMap((asked) => [...asked.keys()]))];
  if (!texts.length) return [];
  return [make("h2", "Alignment"), list(texts.map((text) => {
    const item = make("li"), answers = byText.map((asked) => asked.get(text));
    item.append(question(answers[0] ?? answers[1]), ...answers.map((one, side) => answer(one, two[side].t2ia)));
    return item;
  }))];
}

function answer(one, asked) {
  const box = make("div", null, { class: "answer" });
  if (!one) {
    box.append(make("p", "not asked", { class: "reason" }));
    return box;
  }
  if (one.score !== undefined) box.dataset.score = one.score;
  box.append(badge(one, asked), make("p", one.reasoning, { dir: "auto", class: "reason" }));
  return box;
}

// Those about quality are made for each image alone.
function quality(two) {
  if (!two.some((pair) => pair.iqa?.length)) return [];
  const sides = make("div", null, { class: "sides" });
  sides.append(...two.map((pair) => list((pair.iqa ?? []).map((one) => {
    const item = make("li");
    item.append(question(one), answer(one, pair.iqa));
    return item;
  }))));
  return [make("h2", "Quality"), sides];
}

function list(items) {
  const element = make("ul");
  element.append(...items);
  return element;
}
