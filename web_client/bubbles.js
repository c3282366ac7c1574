// @ts-check
/** What was said, drawn without a word of HTML, so that nothing received is ever parsed as such. */

const LINK = /\b(?:https?:\/\/|mailto:)[^\s<>"]+/gi;
const TAIL = /[.,;:!?'’”»)\]}]+$/; // of the sentence, not of the link
const WEB = /^https?:$/;
const SVG = "http://www.w3.org/2000/svg";
const LINES = {
  chat: "M4 5h16v11H10l-5 4v-4H4z",
  close: "M6 6l12 12M18 6L6 18",
  sending: "M12 3a9 9 0 1 1-9 9M12 7v5l3 2",
  sent: "M5 13l4 4L19 7",
  failed: "M12 3l10 18H2zM12 10v5M12 18v.5",
};

/** Make an element; `part` is its class, too, and functions are listeners. @type {MakeElement} */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  if (attributes.part) made.classList.add(...attributes.part.split(" "));
  made.append(...children);
  return made;
}

/** @type {(part: string, attributes: object, ...children: (Node | string)[]) => HTMLButtonElement} */
export const button = (part, attributes, ...children) => element("button", { type: "button", part, ...attributes }, ...children);

/** Words for those who don't see. */
export const unseen = (words) => element("span", { class: "unseen" }, words);

/** @param {keyof typeof LINES} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.ariaHidden = "true";
  path.setAttribute("d", LINES[name]);
  svg.append(path);
  return svg;
}

/** @param {Entry} entry @param {Strings} strings @param {import("./conversation.js").Conversation} talk */
export function bubble(entry, strings, talk) {
  const { from, text, undone } = entry;
  if (from === "note") return element("li", { part: "note" }, strings.lost);
  const ours = from === "user";
  const said = ours ? fromUser(entry, strings, talk) : fromBot(entry, strings, talk);
  const content = undone ? [element("s", {}, ...said), unseen(strings.undone)] : said;
  // A payload alone is no words of the user's.
  const hidden = ours && text == null && entry.state === "sent";
  return element("li", { class: from, hidden }, unseen(`${ours ? strings.you : strings.bot}: `), ...content);
}

/** What is read out of a new message. @param {Entry} entry @param {Strings} strings */
export const spoken = ({ data }, strings) =>
  [isImage(data) && strings.image, textOf(data), ...buttonsOf(data).map(({ text }) => text)].filter(Boolean).join(". ");

const isImage = (data) => data?.type === "image";

const textOf = (data) => String(data?.body ?? "");

const buttonsOf = (data) =>
  data?.type === "button" && Array.isArray(data.buttons) ? data.buttons.filter((each) => each?.text) : [];

function fromUser(entry, strings, talk) {
  const { text = "", state = "sent", payload } = entry;
  const failed = state === "old" || state === "failed";
  const undoing = payload?.type === "rollback";
  const shown = undoing ? element("div", { part: "note" }, strings.undone) : saying(text, "user-bubble");
  if (undoing && !failed) return [shown];
  const name = failed ? "failed" : state;
  const word = element("span", { part: `state ${name}` }, icon(name), strings[name]);
  if (!failed) return [shown, word];
  return [shown, word, button("retry", { click: () => talk.retry(entry) }, strings.retry)];
}

function fromBot(entry, strings, talk) {
  const { data, used, undone } = entry;
  const text = textOf(data);
  if (data?.type === "event") return [element("div", { part: "note", dir: "auto" }, text)];
  const said = isImage(data) ? [picture(data.media_url, text, strings)] : [];
  // An image's words are its alternative text as well: they are not read out twice.
  if (text) said.push(saying(text, "bot-bubble", isImage(data)));
  const buttons = buttonsOf(data).map((each) =>
    each.type === "url" ? link(each, strings) : option(each, used || undone, () => talk.press(entry, each)),
  );
  if (buttons.length) said.push(element("div", { part: "buttons", role: "group", "aria-label": text || strings.bot }, ...buttons));
  return said;
}

const saying = (text, part, mute) =>
  element("div", { part: `bubble ${part}`, dir: "auto", "aria-hidden": mute && "true" }, ...linked(text));

const option = ({ text }, used, press) =>
  used ? element("span", { part: "button used", dir: "auto" }, text) : button("button", { dir: "auto", click: press }, text);

function link({ text, url }, strings) {
  const href = safe(url, WEB);
  if (!href) return option({ text }, true, () => {});
  return element("a", { part: "button", dir: "auto", ...target(href) }, text, unseen(` (${strings.newTab})`));
}

function picture(url, text, strings) {
  const src = safe(url, WEB);
  const frame = element("div", { part: "image" });
  const broken = () => frame.replaceChildren(element("p", {}, strings.broken, unseen(` ${text}`)));
  const image = { src, alt: text || strings.image, loading: "lazy", referrerpolicy: "no-referrer", error: broken };
  if (src) frame.append(element("img", image));
  else broken();
  return frame;
}

/** Return *text* with its addresses as links. */
function linked(text) {
  const pieces = [];
  let done = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const address = found.replace(TAIL, "");
    const href = safe(address, /^(?:https?|mailto):$/);
    if (!href) continue;
    pieces.push(text.slice(done, index), element("a", target(href), address));
    done = index + address.length;
  }
  return [...pieces, text.slice(done)];
}

const target = (href) => ({ href, target: "_blank", rel: "noopener noreferrer" });

/** Return an address if it is one of these schemes, else "". */
function safe(address, schemes) {
  try {
    const { protocol, href } = new URL(String(address));
    return schemes.test(protocol) ? href : "";
  } catch {
    return "";
  }
}
