// Which operations are boxes of their own, which are folded into a module's box; the steps.

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
/** The last part of a path; with the part before it where that is a mere number. */
function leaf(path) {
  const parts = path.split(".");
  return parts.slice(/^\d+$/.test(parts[parts.length - 1]) ? -2 : -1).join(".");
}
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
        else if (s.buffer) continue;
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
