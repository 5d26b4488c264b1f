"""The page's style and script: colours for light and dark, and what happens when a mark is pointed
at.
"""

from automl_sr.presentation.drawing.style import NET_STYLE
from automl_sr.presentation.layer_chart import LAYER_STYLE

STYLE = (
    """
:root {
  --paper: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --band: #f6f8fa;
  --accent: #0550ae; --pruned: #9a5b00; --other: #8c959f; --good: #1a7f37;
  --c0: #0550ae; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #57606a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --band: #161b22;
    --accent: #79c0ff; --pruned: #e3b341; --other: #6e7681; --good: #56d364;
    --c0: #79c0ff; --c1: #ffa657; --c2: #56d364; --c3: #d2a8ff; --c4: #ff9bce; --c5: #9198a1;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0 auto; max-width: 1180px; padding: 0 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word;
}
h1 { margin: 1.5rem 0 0; font-size: 1.9rem; }
header p { margin: 0; color: var(--soft); }
h2 { margin: 2.5rem 0 0.5rem; font-size: 1.35rem; border-bottom: 1px solid var(--line); padding-bottom: 0.2rem; }
h3 { margin: 1.2rem 0 0.3rem; font-size: 1rem; }
p { max-width: 46rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; list-style: none; margin: 1rem 0 0; padding: 0; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; min-width: 40%; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; }
th, td {
  text-align: left; vertical-align: top; padding: 0.25rem 0.7rem; border-top: 1px solid var(--line); font-weight: 400;
}
thead th { background: var(--band); font-weight: 600; white-space: nowrap; }
tbody th { white-space: nowrap; }
td { max-width: 34rem; }
.long { min-width: 17rem; }
.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td code { overflow-wrap: anywhere; }
code, pre { font: 0.82rem/1.45 ui-monospace, monospace; }
pre {
  overflow: auto; background: var(--band); border: 1px solid var(--line); padding: 0.8rem; margin: 0.5rem 0;
  max-height: 40rem;
}
details { margin: 0.6rem 0; }
summary { cursor: pointer; color: var(--accent); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0.8rem 0; }
.charts figure { max-width: 36rem; }
.legend {
  display: flex; flex-wrap: wrap; gap: 0 1rem; list-style: none; margin: 0 0 0.2rem; padding: 0; font-size: 0.85rem;
}
.legend svg { display: inline-block; width: 18px; height: 12px; vertical-align: -1px; margin-right: 0.3rem; }
figcaption { color: var(--soft); font-size: 0.85rem; }
svg { display: block; width: 100%; height: auto; background: var(--paper); }
svg.fixed { width: auto; height: auto; max-width: none; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .tick { fill: var(--soft); font-size: 11px; }
svg .over { fill: var(--ink); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.grid { stroke: var(--line); stroke-width: 0.6; }
.axis { stroke: var(--soft); stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; }
.edge { stroke: var(--accent); fill: none; stroke-width: 1.6; }
.faint { stroke: var(--other); fill: none; stroke-width: 1; opacity: 0.7; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); }
.c3 { stroke: var(--c3); } .c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); }
.mark { stroke: var(--paper); stroke-width: 1; }
.mark.front { fill: var(--accent); }
.mark.complete { fill: var(--other); }
.mark.pruned { fill: none; stroke: var(--pruned); stroke-width: 1.3; }
.mark.broken { fill: none; stroke: var(--other); stroke-width: 1.4; }
.reference { fill: none; stroke: var(--good); stroke-width: 1.6; stroke-dasharray: 5 3; }
.rail { fill: var(--band); } .bar { fill: var(--accent); }
.coordinate { fill: none; stroke: var(--other); stroke-width: 1; opacity: 0.45; }
.coordinate.pruned { stroke-dasharray: 4 3; }
.coordinate.front { stroke: var(--accent); stroke-width: 2; opacity: 1; }
[data-t].on { stroke: var(--c1); opacity: 1; }
.coordinate.on, .line.on { stroke-width: 3.5; }
.mark.on { stroke-width: 4; }
tr.on > * { background: var(--band); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 0.8rem; }
.pictures figure { margin: 0; }
.pictures img { width: 100%; height: auto; image-rendering: pixelated; display: block; }
#tip {
  position: fixed; z-index: 9; max-width: min(24rem, 90vw); padding: 0.5rem 0.7rem; pointer-events: none;
  white-space: pre-line; font-size: 0.82rem; color: var(--ink);
  background: var(--band); border: 1px solid var(--soft); border-radius: 4px;
}
@media (max-width: 40rem) {
  svg text { font-size: 16px; }
  svg .tick { font-size: 15px; }
  svg.fixed text, svg.fixed .tick { font-size: 12px; }
}
@media print {
  nav, #tip { display: none; }
  body { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  pre { max-height: none; white-space: pre-wrap; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
    + NET_STYLE
    + LAYER_STYLE
)

SCRIPT = """
"use strict";
const tip = document.getElementById("tip");
const tips = new Map();
for (const row of document.querySelectorAll("tr[data-tip]")) tips.set(row.dataset.t, row.dataset.tip);
let shown = null;
function show(number, x, y) {
  if (number !== shown) {
    for (const item of document.querySelectorAll(".on")) item.classList.remove("on");
    if (number !== null)
      for (const item of document.querySelectorAll(`[data-t="${CSS.escape(number)}"]`)) item.classList.add("on");
    shown = number;
  }
  tip.hidden = number === null || x === undefined || !tips.has(number);
  if (tip.hidden) return;
  tip.textContent = tips.get(number);
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 4)) + "px";
  tip.style.top = Math.max(4, y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + "px";
}
function follow(event) {
  const mark = event.target.closest ? event.target.closest("[data-t]") : null;
  if (!mark) show(null);
  else if (mark.tagName === "TR") show(mark.dataset.t);
  else show(mark.dataset.t, event.clientX, event.clientY);
}
document.addEventListener("pointermove", follow);
document.addEventListener("pointerdown", follow);
document.addEventListener("keydown", event => { if (event.key === "Escape") show(null); });
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const item of opened) item.open = true;
});
addEventListener("afterprint", () => { for (const item of opened) item.open = false; });
"""
