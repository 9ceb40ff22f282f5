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

// Numbers as people read them.

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
