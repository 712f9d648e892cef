// The gallery: filters over columns of numbers, cards added as they come into view, one sample in a dialog.
const shards = new Map();
window.dynevalDetails = (number, details) => shards.get(number).resolve(details);

(() => {
  const index = DATA.gallery;
  if (!index) return;
  const { columns } = index;
  const count = columns.id.length;
  const form = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const dialog = document.getElementById("sample");
  const pageSize = 60;
  const prompts = index.prompts.map((prompt) => prompt.toLowerCase());
  let chosen = [];
  let added = 0;
  let open = -1; // the image in the dialog
  let came = false; // by a click on this page, so that the entry before it in the history is this page

  // The address of an image is `#pair=ID`: what opens it is the address alone, from a click, a link or the history.
  const numbers = new Map(columns.id.map((id, n) => [id, n]));
  const address = (n) => `#pair=${encodeURIComponent(columns.id[n])}`;

  const digits = (value, number) => (value === null ? "–" : value.toFixed(number));
  const words = (name) => name.replaceAll("_", " ");
  const picture = (n) => {
    const name = columns.thumb[n];
    if (!name || index.inline) return name;
    return `${encodeURIComponent(index.folder)}/thumbs/${name.slice(0, 2)}/${name}.webp`;
  };

  function options(name, entries) {
    for (const [value, label] of entries) form.elements[name].append(make("option", label, { value }));
  }
  options("model", index.models.map((name, n) => [n, name]));
  options("tier", [...new Set(index.tiers)].filter(Boolean).sort().map((tier) => [tier, `Tier ${tier}`]));
  options("category", index.categories.map((name, n) => [n, words(name)]).sort((a, b) => a[1].localeCompare(b[1])));

  const orders = {
    worst: (a, b) => columns.overall[a] - columns.overall[b],
    best: (a, b) => columns.overall[b] - columns.overall[a],
    t2ia: (a, b) => columns.t2ia[a] - columns.t2ia[b],
    iqa: (a, b) => columns.iqa[a] - columns.iqa[b],
    apart: (a, b) => (columns.apart[b] ?? -1) - (columns.apart[a] ?? -1),
  };

  function filter() {
    const field = form.elements;
    const text = field.text.value.trim().toLowerCase();
    const apart = field.apart ? Number(field.apart.value) : 0;
    const from = Number(field.from.value || 1), to = Number(field.to.value || 5);
    const category = field.category.value === "" ? null : Number(field.category.value);
    const fits = index.prompts.map((_, p) =>
      (!text || prompts[p].includes(text)) && (category === null || index.skills[p].includes(category)));
    chosen = [];
    for (let n = 0; n < count; n += 1) {
      if (!fits[columns.prompt[n]]) continue;
      if (field.model.value !== "" && columns.model[n] !== Number(field.model.value)) continue;
      if (field.tier.value !== "" && index.tiers[columns.model[n]] !== Number(field.tier.value)) continue;
      if (columns.overall[n] < from || columns.overall[n] > to) continue;
      if (apart > 0 && !(columns.apart[n] >= apart)) continue;
      chosen.push(n);
    }
    chosen.sort((a, b) => orders[field.order.value](a, b) || a - b);
    document.getElementById("shown").textContent =
      `${chosen.length.toLocaleString("en")} of ${count.toLocaleString("en")} images`;
    cards.replaceChildren();
    added = 0;
    add();
  }

  function card(place) {
    const n = chosen[place];
    const model = index.models[columns.model[n]];
    const link = make("a", null, { class: "card", href: address(n), "aria-label": `Open ${columns.id[n]}, ${model}` });
    const frame = make("div", null, { class: "frame" });
    if (picture(n)) {
      frame.append(make("img", null, { src: picture(n), loading: "lazy", decoding: "async", alt: index.prompts[columns.prompt[n]] }));
    } else {
      frame.append(make("p", "This image could not be read."));
    }
    frame.append(make("span", columns.overall[n].toFixed(2), { class: "badge", title: "Overall score, 1-5" }));
    if (columns.rating && columns.rating[n] !== null) {
      frame.append(make("span", `people ${columns.rating[n]}`, { class: "badge people" }));
    }
    const head = make("h4");
    head.append(make("span", model), make("em", `${digits(columns.t2ia[n], 1)} · ${digits(columns.iqa[n], 1)}`, { title: "T2IA · IQA" }));
    link.append(frame, head, make("p", index.prompts[columns.prompt[n]], { class: "prompt" }));
    link.addEventListener("click", () => { came = true; });
    return link;
  }

  function add() {
    const end = Math.min(chosen.length, added + pageSize);
    const fragment = document.createDocumentFragment();
    for (; added < end; added += 1) fragment.append(card(added));
    cards.append(fragment);
  }

  function details(n) {
    if (index.inline) return Promise.resolve(index.details[n]);
    const number = Math.floor(n / index.shard);
    if (!shards.has(number)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      shards.set(number, entry);
      const script = make("script", null, { src: `${encodeURIComponent(index.folder)}/details/${number}.js` });
      script.addEventListener("error", () => entry.reject(new Error(`${index.folder}/details/${number}.js is missing`)));
      document.head.append(script);
    }
    return shards.get(number).promise.then((shard) => shard[n % index.shard]);
  }

  function asked(title, questions) {
    const block = make("div", null, { class: "asked" });
    const list = make("ol");
    const sorted = [...questions].sort((a, b) => a[2] - b[2]);
    for (const [question, answer, score, reasoning, passes] of sorted) {
      const item = make("li");
      const strength = Math.min(10, Math.round(Math.abs(score - 3) * 5));
      const said = passes ? (score >= 3 ? "✓" : "✗") : score;
      item.append(make("b", said, { class: `${score >= 3 ? "high" : "low"} s${strength}` }), make("q", question));
      item.append(make("small", `${answer ? `expected: ${answer}. ` : ""}${reasoning}`));
      list.append(item);
    }
    block.append(make("h4", `${title} · ${questions.length} questions${questions.some((one) => one[4]) ? ", scored as a whole" : ""}`), list);
    return block;
  }

  async function show(n) {
    open = n;
    const prompt = index.prompts[columns.prompt[n]];
    const image = document.getElementById("sample-image");
    image.hidden = !picture(n);
    if (picture(n)) image.src = picture(n);
    image.alt = prompt;
    const tier = index.tiers[columns.model[n]];
    document.getElementById("sample-meta").replaceChildren(
      `${index.models[columns.model[n]]}${tier ? ` · Tier ${tier}` : ""} · `,
      make("a", columns.id[n], { href: address(n), title: "The address of this image: copy it to send it" }));
    const place = chosen.indexOf(n);
    document.getElementById("previous").disabled = place < 1;
    document.getElementById("next").disabled = place === chosen.length - 1;
    document.getElementById("sample-title").textContent = prompt;
    document.getElementById("sample-skills").textContent =
      index.skills[columns.prompt[n]].map((skill) => words(index.categories[skill])).join(" · ");
    const scores = [["Overall", columns.overall[n]], ["Alignment (T2IA)", columns.t2ia[n]], ["Quality (IQA)", columns.iqa[n]]];
    if (columns.rating && columns.rating[n] !== null) scores.push(["People", columns.rating[n]], ["Apart", `${columns.apart[n]} %`]);
    document.getElementById("sample-scores").replaceChildren(...scores.map(([name, value]) => {
      const block = make("div");
      block.append(make("span", name), make("b", typeof value === "string" ? value : digits(value, 2)));
      return block;
    }));
    const questions = document.getElementById("sample-questions");
    questions.replaceChildren(make("p", "Loading…", { class: "note" }));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    try {
      const found = await details(n);
      if (open !== n) return;
      questions.replaceChildren(asked("Alignment", found.t2ia), asked("Quality", found.iqa));
      await drawSceneGraph(document.getElementById("sample-graph"), found.graph);
    } catch (error) {
      questions.replaceChildren(make("p", `The questions cannot be shown: ${error.message}.`, { class: "note" }));
    }
  }

  function step(by) {
    const n = chosen[chosen.indexOf(open) + by]; // an image that the filters leave out comes before the first
    if (n !== undefined) location.replace(address(n));
  }

  function follow() {
    const id = location.hash.startsWith("#pair=") ? decoded(location.hash.slice("#pair=".length)) : null;
    if (numbers.has(id)) {
      show(numbers.get(id));
    } else if (dialog.open) {
      dialog.close();
    }
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return null; // a mail program cut the address in the middle of a letter
    }
  }

  dialog.addEventListener("close", () => {
    const before = came;
    [open, came] = [-1, false];
    if (!location.hash.startsWith("#pair=")) return; // closed by going back
    if (before) history.back(); else location.replace("#gallery");
  });
  document.getElementById("close").addEventListener("click", () => dialog.close());
  document.getElementById("previous").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  addEventListener("hashchange", follow);
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  const more = document.getElementById("more");
  const watcher = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting || added >= chosen.length) return;
    add();
    watcher.unobserve(more); // observed anew, it reports again while it is still in view
    watcher.observe(more);
  }, { rootMargin: "900px" });
  watcher.observe(more);
  filter();
  follow();
})();
