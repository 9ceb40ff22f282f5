// What the panel says of the current step.

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
  const { gradient } = op.outputs[0];
  return last && gradient && gradient.values === 1 ? `<p class="note">Here the way back begins: the blame of the loss for itself, dL/dL, is 1.</p>` : "";
}

function forward(op) {
  const inputs = op.inputs.filter((s) => s.value).map((s) => card(op, s, s.value, "", "", s.parameter ? "parameter" : s.buffer ? "buffer" : s.producer === null ? "given" : "comes in"));
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
    return card(op, { name: `∂${y}/∂${s.name}` }, s.slope, "", "slope", "the slope");
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
