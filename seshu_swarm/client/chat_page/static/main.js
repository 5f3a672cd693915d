// The page's doings: asking, stopping, suspending, resuming.

import { Refusal, about, key, reply } from "./api.js";
import { FileError, MOST_BYTES, asked, fresh, fromFile, toFile } from "./conversation.js";
import * as view from "./view.js";
import { explained, lacking } from "./words.js";

const LOOK_MILLISECONDS = 15_000;
const LONGEST_SPOKEN = 600; // characters read aloud when a reply is there
const { at } = view;

let facts = null; // of the gateway
let talk = fresh();
let stopping = null; // AbortController of the reply under way

const languageOf = (code) => facts?.languages.find((one) => one.code === code);

function settings() {
  const number = (id, fallback) => {
    const field = at(id);
    const value = field.value.trim() === "" ? NaN : Number(field.value);
    const isSound = Number.isFinite(value) && field.validity.valid;
    if (!isSound) field.value = String(fallback);
    return isSound ? value : fallback;
  };
  const longest = Math.min(512, facts?.limits.new_tokens ?? 512);
  return { temperature: number("temperature", 0), seed: number("seed", 0), longest: number("longest", longest) };
}

function show(given) {
  for (const [name, value] of Object.entries(given)) at(name).value = String(value);
}

async function look() {
  try {
    const before = facts?.missing_blocks.length ?? 0;
    facts = await about();
    const missing = facts.missing_blocks;
    if (missing.length) view.notify(lacking(missing));
    else if (before || at("notice").dataset.unreachable) view.notify("");
    delete at("notice").dataset.unreachable;
    at("model").textContent = facts.model;
  } catch (error) {
    at("notice").dataset.unreachable = "yes";
    view.notify(explained(error, []));
  }
}

function choose(code) {
  const language = languageOf(code) ?? facts.languages[0];
  talk.language = language.code;
  at("language").value = language.code;
  view.speak(language);
  view.showQuestions(language.questions, (question) => {
    at("question").value = question;
    view.fit(at("question"));
    at("question").focus();
  });
}

function busy(isBusy) {
  const hadFocus = [at("send"), at("stop")].includes(document.activeElement);
  at("send").hidden = isBusy;
  at("stop").hidden = !isBusy;
  for (const id of ["new", "suspend", "resume"]) at(id).disabled = isBusy;
  if (hadFocus) at(isBusy ? "stop" : "question").focus();
}

async function ask() {
  const content = at("question").value;
  if (stopping || !facts || !content.trim()) return;
  const question = { role: "user", content, language: talk.language };
  talk.messages.push(question);
  view.settle();
  view.showQuestion(question);
  at("question").value = "";
  view.fit(at("question"));
  await answer();
}

async function answer() {
  const message = { role: "assistant", content: "", language: talk.language, model: "" };
  const messages = asked(talk.messages);
  talk.messages.push(message);
  const shown = new view.Reply(message);
  stopping = new AbortController();
  busy(true);
  shown.begin();
  view.toEnd();
  view.announce("Seshu replies…");
  const again = () => {
    shown.remove();
    talk.messages = talk.messages.filter((one) => one !== message);
    answer();
  };
  try {
    await read(message, shown, messages);
    view.announce(message.content.slice(0, LONGEST_SPOKEN));
  } catch (error) {
    if (message.content) message.ending = "stopped";
    await failed(error, shown, again);
  } finally {
    stopping = null;
    shown.end();
    busy(false);
  }
}

async function read(message, shown, messages) {
  const { temperature, seed, longest } = settings();
  const body = { model: facts.run, messages, temperature, seed, max_tokens: longest, stream: true };
  body.stream_options = { include_usage: true };
  const began = performance.now();
  let whole = null;
  let bytes = 0;
  for await (const event of reply(body, stopping.signal)) {
    message.model = String(event.model ?? "").slice(0, 120);
    bytes = event.usage?.completion_tokens ?? bytes;
    const choice = event.choices?.[0];
    if (!choice) continue;
    const piece = choice.delta?.content ?? "";
    message.content += piece;
    if (piece) shown.add(piece);
    if (choice.finish_reason) {
      message.ending = choice.finish_reason === "stop" ? "stop" : "length";
      whole = choice.seshu ?? null;
    } else if (choice.seshu) {
      for (const sentence of shown.provenance.tell(choice.seshu)) view.announce(sentence);
    }
  }
  shown.provenance.end(whole, { bytes, milliseconds: performance.now() - began });
  if (message.ending === "length") shown.note("Cut at the longest reply of the settings.");
  if (!message.content) shown.note("The model ended its reply before its first character.");
}

async function failed(error, shown, again) {
  if (error.name === "AbortError") {
    shown.note("You stopped it here.");
    view.announce("Stopped.");
    return;
  }
  const isRefusal = error instanceof Refusal;
  if (!isRefusal && !(error instanceof TypeError)) throw error;
  if (isRefusal && error.status === 401) {
    shown.fail(explained(error, []), again);
    askForKey(error.code === "KEY_UNKNOWN", again);
    return;
  }
  if (error.code === "PEER_LOST") await look();
  shown.fail(explained(error, facts.missing_blocks), again);
}

function askForKey(isWrong, then) {
  const dialog = at("key");
  if (isWrong) at("key-why").textContent = "The gateway does not know that key. Ask its owner for one.";
  at("key-text").value = "";
  const used = () => {
    const given = at("key-text").value.trim();
    at("key-text").value = "";
    if (dialog.returnValue === "use" && given) {
      key.set(given);
      then?.();
    }
  };
  dialog.returnValue = "";
  dialog.addEventListener("close", used, { once: true });
  dialog.showModal();
}

function begin(next) {
  talk = next;
  view.clear();
  view.notify("");
  choose(talk.language || at("language").value);
  at("question").focus();
}

function suspend() {
  if (!talk.messages.length) {
    view.notify("There is nothing to suspend yet: ask something first.");
    return;
  }
  const now = new Date();
  const text = toFile(talk, facts, settings(), now);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `seshu-${facts.run}-${now.toISOString().slice(0, 16).replace(":", "")}.json`;
  link.click();
  URL.revokeObjectURL(url);
  view.announce("The conversation is in a file.");
}

async function resume(file) {
  if (!file) return;
  try {
    const bytes = file.size > MOST_BYTES ? { byteLength: file.size } : await file.arrayBuffer();
    const found = fromFile(bytes);
    begin({ language: found.language, messages: found.messages });
    show(found.settings);
    found.messages.forEach(showAgain);
    if (found.run !== facts.run) {
      view.notify(`The file is of run ${found.run}; from here on ${facts.run} replies.`);
    }
    view.toEnd();
    view.announce(`${found.messages.length} messages are back.`);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    view.notify(error.message);
  }
}

function showAgain(message) {
  if (message.role === "user") view.showQuestion(message);
  else new view.Reply(message).note(`from the file; model ${message.model}`);
}

function listen() {
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  at("question").addEventListener("input", (event) => view.fit(event.target));
  at("question").addEventListener("keydown", (event) => {
    // Enter of an input method chooses a word.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !at("key").open) stopping?.abort();
  });
  at("stop").addEventListener("click", () => stopping?.abort());
  at("key-not").addEventListener("click", () => at("key").close(""));
  at("language").addEventListener("change", (event) => choose(event.target.value));
  at("new").addEventListener("click", () => begin(fresh(talk.language)));
  at("suspend").addEventListener("click", suspend);
  at("resume").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    resume(file);
  });
}

async function start() {
  listen();
  while (!facts) {
    await look();
    if (!facts) await new Promise((done) => setTimeout(done, LOOK_MILLISECONDS));
  }
  const longest = Math.min(512, facts.limits.new_tokens);
  at("longest").max = String(facts.limits.new_tokens);
  at("longest").value = String(longest);
  const wanted = navigator.languages.map((tag) => tag.split("-")[0]);
  const code = wanted.find(languageOf) ?? facts.languages[0].code;
  view.showLanguages(facts.languages, code);
  choose(code);
  document.body.dataset.ready = "yes";
  if (facts.needs_key && !key.get()) askForKey(false);
  else at("question").focus();
  setInterval(() => document.hidden || look(), LOOK_MILLISECONDS);
}

start();
