// What is shown of one pair's result, as far as it is there.
import { drawGraph } from "/graph.js";
import { at, counted, make, seconds } from "/kit.js";

export const PASSES = {
  t2ia_questions: "Questions",
  t2ia_scores: "Alignment",
  iqa_questions: "Scene graph",
  iqa_scores: "Quality",
};
export const SCORES = { t2ia: "Alignment", iqa: "Quality", overall: "Overall" };

let drawn = {}; // what stands there: only what has changed is made anew

// Of passes and scores, those that the server's mode has: a mode like "iqa-only" has one part.
export function wanted(mode, entries) {
  return Object.entries(entries).filter(([name]) => !mode.endsWith("-only") || name.startsWith(mode.slice(0, -"-only".length)));
}

// `pair`: { state, passes: { name: seconds }, scores, soft, t2ia, iqa, scene_graph }; what is not there yet is undefined.
export function showVerdict(pair, mode) {
  if (drawn.pair !== pair) drawn = { pair };
  const changed = (name, value) => drawn[name] !== value && ((drawn[name] = value), true);
  if (changed("numbers", JSON.stringify([pair.scores, pair.soft]))) {
    at("scores").replaceChildren(...wanted(mode, SCORES).map(([name, title]) => scoreBox(name, title, pair)));
  }
  if (changed("progress", `${JSON.stringify(pair.passes)}${pair.state}`)) showPasses(pair, mode);
  for (const part of ["t2ia", "iqa"]) {
    if (changed(part, pair[part])) showQuestions(part, pair[part] ?? []);
  }
  if (changed("scene_graph", pair.scene_graph)) showGraph(pair.scene_graph);
}

function scoreBox(name, title, { scores, soft }) {
  const value = scores?.[name], box = make("div", null, { class: "score", id: `score-${name}` });
  const list = make("dl");
  list.append(make("dt", title), make("dd", value === undefined ? "–" : value.toFixed(2)));
  box.append(list, scale(value), make("small", soft?.[name] === undefined ? "1 to 5" : `soft ${soft[name].toFixed(2)}`));
  if (value !== undefined) box.dataset.score = Math.round(value);
  return box;
}

function scale(value) {
  const bar = make("i"), box = make("div", null, { class: "scale" });
  bar.style.width = value === undefined ? "0" : `${(value - 1) * 25}%`;
  box.append(bar);
  return box;
}

// The first pass that is not done is at work, or is where the pair failed.
function showPasses(pair, mode) {
  let next = { running: "now", failed: "failed" }[pair.state] ?? "waiting";
  at("passes").replaceChildren(...wanted(mode, PASSES).map(([name, title]) => {
    const took = pair.passes[name], state = took === undefined ? next : "done";
    if (took === undefined) next = "waiting";
    const item = make("li", title, { "data-pass": name, "data-state": state });
    item.append(make("time", took ? seconds(took) : ""));
    return item;
  }));
}

function showQuestions(part, asked) {
  const { counts, whole } = kind(asked);
  at(part).hidden = !asked.length;
  at(part).querySelector("small").textContent =
    `${counted(asked.length, "question")}${!counts ? " asked" : whole ? ", scored as a whole" : ""}`;
  at(part).querySelector("ul").replaceChildren(...asked.map((one) => {
    const item = make("li");
    item.append(badge(one, asked), question(one));
    if (one.reasoning) item.append(make("p", one.reasoning, { dir: "auto", class: "reason" }));
    if (one.score !== undefined) item.dataset.score = one.score;
    return item;
  }));
}

// Questions without scores of their own pass or fail; the image got one score as a whole.
function kind(asked) {
  return {
    counts: asked.some((one) => one.score !== undefined),
    whole: asked.some((one) => one.correct_probability !== undefined),
  };
}

export function badge(one, asked) {
  const { counts, whole } = kind(asked);
  if (one.score === undefined) return make("b", "·");
  if (!(whole && counts)) return make("b", one.score);
  return make("b", one.score >= 3 ? "✓" : "✗", { title: one.score >= 3 ? "passes" : "fails" });
}

export function question(one) {
  const line = make("p", one.question, { dir: "auto" });
  if (one.answer) line.append(" ", make("span", `expected: ${one.answer}`, { class: "expected" }));
  return line;
}

function showGraph(scene) {
  at("graph").hidden = !scene;
  if (!scene) return;
  const nodes = scene.nodes ?? [], edges = scene.edges ?? [], canvas = at("graph").querySelector(".canvas");
  at("graph").querySelector("small").textContent = `${counted(nodes.length, "object")}, ${counted(edges.length, "relation")}`;
  canvas.replaceChildren(nodes.length ? drawGraph(nodes, edges, canvas.clientWidth) : make("p", "The judge named no objects."));
}
