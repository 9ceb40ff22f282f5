// Tensors: tables of numbers, pictures of many, and the cards that hold them.

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
  let columns = d === 1 ? Math.min(t.shape[0], 32) : t.shape[d - 1];
  for (let axis = d - 2; axis > 0 && columns * t.shape[axis] <= 40; axis--) columns *= t.shape[axis];
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
  const range = kind === "slope" ? "" : t.values === undefined || flat(t.values).length > 12 ? `, norm ${num(t.norm)}, ${num(t.min)} to ${num(t.max)}` : "";
  const odd = t.not_finite ? `, <b>${t.not_finite} not finite</b>` : "";
  return `<div class="tensor ${kind}" data-symbol="${escapeHtml(prefix + s.name)}">
    <div class="sym">${sym} <small>${small}</small></div>
    <div class="numbers" tabindex="${flat(t.values || []).length > 16 ? 0 : -1}">${numbers(t, (op.math.places || {})[prefix + s.name])}</div>
    <p class="stat">${shape(t)}${range}${odd}</p></div>`;
}
