// The one thing that the page can reach outside of itself.
const { contextBridge, ipcRenderer } = require("electron");

contextBridge.exposeInMainWorld("sidecar", {
  ask: (question) => ipcRenderer.invoke("ask", question),
  stop: () => ipcRenderer.send("stop"),
  onText: (show) => ipcRenderer.on("text", (_event, text) => show(text)),
});
