// One pair on its way through the server, as it tells of it.
import { Failure, ask } from "/kit.js";

// Yields [name, data]: "busy" while the server has no room, "queued", a "pass" each, "result".
export async function* passes(picture, prompt, signal) {
  const body = new FormData();
  body.append("image", picture);
  body.append("prompt", prompt);
  for (;;) {
    try {
      const answer = await ask("/v1/score/stream", { method: "POST", body, signal });
      yield* told(answer.body);
      return;
    } catch (refused) {
      if (!refused.retryAfter) throw refused;
      yield ["busy", refused.retryAfter];
      await pause(refused.retryAfter, signal);
    }
  }
}

async function* told(stream) {
  for await (const [name, data] of events(stream)) {
    if (name === "error") throw new Failure(data.message, data.code === "unprocessable" ? 422 : 500);
    yield [name, data];
    if (name === "result") return;
  }
  throw new Failure("The connection ended before the result came.");
}

// Server-sent events from a fetch; EventSource cannot send a body.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Failure("The connection to the server broke.");
    });
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      if (fields.has("data")) yield [fields.get("event"), JSON.parse(fields.get("data"))];
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("", "AbortError"));
    }, { once: true });
  });
}
