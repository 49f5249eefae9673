// The live page in Chromium, measured or photographed; run in tests/node. Prints JSON.
// page.mjs CHROMIUM URL paints ROUNDS, or load SECONDS, or hour, or pictures FOLDER
import { join } from "node:path";
import { drawn, held, launch, open, snapshot } from "../../tests/gateway/page/browser.mjs";

const [path, url, what, value] = process.argv.slice(2);
const SIZE = { width: 1280, height: 820 };
const HOUR = 3600; // snapshots
const browser = await launch(path);

async function firstPaints(rounds) {
  const times = [];
  for (let round = 0; round < rounds; round++) {
    const page = await drawn(await open(browser, url));
    times.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    await page.context().close();
  }
  return times;
}

/** Long tasks (over 50 ms) and growth of a page that is looked at while requests come. */
async function underLoad(seconds) {
  const page = await open(browser);
  await page.addInitScript(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.longTasks.push(entry.duration))).observe({ type: "longtask", buffered: true });
  });
  await page.goto(url);
  await drawn(page);
  const loading = await page.evaluate(() => window.longTasks.splice(0));
  await page.waitForTimeout(5000);
  const before = await held(page);
  await page.evaluate(() => void window.longTasks.splice(0)); // collecting took some
  await page.waitForTimeout(seconds * 1000);
  const longTasks = await page.evaluate(() => window.longTasks);
  const rows = await page.locator("#rows tr").count();
  return { loading, longTasks, before, after: await held(page), rows };
}

/** The growth over as many snapshots as an hour has, and the time that each takes. */
async function hour() {
  const page = await drawn(await open(browser, url));
  await page.evaluate(() => following.abort());
  const told = Array.from({ length: 120 }, (_, number) => snapshot(number + 1));
  const push = (times) =>
    page.evaluate(
      ([told, times]) => {
        const began = performance.now();
        for (let number = 0; number < times; number++) show(told[number % told.length]);
        return performance.now() - began;
      },
      [told, times],
    );
  await push(240);
  const before = await held(page);
  const took_ms = await push(HOUR);
  return { before, after: await held(page), each_ms: took_ms / HOUR };
}

async function picture(colorScheme, folder) {
  const page = await drawn(await open(browser, url, { viewport: SIZE, colorScheme }));
  await page.waitForTimeout(32_000); // until the lines are as wide as their tiles
  await page.fill("#question", "What is mlx-sidecar?");
  await page.keyboard.press("Enter");
  await page.locator(".turn.assistant .note").waitFor();
  await page.fill("#question", "Which models does it run?");
  await page.keyboard.press("Enter");
  await page.locator(".turn.assistant .note").nth(1).waitFor();
  await page.screenshot({ path: join(folder, `page-${colorScheme}.png`) });
}

const measures = {
  paints: () => firstPaints(Number(value)),
  load: () => underLoad(Number(value)),
  hour,
  pictures: () => Promise.all(["light", "dark"].map((scheme) => picture(scheme, value))),
};
console.log(JSON.stringify((await measures[what]()) ?? null));
await browser.close();
