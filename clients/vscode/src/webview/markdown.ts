import MarkdownIt from "markdown-it";
import type { FromView } from "../core/view-messages.js";
import { button, element } from "./elements.js";

// A model's HTML is shown as text, and its images are not fetched.
const markdown = new MarkdownIt({ html: false, linkify: false }).disable("image");

/** Draws Markdown into an element. Blocks of code get buttons. */
export function draw(into: HTMLElement, text: string, post: (message: FromView) => void): void {
  into.innerHTML = markdown.render(text);
  for (const code of into.querySelectorAll("pre > code")) addButtons(code, post);
}

function addButtons(code: Element, post: (message: FromView) => void): void {
  const text = () => (code.textContent ?? "").replace(/\n$/, "");
  const bar = element(
    "div",
    { class: "code-bar" },
    button("Copy", () => post({ type: "copy", text: text() })),
    button("Insert at Cursor", () => post({ type: "insert", text: text() })),
  );
  code.parentElement?.before(bar);
}
