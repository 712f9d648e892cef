// People rate pairs: one picture at a time, by key or click, and every rating is sent the moment it is given.
import { ask, at, counted, make, say } from "/kit.js";

const SCALES = {
  alignment: ["nothing", "a little", "half", "most", "all of it"],
  quality: ["broken", "poor", "fair", "good", "flawless"],
};
const NAMES = Object.keys(SCALES);
const RETRY = 3; // seconds
const NEAR = 3; // pairs before and behind whose pictures are held

let rater = localStorage.getItem("dyneval.rater") ?? "";
let place = 0;
let standing = { rated: 0, pairs: 0, next: null };
let now = null; // the pair whose picture is seen: { pair, prompt, alignment, quality }; only that can be rated
let active = "alignment"; // the question that a digit answers
let pairs = new Map(); // place -> promise of a pair
const pictures = new Map(); // place -> promise of an object URL
const unsent = [];
let isSending = false;

const query = () => new URLSearchParams({ rater });
const json = async (path, options) => (await ask(path, options)).json();

// ---- who rates ----

at("who").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = at("name").value.trim();
  localStorage.setItem("dyneval.rater", rater);
  start();
});

at("leave").addEventListener("click", () => {
  localStorage.removeItem("dyneval.rater");
  rater = at("name").value = "";
  welcome();
  at("name").focus();
});

function welcome() {
  at("rate").dataset.state = "start";
  at("rater").hidden = true;
}

async function start() {
  if (!rater) return welcome();
  at("name").value = rater;
  pairs = new Map();
  for (const near of [...pictures.keys()]) dismiss(near);
  try {
    standing = await json(`/v1/ratings?${query()}`);
  } catch (error) {
    welcome();
    return fail(error);
  }
  at("error").hidden = true;
  at("rater-name").textContent = rater;
  at("rater").hidden = false;
  await go(standing.next ?? standing.pairs);
}

// ---- the pair ----

const pairAt = (n) => held(pairs, n, () => json(`/v1/ratings/pairs/${n}?${query()}`));
const pictureAt = (n) => held(pictures, n, async () => {
  const answer = await ask(`/v1/ratings/pictures/${(await pairAt(n)).pair}`);
  return URL.createObjectURL(await answer.blob());
});

function held(map, key, begin) {
  if (!map.has(key)) {
    const made = begin();
    made.catch(() => map.delete(key)); // asked for anew the next time
    map.set(key, made);
  }
  return map.get(key);
}

function dismiss(n) {
  pictures.get(n)?.then(URL.revokeObjectURL, () => {});
  pictures.delete(n);
}

async function go(to) {
  place = Math.max(0, Math.min(to, standing.pairs));
  now = null;
  tell();
  if (place === standing.pairs) return end();
  const going = place;
  at("rate").setAttribute("aria-busy", "true");
  try {
    const found = await pairAt(going);
    if (place === going) await show(found, going);
  } catch (error) {
    if (place === going) fail(error);
  }
  if (place === going) at("rate").setAttribute("aria-busy", "false");
}

async function show(pair, going) {
  at("rate").dataset.state = "rating";
  at("prompt").textContent = pair.prompt;
  at("picture").hidden = at("unreadable").hidden = true;
  at("back").disabled = place === 0;
  activate(NAMES.find((name) => pair[name] === null) ?? NAMES[0]);
  mark(pair);
  let told = "";
  try {
    const url = await pictureAt(going);
    if (place !== going) return;
    at("picture").src = url;
    await at("picture").decode();
  } catch (error) {
    told = error.status === 422 ? "This picture cannot be read. Go on with the next one." : error.message;
  }
  if (place !== going) return;
  at("picture").hidden = Boolean(told);
  at("unreadable").hidden = !told;
  at("unreadable").textContent = told;
  for (const name of NAMES) at(name).disabled = Boolean(told);
  if (!told) now = pair;
  say(told || `Picture ${going + 1} of ${standing.pairs}. Prompt: ${pair.prompt}`);
  for (const n of [...pictures.keys()]) if (Math.abs(n - place) > NEAR) dismiss(n);
  if (going + 1 < standing.pairs) pictureAt(going + 1).catch(() => {});
}

function end() {
  at("rate").dataset.state = "end";
  const left = standing.pairs - standing.rated;
  at("thanks").textContent = left ? "That was the last picture." : `Thank you, ${rater}.`;
  at("left").textContent = left ? `${counted(left, "picture")} of ${standing.pairs} still lack a rating from you.`
    : `You rated ${standing.pairs === 1 ? "the one picture" : `all ${standing.pairs} pictures`}. You can go back and change what you said.`;
  at("first-left").hidden = !left;
  at("thanks").focus();
}

at("first-left").addEventListener("click", () => go(standing.next ?? 0));
at("again").addEventListener("click", () => go(standing.pairs - 1));
at("back").addEventListener("click", () => go(place - 1));
at("next").addEventListener("click", () => go(place + 1));

// ---- rating ----

for (const [name, words] of Object.entries(SCALES)) {
  const box = make("div", null, { class: "scale-of" });
  box.append(...words.map((word, index) => {
    const button = make("button", null, { type: "button", class: "plain", "aria-pressed": "false" });
    button.append(make("b", index + 1), make("small", word));
    button.addEventListener("click", () => rate(name, index + 1));
    button.addEventListener("focus", () => activate(name));
    return button;
  }));
  at(name).append(box);
}

function activate(name) {
  active = name;
  for (const one of NAMES) at(one).toggleAttribute("data-active", one === name);
}

function mark(pair) {
  for (const name of NAMES) {
    at(name).querySelectorAll("button").forEach((button, index) => button.setAttribute("aria-pressed", pair[name] === index + 1));
  }
}

// The second answer to a new pair leads on to the next one; who changes an answer stays.
function rate(name, value) {
  if (!now) return;
  const wasWhole = NAMES.every((one) => now[one] !== null);
  now[name] = value;
  mark(now);
  unsent.push({ rater, pair: now.pair, alignment: now.alignment, quality: now.quality });
  send();
  const open = NAMES.find((one) => now[one] === null);
  activate(open ?? name);
  if (open || wasWhole) return;
  if (at(name).contains(document.activeElement)) at(NAMES[0]).querySelector("button").focus();
  go(place + 1);
}

// What another try may mend: no way to the server, no token yet, too much at once, or trouble there, such as a full disk.
const passes = ({ status }) => status === 0 || status === 401 || status === 408 || status === 429 || status >= 500;

// One after the other, so that the last one said is the last one written.
async function send() {
  if (isSending) return;
  isSending = true;
  while (unsent.length) {
    at("saved").textContent = "Saving…";
    try {
      const found = await json("/v1/ratings", { method: "POST", body: JSON.stringify(unsent[0]), headers: { "Content-Type": "application/json" } });
      if (unsent.shift().rater === rater) standing = found;
      at("saved").textContent = "Saved.";
      at("error").hidden = true;
    } catch (error) {
      at("saved").textContent = "";
      if (!passes(error)) { // never to be saved, so that it must not hold up the others
        unsent.shift();
        fail(new Error(`A rating is lost: ${error.message}`));
        continue;
      }
      const told = `${counted(unsent.length, "rating")} not saved yet: ${error.message}`;
      fail(new Error(`${told} The page tries again every ${RETRY} seconds; keep it open.`));
      await new Promise((resolve) => setTimeout(resolve, RETRY * 1000));
    }
    tell();
    if (at("rate").dataset.state === "end" && !unsent.length) end();
  }
  isSending = false;
}

addEventListener("beforeunload", (event) => { if (unsent.length) event.preventDefault(); });

addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  const isRating = at("rate").dataset.state === "rating";
  if (isRating && /^[1-5]$/.test(event.key)) rate(active, Number(event.key));
  else if (isRating && event.key === "ArrowRight") go(place + 1);
  else if (at("rate").dataset.state !== "start" && event.key === "ArrowLeft") go(place - 1);
  else if (isRating && (event.key === "ArrowUp" || event.key === "ArrowDown")) activate(NAMES.find((name) => name !== active));
  else return;
  event.preventDefault();
});

// ---- what is told ----

function tell() {
  at("bar").max = standing.pairs;
  at("bar").value = standing.rated;
  const at1 = place < standing.pairs ? `Picture ${place + 1}. ` : "";
  at("done").textContent = `${at1}${standing.rated} of ${standing.pairs} rated.`;
}

function fail(error) {
  at("error").textContent = error.message;
  at("error").hidden = false;
}

document.addEventListener("token", () => { if (rater && !unsent.length) start(); });
at("start").disabled = false; // pressed before, the browser itself would send the form and lose the name
start();
