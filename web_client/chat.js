// @ts-check
/** The chat page: shows what the bot says, sends what the user answers. */

import { bubble, choices, element, isFrame, note, picture, text } from "./bubbles.js";
import { CLOSE_REPLACED, Connection, sessionId } from "./connection.js";

/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./bubbles.js").Frame} Frame */
/** @typedef {import("./bubbles.js").Answer} Answer */

const WORDS = {
  connecting: "Connecting…",
  open: "Connected",
  reconnecting: "Reconnecting…",
  replaced: "This conversation continues in another window.",
  refused: "The server refused this connection.",
  reconnectHere: "Reconnect here",
  tryAgain: "Try again",
  waiting: "waiting…",
  full: "Not sent: too many messages are waiting for the connection.",
  undo: "You asked to undo your last answer.",
  error: "The server did not understand the last message.",
};

const ROLLBACK = { message: "Rollback Request", payload: { type: "rollback", rollback_count: 1 } };

const NEAR_END = 40; // px; who is this near to the newest message wants to see the next one

/** The log of the conversation. */
class Conversation {
  #log;
  #list;
  #atEnd = true;

  /**
   * @param {HTMLElement} log the part that scrolls
   * @param {HTMLElement} list
   */
  constructor(log, list) {
    this.#log = log;
    this.#list = list;
    log.addEventListener("scroll", () => {
      this.#atEnd = log.scrollHeight - log.clientHeight - log.scrollTop < NEAR_END;
    });
    // The keyboard of a phone, or a growing composer, must not cover the newest message.
    new ResizeObserver(() => this.#follow()).observe(log);
  }

  /**
   * Show the user's own words.
   *
   * @param {string} words
   * @returns {() => void} call it when they are sent
   */
  said(words) {
    const item = element("li", "", bubble(words));
    item.dataset.from = "user";
    this.#atEnd = true;
    return this.#waiting(item);
  }

  /**
   * Show a quiet line about a request of the user.
   *
   * @param {string} words
   * @returns {() => void} call it when the request is sent
   */
  asked(words) {
    this.#atEnd = true;
    return this.#waiting(note(words));
  }

  /** @param {string} words */
  remark(words) {
    if (words) this.#add(note(words));
  }

  /**
   * Show what came over the wire, each kind in its own way and an unknown kind by its text.
   *
   * @param {Frame} frame
   * @param {Answer} answer
   */
  show(frame, answer) {
    const body = text(frame.body);
    if (frame.type === "event") this.remark(body);
    else if (frame.type === "error") this.remark(body || WORDS.error);
    else this.#replied(frame, body, answer);
  }

  /**
   * @param {Frame} frame
   * @param {string} body
   * @param {Answer} answer
   */
  #replied(frame, body, answer) {
    const item = element("li", "");
    item.dataset.from = "bot";
    if (frame.type === "image") item.append(picture(frame.media_url, body));
    if (body) item.append(bubble(body));
    if (frame.type === "button") item.append(...choices(frame.buttons, answer));
    if (item.hasChildNodes()) this.#add(item);
  }

  /** @param {HTMLElement} item */
  #waiting(item) {
    const state = element("span", "state", WORDS.waiting);
    item.append(state);
    this.#add(item);
    return () => state.remove();
  }

  /** @param {HTMLElement} item */
  #add(item) {
    this.#list.append(item);
    this.#follow();
  }

  #follow() {
    if (this.#atEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }
}

/** The banner that tells how the connection is. */
class Banner {
  #status;
  #again;

  /**
   * @param {HTMLElement} status
   * @param {HTMLButtonElement} again
   */
  constructor(status, again) {
    this.#status = status;
    this.#again = again;
  }

  /**
   * @param {State} state
   * @param {number} [code] the close code, if *state* is "stopped"
   */
  show(state, code) {
    const replaced = code === CLOSE_REPLACED;
    const stopped = state === "stopped";
    this.#status.dataset.state = state;
    this.#status.textContent = stopped ? WORDS[replaced ? "replaced" : "refused"] : WORDS[state];
    this.#again.textContent = WORDS[replaced ? "reconnectHere" : "tryAgain"];
    this.#again.hidden = !stopped;
  }
}

/** The page: its parts, and the connection they share. */
class Chat {
  #conversation = new Conversation(part("log", HTMLElement), part("messages", HTMLElement));
  #form = part("composer", HTMLFormElement);
  #message = part("message", HTMLTextAreaElement);
  #undo = part("undo", HTMLButtonElement);
  #again = part("again", HTMLButtonElement);
  #connection;

  /** @param {string} url */
  constructor(url) {
    const banner = new Banner(part("status", HTMLElement), this.#again);
    this.#connection = new Connection(url, {
      onState: (state, code) => banner.show(state, code),
      onFrame: (data) => this.#receive(data),
    });
  }

  start() {
    this.#listen();
    this.#connection.start();
  }

  #listen() {
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#message.addEventListener("keydown", (event) => this.#key(event));
    // A press on Send must neither take the focus nor close the keyboard of a phone.
    part("send", HTMLButtonElement).addEventListener("mousedown", (event) => event.preventDefault());
    this.#undo.addEventListener("click", () => this.#rollback());
    this.#again.addEventListener("click", () => this.#connection.start());
    addEventListener("online", () => this.#connection.wake());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#connection.wake();
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // The Enter that picks a word in an input method is not one that sends; Safari ends the
    // composition before it reports that key, and marks it with 229 only.
    const composing = event.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || composing) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    const words = this.#message.value;
    if (words.trim() && this.#say(words)) this.#message.value = "";
  }

  /**
   * @param {string} message
   * @param {unknown} [payload] left out of the frame if undefined
   */
  #say(message, payload) {
    if (!this.#hasRoom()) return false;
    this.#connection.send({ message, payload }, this.#conversation.said(message));
    this.#undo.hidden = false;
    return true;
  }

  #rollback() {
    if (this.#hasRoom()) this.#connection.send(ROLLBACK, this.#conversation.asked(WORDS.undo));
  }

  #hasRoom() {
    if (this.#connection.full) this.#conversation.remark(WORDS.full);
    return !this.#connection.full;
  }

  /** @param {unknown} data */
  #receive(data) {
    const frame = parsed(data);
    if (frame) this.#conversation.show(frame, (label, payload) => this.#say(label, payload));
  }
}

/** @param {unknown} data */
function parsed(data) {
  try {
    const frame = JSON.parse(text(data));
    return isFrame(frame) ? frame : null;
  } catch {
    return null;
  }
}

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 */
function part(id, type) {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`The page has no ${type.name} #${id}`);
}

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
new Chat(`${scheme}//${location.host}/?session=${sessionId()}`).start();
