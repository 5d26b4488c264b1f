// The value is a figure as JSON, and `ringed` the number of the trial that gets a ring.
const chart = () => element.querySelector('.chart');
function plotly() {
  window.plotlyReady ??= new Promise((done, failed) => {
    const script = document.createElement('script');
    script.src = chart().dataset.plotly; script.onload = done; script.onerror = failed;
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
// Buttons are named one by one: plotly 7 came with one more, which uploads the chart with all its plans.
const FLAT = [['toImage'], ['zoom2d', 'pan2d'], ['zoomIn2d', 'zoomOut2d', 'autoScale2d', 'resetScale2d']];
const SOLID = [['toImage'], ['zoom3d', 'pan3d', 'orbitRotation', 'tableRotation'], ['resetCameraDefault3d']];
const KEPT_HERE = {
  plotlyServerURL: '', showSendToCloud: false, showEditInChartStudio: false, showLink: false, displaylogo: false,
};
function options() {
  const solid = figure.data.some(trace => trace.type === 'scatter3d');
  return {responsive: true, ...KEPT_HERE, modeBarButtons: solid ? SOLID : FLAT};
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
  await plotly();
  if (mine !== turn || !target.isConnected) return;
  await Plotly.react(target, figure.data, {...themed(figure.layout), shapes: shapes()}, options());
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
