// The leaderboard: sort by any column, search, switch tiers on and off.
(() => {
  const table = document.getElementById("board");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const find = document.getElementById("find");
  const chips = [...document.querySelectorAll(".chip")];

  function sortBy(column) {
    const head = table.tHead.rows[0].cells[column];
    const text = head.dataset.kind === "text";
    const first = text || column === 0 ? "ascending" : "descending";
    const now = head.getAttribute("aria-sort");
    const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value;
    const compare = text
      ? (a, b) => value(a).localeCompare(value(b))
      : (a, b) => Number(value(a)) - Number(value(b));
    rows.sort((a, b) => sign * compare(a, b) || a.cells[0].dataset.value - b.cells[0].dataset.value);
    body.append(...rows);
  }

  function filter() {
    const words = find.value.trim().toLowerCase();
    const off = new Set(chips.filter((chip) => chip.ariaPressed === "false").map((chip) => chip.dataset.tier));
    let count = 0;
    for (const row of rows) {
      row.hidden = !row.dataset.model.toLowerCase().includes(words) || off.has(row.dataset.tier);
      count += !row.hidden;
    }
    document.getElementById("found").textContent = count === rows.length ? "" : `${count} of ${rows.length} models`;
  }

  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.querySelector("button").addEventListener("click", () => sortBy(column));
  });
  table.tHead.rows[0].cells[0].setAttribute("aria-sort", "ascending");
  find.addEventListener("input", filter);
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.ariaPressed = chip.ariaPressed === "true" ? "false" : "true";
      filter();
    });
  }
})();
