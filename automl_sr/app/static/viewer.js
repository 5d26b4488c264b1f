// It draws on canvases, all through one view: zoom, and the image point in the middle.
const find = selector => element.querySelector(selector);
const root = find('.viewer'), grid = find('.panes'), single = find('.single'), stage = find('.stage canvas');
const divider = find('.divider'), crops = find('.crops');
const MOST = 32, LENS = 130;
const view = {zoom: 1, x: 0, y: 0, fit: true}, lens = {x: 0, y: 0, pinned: false};
let shown = {panes: [], width: 1, height: 1}, mode = 'side', split = 0.5, pending = false;
const panes = new Map();  // by key: entry, bitmap, and the canvases of its pane and of its crop
const map = {canvas: document.createElement('canvas'), what: ''};

// ---- view

const area = () => mode === 'side' ? grid.querySelector('canvas') : stage;
const whole = box => Math.min(box.clientWidth / shown.width, box.clientHeight / shown.height);
function keepInside(box) {
  const least = Math.min(whole(box), 1);
  if (view.fit) view.zoom = whole(box);
  view.zoom = Math.min(MOST, Math.max(least, view.zoom));
  const inside = (value, length, side) => {
    const half = length / view.zoom / 2;
    return side <= 2 * half ? side / 2 : Math.min(side - half, Math.max(half, value));
  };
  view.x = inside(view.x, box.clientWidth, shown.width);
  view.y = inside(view.y, box.clientHeight, shown.height);
}
function zoomBy(factor, box, point) {
  const at = point || {x: box.clientWidth / 2, y: box.clientHeight / 2};
  const image = toImage(box, at), least = Math.min(whole(box), 1);
  view.zoom = Math.min(MOST, Math.max(least, view.zoom * factor));
  view.fit = view.zoom <= least && whole(box) <= 1;
  view.x = image.x - (at.x - box.clientWidth / 2) / view.zoom;
  view.y = image.y - (at.y - box.clientHeight / 2) / view.zoom;
  draw();
}
const toImage = (box, at) => ({x: view.x + (at.x - box.clientWidth / 2) / view.zoom,
                               y: view.y + (at.y - box.clientHeight / 2) / view.zoom});
const within = (box, event) => {
  const edges = box.getBoundingClientRect();
  return {x: event.clientX - edges.left - box.clientLeft, y: event.clientY - edges.top - box.clientTop};
};

// ---- drawing

function surface(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  return context;
}
function picture(context, source, box, zoom, x, y) {
  context.imageSmoothingEnabled = zoom * (window.devicePixelRatio || 1) < 1;
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, box.clientWidth / 2 - x * zoom, box.clientHeight / 2 - y * zoom,
                    shown.width * zoom, shown.height * zoom);
}
function frame(context, box) {
  const side = LENS / power(), zoom = view.zoom;
  const left = box.clientWidth / 2 + (lens.x - side / 2 - view.x) * zoom;
  const top = box.clientHeight / 2 + (lens.y - side / 2 - view.y) * zoom;
  context.lineWidth = 3; context.strokeStyle = 'rgba(0, 0, 0, 0.6)';
  context.strokeRect(left, top, side * zoom, side * zoom);
  context.lineWidth = 1.5; context.strokeStyle = lens.pinned ? '#ffd33d' : '#fff';
  context.strokeRect(left, top, side * zoom, side * zoom);
}
const power = () => Number(find('.power').value);
const bitmap = key => panes.get(key)?.bitmap;
function draw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; paint(); });
}
function paint() {
  const box = area();
  if (root.hidden || !box || !box.clientWidth) return;
  keepInside(box);
  const touch = view.zoom > whole(box) * 1.001 ? 'none' : 'pan-y';
  if (mode === 'side') for (const pane of panes.values()) if (pane.bitmap) paintOne(pane.canvas, [pane.bitmap], touch);
  if (mode === 'slider') paintOne(stage, [bitmap(find('.right').value), bitmap(find('.left').value)], touch);
  if (mode === 'difference') { difference(); paintOne(stage, [map.canvas], touch); }
  for (const pane of panes.values()) if (pane.bitmap) {
    const context = surface(pane.crop);
    picture(context, pane.bitmap, pane.crop, power(), lens.x, lens.y);
  }
  find('.place').textContent = ', around ' + Math.floor(lens.x) + ', ' + Math.floor(lens.y);
  find('.follow').hidden = !lens.pinned;
  find('.zoom').textContent = Math.round(100 * view.zoom) + ' %';
  root.dataset.zoom = view.zoom; root.dataset.centre = view.x + ',' + view.y;
  root.dataset.drawn = 1 + Number(root.dataset.drawn || 0);
}
function paintOne(canvas, layers, touch) {
  const context = surface(canvas);
  canvas.style.touchAction = touch;
  layers.forEach((source, index) => {
    if (!source) return;
    context.save();
    if (index) { context.beginPath(); context.rect(0, 0, split * canvas.clientWidth, canvas.clientHeight);
                 context.clip(); }
    picture(context, source, canvas, view.zoom, view.x, view.y);
    context.restore();
  });
  frame(context, canvas);
}

// ---- difference

function luma(source) {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, {width: shown.width, height: shown.height});
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(source, 0, 0);
  const {data} = context.getImageData(0, 0, shown.width, shown.height);
  const plane = new Float32Array(data.length / 4);
  for (let at = 0, from = 0; at < plane.length; at++, from += 4)
    plane[at] = (65.481 * data[from] + 128.553 * data[from + 1] + 24.966 * data[from + 2]) / 255;
  return plane;
}
function difference() {
  const of = find('.of').value, against = find('.against').value, factor = Number(find('.factor').value);
  const what = [shown.run, of, against, factor].join(' ');
  if (map.what === what || !bitmap(of) || !bitmap(against)) return;
  const one = luma(bitmap(of)), two = luma(bitmap(against));
  Object.assign(map.canvas, {width: shown.width, height: shown.height});
  const context = map.canvas.getContext('2d'), made = context.createImageData(shown.width, shown.height);
  let sum = 0, most = 0;
  for (let at = 0, to = 0; at < one.length; at++, to += 4) {
    const gap = Math.abs(one[at] - two[at]);
    sum += gap; if (gap > most) most = gap;
    made.data[to] = made.data[to + 1] = made.data[to + 2] = factor * gap; made.data[to + 3] = 255;
  }
  context.putImageData(made, 0, 0);
  map.what = what;
  const names = panes.get(of).entry.title + ' and ' + panes.get(against).entry.title;
  single.querySelector('figcaption').textContent = 'Difference of ' + names + ' on luma, amplified ' + factor +
    ' times: black is equal. On average ' + (sum / one.length).toFixed(2) + ' of 255 levels, at most ' +
    most.toFixed(1) + '.';
}

// ---- hands: pointers, wheel, keys

function handle(canvas) {
  const held = new Map();
  let moved = 0;
  canvas.addEventListener('pointerdown', event => {
    if (event.button) return;
    if (!held.size) moved = 0;
    held.set(event.pointerId, within(canvas, event));
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', event => {
    const at = within(canvas, event), before = held.get(event.pointerId);
    if (!before) { if (event.pointerType === 'mouse' && !lens.pinned) { look(toImage(canvas, at)); draw(); } return; }
    const others = [...held].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    held.set(event.pointerId, at);
    moved += Math.hypot(at.x - before.x, at.y - before.y);
    if (others.length) {
      const apart = point => Math.hypot(point.x - others[0].x, point.y - others[0].y);
      const middle = {x: (at.x + others[0].x) / 2, y: (at.y + others[0].y) / 2};
      moved += 9;
      zoomBy(apart(at) / Math.max(1, apart(before)), canvas, middle);
    }
    const share = others.length ? 2 : 1;
    if (moved > 3) { view.x -= (at.x - before.x) / view.zoom / share; view.y -= (at.y - before.y) / view.zoom / share; }
    draw();
  });
  canvas.addEventListener('pointerup', event => {
    if (held.delete(event.pointerId) && !held.size && moved <= 3) pin(toImage(canvas, within(canvas, event)));
  });
  canvas.addEventListener('pointercancel', event => held.delete(event.pointerId));
  canvas.addEventListener('wheel', event => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    zoomBy(Math.exp(-0.002 * lines * event.deltaY), canvas, within(canvas, event));
  }, {passive: false});
  canvas.addEventListener('keydown', event => {
    const step = 40 / view.zoom, keys = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys[event.key]) { view.x += step * keys[event.key][0]; view.y += step * keys[event.key][1]; draw(); }
    else if (event.key === '+' || event.key === '=') zoomBy(1.5, canvas);
    else if (event.key === '-') zoomBy(1 / 1.5, canvas);
    else if (event.key === '0') { view.fit = true; draw(); }
    else if (event.key === 'Enter') pin({x: view.x, y: view.y});
    else if (event.key === 'Escape') { lens.pinned = false; draw(); }
    else return;
    event.preventDefault();
  });
}
const limited = (value, most) => Math.min(most, Math.max(0, value));
function look(at) { lens.x = limited(at.x, shown.width); lens.y = limited(at.y, shown.height); }
function pin(at) { look(at); lens.pinned = true; draw(); }
function slide(to) {
  split = Math.min(1, Math.max(0, to));
  divider.style.left = 100 * split + '%';
  const name = which => panes.get(find(which).value)?.entry.title;
  divider.setAttribute('aria-valuenow', Math.round(100 * split));
  divider.setAttribute('aria-valuetext', Math.round(100 * split) + ' % ' + name('.left') + ', then ' + name('.right'));
  draw();
}
divider.addEventListener('pointerdown', event => { divider.setPointerCapture(event.pointerId); event.preventDefault();
                                                   divider.focus(); });
divider.addEventListener('pointermove', event => {
  if (divider.hasPointerCapture(event.pointerId)) slide(within(stage, event).x / stage.clientWidth);
});
divider.addEventListener('keydown', event => {
  const step = event.shiftKey ? 0.1 : 0.02;
  const to = {ArrowLeft: split - step, ArrowRight: split + step, Home: 0, End: 1}[event.key];
  if (to === undefined) return;
  event.preventDefault(); slide(to);
});
for (const button of element.querySelectorAll('[data-zoom]')) button.addEventListener('click', () => {
  const box = area();
  if (!box) return;
  if (button.dataset.zoom === 'fit') { view.fit = true; draw(); }
  else if (button.dataset.zoom === 'one') zoomBy(1 / view.zoom, box);
  else zoomBy(button.dataset.zoom === 'in' ? 1.5 : 1 / 1.5, box);
});
for (const button of element.querySelectorAll('[data-mode]'))
  button.addEventListener('click', () => { mode = button.dataset.mode; arrange(); });
for (const select of element.querySelectorAll('.left, .right, .of, .against, .factor, .power'))
  select.addEventListener('change', arrange);
find('.follow').addEventListener('click', () => { lens.pinned = false; draw(); });
handle(stage);

// ---- what is shown

function arrange() {
  for (const button of element.querySelectorAll('[data-mode]'))
    button.setAttribute('aria-pressed', String(button.dataset.mode === mode));
  grid.hidden = mode !== 'side'; grid.style.display = grid.hidden ? 'none' : '';
  single.hidden = mode === 'side'; divider.hidden = mode !== 'slider';
  find('.of-slider').hidden = mode !== 'slider'; find('.of-difference').hidden = mode !== 'difference';
  const width = root.clientWidth, count = panes.size;
  const columns = width < 560 ? 1 : count === 4 ? 2 : Math.min(3, Math.max(1, count));
  grid.style.gridTemplateColumns = 'repeat(' + columns + ', minmax(0, 1fr))';
  const high = (wide, most) => Math.round(Math.min(most, Math.max(140, wide * shown.height / shown.width))) + 'px';
  for (const pane of panes.values())
    if (pane.canvas) pane.canvas.style.height = high((width - 8 * (columns - 1)) / columns, columns === 1 ? 240 : 380);
  stage.style.height = high(width, Math.min(560, 0.7 * window.innerHeight));
  const chosen = which => panes.get(find(which).value)?.entry.title || '';
  stage.setAttribute('aria-label', mode === 'slider' ? chosen('.left') + ' on the left, ' + chosen('.right') +
    ' on the right' : 'Difference of ' + chosen('.of') + ' and ' + chosen('.against'));
  if (mode === 'slider') single.querySelector('figcaption').textContent =
    'Left: ' + line(find('.left').value) + '. Right: ' + line(find('.right').value) + '.';
  map.what = mode === 'difference' ? '' : map.what;
  slide(split);
}
function line(key) {
  const entry = panes.get(key)?.entry;
  return !entry ? '' : entry.title + (entry.words ? ' (' + entry.words + ')' : '');
}
const made = (tag, text, name) => {
  const node = document.createElement(tag);
  node.textContent = text || ''; if (name) node.className = name;
  return node;
};
function newPane(entry) {
  const pane = {entry, figure: made('figure')}, caption = made('figcaption');
  pane.figure.dataset.key = entry.key;
  caption.append(made('b', entry.title));
  grid.append(pane.figure);
  if (entry.error) { pane.figure.append(made('p', entry.error, 'failed'), caption); return pane; }
  pane.canvas = made('canvas'); pane.canvas.tabIndex = 0; pane.canvas.setAttribute('role', 'img');
  pane.canvas.setAttribute('aria-label', spoken(entry));
  const save = made('a', 'Save PNG', 'save');
  save.href = local(entry.url); save.download = entry.file; save.title = 'Save ' + entry.file;
  caption.append(save, made('span', entry.words)); pane.figure.append(pane.canvas, caption); handle(pane.canvas);
  pane.cropFigure = made('figure'); pane.crop = made('canvas'); pane.crop.setAttribute('role', 'img');
  pane.crop.setAttribute('aria-label', 'Magnified: ' + entry.title);
  pane.cropFigure.append(pane.crop, made('figcaption', entry.title)); crops.append(pane.cropFigure);
  return pane;
}
const spoken = entry => entry.title + (entry.words ? ', ' + entry.words : '');
const local = url => new URL(url, document.baseURI).href;
async function load(pane) {
  const answer = await fetch(local(pane.entry.url));
  if (!answer.ok) throw new Error(String(answer.status));
  const exact = {colorSpaceConversion: 'none', premultiplyAlpha: 'none'};
  pane.bitmap = await createImageBitmap(await answer.blob(), exact);
}
function forget() {
  for (const pane of panes.values()) pane.bitmap?.close();
  panes.clear(); grid.replaceChildren(); crops.replaceChildren(); map.what = '';
  Object.assign(view, {fit: true}); Object.assign(lens, {pinned: false});
}
function offer(which, wanted) {
  const select = find(which), known = [...panes.values()].filter(pane => !pane.entry.error);
  const before = select.dataset.run === shown.run && select.dataset.touched ? select.value : null;
  select.replaceChildren(...known.map(pane => {
    const option = made('option', pane.entry.title);
    option.value = pane.entry.key;
    return option;
  }));
  const keys = known.map(pane => pane.entry.key);
  const chosen = keys.includes(before) ? before : keys.includes(wanted) ? wanted : keys[0];
  if (chosen) select.value = chosen;
  if (select.dataset.run !== shown.run) delete select.dataset.touched;
  select.dataset.run = shown.run;
}
for (const which of ['.left', '.right', '.of', '.against'])
  find(which).addEventListener('change', () => { find(which).dataset.touched = 'yes'; });
async function update() {
  const value = props.value ? JSON.parse(props.value) : null;
  const empty = find('.empty');
  empty.hidden = !!value?.panes; root.hidden = !value?.panes;
  if (value?.note) empty.textContent = value.note;
  if (!value?.panes) { forget(); shown = {panes: [], width: 1, height: 1}; return; }
  const other = value.run !== shown.run;
  if (other) forget();
  shown = value;
  if (other) look(value.focus);
  find('.notes').replaceChildren(...value.notes.map(text => made('li', text)));
  const fresh = value.panes.filter(entry => !panes.has(entry.key));
  for (const entry of fresh) panes.set(entry.key, newPane(entry));
  const trials = value.panes.filter(entry => !entry.error && entry.key !== 'original' && entry.key !== 'bicubic');
  const first = trials[0]?.key || 'bicubic';
  offer('.left', 'bicubic'); offer('.right', first); offer('.of', first); offer('.against', value.reference);
  arrange();
  await Promise.all(fresh.filter(entry => !entry.error).map(async entry => {
    const pane = panes.get(entry.key);
    try { await load(pane); } catch (error) {
      pane.figure.replaceChildren(made('p', 'The picture is not there any more: press Show again.', 'failed'));
    }
    draw();
  }));
  root.dataset.loaded = [...panes.values()].filter(pane => pane.bitmap).length;
  arrange();
}
update();
watch(['value'], update);
let width = 0;
new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; arrange(); } }).observe(root);
