// Asks the server, which is always the one that the page came from.

export async function call(path, { method = "GET", body, json, signal } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      keepalive: method === "DELETE", // also when the page is being closed
      headers: { "x-ndrnn": "page" },
      body: json === undefined ? body : JSON.stringify(json),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is ndrnn serve still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

export const ask = async (path, options) => (await call(path, options)).json();

const KINDS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };

/** An array of a result: { data, shape }. */
async function plane(job, name) {
  const answer = await call(`/api/jobs/${job}/${name}`);
  const kind = KINDS[answer.headers.get("x-type")];
  const shape = answer.headers.get("x-shape").split(",").map(Number);
  return { data: new kind(await answer.arrayBuffer()), shape };
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Work for a model. `run` calls `progress(state)` as it goes on and `show(told, planes)` for all that it finds. */
export class Work {
  constructor(wanted) {
    this.wanted = wanted;
    this.unwanted = false;
    this.id = null;
  }

  /** Resolves to "done" or "cancelled"; throws an Error that says what went wrong. */
  async run(progress, show) {
    let state = await ask("/api/jobs", { method: "POST", json: this.wanted });
    this.id = state.id;
    if (this.unwanted) await this.cancel();
    let version = 0;
    for (let wait = 40; ; wait = Math.min(300, wait * 1.5)) {
      if (!this.unwanted && state.version !== version) {
        version = state.version;
        const found = await Promise.all(state.planes.map((name) => plane(state.id, name)));
        const planes = Object.fromEntries(state.planes.map((name, index) => [name, found[index]]));
        if (!this.unwanted) show(state.told, planes, state.state === "done");
      }
      if (state.state === "failed") throw new Error(state.error);
      if (state.state === "cancelled") return "cancelled";
      // what was found between the last look and the end is still to be shown
      if (state.state === "done" && (this.unwanted || state.version === version)) return "done";
      if (!this.unwanted) progress(state);
      await pause(wait);
      state = await ask(`/api/jobs/${state.id}`);
    }
  }

  async cancel() {
    this.unwanted = true;
    if (this.id) await ask(`/api/jobs/${this.id}`, { method: "DELETE" }).catch(() => {});
  }
}

/** Sends a picture; `signal` gives it up. */
export const send = (file, signal) =>
  ask(`/api/pictures?name=${encodeURIComponent(file.name || "picture")}`, { method: "POST", body: file, signal });
