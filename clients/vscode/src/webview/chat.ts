/** The page of the chat. It shows what the extension tells it, and keeps nothing but what is being typed. */
import type { ChatState, FromView, ToView } from "../core/view-messages.js";
import type { Turn } from "../core/conversation.js";
import { need } from "./elements.js";
import { TurnView } from "./turn-view.js";

declare function acquireVsCodeApi(): { postMessage(message: FromView): void; getState(): unknown; setState(state: unknown): void };

const host = acquireVsCodeApi();
const list = need("turns");
const input = need("input") as HTMLTextAreaElement;
const send = need("send") as HTMLButtonElement;
const stop = need("stop") as HTMLButtonElement;
const model = need("model");
const views = new Map<number, TurnView>();
let isAnswering = false;

const post = (message: FromView) => host.postMessage(message);

function show(state: ChatState): void {
  isAnswering = state.isAnswering;
  send.hidden = isAnswering;
  stop.hidden = !isAnswering;
  model.textContent = state.model;
  const kept = new Set(state.turns.map(({ id }) => id));
  for (const [id, view] of views) {
    if (kept.has(id)) continue;
    view.root.remove();
    views.delete(id);
  }
  for (const turn of state.turns) viewOf(turn).show(turn, !isAnswering && turn === state.turns.at(-1));
  need("empty").hidden = state.turns.length > 0;
}

function viewOf(turn: Turn): TurnView {
  const view = views.get(turn.id) ?? new TurnView(turn, post);
  if (!views.has(turn.id)) {
    views.set(turn.id, view);
    list.append(view.root);
  }
  return view;
}

/** Keeps the end in sight where it was in sight. */
function following(change: () => void): void {
  const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  change();
  if (follows) list.scrollTop = list.scrollHeight;
}

function submit(): void {
  if (isAnswering || input.value.trim() === "") return;
  post({ type: "send", text: input.value });
  write("");
}

function write(text: string): void {
  input.value = text;
  host.setState({ draft: text });
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 240)}px`;
}

window.addEventListener("message", ({ data }: MessageEvent<ToView>) => {
  if (data.type === "state") following(() => show(data.state));
  else if (data.type === "delta") following(() => views.get(data.id)?.add(data.text, data.reasoning));
  else if (data.type === "draft") {
    write(data.text);
    input.focus();
  }
});

input.addEventListener("keydown", (event) => {
  // Enter that ends the composition of a character is the input method's.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
input.addEventListener("input", () => write(input.value));
send.addEventListener("click", submit);
stop.addEventListener("click", () => post({ type: "stop" }));

const draft = (host.getState() as { draft?: unknown } | undefined)?.draft;
if (typeof draft === "string") write(draft);
post({ type: "ready" });
