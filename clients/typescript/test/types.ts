// Calls that the types allow, and calls that they do not: compiled by the tests, and never run.
import type { GenerateOptions, Session, Sidecar } from "mlx-sidecar";

declare const sidecar: Sidecar;
declare const session: Session;
const model = "pocket";
const messages = [{ role: "user", content: "Hello" }];

// Exactly one prompt.
sidecar.generate({ model, prompt: "Hello" });
sidecar.generate({ model, messages });
sidecar.generate({ model, tokens: [1, 2] });
sidecar.generate({ model, messages, prompt: null, tokens: undefined });
void sidecar.complete({ model, prompt: "Hello" });
// @ts-expect-error none
sidecar.generate({ model });
// @ts-expect-error null is none
sidecar.generate({ model, prompt: null });
// @ts-expect-error two
sidecar.generate({ model, prompt: "Hello", messages });
// @ts-expect-error two
sidecar.generate({ model, prompt: "Hello", tokens: [1] });
// @ts-expect-error three
void sidecar.complete({ model, prompt: "Hello", tokens: [1], messages });

// One that is chosen while the program runs.
const either = (text: string, isChat: boolean): GenerateOptions => ({
  model,
  ...(isChat ? { messages: [{ role: "user", content: text }] } : { prompt: text }),
});
sidecar.generate(either("Hello", true));

// A turn of a session has messages, and no other prompt.
session.generate(messages, { max_tokens: 5 });
// @ts-expect-error no prompt beside them
session.generate(messages, { prompt: "Hello" });

// The client names streams, and knows the parameters.
// @ts-expect-error
sidecar.generate({ model, prompt: "Hello", stream: "mine" });
// @ts-expect-error
sidecar.generate({ model, prompt: "Hello", max_token: 5 });

// Forms and tools still give their types.
const form = { type: "choice", choices: ["yes", "no"] } as const;
const said: Promise<"yes" | "no"> = sidecar.generate({ model, messages, response_format: form }).parsed;
void said;
