// Under a reply: which peers carried it, and what happened when one of them left.
// Everything that a peer is called or says is put into the page as text.

import { duration, plain, shortPeer } from "./words.js";

const HUES = 6;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// An event as a sentence.
export function happened(event) {
  if (event.kind === "rolled") {
    return (
      `The model was renewed: revision ${plain(event.ended, 12)} ended, ` +
      `${plain(event.revision, 12)} goes on after reading the conversation again.`
    );
  }
  const who = `Peer ${shortPeer(event.lost)}`;
  const left = event.said_goodbye ? `${who} said goodbye` : `${who} was lost`;
  const takers = [...new Set((event.by ?? []).map((hop) => hop.peer))].map(shortPeer);
  const by = takers.join(" and ") || "another peer";
  const typed = typeof event.milliseconds === "number";
  const after = typed ? ` after ${duration(event.milliseconds)}` : "";
  return `${left}: ${by} went on with blocks ${plain(event.blocks, 20)}${after}. No byte is missing.`;
}

export class Provenance {
  // Its `root` stands below a reply; `tell` takes the field `seshu` of the stream's choices.
  constructor() {
    this.peers = []; // in the order in which they were first seen: a peer keeps its colour
    this.events = element("ul", { class: "events" });
    this.bar = element("span", { class: "bar", "aria-hidden": "true" });
    this.line = element("span", {}, "finding peers…");
    this.table = element("dl", { class: "carriers" });
    const summary = element("summary", {}, this.bar, this.line);
    this.details = element("details", { class: "carried" }, summary, this.table);
    this.root = element("div", { class: "provenance" }, this.events, this.details);
  }

  // Returns the new events' sentences.
  tell(news) {
    if (Array.isArray(news.chain)) this.#draw(news.chain);
    const sentences = (Array.isArray(news.events) ? news.events : []).map(happened);
    for (const sentence of sentences) this.events.append(element("li", {}, sentence));
    return sentences;
  }

  // At the end: all that happened, once more and whole, and what it took.
  end(whole, { bytes, milliseconds }) {
    if (whole) {
      this.events.replaceChildren();
      this.tell(whole);
    }
    this.line.append(` · ${bytes} bytes in ${duration(milliseconds)}`);
  }

  get isEmpty() {
    return this.peers.length === 0;
  }

  #draw(chain) {
    const hops = chain.slice(0, 1000);
    const parts = hops.map((hop) => this.#part(hop));
    this.bar.replaceChildren(...parts);
    const peers = new Set(hops.map((hop) => hop.peer)).size;
    this.line.textContent = `Carried by ${peers} ${peers === 1 ? "peer" : "peers"}`;
    this.table.replaceChildren(...hops.flatMap((hop) => this.#row(hop)));
  }

  #hue(peer) {
    if (!this.peers.includes(peer)) this.peers.push(peer);
    return `hue-${this.peers.indexOf(peer) % HUES}`;
  }

  #part(hop) {
    const [start, end] = String(hop.blocks).split(":").map(Number);
    const part = element("span", { class: this.#hue(hop.peer) });
    part.style.flexGrow = String(end > start ? end - start : 1);
    return part;
  }

  #row(hop) {
    const dot = element("span", { class: `dot ${this.#hue(hop.peer)}`, "aria-hidden": "true" });
    const name = element("dt", {}, dot, `blocks ${plain(hop.blocks, 20)}`);
    const peer = element("bdi", { title: plain(hop.peer) }, plain(hop.peer, 64));
    return [name, element("dd", {}, peer)];
  }
}
