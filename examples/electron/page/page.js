const ids = ["form", "question", "answer", "status", "stop"];
const page = Object.fromEntries(ids.map((id) => [id, document.getElementById(id)]));

// Text of a model is text: it never becomes HTML.
sidecar.onText((text) => page.answer.append(text));
page.stop.addEventListener("click", () => sidecar.stop());

let asked = 0; // a question that came later has the page for itself
page.form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const mine = ++asked;
  page.answer.replaceChildren();
  page.status.textContent = "answering";
  page.stop.disabled = false;
  const told = await sidecar.ask(page.question.value).catch((error) => ({ reason: "error", message: error.message }));
  if (mine !== asked) return;
  page.status.textContent = told.message ?? told.reason;
  page.stop.disabled = true;
});
