"use strict";
// Draws snapshots. Rows are kept and written anew, so that a page which is open for days does not grow.

const POINTS = 120; // the most seconds of a line
const FEWEST = 30; // and the fewest, so that a short one does not fill it
const SEGMENTS = ["queue", "load", "prefill", "decode"];
const WHOLE = new Set(["stop", "length", "tool_calls", "answered"]);
const at = (id) => document.getElementById(id);
const rates = [];
const firsts = [];

/** Give an element that has nothing but text this one. Its text node is kept, and written only if that changes it. */
function put(node, text) {
  if (!node.firstChild) node.append("");
  if (node.firstChild.data !== text) node.firstChild.data = text;
}

// Words for numbers.

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 59.95) return `${value.toFixed(value < 9.995 ? 2 : 1)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1023.5 && unit < 4; unit++) value /= 1024;
  return `${value.toFixed(unit && value < 9.95 ? 1 : 0)} ${units[unit]}`;
}

const numbers = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const count = (value) => numbers.format(value);
const rate = (value) => (value === null ? "–" : value < 9.95 ? value.toFixed(1) : count(Math.round(value)));
const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");

// Figures.

function line(svg, values) {
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, 1e-9);
  const step = 120 / (Math.max(values.length, FEWEST) - 1);
  const place = (value, index) => {
    const x = 120 - (values.length - 1 - index) * step;
    return `${x.toFixed(1)} ${(30 - 27 * (value / most)).toFixed(1)}`;
  };
  // A second without a figure is a gap.
  const runs = [[]];
  values.forEach((value, index) => (value === null ? runs.push([]) : runs.at(-1).push(place(value, index))));
  const drawn = runs.filter((run) => run.length).map((run) => [`M${run.join("L")}`, run[0].split(" ")[0]]);
  svg.querySelector(".stroke").setAttribute("d", drawn.map(([path]) => path).join(""));
  svg.querySelector(".area").setAttribute("d", drawn.map(([path, x]) => `${path}V32H${x}Z`).join(""));
}

function keep(values, value) {
  values.push(value);
  if (values.length > POINTS) values.shift();
}

function pairs(list, entries, mark) {
  while (list.children.length > 2 * entries.length) list.lastChild.remove();
  while (list.children.length < 2 * entries.length) list.append(document.createElement(list.children.length % 2 ? "dd" : "dt"));
  entries.forEach(([name, value], index) => {
    const [term, told] = [list.children[2 * index], list.children[2 * index + 1]];
    if (term.dataset.name !== name) {
      term.dataset.name = name;
      term.textContent = name;
      if (mark) term.prepend(mark(index));
    }
    put(told, value);
  });
}

function tier(told) {
  if (told.state !== "on") return told.state;
  const limit = told.limit_bytes === null ? "" : ` of ${bytes(told.limit_bytes)}`;
  return `${bytes(told.used_bytes)}${limit}`;
}

const REASONS = {
  uncacheable: "prompts of the model cannot be cached",
  nothing_known: "nothing known",
  new_text: "new text behind a known prompt",
  date: "a date or a time changed",
  key_order: "JSON keys in another order",
  changed_text: "changed text",
};

function showCache(cache, missed) {
  put(at("cached"), cache ? share(cache.cached_tokens, cache.prompt_tokens) : "–");
  put(at("cache-ram"), cache ? tier(cache.ram) : "–");
  put(at("cache-disk"), cache ? tier(cache.disk) : "–");
  put(at("tokens-ram"), cache ? `${count(cache.ram.tokens)} tokens` : "–");
  put(at("tokens-disk"), cache ? `${count(cache.disk.tokens)} tokens` : "–");
  const told = Object.entries(missed).sort((a, b) => b[1] - a[1]);
  const words = told.map(([reason, times]) => `${REASONS[reason] ?? reason} (${times})`).join(", ");
  put(at("missed"), words ? `Missed because: ${words}` : "");
}

function showMemory(memory) {
  const owners = memory ? Object.entries(memory.owners) : [];
  put(at("memory"), memory ? bytes(owners.reduce((sum, [, held]) => sum + held, 0)) : "–");
  put(at("memory-limit"), memory?.limit_bytes ? `of ${bytes(memory.limit_bytes)}` : "");
  const bar = at("memory-bar");
  while (bar.children.length < owners.length) bar.append(segment(`owner-${bar.children.length}`));
  owners.forEach(([, held], index) => {
    bar.children[index].style.width = memory.limit_bytes ? `${(100 * held) / memory.limit_bytes}%` : "0";
  });
  pairs(at("owners"), owners.map(([name, held]) => [name, bytes(held)]), (index) => segment(`owner-${index}`));
}

function segment(name) {
  const made = document.createElement("i");
  made.className = name;
  return made;
}

function showEngine(shared) {
  const engine = shared.engine;
  const state = shared.problem ? "lost" : engine.state;
  at("state-dot").dataset.state = state;
  put(at("state-text"), shared.problem || `engine ${engine.state}`);
  put(at("engine-text"), engine ? [engine.device, engine.policy].filter(Boolean).join(" · ") : "");
  put(at("restarts"), engine ? count(engine.restarts) : "–");
  put(at("interrupted"), engine ? count(engine.interrupted) : "–");
  put(at("poisoned"), engine ? count(engine.poisoned) : "–");
  put(at("uptime"), engine ? seconds(engine.uptime_s) : "–");
  put(at("reason"), engine?.reason ? engine.reason : "");
}

// Requests.

function makeRow() {
  const row = document.createElement("tr");
  row.setAttribute("role", "row"); // said in words, because narrow screens show no table
  for (const name of ["came", "model", "client", "tokens", "span", "first number", "time number", "ending"]) {
    const cell = document.createElement("td");
    cell.className = name;
    cell.setAttribute("role", "cell");
    row.append(cell);
  }
  const track = document.createElement("div");
  track.className = "track";
  track.setAttribute("role", "img");
  track.append(...[...SEGMENTS, "open"].map(segment));
  row.children[4].append(track);
  return row;
}

function parts(request) {
  const known = SEGMENTS.map((name) => [name, request[`${name}_s`] ?? 0]);
  // Loading a model is a part of the time in the queue.
  known[0][1] = Math.max(0, known[0][1] - known[1][1]);
  // Of a request that runs the parts are not known yet.
  return [...known, ["open", request.outcome ? 0 : request.elapsed_s]];
}

function showRow(row, request, longest_s) {
  const [came, model, client, tokens, span, first, time, ending] = row.children;
  put(came, clock.format(request.came_unix_s * 1000));
  put(model, request.model || request.route);
  put(client, request.client.split(" ")[0].slice(0, 28) || "–");
  const prompt = request.prompt_tokens === null ? "" : `${count(request.prompt_tokens)} → `;
  put(tokens, prompt || request.tokens ? `${prompt}${count(request.tokens)}` : "–");
  put(first, seconds(request.first_token_s));
  put(time, seconds(request.elapsed_s));
  put(ending, request.message ? `${request.outcome}: ${request.message}` : request.outcome || "running");
  ending.dataset.kind = !request.outcome ? "open" : WHOLE.has(request.outcome) ? "" : request.outcome === "disconnected" ? "left" : "bad";
  const cached = request.cached_tokens === null ? "" : `${count(request.cached_tokens)} tokens of the prompt cached`;
  row.title = [`${request.surface} ${request.route}`, request.message, cached, REASONS[request.missed]].filter(Boolean).join("\n");
  const track = span.firstChild;
  const shown = parts(request);
  shown.forEach(([, part], index) => {
    const piece = track.children[index];
    piece.hidden = part <= 0;
    piece.style.width = `${((100 * part) / longest_s).toFixed(2)}%`;
  });
  track.setAttribute("aria-label", shown.filter(([, part]) => part > 0).map(([name, part]) => `${name === "open" ? "running" : name} ${seconds(part)}`).join(", ") || "no time");
}

function showRequests(requests) {
  const body = at("rows");
  while (body.children.length > requests.length) body.lastChild.remove();
  while (body.children.length < requests.length) body.append(makeRow());
  const longest_s = Math.max(...requests.map((request) => request.elapsed_s), 1e-3);
  requests.forEach((request, index) => showRow(body.children[index], request, longest_s));
  at("no-rows").hidden = requests.length > 0;
}

/** Draw one snapshot, as /events sends it. */
function show(snapshot) {
  const { shared, requests } = snapshot;
  keep(rates, shared.tokens_a_second);
  keep(firsts, shared.first_token.p50_s);
  put(at("rate"), rate(shared.tokens_a_second));
  put(at("p50"), seconds(shared.first_token.p50_s));
  put(at("p95"), seconds(shared.first_token.p95_s));
  put(at("first-count"), count(shared.first_token.count));
  line(at("rate-line"), rates);
  line(at("first-line"), firsts);
  put(at("running"), count(shared.running));
  put(at("queued"), shared.queue ? count(shared.queue.waiting) : "–");
  const outcomes = Object.entries(shared.outcomes).sort((a, b) => b[1] - a[1]).slice(0, 4);
  pairs(at("outcomes"), outcomes.map(([name, times]) => [name, count(times)]));
  showCache(shared.cache, requests.missed);
  showMemory(shared.memory);
  showEngine(shared);
  showRequests([...requests.running, ...requests.ended]);
}
