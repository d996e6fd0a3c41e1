// What the browser keeps: conversations, newest first. Nothing here leaves it.

const STORE = "cllm.conversations";

/** `[{ id, title, messages: [{ role, content, ... }] }]` */
let all = read();

function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE));
    return Array.isArray(stored) ? stored : [];
  } catch {
    return [];
  }
}

export const conversations = () => all;

/** Those that hold a message, and as many as the browser has room for: the oldest go first. */
export function save() {
  const worth = all.filter((conversation) => conversation.messages.length > 0);
  while (worth.length > 0) {
    try {
      return localStorage.setItem(STORE, JSON.stringify(worth));
    } catch {
      all = all.filter((conversation) => conversation !== worth.at(-1));
      worth.pop();
    }
  }
  localStorage.removeItem(STORE);
}

/** An empty one, in front. An empty one that is there already will do. */
export function begin() {
  const empty = all.find((conversation) => conversation.messages.length === 0);
  if (empty) return empty;
  const bytes = crypto.getRandomValues(new Uint32Array(2));
  const conversation = { id: `c${bytes.join("")}`, title: "New chat", messages: [] };
  all.unshift(conversation);
  return conversation;
}

export function remove(conversation) {
  all = all.filter((other) => other !== conversation);
  save();
}

/** As people read it. */
export function asMarkdown(conversation) {
  const turns = conversation.messages.map(({ role, content }) => `## ${role}\n\n${content}\n`);
  return [`# ${conversation.title}\n`, ...turns].join("\n");
}
