// A scene graph: Vega's force simulation finds the places, objects are drawn as pills, relations as labelled arrows.
const WIDTH = 460;

function layoutSpec(nodes, links, height) {
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    width: WIDTH,
    height,
    data: [{ name: "objects", values: nodes }, { name: "relations", values: links }],
    marks: [{
      type: "symbol",
      from: { data: "objects" },
      encode: { enter: { size: { value: 1 } } },
      transform: [{
        type: "force",
        iterations: 400,
        static: true,
        forces: [
          { force: "center", x: WIDTH / 2, y: height / 2 },
          { force: "collide", radius: 60, strength: 1 },
          { force: "nbody", strength: -260 },
          { force: "link", links: "relations", distance: 130 },
        ],
      }],
    }],
  };
}

async function places(nodes, links, height) {
  const { view } = await vegaEmbed(make("div"), layoutSpec(nodes, links, height), { mode: "vega", actions: false, ast: true });
  const found = view.scenegraph().root.items[0].items[0].items.map((item) => [item.x, item.y]);
  view.finalize();
  return found;
}

function shape(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function arrow([x1, y1], [x2, y2], label) {
  // Pulled in at both ends, so that it does not run below the pills, and bent a little, so that two ways stay apart.
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [ux, uy] = [(x2 - x1) / length, (y2 - y1) / length];
  const near = Math.min(26, length / 4);
  const [ax, ay, bx, by] = [x1 + ux * near, y1 + uy * near, x2 - ux * near, y2 - uy * near];
  const [cx, cy] = [(ax + bx) / 2 - uy * 12, (ay + by) / 2 + ux * 12];
  const group = shape("g", { class: "relation" });
  group.append(
    shape("path", { d: `M${ax},${ay}Q${cx},${cy} ${bx},${by}`, "marker-end": "url(#arrowhead)" }),
    shape("text", { x: (cx + (ax + bx) / 2) / 2, y: (cy + (ay + by) / 2) / 2 }, shorten(label, 24)),
  );
  return group;
}

function pill([x, y], node) {
  const group = shape("g", { class: "object" });
  const label = shape("text", { x, y }, shorten(node.label, 26));
  group.append(label);
  if ((node.attributes || []).length) {
    group.append(shape("text", { x, y: y + 23, class: "attributes" }, shorten(node.attributes.join(", "), 36)));
  }
  return [group, label];
}

function fit(svg) {
  const box = svg.getBBox();
  svg.setAttribute("viewBox", `${box.x - 6} ${box.y - 6} ${box.width + 12} ${box.height + 12}`);
  svg.style.maxWidth = `${box.width + 12}px`;
}

async function drawSceneGraph(place, graph) {
  place.replaceChildren();
  if (!graph.nodes.length) {
    place.append(make("p", "No objects were found in this image.", { class: "note" }));
    return;
  }
  const number = new Map(graph.nodes.map((node, n) => [node.id, n]));
  const edges = graph.edges.filter((edge) => number.has(edge.source) && number.has(edge.target) && edge.source !== edge.target);
  const links = edges.map((edge) => ({ source: number.get(edge.source), target: number.get(edge.target) }));
  const height = Math.min(560, 130 + 42 * graph.nodes.length);
  const at = await places(graph.nodes.map((_, n) => ({ n })), links, height);
  const svg = shape("svg", { role: "img", "aria-label": `Scene graph with ${graph.nodes.length} objects` });
  const head = shape("marker", { id: "arrowhead", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" });
  head.append(shape("path", { d: "M0,0L8,4L0,8z" }));
  svg.append(head, ...edges.map((edge) => arrow(at[number.get(edge.source)], at[number.get(edge.target)], edge.relationship)));
  place.replaceChildren(make("h4", "Scene graph"), svg);
  graph.nodes.forEach((node, n) => {
    const [group, label] = pill(at[n], node);
    svg.append(group);
    const box = label.getBBox();
    group.prepend(shape("rect", { x: box.x - 11, y: box.y - 4, width: box.width + 22, height: box.height + 8, rx: box.height / 2 + 4 }));
  });
  fit(svg);
}
