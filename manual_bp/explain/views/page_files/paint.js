// Blame, the size of a gradient, as width and colour; and what of the drawing is lit when.

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
