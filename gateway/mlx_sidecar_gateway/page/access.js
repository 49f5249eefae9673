"use strict";
// The stream of snapshots, and the key where the gateway asks for one.

const KEY = "mlx-sidecar-key";
const LONGEST_WAIT_MS = 8000;
let following = null; // the AbortController of the stream

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key === null ? {} : { authorization: `Bearer ${key}` };
}

function askForKey() {
  const wrong = sessionStorage.getItem(KEY) !== null;
  sessionStorage.removeItem(KEY);
  at("forget").hidden = true;
  put(at("key-fault"), wrong ? "The gateway does not know this key." : "");
  if (!at("key-dialog").open) at("key-dialog").showModal();
  at("key").value = "";
  at("key").focus();
}

function stale(words) {
  document.body.dataset.stale = "";
  at("state-dot").dataset.state = "waiting";
  put(at("state-text"), words);
}

/** Draw snapshots until the stream ends; whether another one may be opened. */
async function follow(signal) {
  const response = await fetch("events", { headers: authorization(), signal });
  if (response.status === 401) {
    stale("a key is needed");
    askForKey();
    return false;
  }
  if (!response.ok) throw await faultOf(response);
  at("forget").hidden = sessionStorage.getItem(KEY) === null;
  let listed = false;
  for await (const snapshot of events(response)) {
    delete document.body.dataset.stale;
    show(snapshot);
    if (listed || snapshot.shared.problem) continue;
    listed = true; // not before the sidecar runs, which knows them
    await listModels();
  }
  return true;
}

async function watch() {
  following?.abort();
  const own = (following = new AbortController());
  for (let wait_ms = 500; !own.signal.aborted; wait_ms = Math.min(2 * wait_ms, LONGEST_WAIT_MS)) {
    const began = performance.now();
    try {
      if (!(await follow(own.signal))) return;
      stale("the gateway has ended the connection; trying again");
    } catch (error) {
      if (own.signal.aborted) return;
      stale(error instanceof TypeError ? "the gateway does not answer; trying again" : error.message);
    }
    if (performance.now() - began > LONGEST_WAIT_MS) wait_ms = 500;
    await new Promise((done) => setTimeout(done, wait_ms));
  }
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key-dialog").close();
  at("question").focus();
  watch();
});
at("key-dialog").addEventListener("cancel", (event) => event.preventDefault());
at("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  clear();
  watch();
});
// A page that is not seen asks for nothing.
document.addEventListener("visibilitychange", () => (document.hidden ? following?.abort() : watch()));
watch();
