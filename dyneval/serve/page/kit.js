// What both pages share: elements, words, and requests with the server's token.

export const at = (id) => document.getElementById(id);

// Text from outside, such as prompts and what the student writes, only ever becomes text.
export function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export const counted = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

// Tells a screen reader; the same text twice is read twice.
export function say(text) {
  at("live").replaceChildren(make("p", text));
}

export class Failure extends Error {
  constructor(message, status = 0, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// sessionStorage: the token survives a reload and ends with the tab.
const KEPT = "dyneval.token";
let token = sessionStorage.getItem(KEPT) ?? "";

at("token").addEventListener("change", () => {
  token = at("token").value.trim();
  sessionStorage.setItem(KEPT, token);
  document.dispatchEvent(new Event("token"));
});

// The field appears where it is; whoever is typing elsewhere goes on doing so.
function wantToken() {
  const told = token ? "This is not the token of this server." : "This server asks for a token.";
  at("token-told").textContent = told;
  at("token-box").hidden = false;
  return told;
}

// Fetch with the token. Throws a Failure that says in words what is wrong, or the AbortError of a signal.
export async function ask(path, options = {}) {
  if (/[^\x20-\x7e]/.test(token)) throw new Failure(wantToken(), 401);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached.");
  }
  if (answer.ok) {
    at("token-box").hidden = true;
    return answer;
  }
  if (answer.status === 401) throw new Failure(wantToken(), 401);
  const told = await answer.json().catch(() => ({}));
  const message = told.message ?? `The server answered with status ${answer.status}.`;
  throw new Failure(message, answer.status, Number(answer.headers.get("Retry-After")) || 0);
}

// Seconds as people say them.
export const seconds = (value) => (value < 9.95 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`);
