"use strict";
// A chat over /v1/chat/completions. Text of the model is only ever set as text.

const turns = []; // {role, content} of the conversation, as it is sent
let running = null; // the AbortController of the answer that comes

function say(text) {
  put(at("said"), text);
}

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent.append(made);
  return made;
}

function nearEnd(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 40;
}

/** A turn on the page, whose parts are made when there is something in them. */
class Turn {
  constructor(role) {
    this.box = at("turns");
    at("empty").hidden = true;
    this.node = element("div", `turn ${role}`, this.box);
    this.textNode = element("div", "text", this.node);
    this.textNode.append("");
    this.box.scrollTop = this.box.scrollHeight;
  }

  grow(change) {
    const follows = nearEnd(this.box);
    change();
    if (follows) this.box.scrollTop = this.box.scrollHeight;
  }

  text(more) {
    this.grow(() => this.textNode.firstChild.appendData(more));
  }

  reasoning(more) {
    this.grow(() => {
      if (!this.thoughts) {
        const details = document.createElement("details");
        this.node.prepend(details);
        element("summary", "", details).textContent = "Reasoning";
        this.thoughts = element("div", "thoughts", details);
        this.thoughts.append("");
      }
      this.thoughts.firstChild.appendData(more);
    });
  }

  note(text, className = "note") {
    this.grow(() => (element("p", className, this.node).textContent = text));
  }
}

// The request.

function schema() {
  const written = at("schema").value.trim();
  put(at("schema-fault"), "");
  if (!written) return {};
  try {
    const read = JSON.parse(written);
    return { response_format: { type: "json_schema", json_schema: { name: "answer", schema: read } } };
  } catch (error) {
    put(at("schema-fault"), `This is not JSON: ${error.message}`);
    at("options").open = true;
    at("schema").focus();
    return null;
  }
}

function chosenModel() {
  return at("model").hidden ? at("model-name").value.trim() : at("model").value;
}

function body(format) {
  const system = at("system").value.trim();
  const messages = [...(system ? [{ role: "system", content: system }] : []), ...turns];
  const model = chosenModel() ? { model: chosenModel() } : {};
  return { ...model, messages, stream: true, stream_options: { include_usage: true }, ...format };
}

/** The objects of a response that is server-sent events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const pieces = (kept + value).split("\n\n");
    kept = pieces.pop();
    for (const piece of pieces) if (piece.startsWith("data: ") && piece !== "data: [DONE]") yield JSON.parse(piece.slice(6));
  }
}

async function faultOf(response) {
  const told = await response.json().catch(() => null);
  return new Error(told?.error?.message ?? `The gateway answered with status ${response.status}`);
}

async function carry(turn, response) {
  const told = { content: "", reason: null, usage: null, cache: null };
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Error(chunk.error.message);
    const { delta, finish_reason: reason } = chunk.choices[0] ?? {};
    if (delta?.reasoning_content) turn.reasoning(delta.reasoning_content);
    if (delta?.content) {
      told.content += delta.content;
      turn.text(delta.content);
    }
    told.reason = reason ?? told.reason;
    told.usage = chunk.usage ?? told.usage;
    told.cache = chunk.cache ?? told.cache;
  }
  if (!told.reason) throw new Error("The connection ended before the answer did");
  return told;
}

function account(told, took_s) {
  const usage = told.usage;
  if (!usage) return told.reason;
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const because = told.cache && told.cache.because !== "all_known" ? ` (${REASONS[told.cache.because] ?? told.cache.because})` : "";
  const words = [`${count(usage.prompt_tokens)} tokens in, ${count(cached)} of them cached${because}`, `${count(usage.completion_tokens)} out`, seconds(took_s)];
  if (told.reason !== "stop") words.push(told.reason);
  return words.join(" · ");
}

async function answer(format) {
  const began = performance.now();
  running = new AbortController();
  busy(true);
  const turn = new Turn("assistant");
  turn.node.dataset.busy = "";
  say("The model answers.");
  let content = "";
  try {
    const headers = { "content-type": "application/json", "x-mlx-sidecar-explain-cache": "1", ...authorization() };
    const request = { method: "POST", headers, body: JSON.stringify(body(format)), signal: running.signal };
    const response = await fetch("v1/chat/completions", request);
    if (response.status === 401) askForKey();
    if (!response.ok) throw await faultOf(response);
    const told = await carry(turn, response);
    content = told.content;
    turn.note(account(told, (performance.now() - began) / 1000));
    say(content);
  } catch (error) {
    content = turn.textNode.textContent;
    const stopped = error.name === "AbortError";
    turn.note(stopped ? "stopped" : error.message, stopped ? "note" : "fault");
    say(stopped ? "Stopped." : error.message);
  }
  delete turn.node.dataset.busy;
  turns.push({ role: "assistant", content });
  running = null;
  busy(false);
}

function busy(is) {
  put(at("send"), is ? "Stop" : "Send");
  at("retry").hidden = is || !turns.length;
  at("clear").disabled = is;
}

// The controls.

function send() {
  const text = at("question").value.trim();
  const format = text && schema();
  if (!text || !format) return;
  turns.push({ role: "user", content: text });
  new Turn("user").text(text);
  at("question").value = "";
  answer(format);
}

function retry() {
  const format = schema();
  if (running || !format || turns.at(-1)?.role !== "assistant") return;
  turns.pop();
  at("turns").lastChild.remove();
  at("question").focus();
  answer(format);
}

function clear() {
  turns.length = 0;
  for (const turn of document.querySelectorAll(".turn")) turn.remove();
  at("empty").hidden = false;
  busy(false);
  at("question").focus();
}

function stopOrSend() {
  if (running) running.abort();
  else send();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  stopOrSend();
});
at("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!running) send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
});
at("retry").addEventListener("click", retry);
at("clear").addEventListener("click", clear);

async function listModels() {
  const response = await fetch("v1/models", { headers: authorization() });
  if (!response.ok) return;
  const names = (await response.json()).data.map((model) => model.id);
  const chosen = at("model").value;
  at("model").hidden = !names.length;
  at("model-name").hidden = names.length > 0;
  at("model").replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
}
