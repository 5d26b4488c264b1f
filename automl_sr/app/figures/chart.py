"""A plotly chart in which a click selects a trial: Gradio's own plot tells nobody what was clicked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from automl_sr.app.html_text import escaped
from automl_sr.app.session import Session, listen
from automl_sr.presentation.numbers import plain

Figure = Mapping[str, Any]
"""`data` and `layout` as plotly's JSON; a point that belongs to a trial has its number as `customdata`."""
PLOTLY = "static/plotly.min.js"

TEMPLATE = '<div class="chart" role="img" aria-label="TITLE"></div><p class="empty" hidden></p>'
CSS = """
.chart { height: HEIGHTpx; }
.empty { padding: 2rem; text-align: center; opacity: 0.8; }
"""
SCRIPT = """
const chart = () => element.querySelector('.chart');
function library() {
  window.plotlyReady ??= new Promise((done, failed) => {
    const script = document.createElement('script');
    script.src = 'LIBRARY'; script.onload = done; script.onerror = failed;
    document.head.append(script);
  });
  return window.plotlyReady;
}
function themed(layout) {
  const ink = getComputedStyle(element).color, line = 'rgba(128, 128, 128, 0.25)';
  const result = {paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', ...layout};
  result.font = {color: ink, family: 'system-ui, sans-serif', ...layout.font};
  result.margin = {l: 60, r: 20, t: 30, b: 50, ...layout.margin};
  for (const name of Object.keys(layout).filter(key => /^[xyz]axis/.test(key)))
    result[name] = {gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, ...layout[name]};
  return result;
}
let figure = null, turn = 0;
function shapes() {
  const given = figure.layout.shapes || [], chosen = props.ringed ?? null;
  for (const trace of chosen === null ? [] : figure.data) {
    if (trace.type !== 'scatter' || !trace.marker || !Array.isArray(trace.customdata)) continue;
    const at = trace.customdata.indexOf(chosen);
    if (at < 0) continue;
    return [...given, {name: 'ring', type: 'circle', xref: trace.xaxis || 'x', yref: trace.yaxis || 'y',
      xsizemode: 'pixel', ysizemode: 'pixel', xanchor: trace.x[at], yanchor: trace.y[at],
      x0: -9, x1: 9, y0: -9, y1: 9, line: {color: getComputedStyle(element).color, width: 2.5}}];
  }
  return given;
}
async function draw() {
  const mine = ++turn;
  figure = props.value ? JSON.parse(props.value) : null;
  const empty = element.querySelector('.empty'), target = chart();
  const note = !figure ? '' : figure.note || '';
  empty.textContent = note; empty.hidden = !note; target.hidden = !figure || !!note;
  if (target.hidden) return;
  await library();
  if (mine !== turn || !target.isConnected) return;
  const options = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ['lasso2d', 'select2d']};
  await Plotly.react(target, figure.data, {...themed(figure.layout), shapes: shapes()}, options);
  if (!target.dataset.bound) {
    target.dataset.bound = 'yes';
    target.on('plotly_click', event => {
      const number = event.points[0].customdata;
      if (typeof number === 'number') trigger('select', {number});
    });
  }
  target.dataset.drawn = 1 + Number(target.dataset.drawn || 0);
}
function ring() {  // without drawing thousands of points again
  const target = chart();
  if (figure && figure.data && target.dataset.drawn) Plotly.relayout(target, {shapes: shapes()});
}
draw();
watch('value', draw);
watch('ringed', ring);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
"""


RING = "number => ({__type__: 'update', props: {ringed: number}})"


def chart(title: str, elem_id: str, height: int = 420) -> gr.HTML:
    """Make a chart; its value is a `written` figure, or {"note": text} to say why there is none.

    The trial `ringed` gets a ring.

    `select` events carry {"number": of the trial}.
    """
    # what never changes stands in the templates: Gradio forgets the props of a component that it has not shown yet
    # as soon as an update comes in for it, even one that says to leave it as it is
    return gr.HTML(
        value=None,
        html_template=TEMPLATE.replace("TITLE", escaped(title)),
        css_template=CSS.replace("HEIGHT", str(height)),
        js_on_load=SCRIPT.replace("LIBRARY", PLOTLY),
        elem_id=elem_id,
        ringed=None,
    )


def written(figure: Figure) -> str:
    """Write a figure as text for its way to the page: Gradio watches and copies every single number of anything else.

    With 250 trials in four panels that took tens of seconds on a busy machine.
    """
    return json.dumps(plain(figure))


def selecting(session: Session, plot: gr.HTML) -> None:
    """Let a click in a chart select the trial, and give the selected trial a ring."""
    listen([plot.select], clicked, [], [session.trial])
    gr.on([session.trial.change], None, [session.trial], [plot], js=RING, api_visibility="private")


def clicked(event: gr.EventData) -> int | None:
    """Give the trial that was clicked in a chart."""
    number = event._data.get("number") if isinstance(event._data, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None
