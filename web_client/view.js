// @ts-check
/** What a visitor sees: the launcher, and the panel with the conversation and its composer. */

import { bubble, button, element, icon, spoken, unseen } from "./bubbles.js";
import { FULL_SCREEN } from "./style.js";

const PATIENCE = 500; // ms without a line before that is shown
const READ_OUT = 2_000; // ms that an announcement stays
const NEAR = 60; // px from its end, where the log follows what comes

export class View {
  #chat;
  #talk;
  #strings;
  #bubbles = new Map(); // by key: what of it is drawn, and its node
  #patience = 0;
  #silence = 0;
  #warned = false;

  /** @param {HTMLElement & Chat} chat @param {import("./conversation.js").Conversation} talk @param {Strings} strings */
  constructor(chat, talk, strings) {
    this.#chat = chat;
    this.#talk = talk;
    this.#strings = strings;
    const page = this.isPage;
    this.badge = element("span", { part: "badge", "aria-hidden": "true" });
    this.launcher = button("launcher", { hidden: page, click: () => this.#launch() }, icon("chat"), this.badge);
    this.title = element(page ? "h1" : "h2", { part: "title" });
    this.banner = element("p", { part: "banner", hidden: true });
    this.list = element("ol");
    this.empty = element("p", { part: "empty" }, strings.empty);
    // A log would be read out by itself, all of it when it is restored: announcements are made apart.
    const log = { part: "log", role: "log", tabindex: 0, "aria-label": strings.log, "aria-live": "off" };
    this.log = element("div", log, this.list, this.empty);
    const dots = [element("i"), element("i"), element("i")];
    this.typing = element("div", { part: "typing", hidden: true }, unseen(strings.typing), ...dots);
    this.undo = button("undo", { click: () => this.#undo() }, strings.undo);
    const input = { part: "input", rows: 1, dir: "auto", "aria-label": strings.message, placeholder: strings.message };
    this.input = element("textarea", { ...input, enterkeyhint: "send", keydown: (event) => this.#typed(event) });
    this.panel = element(
      "section",
      { part: "panel", role: page ? "region" : "dialog", tabindex: -1, keydown: (event) => this.#key(event) },
      element(
        "div",
        { part: "header" },
        this.title,
        button("close", { "aria-label": strings.close, hidden: page, click: () => chat.close() }, icon("close")),
      ),
      this.banner,
      this.log,
      this.typing,
      this.undo,
      element("div", { part: "composer" }, this.input, button("send", { click: () => this.#submit() }, strings.send)),
    );
    this.live = element("div", { class: "unseen", role: "status" });
    // Its empty title keeps the element's own from showing as a tooltip wherever the pointer rests.
    this.root = element("div", { part: "root", title: "" }, this.launcher, this.panel, this.live);
  }

  get isPage() {
    return this.#chat.hasAttribute("page");
  }

  get isOpen() {
    return this.isPage || this.#chat.hasAttribute("open");
  }

  get #isModal() {
    return !this.isPage && matchMedia(FULL_SCREEN).matches;
  }

  /** Show the panel, or the launcher alone. */
  show() {
    const { isOpen, isPage } = this;
    const left = !isOpen && this.panel.matches(":focus-within");
    this.title.textContent = this.panel.ariaLabel = this.#chat.title || this.#strings.title;
    this.panel.ariaModal = this.#isModal ? "true" : null;
    this.panel.hidden = !isOpen;
    this.launcher.ariaExpanded = String(isOpen);
    const { classList } = this.root;
    classList.toggle("open", isOpen);
    classList.toggle("page", isPage);
    classList.toggle("full", isPage || this.#isModal);
    if (left) this.launcher.focus();
    this.draw();
    this.#toEnd();
  }

  /** Show what was said. */
  draw() {
    const { entries, unread, lastAnswer } = this.#talk;
    const follow = this.#isAtEnd;
    const shown = new Map(entries.map((entry) => [entry.key, this.#bubble(entry)]));
    for (const [key, { node }] of this.#bubbles) {
      if (shown.get(key)?.node === node) continue;
      this.#unfocus(node);
      node.remove();
    }
    let next = this.list.firstChild;
    for (const { node } of shown.values()) {
      if (node === next) next = node.nextSibling;
      else this.list.insertBefore(node, next);
    }
    this.#bubbles = shown;
    this.empty.hidden = entries.length > 0;
    if (!lastAnswer) this.#unfocus(this.undo);
    this.undo.hidden = !lastAnswer;
    if (follow) this.#toEnd();
    const { open, close, unread: one, unreads } = this.#strings;
    this.badge.hidden = !unread;
    this.badge.textContent = String(unread);
    this.launcher.ariaLabel = this.isOpen ? close : unread ? `${open}, ${unread} ${unread > 1 ? unreads : one}` : open;
  }

  /** Tell of a line that is not there, unless it is back soon. */
  line() {
    const { state } = this.#talk;
    if (state !== "open" && state !== "stopped") {
      // From the first sign on, however many tries to come back fail meanwhile.
      if (this.#warned) this.#warn();
      else this.#patience ||= setTimeout(() => this.#warn(), PATIENCE);
      return;
    }
    clearTimeout(this.#patience);
    this.#patience = 0;
    if (this.#warned && state === "open") this.announce(this.#strings.back);
    this.#warned = false;
    this.banner.hidden = true;
  }

  /** Have a new message read out, where it can be seen. @param {Entry} entry */
  arrived(entry) {
    if (this.isOpen) this.announce(spoken(entry, this.#strings));
  }

  failed() {
    this.announce(this.#strings.failed);
  }

  /** Have something read out, once. @param {string} text */
  announce(text) {
    this.live.append(element("p", {}, text));
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.live.replaceChildren(), READ_OUT);
  }

  /** Leave room for a keyboard on the screen. @param {VisualViewport} viewport */
  fit({ height, offsetTop, scale }) {
    if (scale > 1) return; // somebody looks closer
    const follow = this.#isAtEnd;
    this.root.style.setProperty("--view-height", `${height}px`);
    this.root.style.setProperty("--view-top", `${offsetTop}px`);
    if (follow) this.#toEnd();
  }

  #warn() {
    const text = this.#strings[this.#talk.state === "replaced" ? "replaced" : "waiting"];
    this.banner.textContent = text;
    this.banner.hidden = false;
    if (!this.#warned) this.announce(text);
    this.#warned = true;
  }

  #bubble(entry) {
    const drawn = [entry.state, entry.undone, entry.used].join();
    const known = this.#bubbles.get(entry.key);
    return known?.drawn === drawn ? known : { drawn, node: bubble(entry, this.#strings, this.#talk) };
  }

  /** Something goes, and would take the focus with it: the conversation is the nearest place that stays. */
  #unfocus(node) {
    if (node.matches(":focus-within")) this.log.focus({ preventScroll: true });
  }

  get #isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR;
  }

  #toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  #launch() {
    this.#chat.toggle();
    if (this.isOpen) (this.#isModal ? this.panel : this.input).focus();
  }

  #undo() {
    this.#talk.undo();
    this.announce(this.#strings.undone);
  }

  #key(event) {
    if (event.key === "Tab" && this.#isModal) this.#turnRound(event);
    if (event.key !== "Escape" || event.isComposing || this.isPage) return;
    event.stopPropagation();
    this.#chat.close();
  }

  /** Go from the last thing that can be focused to the first, or back: the rest of the page is covered. */
  #turnRound(event) {
    const found = this.panel.querySelectorAll("button, a, textarea, [tabindex='0']");
    /** @type {any[]} */
    const stops = [...found].filter((each) => each.getClientRects().length);
    if (event.shiftKey) stops.reverse();
    if (!stops.at(-1).matches(":focus") && !(event.shiftKey && this.panel.matches(":focus"))) return;
    event.preventDefault();
    stops[0].focus();
  }

  #typed(event) {
    const composing = event.isComposing || event.keyCode === 229; // an input method takes this Enter
    if (event.key !== "Enter" || event.shiftKey || composing) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const text = this.input.value.trim();
    if (!text) return;
    this.input.value = "";
    this.#talk.say(text);
    this.#toEnd();
  }
}
