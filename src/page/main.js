// Puts the parts together: conversations beside the chat, panels, theme, keyboard.

import { request } from "./api.js";
import * as chat from "./chat.js";
import { asMarkdown, begin, conversations, remove, save } from "./conversations.js";
import { button, byId, el } from "./dom.js";
import { watch } from "./engine.js";
import { openSettings } from "./settings.js";

const NARROW = matchMedia("(max-width: 1100px)");
let shown = null;

function show(conversation) {
  shown = conversation;
  chat.open(conversation, changed);
  drawList();
  toggle("conversations", false);
  byId("input").focus();
}

function changed() {
  save();
  drawList();
}

function drawList() {
  byId("list").replaceChildren(...conversations().map((conversation) => {
    const isShown = conversation === shown;
    const title = button(conversation.title, () => show(conversation), { class: "title", "aria-current": isShown });
    const tools = [
      button("Export", () => download(conversation), { "aria-label": `Export ${conversation.title}` }),
      button("Delete", () => drop(conversation), { "aria-label": `Delete ${conversation.title}` }),
    ];
    return el("li", {}, title, ...(isShown && conversation.messages.length > 0 ? tools : []));
  }));
}

function drop(conversation) {
  chat.stop();
  remove(conversation);
  show(conversations()[0] ?? begin());
}

function download(conversation) {
  const url = URL.createObjectURL(new Blob([asMarkdown(conversation)], { type: "text/markdown" }));
  const name = conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
  el("a", { href: url, download: `${name || "chat"}.md` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Shows or hides a panel; on narrow screens it lies over the chat. */
function toggle(id, isOpen) {
  const hadFocus = byId(id).contains(document.activeElement);
  document.body.classList.toggle(`with-${id}`, isOpen);
  byId(`show-${id}`).setAttribute("aria-expanded", document.body.classList.contains(`with-${id}`));
  if (hadFocus && !byId(id).checkVisibility()) byId(`show-${id}`).focus();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = { auto: "Theme", light: "Light", dark: "Dark" }[theme];
  localStorage.setItem("cllm.theme", theme);
}

function submit() {
  const text = byId("input").value.trim();
  if (!text) return;
  byId("input").value = "";
  grow();
  chat.send(text);
}

/** As tall as its text. */
function grow() {
  const input = byId("input");
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight + 2, 240)}px`;
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
byId("input").addEventListener("input", grow);
byId("input").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
byId("stop").addEventListener("click", chat.stop);
byId("new").addEventListener("click", () => show(begin()));
byId("show-settings").addEventListener("click", openSettings);
for (const id of ["conversations", "engine"]) byId(`show-${id}`).addEventListener("click", () => toggle(id));
byId("theme").addEventListener("click", () => {
  const next = { auto: "dark", dark: "light", light: "auto" };
  setTheme(next[document.documentElement.dataset.theme]);
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, textarea") || document.querySelector("dialog[open]");
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    chat.stop();
    if (NARROW.matches) for (const id of ["conversations", "engine"]) toggle(id, false);
  } else if (event.key === "/" && !isTyping) {
    event.preventDefault();
    byId("input").focus();
  }
});

setTheme(localStorage.getItem("cllm.theme") ?? "auto");
toggle("engine", !NARROW.matches);
show(conversations()[0] ?? begin());
watch(byId("engine"), byId("verdict"));
request("model/info")
  .then((response) => response.json())
  .then(({ data }) => {
    byId("model").textContent = data.name;
    document.title = `${data.name} - cllm`;
  })
  .catch(() => {});
