// Draws a scene graph as SVG: boxes pushed apart, relations as curves between them.

const NAMESPACE = "http://www.w3.org/2000/svg";
const MARGIN = 24, LINE = 16, ROUNDS = 400;
const MOST_NODES = 60, MOST_LETTERS = 34;

function svg(tag, attributes = {}, text) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function short(text, most = MOST_LETTERS) {
  const letters = [...text];
  return letters.length > most ? letters.slice(0, most - 1).join("") + "…" : text;
}

const measure = document.createElement("canvas").getContext("2d");

function widthOf(text, font) {
  measure.font = font;
  return measure.measureText(text).width;
}

function boxes(nodes) {
  return nodes.slice(0, MOST_NODES).map((node, index) => {
    const label = short(String(node.label)), attributes = short((node.attributes ?? []).join(", "));
    const wide = Math.max(widthOf(label, "600 13px system-ui"), widthOf(attributes, "11.5px system-ui"));
    // A sunflower's seeds: even, and the same each time.
    const angle = index * 2.399963, radius = 62 * Math.sqrt(index);
    return {
      id: String(node.id), label, attributes, w: wide + 24, h: attributes ? 2 * LINE + 14 : LINE + 14,
      x: 1.5 * radius * Math.cos(angle), y: radius * Math.sin(angle),
    };
  });
}

function links(edges, byId) {
  return edges
    .map((edge) => ({ from: byId.get(String(edge.source)), to: byId.get(String(edge.target)), text: short(String(edge.relationship), 24) }))
    .filter((edge) => edge.from && edge.to && edge.from !== edge.to);
}

// Related boxes draw each other near, all are pulled to the middle, and none may come too close to another.
function settle(all, related, narrow) {
  for (let round = 0; round < ROUNDS; round++) {
    const heat = 1 - round / ROUNDS;
    for (const { from, to } of related) {
      const dx = to.x - from.x, dy = to.y - from.y, far = Math.hypot(dx, dy) || 1;
      const pull = 0.06 * heat * (far - 170) / far;
      from.x += dx * pull; from.y += dy * pull;
      to.x -= dx * pull; to.y -= dy * pull;
    }
    for (const box of all) {
      box.x *= 1 - (narrow ? 0.05 : 0.006) * heat;
      box.y *= 1 - (narrow ? 0.002 : 0.014) * heat;
    }
    all.forEach((one, index) => all.slice(index + 1).forEach((other) => separate(one, other, narrow ? 22 : 70)));
  }
}

function separate(one, other, aside) {
  const dx = other.x - one.x, dy = other.y - one.y;
  const overlapX = (one.w + other.w) / 2 + aside - Math.abs(dx), overlapY = (one.h + other.h) / 2 + 46 - Math.abs(dy);
  if (overlapX <= 0 || overlapY <= 0) return;
  if (overlapX < overlapY) {
    const push = Math.sign(dx || 1) * overlapX / 2;
    one.x -= push; other.x += push;
  } else {
    const push = Math.sign(dy || 1) * overlapY / 2;
    one.y -= push; other.y += push;
  }
}

// Where the way from a box's middle to another point leaves the box.
function border(box, x, y) {
  const dx = x - box.x, dy = y - box.y;
  const scale = 1 / Math.max(Math.abs(dx) / (box.w / 2 + 4), Math.abs(dy) / (box.h / 2 + 4), 1e-6);
  return scale < 1 ? [box.x + dx * scale, box.y + dy * scale] : [box.x, box.y];
}

function curve({ from, to }, bend) {
  const mx = (from.x + to.x) / 2, my = (from.y + to.y) / 2;
  const far = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const cx = mx - (to.y - from.y) / far * bend, cy = my + (to.x - from.x) / far * bend;
  const [x1, y1] = border(from, cx, cy), [x2, y2] = border(to, cx, cy);
  const along = (t) => [
    (1 - t) ** 2 * x1 + 2 * t * (1 - t) * cx + t ** 2 * x2,
    (1 - t) ** 2 * y1 + 2 * t * (1 - t) * cy + t ** 2 * y2,
  ];
  return { path: `M${x1} ${y1}Q${cx} ${cy} ${x2} ${y2}`, along };
}

// A place on the curve where the text covers nothing, the middle first; where there is none it is left to the tooltip.
function free(text, along, taken) {
  const w = widthOf(text, "11.5px system-ui") + 4, h = LINE;
  for (const t of [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74]) {
    const [x, y] = along(t);
    const clear = taken.every((one) => Math.abs(one.x - x) >= (one.w + w) / 2 || Math.abs(one.y - y) >= (one.h + h) / 2);
    if (clear) return { x, y, w, h };
  }
}

// `room`: pixels that the drawing may be wide; a wider one keeps its size and is scrolled.
export function drawGraph(nodes, edges, room) {
  const all = boxes(nodes), related = links(edges, new Map(all.map((box) => [box.id, box])));
  settle(all, related, room < 560);
  const left = Math.min(...all.map((box) => box.x - box.w / 2)) - MARGIN;
  const top = Math.min(...all.map((box) => box.y - box.h / 2)) - MARGIN;
  const width = Math.max(...all.map((box) => box.x + box.w / 2)) + MARGIN - left;
  const height = Math.max(...all.map((box) => box.y + box.h / 2)) + MARGIN - top;
  const view = { viewBox: `${left} ${top} ${width} ${height}`, width, height };
  const root = svg("svg", { ...view, role: "img", "aria-label": "Scene graph" });
  const marker = svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
  marker.append(svg("path", { d: "M0 0 8 4 0 8z" }));
  root.append(marker, ...draw(all, related));
  return root;
}

function draw(all, related) {
  const seen = new Map(), lines = [], texts = [], taken = [...all];
  for (const edge of related) {
    const between = [edge.from.id, edge.to.id].sort().join("\n"), count = seen.get(between) ?? 0;
    seen.set(between, count + 1);
    const { path, along } = curve(edge, 14 + 26 * count);
    const line = svg("path", { d: path, class: "edge", "marker-end": "url(#tip)" });
    line.append(svg("title", {}, `${edge.from.label} ${edge.text} ${edge.to.label}`));
    lines.push(line);
    const place = free(edge.text, along, taken);
    if (!place) continue;
    taken.push(place);
    texts.push(svg("text", { x: place.x, y: place.y + 4, class: "relation halo" }, edge.text));
  }
  const shapes = all.map((box) => {
    const group = svg("g", { class: "node", transform: `translate(${box.x} ${box.y})` });
    group.append(svg("rect", { x: -box.w / 2, y: -box.h / 2, width: box.w, height: box.h, rx: 8 }));
    group.append(svg("text", { y: box.attributes ? -3 : 4.5, class: "label" }, box.label));
    if (box.attributes) group.append(svg("text", { y: 14, class: "attributes" }, box.attributes));
    return group;
  });
  return [...lines, ...shapes, ...texts];
}
