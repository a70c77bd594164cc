// Elements of the page. Texts are only ever set as text: a class or a file may be called like a tag.

export function make(kind, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(kind), properties);
  element.append(...inside);
  return element;
}

export const percent = (share) => `${(100 * share).toFixed(share >= 0.9995 || share === 0 ? 0 : share < 0.1 ? 1 : 0)} %`;
export const many = (number) => Math.round(number).toLocaleString("en");

/** Buttons of which one is pressed: [[value, text], ...]. */
export function choice(label, entries, chosen, onChoose) {
  const group = make("div", { className: "choice" });
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  for (const [value, text] of entries) {
    const button = make("button", { type: "button", textContent: text });
    button.setAttribute("aria-pressed", value === chosen);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", other === button);
      onChoose(value);
    });
    group.append(button);
  }
  return group;
}

/** A slider with its name and value above it. */
export function slider(label, { min, max, step = 1, value }, tell, onChange) {
  const told = make("span", { textContent: tell(value) });
  const input = make("input", { type: "range", min, max, step });
  input.value = value;
  input.addEventListener("input", () => {
    told.textContent = tell(+input.value);
    onChange(+input.value);
  });
  return make("label", { className: "field" }, make("span", {}, label, told), input);
}

/** A select with its name above it: [[value, text], ...]. */
export function picker(label, entries, chosen, onChoose) {
  const select = make("select", {}, ...entries.map(([value, text]) => make("option", { value, textContent: text })));
  select.value = chosen;
  select.addEventListener("change", () => onChoose(select.value));
  return make("label", { className: "field" }, make("span", {}, label), select);
}

/** A line that is read aloud when it changes: what lies under the cursor. */
export function readout(idle) {
  const output = make("output", { className: "read" });
  const tell = (head, more = "", chip = null) => {
    const strong = make("strong");
    if (chip) {
      const square = make("span", { className: "chip" });
      square.style.background = chip;
      strong.append(square);
    }
    strong.append(head);
    output.replaceChildren(strong, make("span", { className: "soft", textContent: more }));
  };
  const rest = () => output.replaceChildren(make("span", { className: "soft", textContent: idle }));
  rest();
  return { output, tell, rest };
}

export function button(text, onClick, className = "") {
  const element = make("button", { type: "button", textContent: text, className });
  element.addEventListener("click", onClick);
  return element;
}

/** Save a canvas as a file. */
export function save(canvas, name) {
  canvas.toBlob((blob) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}
