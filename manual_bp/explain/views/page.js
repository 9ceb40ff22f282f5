"use strict";
// The page walks through one learning step: `step` holds what was recorded, `items` what of it is
// drawn (operations, and modules folded into one box), `frames` the steps of the walk.
const step = JSON.parse(document.getElementById("step").textContent);
const operations = step.operations;
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const MOST = 12; // boxes that are drawn at first

for (const op of operations) {
  for (const s of op.inputs) {
    if (s.value && s.value.same) {
      const [producer, k] = s.value.same;
      s.value = operations.find((o) => o.index === producer).outputs[k].value;
    }
  }
}

// ---- numbers -------------------------------------------------------------------------------

const raised = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function num(v, digits = step.precision) {
  if (v === null || v === undefined) return "";
  if (typeof v !== "number") return String(v);
  if (v === 0) return "0";
  const power = Math.floor(Math.log10(Math.abs(v)));
  const sign = (text) => text.replace("-", "−");
  if (power >= -4 && power < Math.max(digits, 6)) return sign(String(Number(v.toPrecision(digits))));
  const [mantissa, exponent] = v.toExponential(digits - 1).split("e");
  const tens = String(Number(exponent)).replace(/./g, (c) => raised[c]);
  return `${sign(String(Number(mantissa)))}·10${tens}`;
}

const shape = (t) => (t.shape.length ? t.shape.join(" × ") : "a number");
const finite = (v) => typeof v === "number";
const flat = (values) => (Array.isArray(values) ? values.flat(Infinity) : [values]);

// ---- folding: which operations are boxes of their own ----------------------------------------

const open = new Set();

function childOf(module, path) {
  if (path && !module.startsWith(path + ".")) return null;
  const first = (path ? module.slice(path.length + 1) : module).split(".")[0];
  return first ? (path ? `${path}.${first}` : first) : null;
}

function split(ops, path) {
  const pieces = [];
  for (const op of ops) {
    const child = childOf(op.module, path);
    const last = pieces[pieces.length - 1];
    if (child === null) pieces.push({ ops: [op], op });
    else if (last && last.path === child) last.ops.push(op);
    else pieces.push({ ops: [op], path: child });
  }
  return pieces.flatMap((p) => (p.ops.length === 1 ? [{ ops: p.ops, op: p.ops[0] }] : [p]));
}

function unfolded(pieces) {
  return pieces.flatMap((p) => (p.path && open.has(p.path) ? unfolded(split(p.ops, p.path)) : [p]));
}

function openAtFirst() {
  for (;;) {
    const pieces = unfolded(split(operations, ""));
    const group = pieces
      .filter((p) => p.path)
      .sort((a, b) => b.ops.length - a.ops.length)
      .find((p) => pieces.length - 1 + split(p.ops, p.path).length <= MOST);
    if (!group) return;
    open.add(group.path);
  }
}

// ---- what is drawn, and the steps ------------------------------------------------------------

let items = [];
let edges = [];
let frames = [];
let at = 0;

function norm(tensors) {
  const sizes = tensors.filter((t) => t).map((t) => (t.not_finite ? NaN : t.norm || 0));
  return sizes.length ? Math.hypot(...sizes) : null;
}

const arrives = (op) => norm(op.outputs.map((s) => s.gradient));
const reached = (item) => item.ops.some((op) => op.outputs.some((s) => s.gradient));
// The last part of a path; with the part before it where that is a mere number.
const leaf = (path) => (path.match(/(?:[^.]+\.)?\d+$/) || [path.split(".").pop()])[0];
const nameOf = (item) => leaf(item.path || item.op.module) || item.op.name;
const kindOf = (item) => (item.path ? step.modules[item.path] || (item.path === "loss" ? "" : "module") : item.op.name);

function build() {
  items = unfolded(split(operations, ""));
  const home = new Map();
  items.forEach((item, i) => item.ops.forEach((op) => home.set(op.index, i)));
  const found = new Map();
  items.forEach((item, to) => {
    item.entries = [];
    item.parameters = [];
    for (const op of item.ops) {
      for (const s of op.inputs) {
        if (s.parameter) item.parameters.push(s);
        else if (s.producer === null || !home.has(s.producer)) item.entries.push(s);
        else if (home.get(s.producer) !== to) {
          const from = home.get(s.producer);
          const key = `${from}-${to}`;
          if (!found.has(key)) found.set(key, { from, to, symbols: [] });
          found.get(key).symbols.push(s);
        }
      }
    }
  });
  edges = [...found.values()];
  for (const edge of edges) edge.blame = norm(edge.symbols.map((s) => s.gradient));
  frames = [{ phase: "start" }];
  items.forEach((_, i) => frames.push({ phase: "forward", i }));
  for (let i = items.length - 1; i >= 0; i--) {
    if (reached(items[i])) frames.push({ phase: "backward", i });
  }
  if (step.updates.length) frames.push({ phase: "update" });
}

// ---- blame: the size of a gradient as width and colour ---------------------------------------

let scale = { low: 0, high: 1 };

function measure() {
  const sizes = [];
  for (const op of operations) {
    for (const s of op.inputs) if (s.gradient && s.gradient.norm > 0) sizes.push(s.gradient.norm);
  }
  const high = sizes.length ? Math.log10(Math.max(...sizes)) : 0;
  const low = sizes.length ? Math.log10(Math.min(...sizes)) : -1;
  scale = { high, low: Math.max(Math.min(low, high - 1), high - 8) };
}

function part(size) {
  if (!(size > 0)) return 0;
  return Math.min(1, Math.max(0.04, (Math.log10(size) - scale.low) / (scale.high - scale.low)));
}

function blameStyle(size, most = 1) {
  if (size === null) return "";
  if (Number.isNaN(size)) return "stroke:#d0021b;stroke-width:3;stroke-dasharray:2 4";
  if (size === 0) return "stroke:var(--edge);stroke-width:1.4;stroke-dasharray:5 5";
  const t = part(size);
  const colour = `color-mix(in oklab, var(--blame) ${Math.round(30 + 70 * t)}%, var(--card))`;
  return `stroke:${colour};stroke-width:${(1.6 + 9 * most * t).toFixed(2)}`;
}

// ---- the drawing -----------------------------------------------------------------------------

const BOX = { w: 126, h: 50, dx: 176, dy: 96 };

function el(name, attributes = {}, parent = null, text = null) {
  const node = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (text !== null) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

function place() {
  const taken = new Set();
  items.forEach((item, i) => {
    const before = edges.filter((e) => e.to === i).map((e) => items[e.from]);
    item.column = before.length ? Math.max(...before.map((b) => b.column)) + 1 : 0;
    const main = before.length ? Math.min(...before.map((b) => b.row)) : 0;
    item.row = main;
    while (taken.has(`${item.column},${item.row}`)) item.row += 1;
    taken.add(`${item.column},${item.row}`);
  });
  // An input that is needed late stands right before the box that needs it.
  for (let i = items.length - 1; i >= 0; i--) {
    const after = edges.filter((e) => e.from === i).map((e) => items[e.to].column);
    if (!edges.some((e) => e.to === i) && after.length) items[i].column = Math.min(...after) - 1;
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
    width: 46 + (Math.max(...columns) - first) * BOX.dx + BOX.w + 30,
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
      const x = item.column === items[0].column && k === 0 ? null : BOX.w / 2 + (k - (all.length - 1) / 2) * 44;
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
    const kind = item.path ? [short(kindOf(item), 9), `${item.ops.length} steps`].filter(Boolean).join(", ") : kindOf(item);
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

function paint() {
  const { phase, i } = frames[at];
  const forwards = phase === "start" ? -1 : phase === "forward" ? i : items.length;
  const backwards = phase === "backward" ? i : phase === "update" ? -1 : items.length;
  items.forEach((item, k) => {
    const blamed = k >= backwards && reached(item);
    item.g.classList.toggle("seen", k <= forwards && !blamed);
    item.g.classList.toggle("blamed", blamed);
    item.g.classList.toggle("current", k === i);
    item.g.classList.toggle("ends", item.ops.some((op) => op.inputs.some((s) => s.wanted) && !op.outputs.some((s) => s.wanted)));
    if (k === i) item.g.setAttribute("aria-current", "step");
    else item.g.removeAttribute("aria-current");
    for (const { chip, s } of item.chips) {
      chip.classList.toggle("moved", phase === "update");
      chip.setAttribute("style", blamed && phase !== "update" && s.gradient ? blameStyle(norm([s.gradient]), 0.4) : "");
    }
    for (const entry of item.g.querySelectorAll(".entry")) entry.classList.toggle("seen", k <= forwards);
  });
  for (const edge of edges) {
    const blamed = edge.to >= backwards && edge.blame !== null;
    edge.line.classList.toggle("seen", edge.to <= forwards && !blamed);
    edge.line.classList.toggle("now", phase === "forward" && edge.to === i);
    edge.line.setAttribute("style", blamed ? blameStyle(edge.blame) : "");
    const { x, y, turn } = edge.middle;
    edge.tip.setAttribute("transform", `translate(${x},${y}) rotate(${blamed ? turn + 180 : turn})`);
    edge.tip.classList.toggle("shown", blamed || edge.to <= forwards);
  }
  const graph = $("graph");
  if (i !== undefined) {
    const svg = graph.firstChild;
    const zoom = svg.clientWidth / svg.viewBox.baseVal.width || 1;
    graph.scrollLeft = (items[i].x + BOX.w / 2) * zoom - graph.clientWidth / 2;
  } else if (phase === "start") graph.scrollLeft = 0;
}

function legend() {
  const line = (style) => `<svg width="40" height="14" aria-hidden="true"><path d="M2,7 H38" style="fill:none;${style}"/></svg>`;
  const sizes = [scale.high, (scale.high + scale.low) / 2, scale.low].map((v) => 10 ** v);
  const shown = sizes.map((v) => `<span>${line(blameStyle(v))}${num(v, 2)}</span>`).join("");
  $("legend").innerHTML =
    `<span>${line("stroke:var(--forward);stroke-width:1.8")}values, forward &rarr;</span>` +
    `<span><span><b>&larr;&nbsp;blame</b>: how large the gradient is (its norm)</span></span>${shown}` +
    `<span>${line(blameStyle(0))}none</span>`;
}

// ---- the panel -------------------------------------------------------------------------------

const escapeHtml = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

function tint(value, largest) {
  if (!finite(value)) return "background:rgb(208 2 27 / 0.35)";
  if (!largest || value === 0) return "";
  const t = Math.abs(value) / largest;
  return `background:rgb(var(--${value > 0 ? "positive" : "negative"}) / ${(0.06 + 0.34 * t).toFixed(3)})`;
}

/** The numbers of a tensor: a table, or for many a picture with one dot a number. */
function numbers(t, here = null) {
  if (t.values === undefined) return "";
  const all = flat(t.values).filter(finite);
  const largest = Math.max(0, ...all.map(Math.abs));
  const cell = (v, marked) => `<td${marked ? ' class="here"' : ""} style="${tint(v, largest)}">${num(v)}</td>`;
  const table = (rows, mark) =>
    `<table>${rows.map((row, i) => `<tr>${row.map((v, j) => cell(v, mark && mark[0] === i && mark[1] === j)).join("")}</tr>`).join("")}</table>`;
  const d = t.shape.length;
  if (d === 0) return table([[t.values]]);
  if (all.length > 12 && all.every((v) => v === all[0])) return `<p>all of them ${num(all[0])}</p>`;
  if (d === 1) return t.values.length <= 12 ? table([t.values], here && [0, here[0]]) : picture(t, 1, largest, here);
  if (d === 2 && t.shape[1] <= 8 && t.shape[0] <= 12) return table(t.values, here);
  if (all.length <= 48 && t.shape[d - 1] <= 8) {
    let slices = [[[], t.values]];
    for (let k = 0; k < d - 2; k++) slices = slices.flatMap(([i, v]) => v.map((w, j) => [[...i, j], w]));
    const inside = (i) => here && i.every((v, k) => v === here[k]) && here.slice(-2);
    return slices.map(([i, rows]) => `<p>[${i.join(", ")}]</p>${table(rows, inside(i))}`).join("");
  }
  return picture(t, d, largest, here);
}

function picture(t, d, largest, here) {
  const columns = d === 1 ? Math.min(t.shape[0], 32) : t.shape[d - 1];
  const marked = here ? here.reduce((k, i, axis) => k * t.shape[axis] + i, 0) : -1;
  return `<canvas role="img" data-here="${marked}" data-shape="${t.shape.join(" ")}" data-columns="${columns}" data-largest="${largest}" data-values="${flat(t.values).map((v) => (finite(v) ? Number(v.toPrecision(step.precision)) : v)).join(" ")}" aria-label="${escapeHtml(shape(t))} numbers from ${num(t.min)} to ${num(t.max)}"></canvas><details class="all"><summary>numbers</summary></details>`;
}

function paintPictures(root) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  const [up, down] = [colour("--positive"), colour("--negative")];
  for (const canvas of root.querySelectorAll("canvas")) {
    const values = canvas.dataset.values.split(" ");
    const columns = Number(canvas.dataset.columns);
    const rows = Math.ceil(values.length / columns);
    const dot = Math.max(3, Math.min(14, Math.floor(300 / columns)));
    canvas.width = columns * dot;
    canvas.height = rows * dot;
    const c = canvas.getContext("2d");
    values.forEach((text, k) => {
      const v = Number(text);
      const [r, g, b] = v >= 0 ? up : down;
      const t = Number(canvas.dataset.largest) ? Math.abs(v) / Number(canvas.dataset.largest) : 0;
      c.fillStyle = Number.isFinite(v) ? `rgb(${r} ${g} ${b} / ${(0.05 + 0.95 * t).toFixed(3)})` : "#d0021b";
      c.fillRect((k % columns) * dot, Math.floor(k / columns) * dot, dot - 0.5, dot - 0.5);
    });
    const here = Number(canvas.dataset.here);
    if (here >= 0) {
      c.strokeStyle = style.getPropertyValue("--ink");
      c.lineWidth = 2;
      c.strokeRect((here % columns) * dot + 1, Math.floor(here / columns) * dot + 1, dot - 2, dot - 2);
    }
    canvas.onpointermove = (event) => {
      const k = Math.floor(event.offsetY / dot) * columns + Math.floor(event.offsetX / dot);
      if (k < values.length) canvas.title = `[${indices(k, canvas)}] = ${num(Number(values[k]))}`;
    };
    canvas.nextElementSibling.ontoggle = ({ target }) => listNumbers(target, canvas, values, columns);
  }
}

function indices(k, canvas) {
  const found = [];
  for (const size of canvas.dataset.shape.split(" ").map(Number).reverse()) {
    found.unshift(k % size);
    k = Math.floor(k / size);
  }
  return found.join(", ");
}

/** Every number of a picture as text, made when it is asked for. */
function listNumbers(details, canvas, values, columns) {
  if (!details.open || details.querySelector("table")) return;
  const here = Number(canvas.dataset.here);
  let rows = "";
  for (let k = 0; k < values.length; k += columns) {
    const row = values.slice(k, k + columns);
    rows += `<tr><th>${indices(k, canvas)}</th>${row.map((v, j) => `<td${k + j === here ? ' class="here"' : ""}>${num(Number.isNaN(Number(v)) ? v : Number(v))}</td>`).join("")}</tr>`;
  }
  details.insertAdjacentHTML("beforeend", `<table>${rows}</table>`);
}

function card(op, s, t, prefix, kind, about) {
  const sym = op.math.symbols[prefix + s.name] || escapeHtml(prefix + s.name);
  const small = [about, s.parameter ? `<code>${escapeHtml(s.parameter)}</code>` : ""].filter(Boolean).join(" · ");
  const range = t.values === undefined || flat(t.values).length > 12 ? `, norm ${num(t.norm)}, ${num(t.min)} to ${num(t.max)}` : "";
  const odd = t.not_finite ? `, <b>${t.not_finite} not finite</b>` : "";
  return `<div class="tensor ${kind}" data-symbol="${escapeHtml(prefix + s.name)}">
    <div class="sym">${sym} <small>${small}</small></div>
    <div class="numbers" tabindex="${flat(t.values || []).length > 16 ? 0 : -1}">${numbers(t, (op.math.places || {})[prefix + s.name])}</div>
    <p class="stat">${shape(t)}${range}${odd}</p></div>`;
}

const cards = (list) => (list.length ? `<div class="flow">${list.join("")}</div>` : "");
/** What comes in and what goes out, in the direction in which the step runs in the picture. */
const way = (direction, parts) =>
  `<div class="way ${direction}">${parts.filter(([, list]) => list.length).map(([title, list]) => `<section><h3>${title}</h3>${cards(list)}</section>`).join('<div class="arrow" aria-hidden="true"></div>')}</div>`;
const math = (text, line) => (text ? `<div class="math${line ? " line" : ""}">${text}</div>` : "");
const percent = (v) => (v >= 0.01 || v === 0 ? `${Math.round(100 * v)} %` : "below 1 %");

function heading(op, what) {
  const title = op.module && op.module !== "loss" ? `${leaf(op.module)}: ${op.name}` : op.name;
  const where = op.module === "loss" ? "the loss function" : op.module ? `<code>${escapeHtml(op.module)}</code> ${escapeHtml(op.kind)}` : "called by the network itself";
  const settings = Object.entries(op.settings).map(([k, v]) => `${escapeHtml(k)} = ${escapeHtml(v)}`).join(", ");
  return `<h2>${escapeHtml(title)}</h2><p class="path">${what} · ${where}${settings ? ` · ${settings}` : ""}${foldButton(op)}</p>`;
}

function foldButton(op) {
  const inside = [...open].filter((p) => op.module === p || op.module.startsWith(p + "."));
  if (!inside.length || unfoldedAtFirst.has(inside[inside.length - 1])) return "";
  const path_ = inside.sort((a, b) => b.length - a.length)[0];
  return ` <button type="button" data-fold="${escapeHtml(path_)}">Fold ${escapeHtml(path_)}</button>`;
}

function activation(op) {
  const notes = [];
  if (op.dead) notes.push(`<b>${percent(op.dead)} dead.</b> There the slope is 0: no blame passes, and what lies before does not learn from it.${op.dead_units ? ` ${percent(op.dead_units)} of the units are dead for every example.` : ""}`);
  if (op.saturated) notes.push(`<b>${percent(op.saturated)} saturated.</b> There the curve is almost flat (slope below 0.01): almost no blame passes.`);
  return notes.map((n) => `<p class="note">${n}</p>`).join("");
}

/** The last operation makes the loss; its gradient is where the way back begins. */
function begins(op) {
  const last = op === operations[operations.length - 1] && op.outputs.length === 1;
  return last ? `<p class="note">Here the way back begins: the blame of the loss for itself, dL/dL, is 1.</p>` : "";
}

function forward(op) {
  const inputs = op.inputs.filter((s) => s.value).map((s) => card(op, s, s.value, "", "", s.parameter ? "parameter" : s.producer === null ? "given" : "comes in"));
  const outputs = op.outputs.map((s) => card(op, s, s.value, "", "out", "goes out"));
  const ends = op.inputs.some((s) => s.wanted) && !op.outputs.some((s) => s.wanted);
  return heading(op, "Forward") + math(op.math.formula) +
    (op.math.forward.length ? `<h3>One number worked out${Object.keys(op.math.places).length ? ", outlined below" : ""}</h3>${op.math.forward.map((l) => math(l, true)).join("")}` : "") +
    units(op, false) + way("forward", [["In", inputs], ["Out", outputs]]) + activation(op) +
    (ends ? `<p class="note">The gradient ends here: nothing before it learns through this operation.</p>` : "");
}

function backward(op) {
  const arriving = op.outputs.filter((s) => s.gradient).map((s) => card(op, s, s.gradient, "d", "blame", "arrives"));
  const slopes = op.inputs.filter((s) => s.slope).map((s) => {
    const y = op.outputs[0].name;
    return card(op, { name: `∂${y}/∂${s.name}` }, s.slope, "", "", "the slope");
  });
  const leaving = op.inputs.filter((s) => s.gradient && !s.parameter).map((s) => card(op, s, s.gradient, "d", "blame", "handed back"));
  const learned = op.inputs.filter((s) => s.gradient && s.parameter).map((s) => card(op, s, s.gradient, "d", "blame", "for the parameter"));
  const unasked = op.inputs.filter((s) => s.wanted === false && s.parameter).map((s) => s.parameter);
  const error = op.error === null ? "" : `<p class="check">Autograd agrees: relative error ${op.error === 0 ? "0, the same bits" : num(op.error, 2)}.${op.by_hand ? "" : " This gradient is autograd's own."}</p>`;
  return heading(op, "Backward") + math(op.math.rule) +
    (op.math.backward.length ? `<h3>One number worked out${Object.keys(op.math.places).length ? ", outlined below" : ""}</h3>${op.math.backward.map((l) => math(l, true)).join("")}` : "") +
    units(op, true) +
    way("backward", [["Arrives", arriving], ["The local derivative", slopes], ["Is handed back", [...leaving, ...learned]]]) +
    (leaving.length + learned.length ? "" : "<p>Nobody before it asks for a gradient: the way ends here.</p>") +
    (unasked.length ? `<p class="note">Frozen, without a gradient: ${unasked.map((p) => `<code>${escapeHtml(p)}</code>`).join(", ")}.</p>` : "") +
    begins(op) + activation(op) + error;
}

/** A small linear layer as units and lines: its weights, or the blame of each. */
function units(op, back) {
  const w = op.inputs.find((s) => s.argument === "weight");
  const t = w && (back ? w.gradient : w.value);
  if (op.name !== "linear" || !t || !t.values || t.shape.length !== 2 || Math.max(...t.shape) > 8) return "";
  const [out, into] = t.shape;
  const rows = Math.max(out, into);
  const height = rows * 34 + 16;
  const y = (k, n) => height / 2 + (k - (n - 1) / 2) * 34;
  const largest = Math.max(1e-300, ...flat(t.values).filter(finite).map(Math.abs));
  let lines = "";
  for (let o = 0; o < out; o++) {
    for (let i = 0; i < into; i++) {
      const v = t.values[o][i];
      const size = finite(v) ? Math.abs(v) / largest : 1;
      const colour = back ? "var(--blame)" : `rgb(var(--${v >= 0 ? "positive" : "negative"}))`;
      const dash = v === 0 ? ";stroke-dasharray:3 4" : "";
      lines += `<path d="M52,${y(i, into)} L228,${y(o, out)}" style="fill:none;stroke:${v === 0 ? "var(--edge)" : colour};stroke-opacity:${0.25 + 0.75 * size};stroke-width:${0.8 + 6 * size}${dash}"><title>${back ? "dW" : "W"}[${o}, ${i}] = ${num(v)}</title></path>`;
    }
  }
  const dots = (n, x, name, side) => [...Array(n).keys()].map((k) => `<circle cx="${x}" cy="${y(k, n)}" r="11"/><text x="${x + side * 20}" y="${y(k, n) + 4}" text-anchor="${side < 0 ? "end" : "start"}">${name}${k}</text>`).join("");
  const about = back
    ? "Each line is a weight; the wider, the more it is to blame (|dW|)."
    : "Each line is a weight W; the wider, the larger. Orange adds, blue subtracts.";
  return `<h3>${about}</h3><svg class="units" width="280" height="${height}" viewBox="0 0 280 ${height}" role="img" aria-label="${about}">${lines}${dots(into, 52, "x", -1)}${dots(out, 228, "y", 1)}</svg>`;
}

function group(item, back) {
  const most = Math.max(...item.ops.map((op) => arrives(op) || 0), 1e-300);
  const rows = item.ops.map((op) => {
    const size = arrives(op);
    const bar = size === null ? "" : `<span class="bar" style="width:${Math.max(2, Math.round(90 * (size / most)))}px"></span> ${num(size, 3)}`;
    return `<tr><td><code>${escapeHtml(op.module.slice(item.path.length + 1) || leaf(item.path))}</code></td><td>${escapeHtml(op.name)}</td><td>${shape(op.outputs[0].value)}</td>${back ? `<td>${bar}</td>` : ""}</tr>`;
  });
  if (back) rows.reverse();
  return `<h2>${escapeHtml([leaf(item.path), kindOf(item)].filter(Boolean).join(": "))}</h2>
    <p class="path">${back ? "Backward" : "Forward"} · <code>${escapeHtml(item.path)}</code> · ${item.ops.length} operations in one box</p>
    <p><button type="button" class="strong" data-open="${escapeHtml(item.path)}">Open this module</button></p>
    <div class="scroll"><table class="list"><tr><th>inside</th><th>operation</th><th>makes</th>${back ? "<th>blame that arrives (norm)</th>" : ""}</tr>${rows.join("")}</table></div>`;
}

function start() {
  const n = operations.length;
  return `<h2>How to read this</h2>
    <p>Every box is an operation of the network${items.some((i) => i.path) ? ", or a module that holds several: a stack of boxes that can be opened" : ""}. The small boxes under it are its parameters. Press <b>Step</b>, or the right arrow key.</p>
    <p><b>Forward</b>, from left to right, each operation makes its output from what comes in. At the right end stands the loss, one number that says how wrong the network is: <b>${num(step.loss)}</b>.</p>
    <p><b>Backward</b>, from right to left, each operation gets the blame of its output and works out the blame of its inputs and of its parameters. <span class="sym"><math><mrow class="d"><mi mathvariant="normal">d</mi><mi>x</mi></mrow></math></span> is short for <math><mo>∂</mo><mi>L</mi><mo>/</mo><mo>∂</mo><mi>x</mi></math>, the gradient of the loss: by how much it would change with <math><mi>x</mi></math>. The wider and stronger the line, the larger it is.</p>
    <p>${step.optimizer ? `In the end ${escapeHtml(step.optimizer)} moves every parameter a little, against its blame.` : "No optimizer was given, so that nothing moves in the end."} There are ${n} operations.</p>`;
}

function update() {
  const shown = step.updates.map((u) => {
    const cell = (label, t, kind) => (t ? `<div class="tensor ${kind}" data-symbol="${label}"><div class="sym"><small>${label}</small></div><div class="numbers">${numbers(t)}</div><p class="stat">${shape(t)}${t.values === undefined || flat(t.values).length > 12 ? `, norm ${num(t.norm)}` : ""}</p></div>` : "");
    const why = u.gradient ? "" : `<p class="note">It stays as it is: ${u.wanted ? "no gradient reached it" : "it is frozen"}.</p>`;
    return `<section data-parameter="${escapeHtml(u.name)}"><h3><code>${escapeHtml(u.name)}</code></h3>${math(u.line, true)}${why}${cards([cell("before", u.before, ""), cell("gradient", u.gradient, "blame"), cell("after", u.after, "out")].filter(Boolean))}</section>`;
  });
  const rules = [...new Set(step.updates.map((u) => u.math).filter(Boolean))].map((m) => math(m)).join("");
  const first = step.updates.find((u) => Object.keys(u.numbers).length);
  const settings = first ? math(first.numbers_math, true) : "";
  const worst = Math.max(0, ...step.updates.map((u) => u.error_after).filter(finite));
  const check = step.optimizer ? `<p class="check">torch.optim, given the same gradients, ends at the same weights: largest relative error ${worst === 0 ? "0, the same bits" : num(worst, 2)}.</p>` : "";
  return `<h2>Update${step.optimizer ? ` by ${escapeHtml(step.optimizer)}` : ""}</h2><p class="path">Every parameter moves against its gradient</p>${rules}${settings}${shown.join("")}${check}`;
}

function content({ phase, i }) {
  if (phase === "start") return start();
  if (phase === "update") return update();
  const item = items[i];
  if (item.path) return group(item, phase === "backward");
  return phase === "forward" ? forward(item.op) : backward(item.op);
}

// ---- walking ---------------------------------------------------------------------------------

function go(to) {
  at = Math.max(0, Math.min(frames.length - 1, to));
  const { phase, i } = frames[at];
  $("panel").innerHTML = content(frames[at]);
  paintPictures($("panel"));
  stack();
  paint();
  const name = i === undefined ? "" : `${nameOf(items[i])} ${items[i].path ? "" : items[i].op.name}`;
  const words = { start: "Start", forward: "Forward", backward: "Backward", update: "Update" }[phase];
  $("phase").innerHTML = `<b>${words}</b> · ${at} of ${frames.length - 1}`;
  document.querySelector(".where").className = `where ${phase}`;
  Object.assign($("slider"), { max: frames.length - 1, value: at });
  $("slider").setAttribute("aria-valuetext", `${words} ${name}`);
  $("back").disabled = at === 0;
  $("next").disabled = at === frames.length - 1;
  $("told").textContent = `Step ${at} of ${frames.length - 1}: ${words} ${name}`;
  document.body.dataset.step = String(at);
  document.body.dataset.phase = phase;
}

/** What does not fit side by side goes one below the other. */
function stack() {
  for (const way of document.querySelectorAll(".way")) {
    way.classList.remove("stacked");
    const cut = [...way.querySelectorAll(".numbers")].some((n) => n.scrollWidth > n.clientWidth + 1);
    way.classList.toggle("stacked", cut);
  }
}

/** Fold or unfold, and stay where one was. */
function refold(change) {
  const { phase, i } = frames[at];
  const here = i === undefined ? null : (phase === "backward" ? items[i].ops[items[i].ops.length - 1] : items[i].ops[0]);
  change();
  build();
  draw();
  const found = frames.findIndex((f) => f.phase === phase && (here === null || items[f.i].ops.includes(here)));
  go(found);
}

addEventListener("resize", stack);
$("back").addEventListener("click", () => go(at - 1));
$("next").addEventListener("click", () => go(at + 1));
$("slider").addEventListener("input", (event) => go(Number(event.target.value)));
$("panel").addEventListener("click", (event) => {
  const { open: opening, fold } = event.target.dataset;
  if (opening) refold(() => open.add(opening));
  if (fold) refold(() => open.delete(fold));
});
document.addEventListener("keydown", (event) => {
  if (event.target.id === "slider" || event.altKey || event.ctrlKey || event.metaKey) return;
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: frames.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  go(to);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paintPictures($("panel")));

openAtFirst();
const unfoldedAtFirst = new Set(open);
measure();
legend();
build();
draw();
go(0);
