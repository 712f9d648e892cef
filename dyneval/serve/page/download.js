// Results as files: JSON holds the records whole, CSV a row each; `dyneval benchmark --scores` reads both.
import { make } from "/kit.js";

const PARTS = ["t2ia", "iqa", "overall"];

function offer(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  make("a", "", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A ' goes before what a spreadsheet would run as a formula, as in the tables that DynEval writes.
function cell(value) {
  const text = String(value ?? "").replace(/[\r\n]+/g, " ");
  const safe = /^'*(\s*[=+\-@＝＋－＠]|\t)/.test(text) && !/^[+-]?\d+(\.\d+)?$/.test(text) ? `'${text}` : text;
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function downloadJson(records) {
  offer("dyneval-scores.json", "application/json", `${JSON.stringify(records, null, 2)}\n`);
}

export function downloadCsv(records) {
  const head = ["pair_id", "image", "prompt", ...PARTS, ...PARTS.map((part) => `soft.${part}`), "model", "revision"];
  const rows = records.map((record) => [
    record.pair_id, record.image, record.prompt,
    ...PARTS.map((part) => record[part]), ...PARTS.map((part) => record.soft?.[part]),
    record.model, record.revision,
  ]);
  offer("dyneval-scores.csv", "text/csv", [head, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join(""));
}
