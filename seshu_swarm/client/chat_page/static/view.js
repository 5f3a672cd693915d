// What stands in the page. Texts of people, models and peers are put in as text, never as markup.

import { Provenance, element } from "./provenance.js";

const NEAR = 120; // px from the end: whoever reads further up is left there

export const at = (id) => document.getElementById(id);

export function showLanguages(languages, chosen) {
  const options = languages.map((one) => {
    const isTold = one.name !== one.english;
    const option = element("option", { value: one.code, lang: one.code }, one.name);
    if (isTold) option.title = one.english;
    option.selected = one.code === chosen;
    return option;
  });
  at("language").replaceChildren(...options);
}

// Direction and language of what is written and read; the page's own words stay English.
export function speak(language) {
  for (const id of ["talk", "question", "questions"]) {
    at(id).lang = language.code;
    at(id).dir = language.dir;
  }
}

export function showQuestions(questions, choose) {
  const items = questions.map((question) => {
    const button = element("button", { type: "button", class: "chip" });
    const [first, ...rest] = question.split("\n");
    const about = element("strong", { dir: "auto" }, rest.join(" "));
    button.append(element("span", { dir: "auto" }, first), about);
    button.addEventListener("click", () => choose(question));
    return element("li", {}, button);
  });
  at("questions").replaceChildren(...items);
}

export function showQuestion(message) {
  at("empty").hidden = true;
  const text = element("p", { class: "text", dir: "auto", lang: message.language || "und" });
  text.textContent = message.content;
  at("talk").append(element("li", { class: "turn asked" }, unseen("You: "), text));
}

function unseen(words) {
  return element("span", { class: "unseen", lang: "en", dir: "ltr" }, words);
}

export class Reply {
  // A reply as it grows.
  constructor(message) {
    this.text = element("p", { class: "text", dir: "auto", lang: message.language || "und" });
    this.text.textContent = message.content;
    this.provenance = new Provenance();
    this.foot = element("div", { class: "foot", lang: "en", dir: "ltr" });
    this.root = element("li", { class: "turn replied" }, unseen("Seshu: "), this.text, this.foot);
    at("talk").append(this.root);
  }

  begin() {
    this.root.setAttribute("aria-busy", "true");
    this.foot.append(this.provenance.root);
  }

  add(piece) {
    const isNear = nearEnd();
    this.text.append(piece);
    if (isNear) toEnd();
  }

  end() {
    const isNear = nearEnd();
    this.root.removeAttribute("aria-busy");
    if (this.provenance.isEmpty) this.provenance.root.remove();
    this.text.hidden = !this.text.textContent;
    if (isNear) toEnd();
  }

  note(words) {
    this.foot.append(element("p", { class: "quiet" }, words));
  }

  fail(words, again) {
    const button = element("button", { type: "button", class: "plain" }, "Try again");
    button.addEventListener("click", again);
    this.foot.append(element("div", { class: "failed", role: "alert" }, element("p", {}, words), button));
    toEnd();
  }

  remove() {
    this.root.remove();
  }
}

// Only the last reply can be tried again.
export function settle() {
  for (const button of at("talk").querySelectorAll(".failed button")) button.remove();
}

export function clear() {
  at("talk").replaceChildren();
  at("empty").hidden = false;
}

export function notify(words) {
  // The same words once more would be read aloud once more.
  if (at("notice").textContent === words) return;
  at("notice").textContent = words;
  at("notice").hidden = !words;
}

export function announce(words) {
  at("spoken").textContent = words;
}

export function nearEnd() {
  const root = document.documentElement;
  return root.scrollHeight - root.scrollTop - root.clientHeight < NEAR;
}

export function toEnd() {
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
}

export function fit(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, 240)}px`;
}
