// Keeps the page as it is on the server: asks every few seconds which parts have changed, and
// replaces those, unless somebody is selecting text in them. Reads only.
"use strict";

const PERIOD_MS = 5000;
const LIMIT_MS = 15000;
const live = document.getElementById("live");
let said = "";

function say(state, text) {
  // A screen reader speaks what changes here, so the same words are not written twice.
  live.dataset.state = state;
  if (text !== said) {
    said = text;
    live.textContent = text;
  }
}

function showButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}

// What a part forgets when it is replaced: where its boxes are scrolled to, what is open, who has the focus.
function remember(part) {
  const boxes = [...part.querySelectorAll(".scroll[id]")].map((box) => [box.id, box.scrollLeft, box.scrollTop]);
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  return { boxes, open, focused };
}

function restore(state) {
  for (const id of state.open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, left, top] of state.boxes) document.getElementById(id)?.scrollTo(left, top);
  if (state.focused) document.getElementById(state.focused)?.focus({ preventScroll: true });
}

function isSelectedIn(part) {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(LIMIT_MS) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

async function refresh() {
  const versions = await (await ask("/versions")).json();
  for (const part of document.querySelectorAll("[data-part]")) {
    const version = versions[part.dataset.part];
    if (version === undefined || version === part.dataset.version || isSelectedIn(part)) continue;
    const html = await (await ask(`/parts/${part.dataset.part}`)).text();
    const state = remember(part);
    // Markup of our own server, where every stranger's text was escaped; the page's policy runs no script of it.
    part.innerHTML = html;
    part.dataset.version = version;
    showButtons();
    restore(state);
  }
  say("live", "Live.");
}

async function follow() {
  if (!document.hidden) {
    try {
      await refresh();
    } catch {
      say("lost", "Connection lost, trying again …");
    }
  }
  setTimeout(follow, PERIOD_MS);
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  let done = false;
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    done = true;
  } catch {
    // Without a secure connection there is no clipboard to write to: selected text can be copied.
    const selection = document.getSelection();
    selection.selectAllChildren(source);
    done = document.execCommand("copy");
    if (done) selection.removeAllRanges();
  }
  const label = button.firstChild;
  label.textContent = done ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (label.textContent = "Copy"), 2500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (button) copy(button);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh().catch(() => say("lost", "Connection lost, trying again …"));
});
showButtons();
follow();
