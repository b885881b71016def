// Starts `rlc lsp` and hands the editor's requests to it. Everything else is the server's.
const { commands, window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function start() {
  const command = workspace.getConfiguration("rlc").get("path", "rlc");
  const server = { command, args: ["lsp"] };
  const documentSelector = [
    { scheme: "file", language: "rl" },
    { scheme: "untitled", language: "rl" },
  ];
  client = new LanguageClient("rlc", "rlc", server, { documentSelector });
  try {
    await client.start();
  } catch (error) {
    window.showErrorMessage(
      `rlc: cannot start \`${command} lsp\` (${error}). Install rlc, or set rlc.path.`,
    );
  }
}

async function stop() {
  const old = client;
  client = undefined;
  // A client that never came up cannot be stopped.
  await old?.stop().catch(() => {});
}

async function restart() {
  await stop();
  await start();
}

async function activate(context) {
  context.subscriptions.push(commands.registerCommand("rlc.restart", restart));
  context.subscriptions.push(
    workspace.onDidChangeConfiguration((e) => e.affectsConfiguration("rlc.path") && restart()),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
