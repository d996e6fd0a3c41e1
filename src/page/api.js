// Requests to the server that gave this page: the key, errors as exceptions, server-sent events.

import { byId } from "./dom.js";

const KEY = "cllm.key";
let asking = null;

/** Asks the user for a key; one dialog however many requests need it. */
function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key");
    byId("key-input").value = "";
    dialog.addEventListener("close", () => {
      const key = byId("key-input").value.trim();
      if (key) sessionStorage.setItem(KEY, key);
      asking = null;
      resolve(key !== "");
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** A response with a good status. Asks for a key where the server wants one, and throws what the server says. */
export async function request(path, { body, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    const method = body ? "POST" : "GET";
    const response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
    if (response.ok) return response;
    // Another request may have got a new key meanwhile: try that one first.
    if (response.status === 401) {
      if (sessionStorage.getItem(KEY) !== key || (await askForKey())) continue;
    }
    throw new Error(await messageOf(response));
  }
}

async function messageOf(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return error.message ?? error;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

/** The JSON events of a stream. */
export async function* events(path, options) {
  const response = await request(path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (unread + value).split("\n\n");
    unread = parts.pop();
    for (const part of parts) {
      const data = part.startsWith("data: ") ? part.slice(6) : "";
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}
