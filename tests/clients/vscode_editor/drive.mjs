// Uses the extension as a person does, in a real editor in Chromium, and tells what was seen:
// node drive.mjs CHROMIUM URL ENDLESS, where the last is a model whose answers have no end. It runs where playwright-core is.
import { launch, open } from "../../gateway/page/browser.mjs";

const [program, url, endless] = process.argv.slice(2);
const browser = await launch(program);
const page = await open(browser, url);
const seen = {};

async function command(name) {
  await page.keyboard.press("F1");
  await page.locator(".quick-input-widget input").fill(`>${name}`);
  await page.locator(".quick-input-list .monaco-list-row", { hasText: name }).first().waitFor();
  await page.keyboard.press("Enter");
}

// Ghost text, which Tab takes.
const ghost = page.locator("[class*='ghost-text-decoration']");
await page.locator(".view-line", { hasText: "def total" }).click();
await page.locator("[id='mlx-sidecar.mlx-sidecar-vscode.mlxSidecar.status']").waitFor(); // the extension runs
await page.keyboard.press("Control+End");
await page.keyboard.type("    return ");
await ghost.first().waitFor();
await page.waitForFunction(() => document.querySelector("[class*='ghost-text-decoration']")?.textContent.includes("both"));
seen.ghost = await ghost.first().textContent();
await page.keyboard.press("Tab");
await page.locator(".view-line", { hasText: /return.total_of_both/ }).waitFor();
await ghost.first().waitFor({ state: "detached" });

// A chat, whose page is a frame in a frame.
await command("mlx-sidecar: Open Chat");
const chat = page.frameLocator("iframe.webview.ready").frameLocator("#active-frame");
const last = chat.locator(".turn.assistant").last();
await chat.locator("#input").fill("Why?");
await chat.locator("#turns").evaluate((turns) => {
  window.seen = [];
  const look = () => window.seen.push(turns.querySelector(".turn.assistant .body")?.textContent ?? "");
  new MutationObserver(look).observe(turns, { childList: true, subtree: true, characterData: true });
});
await chat.locator("#input").press("Enter");
await chat.locator(".turn.assistant[data-state='done']").waitFor();
seen.answer = (await last.locator(".body").textContent()).trim();
seen.bold = await last.locator(".body strong").textContent();
seen.reasoning = await last.locator(".thoughts").textContent();
seen.isFolded = !(await last.locator("details").evaluate((fold) => fold.open));
seen.growing = await chat.locator("#turns").evaluate(() => window.seen);

// Settings are live; an answer without an end is stopped.
await command("Preferences: Open Settings (UI)");
await page.locator(".settings-editor .settings-header .monaco-editor").click();
await page.keyboard.type("mlxSidecar.chat.model");
const setting = page.locator(".settings-editor .setting-item-contents", { hasText: /Chat:\sModel/ });
await setting.locator("input").fill(endless);
await chat.locator("#model", { hasText: endless }).waitFor();
await chat.locator("#input").fill("And then?");
await chat.locator("#input").press("Enter");
await chat.locator(".turn.assistant[data-state='answering'] .body", { hasText: /.{20}/ }).waitFor();
await chat.locator("#stop").click();
await chat.locator(".turn.assistant[data-state='stopped']").waitFor();
seen.stopped = await last.locator(".foot span").first().textContent();

await browser.close();
process.stdout.write(JSON.stringify(seen));
