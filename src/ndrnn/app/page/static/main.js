// The page: which model, which view, which picture; and the work that is under way.

import { ask, call, send, Work } from "./api.js";
import { Draw, Fill, Surprise } from "./density.js";
import { make } from "./make.js";
import { Classes, Labels, Memory, Text } from "./views.js";

const VIEWS = {
  labels: { title: "Labels", make: Labels },
  classes: { title: "Classes", make: Classes },
  text: { title: "Text", make: Text },
  surprise: { title: "Bits", make: Surprise },
  fill: { title: "Fill a hole", make: Fill, waits: true },
  draw: { title: "Draw", make: Draw, alone: true },
  memory: { title: "Memory", make: Memory },
};

const at = (id) => document.getElementById(id);
const page = {
  stage: at("stage"),
  panel: at("panel"),
  main: at("main"),
  model: null,
  limits: null,
  picture: null,
  ask: () => work(),
  cancel: () => stop(),
};
let models = [];
let name = "";
let view = null;
let job = null;
let sending = null;

function fail(error) {
  at("reason").textContent = error.message ?? String(error);
  at("error").hidden = false;
}

function busy(share, text) {
  at("status").hidden = share === null;
  if (share === null) return;
  at("doing").textContent = text;
  // without a share the bar only says that something is going on
  if (share > 0) at("progress").value = share;
  else at("progress").removeAttribute("value");
}

function stop() {
  job?.cancel();
  job = null;
  sending?.abort();
  sending = null;
  busy(null);
}

/** Ask for what the view shows. */
async function work() {
  stop();
  at("error").hidden = true;
  const own = view;
  const mine = (job = new Work({
    model: models.indexOf(page.model),
    view: name,
    picture: page.picture?.id,
    options: own.options?.() ?? {},
  }));
  const current = () => job === mine && view === own;
  const late = setTimeout(() => current() && busy(0, "Working"), 250);
  try {
    await mine.run(
      (state) => {
        if (!current() || state.state === "waiting" && !state.ahead) return;
        if (state.state === "waiting") busy(0, `Waiting for ${state.ahead} other${state.ahead > 1 ? "s" : ""}`);
        else if (state.share || state.text) busy(state.share, state.text);
      },
      (told, planes) => current() && own.show(told, planes),
    );
  } catch (error) {
    if (current()) fail(error);
  } finally {
    clearTimeout(late);
    if (current()) {
      job = null;
      busy(null);
    }
  }
}

function open(wanted) {
  stop();
  at("error").hidden = true;
  view?.close?.();
  view = null;
  name = wanted;
  page.stage.replaceChildren();
  page.panel.replaceChildren();
  for (const tab of at("tabs").children) {
    const here = tab.dataset.view === name;
    tab.setAttribute("aria-selected", here);
    tab.tabIndex = here ? 0 : -1;
    if (here) at("main").setAttribute("aria-labelledby", tab.id);
  }
  const { make: View, alone, waits } = VIEWS[name];
  if (!page.picture && !alone) return invite();
  view = new View(page);
  if (!waits) work();
}

function invite() {
  const megabytes = page.limits.bytes / 2 ** 20;
  const here = /^(localhost|127\..*|\[::1\])$/.test(location.hostname);
  const goes = here ? "It stays on this machine." : `It is sent to ${location.hostname} and nowhere else.`;
  const empty = make("div", { className: "empty" },
    make("h1", { textContent: "Drop a picture here" }),
    make("p", { textContent: `or click to choose one: PNG, JPEG, TIFF, WebP, GIF, BMP or PPM, up to ${megabytes.toLocaleString("en")} MB and ${(page.limits.pixels / 1e6).toLocaleString("en")} million pixels. ${goes}` }));
  empty.addEventListener("click", () => at("file").click());
  page.stage.append(empty);
}

function choose(index) {
  page.model = models[index];
  at("about").textContent = page.model.about;
  at("tabs").replaceChildren(
    ...page.model.views.map((key) => {
      const tab = make("button", { type: "button", id: `tab-${key}`, textContent: VIEWS[key].title });
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", "main");
      tab.dataset.view = key;
      tab.addEventListener("click", () => open(key));
      return tab;
    }),
  );
  open(page.model.views.includes(name) ? name : page.model.views[0]);
}

async function take(file) {
  stop();
  at("error").hidden = true;
  try {
    const { bytes } = page.limits;
    if (file.size > bytes)
      throw new Error(`${file.name}: is larger than ${(bytes / 2 ** 20).toLocaleString("en")} MB (--max-megabytes sets the limit)`);
    const mine = (sending = new AbortController());
    busy(0, `Reading ${file.name}`);
    const found = await send(file, mine.signal);
    const shown = await call(`/api/pictures/${found.id}`, { signal: mine.signal });
    const image = await createImageBitmap(await shown.blob());
    if (sending !== mine) return;
    page.picture = { ...found, image };
    at("name").textContent = `${found.name}, ${found.width} × ${found.height}`;
    // another picture of one that is drawn on its own
    open(VIEWS[name].alone ? page.model.views[0] : name);
  } catch (error) {
    if (error.name === "AbortError") return;
    busy(null);
    fail(error);
  }
}

function listen() {
  at("model").addEventListener("change", (event) => choose(event.target.selectedIndex));
  at("choose").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) take(file);
    event.target.value = ""; // so that the same file can be chosen again
  });
  at("cancel").addEventListener("click", stop);
  at("dismiss").addEventListener("click", () => (at("error").hidden = true));
  at("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...at("tabs").children];
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    open(next.dataset.view);
  });
  let depth = 0; // files over the page, also over what is within it
  addEventListener("dragenter", () => (at("drop").hidden = ++depth < 1));
  addEventListener("dragleave", () => (at("drop").hidden = --depth < 1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    at("drop").hidden = true;
    const { files } = event.dataTransfer;
    if (files.length > 1 && [...files].some((file) => /\.xml$/i.test(file.name)))
      fail(new Error("A page and the file that describes its lines are read by ndrnn predict; drop the image of one line here."));
    else if (files.length > 1) fail(new Error(`Drop one picture at a time, not ${files.length}.`));
    else if (files.length) take(files[0]);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file) take(file);
  });
  addEventListener("pagehide", () => job?.cancel());
}

async function begin() {
  listen();
  try {
    ({ models, limits: page.limits } = await ask("/api/models"));
  } catch (error) {
    return fail(error);
  }
  at("model").replaceChildren(...models.map((model) => make("option", { textContent: model.name })));
  choose(0);
}

begin();
