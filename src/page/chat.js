// The conversation on the screen: what is sent, and the answer as it comes.

import { events } from "./api.js";
import { save } from "./conversations.js";
import { byId, el } from "./dom.js";
import { messageView } from "./message.js";
import { sampling, systemPrompt } from "./settings.js";

let conversation = null;
/** Ends the answer under way. */
let abort = null;
let onchange = () => {};

const messages = () => byId("messages");
const isAtEnd = () => messages().scrollHeight - messages().scrollTop - messages().clientHeight < 40;
const goToEnd = () => (messages().scrollTop = messages().scrollHeight);

/** Shows `shown`. `changed` is called when its title or its messages change. */
export function open(shown, changed) {
  stop();
  conversation = shown;
  onchange = changed;
  draw();
}

function draw() {
  const views = conversation.messages.map((message) => messageView(message, actions).root);
  const welcome = el("p", { class: "welcome" }, "Ask something: the answer comes from the model on this machine.");
  const hadFocus = messages().contains(document.activeElement);
  messages().replaceChildren(...(views.length ? views : [welcome]));
  // The button that had it is gone.
  if (hadFocus && document.activeElement !== messages()) byId("input").focus();
  goToEnd();
}

const actions = {
  /** The message says `content` now, and what followed it is gone. */
  edit(message, content) {
    cutAt(message);
    send(content);
  },
  regenerate(message) {
    cutAt(message);
    answer();
  },
};

function cutAt(message) {
  stop();
  conversation.messages.length = conversation.messages.indexOf(message);
}

export function send(content) {
  stop();
  if (conversation.messages.length === 0) conversation.title = content.slice(0, 60);
  conversation.messages.push({ role: "user", content });
  answer();
}

export function stop() {
  abort?.abort();
}

function body() {
  const system = systemPrompt() ? [{ role: "system", content: systemPrompt() }] : [];
  const said = conversation.messages.filter((message) => message.role === "user" || message.content);
  const turns = said.map(({ role, content }) => ({ role, content }));
  return { messages: [...system, ...turns], stream: true, stream_options: { include_usage: true }, ...sampling() };
}

/** Asks the model to answer what the conversation holds. */
async function answer() {
  const [mine, request] = [conversation, body()];
  const message = { role: "assistant", content: "", busy: true };
  mine.messages.push(message);
  draw();
  onchange();
  const view = messageView(message, actions);
  messages().lastElementChild.replaceWith(view.root);
  const aborter = new AbortController();
  abort = aborter;
  setBusy(true);

  let drawn = 0;
  const redraw = () => {
    const follow = isAtEnd();
    drawn = 0;
    view.show();
    if (follow) goToEnd();
  };
  const started = performance.now();
  let [firstAt, usage, finish] = [0, null, null];
  try {
    for await (const event of events("v1/chat/completions", { body: request, signal: aborter.signal })) {
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices?.[0];
      if (choice?.delta?.content || choice?.delta?.reasoning_content) firstAt ||= performance.now();
      message.content += choice?.delta?.content ?? "";
      if (choice?.delta?.reasoning_content) {
        message.thoughts = (message.thoughts ?? "") + choice.delta.reasoning_content;
      }
      finish = choice?.finish_reason ?? finish;
      usage = event.usage ?? usage;
      // Many tokens may come in one frame.
      drawn ||= requestAnimationFrame(redraw);
    }
    message.note = noteOf(usage, finish, (firstAt || performance.now()) - started, performance.now() - started);
  } catch (error) {
    if (aborter.signal.aborted) message.note = "stopped";
    else message.error = error.message;
  }
  cancelAnimationFrame(drawn);
  delete message.busy;
  redraw();
  save();
  if (abort === aborter) {
    abort = null;
    setBusy(false);
  }
}

/** Times as seen from here, the way there and back included. */
function noteOf(usage, finish, firstMs, allMs) {
  if (!usage) return "";
  const tokens = usage.completion_tokens;
  const rate = Math.round((tokens / Math.max(allMs, 1)) * 1000);
  const cut = finish === "length" ? ", cut at the limit" : "";
  return `${tokens} tokens in ${(allMs / 1000).toFixed(2)} s (${rate}/s), first after ${Math.round(firstMs)} ms${cut}`;
}

function setBusy(busy) {
  const [send, stop] = [byId("send"), byId("stop")];
  const hadFocus = [send, stop].includes(document.activeElement);
  stop.hidden = !busy;
  send.hidden = busy;
  if (hadFocus) (busy ? stop : byId("input")).focus();
}
