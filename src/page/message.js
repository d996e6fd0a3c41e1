// One message on the screen.

import { button, el } from "./dom.js";
import { markdown } from "./markdown.js";

/** `actions`: `{ edit(message, text), regenerate(message) }`. Its `show()` draws the message as it now is. */
export function messageView(message, actions) {
  const isUser = message.role === "user";
  const body = el("div", { class: "body" });
  const foot = el("footer");
  const root = el("article", { class: message.role, "aria-label": isUser ? "You" : "Model" }, body, foot);

  const show = () => {
    const parts = isUser ? [el("p", { class: "typed" }, message.content)] : [markdown(message.content)];
    if (message.thoughts) {
      const isOpen = body.querySelector("details")?.open ?? false;
      parts.unshift(el("details", { open: isOpen }, el("summary", {}, "Thoughts"), markdown(message.thoughts)));
    }
    if (message.busy && !message.content && !message.thoughts) {
      parts.push(el("p", { class: "waiting", "aria-label": "Waiting for the first token" }, "…"));
    }
    if (message.error) parts.push(el("p", { class: "error", role: "alert" }, message.error));
    body.replaceChildren(...parts);
    root.classList.toggle("busy", message.busy === true);
    const again = isUser
      ? button("Edit", edit)
      : button("Regenerate", () => actions.regenerate(message));
    foot.replaceChildren(...(message.busy ? [] : [again, button("Copy", copy), el("small", {}, message.note ?? "")]));
  };

  const copy = () => navigator.clipboard?.writeText(message.content);

  const edit = () => {
    const input = el("textarea", { value: message.content, rows: 3, "aria-label": "Edit the message" });
    const cancel = () => {
      show();
      foot.querySelector("button").focus();
    };
    const keep = () => (input.value.trim() ? actions.edit(message, input.value.trim()) : cancel());
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") cancel();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        keep();
      }
    });
    body.replaceChildren(input);
    foot.replaceChildren(button("Send again", keep, { class: "primary" }), button("Cancel", cancel));
    input.focus();
  };

  show();
  return { root, show };
}
