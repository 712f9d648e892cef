// Images and a prompt become pairs, pairs become results: what is chosen, what runs, what is shown.
import { showComparison } from "/compare.js";
import { downloadCsv, downloadJson } from "/download.js";
import { ask, at, counted, make, say, seconds } from "/kit.js";
import { picture } from "/pictures.js";
import { forget, keep, recall } from "/store.js";
import { passes } from "/stream.js";
import { showStrip } from "/strip.js";
import { PASSES, SCORES, showVerdict, wanted } from "/verdict.js";

const MOST = 100; // images at a time
const TOGETHER = 4; // requests: a browser opens six connections to a server, and pages need one
const DEFAULT_LIMIT = 1 << 24;
const MEMORY = 0.7; // weight of the past in the usual seconds of a pair

const form = at("pair"), drop = at("drop"), file = at("image"), prompt = at("prompt");
let model = { limits: { bytes: DEFAULT_LIMIT, pixels: DEFAULT_LIMIT }, settings: { mode: "full", mean: "arithmetic" } };
let pairs = []; // { id, name, blob, url, state, prompt, passes, scores, ... }; a pair whose state is "new" has no result
let chosen = null; // the pair that the form shows
let shown = null; // the pair whose result is shown: the chosen one or, as long as that has none, the one before
let sides = null; // two pairs in comparison
let queue = [];
let workers = 0;

const mode = () => model.settings?.mode ?? "full";
const wish = () => prompt.value.trim();
const randomId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// ---- what is chosen ----

let taking = Promise.resolve();

// One handful after the other, so that they share the room.
function take(files) {
  const all = [...files]; // a drop's list is empty when its event is over
  taking = taking.then(() => takeAll(all));
  return taking;
}

async function takeAll(files) {
  const told = [];
  let first = null, left = 0;
  for (const one of files) {
    if (pairs.length >= MOST) {
      left++;
      continue;
    }
    try {
      const found = await picture(one, model.limits);
      if (found.note) told.push(found.note);
      const pair = { id: randomId(), state: "new", passes: {}, ...found };
      pairs.push(pair);
      if (first) show();
      else {
        sides = null;
        choose(first = pair);
      }
    } catch (error) {
      told.push(error.message);
    }
  }
  if (left) told.push(`Only ${MOST} images at a time: ${left} were left out.`);
  at("notes").replaceChildren(...told.map((text) => make("li", text)));
}

function choose(pair) {
  if (sides && pair && comparable().includes(pair)) {
    if (pair !== sides[0]) sides[1] = pair;
  } else {
    sides = null;
    chosen = pair;
  }
  show();
}

function remove(pair) {
  pair.stop?.abort();
  queue = queue.filter((one) => one !== pair);
  const place = pairs.indexOf(pair);
  pairs = pairs.filter((one) => one !== pair);
  URL.revokeObjectURL(pair.url);
  if (shown === pair) shown = null;
  if (sides?.includes(pair)) sides = null;
  if (chosen === pair) chosen = pairs[Math.min(place, pairs.length - 1)] ?? null;
  show();
  (at("strip").querySelector("[aria-current]") ?? file).focus();
}

file.addEventListener("change", async () => {
  await take(file.files);
  file.value = ""; // the same file can be chosen again
});
prompt.addEventListener("input", show);
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !at("submit").disabled) form.requestSubmit();
});
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("over");
  });
}
addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
addEventListener("drop", (event) => {
  drop.classList.remove("over");
  if (!event.dataTransfer.files.length) return; // text, dragged into the prompt
  event.preventDefault();
  take(event.dataTransfer.files);
});
addEventListener("paste", (event) => { if (event.clipboardData.files.length) take(event.clipboardData.files); });

// ---- scoring ----

const isBusy = (pair) => pair.state === "waiting" || pair.state === "running";
const lacks = (pair) => !isBusy(pair) && (pair.state !== "done" || pair.prompt !== wish());
const isHopeless = (pair) => pair.state === "failed" && pair.status === 422 && pair.prompt === wish();

// What the button scores: all that have no result for this prompt, and the chosen one in any case.
function targets() {
  const left = pairs.filter((pair) => lacks(pair) && !isHopeless(pair));
  return left.length || !chosen || isBusy(chosen) ? left : [chosen];
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const found = targets();
  for (const pair of found) {
    Object.assign(pair, { state: "waiting", prompt: wish(), passes: {}, busy: 0, status: 0, error: "", result: "" });
    for (const name of ["scores", "soft", "t2ia", "iqa", "scene_graph", "record"]) delete pair[name];
  }
  queue.push(...found);
  sides = null;
  if (!found.includes(chosen)) chosen = found[0] ?? chosen;
  say(`Scoring ${counted(found.length, "image")}.`);
  show();
  for (let more = Math.min(TOGETHER - workers, queue.length); more > 0; more--) work();
  if (innerWidth < 832) at("verdict").scrollIntoView({ behavior: "smooth" });
});

at("cancel").addEventListener("click", () => {
  queue = [];
  for (const pair of pairs.filter(isBusy)) {
    pair.stop?.abort();
    Object.assign(pair, { state: "cancelled", stop: null });
  }
  say("Cancelled.");
  show();
  at("submit").focus(); // the button that had the focus is gone
});

async function work() {
  workers++;
  for (let pair; (pair = queue.shift());) await score(pair);
  workers--;
  show();
}

async function score(pair) {
  const stop = pair.stop = new AbortController();
  pair.state = "running";
  pair.since = performance.now();
  show();
  try {
    for await (const [name, data] of passes(pair.blob, pair.prompt, stop.signal)) {
      if (stop.signal.aborted) return;
      pair.busy = name === "busy" ? data : 0;
      if (name === "queued") pair.ahead = data.ahead;
      if (name === "pass") passed(pair, data);
      if (name === "result") await finished(pair, data);
      show();
    }
  } catch (error) {
    if (stop.signal.aborted) return; // who did that has noted it, and the pair may be at work again
    Object.assign(pair, { state: "failed", error: error.message, status: error.status });
    show();
  }
  pair.stop = null;
}

const since = (pair) => (performance.now() - pair.since) / 1000;

function passed(pair, data) {
  pair.passes[data.pass] = since(pair);
  for (const [ours, theirs] of [["t2ia", "t2ia_questions"], ["iqa", "iqa_questions"], ["scene_graph", "scene_graph"]]) {
    if (data[theirs]) pair[ours] = data[theirs];
  }
  if (data.pass === "t2ia_scores") pair.scores = { t2ia: mean(pair.t2ia.map((one) => one.score)) };
}

// As the server does it; its own figure takes the place of this one with the result.
function mean(values) {
  const geometric = model.settings?.mean === "geometric";
  const sum = values.reduce((all, value) => all + (geometric ? Math.log(value) : value), 0) / values.length;
  return geometric ? Math.exp(sum) : sum;
}

async function finished(pair, record) {
  const took = since(pair);
  for (const [name] of wanted(mode(), PASSES)) pair.passes[name] ??= took;
  Object.assign(pair, {
    state: "done", result: randomId(), record: { ...record, image: pair.name },
    scores: Object.fromEntries(Object.keys(SCORES).filter((name) => typeof record[name] === "number").map((name) => [name, record[name]])),
    soft: record.soft, t2ia: record.t2ia_questions, iqa: record.iqa_questions, scene_graph: record.scene_graph,
  });
  remember(took / (1 + (pair.ahead ?? 0)));
  const told = Object.entries(pair.scores).map(([name, value]) => `${SCORES[name]} ${value.toFixed(2)}`).join(", ");
  say(`${pairs.length > 1 ? `${pair.name}: ` : ""}${told}.`);
  show();
  const { result: id, name, blob, prompt: text, passes: times } = pair;
  pair.isKept = await keep({ id, when: Date.now(), name, blob, prompt: text, passes: times, record: pair.record });
}

// ---- how long it takes: as measured here before, else as the server did when it started ----

const memory = () => `dyneval.seconds ${model.model}`;
const usual = () => Number(localStorage.getItem(memory())) || model.seconds || 0;

function remember(took) {
  const before = Number(localStorage.getItem(memory()));
  localStorage.setItem(memory(), before ? MEMORY * before + (1 - MEMORY) * took : took);
}

function clock(pair) {
  if (pair.state === "waiting") return "Waits for its turn.";
  if (pair.state === "cancelled") return "Cancelled.";
  if (pair.state !== "running") return "";
  if (pair.busy) return `The server is busy; the next try is in ${pair.busy} s.`;
  const about = usual() * (1 + (pair.ahead ?? 0)), now = since(pair);
  if (!about) return seconds(now);
  return now <= about ? `${seconds(now)} of about ${seconds(about)}` : `${seconds(now)}, longer than the usual ${seconds(about)}`;
}

setInterval(() => { if (shown?.state === "running") at("clock").textContent = clock(shown); }, 100);

// ---- what is shown ----

// Results for the prompt of the one that is shown.
const comparable = () => pairs.filter((pair) => pair.state === "done" && pair.prompt === shown?.prompt);

function show() {
  if (chosen && chosen.state !== "new") shown = chosen;
  showForm();
  const verdict = at("verdict");
  verdict.dataset.state = !shown ? "empty" : { done: "done", failed: "failed", cancelled: "failed" }[shown.state] ?? "working";
  if (!shown) return;
  const others = comparable();
  if (sides && !sides.every((pair) => others.includes(pair))) sides = null;
  at("caption").textContent = sides ? `“${shown.prompt}”` : `${shown.name} · “${shown.prompt}”`;
  at("compare").hidden = others.length < 2;
  at("compare").setAttribute("aria-pressed", Boolean(sides));
  at("saving").hidden = !pairs.some((pair) => pair.record);
  at("kept").hidden = !pairs.some((pair) => pair.isKept);
  at("one").hidden = Boolean(sides);
  at("two").hidden = !sides;
  showPrevious();
  at("clock").textContent = clock(shown);
  if (sides) showComparison(sides, others, mode(), swap);
  else showVerdict(shown, mode());
  showAddress();
}

function showForm() {
  const isWorking = pairs.some(isBusy), preview = at("preview");
  showStrip(pairs, (pair) => (sides ? sides.includes(pair) : pair === chosen), wanted(mode(), PASSES).length, choose, remove);
  if (chosen?.url && preview.src !== chosen.url) preview.src = chosen.url;
  preview.hidden = !chosen?.url;
  drop.classList.toggle("filled", Boolean(chosen));
  at("hint").firstChild.textContent = !chosen ? "Drop images" : chosen.url ? "" : chosen.name;
  at("hint").lastChild.textContent = !chosen ? "or choose or paste some" : chosen.url ? "Drop, choose or paste more" : "This browser cannot show it.";
  const found = wish() ? targets() : [];
  at("submit").disabled = !found.length;
  const isAgain = found.length === 1 && found[0].state === "done" && found[0].prompt === wish();
  at("submit").textContent = found.length > 1 ? `Score ${found.length} images` : isAgain ? "Score again" : "Score";
  at("cancel").hidden = !isWorking;
  document.body.setAttribute("aria-busy", isWorking);
  const failed = pairs.filter((pair) => pair.state === "failed");
  const told = failed.map((pair) => (pairs.length > 1 && pair.status === 422 ? `${pair.name}: ${pair.error}` : pair.error));
  const text = [...new Set(told)].join("\n");
  if (at("error").textContent !== text) at("error").textContent = text;
  at("error").hidden = !text;
}

// A result belongs to its pair: to this image and this prompt.
function showPrevious() {
  const image = shown !== chosen && !sides, text = shown.prompt !== wish();
  const isPrevious = image || text;
  at("previous").hidden = !isPrevious;
  at("verdict").toggleAttribute("data-previous", isPrevious);
  const what = image && text ? "image and prompt have" : image ? "the image has" : "the prompt has";
  at("previous").textContent = `Previous result: ${what} changed since.`;
}

function swap(side, id) {
  const pair = pairs.find((one) => one.id === id);
  if (sides[1 - side] === pair) sides.reverse();
  else sides[side] = pair;
  show();
}

at("compare").addEventListener("click", () => {
  sides = sides ? null : [shown, comparable().find((pair) => pair !== shown)];
  show();
});
const records = () => pairs.filter((pair) => pair.record).map((pair) => pair.record);
at("json").addEventListener("click", () => downloadJson(records()));
at("csv").addEventListener("click", () => downloadCsv(records()));
at("forget").addEventListener("click", async () => {
  await forget();
  history.replaceState(null, "", location.pathname);
  for (const pair of pairs) pair.isKept = false;
  say("Forgotten.");
  show();
});

// ---- the address of a result ----

function showAddress() {
  const on = sides ?? [shown];
  if (!on.every((pair) => pair.isKept)) return;
  const address = `#r=${on.map((pair) => pair.result).join(",")}`;
  if (location.hash !== address) history.replaceState(null, "", address);
}

async function restore() {
  const ids = location.hash.startsWith("#r=") ? location.hash.slice(3).split(",").slice(0, 2) : [];
  const here = (id) => pairs.find((pair) => pair.result === id), missing = ids.filter((id) => !here(id));
  const found = (await Promise.all(missing.map(recall))).filter(Boolean);
  if (found.length < missing.length) {
    at("notes").replaceChildren(make("li", "This address is of a result that is not in this browser: results stay where they were made."));
  }
  pairs.push(...found.filter(({ id }) => !here(id)).map(({ id, name, blob, prompt: text, passes: times, record }) => ({
    id: randomId(), name, blob, url: URL.createObjectURL(blob), state: "done", prompt: text, passes: times, record, result: id, isKept: true,
    scores: record, soft: record.soft, t2ia: record.t2ia_questions, iqa: record.iqa_questions, scene_graph: record.scene_graph,
  })));
  const on = ids.map(here).filter(Boolean);
  if (!on.length) return;
  chosen = shown = on[0];
  prompt.value = chosen.prompt;
  sides = on.length === 2 ? on : null;
  show();
}

addEventListener("hashchange", restore);

// ---- whose judgement it is ----

const NOTICES = [
  [(told) => told.untrained, "An untrained model, which never learned to judge: its scores mean nothing. It shows how the page works."],
  [(told) => told.demo, "A demo judge: it knows the small drawn scenes of the demo alone. What it says of a photograph means nothing."],
  [(told) => told.settings?.reply_form === "either", "This model does not clearly write the answers of a trained judge; its scores may mean nothing."],
];

async function about() {
  try {
    const told = await (await ask("/v1/model")).json();
    model = { ...model, ...told };
  } catch {
    return; // the form says so when it is used
  }
  at("model").textContent = model.model;
  at("rating").hidden = !model.rating;
  const notice = NOTICES.find(([holds]) => holds(model))?.[1];
  at("demo").hidden = !notice;
  at("demo").textContent = notice ?? "";
  show();
}

document.addEventListener("token", async () => {
  await about();
  if (!at("token-box").hidden) return;
  for (const pair of pairs) if (pair.status === 401) Object.assign(pair, { state: "new", status: 0 });
  show();
});
show();
about();
restore();
