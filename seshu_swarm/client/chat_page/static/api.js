// The gateway as this page asks it: facts, and a reply as a stream of events.

const LONGEST_EVENT = 1 << 20; // characters; an event is a few hundred
const KEY = "seshu-key"; // of sessionStorage: the tab's, and forgotten with it

export class Refusal extends Error {
  // What the gateway said no to: its status, its name for it, its words, seconds to wait.
  constructor({ status, code, message, wait }) {
    super(message);
    Object.assign(this, { status, code, wait });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
};

export async function about() {
  const answer = await fetch("/chat/about", { cache: "no-store" });
  if (!answer.ok) throw await refusalOf(answer);
  return answer.json();
}

// Yields the stream's documents. Throws Refusal, also for one in the middle of a stream, and
// AbortError after `signal`.
export async function* reply(body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  const asked = JSON.stringify(body);
  const options = { method: "POST", headers, body: asked, signal };
  const answer = await fetch("/v1/chat/completions", options);
  if (!answer.ok) throw await refusalOf(answer);
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") return;
    const event = parsed(data);
    if (event?.error) throw refusalIn(event, answer.status);
    yield event;
  }
  throw new Refusal({ status: 0, code: "CUT_OFF", message: "the stream ended early" });
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    if (held.length > LONGEST_EVENT) throw malformed();
    for (const event of whole) {
      const lines = event.split("\n").filter((line) => line.startsWith("data: "));
      yield lines.map((line) => line.slice(6)).join("\n");
    }
  }
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw malformed();
  }
}

function malformed() {
  return new Refusal({ status: 0, code: "MALFORMED", message: "the answer is no event stream" });
}

async function refusalOf(answer) {
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  let body = null;
  try {
    body = await answer.json();
  } catch {
    // Another server in between may answer with a page.
  }
  return refusalIn(body, answer.status, wait);
}

function refusalIn(body, status, wait = 0) {
  const error = body?.error ?? {};
  const message = String(error.message ?? `status ${status}`);
  return new Refusal({ status, code: String(error.code ?? ""), message, wait });
}
