// What went wrong, in plain words, and the way out. Everything returned is text.

const LONGEST = 400; // characters of somebody else's words

const SENTENCES = {
  REQUESTS_PER_MINUTE: (no) =>
    `Your key has used up its questions of this minute. Try again in ${time(no.wait)}.`,
  TOKENS_PER_DAY: (no) =>
    `Your key has used up its bytes of today. They come back in ${time(no.wait)}; ` +
    "until then a smaller “Longest reply” in the settings may still fit.",
  SESSIONS_FULL: () => "Every place at this gateway is taken right now. Try again in a moment.",
  STOPPING: () =>
    "The gateway is being stopped. Suspend the conversation as a file, and resume it when it is back.",
  REQUEST_DEADLINE: () =>
    "The reply took longer than this gateway allows. Choose a smaller “Longest reply” in the settings.",
  PROMPT_TOO_LONG: () =>
    "The conversation has grown longer than this gateway reads. Suspend it as a file if you want " +
    "to keep it, and begin a new one.",
  BODY_TOO_LARGE: () =>
    "The conversation has grown larger than this gateway takes. Suspend it as a file if you want " +
    "to keep it, and begin a new one.",
  ANSWER_TOO_LONG: () => "That is more than this gateway writes. Choose a smaller “Longest reply”.",
  MODEL_UNKNOWN: () => "The gateway serves another run now. Reload the page; suspend first to keep this.",
  KEY_MISSING: () => "This gateway asks for a key.",
  KEY_UNKNOWN: () => "The gateway does not know this key. Ask its owner for one.",
  DEADLINE: () => "The peers did not answer in time. Try again.",
  REVISION_RETIRED: () => "The model was renewed while it wrote. Try again: the new one answers.",
  CUT_OFF: () => "The connection ended before the reply did. Try again.",
  MALFORMED: () => "What came back is no reply of a gateway. Does something stand in between?",
};

export function explained(error, missing) {
  if (error.code === "PEER_LOST") return lacking(missing);
  const known = SENTENCES[error.code];
  if (known) return known(error);
  if (error.status === undefined) {
    return "The gateway cannot be reached. Is it still running? Suspend the conversation to keep it.";
  }
  return `The gateway says: ${String(error.message).slice(0, LONGEST)}`;
}

export function lacking(missing) {
  const which = missing.length ? `Nobody has ${blocks(missing)} of the model now` : "A peer is missing";
  return (
    `${which}, so no reply can be made. Wait until somebody hosts it, or host it yourself: ` +
    "python -m seshu_swarm.peer host --join LINK"
  );
}

function blocks(missing) {
  const shown = missing.slice(0, 8).join(", ") + (missing.length > 8 ? ", …" : "");
  return missing.length === 1 ? `block ${shown}` : `blocks ${shown}`;
}

function time(seconds) {
  if (seconds < 120) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} minutes`;
  return `${Math.round(seconds / 3600)} hours`;
}

// A peer's id or reason: one line, of what can be printed, short.
export function plain(text, longest = 120) {
  const line = String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "·");
  return line.length > longest ? `${line.slice(0, longest - 1)}…` : line;
}

export function shortPeer(id) {
  const whole = plain(id);
  return whole.length > 8 ? `…${whole.slice(-8)}` : whole;
}

export function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(1, Math.round(milliseconds))} ms`;
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
