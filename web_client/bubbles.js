// @ts-check
/** What a frame looks like, as DOM nodes. Nothing received is ever parsed as markup. */

/** @typedef {Record<string, unknown>} Frame what a bot posted; every field may be missing or odd */
/** @typedef {(label: string, payload: unknown) => boolean} Answer false: not taken, ask again */

const WORDS = {
  answers: "Answers",
  image: "Image",
  broken: "This image cannot be shown.",
};

const PAGE_SCHEMES = ["http:", "https:"];
const LINK_SCHEMES = [...PAGE_SCHEMES, "mailto:", "tel:"];
// The last character is no punctuation: "see https://example.com/a, or …" links without the comma.
const WEB_ADDRESS = /\bhttps?:\/\/[^\s<>"]*[^\s<>"'.,;:!?\]}*_…’”»]/gi;

/**
 * The buttons of a frame as one group. An answer switches the group's answers off; its links stay.
 *
 * @param {unknown} buttons
 * @param {Answer} answer
 * @returns {HTMLElement[]} nothing if there is nothing to choose
 */
export function choices(buttons, answer) {
  const group = element("div", "choices");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", WORDS.answers);
  for (const button of Array.isArray(buttons) ? buttons.filter(isFrame) : []) {
    if (button.type === "url") group.append(urlChoice(button));
    if (button.type === "payload" && text(button.text)) group.append(payloadChoice(button, answer));
  }
  return group.hasChildNodes() ? [group] : [];
}

/**
 * @param {Frame} button
 * @param {Answer} answer
 */
function payloadChoice(button, answer) {
  const label = text(button.text);
  const choice = element("button", "choice", label);
  choice.type = "button";
  choice.dir = "auto";
  choice.addEventListener("click", () => {
    if (choice.hasAttribute("aria-disabled") || !answer(label, button.payload)) return;
    choice.classList.add("chosen");
    // Not `disabled`: that would drop the focus of whoever pressed it with a key.
    const group = choice.parentElement?.querySelectorAll("button") ?? [];
    for (const other of group) other.setAttribute("aria-disabled", "true");
  });
  return choice;
}

/** @param {Frame} button */
function urlChoice(button) {
  const label = text(button.text) || text(button.name) || text(button.url);
  const href = safeUrl(button.url, LINK_SCHEMES);
  const choice = href ? link(href, label) : element("span", "", label);
  choice.classList.add("choice");
  choice.dir = "auto";
  return choice;
}

/**
 * @param {unknown} source
 * @param {string} caption
 */
export function picture(source, caption) {
  const broken = element("p", "picture", WORDS.broken);
  const href = safeUrl(source, PAGE_SCHEMES);
  if (!href) return broken;
  const image = element("img", "picture");
  image.alt = caption || WORDS.image;
  image.loading = "lazy";
  image.referrerPolicy = "no-referrer";
  image.addEventListener("error", () => image.replaceWith(broken));
  image.src = href;
  return image;
}

/** @param {string} body */
export function bubble(body) {
  const words = element("p", "", ...linked(body));
  words.dir = "auto"; // not on the bubble, whose shape follows the page
  return element("div", "bubble", words);
}

/** @param {string} body */
export function note(body) {
  const words = element("span", "", ...linked(body));
  words.dir = "auto";
  return element("li", "note", words);
}

/**
 * Split *body* into text and links to the web addresses in it.
 *
 * @param {string} body
 */
function linked(body) {
  /** @type {(string | HTMLElement)[]} */
  const nodes = [];
  let end = 0;
  for (const { 0: match, index } of body.matchAll(WEB_ADDRESS)) {
    // "(https://example.com/)" is in brackets; "https://example.com/a_(b)" ends with one.
    const address = match.includes("(") ? match : match.replace(/\).*$/, "");
    const href = safeUrl(address, PAGE_SCHEMES);
    if (!href) continue;
    nodes.push(body.slice(end, index), link(href, address));
    end = index + address.length;
  }
  return [...nodes, body.slice(end)];
}

/**
 * @param {string} href one that `safeUrl` let through
 * @param {string} label
 */
function link(href, label) {
  const anchor = element("a", "", label);
  anchor.href = href;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer";
  return anchor;
}

/**
 * @param {unknown} value
 * @param {string[]} schemes
 * @returns {string | null} the absolute address, null if it is none or of another scheme
 */
function safeUrl(value, schemes) {
  try {
    const url = new URL(text(value));
    return schemes.includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * @param {unknown} value
 * @returns {value is Frame}
 */
export function isFrame(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {unknown} value */
export function text(value) {
  return typeof value === "string" ? value : "";
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {...(string | Node)} children strings become text, never markup
 */
export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}
