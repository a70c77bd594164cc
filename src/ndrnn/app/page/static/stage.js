// A picture on the page: fitted into its place, with a cursor that mouse, finger and arrow keys move.

import { make } from "./make.js";

const LARGEST = 24; // page pixels that one of a small picture may be wide

export class Stage {
  /** `label` is what a screen reader calls the picture. */
  constructor(host, label, { band = 0 } = {}) {
    this.host = make("div", { className: "picture" });
    this.canvas = make("canvas", { tabIndex: 0 });
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "picture");
    this.canvas.setAttribute("aria-label", `${label} Arrow keys move the cursor, with shift by ten pixels.`);
    this.host.append(this.canvas);
    host.append(this.host);
    this.band = band; // below the picture, in page pixels
    this.height = this.width = 0;
    this.scale = 1;
    this.cursor = null;
    /** Draw in the picture's pixels, and over that in the page's; set by the view. */
    this.paint = () => {};
    this.over = () => {};
    /** Told of the cursor, a pixel or null, and of strokes from one pixel to the next. */
    this.onCursor = () => {};
    this.onStroke = null;
    this.onStrokeEnd = () => {};
    this._listen();
    this._watch = new ResizeObserver(() => this.fit());
    this._watch.observe(this.host);
  }

  close() {
    this._watch.disconnect();
    this.host.remove();
  }

  size(height, width) {
    [this.height, this.width] = [height, width];
    this.fit();
  }

  fit() {
    if (!this.height) return;
    const room = this.host.getBoundingClientRect();
    const fits = Math.min(room.width / this.width, Math.max(40, room.height - this.band) / this.height, LARGEST);
    // pixels of equal size where they are seen as such
    this.scale = fits > 2 ? Math.floor(2 * fits) / 2 : Math.max(fits, 1e-3);
    const [across, down] = [this.width * this.scale, this.height * this.scale + this.band];
    this.dots = devicePixelRatio || 1;
    this.canvas.width = Math.round(across * this.dots);
    this.canvas.height = Math.round(down * this.dots);
    this.canvas.style.width = `${across}px`;
    this.canvas.style.height = `${down}px`;
    this.draw();
  }

  draw() {
    if (!this.height) return;
    const g = this.canvas.getContext("2d");
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const zoom = this.scale * this.dots;
    g.save();
    g.beginPath();
    g.rect(0, 0, Math.round(this.width * zoom), Math.round(this.height * zoom));
    g.clip();
    g.setTransform(zoom, 0, 0, zoom, 0, 0);
    g.imageSmoothingEnabled = this.scale < 1.5;
    g.imageSmoothingQuality = "high";
    this.paint(g, this.scale);
    g.restore();
    g.setTransform(this.dots, 0, 0, this.dots, 0, 0);
    this.over(g, this.scale);
    if (this.cursor && this.crossed) this._cross(g);
  }

  /** Move the cursor to a pixel, or away with null. */
  point(pixel, crossed = false) {
    this.cursor = pixel;
    this.crossed = crossed;
    this.onCursor(pixel);
    this.draw();
  }

  _cross(g) {
    const [x, y] = [(this.cursor.x + 0.5) * this.scale, (this.cursor.y + 0.5) * this.scale];
    for (const [style, width] of [["#000a", 3], ["#fff", 1]]) {
      g.strokeStyle = style;
      g.lineWidth = width;
      g.beginPath();
      for (const [from, to] of [[-14, -4], [4, 14]]) {
        g.moveTo(x + from, y);
        g.lineTo(x + to, y);
        g.moveTo(x, y + from);
        g.lineTo(x, y + to);
      }
      g.stroke();
    }
  }

  _at(event) {
    const box = this.canvas.getBoundingClientRect();
    return this._within((event.clientX - box.left) / this.scale, (event.clientY - box.top) / this.scale);
  }

  _within(x, y) {
    const into = (value, size) => Math.max(0, Math.min(size - 1, Math.floor(value)));
    return { x: into(x, this.width), y: into(y, this.height) };
  }

  _listen() {
    const canvas = this.canvas;
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.onStroke || event.button) return;
      canvas.setPointerCapture(event.pointerId);
      last = this._at(event);
      this.onStroke(last, last);
      this.point(last);
    });
    canvas.addEventListener("pointermove", (event) => {
      const here = this._at(event);
      if (last) this.onStroke(last, here);
      if (last) last = here;
      this.point(here);
    });
    const end = () => {
      if (last) this.onStrokeEnd();
      last = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => last || this.point(null));
    canvas.addEventListener("blur", () => this.point(null));
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const from = this.cursor ?? this._within(this.width / 2, this.height / 2);
      if (event.key in steps) {
        const [x, y] = steps[event.key].map((step) => step * (event.shiftKey ? 10 : 1));
        const here = this.cursor ? this._within(from.x + x, from.y + y) : from;
        if (event.ctrlKey && this.onStroke) {
          this.onStroke(from, here);
          this.onStrokeEnd();
        }
        this.point(here, true);
      } else if (event.key === " " && this.onStroke) {
        this.onStroke(from, from);
        this.onStrokeEnd();
        this.point(from, true);
      } else if (event.key === "Escape") {
        this.point(null);
      } else {
        return;
      }
      event.preventDefault();
    });
  }
}
