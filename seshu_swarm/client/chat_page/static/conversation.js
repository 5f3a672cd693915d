// A conversation as a value, and as a file. The file is hostile until it was checked.

export const MOST_BYTES = 2_000_000;
const MOST_MESSAGES = 2_000;
const LONGEST_CONTENT = 200_000; // characters of a message
const LONGEST_NAME = 120;
const FORMAT = "seshu conversation";
const VERSION = 1;
const ENDINGS = ["stop", "length", "stopped"];

export class FileError extends Error {}

export function fresh(language = "") {
  return { language, messages: [] };
}

// What the model reads: its own failed replies are left out.
export function asked(messages) {
  const whole = messages.filter((one) => one.role === "user" || one.content);
  return whole.map(({ role, content }) => ({ role, content }));
}

// The text of a file. Holds no key, no peers and no state of the model.
export function toFile(talk, about, settings, now) {
  const head = { format: FORMAT, version: VERSION, run: about.run, saved: now.toISOString() };
  const messages = takingTurns(talk.messages);
  return JSON.stringify({ ...head, language: talk.language, settings, messages }, null, 1);
}

// Questions without a reply are one with the next, as the gateway reads them.
function takingTurns(messages) {
  const turns = [];
  for (const { role, content, language, model, ending } of messages) {
    const last = turns.at(-1);
    if (role === "user" && last?.role === "user") last.content += `\n${content}`;
    else if (role === "user") turns.push({ role, content, language });
    else if (content && ending) turns.push({ role, content, language, model, ending });
  }
  return turns;
}

// The conversation of a file's bytes. Throws FileError with what is wrong, where, and the rule.
export function fromFile(bytes) {
  if (bytes.byteLength > MOST_BYTES) refuse(`it has ${bytes.byteLength} bytes, at most ${MOST_BYTES}`);
  let table;
  try {
    table = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    refuse("it is not JSON in UTF-8");
  }
  fields(table, ["format", "version", "run", "saved", "language", "settings", "messages"], "file");
  if (table.format !== FORMAT) refuse(`“format” is not “${FORMAT}”`);
  if (table.version !== VERSION) refuse(`“version” is not ${VERSION}: another program wrote it`);
  if (!/^[a-z0-9][a-z0-9-]{0,39}$/.test(text(table.run, "run", 40))) refuse("“run” is no name of a run");
  if (Number.isNaN(Date.parse(text(table.saved, "saved", 40)))) refuse("“saved” is no time");
  const messages = table.messages;
  if (!Array.isArray(messages) || messages.length > MOST_MESSAGES) {
    refuse(`“messages” is no list of at most ${MOST_MESSAGES}`);
  }
  return {
    run: table.run,
    language: code(table.language, "language"),
    settings: settingsOf(table.settings),
    messages: messages.map(messageOf),
  };
}

function settingsOf(table) {
  fields(table, ["temperature", "seed", "longest"], "settings");
  return {
    temperature: number(table.temperature, "temperature", 0, 2),
    seed: whole(table.seed, "seed", 0, 2 ** 32 - 1),
    longest: whole(table.longest, "longest", 1, 2 ** 31),
  };
}

function messageOf(one, index) {
  const where = `message ${index + 1}`;
  const isUser = index % 2 === 0;
  const names = ["role", "content", "language"];
  fields(one, isUser ? names : [...names, "model", "ending"], where);
  if (one.role !== (isUser ? "user" : "assistant")) {
    refuse(`${where}: questions and replies take turns, a question first`);
  }
  const content = text(one.content, `${where}: content`, LONGEST_CONTENT);
  const language = code(one.language, `${where}: language`);
  if (isUser) return { role: "user", content, language };
  if (!ENDINGS.includes(one.ending)) refuse(`${where}: “ending” is none of ${ENDINGS.join(", ")}`);
  const model = text(one.model, `${where}: model`, LONGEST_NAME);
  return { role: "assistant", content, language, model, ending: one.ending, isFromFile: true };
}

function fields(table, names, where) {
  if (table === null || typeof table !== "object" || Array.isArray(table)) refuse(`${where}: no table`);
  const found = Object.keys(table);
  const unknown = found.find((name) => !names.includes(name));
  if (unknown !== undefined) refuse(`${where}: there is no field “${unknown.slice(0, 40)}”`);
  const absent = names.find((name) => !found.includes(name));
  if (absent !== undefined) refuse(`${where}: the field “${absent}” is missing`);
}

function text(value, where, longest) {
  if (typeof value !== "string") refuse(`${where}: no text`);
  if (value.length > longest) refuse(`${where}: ${value.length} characters, at most ${longest}`);
  if (!value.isWellFormed()) refuse(`${where}: half a character`);
  return value;
}

function code(value, where) {
  if (!/^([a-z]{2,3})?$/.test(text(value, where, 3))) refuse(`${where}: no code of a language`);
  return value;
}

function number(value, where, least, most) {
  if (typeof value !== "number" || !(value >= least && value <= most)) {
    refuse(`${where}: no number from ${least} to ${most}`);
  }
  return value;
}

function whole(value, where, least, most) {
  if (!Number.isInteger(number(value, where, least, most))) refuse(`${where}: no whole number`);
  return value;
}

function refuse(why) {
  throw new FileError(`This file cannot be resumed: ${why}. Choose one that “Suspend” has written.`);
}
