// Models of the fake engine: what each client is to be answered.
const saying = (text, options = {}) =>
  "fake?" + Object.entries({ text, ...options }).map((pair) => pair.map(encodeURIComponent).join("=")).join("&");

const calling = (name, values) => `<tool_call>\n{"name": "${name}", "arguments": ${values}}\n</tool_call>`;
const report = '{"city": "Paris", "degrees": 21}'; // spaced as the sidecar's forms are

export const GREETS = saying("Grüß Gott 👋");
export const CALLS = saying(calling("get_weather", '{"city": "Paris"}'), { then: "It is sunny." });
export const WRITES = saying(report);
export const CALLS_JSON = saying(calling("json", report));
export const BREAKS = saying("half and half", { fail_after: 4, delay_ms: 60 });
export const TALKS_FOR_MINUTES = "fake?tokens=5000&delay_ms=100";

export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const REPORT = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

// The texts of a stream until it ends or throws, and the error. Calls `heard` after each piece of text.
export async function read(texts, heard = () => {}) {
  let text = "";
  try {
    for await (const piece of await texts) {
      text += piece ?? "";
      if (piece) heard();
    }
  } catch (error) {
    return { text, error };
  }
  return { text, error: null };
}

export async function* map(values, change) {
  for await (const value of await values) yield change(value);
}

// How a client raises a refusal: under which status, and whether its message names the parameter.
export const refusal = (error, status, parameter) => ({ status, names: error.message.includes(parameter) });
