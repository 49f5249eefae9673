// The editor's side. It knows no protocol: writer.mjs has the logic, and is tested without an editor.
const vscode = require("vscode");

let writer;

async function activate(context) {
  const { Writer } = await import("./writer.mjs"); // the client is an ES module
  const log = vscode.window.createOutputChannel("mlx-sidecar", { log: true });
  const settings = vscode.workspace.getConfiguration("mlxSidecar");
  writer = new Writer({
    command: settings.get("executable") || undefined,
    args: settings.get("arguments"),
    onLog: ({ level, message }) => log[level === "warning" ? "warn" : level](message),
  });
  context.subscriptions.push(
    log,
    vscode.commands.registerCommand("mlxSidecar.continue", () => continueAtCursor()),
    vscode.commands.registerCommand("mlxSidecar.stop", () => writer.stop()),
  );
}

async function continueAtCursor() {
  const editor = vscode.window.activeTextEditor;
  if (editor === undefined) return;
  const { document, selection } = editor;
  const settings = vscode.workspace.getConfiguration("mlxSidecar");
  const wish = {
    before: document.getText(new vscode.Range(new vscode.Position(0, 0), selection.active)),
    model: settings.get("model"),
    maxTokens: settings.get("maxTokens"),
  };
  let offset = document.offsetAt(selection.active);
  await vscode.commands.executeCommand("setContext", "mlxSidecar.isRunning", true);
  try {
    await writer.continue(wish, async (text) => {
      await editor.edit((edit) => edit.insert(document.positionAt(offset), text), { undoStopBefore: false, undoStopAfter: false });
      offset += text.length;
    });
  } catch (error) {
    await vscode.window.showErrorMessage(error.message);
  } finally {
    await vscode.commands.executeCommand("setContext", "mlxSidecar.isRunning", false);
  }
}

async function deactivate() {
  await writer?.dispose();
}

module.exports = { activate, deactivate };
