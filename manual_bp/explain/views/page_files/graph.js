// The drawing: boxes, lines, and where they stand.

const BOX = { w: 126, h: 50, dx: 176, dy: 96 };

function el(name, attributes = {}, parent = null, text = null) {
  const node = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (text !== null) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

/** Columns by the longest way from the input, then as late as what needs a box allows. */
function place() {
  const before = (i) => edges.filter((e) => e.to === i).map((e) => items[e.from]);
  const after = (i) => edges.filter((e) => e.from === i).map((e) => items[e.to]);
  items.forEach((item, i) => {
    item.column = Math.max(-1, ...before(i).map((b) => b.column)) + 1;
  });
  for (let i = items.length - 1; i >= 0; i--) {
    const latest = Math.min(...after(i).map((a) => a.column)) - 1;
    items[i].slack = Number.isFinite(latest) ? latest - items[i].column : 0;
    items[i].column += items[i].slack;
  }
  // What cannot stand elsewhere makes the first row.
  const taken = new Set();
  for (const item of [...items].sort((a, b) => Math.sign(a.slack) - Math.sign(b.slack))) {
    item.row = 0;
    while (taken.has(`${item.column},${item.row}`)) item.row += 1;
    taken.add(`${item.column},${item.row}`);
  }
  const columns = items.map((item) => item.column);
  const first = Math.min(...columns);
  const longest = Math.max(1, ...edges.map((e) => items[e.to].column - items[e.from].column));
  const above = 40 + (longest > 1 ? 10 + 6 * Math.min(longest, 8) : 0);
  items.forEach((item) => {
    item.x = 46 + (item.column - first) * BOX.dx;
    item.y = above + item.row * BOX.dy;
  });
  return {
    width: 46 + (Math.max(...columns) - first) * BOX.dx + BOX.w + 24,
    height: above + (Math.max(...items.map((i) => i.row)) + 1) * BOX.dy - 8,
  };
}

function path(edge) {
  const a = items[edge.from];
  const b = items[edge.to];
  const [x1, y1] = [a.x + BOX.w, a.y + BOX.h / 2];
  const [x2, y2] = [b.x, b.y + BOX.h / 2];
  const span = b.column - a.column;
  if (span > 1 && a.row === b.row) {
    const top = a.y - 14 - 6 * Math.min(span, 8);
    const [s, e] = [a.x + BOX.w - 14, b.x + 14];
    return `M${s},${a.y} C${s},${top} ${s + 26},${top} ${s + 46},${top} L${e - 46},${top} C${e - 26},${top} ${e},${top} ${e},${b.y}`;
  }
  const bend = Math.max(18, (x2 - x1) / 2);
  return `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
}

function draw() {
  const size = place();
  const graph = $("graph");
  graph.textContent = "";
  const zoom = innerWidth < 640 ? 0.86 : 1;
  const svg = el("svg", { width: size.width * zoom, height: size.height * zoom, viewBox: `0 0 ${size.width} ${size.height}` });
  const lines = el("g", {}, svg);
  for (const edge of edges) {
    edge.line = el("path", { d: path(edge), class: "edge" }, lines);
    if (edge.blame !== null) el("title", {}, edge.line, `gradient of norm ${num(edge.blame)}`);
  }
  const tips = el("g", {}, svg);
  for (const edge of edges) edge.tip = el("path", { class: "tip", d: "M-5,-5 L5,0 L-5,5 Z" }, tips);
  items.forEach((item, i) => {
    const g = el("g", {
      class: "node",
      tabindex: "0",
      role: "button",
      transform: `translate(${item.x},${item.y})`,
      "aria-label": `${item.path || item.op.module} ${kindOf(item)}, box ${i + 1} of ${items.length}`,
    }, svg);
    item.entries.filter((s) => s.name).slice(0, 3).forEach((s, k, all) => {
      const free = !edges.some((edge) => edge.to === i); // nothing else comes in from the left
      const x = free && k === 0 ? null : BOX.w / 2 + (k - (all.length - 1) / 2) * 44;
      if (x === null) {
        el("path", { class: "edge entry", d: `M-26,${BOX.h / 2} L0,${BOX.h / 2}` }, g);
        el("text", { class: "soft", x: -30, y: BOX.h / 2 - 8 }, g, short(s.name, 8));
      } else {
        el("path", { class: "edge entry", d: `M${x},-14 L${x},0` }, g);
        el("text", { class: "soft", x, y: -19 }, g, short(s.name, 8));
      }
    });
    if (item.path) {
      el("rect", { class: "back", x: 6, y: -6, width: BOX.w - 12, height: BOX.h, rx: 8 }, g);
      el("rect", { class: "back", x: 3, y: -3, width: BOX.w - 6, height: BOX.h, rx: 8 }, g);
    }
    el("rect", { class: "box", width: BOX.w, height: BOX.h, rx: 8 }, g);
    const name = nameOf(item);
    const kind = item.path ? kindOf(item) || `${item.ops.length} steps` : kindOf(item);
    if (name === kind) {
      el("text", { x: BOX.w / 2, y: 30 }, g, short(name, 16));
    } else {
      el("text", { x: BOX.w / 2, y: 21, "font-weight": 600 }, g, short(name, 15));
      el("text", { class: "soft", x: BOX.w / 2, y: 38 }, g, short(kind, 17));
    }
    item.chips = item.path ? [] : item.parameters.slice(0, 4).map((s, k, all) => {
      const w = Math.max(...all.map((p) => p.name.length)) <= 2 ? 28 : all.length < 3 ? 52 : 34;
      const x = BOX.w / 2 + (k - (all.length - 1) / 2) * (w + 6) - w / 2;
      const chip = el("rect", { class: "chip", x, y: BOX.h + 7, width: w, height: 20, rx: 6 }, g);
      el("text", { class: "soft", x: x + w / 2, y: BOX.h + 21 }, g, short(s.name, w > 40 ? 7 : 4));
      el("title", {}, chip, s.parameter);
      return { chip, s };
    });
    g.addEventListener("click", () => visit(i));
    g.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        visit(i);
      }
    });
    item.g = g;
  });
  graph.appendChild(svg);
  for (const edge of edges) {
    const length = edge.line.getTotalLength();
    const [a, b] = [edge.line.getPointAtLength(length / 2 - 1), edge.line.getPointAtLength(length / 2 + 1)];
    edge.middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, turn: (Math.atan2(b.y - a.y, b.x - a.x) * 180) / Math.PI };
  }
}

/** Go to the step of a box in the phase that is being walked. */
function visit(i) {
  const phase = frames[at].phase === "backward" ? "backward" : "forward";
  const wanted = frames.findIndex((f) => f.phase === phase && f.i === i);
  go(wanted >= 0 ? wanted : frames.findIndex((f) => f.i === i));
}
