// The live page in Chromium, against two gateways over the fake engine, of which the second asks for keys.
// Prints for each case what was seen. cases.mjs CHROMIUM URL KEYED_URL
import { axeSource, drawn, held, launch, open, snapshot, text } from "./browser.mjs";

const [path, url, keyed] = process.argv.slice(2);
const browser = await launch(path);
const NARROW = { width: 360, height: 740 };

async function ask(page, question, model) {
  if (model) await page.selectOption("#model", model);
  await page.fill("#question", question);
  await page.keyboard.press("Enter");
}

const ended = (page) => page.waitForFunction(() => document.getElementById("send").textContent === "Send" && document.querySelector(".turn.assistant .note, .turn.assistant .fault"));
const last = (page) => page.locator(".turn.assistant").last();
const begun = (page) => page.waitForFunction(() => document.querySelector(".turn.assistant:last-child .text")?.textContent.length > 3);

async function post(model, signal) {
  const body = { model, stream: true, messages: [{ role: "user", content: "Hello" }] };
  const headers = { "user-agent": "watched/1", "content-type": "application/json" };
  return fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body: JSON.stringify(body), signal });
}

const cases = {
  async paints() {
    const page = await drawn(await open(browser, url));
    return { title: await page.title(), state: await text(page, "state-text"), outside: await page.evaluate(() => performance.getEntriesByType("resource").map((entry) => new URL(entry.name).pathname)) };
  },

  async running() {
    const page = await drawn(await open(browser, url));
    const leaving = new AbortController();
    const reader = (await post("slow", leaving.signal)).body.getReader();
    await reader.read();
    const row = page.locator("#rows tr", { hasText: "watched/1" }).first();
    await row.getByText("running").waitFor();
    await page.waitForFunction(() => [...document.querySelectorAll("#rows tr")].some((row) => row.textContent.includes("watched/1") && Number(row.children[3].textContent) > 3));
    const before = { tokens: Number(await row.locator(".tokens").textContent()), running: await text(page, "running") };
    leaving.abort();
    await page.locator("#rows tr", { hasText: "disconnected" }).first().waitFor();
    return { ...before, after: await page.locator("#rows tr", { hasText: "watched/1" }).first().locator(".ending").textContent() };
  },

  async equals() {
    const page = await drawn(await open(browser, url));
    await (await post("quick")).text();
    const stats = await (await fetch(`${url}/stats`)).json();
    // Other cases run meanwhile no more, so that both say the same once the next snapshot is there.
    await page.waitForFunction((stop) => [...document.querySelectorAll("#outcomes dt")].some((term) => term.textContent === "stop" && term.nextSibling.textContent === String(stop)), stats.outcomes.stop);
    return { shown: await text(page, "running"), told: String(stats.running) };
  },

  async streams() {
    const page = await drawn(await open(browser, url));
    await ask(page, "Go on", "slow");
    await begun(page);
    const part = (await last(page).locator(".text").textContent()).length;
    await page.waitForFunction((length) => document.querySelector(".turn.assistant .text").textContent.length > length, part);
    await page.keyboard.press("Escape");
    await ended(page);
    const stopped = await last(page).locator(".note").textContent();
    await page.locator("#rows tr", { hasText: "disconnected" }).first().waitFor();
    return { part, stopped, question: await page.inputValue("#question"), focus: await page.evaluate(() => document.activeElement.id) };
  },

  async retries() {
    const page = await drawn(await open(browser, url));
    await ask(page, "Say it", "quick");
    await ended(page);
    const first = await last(page).locator(".text").textContent();
    await page.click("#retry");
    await ended(page);
    return { first, second: await last(page).locator(".text").textContent(), turns: await page.locator(".turn").count() };
  },

  async writes() {
    const page = await drawn(await open(browser, url));
    await page.click("#options summary");
    await page.fill("#system", "Be short.");
    await page.fill("#schema", '{"type": "object"');
    await ask(page, "Where?", "city");
    const fault = await text(page, "schema-fault");
    const turns = await page.locator(".turn").count();
    await page.fill("#schema", '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}');
    await ask(page, "Where?", "city");
    await ended(page);
    return { fault, turns, answer: JSON.parse(await last(page).locator(".text").textContent()) };
  },

  async folds() {
    const page = await drawn(await open(browser, url));
    await ask(page, "Think", "thinks");
    await ended(page);
    const details = last(page).locator("details");
    const folded = !(await details.evaluate((node) => node.open));
    await details.locator("summary").click();
    return { folded, reasoning: await details.locator(".thoughts").textContent(), answer: await last(page).locator(".text").textContent() };
  },

  async injects() {
    const page = await drawn(await open(browser, url));
    await ask(page, "<img src=x onerror=alert(1)>", "markup");
    await ended(page);
    return { answer: await last(page).locator(".text").textContent(), elements: await page.locator("#turns img, #turns script, #turns b").count() };
  },

  async fails() {
    const page = await drawn(await open(browser, url));
    await ask(page, "Fail", "fails");
    await ended(page);
    return { fault: await last(page).locator(".fault").textContent(), retry: await page.isVisible("#retry") };
  },

  async restarts() {
    const page = await drawn(await open(browser, url));
    await ask(page, "Die", "dies");
    await ended(page);
    await page.waitForFunction(() => document.getElementById("restarts").textContent === "1");
    return { text: await last(page).locator(".text").textContent(), carried: await text(page, "interrupted") };
  },

  async walks() {
    const page = await drawn(await open(browser, url));
    const ids = [];
    for (let step = 0; step < 7; step++) {
      await page.keyboard.press("Tab");
      ids.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName));
    }
    await page.keyboard.press("Shift+Tab");
    await page.focus(".skip");
    await page.keyboard.press("Enter");
    await page.keyboard.type("One");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("two");
    const typed = await page.inputValue("#question");
    await page.keyboard.press("Enter");
    await ended(page);
    const asked = await page.locator(".turn.user").textContent();
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await ended(page);
    return { ids, typed, asked, turns: await page.locator(".turn").count(), said: await text(page, "said") };
  },

  async keys() {
    const page = await open(browser, keyed);
    await page.locator("#key-dialog").waitFor();
    const focus = await page.evaluate(() => document.activeElement.id);
    await page.keyboard.press("Escape");
    const stays = await page.isVisible("#key-dialog");
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("does not know this key").waitFor();
    await page.keyboard.type("sk-ann");
    await page.keyboard.press("Enter");
    await drawn(page);
    await ask(page, "Hello");
    await ended(page);
    await page.locator("#rows tr").first().waitFor();
    const other = await open(browser, keyed);
    await other.locator("#key-dialog").waitFor();
    await other.keyboard.type("sk-bob");
    await other.keyboard.press("Enter");
    await drawn(other);
    const seen = { rows: await other.locator("#rows tr").count(), stop: await text(other, "outcomes"), names: (await other.content()).includes("name-of") };
    await page.click("#forget");
    await page.locator("#key-dialog").waitFor();
    const kept = await page.evaluate(() => sessionStorage.length + localStorage.length);
    return { focus, stays, seen, kept, left: await page.locator(".turn").count() };
  },

  async narrows() {
    const widths = {};
    for (const viewport of [NARROW, { width: 768, height: 900 }, { width: 1080, height: 700 }, { width: 1280, height: 800 }]) {
      const page = await drawn(await open(browser, url, { viewport }));
      await page.evaluate((told) => show(told), { ...snapshot(119) });
      await page.evaluate(() => new Turn("assistant").text("x".repeat(400)));
      widths[viewport.width] = await page.evaluate(() =>
        [document.documentElement, ...document.querySelectorAll("section, table, dl")].filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.outerHTML.slice(0, 80)),
      );
      await page.context().close();
    }
    return widths;
  },

  async checks() {
    const found = {};
    const check = async (name, page) => {
      await page.evaluate(axeSource());
      const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
      found[name] = violations.map((each) => `${each.id}: ${each.nodes[0].html} ${each.nodes[0].failureSummary}`);
      await page.context().close();
    };
    for (const [colorScheme, width] of [["light", 1280], ["light", 360], ["dark", 1280]]) {
      const page = await drawn(await open(browser, url, { colorScheme, viewport: { width, height: 860 } }));
      await ask(page, "Think", "thinks");
      await ended(page);
      await page.click("#options summary");
      await page.evaluate((told) => show(told), snapshot(119));
      await check(`${colorScheme} ${width}`, page);
    }
    const page = await open(browser, keyed, { colorScheme: "dark" });
    await page.locator("#key-dialog").waitFor();
    await check("dark key", page);
    return found;
  },

  async grows() {
    const page = await drawn(await open(browser, url));
    await page.evaluate(() => following.abort());
    const hour = Array.from({ length: 120 }, (_, number) => snapshot(number + 1));
    const push = (times) => page.evaluate(([told, times]) => { for (let number = 0; number < times; number++) show(told[number % told.length]); }, [hour, times]);
    await push(240);
    const before = await held(page);
    await push(3600);
    return { before, after: await held(page), rows: await page.locator("#rows tr").count() };
  },

  async losesTheGateway() {
    const page = await drawn(await open(browser, url));
    await page.context().setOffline(true);
    await page.evaluate(() => void watch());
    await page.getByText("does not answer; trying again").waitFor();
    await page.context().setOffline(false);
    await drawn(page);
    return { stale: await page.evaluate(() => "stale" in document.body.dataset) };
  },
};

const told = {};
const only = process.env.ONLY?.split(",") ?? Object.keys(cases);
for (const name of only) {
  const began = performance.now();
  try {
    told[name] = await cases[name]();
  } catch (error) {
    told[name] = { error: error.stack };
  }
  const pages = browser.contexts().flatMap((context) => context.pages());
  console.error(name, `${((performance.now() - began) / 1000).toFixed(1)} s`, told[name].error ?? "");
  told[name].faults = pages.flatMap((page) => page.faults);
  for (const context of browser.contexts()) await context.close();
}
console.log(JSON.stringify(told));
await browser.close();
