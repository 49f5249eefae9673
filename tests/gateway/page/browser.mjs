// Chromium, for tests and measurements of the live page. They run in the folder whose node_modules has playwright-core.
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");

export const axeSource = () => require("axe-core").source;

// It looks for nothing outside, and runs as root, where there is no sandbox.
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000); // far beyond what anything takes

/** The browser whose program is at `path`. */
export const launch = (path) => chromium.launch({ executablePath: path, args: FLAGS });

/** A page of its own, which collects in `page.faults` what went wrong on it. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error.stack));
  page.on("console", (message) => message.text().includes("Content Security Policy") && page.faults.push(message.text()));
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) => console.log(`Content Security Policy: ${event.violatedDirective}`)));
  if (url) await page.goto(url);
  return page;
}

/** The page once it has drawn a snapshot of a running sidecar, and knows the models. */
export async function drawn(page) {
  await page.waitForFunction(() => document.getElementById("state-dot").dataset.state === "ready");
  await page.waitForFunction(() => document.getElementById("model").options.length > 0);
  return page;
}

export const text = (page, id) => page.locator(`#${id}`).textContent();

/** Nodes and bytes of the heap that are left after a collection. */
export async function held(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  for (let times = 0; times < 3; times++) await session.send("HeapProfiler.collectGarbage");
  const { metrics } = await session.send("Performance.getMetrics");
  const of = (name) => metrics.find((metric) => metric.name === name).value;
  await session.detach();
  return { nodes: of("Nodes"), bytes: of("JSHeapUsedSize") };
}

/** A snapshot as /events sends it, number `number` of a busy hour. */
export function snapshot(number) {
  const request = (index, outcome) => ({
    id: `${number}-${index}`,
    came_unix_s: 1.8e9 + number,
    surface: "openai",
    route: "/chat/completions",
    model: `model-${index % 5}`,
    client: "OpenAI/Python 3.57",
    priority: "normal",
    status: 200,
    outcome,
    message: outcome === "overloaded" ? `${number} requests wait` : "",
    elapsed_s: 0.1 + ((number * 7 + index * 13) % 40) / 10,
    queue_s: outcome ? 0.02 : null,
    load_s: null,
    prefill_s: outcome ? 0.05 : null,
    decode_s: outcome ? ((number + index) % 30) / 10 : null,
    first_token_s: outcome ? 0.07 : null,
    tokens: (number + index) % 300,
    prompt_tokens: outcome ? 100 + index : null,
    cached_tokens: outcome ? 64 : null,
    missed: "",
  });
  const ended = Array.from({ length: 50 }, (_, index) => request(index, index % 9 ? "stop" : "overloaded"));
  const running = Array.from({ length: number % 10 }, (_, index) => request(100 + index, ""));
  const tier = { state: "on", used_bytes: 1e6 * number, limit_bytes: 1e10, blocks: number, tokens: 64 * number };
  const owners = { models: 3e9, adapters: 0, requests: 1e6 * (number % 10), "prefix cache": 1e6 * number };
  const shared = {
    unix_s: 1.8e9 + number,
    problem: "",
    running: running.length,
    outcomes: { stop: 44 * number, overloaded: 6 * number },
    ignored: {},
    tokens_a_second: 900 + (number % 100),
    first_token: { p50_s: 0.05 + (number % 20) / 100, p95_s: 0.5, count: 4096 },
    queue: { running: 20, waiting: number % 20, limit: 1024 },
    engine: { state: "ready", restarts: 0, reason: null, backend: "fake", device: "fake", policy: "fake", uptime_s: number, interrupted: 0, poisoned: 0 },
    cache: { ram: tier, disk: { ...tier, state: "off" }, prompt_tokens: 200 * number, cached_tokens: 64 * number, evicted_blocks: 0 },
    memory: { limit_bytes: 2e10, owners, free_bytes: 1e10, front_bytes: 5e7, engine_bytes: 4e9 },
  };
  return { shared, requests: { running, ended, missed: { date: number % 7 } } };
}
