export interface PageParts {
  /** The source of the editor for files of an extension, in the words of a content security policy. */
  readonly cspSource: string;
  readonly script: string;
  readonly style: string;
  /** A number that no text of a model can know. */
  readonly nonce: string;
}

/** The page of the chat. It may run its one script and load its one style sheet, and reaches nothing else. */
export function chatPage({ cspSource, script, style, nonce }: PageParts): string {
  const policy = `default-src 'none'; base-uri 'none'; form-action 'none'; style-src ${cspSource}; script-src 'nonce-${nonce}'`;
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="${style}">
<title>mlx-sidecar chat</title>
</head>
<body>
<header id="model"></header>
<main id="turns" aria-live="polite"><p id="empty">Ask something, or select code and choose “Explain Selection”.</p></main>
<form>
<textarea id="input" rows="2" placeholder="Ask… (Enter sends, Shift+Enter breaks the line)" aria-label="Question"></textarea>
<button type="button" id="send">Send</button>
<button type="button" id="stop" hidden>Stop</button>
</form>
<script nonce="${nonce}" src="${script}"></script>
</body>
</html>
`;
}
