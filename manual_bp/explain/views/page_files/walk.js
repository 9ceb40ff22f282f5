// Walking: buttons, keys, the slider, and what begins it all.

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
