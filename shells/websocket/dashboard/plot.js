/** Lines over time on a canvas. It knows no messages: it is given points, and draws those of its window when told. */

/** A plot of the last `seconds`, one line per name in `lines`, each in the colour of its place in `legend`. */
export class Plot {
  #canvas;
  #lines;
  #seconds;
  #digits;
  #readouts;
  #colours = null;
  #times;
  #values;
  #next = 0;
  #count = 0;
  #range = null;

  constructor(canvas, legend, { lines, seconds, capacity, digits = 2, floor = null }) {
    this.#canvas = canvas;
    this.#seconds = seconds;
    this.#digits = digits;
    this.#readouts = [...legend.children];
    this.#lines = lines;
    this.#times = new Float64Array(capacity);
    this.#values = Array.from({ length: lines }, () => new Float64Array(capacity));
    this.floor = floor;
    new ResizeObserver(() => this.draw(this.lastDrawn)).observe(canvas);
  }

  /** Adds a point of each line at a time in seconds; NaN where a line has none. Times do not decrease. */
  push(time, values) {
    this.#times[this.#next] = time;
    for (let line = 0; line < this.#lines; line += 1) this.#values[line][this.#next] = values[line];
    this.#next = (this.#next + 1) % this.#times.length;
    this.#count = Math.min(this.#count + 1, this.#times.length);
  }

  /** Forgets all points. */
  clear() {
    [this.#next, this.#count, this.#range] = [0, 0, null];
  }

  /** Has the colours read again, after the theme has changed. */
  recolour() {
    this.#colours = null;
    this.draw(this.lastDrawn);
  }

  /** Writes the newest values beside the names. */
  label() {
    const last = (this.#next + this.#times.length - 1) % this.#times.length;
    for (const [line, readout] of this.#readouts.entries()) {
      const value = this.#count > 0 ? this.#values[line][last] : NaN;
      const text = Number.isNaN(value) ? '–' : value.toFixed(this.#digits).replace('-', '−');
      const place = readout.querySelector('b');
      if (place.textContent !== text) place.textContent = text;
    }
  }

  /** Draws the window that ends at `now`, in seconds. */
  draw(now = 0) {
    this.lastDrawn = now;
    const { width, height, context } = this.#surface();
    if (width === 0) return;
    const colours = this.#colour();
    const from = now - this.#seconds;
    const box = { left: GUTTER, right: width - 4, top: 6, bottom: height - 18 };
    const [low, high] = this.#scale(from, box);
    const x = (time) => box.left + ((time - from) / this.#seconds) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    context.clearRect(0, 0, width, height);
    this.#grid(context, box, { low, high, x, y, now }, colours);
    context.save();
    context.beginPath();
    context.rect(box.left, 0, box.right - box.left, height);
    context.clip();
    for (let line = this.#lines - 1; line >= 0; line -= 1) {
      context.strokeStyle = colours.lines[line];
      context.setLineDash(DASHES[line]);
      this.#trace(context, this.#values[line], from, x, y);
    }
    context.restore();
  }

  #trace(context, values, from, x, y) {
    context.lineWidth = 1.75;
    context.lineJoin = 'round';
    context.beginPath();
    let drawing = false;
    // More points than pixels: one column shows the first, the least and the most of its points.
    let column = null;
    const flush = () => {
      if (!column) return;
      context.lineTo(column.x, column.first);
      if (column.most > column.least) {
        context.lineTo(column.x, column.least);
        context.lineTo(column.x, column.most);
        context.lineTo(column.x, column.last);
      }
      column = null;
    };
    for (const index of this.#within(from)) {
      const value = values[index];
      if (Number.isNaN(value)) {
        flush();
        drawing = false;
        continue;
      }
      const [px, py] = [x(this.#times[index]), y(value)];
      if (!drawing) context.moveTo(px, py);
      drawing = true;
      if (column && px - column.x < 1) {
        column.least = Math.min(column.least, py);
        column.most = Math.max(column.most, py);
        column.last = py;
      } else {
        flush();
        column = { x: px, first: py, least: py, most: py, last: py };
      }
    }
    flush();
    context.stroke();
  }

  /** Places of the points of the window, oldest first, with one before it so that the line does not begin inside. */
  *#within(from) {
    const size = this.#times.length;
    const first = (this.#next + size - this.#count) % size;
    let skip = 0;
    while (skip + 1 < this.#count && this.#times[(first + skip + 1) % size] < from) skip += 1;
    for (let step = skip; step < this.#count; step += 1) yield (first + step) % size;
  }

  /** From bottom to top: it grows at once, and shrinks only when much is empty, so that it does not tremble. */
  #scale(from, box) {
    let [low, high] = [Infinity, -Infinity];
    for (const index of this.#within(from)) {
      for (const values of this.#values) {
        const value = values[index];
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (this.floor !== null) low = Math.min(this.floor, low);
    if (low > high) [low, high] = [0, 1];
    if (high - low < 1e-6) [low, high] = [low === 0 ? 0 : low - 1, high + 1];
    const old = this.#range;
    const fits = old && low >= old[0] && high <= old[1] && high - low > (old[1] - old[0]) * 0.45;
    if (!fits) {
      const step = niceStep((high - low) * 1.1, (box.bottom - box.top) / 36);
      this.#range = [Math.floor(low / step) * step, Math.ceil(high / step) * step];
    }
    return this.#range;
  }

  #grid(context, box, { low, high, x, y, now }, colours) {
    context.font = '11px system-ui, sans-serif';
    context.lineWidth = 1;
    context.setLineDash([]);
    context.strokeStyle = colours.line;
    context.fillStyle = colours.text;
    context.textBaseline = 'middle';
    context.textAlign = 'right';
    const step = niceStep(high - low, (box.bottom - box.top) / 36);
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) {
      const at = Math.round(y(value)) + 0.5;
      context.beginPath();
      context.moveTo(box.left, at);
      context.lineTo(box.right, at);
      context.stroke();
      context.fillText(tick(value, step), box.left - 6, at);
    }
    context.textBaseline = 'alphabetic';
    const every = niceStep(this.#seconds, (box.right - box.left) / 90);
    for (let ago = 0; ago <= this.#seconds + 1e-9; ago += every) {
      context.textAlign = ago === 0 ? 'right' : ago + every > this.#seconds + 1e-9 ? 'left' : 'center';
      context.fillText(ago === 0 ? 'now' : `−${tick(ago, every)} s`, x(now - ago), box.bottom + 14);
    }
  }

  /** The canvas in the pixels of the screen, drawn on in those of the page. */
  #surface() {
    const canvas = this.#canvas;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const context = canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return { width, height, context };
  }

  /** Out of the style sheet: the text and the grid's line from the canvas, the lines from their names in the legend. */
  #colour() {
    const own = getComputedStyle(this.#canvas);
    this.#colours ??= {
      text: own.color,
      line: own.borderTopColor,
      lines: this.#readouts.map((readout) => getComputedStyle(readout).color),
    };
    return this.#colours;
  }
}

/** A step of 1, 2 or 5 times a power of ten that cuts `span` into about `pieces`. */
function niceStep(span, pieces) {
  const raw = span / Math.max(1, pieces);
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 5, 10].find((one) => one * power >= raw * 0.999);
  return factor * power;
}

function tick(value, step) {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const text = value.toFixed(Math.min(digits, 6));
  return (Number(text) === 0 ? text.replace('-', '') : text).replace('-', '−');
}

const DASHES = [[], [7, 3], [2, 3]];
const GUTTER = 44;
