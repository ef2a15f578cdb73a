// The front end of the explorers: one ES module, two hosts.
//  * A live kernel (Jupyter, Colab, VS Code): anywidget imports this file and calls default.render(); the pixels
//    are computed by PyTorch and come over the comm.
//  * A plain web page: the page loads this file as <script type="module">; it upgrades <latent-map src="NAME"> and the
//    other tags in `mounts`, and the networks run in the page or, where one would hold it up, in a worker, which is this
//    file once more (ONNX Runtime, WebAssembly, one thread). All is fetched on the first move: most readers only read.
// Both hosts hand the same `meta` and a `backend` with decode(values), encode(x), prior(codes, labels, place), mapping(z),
// synthesis(ws, layers) and restore(part, y, known, sigma) to the same mount functions.
// Images are Float32Array in C, H, W order: pixels in [0, 1], what an encoder takes in [-1, 1].

// ---------------------------------------------------------------------------------------------------------- style
// Everything is derived from the colour of the text around, so that any theme of any host fits. The interface lives
// in a shadow root: no rule of a host's style sheet reaches its sliders and buttons.
const STYLE = `
:host { display: block; margin: 1rem 0; container-type: inline-size;
  color: var(--pst-color-text-base, var(--jp-ui-font-color1, inherit)); font-family: inherit; line-height: 1.4;
  --accent: var(--pst-color-primary, var(--jp-brand-color1, #0a7d91));
  --line: color-mix(in srgb, currentColor 28%, transparent);
  --veil: color-mix(in srgb, currentColor 6%, transparent); }
* { box-sizing: border-box; }
.live { display: grid; gap: .9rem 1.4rem; align-items: start; padding: 3px; font-size: .9rem; }
.live.map { grid-template-columns: minmax(0, 1.35fr) minmax(0, 1fr); }
.live.images { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr) minmax(0, 1.15fr); }
.live.attributes { grid-template-columns: 258px minmax(0, 1fr); }
.live.codes, .live.prior { grid-template-columns: minmax(0, 1fr) minmax(0, 1.1fr); }
.wide { grid-column: 1 / -1; }
.plate { position: relative; width: 100%; aspect-ratio: 1; border-radius: 8px; background: #000; overflow: hidden;
  border: 1px solid var(--line); }
.plate canvas { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated; }
.name { margin: 0 0 .3rem; font-weight: 600; font-size: .85rem; }
.pad { background: var(--veil) center / 100% 100%; image-rendering: pixelated; cursor: crosshair; touch-action: none;
  user-select: none; -webkit-user-select: none; }
.pad canvas { image-rendering: auto; pointer-events: none; }
.pad .ring { position: absolute; left: 50%; top: 50%; transform: translate(-50%, -50%); border-radius: 50%;
  border: 1px dashed var(--line); pointer-events: none; }
.pad .axis { position: absolute; padding: 0 .35em; border-radius: 4px; font-size: .75rem; pointer-events: none;
  background: var(--pst-color-background, var(--jp-layout-color0, Canvas)); }
.pad .ring .axis { left: 50%; bottom: 0; transform: translate(-50%, 50%); }
.pad .right { right: 4px; top: calc(50% + 4px); } .pad .up { left: calc(50% + 4px); top: 4px; }
.dot { position: absolute; width: 20px; height: 20px; margin: -10px 0 0 -10px; border-radius: 50%; pointer-events: none;
  border: 3px solid #fff; background: #d6006c; box-shadow: 0 0 0 1.5px #000, 0 1px 6px #0008; }
.easel { cursor: crosshair; touch-action: none; user-select: none; -webkit-user-select: none; }
.cell { position: absolute; border: 2px solid #fff; box-shadow: 0 0 0 1.5px #d6006c; pointer-events: none; display: none; }
.easel:focus-visible .cell { display: block; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.board { cursor: pointer; user-select: none; -webkit-user-select: none; } .board.drag { touch-action: none; }
.board .over { image-rendering: auto; pointer-events: none; }
.palette { max-height: 20rem; overflow-y: auto; border: 1px solid var(--line); border-radius: 8px; background: #777; }
.palette:has(:focus-visible) { outline: 3px solid var(--accent); outline-offset: 2px; }
.sheet { position: relative; cursor: pointer; outline: none; }
.sheet canvas { display: block; width: 100%; image-rendering: pixelated; }
.sheet .mark { position: absolute; border: 2px solid #fff; outline: 2px solid #d6006c; box-shadow: inset 0 0 0 1px #000; pointer-events: none; }
.odds { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .3rem .5rem; padding: 0; }
.odds button { display: grid; grid-template-columns: 26px minmax(0, 1fr) auto; align-items: center; gap: .4rem; padding: 2px .4rem 2px 2px; text-align: left; }
.odds canvas { width: 26px; height: 26px; border-radius: 4px; image-rendering: pixelated; }
.odds .rod { height: 10px; border-radius: 3px; background: var(--accent); width: 0; min-width: 1px; }
.odds .cut { opacity: .6; } .odds .cut .rod { background: var(--line); } .odds .share { font-variant-numeric: tabular-nums; font-size: .8rem; }
.odds[aria-busy=true], .odds [aria-disabled=true] { opacity: .5; } [hidden] { display: none !important; }
.slider.wider { grid-template-columns: 7rem minmax(0, 1fr) 3rem; }
input[type=number] { font: inherit; color: inherit; width: 6.5rem; min-height: 28px; padding: .1rem .3rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--pst-color-background, var(--jp-layout-color1, Canvas)); }
.column { display: flex; flex-direction: column; gap: .5rem; min-width: 0; }
.bar { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
.slider { display: grid; grid-template-columns: 3.2rem minmax(0, 1fr) 3rem; align-items: center; gap: .5rem; min-height: 1.75rem; }
.slider.brush { grid-template-columns: 3.2rem minmax(0, 1fr); }
.slider label, .slider output { font-variant-numeric: tabular-nums; white-space: nowrap; }
.slider output { text-align: right; }
.track { position: relative; display: flex; align-items: center; }
.track::before { content: ""; position: absolute; left: calc(8px + (100% - 16px) * var(--mark, 0)); width: 2px; height: 18px;
  margin-left: -1px; background: currentColor; opacity: var(--marked, 0); border-radius: 1px; pointer-events: none; }
input[type=range] { width: 100%; margin: 0; accent-color: var(--accent); height: 24px; background: none; }
button { font: inherit; color: inherit; background: var(--veil); border: 1px solid var(--line); border-radius: 6px;
  padding: .2rem .6rem; min-height: 28px; cursor: pointer; }
button:hover { background: color-mix(in srgb, currentColor 12%, transparent); } button:disabled { opacity: .5; cursor: default; }
button[aria-pressed=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); font-weight: 600; }
.legend button { display: inline-flex; align-items: center; gap: .4rem; border-color: transparent; background: none; padding: .1rem .4rem; }
.legend button[aria-pressed=true] { border-color: var(--accent); }
.swatch { width: .8em; height: .8em; border-radius: 50%; flex: none; box-shadow: 0 0 0 1px var(--line); }
.strip { display: grid; grid-template-columns: repeat(12, minmax(0, 1fr)); gap: 6px; }
.strip button { padding: 0; border-radius: 6px; aspect-ratio: 1; overflow: hidden; background: #000; min-height: 0; }
.strip button[aria-checked=true] { border-color: var(--accent); box-shadow: 0 0 0 2px var(--accent); }
.strip canvas { display: block; width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
.menus { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .45rem .8rem; margin-bottom: .4rem; }
.menu { display: flex; flex-direction: column; gap: .1rem; min-width: 0; }
.menu label { font-size: .8rem; font-weight: 600; }
select, option { color: var(--pst-color-text-base, var(--jp-ui-font-color1, CanvasText));
  background: var(--pst-color-background, var(--jp-layout-color1, Canvas)); }
select { font: inherit; width: 100%; min-height: 32px; padding: .1rem .3rem; border: 1px solid var(--line); border-radius: 6px; cursor: pointer; }
.menu.withheld select { border-style: dashed; font-style: italic; } option { font-style: normal; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.told { font-size: .85rem; min-height: 4.2em; }
p { margin: 0; } .note { font-size: .85rem; min-height: 1.4em; } .note.error { font-weight: 600; }
.note.error::before { content: "\\26A0  "; }
.fallback { display: none; }
::slotted(img) { max-width: 100%; image-rendering: pixelated; }
/* generator explorer */
.live.generator { grid-template-columns: 258px minmax(0, 1fr); }
.generator .slider label { white-space: normal; overflow-wrap: anywhere; line-height: 1.2; }
.walk { display: grid; grid-template-columns: 56px minmax(0, 1fr) 56px; align-items: center; gap: .4rem .8rem; }
.walk .slider.wider { grid-template-columns: auto minmax(0, 1fr) 3.4rem; }
.seeds { grid-column: 1 / -1; display: flex; justify-content: space-between; gap: .4rem .8rem; }
.seed { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem; } .seed input { width: 5.4rem; }
/* ring explorer */
.live.ring { grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); }
.plane { background: #f7f7f7; } .plane canvas { image-rendering: auto; }
.ring .menus { grid-template-columns: repeat(2, minmax(0, 1fr)); margin: 0; }
.times { display: grid; grid-template-columns: 4.4rem minmax(0, 1fr); align-items: center; gap: .6rem; }
.ring .slider.wider { grid-template-columns: auto minmax(0, 1fr) 3rem; }
.numbers { display: grid; grid-template-columns: 22px 3.8rem minmax(0, 1fr); align-items: center; gap: .1rem .5rem; }
.numbers b { font-size: 1.1rem; font-variant-numeric: tabular-nums; }
.rule { border-top: 2.5px solid; } .rule.quality { border-top: 2.5px dashed var(--accent); }
.chart { position: relative; height: 84px; border: solid var(--line); border-width: 1px 0; }
.chart svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.chart path { fill: none; stroke: currentColor; stroke-width: 2.5; vector-effect: non-scaling-stroke; }
.chart span { position: absolute; left: 0; top: 0; font-size: .75rem; line-height: 1.3; } .chart .foot { top: auto; bottom: 1px; }
.chart .quality { stroke: var(--accent); stroke-dasharray: 6 4; } .chart .now { stroke-width: 1.5; opacity: .6; }
.key { display: grid; grid-template-columns: 22px minmax(0, 1fr); align-items: center; gap: .15rem .5rem; font-size: .85rem; }
.key canvas { width: 22px; height: 22px; border-radius: 4px; } .key .wide { margin-top: .2rem; }
.scale { height: 12px; border-radius: 4px; border: 1px solid var(--line); }
.ends { display: flex; justify-content: space-between; gap: .5rem; font-size: .8rem; }
/* explorers of a style-based generator */
.live.truncation, .live.sliders { grid-template-columns: 258px minmax(0, 1fr); }
.strip.tiles { grid-template-columns: repeat(var(--n), minmax(0, 1fr)); }
.strip.tiles button { aspect-ratio: auto; background: none; font-size: .75rem; line-height: 1.5; font-variant-numeric: tabular-nums; }
.strip.tiles canvas { aspect-ratio: 1; height: auto; background: #000; }
.strip.tiles span { display: block; overflow: hidden; } .strip.tiles [aria-checked=true] span { font-weight: 600; }
.origin { display: grid; grid-template-columns: 56px minmax(0, 1fr); align-items: center; gap: .8rem; }
.truncation .told, .sliders .told { min-height: 2.8em; }
.sliders .slider label { white-space: normal; overflow-wrap: anywhere; line-height: 1.2; }
.live.mixer { grid-template-columns: minmax(0, 1fr) minmax(0, 1.5fr) minmax(0, 1fr); align-items: end; }
.mixer .column { gap: .3rem; } .mixer .name { margin: 0; } .mixer .mix .plate { border: 2px solid var(--accent); }
.layers { display: grid; grid-template-columns: repeat(var(--n), minmax(0, 1fr)); gap: 3px; text-align: center; }
.layers .head { font-size: .75rem; white-space: nowrap; border-bottom: 2px solid var(--line); }
.layers [role=radiogroup] { display: grid; gap: 3px; font-size: .75rem; font-variant-numeric: tabular-nums; }
.layers button { padding: 0; } .layers button[aria-checked=true] { font-weight: 700; border-color: transparent;
  background: var(--pst-color-text-base, var(--jp-ui-font-color1, CanvasText)); color: var(--pst-color-background, var(--jp-layout-color1, Canvas)); }
/* restoration explorer */
.live.restoration { grid-template-columns: minmax(0, 1.1fr) minmax(0, 2fr); }
.trio { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0 .7rem; }
.trio > div { display: grid; grid-row: span 3; grid-template-rows: subgrid; } .trio .name { align-self: end; }
.trio .name, .restoration .name { margin: 0 0 .2rem; } .trio p, .restoration .share { font-size: .85rem; font-variant-numeric: tabular-nums; }
.easel + .share, .trio .plate + p { margin-top: .3rem; }
.restoration .slider.wider { grid-template-columns: auto minmax(0, 1fr) 3rem; }
/* on a phone, or in a narrow column */
@container (max-width: 559px) {
  .live { gap: .8rem .8rem; }
  .live.map { grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }
  .live.map .atlas { grid-column: 1 / -1; order: 1; } .live.map .wide { order: 2; }
  .live.map .side { display: contents; }
  .live.images { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); } .live.images .side { grid-column: 1 / -1; }
  .live.attributes, .live.codes, .live.prior, .live.generator, .live.ring, .live.truncation, .live.sliders, .live.restoration
    { grid-template-columns: minmax(0, 1fr); }
  .restoration .easel { max-width: 20rem; }
  .palette { max-height: 15rem; } .told { min-height: 2.8em; }
  .portrait { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); align-items: start; }
  .walk .slider.wider { grid-template-columns: 1fr auto; } .walk .track { grid-column: 1 / -1; grid-row: 2; }
  .seed label { flex-basis: 100%; }
  .strip { grid-template-columns: repeat(8, minmax(0, 1fr)); gap: 4px; }
  .strip.tiles { grid-template-columns: repeat(auto-fill, minmax(40px, 1fr)); }
  .live.mixer { gap: .8rem .5rem; } .mixer button { padding: .2rem .4rem; } .mixer .layers button { padding: 0; }
  .mixer .seed input { width: 100%; max-width: 5.4rem; }
  .images .bar button { padding: .2rem .45rem; }
}
@media print { .live { display: none; } .fallback { display: block; } }
@media (forced-colors: active) { .dot, .swatch, .plate, .key canvas, .scale { forced-color-adjust: none; }
  .layers button[aria-checked=true] { forced-color-adjust: none; background: Highlight; color: HighlightText; } }`;

// The classes' colours, as in viz.py: a class has one colour in a chapter.
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#b3a800', '#808080', '#7a4fb5', '#a0522d'];

/** An element: attributes, `onEVENT` listeners, children. */
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

let count = 0;
const newId = () => `explorer-${++count}`; // label and input are tied by ids, and a page may hold several explorers

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const signed = value => (value < 0 ? '\u2212' : '+') + Math.abs(value).toFixed(2);
const bytes = base64 => Uint8Array.from(atob(base64), c => c.charCodeAt(0));
const pixelsOf = base64 => Float32Array.from(bytes(base64), v => v / 255);
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const percent = (p, digits = 0) => (100 * p).toFixed(digits) + '\u00a0%';
const modified = event => event.ctrlKey || event.metaKey || event.altKey; // a shortcut of the browser's own

// ------------------------------------------------------------------------------------------------- shared pieces
/** Returns stamp(pixels, left, top): draw C, H, W values in [0, 1] on a canvas that is there, one value a cell. */
function stamper(context, [channels, height, width]) {
  const image = context.createImageData(width, height), cells = height * width;
  image.data.fill(255);
  return (pixels, left = 0, top = 0) => {
    for (let i = 0; i < cells; i++)
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[(channels === 1 ? 0 : c) * cells + i] * 255; // clamps, rounds
    context.putImageData(image, left, top);
  };
}

/** Returns paint(pixels): as `stamper`, on a canvas that gets the picture's size. */
function painter(canvas, shape) {
  [, canvas.height, canvas.width] = shape;
  return stamper(canvas.getContext('2d'), shape);
}

/** Returns ask(event): run `work(event)`, never twice at once. What is asked meanwhile waits, and the latest wins:
 *  a slow network then lags by one picture, not by a queue of them. `busy` is told when it begins and ends. The promise
 *  that `ask` returns is kept when nothing waits any more: true, or false where it failed. ask.waits() says whether something
 *  does: work that is not urgent then gives way. */
function latestWins(work, failed, busy) {
  let running = null, waiting = null;
  async function run() {
    busy(true);
    try {
      while (waiting) {
        const { event } = waiting;
        waiting = null;
        await work(event);
      }
      return true;
    } catch (error) {
      waiting = null;
      failed(error);
      return false;
    } finally {
      running = null;
      busy(false);
    }
  }
  const ask = event => {
    waiting = { event };
    return running ??= run();
  };
  ask.waits = () => waiting !== null;
  return ask;
}

/** A labelled native slider for one latent dimension. `mark` shows where the encoder put it. */
function latentSlider(dimension, limit, hint, moved) {
  const id = newId();
  const input = h('input', { type: 'range', id, min: -limit, max: limit, step: 0.05, value: 0 });
  const value = h('output', { for: id }), track = h('div', { class: 'track' }, input);
  input.addEventListener('input', event => moved(Number(input.value), event));
  const reach = v => { // an image far from the training data may be encoded outside of the usual range: widen it
    const need = Math.ceil(Math.abs(v) * 2) / 2;
    if (need > Number(input.max)) { input.max = need; input.min = -need; }
  };
  return {
    row: h('div', { class: 'slider' }, h('label', { for: id, title: hint }, `z[${dimension}]`), track, value),
    show(v) { reach(v); input.value = v; input.setAttribute('aria-valuetext', v.toFixed(2)); value.textContent = signed(v); },
    mark(v) {
      reach(v);
      track.style.setProperty('--mark', (v - input.min) / (input.max - input.min));
      track.style.setProperty('--marked', 0.55);
    },
  };
}

/** A button; `attributes` as in `h`. */
function button(label, pressed, attributes = {}) {
  return h('button', { type: 'button', onclick: pressed, ...attributes }, label);
}

/** A button that is on or off; apply(on) is called at once, and with `then()` at each press. */
function toggle(label, on, apply, then = () => {}) {
  const node = button(label, () => { set(!on); then(); });
  const set = value => { on = value; node.setAttribute('aria-pressed', on); apply(on); };
  set(on);
  return node;
}

/** A labelled native slider; `text` is what it says of a value. */
function slider(label, { value, ...range }, text, moved) {
  const id = newId(), input = h('input', { type: 'range', id, ...range }), output = h('output', { for: id });
  const now = () => Number(input.value);
  const show = () => { output.textContent = text(now()); input.setAttribute('aria-valuetext', output.textContent); };
  input.addEventListener('input', event => { show(); moved(now(), event); });
  const set = v => { input.value = v; show(); };
  set(value);
  return {
    row: h('div', { class: 'slider wider' }, h('label', { for: id }, label), h('div', { class: 'track' }, input), output),
    value: now, set, limit: max => { input.max = max; },
  };
}

/** A labelled field for a whole number in a range; changed(value, event). */
function numberField(label, { min, max, value }, changed = () => {}) {
  const id = newId(), input = h('input', { type: 'number', id, min, max, step: 1, value });
  const now = () => clamp(Math.round(Number(input.value)) || min, min, max);
  const set = v => { input.value = v; };
  input.addEventListener('change', event => { set(now()); changed(now(), event); });
  return { label: h('label', { for: id }, label), input, value: now, set };
}

/** A labelled menu; `fill` takes its options, [value, text]. */
function menu(label, chosen) {
  const id = newId(), select = h('select', { id, onchange: event => chosen(select.value, event) });
  return {
    row: h('div', { class: 'menu' }, h('label', { for: id }, label), select),
    fill: options => select.replaceChildren(...options.map(([value, text]) => h('option', { value }, text))),
    set: value => { select.value = value; },
  };
}

/** What goes on by itself. play(kind, step, wait) calls step() until it says no, with wait() milliseconds between; its
 *  promise says whether that was the end, or it was stopped. changed() is called when it starts and when it ends. */
function player(element, changed) {
  let turn = 0, playing = '';
  function set(kind) {
    playing = kind;
    element.toggleAttribute('playing', Boolean(kind));
    changed();
  }
  function stop() {
    turn++;
    if (playing) set('');
  }
  async function play(kind, step, wait) {
    const mine = ++turn;
    set(kind);
    while (turn === mine && element.isConnected && (await step())) if (turn === mine) await pause(wait());
    if (turn !== mine) return false;
    stop();
    return true;
  }
  return { play, stop, now: () => playing };
}

/** Pictures to choose from, {alt, pixels}: one stop of the Tab key, arrows within, as in a group of radio buttons.
 *  check(null) marks none of them: the last one stays the stop of the Tab key. Without pixels they are painted later. */
function pictureStrip(label, pictures, shape, pick) {
  const strip = h('div', { class: 'strip wide', role: 'radiogroup', 'aria-label': label });
  const paints = [];
  const choices = pictures.map(({ alt, pixels }, i) => {
    const canvas = h('canvas', { 'aria-hidden': 'true' });
    paints.push(painter(canvas, shape));
    if (pixels) paints[i](pixelsOf(pixels));
    return button(canvas, event => choose(i, event), { role: 'radio', 'aria-label': alt, title: alt });
  });
  strip.append(...choices);
  strip.addEventListener('keydown', event => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key], n = choices.length;
    if (!step || modified(event)) return;
    event.preventDefault();
    const next = (choices.findIndex(c => c.tabIndex === 0) + step + n) % n;
    choices[next].focus();
    choose(next, event);
  });
  function check(chosen) {
    choices.forEach((choice, i) => {
      choice.setAttribute('aria-checked', i === chosen);
      if (chosen !== null) choice.tabIndex = i === chosen ? 0 : -1;
    });
  }
  function choose(i, event) {
    check(i);
    pick(i, event);
  }
  check(0);
  return { strip, check, choices, paints };
}

const WITHHELD = -1;
/** A menu for each attribute {name, values}, with “any” for a withheld one. */
function attributeMenus(attributes, chosen) {
  const menus = attributes.map(({ name, values }, a) => {
    const item = menu(name, (value, event) => chosen(a, Number(value), event));
    item.fill([[WITHHELD, 'any'], ...values.map((value, k) => [k, value])]);
    return item;
  });
  return {
    menus: h('div', { class: 'menus' }, ...menus.map(m => m.row)),
    show: labels => menus.forEach(({ row, set }, a) => {
      set(labels[a]);
      row.classList.toggle('withheld', labels[a] === WITHHELD);
    }),
  };
}

/** Cells in rows of a node, one of them at hand. Arrows move it, Home and End go to the first and the last; with
 *  `drag`, the pointer is followed while it is down, and a region stretches from where it went down; Shift and arrows
 *  do the same. moved(event): the cell or the region is another one, or was pointed at; pressed(event): Enter or Space. */
function cellCursor(node, { rows, columns, total = rows * columns, drag = false, moved, pressed = () => {} }) {
  const at = { row: 0, column: 0, fromRow: 0, fromColumn: 0 };
  const place = () => at.row * columns + at.column;
  const region = () => ({
    top: Math.min(at.row, at.fromRow), left: Math.min(at.column, at.fromColumn),
    high: Math.abs(at.row - at.fromRow) + 1, wide: Math.abs(at.column - at.fromColumn) + 1,
  });
  function go(row, column, stretch = false) {
    at.row = clamp(row, 0, rows - 1);
    at.column = clamp(column, 0, columns - 1);
    if (place() >= total) [at.row, at.column] = [Math.floor((total - 1) / columns), (total - 1) % columns];
    if (!stretch) [at.fromRow, at.fromColumn] = [at.row, at.column];
  }
  const put = i => go(Math.floor(i / columns), i % columns);
  function point(event, stretch) {
    const box = node.getBoundingClientRect();
    go(Math.floor(((event.clientY - box.top) / box.height) * rows), Math.floor(((event.clientX - box.left) / box.width) * columns), stretch);
  }
  if (drag) {
    node.addEventListener('pointerdown', event => {
      if (event.button !== 0) return;
      event.preventDefault();
      node.setPointerCapture(event.pointerId);
      node.focus({ focusVisible: false, preventScroll: true });
      point(event, event.shiftKey);
      moved(event);
    });
    node.addEventListener('pointermove', event => {
      if (!node.hasPointerCapture(event.pointerId)) return;
      const before = place();
      point(event, true);
      if (place() !== before) moved(event);
    });
  } else {
    node.addEventListener('click', event => { // not on touch: the finger may be scrolling
      point(event);
      moved(event);
    });
  }
  node.addEventListener('keydown', event => {
    if (modified(event)) return;
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (move) go(at.row + move[0], at.column + move[1], drag && event.shiftKey);
    else if (event.key === 'Home' || event.key === 'End') put(event.key === 'Home' ? 0 : total - 1);
    else if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    (move || event.key === 'Home' || event.key === 'End' ? moved : pressed)(event);
  });
  return { place, put, region };
}

/** A canvas of height x width cells to draw on with a pointer, a finger or keys. A stroke calls begin(erase), then stamp(x, y)
 *  along its way, in cells, and edited(event) when some of it is there; told(row, column, event) where a key has left the cursor.
 *  `tools` are two buttons with these names, to draw and to erase. */
function drawingArea(canvas, [, height, width], names, { begin, stamp, edited, told }) {
  const cell = h('div', { class: 'cell', style: `width: ${100 / width}%; height: ${100 / height}%` });
  const node = h('div', { class: 'plate easel', tabindex: 0, role: 'application', 'aria-roledescription': 'drawing area' }, canvas, cell);
  let erasing = false, column, row, last = null;
  const tools = names.map((name, i) => button(name, () => tool(i === 1)));
  function tool(erase) {
    erasing = erase;
    tools.forEach((item, i) => item.setAttribute('aria-pressed', (i === 1) === erase));
  }
  function line([x0, y0], [x1, y1]) {
    const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) * 2));
    for (let s = 0; s <= steps; s++) stamp(x0 + ((x1 - x0) * s) / steps, y0 + ((y1 - y0) * s) / steps);
  }
  const place = event => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
  };
  node.addEventListener('pointerdown', event => {
    if (event.button !== 0) return;
    event.preventDefault();
    node.setPointerCapture(event.pointerId);
    node.focus({ focusVisible: false, preventScroll: true });
    begin(erasing);
    last = place(event);
    line(last, last);
    edited(event);
  });
  node.addEventListener('pointermove', event => {
    if (!last || !node.hasPointerCapture(event.pointerId)) return;
    for (const e of event.getCoalescedEvents?.().concat(event) ?? [event]) { // a fast stroke stays round
      const to = place(e);
      line(last, to);
      last = to;
    }
    edited(event);
  });
  for (const end of ['pointerup', 'pointercancel']) node.addEventListener(end, () => { last = null; });
  node.addEventListener('keydown', event => {
    if (modified(event)) return;
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const erase = event.key === 'Delete' || event.key === 'Backspace', paint = event.key === ' ' || event.key === 'Enter';
    if (!move && !erase && !paint && event.key !== 'Home') return;
    event.preventDefault();
    const from = [column + 0.5, row + 0.5];
    if (move) put(clamp(column + move[0], 0, width - 1), clamp(row + move[1], 0, height - 1));
    if (event.key === 'Home') centre();
    if (erase || paint || (move && event.shiftKey)) {
      begin(erase || erasing);
      line(move ? from : [column + 0.5, row + 0.5], [column + 0.5, row + 0.5]);
      edited(event);
    }
    told(row, column, event);
  });
  function put(toColumn, toRow) {
    [column, row] = [toColumn, toRow];
    cell.style.left = `${(100 * column) / width}%`;
    cell.style.top = `${(100 * row) / height}%`;
  }
  function centre() { put(Math.floor(width / 2), Math.floor(height / 2)); }
  tool(false);
  centre();
  return { node, tools };
}

/** The frame of an explorer: shadow root, status line, keys kept from the host. `add` puts nodes before the status line;
 *  `tell` says something to those who cannot see what has changed. */
function frame(element, kind, note) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: 'open' });
  const status = h('p', { class: 'note wide', role: 'status' }, note);
  const spoken = h('p', { class: 'spoken', 'aria-live': 'polite' }), live = h('div', { class: `live ${kind}` }, spoken, status);
  root.replaceChildren(h('style', {}, STYLE), live, h('div', { class: 'fallback' }, h('slot')));
  // A notebook in command mode takes arrows and letters for its own (arrows leave the cell, x cuts it), so the keys
  // that a control handles stop here; JupyterLab listens before us, and this attribute is how it is told.
  element.setAttribute('data-lm-suppress-shortcuts', 'true');
  live.addEventListener('keydown', event => {
    const typed = /^(select|input)$/.test(event.target.localName) && event.key.length === 1 && !modified(event);
    if (typed || /^(Arrow|Home|End|Page|Enter| |Backspace|Delete)/.test(event.key)) event.stopPropagation();
  });
  const say = (text, isError = false) => {
    status.classList.toggle('error', isError);
    if (status.textContent !== text) status.textContent = text;
  };
  const drawn = (event, detail) =>
    element.dispatchEvent(new CustomEvent('imagegen-drawn', { bubbles: true, detail: { t0: event?.timeStamp, t1: performance.now(), ...detail } }));
  const failed = error => say(`Could not draw this image: ${error?.message ?? error}`, true);
  const busy = on => element.toggleAttribute('drawing', on);
  return { live, add: (...nodes) => spoken.before(...nodes), tell: text => { spoken.textContent = text; }, say, drawn, failed, busy };
}

function checked(pixels, shape, network = 'decoder') {
  const size = shape.reduce((a, b) => a * b, 1);
  if (pixels.length !== size) throw new Error(`the ${network} gave ${pixels.length} values, expected ${size}`);
  if (!pixels.every(Number.isFinite)) throw new Error(`the ${network} gave a value that is not a finite number`);
  return pixels;
}

// ----------------------------------------------------------------------------------------------------- latent map
/** meta: {shape: [C, H, W], latent_dim, limit, start: {z, pixels}, points: [[x, y, class]], classes};
 *  `background`: address of the decoded grid, shown behind the points when asked. */
export function mountLatentMap(element, meta, backend, background) {
  const { shape, limit, classes } = meta, points = meta.points ?? [];
  const ui = frame(element, 'map', backend.note('Drag on the map, or focus it and use the arrow keys.'));
  const z = Float32Array.from(meta.start.z);

  const out = h('canvas', { role: 'img' }), paint = painter(out, shape);
  const dots = h('canvas', { width: 720, height: 720, 'aria-hidden': 'true' }), dot = h('div', { class: 'dot' });
  const ring = sigmas => h('div', { class: 'ring', 'aria-hidden': 'true', style: `width: ${(100 * sigmas) / limit}%; height: ${(100 * sigmas) / limit}%` },
    h('span', { class: 'axis' }, `${sigmas > 1 ? sigmas : ''}\u03c3`)); // where the prior N(0, I) puts its draws
  const pad = h('div', {
    class: 'plate pad', tabindex: 0, role: 'slider', 'aria-roledescription': 'two-dimensional slider',
    'aria-label': 'Latent map: z[0] from left to right, z[1] from bottom to top. Arrow keys move, with Shift in larger steps; Home returns to the centre.',
    'aria-valuemin': -limit, 'aria-valuemax': limit,
  }, dots, ring(1), ring(2), h('span', { class: 'axis right', 'aria-hidden': 'true' }, 'z[0] \u2192'),
  h('span', { class: 'axis up', 'aria-hidden': 'true' }, 'z[1] \u2191'), dot);
  const sliders = [...z].map((_, d) => latentSlider(d, limit, `latent dimension ${d}`, (v, event) => { z[d] = v; changed(event); }));

  // Legend: the classes as buttons. Ten colours cannot all be told apart, so that one class can be shown alone.
  const only = new Set();
  const legend = h('div', { class: 'bar legend wide', role: 'group', 'aria-label': 'Show only these classes' });
  (classes ?? []).forEach((name, k) => {
    const item = toggle(name, false, on => { on ? only.add(k) : only.delete(k); }, plot);
    item.prepend(h('span', { class: 'swatch', style: `background: ${COLOURS[k % COLOURS.length]}` }));
    legend.append(item);
  });
  function plot() {
    const context = dots.getContext('2d'), half = dots.width / 2;
    context.clearRect(0, 0, dots.width, dots.height);
    const dimmed = p => only.size > 0 && !only.has(p[2]);
    for (const faint of [true, false]) // those asked for on top of the others
      for (const p of points) {
        if (dimmed(p) !== faint) continue;
        context.globalAlpha = faint ? 0.1 : 0.72;
        context.fillStyle = COLOURS[(p[2] ?? 0) % COLOURS.length];
        context.beginPath();
        context.arc((p[0] / limit + 1) * half, (1 - p[1] / limit) * half, 4.2, 0, 7);
        context.fill();
      }
  }

  const bar = h('div', { class: 'bar' });
  if (points.length) bar.append(toggle('Test images', true, on => { dots.style.display = on ? '' : 'none'; }));
  if (background) bar.append(toggle('Decoded grid', !points.length, on => {
    pad.style.backgroundImage = on ? `url("${background}")` : '';
    dots.style.opacity = on ? 0.6 : 1; // the images should be seen between the dots
  }));
  bar.append(button('Centre', event => { z.fill(0); changed(event); }));

  ui.add(
    h('div', { class: 'atlas' }, pad),
    h('div', { class: 'column side' }, h('div', { class: 'plate' }, out), h('div', { class: 'column' }, ...sliders.map(s => s.row), bar)),
    ...(classes && points.length ? [legend] : []));
  plot();

  function show() {
    const text = [...z].map((v, d) => `z[${d}] ${v.toFixed(2)}`).join(', ');
    dot.style.left = `${(z[0] / limit + 1) * 50}%`;
    dot.style.top = `${(1 - z[1] / limit) * 50}%`;
    sliders.forEach((slider, d) => slider.show(z[d]));
    pad.setAttribute('aria-valuenow', z[0].toFixed(2));
    pad.setAttribute('aria-valuetext', text);
    out.setAttribute('aria-label', `Generated image, decoded at ${text}`);
  }
  const draw = latestWins(async event => {
    const at = z.slice(), pixels = checked(await backend.decode(at, ui.say), shape);
    paint(pixels);
    ui.say(backend.running);
    ui.drawn(event, { z: at, pixels });
  }, ui.failed, ui.busy);
  function changed(event) {
    for (let d = 0; d < z.length; d++) z[d] = clamp(z[d], -limit, limit);
    show();
    draw(event);
  }
  function follow(event) {
    const box = pad.getBoundingClientRect();
    z[0] = (((event.clientX - box.left) / box.width) * 2 - 1) * limit;
    z[1] = (1 - ((event.clientY - box.top) / box.height) * 2) * limit;
    changed(event);
  }
  pad.addEventListener('pointerdown', event => {
    if (event.button !== 0) return;
    event.preventDefault(); // no text selection, and the focus is set below
    pad.setPointerCapture(event.pointerId);
    pad.focus({ focusVisible: false, preventScroll: true });
    follow(event);
  });
  pad.addEventListener('pointermove', event => { if (pad.hasPointerCapture(event.pointerId)) follow(event); });
  pad.addEventListener('keydown', event => {
    if (modified(event)) return;
    const step = (limit / 50) * (event.shiftKey ? 5 : 1);
    const move = { ArrowLeft: [0, -step], ArrowRight: [0, step], ArrowDown: [1, -step], ArrowUp: [1, step] }[event.key];
    if (move) z[move[0]] += move[1];
    else if (event.key === 'Home') z.fill(0);
    else return;
    event.preventDefault();
    changed(event);
  });
  paint(pixelsOf(meta.start.pixels));
  show();
}

// ------------------------------------------------------------------------------------------------- image explorer
/** meta: {shape, latent_dim, limit, images: [{alt, pixels}], dims, kl, start: {z, log_var, pixels}}. */
export function mountImageExplorer(element, meta, backend) {
  const { shape, limit, dims } = meta, [channels, height, width] = shape, cells = height * width;
  const ui = frame(element, 'images', backend.note('Pick an image or draw one, then move the sliders.'));
  const pictures = meta.images.map(image => pixelsOf(image.pixels));
  const input = pictures[0].slice(); // what is encoded, in [0, 1]
  let z = Float32Array.from(meta.start.z), encoded = z.slice(), logVar = Float32Array.from(meta.start.log_var);
  let stale = false; // the input has changed since it was encoded

  const { strip, check } = pictureStrip('Test images', meta.images, shape, pick);
  function pick(i, event) {
    input.set(pictures[i]);
    easel.setAttribute('aria-label', easelLabel(meta.images[i].alt));
    inputChanged(event);
  }

  // ---- the easel: shows what is encoded, and is drawn on
  const sheet = h('canvas', { 'aria-hidden': 'true' }), paintSheet = painter(sheet, shape);
  const easelLabel = shows => `Drawing area, ${width} by ${height} cells, now showing: ${shows}. Arrow keys move the cursor, Shift and arrows draw, Space paints, Delete erases, Home returns to the centre.`;
  const { node: easel, tools } = drawingArea(sheet, shape, ['Draw', 'Erase'], { begin, stamp, edited, told });
  easel.setAttribute('aria-label', easelLabel(meta.images[0].alt));
  const sizeId = newId();
  const size = h('input', { type: 'range', id: sizeId, min: 1, max: 6, step: 0.5, value: 2.5 });
  const clear = button('Clear', event => { input.fill(0); edited(event); });
  // A stroke covers each cell once, however often the pointer passes: the soft edge of the brush stays soft.
  const base = new Float32Array(input.length), cover = new Float32Array(cells);
  let ink = 1;
  function begin(erase) { base.set(input); cover.fill(0); ink = erase ? 0 : 1; }
  function stamp(x, y) {
    const radius = Number(size.value) / 2;
    for (let i = Math.max(0, Math.floor(y - radius - 2)); i <= Math.min(height - 1, y + radius + 2); i++)
      for (let j = Math.max(0, Math.floor(x - radius - 2)); j <= Math.min(width - 1, x + radius + 2); j++) {
        const k = i * width + j, strength = clamp(radius + 0.6 - Math.hypot(j + 0.5 - x, i + 0.5 - y), 0, 1);
        cover[k] = Math.max(cover[k], strength);
        for (let c = 0; c < channels; c++) input[c * cells + k] = base[c * cells + k] + (ink - base[c * cells + k]) * cover[k];
      }
  }
  function edited(event) {
    check(null);
    easel.setAttribute('aria-label', easelLabel('your drawing'));
    inputChanged(event);
  }
  function told(row, column, event) {
    ui.say(`Row ${row + 1}, column ${column + 1}: ${Math.round(100 * input[row * width + column])} percent white.`);
    quiet.add(event); // the cursor's place is worth more to a listener than who computed the picture
  }

  // ---- the decoded image and its sliders
  const out = h('canvas', { role: 'img' }), paint = painter(out, shape), price = h('p', {});
  const sliders = dims.map((d, k) =>
    latentSlider(d, limit, `latent dimension ${d}: ${meta.kl[k].toFixed(2)} nats on average`, (v, event) => { z[d] = v; show(); draw(event); }));
  const reset = button('Reset to the encoded', event => { z.set(encoded); show(); draw(event); });
  ui.add(strip,
    h('div', { class: 'column' }, h('div', {}, h('p', { class: 'name' }, 'Input: draw on it'), easel),
      h('div', { class: 'bar' }, ...tools, clear),
      h('div', { class: 'slider brush' }, h('label', { for: sizeId }, 'Brush'), size)),
    h('div', { class: 'column' }, h('div', {}, h('p', { class: 'name' }, 'Decoded'), h('div', { class: 'plate' }, out)), price),
    h('div', { class: 'column side' }, h('p', { class: 'name', style: 'margin: 0' }, `The ${dims.length} most active latents of ${z.length}`),
      ...sliders.map(s => s.row), h('div', { class: 'bar' }, reset)));

  function show() {
    dims.forEach((d, k) => { sliders[k].show(z[d]); sliders[k].mark(encoded[d]); });
    const moved = dims.filter(d => z[d] !== encoded[d]).map(d => `z[${d}] ${z[d].toFixed(2)}`);
    out.setAttribute('aria-label', `Generated image, decoded from the input's latent${moved.length ? ` with ${moved.join(', ')}` : ''}`);
  }
  function showPrice() { // KL(N(mean, exp log_var) || N(0, I)): what this image costs to send, in nats
    let nats = 0;
    for (let d = 0; d < encoded.length; d++) nats += 0.5 * (encoded[d] ** 2 + Math.exp(logVar[d]) - logVar[d] - 1);
    price.textContent = `KL of this image: ${nats.toFixed(1)} nats`;
  }
  const quiet = new WeakSet();
  const draw = latestWins(async event => {
    if (stale) {
      stale = false;
      const x = input.map(p => 2 * p - 1), code = await backend.encode(x, ui.say);
      if (code.mean.length !== z.length || !code.mean.every(Number.isFinite)) throw new Error('the encoder gave no usable latent');
      encoded = code.mean.slice();
      logVar = code.logVar.slice();
      z = encoded.slice();
      show();
      showPrice();
    }
    const at = z.slice(), pixels = checked(await backend.decode(at, ui.say), shape);
    paint(pixels);
    if (!quiet.has(event)) ui.say(backend.running);
    ui.drawn(event, { z: at, pixels, input: input.slice(), mean: encoded.slice(), logVar: logVar.slice() });
  }, error => { stale = true; ui.failed(error); }, ui.busy); // the next move tries both again
  function inputChanged(event) {
    paintSheet(input);
    stale = true;
    draw(event);
  }
  paintSheet(input);
  paint(pixelsOf(meta.start.pixels));
  show();
  showPrice();
}

// --------------------------------------------------------------------------------------------- attribute explorer
/** meta: {shape: [C, H, W], attributes: [{name, values}], faces: [[label, ...]] or null, start: {labels, pixels}}. */
export function mountAttributeExplorer(element, meta, backend) {
  const { shape, attributes, faces } = meta;
  const ui = frame(element, 'attributes', backend.note('Choose from the menus; \u201cany\u201d withholds an attribute.'));
  let labels = [...meta.start.labels]; // what the network is told
  const face = [...labels]; // the last value of each attribute, also while it is withheld

  const out = h('canvas', { role: 'img' }), paint = painter(out, shape), told = h('p', { class: 'told' });
  const choice = attributeMenus(attributes, (a, value, event) => {
    labels[a] = value;
    if (value !== WITHHELD) face[a] = value;
    changed(event, [a]);
  });

  const become = next => event => { labels = next(); changed(event, labels.keys()); };
  const below = n => Math.floor(Math.random() * n);
  function another() { // a face that exists, where some are known, and another one than now, where there is one
    const others = faces?.filter(f => f.some((k, a) => k !== labels[a]));
    const drawn = others?.length ? others[below(others.length)] : faces?.[0] ?? attributes.map(({ values }) => below(values.length));
    drawn.forEach((k, a) => { face[a] = k; });
    return [...drawn];
  }
  const bar = h('div', { class: 'bar' },
    button('Random face', become(another)),
    button('Withhold all', become(() => labels.map(() => WITHHELD))),
    button('Give all', become(() => [...face])));
  ui.add(
    h('div', { class: 'column' }, h('div', { class: 'plate' }, out), told),
    h('div', { class: 'column' }, choice.menus, bar));

  const worded = a => `${attributes[a].name} ${labels[a] === WITHHELD ? 'any' : attributes[a].values[labels[a]]}`;
  function show() {
    const withheld = attributes.filter((_, a) => labels[a] === WITHHELD).map(({ name }) => name), n = attributes.length;
    choice.show(labels);
    out.setAttribute('aria-label', `Generated face: ${attributes.map((_, a) => worded(a)).join(', ')}`);
    told.textContent = !withheld.length ? `All ${n} attributes are given.`
      : withheld.length === n ? `All ${n} attributes are withheld: the average of all faces.`
        : `Withheld: ${withheld.join(', ')}. An average of all faces that fit.`;
  }
  const draw = latestWins(async ({ event, news }) => {
    const at = [...labels], conditions = oneHot(at, attributes.map(({ values }) => values.length));
    const pixels = checked(await backend.decode(conditions, ui.say), shape);
    paint(pixels);
    // A listener has heard the menu's own value: what is new is enough, and the picture's name holds the rest.
    ui.tell(`Face: ${news.map(worded).join(', ')}. ${at.filter(k => k !== WITHHELD).length} of ${at.length} attributes given.`);
    ui.say(backend.running);
    ui.drawn(event, { labels: at, conditions, pixels });
  }, ui.failed, ui.busy);
  function changed(event, news) {
    show();
    draw({ event, news: [...news] });
  }
  paint(pixelsOf(meta.start.pixels));
  show();
}

/** A block of ones and zeros for each label; the block of a withheld one, below 0, is all zeros. */
function oneHot(labels, sizes) {
  const blocks = new Float32Array(sizes.reduce((a, b) => a + b, 0));
  let start = 0;
  labels.forEach((label, a) => {
    if (label >= 0) blocks[start + label] = 1;
    start += sizes[a];
  });
  return blocks;
}

// ------------------------------------------------------------------------------------------------ grids of codes
/** A picture and, over it, its grid of codes: `pen` draws in cells, `outline` in pixels. */
function codeBoard(shape, [rows, columns], attributes) {
  const [, height, width] = shape, out = h('canvas', { 'aria-hidden': 'true' });
  const over = h('canvas', { class: 'over', 'aria-hidden': 'true', width: 720, height: Math.round((720 * height) / width) });
  const pen = over.getContext('2d'), x = over.width / columns, y = over.height / rows, dot = over.width / width;
  function stroke(colours, thick, path) { // dark below bright, so that it is seen on any picture
    colours.forEach((colour, i) => {
      pen.strokeStyle = colour;
      pen.lineWidth = i ? thick : 2 * thick;
      pen.beginPath();
      path();
      pen.stroke();
    });
  }
  return {
    plate: h('div', { class: 'plate board', style: `aspect-ratio: ${width} / ${height}`, ...attributes }, out, over),
    paint: painter(out, shape),
    clear: () => pen.clearRect(0, 0, over.width, over.height),
    lines: () => stroke(['#0006', '#fff9'], 1.2, () => {
      for (let j = 1; j < columns; j++) { pen.moveTo(j * x, 0); pen.lineTo(j * x, over.height); }
      for (let i = 1; i < rows; i++) { pen.moveTo(0, i * y); pen.lineTo(over.width, i * y); }
    }),
    box: ({ top, left, high, wide }, colour = '#fff') => stroke(['#000', colour], 5, () => pen.rect(left * x + 5, top * y + 5, wide * x - 10, high * y - 10)),
    outline: mask => stroke(['#fff', '#d6006c'], 3, () => { // of the pixels in the mask
      const is = (i, j) => i >= 0 && j >= 0 && i < height && j < width && mask[i * width + j] === 1;
      for (let i = 0; i <= height; i++)
        for (let j = 0; j <= width; j++) {
          if (is(i, j) !== is(i - 1, j)) { pen.moveTo(j * dot, i * dot); pen.lineTo((j + 1) * dot, i * dot); }
          if (is(i, j) !== is(i, j - 1)) { pen.moveTo(j * dot, i * dot); pen.lineTo(j * dot, (i + 1) * dot); }
        }
    }),
    veil(from) { // grey, hatched: what has no code yet
      pen.save();
      pen.beginPath();
      for (let k = from; k < rows * columns; k++) pen.rect((k % columns) * x, Math.floor(k / columns) * y, x, y);
      pen.clip();
      pen.fillStyle = '#808080b8';
      pen.fillRect(0, 0, over.width, over.height);
      pen.strokeStyle = '#ffffff3a';
      pen.lineWidth = 4;
      pen.beginPath();
      for (let d = -over.height; d < over.width; d += 22) { pen.moveTo(d, over.height); pen.lineTo(d + over.height, 0); }
      pen.stroke();
      pen.restore();
    },
  };
}

/** The codebook, {codes, columns, order, patch: [C, h, w], patches}: small pictures of the codes, similar ones together. */
function codebook(book) {
  const [channels, high, wide] = book.patch, size = channels * high * wide, pictures = pixelsOf(book.patches);
  const place = new Int32Array(book.codes), columns = book.columns, rows = Math.ceil(book.codes / columns);
  book.order.forEach((code, i) => { place[code] = i; });
  const picture = code => pictures.subarray(code * size, (code + 1) * size);

  /** All codes on one canvas, one of them marked; chosen(code, event). */
  function sheet(chosen) {
    const width = columns * (wide + 1) + 1, height = rows * (high + 1) + 1;
    const canvas = h('canvas', { 'aria-hidden': 'true', width, height });
    const mark = h('div', { class: 'mark', style: `width: ${(100 * (wide + 1)) / width}%; height: ${(100 * (high + 1)) / height}%` });
    const node = h('div', {
      class: 'sheet', tabindex: 0, role: 'slider', 'aria-roledescription': 'codebook', 'aria-valuemin': 0, 'aria-valuemax': book.codes - 1,
      'aria-label': `Codebook: ${book.codes} codes, similar ones side by side. Arrow keys put another code into the chosen cells.`,
    }, canvas, mark);
    const pane = h('div', { class: 'palette' }, node), stamp = stamper(canvas.getContext('2d'), book.patch);
    book.order.forEach((code, i) => stamp(picture(code), 1 + (i % columns) * (wide + 1), 1 + Math.floor(i / columns) * (high + 1)));
    const cursor = cellCursor(node, { rows, columns, total: book.codes, moved: event => chosen(book.order[cursor.place()], event) });
    return {
      pane,
      show(code, text) {
        const i = place[code], row = Math.floor(i / columns), unit = node.clientHeight / rows;
        cursor.put(i);
        mark.style.left = `${(100 * (0.5 + (i % columns) * (wide + 1))) / width}%`;
        mark.style.top = `${(100 * (0.5 + row * (high + 1))) / height}%`;
        node.setAttribute('aria-valuenow', i);
        node.setAttribute('aria-valuetext', text);
        pane.scrollTop = clamp(pane.scrollTop, (row + 1.5) * unit - pane.clientHeight, Math.max(0, (row - 0.5) * unit));
      },
    };
  }
  return { sheet, picture };
}

// -------------------------------------------------------------------------------------------------- code explorer
/** meta: {shape, grid: [h, w], images: [{alt, pixels, codes}], book: see `codebook`, start: {pixels}}. */
export function mountCodeExplorer(element, meta, backend) {
  const { shape, grid, images, book } = meta, [rows, columns] = grid, cells = shape[1] * shape[2], cell = cells / (rows * columns);
  const ui = frame(element, 'codes', backend.note('Choose a cell of the picture, then another code for it.'));
  const own = images.map(image => Float32Array.from(image.codes)), uses = new Int32Array(book.codes);
  for (const codes of own) for (const code of codes) uses[code]++;
  let shown = 0, other = Math.min(1, images.length - 1), codes = own[0]; // an array of codes is never written to again
  let edits = []; // what was before each edit, {codes, pixels, key}, the newest last
  let painted = {}, changed = null, otherPainted = null, pasting = false, withLines = true, withOutline = true;

  // ---- the picture and its grid
  const board = codeBoard(shape, grid, {
    class: 'plate board drag', tabindex: 0, role: 'slider', 'aria-roledescription': 'grid of codes', 'aria-valuemin': 1, 'aria-valuemax': rows * columns,
  });
  const cursor = cellCursor(board.plate, { rows, columns, drag: true, moved: show });
  const told = h('p', { class: 'told' });
  const { strip } = pictureStrip('Images', images, shape, (i, event) => { shown = i; replace(own[i], event); });
  const bar = h('div', { class: 'bar' },
    toggle('Grid', true, on => { withLines = on; }, repaint), toggle('Outline changes', true, on => { withOutline = on; }, repaint),
    button('Undo', undo),
    button('Reset', event => replace(own[shown], event)));

  // ---- what goes into the chosen cells: a code, or the codes that another image has there
  const { sheet } = codebook(book);
  const palette = sheet((code, event) => {
    const next = codes.slice(), { top, left, high, wide } = cursor.region();
    for (let i = top; i < top + high; i++) next.fill(code, i * columns + left, i * columns + left + wide);
    edit(next, event, `${top} ${left} ${high} ${wide}`);
  });
  const caption = h('p', { class: 'name' });
  const second = codeBoard(shape, grid, { role: 'img' });
  const { strip: from, check: checkFrom } = pictureStrip('Image to copy from', images, shape, (i, event) => { other = i; show(); draw(event); });
  const paste = button('Paste region', pasteRegion);
  checkFrom(other);
  const modes = ['Choose a code', 'Copy from another image'].map((label, which) => button(label, event => mode(Boolean(which), event)));
  const panels = [h('div', { class: 'column' }, caption, palette.pane), h('div', { class: 'column' }, from, second.plate, h('div', { class: 'bar' }, paste))];
  ui.add(strip,
    h('div', { class: 'column' }, board.plate, told, bar),
    h('div', { class: 'column' }, h('div', { class: 'bar', role: 'group', 'aria-label': 'What goes into the chosen cells' }, ...modes), ...panels));

  function mode(which, event) {
    pasting = which;
    if (which && other === shown) { // from itself there is nothing to copy
      other = (shown + 1) % images.length;
      checkFrom(other);
    }
    modes.forEach((item, i) => item.setAttribute('aria-pressed', Boolean(i) === which));
    panels.forEach((panel, i) => { panel.hidden = Boolean(i) !== which; });
    show();
    if (which && event) draw(event);
  }
  function edit(next, event, key) { // edits of the same cells in a row, as by held keys, are undone at once
    if (!key || edits.at(-1)?.key !== key) edits.push({ codes, key, pixels: painted.codes === codes ? painted.pixels : null });
    codes = next;
    show();
    draw(event);
  }
  function replace(next, event) { // another image, or the same anew
    edits = [];
    codes = next;
    show();
    draw(event);
  }
  function undo(event) {
    if (!edits.length) return ui.say('There is nothing to undo.');
    codes = edits.pop().codes;
    show();
    draw(event);
  }
  function pasteRegion(event) {
    const next = codes.slice(), { top, left, high, wide } = cursor.region();
    for (let i = top; i < top + high; i++) next.set(own[other].subarray(i * columns + left, i * columns + left + wide), i * columns + left);
    edit(next, event);
  }

  const these = images.length === 1 ? 'this image' : `these ${images.length} images`;
  const worth = code => `code ${code}, ${uses[code] ? `used ${uses[code] === 1 ? 'once' : `${uses[code]} times`}` : 'not used'} in ${these}`;
  function show() {
    const { top, left, high, wide } = cursor.region(), code = codes[cursor.place()];
    const where = high * wide === 1 ? `Row ${top + 1}, column ${left + 1}: ${worth(code)}` : `${high} by ${wide} codes from row ${top + 1}, column ${left + 1} on`;
    const replaced = codes.filter((k, i) => k !== own[shown][i]).length;
    board.plate.setAttribute('aria-label', `Picture decoded from ${rows} by ${columns} codes: ${images[shown].alt}${replaced ? `, ${replaced} of its codes replaced` : ''}. `
      + 'Arrow keys choose a cell, with Shift a region.');
    board.plate.setAttribute('aria-valuenow', cursor.place() + 1);
    board.plate.setAttribute('aria-valuetext', where);
    second.plate.setAttribute('aria-label', `Decoded: ${images[other].alt}, the same region marked`);
    const name = worth(code);
    caption.textContent = name[0].toUpperCase() + name.slice(1);
    palette.show(code, name);
    told.textContent = `${where}.${effect()}`;
    repaint();
  }
  function effect() { // what the last edit did to the picture that is shown
    if (!changed || painted.codes !== codes) return '';
    if (!changed.codes) return ' It is the code that was there.';
    const n = changed.mask.reduce((a, b) => a + b, 0);
    return ` ${n} of ${cells} pixels changed; the ${changed.codes === 1 ? 'replaced code stands' : `${changed.codes} replaced codes stand`} for ${changed.codes * cell}.`;
  }
  function repaint() {
    board.clear();
    if (withLines) board.lines();
    if (withOutline && changed) board.outline(changed.mask);
    board.box(cursor.region());
    second.clear();
    if (withLines) second.lines();
    second.box(cursor.region());
  }
  const decode = async codes => checked(await backend.decode(codes, ui.say), shape);
  const draw = latestWins(async event => {
    const now = codes, last = edits.at(-1);
    if (last && !last.pixels) last.pixels = await decode(last.codes);
    const pixels = painted.codes === now ? painted.pixels : await decode(now);
    if (pasting && otherPainted !== other) {
      const image = other;
      second.paint(await decode(own[image]));
      otherPainted = image;
    }
    painted = { codes: now, pixels };
    changed = last && { mask: differing(last.pixels, pixels, cells), codes: now.filter((k, i) => k !== last.codes[i]).length };
    board.paint(pixels);
    show();
    ui.tell(effect() || 'As encoded.');
    ui.say(backend.running);
    ui.drawn(event, { codes: now, pixels, mask: changed?.mask ?? null });
  }, ui.failed, ui.busy);
  board.paint(pixelsOf(meta.start.pixels));
  cursor.put(Math.floor(rows / 2) * columns + Math.floor(columns / 2));
  mode(false);
}

/** 1 where any channel differs by more than one of 256 levels. */
function differing(a, b, cells) {
  const mask = new Uint8Array(cells);
  for (let i = 0; i < a.length; i++) if (Math.abs(a[i] - b[i]) > 1 / 255) mask[i % cells] = 1;
  return mask;
}

// ------------------------------------------------------------------------------------------------- prior explorer
/** What codes are drawn with: `tempered` probabilities, softmax(logits / temperature), and `drawn`, these without all
 *  but the likeliest `kept` codes, as few as together hold topP. Temperature 0 keeps the likeliest alone. */
export function odds(logits, temperature, topP) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity), scale = temperature || 1;
  const tempered = Float64Array.from(logits, v => Math.exp((v - top) / scale)), sum = tempered.reduce((a, b) => a + b, 0);
  tempered.forEach((v, k) => { tempered[k] = v / sum; });
  const order = [...tempered.keys()].sort((a, b) => tempered[b] - tempered[a] || a - b), drawn = new Float64Array(logits.length);
  let held = 0, kept = 0;
  for (const k of order) {
    if (kept && (temperature === 0 || (topP < 1 && held >= topP))) break;
    drawn[k] = tempered[k];
    held += tempered[k];
    kept++;
  }
  drawn.forEach((v, k) => { drawn[k] = v / held; });
  return { tempered, drawn, order, kept };
}

/** A number in [0, 1) for each place of a seed, the same whenever it is asked for. Mixing: C. Wellons' triple32. */
export function uniform(seed, place) {
  let t = (Math.imul(seed, 0x9e3779b1) + place) >>> 0;
  t = Math.imul(t ^ (t >>> 17), 0xed5ad4bb);
  t = Math.imul(t ^ (t >>> 11), 0xac4c1b51);
  t = Math.imul(t ^ (t >>> 15), 0x31848bab);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

/** The code at which the summed probabilities exceed u. */
export function drawCode(probabilities, u) {
  let sum = 0, last = 0;
  for (let k = 0; k < probabilities.length; k++) {
    if (!probabilities[k]) continue;
    last = k;
    sum += probabilities[k];
    if (u < sum) break;
  }
  return last;
}

const LAST_SEED = 999999;
const CANDIDATES = 8;
const chance = p => percent(p, p >= 0.0995 ? 0 : 1);
/** meta: {shape, grid: [h, w], attributes: [{name, values}], book: see `codebook`, fill: what the decoder gets where no
 *  code is yet, examples: [{alt, pixels, codes, labels}], start: {labels, codes, logits, pixels}}. */
export function mountPriorExplorer(element, meta, backend) {
  const { shape, grid, attributes, book, fill, examples } = meta, [rows, columns] = grid, n = rows * columns;
  const ui = frame(element, 'prior', backend.note('Press Step or Play, or choose the next code yourself.'));
  const calm = globalThis.matchMedia?.('(prefers-reduced-motion: reduce)'); // then Play shows whole rows
  const codes = new Float32Array(n).fill(fill);
  codes.set(meta.start.codes);
  let filled = meta.start.codes.length, labels = [...meta.start.labels];
  let logits = Float32Array.from(meta.start.logits); // of the next code; null while they are not known
  let begun = filled; // what was there before the prior drew on: a full grid starts again from it
  let version = 0, behind = false, pointed = false;
  const playing = player(element, () => { show(); if (behind && !playing.now()) refresh({ event: null }); }), { stop } = playing;

  // ---- the picture, filled row by row
  const board = codeBoard(shape, grid, { tabindex: 0, role: 'slider', 'aria-roledescription': 'grid of codes', 'aria-valuemin': 1, 'aria-valuemax': n });
  const cursor = cellCursor(board.plate, {
    rows, columns, pressed: event => rewind(cursor.place(), event),
    moved(event) {
      pointed = event.type !== 'click';
      if (pointed) show();
      else rewind(cursor.place(), event);
    },
  });
  board.plate.addEventListener('blur', () => { pointed = false; show(); });
  const told = h('p', {});
  const play = button('Play', event => (playing.now() === 'play' ? stop() : go('play', event)));
  const bar = h('div', { class: 'bar' }, play,
    button('Step', event => { stop(); if (filled === n) again(); step(event); }),
    button('Fill the rest', event => (playing.now() === 'fill' ? stop() : go('fill', event))),
    button('Clear', event => rewind(0, event)));

  // ---- how the next code is drawn
  const { picture } = codebook(book), caption = h('p', { class: 'name' });
  const candidates = Array.from({ length: Math.min(CANDIDATES, book.codes) }, () => {
    const canvas = h('canvas', { 'aria-hidden': 'true' }), rod = h('span', { class: 'rod' }), share = h('span', { class: 'share' });
    const candidate = { code: 0, rod, share, paint: painter(canvas, book.patch) };
    candidate.button = button(canvas, event => choose(candidate.code, event));
    candidate.button.append(rod, share);
    return candidate;
  });
  const list = h('div', { class: 'odds', role: 'group', 'aria-label': 'The likeliest next codes' }, ...candidates.map(c => c.button));
  const choice = attributeMenus(attributes, (a, value, event) => {
    labels[a] = value;
    version++;
    logits = null;
    show();
    refresh({ event });
  });
  const temperature = slider('Temperature', { min: 0, max: 1.5, step: 0.05, value: 1 }, v => v.toFixed(2), show);
  const topP = slider('Top-p', { min: 0.05, max: 1, step: 0.05, value: 1 }, v => v.toFixed(2), show);
  const speed = slider('Codes a second', { min: 1, max: 30, step: 1, value: 8 }, v => `${v}`, () => {});
  const seed = numberField('Seed', { min: 0, max: LAST_SEED, value: 1 });

  // ---- rows of an example that are kept
  let example = 0;
  const { strip } = pictureStrip('Examples', examples, shape, (i, event) => { example = i; keep(event); });
  const kept = slider('Rows kept', { min: 0, max: rows, step: 1, value: Math.round(filled / columns) }, v => `${v} of ${rows}`, (_, event) => keep(event));
  ui.add(
    h('div', { class: 'column' }, board.plate, told, bar, speed.row),
    h('div', { class: 'column' }, caption, list, ...(attributes.length ? [choice.menus] : []), temperature.row, topP.row,
      h('div', { class: 'slider wider' }, seed.label, seed.input)),
    h('div', { class: 'column wide' }, h('p', { class: 'name' }, 'Keep the first rows of an example, and let the prior go on'), strip, kept.row));

  function cut(count) {
    codes.fill(fill, count);
    filled = count;
    logits = null;
    version++;
  }
  function put(code) {
    codes[filled++] = code;
    logits = null;
    version++;
  }
  function again() { // the grid is full: another picture from where this one began
    seed.set((seed.value() + 1) % (LAST_SEED + 1));
    cut(begun < n ? begun : 0);
  }
  function settle(event) { // after the reader's own change
    stop();
    begun = filled;
    show();
    refresh({ event });
  }
  function rewind(place, event) {
    stop();
    if (place >= filled) return filled && ui.say(`Row ${Math.floor(place / columns) + 1}, column ${(place % columns) + 1} has no code yet.`);
    cut(place);
    ui.tell(`${filled} of ${n} codes are left.`);
    settle(event);
  }
  function choose(code, event) {
    if (filled === n || !logits) return;
    put(code);
    ui.tell(`Code ${code} chosen; ${filled} of ${n}.`);
    settle(event);
  }
  function keep(event) {
    const { codes: given, labels: known } = examples[example], count = kept.value() * columns;
    cut(0);
    codes.set(given.slice(0, count));
    filled = count;
    if (known) labels = [...known];
    settle(event);
  }

  function show() {
    const full = filled === n, at = cursor.place(), name = `row ${Math.floor(filled / columns) + 1}, column ${(filled % columns) + 1}`;
    const place = at < filled ? `code ${codes[at]}` : at === filled ? 'next to be drawn' : 'not drawn yet';
    play.textContent = playing.now() === 'play' ? 'Pause' : 'Play';
    board.plate.setAttribute('aria-label', `Picture decoded from ${rows} by ${columns} codes, ${filled} of them drawn. Arrow keys move; Enter goes back to a code and clears it and all after it.`);
    board.plate.setAttribute('aria-valuenow', at + 1);
    board.plate.setAttribute('aria-valuetext', `Row ${Math.floor(at / columns) + 1}, column ${(at % columns) + 1}: ${place}`);
    told.textContent = `${filled} of ${n} codes drawn. ${full ? 'Play draws another one.' : ''} Tap a code to go back to it.`;
    choice.show(labels);
    board.clear();
    board.lines();
    board.veil(filled);
    if (!full) board.box({ top: Math.floor(filled / columns), left: filled % columns, high: 1, wide: 1 }, '#ff4fa3');
    if (pointed) board.box({ top: Math.floor(at / columns), left: at % columns, high: 1, wide: 1 });
    list.setAttribute('aria-busy', !logits && !full);
    if (full) caption.textContent = 'The grid is full';
    for (const { button } of candidates) button.setAttribute('aria-disabled', full);
    if (!logits || full) return;
    const { tempered, drawn, order, kept: some } = odds(logits, temperature.value(), topP.value());
    caption.textContent = `Next: ${name}. ${some === book.codes ? `Any of ${some} codes` : some === 1 ? 'One code' : `One of ${some} codes`}`;
    candidates.forEach((candidate, i) => {
      const code = order[i], cutOff = drawn[code] === 0;
      candidate.code = code;
      candidate.paint(picture(code));
      candidate.rod.style.width = `${(100 * tempered[code]) / tempered[order[0]]}%`;
      candidate.share.textContent = cutOff ? 'cut' : chance(drawn[code]);
      candidate.button.classList.toggle('cut', cutOff);
      candidate.button.setAttribute('aria-label', `Code ${code}: ${chance(tempered[code])}${cutOff ? ', cut off' : ''}`);
    });
  }
  // Brings the picture and the odds in line with the codes. `quick` leaves the picture as it is.
  const refresh = latestWins(async ({ event, quick }) => {
    const before = version, at = filled, now = codes.slice(), conditions = Float32Array.from(labels);
    let pixels = null, row = logits;
    if (quick) behind = true;
    else {
      pixels = checked(await backend.decode(now, ui.say), shape);
      board.paint(pixels);
      behind = false;
    }
    if (at < n && !row) {
      if (pixels) await pause(0); // the picture is shown first, and a key heard: two networks in a row would block for longer
      row = await backend.prior(now, conditions, at, ui.say);
      if (row.length !== book.codes || !row.every(Number.isFinite)) throw new Error(`the prior gave ${row.length} values, expected ${book.codes} finite ones`);
      if (version === before) logits = row;
    }
    if (!quick) show();
    ui.say(backend.running);
    ui.drawn(event, { codes: now, filled: at, labels: conditions, pixels, logits: at < n ? row : null, seed: seed.value() });
  }, error => { stop(); ui.failed(error); }, ui.busy);

  async function step(event, quick = false) {
    while (!logits && filled < n) if (!(await refresh({ event, quick: true }))) return false;
    if (filled === n) return false;
    const { drawn } = odds(logits, temperature.value(), topP.value()), code = drawCode(drawn, uniform(seed.value(), filled));
    put(code);
    if (!playing.now()) ui.tell(`Code ${code} drawn, at ${chance(drawn[code])}; ${filled} of ${n}.`);
    return refresh({ event, quick });
  }
  async function go(how, event) {
    if (filled === n) again();
    const next = () => {
      const quick = (how === 'fill' || calm?.matches) && (filled + 1) % columns !== 0, first = event;
      event = null;
      return filled < n && step(first, quick);
    };
    const wait = () => (how === 'play' ? 1000 / speed.value() : 0); // 0: lets the page breathe
    if (await playing.play(how, next, wait)) ui.tell(`${filled} of ${n} codes are drawn.`);
  }
  board.paint(pixelsOf(meta.start.pixels));
  cursor.put(Math.min(filled, n - 1));
  show();
}

// --------------------------------------------------------------------------------------------- generator explorer
/** n numbers of N(0, 1) for a seed, by Box and Muller's transform: the same here and in Python. */
export function gaussians(seed, n) {
  const z = new Float32Array(n);
  for (let d = 0; d < n; d++) {
    const pair = d - (d % 2), radius = Math.sqrt(-2 * Math.log(1 - uniform(seed, pair))), angle = 2 * Math.PI * uniform(seed, pair + 1);
    z[d] = radius * (d % 2 ? Math.sin(angle) : Math.cos(angle));
  }
  return z;
}

/** The latent at share t of the way from a to b, on the arc between them: a straight line would pass nearer to the
 *  origin than N(0, I) puts its draws. Where the arc is not defined it is the line. */
export function slerp(a, b, t) {
  let dot = 0, aa = 0, bb = 0;
  for (let d = 0; d < a.length; d++) { dot += a[d] * b[d]; aa += a[d] ** 2; bb += b[d] ** 2; }
  const angle = Math.acos(clamp(dot / Math.sqrt(aa * bb), -1, 1)), sine = Math.sin(angle), arc = sine >= 1e-4;
  const from = arc ? Math.sin((1 - t) * angle) / sine : 1 - t, to = arc ? Math.sin(t * angle) / sine : t;
  return a.map((v, d) => from * v + to * b[d]);
}

/** meta: {shape: [C, H, W], latent_dim, reach, subject, directions: [{name, vector}], start: {seeds, pixels}}. The image
 *  is that of z = slerp(z_A, z_B; t) + the sum of the sliders' values times their directions. */
export function mountGeneratorExplorer(element, meta, backend) {
  const { shape, reach, subject, directions } = meta;
  const ui = frame(element, 'generator', backend.note(`${directions.length ? 'Move a slider, walk' : 'Walk'} from A to B, or ask for a new ${subject}.`));
  const seeds = [...meta.start.seeds], latents = seeds.map(seed => gaussians(seed, meta.latent_dim)), stale = [false, false];

  const out = h('canvas', { role: 'img' }), paint = painter(out, shape), told = h('p', { class: 'told' });
  const bar = h('div', { class: 'bar' }, button(`New ${subject}`, event => fresh(0, event)), button('Reset', reset));
  const moves = directions.map(({ name }) => slider(name, { min: -reach, max: reach, step: reach / 30, value: 0 }, v => (Math.abs(v) < 1e-6 ? '0' : signed(v)), (_, event) => changed(event)));
  const walk = slider('Walk', { min: 0, max: 1, step: 0.01, value: 0 }, v => (v === 0 ? 'at A' : v === 1 ? 'at B' : percent(v)), (_, event) => changed(event));
  const ends = ['A', 'B'].map((letter, k) => {
    const canvas = h('canvas', { role: 'img' }), field = numberField(`${letter}: seed`, { min: 1, max: LAST_SEED, value: seeds[k] }, (value, event) => seed(k, value, event));
    const label = () => canvas.setAttribute('aria-label', `Generated ${subject} ${letter}, seed ${seeds[k]}`);
    label();
    return {
      label, set: field.set, paint: painter(canvas, shape), plate: h('div', { class: 'plate' }, canvas),
      controls: h('div', { class: 'seed' }, field.label, field.input, button('New', event => fresh(k, event), { 'aria-label': `New ${subject} ${letter}` })),
    };
  });
  ui.add(
    h('div', { class: 'column portrait' }, h('div', { class: 'plate' }, out), h('div', { class: 'column' }, bar, told)),
    h('div', { class: 'column' }, ...(moves.length ? [h('p', { class: 'name', style: 'margin: 0' }, 'Directions in the latent space')] : []), ...moves.map(m => m.row)),
    h('div', { class: 'walk wide', role: 'group', 'aria-label': `A walk from ${subject} A to ${subject} B` },
      ends[0].plate, walk.row, ends[1].plate, h('div', { class: 'seeds' }, ends[0].controls, ends[1].controls)));

  function reset(event) {
    for (const move of [...moves, walk]) move.set(0);
    ui.tell('Sliders and walk are back at 0.');
    changed(event);
  }
  function fresh(k, event) { // one that is not there yet, and shown at once: the walk goes to that end
    const next = Math.max(...seeds) + 1;
    walk.set(k);
    seed(k, next <= LAST_SEED ? next : [1, 2, 3].find(s => !seeds.includes(s)), event);
  }
  function seed(k, value, event) {
    seeds[k] = value;
    ends[k].set(value);
    latents[k] = gaussians(value, meta.latent_dim);
    stale[k] = true;
    ui.tell(`${subject} ${'AB'[k]} has seed ${value}.`);
    changed(event);
  }
  function latent() {
    const z = slerp(latents[0], latents[1], walk.value());
    moves.forEach((move, k) => { const s = move.value(); for (let d = 0; d < z.length; d++) z[d] += s * directions[k].vector[d]; });
    return z;
  }
  function show() {
    const t = walk.value(), moved = moves.map((move, k) => [directions[k].name, move.value()]).filter(([, s]) => Math.abs(s) > 1e-6);
    const place = t === 0 ? `seed ${seeds[0]}` : t === 1 ? `seed ${seeds[1]}` : `${Math.round(100 * t)} % of the way from seed ${seeds[0]} to seed ${seeds[1]}`;
    const text = [place, ...moved.map(([name, s]) => `${name} ${signed(s)}`)].join(', ');
    told.textContent = `Shown: ${text}.`;
    out.setAttribute('aria-label', `Generated ${subject}: ${text}`);
  }
  const draw = latestWins(async event => {
    const z = latent(), at = { seeds: [...seeds], t: walk.value(), offsets: moves.map(m => m.value()) };
    const pixels = checked(await backend.decode(z, ui.say), shape);
    paint(pixels);
    ui.say(backend.running);
    ui.drawn(event, { z, pixels, ...at });
    for (const k of [0, 1]) { // the small pictures, after the one that was asked for
      if (!stale[k]) continue;
      stale[k] = false;
      const own = latents[k], small = own.every((v, d) => v === z[d]) ? pixels : checked(await backend.decode(own.slice(), ui.say), shape);
      if (own !== latents[k]) continue;
      ends[k].paint(small);
      ends[k].label();
    }
  }, error => { stale.fill(true); ui.failed(error); }, ui.busy);
  function changed(event) {
    show();
    draw(event);
  }
  const [first, second] = meta.start.pixels.map(pixelsOf);
  paint(first);
  ends[0].paint(first);
  ends[1].paint(second);
  show();
}

// -------------------------------------------------------------------------------------------------- ring explorer
// The plane has the same colours on every page and in print, and shapes say the same again: see widgets/ring.py.
const FIELD = ['#f5aa6e', '#f7f7f7', '#78b4e1'], REAL = '#00466e', GENERATED = '#9a2a00';
const levelsOf = colour => [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
const FRAME_MS = 250, CALM_MS = 1500;

/** Draws a point of the plane on a canvas, at pixels x and y: real ones are crosses, generated ones discs with a rim. */
function drawPoint(context, x, y, generated) {
  context.beginPath();
  if (generated) {
    context.arc(x, y, 4.5, 0, 7);
    context.fillStyle = GENERATED;
    context.strokeStyle = '#fff';
    context.lineWidth = 1.2;
    context.fill();
  } else {
    context.moveTo(x - 5, y); context.lineTo(x + 5, y); context.moveTo(x, y - 5); context.lineTo(x, y + 5);
    context.strokeStyle = REAL;
    context.lineWidth = 1.8;
  }
  context.stroke();
}

/** Lines over the recorded frames, each {name, values in [0, 1]}, and a mark; in the colours of the text around. `top`
 *  says what 1 is. */
function lineChart() {
  const node = h('div', { class: 'chart', 'aria-hidden': 'true' });
  return {
    node,
    lines(all, top) {
      const path = values => values.map((v, i) => `${i ? 'L' : 'M'}${(100 * i) / Math.max(1, values.length - 1)} ${100 * (1 - v)}`).join('');
      node.innerHTML = `<svg viewBox="0 0 100 100" preserveAspectRatio="none">${all.map(({ name, values }) => `<path class="${name}" d="${path(values)}"/>`).join('')}<path class="now"/></svg>`;
      node.append(h('span', {}, top), h('span', { class: 'foot' }, '0'));
    },
    mark: share => node.querySelector('.now').setAttribute('d', `M${100 * share} 0V100`),
  };
}

/** meta: {extent, side, n, real, total, runs: [{loss, setting, label, steps, points, field, field_kind, modes,
 *  high_quality}], start: {run, frame}}; numbers as uint8 in base64. Nothing is computed: each frame was recorded. */
export function mountRingExplorer(element, meta) {
  const { extent, side, n, total, runs } = meta, size = 560, half = 127.5;
  const ui = frame(element, 'ring', `Recorded while the networks were trained; nothing is computed in this page. The plane runs from \u2212${extent} to ${extent} in both directions.`);
  const calm = globalThis.matchMedia?.('(prefers-reduced-motion: reduce)'); // then Play shows one frame after another, slowly
  const real = bytes(meta.real), data = new Map(); // of the runs that were looked at
  const of = r => data.get(r) ?? data.set(r, { points: bytes(runs[r].points), field: bytes(runs[r].field) }).get(r);
  const colours = Uint8ClampedArray.from({ length: 256 * 4 }, (_, i) => {
    const share = (i >> 2) / half - 1, middle = levelsOf(FIELD[1])[i & 3], end = levelsOf(FIELD[share < 0 ? 0 : 2])[i & 3];
    return (i & 3) === 3 ? 255 : Math.round(middle + Math.abs(share) * (end - middle));
  });
  let { run, frame: at } = meta.start;

  const plane = h('canvas', { role: 'img', width: size, height: size }), context = plane.getContext('2d');
  const ground = h('canvas', { width: side, height: side }), groundContext = ground.getContext('2d'), image = groundContext.createImageData(side, side);

  // ---- which training: a menu of losses, and one of the settings that were recorded of the loss
  const words = ({ label }) => { const [first, ...rest] = label.split(', '); return [first, rest.join(', ') || 'plain']; };
  const same = (loss, setting) => runs.findIndex(r => r.loss === loss && r.setting === setting);
  const loss = menu('Loss', (name, event) => { // it may not have been recorded with that setting
    const r = same(name, runs[run].setting);
    choose(r >= 0 ? r : runs.findIndex(other => other.loss === name), event);
  });
  const setting = menu('Setting', (name, event) => choose(same(runs[run].loss, name), event));
  loss.fill([...new Set(runs.map(r => r.loss))].map(name => [name, words(runs.find(r => r.loss === name))[0]]));
  function choose(r, event) {
    run = r;
    at = Math.min(at, runs[run].steps.length - 1);
    fill();
    draw(event);
    if (!playing.now()) ui.tell(sentence());
  }

  // ---- the numbers, and how they went
  const found = h('b', {}), good = h('b', {}), chart = lineChart(), first = h('span', {}), last = h('span', {});
  const numbers = h('div', { class: 'numbers' },
    h('span', { class: 'rule' }), found, 'modes found',
    h('span', { class: 'rule quality' }), good, 'of the points of high quality');
  function sentence() {
    const { label, steps, modes, high_quality: quality } = runs[run];
    return `${label}. Step ${steps[at]}: ${modes[at]} of ${total} modes found, ${percent(quality[at])} of the points of high quality.`;
  }

  // ---- the legend
  const sample = generated => {
    const canvas = h('canvas', { width: 22, height: 22, 'aria-hidden': 'true' }), c = canvas.getContext('2d');
    c.fillStyle = FIELD[1];
    c.fillRect(0, 0, 22, 22);
    drawPoint(c, 11, 11, generated);
    return canvas;
  };
  const low = h('span', {}), high = h('span', {}), caption = h('span', { class: 'wide' });
  const key = h('div', { class: 'key' }, sample(false), 'real points', sample(true), 'generated points; those outside lie on the edge',
    caption, h('div', { class: 'scale wide', 'aria-hidden': 'true', style: `background: linear-gradient(to right, ${FIELD.join(', ')})` }), h('div', { class: 'ends wide' }, low, high));

  // ---- time
  const time = slider('Step', { min: 0, max: 1, step: 1, value: at }, i => `${runs[run].steps[i]}`, (i, event) => {
    playing.stop();
    at = i;
    draw(event);
    ui.tell(sentence());
  });
  const playing = player(element, () => {
    play.textContent = playing.now() ? 'Pause' : 'Play';
    if (!playing.now()) ui.tell(sentence());
  });
  const play = button('Play', event => (playing.now() ? playing.stop() : go(event)));
  function go(event) {
    const end = () => runs[run].steps.length - 1; // of what is shown: the reader may choose another training meanwhile
    if (at === end()) at = -1;
    playing.play('play', () => {
      if (at >= end()) return false;
      at++;
      draw(event);
      event = null;
      return true;
    }, () => (calm?.matches ? CALM_MS : FRAME_MS));
  }
  ui.add(
    h('div', { class: 'column' }, h('div', { class: 'plate plane' }, plane), h('div', { class: 'times' }, play, time.row)),
    h('div', { class: 'column' }, h('div', { class: 'menus' }, loss.row, setting.row), numbers, h('div', {}, chart.node, h('div', { class: 'ends' }, first, last)), key));

  function fill() { // what is the same in all frames of a training
    const { loss: name, setting: own, steps, modes, high_quality: quality, field_kind: kind } = runs[run], score = kind === 'score';
    loss.set(name);
    setting.fill(runs.filter(r => r.loss === name).map(r => [r.setting, words(r)[1]]));
    setting.set(own);
    time.limit(steps.length - 1);
    chart.lines([{ name: 'modes', values: modes.map(m => m / total) }, { name: 'quality', values: quality }], `${total} modes, 100 %`);
    first.textContent = `step ${steps[0]}`;
    last.textContent = `step ${steps.at(-1)}`;
    caption.textContent = score ? 'The critic\u2019s score, scaled in each frame' : 'What the discriminator says';
    low.textContent = score ? 'lowest' : '0: generated';
    high.textContent = score ? 'highest' : '1: real';
  }
  function draw(event) {
    const { points, field } = of(run), { steps, modes, high_quality: quality } = runs[run], cells = side * side;
    for (let i = 0; i < cells; i++) image.data.set(colours.subarray(4 * field[at * cells + i], 4 * field[at * cells + i] + 4), 4 * i);
    groundContext.putImageData(image, 0, 0);
    context.drawImage(ground, 0, 0, size, size);
    for (let i = 0; i < n; i++) drawPoint(context, (real[2 * i] / 255) * size, (1 - real[2 * i + 1] / 255) * size, false);
    for (let i = 0, p = at * 2 * n; i < n; i++, p += 2) drawPoint(context, (points[p] / 255) * size, (1 - points[p + 1] / 255) * size, true);
    found.textContent = `${modes[at]} of ${total}`;
    good.textContent = percent(quality[at]);
    chart.mark(at / Math.max(1, steps.length - 1));
    plane.setAttribute('aria-label', `The plane from ${-extent} to ${extent} in both directions, with ${n} real and ${n} generated points. ${sentence()}`);
    time.set(at);
    ui.drawn(event, { run, frame: at, step: steps[at], loss: runs[run].loss, setting: runs[run].setting });
  }
  fill();
  draw(null);
}

// ------------------------------------------------------------------------- explorers of a style-based generator
// Two networks serve them all: z -> w, once for a seed, and w for each layer -> pixels. What is between is done here.
const PAD = 2; // pixels around each tile of the static picture: images.grid
const titled = text => text[0].toUpperCase() + text.slice(1);
const seedAfter = seed => (seed % LAST_SEED) + 1;
const twoPlaces = psi => psi.toFixed(2);

/** w_mean + psi (w - w_mean): a smaller psi brings w nearer to the mean, and images nearer to one another. */
export function truncated(w, mean, psi) {
  return w.map((v, d) => mean[d] + psi * (v - mean[d]));
}

/** w for each layer, one after the other: pick(layer) gives its w. */
function perLayer(layers, pick) {
  const ws = new Float32Array(layers * pick(0).length);
  for (let layer = 0; layer < layers; layer++) ws.set(pick(layer), layer * pick(layer).length);
  return ws;
}

/** style(seed, psi): the truncated w of a seed; image(ws): its pixels. */
function styled(meta, backend, ui) {
  const known = new Map(); // w by seed: a small list of numbers each
  async function style(seed, psi) {
    if (!known.has(seed)) {
      const w = await backend.mapping(gaussians(seed, meta.latent_dim), ui.say);
      if (w.length !== meta.w_mean.length || !w.every(Number.isFinite)) throw new Error(`the mapping gave ${w.length} values, expected ${meta.w_mean.length} finite ones`);
      known.set(seed, w);
    }
    return truncated(known.get(seed), meta.w_mean, psi);
  }
  return { style, image: async ws => checked(await backend.synthesis(ws, meta.layers, ui.say), meta.shape) };
}

/** Paints canvases with tiles of the static picture, {canvas, tile}, unless `late()`: a page need not carry them twice. The
 *  promise is kept with true where it did. */
async function paintStart(picture, [, height, width], columns, canvases, late) {
  if (!picture) return false;
  const sheet = new Image();
  sheet.src = picture;
  await sheet.decode().catch(() => {}); // without it the canvases stay empty until the first move
  if (!sheet.naturalWidth || late()) return false;
  for (const { canvas, tile } of canvases) {
    const left = PAD + (tile % columns) * (width + PAD), top = PAD + Math.floor(tile / columns) * (height + PAD);
    canvas.getContext('2d').drawImage(sheet, left, top, width, height, 0, 0, width, height);
  }
  return true;
}

/** A strip of small pictures to choose from, each with words below it. */
function tileStrip(label, n, shape, pick) {
  const { strip, check, choices, paints } = pictureStrip(label, Array.from({ length: n }, () => ({ alt: '' })), shape, pick);
  strip.classList.add('tiles');
  strip.classList.remove('wide');
  strip.style.setProperty('--n', n);
  const words = choices.map(choice => choice.appendChild(h('span', { 'aria-hidden': 'true' })));
  return {
    strip, check, paints, canvases: choices.map(choice => choice.firstChild),
    name(i, text, alt) {
      words[i].textContent = text;
      choices[i].title = alt;
      choices[i].setAttribute('aria-label', alt);
    },
  };
}

/** meta: {shape, latent_dim, layers, w_mean, subject, psis, start: {seed, psi, faces, columns}}. The image is that of a
 *  seed's w, truncated; the strips show the same seed at other psi, and other seeds at the same psi. */
export function mountTruncationExplorer(element, meta, backend, picture) {
  const { shape, subject, psis, start } = meta;
  const ui = frame(element, 'truncation', backend.note(`Move psi, or ask for another ${subject}.`));
  const faces = styled(meta, backend, ui);
  let seed = start.seed, first = seed, began = false; // first: of the strip of other seeds

  const out = h('canvas', { role: 'img' }), paint = painter(out, shape), told = h('p', { class: 'told' });
  const field = numberField('Seed', { min: 1, max: LAST_SEED, value: seed }, go);
  const psi = slider('psi', { min: 0, max: psis.at(-1), step: 0.05, value: start.psi }, twoPlaces, (_, event) => changed(event));
  const own = tileStrip(`This ${subject} at other psi`, psis.length, shape, (i, event) => { psi.set(psis[i]); changed(event); });
  const others = tileStrip(`Other ${subject}s at this psi`, start.faces, shape, (i, event) => go(seedOf(i), event));
  ui.add(
    h('div', { class: 'column portrait' }, h('div', { class: 'plate' }, out),
      h('div', { class: 'column' }, h('div', { class: 'bar' }, button(`Another ${subject}`, event => go(seedAfter(seed), event))),
        h('div', { class: 'seed' }, field.label, field.input), told)),
    h('div', { class: 'column' }, psi.row, h('p', { class: 'name', style: 'margin: 0' }, `This ${subject} at other psi`), own.strip,
      h('p', { class: 'name', style: 'margin: .4rem 0 0' }, `Other ${subject}s at this psi`), others.strip));

  function seedOf(i) {
    return ((first - 1 + i) % LAST_SEED) + 1;
  }
  function go(next, event) { // a seed that the strip does not show begins a new one
    seed = next;
    field.set(seed);
    if (!others.canvases.some((_, i) => seedOf(i) === seed)) first = seed;
    ui.tell(`Seed ${seed}.`);
    changed(event);
  }
  // The small pictures, each with what it should show and what it does show; those in order wait for the large one.
  const key = (s, p) => `${s} ${twoPlaces(p)}`;
  const tiles = [
    ...psis.map((p, i) => ({ strip: own, i, want: () => [seed, p], first: key(seed, p), shows: null })),
    ...others.canvases.map((_, i) => ({ strip: others, i, want: () => [seedOf(i), psi.value()], first: key(seedOf(i), start.psi), shows: null })),
  ];
  function show() {
    const p = psi.value(), text = `seed ${seed} at psi ${twoPlaces(p)}`;
    const remark = p === 0 ? ' At 0 there is one image, that of the mean: all seeds give it.' : p === 1 ? ' At 1 nothing is truncated.' : '';
    told.textContent = `Shown: ${text}.${remark}`;
    out.setAttribute('aria-label', `Generated ${subject}: ${text}`);
    psis.forEach((value, i) => own.name(i, String(value), `psi ${value}`));
    own.check(psis.some(value => Math.abs(value - p) < 1e-6) ? psis.findIndex(value => Math.abs(value - p) < 1e-6) : null);
    others.canvases.forEach((_, i) => others.name(i, String(seedOf(i)), `Seed ${seedOf(i)}`));
    others.check(others.canvases.findIndex((_, i) => seedOf(i) === seed));
  }
  async function at(s, p) {
    const w = await faces.style(s, p), ws = perLayer(meta.layers, () => w);
    return { ws, pixels: await faces.image(ws.slice()) };
  }
  let next = 0; // a long drag serves all tiles in turn
  const draw = latestWins(async event => {
    const s = seed, p = psi.value(), { ws, pixels } = await at(s, p);
    began = true;
    paint(pixels);
    ui.say(backend.running);
    ui.drawn(event, { seed: s, psi: p, ws, pixels });
    for (let n = 0; n < tiles.length; n++, next++) {
      const tile = tiles[next % tiles.length], wanted = tile.want();
      if (tile.shows === key(...wanted)) continue;
      if (draw.waits()) return;
      tile.strip.paints[tile.i](key(...wanted) === key(s, p) ? pixels : (await at(...wanted)).pixels);
      tile.shows = key(...wanted);
    }
  }, ui.failed, ui.busy);
  function changed(event) {
    show();
    draw(event);
  }
  show();
  const middle = start.columns; // the second row: the seeds at the first psi
  paintStart(picture, shape, start.columns, [
    { canvas: out, tile: middle }, ...own.canvases.map((canvas, i) => ({ canvas, tile: i })),
    ...others.canvases.map((canvas, i) => ({ canvas, tile: middle + i })),
  ], () => began).then(painted => { if (painted) for (const tile of tiles) tile.shows ??= tile.first; });
}

/** meta: {shape, latent_dim, layers, w_mean, subject, psi, grids: [side of each layer], groups: [{name, layers}],
 *  start: {seeds, columns}}. Each layer takes its w from A or from B; at the start the first group is B's. */
export function mountStyleMixer(element, meta, backend, picture) {
  const { shape, subject, layers, grids, groups, psi } = meta, seeds = [...meta.start.seeds];
  const ui = frame(element, 'mixer', backend.note(`Choose A or B for each layer, or a group of layers.`));
  const faces = styled(meta, backend, ui);
  const ofB = Array.from({ length: layers }, (_, layer) => groups[0].layers.includes(layer));
  const stale = [true, true]; // whether A and B are still to be painted
  let began = false, cursor = 0;

  const out = h('canvas', { role: 'img' }), paint = painter(out, shape), told = h('p', { class: 'note' });
  const ends = ['A', 'B'].map((letter, k) => {
    const canvas = h('canvas', { role: 'img' }), field = numberField('Seed', { min: 1, max: LAST_SEED, value: seeds[k] }, (value, event) => seed(k, value, event));
    field.input.setAttribute('aria-label', `Seed of ${letter}`);
    return {
      canvas, set: field.set, paint: painter(canvas, shape),
      label: () => canvas.setAttribute('aria-label', `Generated ${subject} ${letter}, seed ${seeds[k]}`),
      column: h('div', { class: 'column' }, h('p', { class: 'name' }, letter), h('div', { class: 'plate' }, canvas),
        h('div', { class: 'seed' }, field.input, button('Another', event => fresh(k, event), { 'aria-label': `Another ${subject} ${letter}` }))),
    };
  });
  const presets = [
    { label: 'All from A', layers: [] },
    ...groups.map(group => ({ label: `${titled(group.name)} from B`, layers: group.layers })),
    { label: 'All from B', layers: ofB.map((_, layer) => layer) },
  ].map(preset => ({ ...preset, button: button(preset.label, event => take(preset.layers, preset.label, event)) }));

  // The table: a column for each layer, with a radio button for A above one for B; the sides of the grids above them.
  const heads = [];
  grids.forEach((side, layer) => {
    if (side === grids[layer - 1]) heads.at(-1).span++;
    else heads.push({ side, span: 1 });
  });
  const columns = grids.map((side, layer) => {
    const radios = ['A', 'B'].map((letter, k) => button(letter, event => choose(layer, k === 1, event), { role: 'radio', 'aria-label': letter }));
    return { radios, node: h('div', { role: 'radiogroup', 'aria-label': `Layer ${layer}, ${side} by ${side}` }, ...radios, h('span', { 'aria-hidden': 'true' }, String(layer))) };
  });
  const table = h('div', { class: 'layers', role: 'group', style: `--n: ${layers}`,
    'aria-label': 'The face that each layer takes its style from. Left and right arrows go from layer to layer; up takes A, down takes B.' },
    ...heads.map(({ side, span }) => h('span', { class: 'head', 'aria-hidden': 'true', style: `grid-column: span ${span}` }, `${side}\u00d7${side}`)),
    ...columns.map(column => column.node));
  table.addEventListener('keydown', event => {
    if (modified(event)) return;
    const { key } = event;
    if (key === 'ArrowUp' || key === 'ArrowDown') choose(cursor, key === 'ArrowDown', event);
    else if (key === 'Home' || key === 'End') cursor = key === 'Home' ? 0 : layers - 1;
    else if (key === 'ArrowLeft' || key === 'ArrowRight') cursor = clamp(cursor + (key === 'ArrowLeft' ? -1 : 1), 0, layers - 1);
    else return;
    event.preventDefault();
    show();
    columns[cursor].radios[Number(ofB[cursor])].focus();
  });
  ui.add(ends[0].column, h('div', { class: 'column mix' }, h('p', { class: 'name' }, 'Mix'), h('div', { class: 'plate' }, out)), ends[1].column,
    h('div', { class: 'column wide' }, h('div', { class: 'bar' }, ...presets.map(preset => preset.button)), table, told));

  function choose(layer, second, event) {
    cursor = layer;
    if (ofB[layer] === second) return show();
    ofB[layer] = second;
    changed(event);
  }
  function take(chosen, label, event) {
    ofB.forEach((_, layer) => { ofB[layer] = chosen.includes(layer); });
    ui.tell(`${label}.`);
    changed(event);
  }
  function fresh(k, event) {
    const next = Math.max(...seeds) + 1; // one that is not there yet
    seed(k, next <= LAST_SEED ? next : [1, 2, 3].find(s => !seeds.includes(s)), event);
  }
  function seed(k, value, event) {
    seeds[k] = value;
    ends[k].set(value);
    stale[k] = true;
    ui.tell(`${subject} ${'AB'[k]} has seed ${value}.`);
    changed(event);
  }
  const listed = chosen => (chosen.length === 0 ? 'none' : chosen.length === layers ? 'all' : chosen.join(', '));
  function show() {
    const chosen = ofB.flatMap((second, layer) => (second ? [layer] : []));
    const text = `layers from B: ${listed(chosen)}`;
    told.textContent = `Seeds ${seeds[0]} and ${seeds[1]} at psi ${twoPlaces(psi)}, ${text}.`;
    out.setAttribute('aria-label', `Mix of ${subject} A and ${subject} B, ${text}`);
    for (const end of ends) end.label();
    columns.forEach(({ radios }, layer) => radios.forEach((radio, k) => {
      radio.setAttribute('aria-checked', ofB[layer] === (k === 1));
      radio.tabIndex = layer === cursor && ofB[layer] === (k === 1) ? 0 : -1;
    }));
    for (const preset of presets) preset.button.setAttribute('aria-pressed', ofB.every((second, layer) => second === preset.layers.includes(layer)));
  }
  const draw = latestWins(async event => {
    const at = [...seeds], chosen = ofB.flatMap((second, layer) => (second ? [layer] : []));
    const w = [await faces.style(at[0], psi), await faces.style(at[1], psi)];
    const ws = perLayer(layers, layer => w[Number(chosen.includes(layer))]), pixels = await faces.image(ws.slice());
    began = true;
    paint(pixels);
    ui.say(backend.running);
    ui.drawn(event, { seeds: at, chosen, ws, pixels });
    for (const k of [0, 1]) { // A and B themselves, after the mix
      if (!stale[k] || draw.waits()) continue;
      const own = await faces.image(perLayer(layers, () => w[k]));
      if (seeds[k] !== at[k]) continue;
      ends[k].paint(own);
      stale[k] = false;
    }
  }, ui.failed, ui.busy);
  function changed(event) {
    show();
    draw(event);
  }
  show();
  paintStart(picture, shape, meta.start.columns, [
    { canvas: ends[0].canvas, tile: 0 }, { canvas: ends[1].canvas, tile: 1 }, { canvas: out, tile: 2 },
  ], () => began).then(painted => { if (painted) for (const k of [0, 1]) stale[k] = seeds[k] !== meta.start.seeds[k]; });
}

/** meta: {shape, latent_dim, layers, w_mean, subject, psi, reach, directions: [{name, vector, layers}], start: {seed,
 *  columns}}. Each slider adds its value times its vector to the w of its layers. */
export function mountStyleSliders(element, meta, backend, picture) {
  const { shape, subject, layers, reach, directions, psi } = meta;
  const ui = frame(element, 'sliders', backend.note(`Move a slider, or ask for another ${subject}.`));
  const faces = styled(meta, backend, ui);
  let seed = meta.start.seed, stale = true, began = false;

  const out = h('canvas', { role: 'img' }), paint = painter(out, shape), told = h('p', { class: 'told' });
  const plain = h('canvas', { role: 'img' }), paintPlain = painter(plain, shape);
  const field = numberField('Seed', { min: 1, max: LAST_SEED, value: seed }, go);
  const moves = directions.map(({ name }) => slider(name, { min: -reach, max: reach, step: reach / 30, value: 0 }, v => (Math.abs(v) < 1e-6 ? '0' : signed(v)), (_, event) => changed(event)));
  ui.add(
    h('div', { class: 'column portrait' }, h('div', { class: 'plate' }, out),
      h('div', { class: 'column' }, h('div', { class: 'bar' }, button(`Another ${subject}`, event => go(seedAfter(seed), event)), button('Reset', reset)), told)),
    h('div', { class: 'column' }, h('p', { class: 'name', style: 'margin: 0' }, 'Directions in w'), ...moves.map(move => move.row),
      h('div', { class: 'origin' }, h('div', { class: 'plate' }, plain),
        h('div', { class: 'seed' }, field.label, field.input, h('span', {}, 'At the left: all sliders at 0.')))));

  function go(next, event) {
    seed = next;
    stale = true;
    field.set(seed);
    ui.tell(`Seed ${seed}.`);
    changed(event);
  }
  function reset(event) {
    for (const move of moves) move.set(0);
    ui.tell('All sliders are back at 0.');
    changed(event);
  }
  function show() {
    const moved = moves.map((move, k) => [directions[k].name, move.value()]).filter(([, s]) => Math.abs(s) > 1e-6);
    const text = [`seed ${seed} at psi ${twoPlaces(psi)}`, ...moved.map(([name, s]) => `${name} ${signed(s)}`)].join(', ');
    told.textContent = `Shown: ${text}.`;
    out.setAttribute('aria-label', `Generated ${subject}: ${text}`);
    plain.setAttribute('aria-label', `The same ${subject} with all sliders at 0`);
  }
  const draw = latestWins(async event => {
    const s = seed, offsets = moves.map(move => move.value()), w = await faces.style(s, psi);
    const ws = perLayer(layers, () => w), size = w.length;
    directions.forEach(({ vector, layers: some }, k) => {
      for (const layer of some) for (let d = 0; d < size; d++) ws[layer * size + d] += offsets[k] * vector[d];
    });
    const pixels = await faces.image(ws.slice());
    began = true;
    paint(pixels);
    ui.say(backend.running);
    ui.drawn(event, { seed: s, offsets, ws, pixels });
    if (!stale || draw.waits()) return; // the face as it is, after the one that was asked for
    const own = offsets.every(v => Math.abs(v) < 1e-6) ? pixels : await faces.image(perLayer(layers, () => w));
    if (seed !== s) return;
    paintPlain(own);
    stale = false;
  }, ui.failed, ui.busy);
  function changed(event) {
    show();
    draw(event);
  }
  show();
  const middle = (meta.start.columns - 1) / 2; // of the first row: all sliders at 0
  paintStart(picture, shape, meta.start.columns, [{ canvas: out, tile: middle }, { canvas: plain, tile: middle }], () => began)
    .then(painted => { if (painted) stale = seed !== meta.start.seed; });
}

// ------------------------------------------------------------------------------------------- restoration explorer
/** Calls visit(k) for every cell of a grid whose middle is at most `radius` from a place, in cells. */
function around(x, y, radius, [, height, width], visit) {
  for (let i = Math.max(0, Math.floor(y - radius)); i <= Math.min(height - 1, y + radius); i++)
    for (let j = Math.max(0, Math.floor(x - radius)); j <= Math.min(width - 1, x + radius); j++)
      if (Math.hypot(j + 0.5 - x, i + 0.5 - y) <= radius) visit(i * width + j);
}

/** Hides strokes of a seed in `hidden`, a value for each cell: they wander until a quarter of the cells is hidden. */
export function scribble(seed, shape, hidden) {
  const [, height, width] = shape;
  let covered = 0, x = -1, y = -1, angle = 0;
  for (let place = 0; covered < hidden.length / 4; place += 5) {
    const [u, v, w, again, turn] = [0, 1, 2, 3, 4].map(i => uniform(seed, place + i));
    if (x < 0 || y < 0 || x >= width || y >= height || again < 1 / 24) [x, y, angle] = [u * width, v * height, w * 2 * Math.PI];
    angle += 0.8 * (turn - 0.5);
    around(x, y, 1.6, shape, k => { covered += 1 - hidden[k]; hidden[k] = 1; });
    x += 1.5 * Math.cos(angle);
    y += 1.5 * Math.sin(angle);
  }
}

/** The PSNR in dB of pixels in [0, 1] rounded to 8 bits, over the whole image: Infinity where they are the same. */
export function decibels(pixels, clean) {
  const level = v => Math.round(255 * clamp(v, 0, 1));
  const error = pixels.reduce((sum, v, k) => sum + (level(v) - level(clean[k])) ** 2, 0) / pixels.length;
  return 10 * Math.log10(255 ** 2 / error);
}

/** The pixels of an image file, in [0, 1]: what is in the middle of it, in the shape's proportions, scaled to the shape. */
async function pixelsOfFile(file, [channels, height, width]) {
  const whole = await createImageBitmap(file).catch(() => { throw new Error(`${file.name} is not an image that this browser can read`); });
  const scale = Math.min(whole.width / width, whole.height / height), wide = scale * width, high = scale * height;
  const part = await createImageBitmap(whole, Math.floor((whole.width - wide) / 2), Math.floor((whole.height - high) / 2),
    Math.max(1, Math.round(wide)), Math.max(1, Math.round(high)), { resizeWidth: width, resizeHeight: height, resizeQuality: 'high' });
  const context = h('canvas', { width, height }).getContext('2d', { willReadFrequently: true });
  context.fillStyle = '#fff'; // what is transparent is paper
  context.fillRect(0, 0, width, height);
  context.drawImage(part, 0, 0);
  whole.close();
  part.close();
  const { data } = context.getImageData(0, 0, width, height), cells = height * width, pixels = new Float32Array(channels * cells);
  for (let k = 0; k < cells; k++) {
    const rgb = [0, 1, 2].map(c => data[4 * k + c]);
    const kept = channels === 1 ? [Math.round(0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2])] : rgb;
    kept.forEach((level, c) => { pixels[c * cells + k] = level / 255; });
  }
  return pixels;
}

/** meta: {shape: [C, H, W], images: [{alt, pixels}], hatch: two greys, start: {psnr, columns}}. y = x + 2 sigma n, in units of [-1, 1],
 *  where it is not hidden, and 0 where it is. Both networks restore it: backend.restore(part, y, known, 2 sigma). */
export function mountRestorationExplorer(element, meta, backend, picture) {
  const { shape, hatch } = meta, [channels, height, width] = shape, cells = height * width;
  const ui = frame(element, 'restoration', backend.note('Paint on the picture to hide pixels, or pour noise.'));
  const pictures = meta.images.map(image => pixelsOf(image.pixels)), hidden = new Float32Array(cells);
  let clean = pictures[0], subject = meta.images[0].alt, seed = 1, noise = gaussians(seed, clean.length), scribbles = 0, began = false;

  const { strip, check } = pictureStrip('Test images', meta.images, shape, (i, event) => choose(pictures[i], meta.images[i].alt, event));
  function choose(pixels, alt, event) {
    [clean, subject] = [pixels, alt];
    changed(event);
  }
  const file = h('input', { type: 'file', accept: 'image/*', hidden: true, 'aria-label': 'Own image', onchange: upload });
  async function upload(event) {
    if (!file.files.length) return; // it was not chosen after all
    try {
      const pixels = await pixelsOfFile(file.files[0], shape);
      check(null);
      choose(pixels, 'Your image', event);
    } catch (error) {
      ui.failed(error);
    }
    file.value = ''; // the same file may be asked for again
  }

  // ---- the easel: shows y, and what is hidden as stripes
  const sheet = h('canvas', { 'aria-hidden': 'true' }), paintSheet = painter(sheet, shape);
  let ink = 1;
  const { node: easel, tools } = drawingArea(sheet, shape, ['Hide', 'Uncover'], {
    begin: erase => { ink = erase ? 0 : 1; },
    stamp: (x, y) => around(x, y, Math.max(size.value() / 2, 0.71), shape, k => { hidden[k] = ink; }), // one cell at least
    edited: changed,
    told(row, column, event) {
      ui.say(`Row ${row + 1}, column ${column + 1}: ${hidden[row * width + column] ? 'hidden' : 'seen'}.`);
      quiet.add(event); // as in the image explorer
    },
  });
  const size = slider('Brush', { min: 1, max: Math.round(height / 4), step: 1, value: Math.max(2, Math.round(height / 10)) }, v => `${v} px`, () => {});
  const sigma = slider('Noise \u03c3, of [0, 1]', { min: 0, max: 0.4, step: 0.02, value: 0 }, twoPlaces, (_, event) => changed(event));
  const another = button('Another noise', event => {
    noise = gaussians(seed = seedAfter(seed), clean.length);
    changed(event);
  });
  /** A button that hides what hide() says, a value for each row and column, and nothing else. */
  const preset = (name, hide) => button(name, event => {
    for (let k = 0; k < cells; k++) hidden[k] = hide(Math.floor(k / width), k % width);
    changed(event);
  });
  const inMiddle = (at, side) => at >= Math.floor(Math.ceil(side / 2) / 2) && at < Math.floor(Math.ceil(side / 2) / 2) + Math.floor(side / 2);
  const box = (row, column) => Number(inMiddle(row, height) && inMiddle(column, width));
  const presets = [preset('Box', box), button('Scribble', event => {
    hidden.fill(0);
    scribble(++scribbles, shape, hidden);
    changed(event);
  }), preset('Half', (row, column) => Number(column >= width / 2)), preset('Clear', () => 0)];

  // ---- what is made of it
  const outs = [['squared', 'Least squares', 'Least-squares restoration'], ['adversarial', 'Adversarial', 'Adversarial restoration'], [null, 'Original', 'Original']].map(([part, title, spoken]) => {
    const canvas = h('canvas', { role: 'img' }), words = h('p', {});
    return { part, canvas, words, spoken, paint: painter(canvas, shape), figure: h('div', {}, h('p', { class: 'name' }, title), h('div', { class: 'plate' }, canvas), words) };
  });
  const [squared, adversarial, original] = outs, share = h('p', { class: 'share' });
  const dB = value => (Number.isFinite(value) ? `PSNR ${value.toFixed(1)} dB` : 'no error');
  ui.add(strip,
    h('div', { class: 'bar wide' }, button('Own image\u2026', () => file.click()), file, h('span', { class: 'share' }, backend.own)),
    h('div', { class: 'column' }, h('div', {}, h('p', { class: 'name' }, 'What the networks see: paint on it'), easel, share),
      h('div', { class: 'bar', role: 'group', 'aria-label': 'Brush' }, ...tools), size.row),
    h('div', { class: 'column' }, h('div', { class: 'trio' }, ...outs.map(out => out.figure)),
      h('p', { class: 'share' }, 'PSNR over the whole image, of pixels rounded to 8 bits.'),
      h('div', { class: 'bar', role: 'group', 'aria-label': 'Hide' }, ...presets), sigma.row, h('div', { class: 'bar' }, another)));

  function observed() {
    const s = 2 * sigma.value(), known = hidden.map(v => 1 - v);
    return { known, sigma: s, y: clean.map((p, k) => (known[k % cells] ? 2 * p - 1 + s * noise[k] : 0)) };
  }
  function show() {
    const { known, y } = observed(), part = hidden.reduce((sum, v) => sum + v, 0) / cells, s = sigma.value();
    paintSheet(y.map((v, k) => (known[k % cells] ? (v + 1) / 2 : hatch[(Math.floor((k % cells) / width) + (k % width)) % 4 < 2 ? 0 : 1])));
    original.paint(clean);
    const damage = part || s ? `${percent(part)} hidden, ${s ? `noise \u03c3 ${twoPlaces(s)}` : 'no noise'}.` : 'Nothing is hidden, and there is no noise: nothing to restore.';
    share.textContent = damage;
    another.disabled = !s;
    easel.setAttribute('aria-label', `Drawing area, ${width} by ${height} cells, now showing: ${subject}. ${damage} Arrow keys move the cursor, Shift and arrows paint, Space hides, Delete uncovers, Home returns to the centre.`);
    original.canvas.setAttribute('aria-label', `Original: ${subject}`);
  }
  function tellPsnr(values) {
    [squared, adversarial].forEach(({ words, canvas, spoken }, i) => {
      words.textContent = dB(values[i]);
      canvas.setAttribute('aria-label', `${spoken} of ${subject}, ${dB(values[i])}`);
    });
  }
  const quiet = new WeakSet();
  const draw = latestWins(async event => {
    const seen = observed(), truth = clean;
    const found = await Promise.all([squared, adversarial].map(({ part }) => backend.restore(part, seen.y, seen.known, seen.sigma, ui.say)));
    found.forEach(pixels => checked(pixels, shape, 'restorer'));
    began = true;
    [squared, adversarial].forEach(({ paint }, i) => paint(found[i]));
    const psnr = found.map(pixels => decibels(pixels, truth));
    tellPsnr(psnr);
    if (!quiet.has(event)) ui.say(backend.running);
    ui.tell(`Least squares ${dB(psnr[0])}, adversarial ${dB(psnr[1])}.`);
    ui.drawn(event, { ...seen, clean: truth, squared: found[0], adversarial: found[1], psnr });
  }, ui.failed, ui.busy);
  function changed(event) {
    show();
    draw(event);
  }
  for (let k = 0; k < cells; k++) hidden[k] = box(Math.floor(k / width), k % width);
  show();
  tellPsnr(meta.start.psnr.map(value => value ?? Infinity));
  paintStart(picture, shape, meta.start.columns, [{ canvas: squared.canvas, tile: 1 }, { canvas: adversarial.canvas, tile: 2 }], () => began);
}

// kind of explorer, which is also its tag on a page: mount(element, meta, backend, address of the static picture)
const mounts = {
  'latent-map': mountLatentMap, 'image-explorer': mountImageExplorer, 'attribute-explorer': mountAttributeExplorer,
  'code-explorer': mountCodeExplorer, 'prior-explorer': mountPriorExplorer, 'generator-explorer': mountGeneratorExplorer,
  'ring-explorer': mountRingExplorer, 'truncation-explorer': mountTruncationExplorer, 'style-mixer': mountStyleMixer,
  'style-sliders': mountStyleSliders, 'restoration-explorer': mountRestorationExplorer,
};

// ------------------------------------------------------------------------------------------------ live kernel host
function kernelBackend(model) {
  const waiting = new Map();
  let last = 0;
  function received(message, buffers) {
    const call = waiting.get(message.id);
    if (!call) return; // another view of the same widget asked
    waiting.delete(message.id);
    clearTimeout(call.timer);
    if (message.error) call.reject(new Error(message.error));
    else call.resolve((buffers ?? []).map(b => { // DataView in some hosts, ArrayBuffer in others; an offset need not be a multiple of 4
      const view = b.buffer ? b : new DataView(b);
      return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
    }));
  }
  model.on('msg:custom', received);
  const view = Math.random().toString(36).slice(2);
  const call = (op, values) => new Promise((resolve, reject) => {
    const id = `${view}-${++last}`;
    const timer = setTimeout(() => { waiting.delete(id); reject(new Error('the kernel does not answer; is it running?')); }, 20000);
    waiting.set(id, { resolve, reject, timer });
    model.send({ id, op }, undefined, [values.slice().buffer]); // numbers as bytes: [0, 0] in JSON would arrive as integers
  });
  return {
    decode: async z => (await call('decode', z))[0],
    encode: async x => { const [mean, logVar] = await call('encode', x); return { mean, logVar }; },
    prior: async (codes, labels, place) => (await call('prior', Float32Array.of(...codes, ...labels, place)))[0],
    mapping: async z => (await call('mapping', z))[0],
    synthesis: async ws => (await call('synthesis', ws))[0],
    restore: async (part, y, known, sigma) => (await call(part, Float32Array.from([...y, ...known, sigma])))[0],
    own: 'Your image goes to the running kernel and nowhere else.',
    note: text => `${text} The running kernel computes the pixels.`,
    running: 'Computed by the running kernel.',
    close: () => model.off('msg:custom', received),
  };
}

function render({ model, el }) {
  const meta = model.get('meta'), host = h('div'), backend = kernelBackend(model);
  el.append(host);
  mounts[meta.kind](host, meta, backend, model.get('picture'));
  return () => backend.close();
}
export default { render };

// -------------------------------------------------------------------------------------------------- web page host
const here = import.meta.url;

async function get(url, what) {
  let response;
  try { response = await fetch(url); } catch { throw new Error(`${what} could not be fetched`); }
  if (!response.ok) throw new Error(`${what} could not be fetched (${response.status})`);
  return response;
}

/** A promise made once, and made again after a failure. */
function once(make) {
  let promise = null;
  return () => (promise ??= make().catch(error => { promise = null; throw error; }));
}

// The runtime is 14 MB, 3.7 when gzipped; few static hosts compress .wasm, so the file is stored gzipped and undone here.
async function unzipped(url) {
  const data = await (await get(url, 'the ONNX runtime')).arrayBuffer(), head = new Uint8Array(data, 0, 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return data; // the server has undone it already
  return new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

const runtime = once(async () => {
  const base = new URL('vendor/ort/', here);
  const script = import(new URL('ort.wasm.min.mjs', base).href).catch(() => { throw new Error('the ONNX runtime could not be fetched'); });
  const [ort, wasm] = await Promise.all([script, unzipped(new URL('ort-wasm-simd-threaded.wasm.gz', base))]);
  ort.env.wasm.wasmPaths = base.href;
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // threads need headers that static hosts do not send
  ort.env.logLevel = 'error';
  return ort;
});

// Whoever runs networks, the page or its worker, keeps each that it was asked for and answers one question after the other.
const networks = new Map();
let turn = Promise.resolve();

/** The outputs {data, dims} by name of the network models/FILE for its inputs, [values, shape] in its order; `what` names it
 *  where it cannot be had. */
async function computed({ file, what, inputs }) {
  if (!networks.has(file)) networks.set(file, once(async () => {
    const [ort, data] = await Promise.all([runtime(), get(new URL(`models/${file}`, here), what).then(r => r.arrayBuffer())]);
    return { ort, session: await ort.InferenceSession.create(new Uint8Array(data), { executionProviders: ['wasm'] }) };
  }));
  const { ort, session } = await networks.get(file)();
  const feeds = Object.fromEntries(session.inputNames.map((name, i) => [name, new ort.Tensor('float32', inputs[i][0], [1, ...inputs[i][1]])]));
  const outputs = await (turn = turn.catch(() => {}).then(() => session.run(feeds)));
  return Object.fromEntries(session.outputNames.map(name => [name, { data: outputs[name].data, dims: outputs[name].dims }]));
}

// What the worker does: it answers.
if (typeof document === 'undefined') globalThis.onmessage = async ({ data: { id, ...question } }) => {
  try {
    postMessage({ id, outputs: await computed(question) });
  } catch (error) {
    postMessage({ id, error: error?.message ?? String(error) });
  }
};

// What the page does with a worker: it asks. One that dies, or that has a network and is silent for long, is told of and replaced
// at the next question. How long a network takes to load is the line's affair: it has no limit.
const SILENCE_MS = 20000;
const ask = (() => {
  const waiting = new Map(), known = new Set();
  let worker = null, last = 0;
  function lost(why) {
    worker?.terminate();
    worker = null;
    known.clear();
    for (const { reject, timer } of waiting.values()) { clearTimeout(timer); reject(new Error(why)); }
    waiting.clear();
  }
  function start() {
    const made = new Worker(here, { type: 'module' });
    made.onmessage = ({ data: { id, outputs, error } }) => {
      const call = waiting.get(id);
      if (!call) return;
      waiting.delete(id);
      clearTimeout(call.timer);
      if (error) return call.reject(new Error(error));
      known.add(call.file);
      call.resolve(outputs);
    };
    made.onerror = event => {
      event.preventDefault();
      if (made === worker) lost(`the page's worker stopped${event.message ? ` (${event.message})` : ''}`);
    };
    return made;
  }
  /** As `computed`; `loading` is called where the network is not there yet. */
  return ({ file, what, inputs }, loading) => new Promise((resolve, reject) => {
    if (!known.has(file)) loading();
    worker ??= start();
    const id = ++last, timer = known.has(file) && setTimeout(() => lost("the page's worker does not answer"), SILENCE_MS);
    waiting.set(id, { resolve, reject, timer, file });
    worker.postMessage({ id, file, what, inputs });
  });
})();

/** As `ask`, in the page's own thread: the way to and from a worker takes longer than a small network does. */
function compute(question, loading) {
  if (!networks.has(question.file)) loading();
  return computed(question);
}

/** A backend of the networks stored beside this file: models/FILE for each part of `files`, in the page's worker or not. */
export function pageBackend(files, worker) {
  const run = (name, say, ...inputs) => (worker ? ask : compute)({ file: files[name], what: `the ${name} ${files[name]}`, inputs },
    () => say?.('Loading the network into this page, once (a few megabytes)\u2026'));
  return {
    decode: async (z, say) => (await run('decoder', say, [z, [z.length]])).pixels.data,
    encode: async (x, say) => { const { mean, log_var } = await run('encoder', say, [x, files.shape]); return { mean: mean.data, logVar: log_var.data }; },
    prior: async (codes, labels, place, say) => { // the logits of the code at `place`, given those before it
      const { data, dims } = (await run('prior', say, [codes, [codes.length]], [labels, [labels.length]])).logits;
      return data.slice(place * dims[2], (place + 1) * dims[2]);
    },
    mapping: async (z, say) => (await run('mapping', say, [z, [z.length]])).w.data,
    synthesis: async (ws, layers, say) => (await run('synthesis', say, [ws, [layers, ws.length / layers]])).pixels.data,
    restore: async (part, y, known, sigma, say) =>
      (await run(part, say, [y, files.shape], [known, [1, ...files.shape.slice(1)]], [Float32Array.of(sigma), [1]])).pixels.data,
    own: 'Your image never leaves this page.',
    note: text => `${text} The network runs in this page.`,
    running: 'Computed in this page; no server is involved.',
  };
}

// Under anywidget this file is a blob, in a page that may be anyone's: only a page that loads it by address is ours.
if (/^https?:/.test(here) && globalThis.customElements) {
  // The theme paints every HTML output of a cell light in its dark mode.
  document.head.append(h('style', {}, `html[data-theme=dark] .bd-content div.cell_output .text_html:has(${Object.keys(mounts).join(', ')})
    { background: none !important; color: inherit !important; padding: 0 !important; }`));
  for (const [tag, mount] of Object.entries(mounts)) {
    if (customElements.get(tag)) continue;
    customElements.define(tag, class extends HTMLElement {
      async connectedCallback() {
        if (this.shadowRoot) return; // moved within the page
        const name = this.getAttribute('src');
        try {
          const meta = await (await get(new URL(`models/${name}.json`, here), `the model ${name}`)).json();
          mount(this, meta, pageBackend({ ...meta.files, shape: meta.shape }, meta.worker), this.querySelector('img')?.src);
        } catch (error) { // keep the picture, and say why it does not move
          const ui = frame(this, 'broken', '');
          ui.live.parentNode.querySelector('.fallback').style.display = 'block';
          ui.say(`This picture is not interactive: ${error.message}.`, true);
        }
      }
    });
  }
}
