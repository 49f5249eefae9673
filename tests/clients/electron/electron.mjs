// As much of Electron as examples/electron needs: its main process is this Node, its window a page of Chromium. It runs
// where playwright-core is, and takes the browser's program from CHROMIUM.
import { EventEmitter } from "node:events";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"];

// What a preload script is given, and runs in. Electron gives it a world of its own, in which it stands here too: its
// names are not seen from the page.
const PRELOAD = `
  const heard = {};
  globalThis.__hear = (channel, words) => heard[channel]?.forEach((listener) => listener({}, ...words));
  const ipcRenderer = {
    invoke: (channel, ...words) => globalThis.__invoke(channel, words),
    send: (channel, ...words) => void globalThis.__send(channel, words),
    on: (channel, listener) => (heard[channel] ??= []).push(listener),
  };
  const contextBridge = { exposeInMainWorld: (name, api) => (globalThis[name] = Object.freeze(api)) };
  const require = (name) => ({ electron: { contextBridge, ipcRenderer } })[name];
`;

class App extends EventEmitter {
  isPackaged = true;

  whenReady() {
    return Promise.resolve().then(() => undefined);
  }

  quit() {
    let isPrevented = false;
    this.emit("before-quit", { preventDefault: () => (isPrevented = true) });
    if (!isPrevented) void browser.then((running) => running.close());
  }
}

class IpcMain extends EventEmitter {
  #handlers = new Map();

  handle(channel, handler) {
    this.#handlers.set(channel, handler);
  }

  async invoke(channel, ...words) {
    return this.#handlers.get(channel)(...words);
  }
}

export const app = new App();
export const ipcMain = new IpcMain();

const browser = chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS, env: { PATH: "/usr/bin:/bin" } });
let shown;
/** The page of the first window, once its file was loaded. */
export const page = new Promise((resolve) => (shown = resolve));

export class BrowserWindow {
  #preload;

  constructor({ webPreferences }) {
    this.#preload = webPreferences.preload;
  }

  async loadFile(file) {
    const page = await (await browser).newPage();
    page.on("close", () => app.emit("window-all-closed"));
    const sender = {
      isDestroyed: () => page.isClosed(),
      send: (channel, ...words) => {
        const heard = page.evaluate(([to, said]) => globalThis.__hear(to, said), [channel, words]);
        heard.catch((error) => !page.isClosed() && process.nextTick(() => { throw error; }));
      },
    };
    await page.exposeFunction("__invoke", (channel, words) => ipcMain.invoke(channel, { sender }, ...words));
    await page.exposeFunction("__send", (channel, words) => void ipcMain.emit(channel, { sender }, ...words));
    await page.addInitScript({ content: `(() => {${PRELOAD}{${await readFile(this.#preload, "utf8")}}})()` });
    await page.goto(pathToFileURL(file).href);
    shown(page);
  }
}
