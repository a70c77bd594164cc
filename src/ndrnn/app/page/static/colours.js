// From numbers to colours: a ramp from little to much, and one from negative to positive.

const mix = (stops) => {
  const table = new Uint8ClampedArray(256 * 3);
  const parsed = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  for (let index = 0; index < 256; index++) {
    const place = (index / 255) * (parsed.length - 1);
    const below = Math.min(parsed.length - 2, Math.floor(place));
    for (let channel = 0; channel < 3; channel++)
      table[3 * index + channel] =
        parsed[below][channel] + (place - below) * (parsed[below + 1][channel] - parsed[below][channel]);
  }
  return table;
};

export const MUCH = mix(["#0d1026", "#2d2f78", "#7a3d97", "#cf5a76", "#f3a255", "#fdf3c8"]);
export const SIGN = mix(["#1f4e9e", "#7fa3d8", "#f4f2ee", "#e09a86", "#a6322a"]);

/** A canvas of values (height, width), coloured by a table from `low` to `high`; what is no number stays clear. */
export function coloured(values, height, width, table, low, high) {
  const canvas = blank(height, width);
  const g = canvas.getContext("2d");
  const image = g.createImageData(width, height);
  const scale = 255 / (high - low || 1);
  for (let index = 0; index < height * width; index++) {
    const value = values[index];
    if (Number.isNaN(value)) continue;
    const entry = 3 * Math.max(0, Math.min(255, Math.round((value - low) * scale)));
    image.data[4 * index] = table[entry];
    image.data[4 * index + 1] = table[entry + 1];
    image.data[4 * index + 2] = table[entry + 2];
    image.data[4 * index + 3] = 255;
  }
  g.putImageData(image, 0, 0);
  return canvas;
}

/** A canvas of pixels (height, width, 1 or 3), of those alone where `mask`, if given, is not 0. */
export function pictured({ data, shape: [height, width, channels] }, mask) {
  const canvas = blank(height, width);
  const g = canvas.getContext("2d");
  const image = g.createImageData(width, height);
  for (let index = 0; index < height * width; index++) {
    for (let channel = 0; channel < 3; channel++)
      image.data[4 * index + channel] = data[channels * index + (channels === 1 ? 0 : channel)];
    image.data[4 * index + 3] = !mask || mask[index] ? 255 : 0;
  }
  g.putImageData(image, 0, 0);
  return canvas;
}

/** The grey picture that a model of grey ones sees (the luma of BT.601), and whether it was in colour. */
export function greyed(source) {
  const canvas = blank(source.height, source.width);
  const g = canvas.getContext("2d", { willReadFrequently: true });
  g.drawImage(source, 0, 0);
  const image = g.getImageData(0, 0, source.width, source.height);
  const data = image.data;
  let colour = false;
  for (let at = 0; at < data.length; at += 4) {
    colour ||= data[at] !== data[at + 1] || data[at] !== data[at + 2];
    data[at] = data[at + 1] = data[at + 2] = Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
  }
  g.putImageData(image, 0, 0);
  return { canvas, colour };
}

export function blank(height, width) {
  const canvas = document.createElement("canvas");
  canvas.height = height;
  canvas.width = width;
  return canvas;
}

/** A strip that shows a table of colours. */
export function ramp(table) {
  const canvas = coloured(Float32Array.from({ length: 256 }, (_, index) => index), 1, 256, table, 0, 255);
  canvas.className = "ramp";
  canvas.setAttribute("aria-hidden", "true");
  return canvas;
}
