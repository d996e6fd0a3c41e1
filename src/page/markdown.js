// Markdown to DOM nodes, as far as answers of models use it. Text becomes text nodes and nothing else, so no text can
// bring markup along; links lead to web pages or mail only.

import { button, el } from "./dom.js";

/** A fragment that shows `text`. */
export function markdown(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0));
  return fragment;
}

/** Quotes and lists in one another, no deeper than this; what is deeper is text. */
const DEPTH_MAX = 8;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** Consumes `lines` block by block. */
function blocks(lines, depth) {
  const out = [];
  let at = 0;
  const takeWhile = (holds) => {
    const from = at;
    while (at < lines.length && holds(lines[at])) at++;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    let match;
    if (line.trim() === "") {
      at++;
    } else if ((match = FENCE.exec(line))) {
      at++;
      const [, fence, language] = match;
      const closes = (l) => l.trim().startsWith(fence) && /^[`~]+$/.test(l.trim());
      out.push(code(takeWhile((l) => !closes(l)).join("\n"), language.trim()));
      at++;
    } else if ((match = HEADING.exec(line))) {
      at++;
      out.push(el(`h${Math.min(6, match[1].length + 1)}`, {}, ...inline(match[2])));
    } else if (RULE.test(line)) {
      at++;
      out.push(el("hr"));
    } else if (depth < DEPTH_MAX && QUOTE.test(line)) {
      const quoted = takeWhile((l) => QUOTE.test(l)).map((l) => l.replace(QUOTE, ""));
      out.push(el("blockquote", {}, ...blocks(quoted, depth + 1)));
    } else if (depth < DEPTH_MAX && (match = ITEM.exec(line))) {
      out.push(list(takeWhile, match[2], depth));
    } else if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "")) {
      out.push(table(takeWhile((l) => l.includes("|"))));
    } else {
      at++;
      out.push(el("p", {}, ...inline([line, ...takeWhile((l) => !endsParagraph(l))].join("\n"))));
    }
  }
  return out;
}

const endsParagraph = (line) =>
  line.trim() === "" || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

function list(takeWhile, mark, depth) {
  const isNumbered = /\d/.test(mark);
  const ofThisList = (line) => {
    const match = ITEM.exec(line);
    return match && /\d/.test(match[2]) === isNumbered ? match : null;
  };
  const properties = isNumbered ? { start: parseInt(mark, 10) } : {};
  const items = [];
  for (;;) {
    let first = true;
    // A line, and what is indented below it or follows it without a blank line.
    const taken = takeWhile((line) => {
      const begins = first ? ofThisList(line) : null;
      const goesOn = !first && (line === "" || /^ {2,}/.test(line) || !endsParagraph(line));
      first = false;
      return begins || goesOn;
    });
    if (taken.length === 0) return el(isNumbered ? "ol" : "ul", properties, ...items);
    const head = ofThisList(taken[0])[4];
    const rest = taken.slice(1).map((line) => line.replace(/^ {2,4}/, ""));
    const body = blocks([head, ...rest], depth + 1);
    // A single line needs no paragraph of its own.
    const plain = body[0]?.tagName === "P" ? [...body[0].childNodes, ...body.slice(1)] : body;
    items.push(el("li", {}, ...plain));
  }
}

function table([head, , ...rows]) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, tag) => el("tr", {}, ...cells(line).map((cell) => el(tag, {}, ...inline(cell))));
  const body = el("tbody", {}, ...rows.map((line) => row(line, "td")));
  return el("div", { class: "wide" }, el("table", {}, el("thead", {}, row(head, "th")), body));
}

function code(text, language) {
  const copy = button("Copy", () => navigator.clipboard?.writeText(text), { "aria-label": "Copy the code" });
  return el("figure", { class: "code" },
    el("figcaption", {}, el("span", {}, language), copy),
    el("pre", { tabIndex: 0 }, el("code", {}, text)));
}

// Each alternative begins at a mark that text rarely has and ends on the same or the next few lines.
const INLINE = new RegExp([
  /(?<ticks>`+)(?<code>[^`](?:[^`]|(?!\k<ticks>)`)*?)\k<ticks>(?!`)/,
  /\*\*(?<strong>[^\s*](?:[^*]*[^\s*])?)\*\*/,
  /\*(?<em>[^\s*](?:[^*]*[^\s*])?)\*/,
  /~~(?<del>[^~]+)~~/,
  /\[(?<label>[^[\]]{1,500})\]\((?<target>[^\s()]{1,2000})\)/,
  /(?<bare>https?:\/\/[^\s<>"'`)\]]{1,2000}[^\s<>"'`)\].,;:!?])/,
  /\\(?<escaped>[\\`*_{}[\]()#+\-.!~|>])/,
].map((part) => part.source).join("|"), "g");

/** Nodes for the text of a paragraph. */
function inline(text, depth = 0) {
  const out = [];
  let from = 0;
  for (const match of depth > 3 ? [] : text.matchAll(INLINE)) {
    const { code, strong, em, del, label, target, bare, escaped } = match.groups;
    const inner = (tag, part) => el(tag, {}, ...inline(part, depth + 1));
    out.push(text.slice(from, match.index));
    if (code !== undefined) out.push(el("code", {}, code.trim() || code));
    else if (strong) out.push(inner("strong", strong));
    else if (em) out.push(inner("em", em));
    else if (del) out.push(inner("del", del));
    else if (label) out.push(link(target, inline(label, depth + 1)) ?? match[0]);
    else if (bare) out.push(link(bare, [bare]) ?? bare);
    else out.push(escaped);
    from = match.index + match[0].length;
  }
  out.push(text.slice(from));
  return out;
}

/** An anchor, or null where the target isn't a web page or mail. */
function link(target, children) {
  let url;
  try {
    url = new URL(target);
  } catch {
    return null;
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return null;
  return el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, ...children);
}
