// What is seen of a density: bits where they are spent, holes filled, pictures drawn.

import { blank, coloured, greyed, MUCH, pictured, ramp } from "./colours.js";
import { button, make, many, picker, readout, save, slider } from "./make.js";
import { Stage } from "./stage.js";

/** The picture as the model sees it, with a note where that is not as it is. */
function seen(page) {
  if (page.model.channels > 2) return page.picture.image;
  page.picture.grey ??= greyed(page.picture.image);
  if (page.picture.grey.colour)
    page.panel.append(make("p", { className: "soft", textContent: "This model knows grey pictures, and sees yours as one." }));
  return page.picture.grey.canvas;
}

export class Surprise {
  constructor(page) {
    this.page = page;
    this.strength = 1;
    this.stage = new Stage(page.stage, "The bits that every pixel costs.");
    this.figure = make("p", { className: "figure" });
    this.sum = make("p", { className: "soft" });
    this.read = readout("Point at the picture to read what a pixel costs.");
    this.scale = make("div");
    page.panel.append(this.figure, this.sum, this.read.output, this.scale);
    page.panel.append(
      slider("Over the picture", { min: 0, max: 100, value: 100 }, (value) => `${value} %`, (value) => {
        this.strength = value / 100;
        this.stage.draw();
      }),
    );
    const image = seen(page);
    this.stage.paint = (g) => {
      g.drawImage(image, 0, 0);
      if (!this.overlay) return;
      g.globalAlpha = this.strength;
      g.drawImage(this.overlay, 0, 0);
    };
    this.stage.size(page.picture.height, page.picture.width);
    this.stage.onCursor = (pixel) => {
      if (!pixel || !this.bits) return this.read.rest();
      const bits = this.bits[pixel.y * page.picture.width + pixel.x];
      const place = `row ${pixel.y}, column ${pixel.x}`;
      if (Number.isNaN(bits)) this.read.tell("Not predicted", `${place}: it lacks its neighbourhood`);
      else this.read.tell(`${bits.toFixed(2)} bits`, place);
    };
  }

  show(told, planes) {
    const { data, shape: [height, width] } = planes.bits;
    const [low, high] = told.range;
    this.bits = data;
    this.overlay = coloured(data, height, width, MUCH, low, high);
    const each = told.channels > 1 ? "bits a pixel and channel" : "bits a pixel";
    this.figure.replaceChildren(told.bits_per_pixel.toFixed(3), " ", make("small", { textContent: each }));
    this.sum.textContent = `${many(told.bits / 8)} bytes for the whole picture.${told.remark ? ` Mind: ${told.remark}.` : ""}`;
    this.scale.replaceChildren(ramp(MUCH), make("div", { className: "ends" }, make("span", { textContent: `${low.toFixed(1)} bits` }), make("span", { textContent: `${high.toFixed(1)}` })));
    this.stage.draw();
  }

  close() {
    this.stage.close();
  }
}

export class Fill {
  constructor(page) {
    const { height, width } = page.picture;
    this.page = page;
    [this.radius, this.sweeps, this.patch] = [Math.max(2, Math.round(Math.min(height, width, page.limits.hole) / 16)), 50, null];
    this.mask = new Uint8Array(height * width);
    this.veil = blank(height, width);
    this.stage = new Stage(page.stage, "The picture. Paint over what is to be filled; the space bar paints too.");
    this.go = button("Fill", () => this.start(), "main");
    this.clear = button("Clear", () => this.reset());
    this.keep = button("Save", () => save(this.filled(), `${page.picture.name.replace(/\.[^.]*$/, "")}.filled.png`));
    this.note = make("p", { className: "soft" });
    this.note.setAttribute("aria-live", "polite");
    page.panel.append(
      make("p", { textContent: "Paint over what is to go. The model draws it anew, again and again, until it fits what is around." }),
      slider("Brush", { min: 1, max: 40, value: this.radius }, (value) => `${2 * value} pixels`, (value) => {
        this.radius = value;
        this.stage.draw();
      }),
      picker("Sweeps", [[10, "10, a first look"], [50, "50"], [200, "200"], [1000, "1000, patient"]], 50, (value) => (this.sweeps = +value)),
      make("div", { className: "row" }, this.go, this.clear, this.keep),
      this.note,
    );
    this.image = seen(page);
    this.stage.paint = (g) => {
      g.drawImage(this.image, 0, 0);
      if (this.patch) g.drawImage(this.patch.canvas, this.patch.left, this.patch.top);
      else {
        g.globalAlpha = 0.7;
        g.drawImage(this.veil, 0, 0);
      }
    };
    this.stage.over = (g, scale) => this.brush(g, scale);
    this.stage.size(height, width);
    this.stage.canvas.style.cursor = "crosshair";
    this.stage.onStroke = (from, to) => this.stroke(from, to);
    this.stage.onStrokeEnd = () => this.tell();
    this.tell();
  }

  brush(g, scale) {
    const { cursor } = this.stage;
    if (!cursor) return;
    for (const [style, width] of [["#000a", 3], ["#fff", 1.25]]) {
      g.strokeStyle = style;
      g.lineWidth = width;
      g.beginPath();
      g.arc((cursor.x + 0.5) * scale, (cursor.y + 0.5) * scale, this.radius * scale, 0, 7);
      g.stroke();
    }
  }

  stroke(from, to) {
    const { height, width } = this.page.picture;
    if (this.patch) {
      this.page.cancel();
      this.patch = null;
    }
    const g = this.veil.getContext("2d");
    const accent = getComputedStyle(this.page.main).getPropertyValue("accent-color");
    g.fillStyle = accent;
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / Math.max(1, this.radius / 3)));
    const reach = this.radius * this.radius;
    for (let step = 0; step <= steps; step++) {
      const x = Math.round(from.x + ((to.x - from.x) * step) / steps);
      const y = Math.round(from.y + ((to.y - from.y) * step) / steps);
      for (let row = Math.max(0, y - this.radius); row <= Math.min(height - 1, y + this.radius); row++) {
        const half = Math.floor(Math.sqrt(reach - (row - y) ** 2));
        const [first, last] = [Math.max(0, x - half), Math.min(width - 1, x + half)];
        this.mask.fill(1, row * width + first, row * width + last + 1);
        g.fillRect(first, row, last - first + 1, 1);
      }
    }
    this.stage.draw();
  }

  /** The rows and columns that the hole covers, or null. */
  extent() {
    const { height, width } = this.page.picture;
    let [top, bottom, left, right] = [height, -1, width, -1];
    for (let row = 0, index = 0; row < height; row++)
      for (let column = 0; column < width; column++, index++)
        if (this.mask[index]) {
          top = Math.min(top, row);
          bottom = row;
          left = Math.min(left, column);
          right = Math.max(right, column);
        }
    return bottom < 0 ? null : { high: bottom - top + 1, wide: right - left + 1 };
  }

  tell(text) {
    const hole = this.extent();
    const most = this.page.limits.hole;
    const large = hole && Math.max(hole.high, hole.wide) > most;
    this.go.disabled = !hole || large;
    this.clear.disabled = !hole;
    this.keep.disabled = !this.patch;
    this.note.textContent =
      text ?? (large ? `The hole is ${hole.high} × ${hole.wide} pixels, all its parts together; ${most} × ${most} can be filled.` : "");
  }

  options() {
    const runs = [];
    for (let index = 0; index < this.mask.length; index++) {
      if (!this.mask[index]) continue;
      const begin = index;
      while (this.mask[index]) index++;
      runs.push(begin, index - begin);
    }
    return { hole: runs, sweeps: this.sweeps, seed: Math.floor(Math.random() * 2 ** 31) };
  }

  start() {
    this.page.ask();
  }

  show(told, planes) {
    this.patch = { canvas: pictured(planes.patch, planes.hole.data), top: told.corner[0], left: told.corner[1] };
    this.tell(`${many(told.pixels)} pixels, ${told.sweeps ? `after ${told.sweeps} sweeps` : "a first draft"}.`);
    this.stage.draw();
  }

  filled() {
    const { height, width } = this.page.picture;
    const canvas = blank(height, width);
    const g = canvas.getContext("2d");
    g.drawImage(this.image, 0, 0);
    g.drawImage(this.patch.canvas, this.patch.left, this.patch.top);
    return canvas;
  }

  reset() {
    this.page.cancel();
    this.mask.fill(0);
    this.veil.getContext("2d").clearRect(0, 0, this.veil.width, this.veil.height);
    this.patch = null;
    this.tell();
    this.stage.draw();
  }

  close() {
    this.stage.close();
  }
}

export class Draw {
  constructor(page) {
    this.page = page;
    [this.side, this.seed] = [128, Math.floor(Math.random() * 1e6)];
    this.stage = new Stage(page.stage, "A picture that the model drew.");
    const number = make("input", { type: "number", min: 0, max: 2 ** 31, value: this.seed });
    number.addEventListener("change", () => {
      this.seed = Math.max(0, Math.min(2 ** 31, Math.floor(+number.value) || 0));
      number.value = this.seed;
      page.ask();
    });
    const sides = [64, 128, 256, 512].filter((side) => side <= page.limits.side);
    this.keep = button("Save", () => save(this.canvas, `${page.model.name}.${this.seed}.png`));
    this.keep.disabled = true;
    page.panel.append(
      make("p", { textContent: "Drawn by the model alone, pixel after pixel, exactly by its probabilities." }),
      picker("Size", sides.map((side) => [side, `${side} × ${side}`]), this.side, (side) => {
        this.side = +side;
        page.ask();
      }),
      make("label", { className: "field" }, make("span", {}, "Seed"), number),
      make("div", { className: "row" }, button("Draw another", () => {
        this.seed = number.value = Math.floor(Math.random() * 1e6);
        page.ask();
      }, "main"), this.keep),
      make("p", { className: "soft", textContent: "Equal seeds give equal pictures." }),
    );
  }

  options() {
    return { height: this.side, width: this.side, seed: this.seed };
  }

  show(told, planes) {
    this.canvas = pictured(planes.picture);
    this.keep.disabled = false;
    this.stage.paint = (g) => g.drawImage(this.canvas, 0, 0);
    this.stage.size(...planes.picture.shape.slice(0, 2));
  }

  close() {
    this.stage.close();
  }
}
