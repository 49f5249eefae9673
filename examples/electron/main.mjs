// The main process: a window, and a sidecar that its page may ask. What an answer is stands in answers.mjs.
import path from "node:path";
import { fileURLToPath } from "node:url";
import { app, BrowserWindow, ipcMain } from "electron";
import { Answers } from "./answers.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
// In a packaged app the folder lies beside the archive, from which no program can be run.
const folder = app.isPackaged ? path.join(process.resourcesPath, "mlx-sidecar") : path.join(here, "sidecar");
const answers = new Answers({
  command: [path.join(folder, "bin", "mlx-sidecar")],
  args: (process.env.SIDECAR_ARGS ?? "").split(" ").filter(Boolean),
});

ipcMain.handle("ask", (event, question) => {
  const page = event.sender; // whose window may be gone before its answer ends
  const show = (text) => (page.isDestroyed() ? answers.stop() : page.send("text", text));
  return answers.ask(process.env.MODEL ?? "pocket", question, show);
});
ipcMain.on("stop", () => answers.stop());

app.on("window-all-closed", () => app.quit());

// The sidecar would go with the app in any case. Told so, it ends its work first, and `quit` comes back here.
let isClosed = false;
app.on("before-quit", (event) => {
  if (isClosed) return;
  event.preventDefault();
  void answers.close().finally(() => {
    isClosed = true;
    app.quit();
  });
});

// No `await`: the app is ready only after this module has run to its end.
void app.whenReady().then(() => {
  const window = new BrowserWindow({ webPreferences: { preload: path.join(here, "preload.cjs") } });
  return window.loadFile(path.join(here, "page", "index.html"));
});
