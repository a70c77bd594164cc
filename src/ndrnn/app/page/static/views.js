// What is seen of a label, classify or transcribe run, and what layers remember.

import { blank, coloured, MUCH, ramp, SIGN } from "./colours.js";
import { choice, make, percent, picker, readout, slider } from "./make.js";
import { Stage } from "./stage.js";

// the first class, mostly the background, stays clear over the picture, as with ndrnn predict --overlay
const css = ([red, green, blue], label) => (label ? `rgb(${red} ${green} ${blue})` : "transparent");

/** Every view is made with a page, see main.js, and may have `options()` to ask with, `show(told, planes)` and `close()`. */
export class Labels {
  constructor(page) {
    const { classes, colours } = page.model;
    this.page = page;
    [this.strength, this.chosen, this.what] = [0.6, null, "labels"];
    this.stage = new Stage(page.stage, "The picture with its labels.");
    this.stage.size(page.picture.height, page.picture.width);
    this.stage.paint = (g) => {
      g.drawImage(page.picture.image, 0, 0);
      if (!this.overlay) return;
      g.globalAlpha = this.strength;
      g.drawImage(this.overlay, 0, 0);
    };
    this.read = readout("Point at the picture to read its labels.");
    this.stage.onCursor = (pixel) => {
      if (!pixel || !this.planes) return this.read.rest();
      const index = pixel.y * page.picture.width + pixel.x;
      const label = this.planes.labels.data[index];
      const sure = this.planes.confidence.data[index] / 255;
      this.read.tell(classes[label], `${percent(sure)} sure, row ${pixel.y}, column ${pixel.x}`, css(colours[label], label));
    };
    this.legend = make("ul", { className: "bars" });
    this.scale = make("div", { hidden: true }, ramp(MUCH), make("div", { className: "ends" }, make("span", { textContent: "0 % sure" }), make("span", { textContent: "100 %" })));
    page.panel.append(
      this.read.output,
      choice("Shown", [["labels", "Labels"], ["confidence", "Confidence"]], this.what, (what) => {
        this.what = what;
        this.colour();
      }),
      slider("Over the picture", { min: 0, max: 100, value: 60 }, (value) => `${value} %`, (value) => {
        this.strength = value / 100;
        this.stage.draw();
      }),
      this.scale,
      this.legend,
    );
  }

  show(told, planes) {
    [this.told, this.planes] = [told, planes];
    const { classes, colours } = this.page.model;
    const order = classes.map((_, label) => label).sort((one, other) => told.shares[other] - told.shares[one]);
    this.legend.replaceChildren(
      ...order.map((label) => {
        const chip = make("span", { className: "chip" });
        chip.style.background = css(colours[label], label);
        const bar = make("span", { className: "bar" });
        bar.style.width = percent(told.shares[label]).replace(" ", "");
        const button = make("button", { type: "button", title: "Show this class alone" }, bar, chip, classes[label], make("span", { className: "share", textContent: percent(told.shares[label]) }));
        button.setAttribute("aria-pressed", "false");
        button.addEventListener("click", () => {
          this.chosen = this.chosen === label ? null : label;
          for (const other of this.legend.querySelectorAll("button"))
            other.setAttribute("aria-pressed", other === button && this.chosen !== null);
          this.colour();
        });
        return make("li", {}, button);
      }),
    );
    this.colour();
  }

  colour() {
    if (!this.planes) return;
    const { data, shape: [height, width] } = this.planes.labels;
    this.scale.hidden = this.what !== "confidence";
    if (this.what === "confidence") {
      this.overlay = coloured(this.planes.confidence.data, height, width, MUCH, 0, 255);
      return this.stage.draw();
    }
    this.overlay = blank(height, width);
    const g = this.overlay.getContext("2d");
    const image = g.createImageData(width, height);
    const words = new Uint32Array(image.data.buffer);
    const pack = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;
    const table = this.page.model.colours.map((colour, label) =>
      this.chosen === null ? (label ? pack(colour) : 0) : label === this.chosen ? pack(label ? colour : [255, 255, 255]) : 0,
    );
    for (let index = 0; index < words.length; index++) words[index] = table[data[index]];
    g.putImageData(image, 0, 0);
    this.stage.draw();
  }

  close() {
    this.stage.close();
  }
}

export class Classes {
  constructor(page) {
    this.page = page;
    this.stage = new Stage(page.stage, "The picture.");
    this.stage.size(page.picture.height, page.picture.width);
    this.stage.paint = (g) => g.drawImage(page.picture.image, 0, 0);
    this.head = make("p", { className: "figure" });
    this.head.setAttribute("aria-live", "polite");
    this.list = make("ul", { className: "bars" });
    page.panel.append(this.head, this.list);
  }

  show({ label, probabilities }) {
    const classes = this.page.model.classes;
    this.head.replaceChildren(classes[label], make("br"), make("small", { textContent: `${percent(probabilities[label])} probable` }));
    const order = classes.map((_, index) => index).sort((one, other) => probabilities[other] - probabilities[one]);
    this.list.replaceChildren(
      ...order.map((index) => {
        const bar = make("span", { className: "bar" });
        bar.style.width = `${100 * probabilities[index]}%`;
        return make("li", { className: index === label ? "best" : "" }, bar, classes[index], make("span", { className: "share", textContent: percent(probabilities[index]) }));
      }),
    );
  }

  close() {
    this.stage.close();
  }
}

const surely = (confidence) => `color-mix(in oklab, var(--accent) ${Math.round(100 * confidence)}%, #d9662b)`;

export class Text {
  constructor(page) {
    this.page = page;
    page.main.classList.add("tall");
    this.here = -1;
    this.stage = new Stage(page.stage, "The line with its characters.", { band: 30 });
    this.stage.size(page.picture.height, page.picture.width);
    this.stage.paint = (g) => {
      g.drawImage(page.picture.image, 0, 0);
      const found = this.characters?.[this.here];
      if (!found) return;
      g.fillStyle = this.accent();
      g.globalAlpha = 0.28;
      g.fillRect(found.from, 0, found.to - found.from, page.picture.height);
    };
    this.stage.over = (g, scale) => this.ribbon(g, scale);
    this.stage.onCursor = (pixel) => this.mark(pixel ? this.nearest(pixel.x + 0.5) : -1);
    this.read = readout("Point at the line or at a character to see which columns gave it.");
    this.line = make("p", { className: "line" });
    this.sum = make("p", { className: "soft" });
    this.note = make("p", { className: "soft", hidden: true });
    page.panel.append(this.note, this.line, this.sum, this.read.output);
  }

  accent() {
    return getComputedStyle(this.page.main).getPropertyValue("accent-color");
  }

  show({ text, confidence, characters, note }) {
    [this.note.textContent, this.note.hidden] = [note, !note];
    this.characters = characters;
    this.letters = characters.map(({ character, confidence: sure }, index) => {
      const letter = make("span", { textContent: character });
      letter.style.setProperty("--sure", surely(sure));
      letter.addEventListener("pointerenter", () => this.mark(index));
      letter.addEventListener("pointerleave", () => this.mark(-1));
      return letter;
    });
    this.line.replaceChildren(...this.letters);
    this.sum.textContent = text
      ? `${characters.length} characters; the whole text has the probability ${percent(confidence)}.`
      : "Nothing was read.";
    this.stage.draw();
  }

  nearest(column) {
    let best = -1;
    let least = Infinity;
    (this.characters ?? []).forEach(({ from, to }, index) => {
      const far = Math.max(from - column, column - to, 0) + Math.abs((from + to) / 2 - column) * 1e-3;
      if (far < least) [best, least] = [index, far];
    });
    return best;
  }

  mark(index) {
    if (!this.characters || index === this.here) return;
    this.letters[this.here]?.classList.remove("here");
    this.here = index;
    this.letters[index]?.classList.add("here");
    const found = this.characters[index];
    if (found) {
      const shown = found.character === " " ? "space" : found.character;
      this.read.tell(shown, `${percent(found.confidence)} sure, columns ${Math.round(found.from)} to ${Math.round(found.to)}`);
    } else this.read.rest();
    this.stage.draw();
  }

  ribbon(g, scale) {
    const top = this.page.picture.height * scale;
    const styles = getComputedStyle(this.page.main);
    g.font = `15px ${getComputedStyle(this.line).fontFamily}`;
    g.textAlign = "center";
    (this.characters ?? []).forEach(({ character, from, to }, index) => {
      g.fillStyle = index === this.here ? this.accent() : styles.color;
      g.globalAlpha = index === this.here ? 1 : 0.35;
      g.fillRect(from * scale, top + 3, Math.max(2, (to - from) * scale - 1), 3);
      g.globalAlpha = 1;
      g.fillText(character === " " ? "␣" : character, ((from + to) / 2) * scale, top + 24);
    });
  }

  close() {
    this.page.main.classList.remove("tall");
    this.stage.close();
  }
}

// where a scan begins, and where it goes
const ARROWS = { "1,1": "↘", "1,-1": "↙", "-1,1": "↗", "-1,-1": "↖", 1: "→", "-1": "←" };
const BEGINS = { "1,1": "from the top left", "1,-1": "from the top right", "-1,1": "from the bottom left", "-1,-1": "from the bottom right", 1: "from the left", "-1": "from the right" };

export class Memory {
  constructor(page) {
    this.page = page;
    this.layer = page.model.layers[0]?.name ?? "";
    this.by = "mean";
    this.read = readout("Point at a map to read it.");
    const layers = page.model.layers.map(({ name, kind, units }) => [name, `${name}: ${kind}, ${units} units`]);
    const again = () => page.ask();
    if (layers.length > 1)
      page.panel.append(picker("Layer", layers, this.layer, (layer) => {
        this.layer = layer;
        again();
      }));
    else page.panel.append(make("p", { className: "soft", textContent: layers[0]?.[1] ?? "This model has no layers that scan." }));
    this.note = make("p", { className: "soft" });
    this.scale = make("div");
    page.panel.append(
      choice("Shown", [["mean", "Mean"], ["component", "First component"]], this.by, (by) => {
        this.by = by;
        again();
      }),
      this.read.output,
      this.scale,
      this.note,
    );
    this.stages = [];
  }

  options() {
    return { layer: this.layer, by: this.by };
  }

  show(told, planes) {
    this.clear();
    const { data, shape: [count, height, width] } = planes.maps;
    const [top, left, high, wide] = told.maps;
    const [seenTop, seenLeft, seenHeight, seenWidth] = told.seen;
    const each = height * width;
    const table = told.by === "mean" ? MUCH : SIGN;
    // a few points that stand out must not leave the others dark
    const ranked = Float32Array.from(data, Math.abs).sort();
    const most = ranked[Math.floor(0.998 * (ranked.length - 1))];
    const least = told.by === "mean" ? 0 : -most;
    this.page.stage.className = { 1: "", 2: "two", 4: "four" }[count] ?? "many";
    told.directions.forEach((direction, index) => {
      const values = data.subarray(index * each, (index + 1) * each);
      const map = coloured(values, height, width, table, least, most);
      const key = String(direction);
      const begins = BEGINS[key] ?? `direction ${key}`;
      const variance = told.shares.length ? `, ${percent(told.shares[index])} of the variance` : "";
      const frame = make("div", { className: "map" }, make("p", { textContent: `${ARROWS[key] ?? ""} ${begins}${variance}` }));
      this.page.stage.append(frame);
      const stage = new Stage(frame, `What the scan ${begins} remembers.`);
      stage.paint = (g, scale) => {
        g.imageSmoothingEnabled = scale < 1;
        g.drawImage(map, left - seenLeft, top - seenTop, wide, high);
      };
      stage.size(Math.round(seenHeight), Math.round(seenWidth));
      stage.onCursor = (pixel) => {
        for (const { stage: other } of this.stages)
          if (other !== stage) [other.cursor, other.crossed] = [pixel, true], other.draw();
        const row = pixel && Math.floor(((pixel.y + 0.5 - (top - seenTop)) / high) * height);
        const column = pixel && Math.floor(((pixel.x + 0.5 - (left - seenLeft)) / wide) * width);
        if (!pixel || row < 0 || column < 0 || row >= height || column >= width) return this.read.rest();
        const here = this.stages.map(({ values: own }) => own[row * width + column].toFixed(2));
        this.read.tell(values[row * width + column].toFixed(3), count > 1 ? `of ${here.join(", ")}` : `row ${pixel.y}, column ${pixel.x}`);
      };
      this.stages.push({ stage, frame, values });
    });
    this.scale.replaceChildren(ramp(table), make("div", { className: "ends" }, make("span", { textContent: least.toFixed(2) }), make("span", { textContent: most.toFixed(2) })));
    const { picture } = this.page;
    const part = seenHeight < picture.height - 1 || seenWidth < picture.width - 1;
    this.note.textContent =
      (told.by === "mean"
        ? "The mean absolute hidden value of all units, for every direction in which the layer scans."
        : "The hidden vectors along the line on which they vary most, for every direction.") +
      (height * 2 <= picture.height ? ` The layer sees ${height} × ${width} points.` : "") +
      (part ? ` Shown is the middle, ${Math.round(seenHeight)} × ${Math.round(seenWidth)} pixels.` : "");
  }

  clear() {
    for (const { stage, frame } of this.stages) {
      stage.close();
      frame.remove();
    }
    this.stages = [];
  }

  close() {
    this.clear();
    this.page.stage.className = "";
  }
}
