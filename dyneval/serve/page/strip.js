// The chosen images as a row of thumbnails, each with its progress or its score.
import { at, make } from "/kit.js";

const TOLD = { waiting: "waits", running: "is being scored", failed: "failed", cancelled: "cancelled" };
const cells = new Map(); // pair -> its <li>

// `pairs`: all that were chosen; one alone needs no strip. `choose(pair)` and `remove(pair)` are called on a click.
export function showStrip(pairs, isCurrent, passes, choose, remove) {
  const strip = at("strip"), shown = pairs.length > 1 ? pairs : [];
  strip.hidden = !shown.length;
  for (const [pair, cell] of cells) {
    if (shown.includes(pair)) continue;
    cell.remove();
    cells.delete(pair);
  }
  for (const pair of shown) {
    if (!cells.has(pair)) {
      cells.set(pair, made(pair, choose, remove));
      strip.append(cells.get(pair));
    }
    update(cells.get(pair), pair, isCurrent(pair), passes);
  }
}

function made(pair, choose, remove) {
  const cell = make("li"), button = make("button", null, { type: "button", class: "thumb" });
  button.append(pair.url ? make("img", null, { src: pair.url, alt: "" }) : make("span", pair.name, { class: "nameless" }));
  button.append(make("i", null, { class: "bar" }), make("b"));
  button.addEventListener("click", () => choose(pair));
  const cross = make("button", "×", { type: "button", class: "remove", "aria-label": `Remove ${pair.name}` });
  cross.addEventListener("click", () => remove(pair));
  cell.append(button, cross);
  return cell;
}

function update(cell, pair, isCurrent, passes) {
  const button = cell.querySelector(".thumb"), overall = score(pair);
  const told = pair.state === "done" ? `scored ${overall}` : pair.busy ? "waits, the server is busy" : TOLD[pair.state] ?? "not scored yet";
  button.setAttribute("aria-label", `${pair.name}, ${told}`);
  button.title = pair.name;
  if (isCurrent) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
  cell.dataset.state = pair.state;
  cell.querySelector("b").textContent = { done: overall, failed: "!", cancelled: "–" }[pair.state] ?? "";
  cell.querySelector(".bar").style.width = pair.state === "running" ? `${(100 * Object.keys(pair.passes).length) / passes}%` : "0";
}

function score({ scores }) {
  const value = scores?.overall ?? scores?.t2ia ?? scores?.iqa;
  return value === undefined ? "" : value.toFixed(1);
}
