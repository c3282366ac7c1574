// @ts-check
/** The element <switchboard-chat>: a conversation, what shows it, and the page around both. */

import { Conversation } from "./conversation.js";
import { stringsFor } from "./strings.js";
import sheet, { FULL_SCREEN } from "./style.js";
import { View } from "./view.js";
import { plain } from "./wire.js";

const TAG = "switchboard-chat";
const page = /** @type {any} */ (window);

class SwitchboardChat extends HTMLElement {
  static observedAttributes = ["open", "title", "lang", "src", "wire", "page"];

  #shadow = this.attachShadow({ mode: "open" });
  #listening = new AbortController();
  #talk = /** @type {Conversation | undefined} */ (undefined);
  #view = /** @type {View | undefined} */ (undefined);
  #words = {};
  #unread = 0;
  #turn = 0; // of looking for words

  constructor() {
    super();
    this.#shadow.adoptedStyleSheets = [sheet];
    if (Object.hasOwn(this, "strings")) {
      // They were set before this class was known, and hide the accessor.
      const { strings } = this;
      delete (/** @type {any} */ (this).strings);
      this.strings = strings;
    }
  }

  connectedCallback() {
    this.#listening = new AbortController();
    this.#listen(this.#listening.signal);
    this.#begin();
    takeCalls();
    queueMicrotask(() => this.#tell("ready"));
  }

  disconnectedCallback() {
    this.#listening.abort();
    this.#end();
  }

  attributeChangedCallback(name, before, now) {
    if (!this.#talk || before === now) return;
    if (name === "src" || name === "wire") {
      this.#begin();
    } else if (name !== "open") {
      this.#speak();
    } else {
      this.#show();
      this.#tell(now === null ? "close" : "open");
    }
  }

  /** Words to say in place of our own. */
  get strings() {
    return this.#words;
  }

  set strings(words) {
    this.#words = words;
    this.#speak();
  }

  /** How many messages of the bot have not been seen. */
  get unread() {
    return this.#unread;
  }

  open() {
    this.toggleAttribute("open", true);
  }

  close() {
    this.toggleAttribute("open", false);
  }

  toggle() {
    this.toggleAttribute("open");
  }

  /** Say something on behalf of the user. @param {string} [text] @param {unknown} [payload] */
  send(text, payload) {
    this.#talk?.say(text, payload);
  }

  /** Forget the conversation, and begin a new one. */
  reset() {
    this.#talk?.reset();
    this.#show();
  }

  #begin() {
    this.#end();
    // By default, the switchboard that the widget came from.
    const url = new URL(this.getAttribute("src") ?? new URL("/", import.meta.url), document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    this.#talk = new Conversation(url.href, this.#watcher(), window, this.getAttribute("wire") === "classic");
    if (this.#talk.begun || url.searchParams.get("session")) this.#talk.start();
    this.#speak();
  }

  #end() {
    this.#talk?.stop();
    this.#talk = undefined;
  }

  /** Find the words, and show everything in them; what is being written stays. */
  async #speak() {
    const turn = (this.#turn += 1);
    const tags = [this.lang, this.closest("[lang]")?.getAttribute("lang") ?? "", ...navigator.languages];
    const strings = await stringsFor(tags);
    if (turn !== this.#turn || !this.#talk) return;
    const part = this.#shadow.activeElement?.getAttribute("part");
    const written = this.#view?.input.value ?? "";
    const view = (this.#view = new View(this, this.#talk, { ...strings, ...this.#words }));
    view.input.value = written;
    view.root.lang = strings.lang;
    this.#shadow.replaceChildren(view.root);
    this.#show();
    view.line();
    if (part) /** @type {any} */ (view.root.querySelector(`[part="${part}"]`))?.focus();
  }

  #show() {
    this.#view?.show();
    if (this.#view?.isOpen) this.#talk?.start();
    this.#changed();
  }

  /** @returns {Watcher} */
  #watcher() {
    return {
      changed: () => this.#changed(),
      state: () => this.#view?.line(),
      arrived: (entry) => {
        this.#view?.arrived(entry);
        this.#tell("message", { data: plain(entry.data) });
      },
      failed: () => this.#view?.failed(),
      typing: (typing) => this.#view?.typing.toggleAttribute("hidden", !typing),
      event: (name, payload) => this.#tell("event", { name, payload }),
      error: (code, detail) => this.#tell("error", { code, detail }),
    };
  }

  #changed() {
    const [talk, view] = [this.#talk, this.#view];
    if (!talk || !view) return;
    if (view.isOpen && document.visibilityState === "visible" && talk.unread) {
      talk.see(); // which changes something again
      return;
    }
    view.draw();
    if (talk.unread === this.#unread) return;
    this.#unread = talk.unread;
    this.#tell("unread", { count: this.#unread });
  }

  #listen(signal) {
    const on = (target, name, call) => target.addEventListener(name, call, { signal });
    const back = () => {
      if (document.visibilityState === "hidden") return;
      if (this.#talk?.state !== "stopped") this.#talk?.start();
      this.#changed();
    };
    on(window, "online", back);
    on(window, "pageshow", back);
    on(document, "visibilitychange", back);
    on(matchMedia(FULL_SCREEN), "change", () => this.#show());
    for (const name of ["resize", "scroll"]) on(visualViewport, name, () => this.#view?.fit(page.visualViewport));
  }

  #tell(name, detail = {}) {
    this.dispatchEvent(new CustomEvent(`switchboard:${name}`, { detail, bubbles: true, composed: true }));
  }
}

/** Make the calls that the page has put into `window.switchboard`, and those that it will put there. */
function takeCalls() {
  const make = ([name, ...rest]) => page.document.querySelector(TAG)?.[name]?.(...rest);
  const early = (page.switchboard ??= []);
  if (!Array.isArray(early)) return;
  page.switchboard = { push: (...calls) => calls.forEach(make) };
  early.forEach(make);
}

if (!customElements.get(TAG)) customElements.define(TAG, SwitchboardChat);
