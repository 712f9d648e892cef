// The form, the stream of passes, and what is shown of them. Text from the server is only ever set as text.
import { drawGraph } from "/graph.js";

const PASSES = {
  t2ia_questions: "Questions",
  t2ia_scores: "Alignment",
  iqa_questions: "Scene graph",
  iqa_scores: "Quality",
};
const SCORES = { t2ia: "Alignment", iqa: "Quality", overall: "Overall" };

const at = (id) => document.getElementById(id);
const form = at("pair"), drop = at("drop"), file = at("image"), prompt = at("prompt"), token = at("token");
let mode = "full";
let picture = null;
let running = null;

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// ---- the pair ----

function take(chosen) {
  if (!chosen) return;
  picture = chosen;
  const preview = at("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(chosen);
  preview.hidden = false;
  drop.classList.add("filled");
  allow();
}

function allow() {
  at("submit").disabled = !picture || !prompt.value.trim();
}

file.addEventListener("change", () => take(file.files[0]));
prompt.addEventListener("input", allow);
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !at("submit").disabled) form.requestSubmit();
});
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take([...event.dataTransfer.files].find((one) => one.type.startsWith("image/")));
});
addEventListener("paste", (event) => take([...event.clipboardData.files].find((one) => one.type.startsWith("image/"))));

// ---- scoring ----

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  running?.abort();
  const mine = running = new AbortController();
  const body = new FormData();
  body.append("image", picture);
  body.append("prompt", prompt.value);
  begin();
  try {
    const answer = await fetch("/v1/score/stream", { method: "POST", body, headers: credentials(), signal: mine.signal });
    if (!answer.ok) throw await refusal(answer);
    for await (const [name, data] of events(answer.body)) {
      if (name === "pass") passed(data);
      else if (name === "result") finished(data);
      else if (name === "error") throw new Error(data.message);
    }
    if (at("verdict").dataset.state === "working") throw new Error("The connection ended before the result came.");
  } catch (error) {
    if (!mine.signal.aborted) fail(error.message || String(error));
  } finally {
    if (running === mine) document.body.removeAttribute("aria-busy");
  }
});

function credentials() {
  return token.value ? { Authorization: `Bearer ${token.value}` } : {};
}

async function refusal(answer) {
  if (answer.status === 401) askForToken();
  const told = await answer.json().catch(() => ({}));
  const again = answer.headers.get("Retry-After");
  return new Error(again ? `The server is busy. Try again in ${again} s.` : told.message ?? `HTTP ${answer.status}`);
}

function askForToken() {
  token.hidden = false;
  form.querySelector("label[for=token]").hidden = false;
  token.focus();
}

// Server-sent events from a fetch; EventSource cannot send a body.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      if (fields.has("data")) yield [fields.get("event"), JSON.parse(fields.get("data"))];
    }
  }
}

// ---- what is shown ----

let since = 0;

function begin() {
  since = performance.now();
  at("error").hidden = true;
  document.body.setAttribute("aria-busy", "true");
  at("verdict").dataset.state = "working";
  at("passes").replaceChildren(...Object.entries(PASSES).filter(wanted).map(([name, title]) => {
    const item = make("li", title, { "data-pass": name, "data-state": "waiting" });
    item.append(make("time"));
    return item;
  }));
  mark();
  at("scores").replaceChildren(...Object.entries(SCORES).filter(wanted).map(([name, title]) => score(name, title)));
  for (const id of ["t2ia", "iqa", "graph"]) at(id).hidden = true;
  if (innerWidth < 832) at("verdict").scrollIntoView({ behavior: "smooth" });
}

// Of passes and scores, those that the server's mode has: a mode like "iqa-only" has one half.
function wanted([name]) {
  return !mode.endsWith("-only") || name.startsWith(mode.slice(0, -"-only".length));
}

function score(name, title, value, soft) {
  const box = make("div", undefined, { class: "score", id: `score-${name}` });
  const list = make("dl");
  list.append(make("dt", title), make("dd", value === undefined ? "–" : value.toFixed(2)));
  const scale = make("div", undefined, { class: "scale" });
  const bar = make("i");
  bar.style.width = value === undefined ? "0" : `${(value - 1) * 25}%`;
  scale.append(bar);
  box.append(list, scale, make("small", soft === undefined ? "1 to 5" : `soft ${soft.toFixed(2)}`));
  if (value !== undefined) box.dataset.score = Math.round(value);
  return box;
}

// The first pass that is not done is at work.
function mark() {
  const next = at("passes").querySelector("li:not([data-state=done])");
  if (next) next.dataset.state = "now";
}

function done(name) {
  const item = at("passes").querySelector(`[data-pass="${CSS.escape(name)}"]`);
  if (!item || item.dataset.state === "done") return;
  item.dataset.state = "done";
  item.querySelector("time").textContent = `${((performance.now() - since) / 1000).toFixed(1)} s`;
  mark();
}

function passed(data) {
  done(data.pass);
  if (data.t2ia_questions) questions("t2ia", data.t2ia_questions);
  if (data.iqa_questions) questions("iqa", data.iqa_questions);
  if (data.scene_graph) graph(data.scene_graph);
}

function finished(record) {
  for (const name of Object.keys(PASSES)) done(name);
  questions("t2ia", record.t2ia_questions ?? []);
  questions("iqa", record.iqa_questions ?? []);
  if (record.scene_graph) graph(record.scene_graph);
  const shown = Object.entries(SCORES).filter(([name]) => typeof record[name] === "number");
  at("scores").replaceChildren(...shown.map(([name, title]) => score(name, title, record[name], record.soft?.[name])));
  at("verdict").dataset.state = "done";
}

function questions(id, asked) {
  at(id).hidden = !asked.length;
  const counted = asked.some((one) => one.score !== undefined);
  // Questions without scores of their own pass or fail; the image got one score as a whole.
  const whole = asked.some((one) => one.correct_probability !== undefined);
  const how = !counted ? " asked" : whole ? ", scored as a whole" : "";
  at(id).querySelector("small").textContent = `${asked.length} questions${how}`;
  at(id).querySelector("ul").replaceChildren(...asked.map((one) => {
    const item = make("li");
    if (one.score !== undefined) item.dataset.score = one.score;
    const said = whole && counted ? (one.score >= 3 ? "✓" : "✗") : one.score ?? "·";
    item.append(make("b", said), make("p", one.question, { dir: "auto" }));
    if (one.reasoning) item.append(make("p", one.reasoning, { dir: "auto" }));
    return item;
  }));
}

function graph(scene) {
  const nodes = scene.nodes ?? [];
  at("graph").hidden = !nodes.length;
  at("graph").querySelector("small").textContent = `${nodes.length} objects, ${(scene.edges ?? []).length} relations`;
  const canvas = at("graph").querySelector(".canvas");
  canvas.replaceChildren(drawGraph(nodes, scene.edges ?? [], canvas.clientWidth));
}

function fail(message) {
  at("error").textContent = message;
  at("error").hidden = false;
  const now = at("passes").querySelector("[data-state=now]");
  if (now) now.dataset.state = "failed";
  const shown = at("verdict").querySelector(".part:not([hidden])");
  at("verdict").dataset.state = shown ? "failed" : "empty";
}

async function about() {
  const answer = await fetch("/v1/model", { headers: credentials() });
  if (answer.status === 401) return askForToken();
  if (!answer.ok) return;
  const told = await answer.json();
  at("model").textContent = told.model;
  at("demo").hidden = !told.demo;
  mode = told.settings?.mode ?? mode;
}

token.addEventListener("change", about);
allow();
about();
