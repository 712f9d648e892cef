// A scene graph, laid out by Vega's force simulation: objects as pills with their attributes, relations as labelled arrows.
function sceneGraphSpec(graph, config) {
  const short = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
  const place = new Map(graph.nodes.map((node, number) => [node.id, number]));
  const nodes = graph.nodes.map((node) => ({
    label: short(node.label, 26),
    attributes: short((node.attributes || []).join(", "), 38),
  }));
  const links = graph.edges
    .filter((edge) => place.has(edge.source) && place.has(edge.target) && edge.source !== edge.target)
    .map((edge) => ({ source: place.get(edge.source), target: place.get(edge.target), label: short(edge.relationship, 24) }));
  const ink = config.text.color;
  const muted = config.axis.labelColor;
  const accent = config.range.category[0];
  const middle = (name) => `(datum.datum.source.${name} + datum.datum.target.${name}) / 2`;
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    width: 460,
    height: Math.min(560, 130 + 46 * nodes.length),
    padding: 8,
    autosize: "pad",
    signals: [{ name: "center", update: "[width / 2, height / 2]" }],
    data: [{ name: "objects", values: nodes }, { name: "relations", values: links }],
    marks: [
      {
        name: "nodes",
        type: "symbol",
        from: { data: "objects" },
        encode: { enter: { opacity: { value: 0 } }, update: { size: { value: 1 } } },
        transform: [{
          type: "force",
          iterations: 400,
          static: true,
          signal: "force",
          forces: [
            { force: "center", x: { signal: "center[0]" }, y: { signal: "center[1]" } },
            { force: "collide", radius: 58, strength: 1 },
            { force: "nbody", strength: -260 },
            { force: "link", links: "relations", distance: 128 },
            { force: "x", x: { signal: "center[0]" }, strength: 0.04 },
            { force: "y", y: { signal: "center[1]" }, strength: 0.09 },
          ],
        }],
      },
      {
        name: "links",
        type: "path",
        from: { data: "relations" },
        encode: { update: { stroke: { value: muted }, strokeWidth: { value: 1 }, strokeOpacity: { value: 0.6 } } },
        transform: [{
          type: "linkpath",
          require: { signal: "force" },
          shape: "line",
          sourceX: "datum.source.x", sourceY: "datum.source.y", targetX: "datum.target.x", targetY: "datum.target.y",
        }],
      },
      {
        type: "symbol",
        from: { data: "links" },
        encode: {
          update: {
            shape: { value: "triangle" },
            size: { value: 42 },
            fill: { value: muted },
            x: { signal: "datum.datum.source.x * 0.3 + datum.datum.target.x * 0.7" },
            y: { signal: "datum.datum.source.y * 0.3 + datum.datum.target.y * 0.7" },
            angle: { signal: "90 + atan2(datum.datum.target.y - datum.datum.source.y, datum.datum.target.x - datum.datum.source.x) * 180 / PI" },
          },
        },
      },
      {
        type: "text",
        from: { data: "links" },
        encode: {
          update: {
            x: { signal: middle("x") }, y: { signal: middle("y") },
            text: { field: "datum.label" }, align: { value: "center" }, baseline: { value: "middle" },
            fontSize: { value: 10.5 }, fontStyle: { value: "italic" }, fill: { value: muted }, font: { value: config.font },
          },
        },
      },
      {
        type: "rect",
        from: { data: "nodes" },
        encode: {
          update: {
            xc: { field: "x" }, yc: { field: "y" }, height: { value: 24 }, cornerRadius: { value: 12 },
            width: { signal: "length(datum.datum.label) * 6.6 + 22" },
            fill: { value: accent },
          },
        },
      },
      {
        type: "text",
        from: { data: "nodes" },
        encode: {
          update: {
            x: { field: "x" }, y: { field: "y" }, text: { field: "datum.label" }, align: { value: "center" },
            baseline: { value: "middle" }, fontSize: { value: 11.5 }, fontWeight: { value: 600 },
            fill: { value: theme() === "dark" ? "#14161a" : "#ffffff" }, font: { value: config.font },
          },
        },
      },
      {
        type: "text",
        from: { data: "nodes" },
        encode: {
          update: {
            x: { field: "x" }, y: { signal: "datum.y + 22" }, text: { field: "datum.attributes" }, align: { value: "center" },
            baseline: { value: "middle" }, fontSize: { value: 10.5 }, fill: { value: ink }, font: { value: config.font },
          },
        },
      },
    ],
  };
}

async function drawSceneGraph(place, graph) {
  place.replaceChildren();
  if (!graph.nodes.length) {
    place.append(make("p", "No objects were found in this image.", { class: "note" }));
    return;
  }
  const view = new vega.View(vega.parse(sceneGraphSpec(graph, DATA.themes[theme()])), { renderer: "none" });
  // As a picture with its own view box, the graph scales to the width it is given.
  const svg = new DOMParser().parseFromString(await view.toSVG(), "image/svg+xml").documentElement;
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Scene graph with ${graph.nodes.length} objects`);
  place.replaceChildren(make("h4", "Scene graph"), document.importNode(svg, true));
  view.finalize();
}
