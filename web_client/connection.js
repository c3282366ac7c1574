// @ts-check
/** One session's line to the gateway: dials, redials, keeps what waits. Knows nothing of the page. */

const SESSION_KEY = "switchboard.session";
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const DIAL_LIMIT = 10_000; // ms; browsers wait minutes for a server that does not answer
const HEALTHY = 10_000; // ms; a shorter connection does not prove that the trouble is over
const FIRST_BACK_OFF = 500; // ms
const LONGEST_BACK_OFF = 30_000; // ms
const QUEUE_LIMIT = 50; // messages

export const CLOSE_REFUSED = 1008;
export const CLOSE_REPLACED = 4003;

/** @typedef {"connecting" | "open" | "reconnecting" | "stopped"} State */
/** @typedef {(state: State, code?: number) => void} OnState the close code comes with "stopped" */
/** @typedef {(data: unknown) => void} OnFrame */

/** Keep one connection open, and deliver messages in the order they were given. */
export class Connection {
  #url;
  #onState;
  #onFrame;
  /** @type {{data: string, onSent: () => void}[]} */
  #queue = [];
  /** @type {WebSocket | undefined} */
  #socket;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  #failures = 0;

  /**
   * @param {string} url
   * @param {{onState: OnState, onFrame: OnFrame}} handlers
   */
  constructor(url, { onState, onFrame }) {
    this.#url = url;
    this.#onState = onState;
    this.#onFrame = onFrame;
  }

  /** Whether no further message can wait. */
  get full() {
    return this.#queue.length >= QUEUE_LIMIT;
  }

  /** Connect; also again after "stopped". */
  start() {
    this.#onState("connecting");
    this.#dial();
  }

  /** Try at once if a redial is due later: the network or the user came back. */
  wake() {
    if (this.#retry !== undefined) this.#dial();
  }

  /**
   * Send now, or as soon as there is a connection. The wire has no receipts, so *onSent* means
   * "handed to the network", not "read by the server".
   *
   * @param {object} message
   * @param {() => void} onSent
   */
  send(message, onSent) {
    this.#queue.push({ data: JSON.stringify(message), onSent });
    this.#flush();
  }

  #flush() {
    // A socket that is closing swallows what it is given, hence the look at every message.
    while (this.#socket?.readyState === WebSocket.OPEN) {
      const next = this.#queue.shift();
      if (!next) return;
      this.#socket.send(next.data);
      next.onSent();
    }
  }

  #dial() {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    let timer = setTimeout(() => socket.close(), DIAL_LIMIT);

    socket.addEventListener("open", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { this.#failures = 0; }, HEALTHY);
      this.#onState("open");
      this.#flush();
    });
    socket.addEventListener("message", ({ data }) => this.#onFrame(data));
    socket.addEventListener("close", ({ code }) => {
      clearTimeout(timer);
      this.#closed(code);
    });
  }

  /** @param {number} code */
  #closed(code) {
    if (code === CLOSE_REPLACED || code === CLOSE_REFUSED) {
      this.#onState("stopped", code);
      return;
    }
    // Full jitter: a thousand pages that lost the same server do not come back together.
    const ceiling = Math.min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2 ** this.#failures++);
    this.#retry = setTimeout(() => this.#dial(), Math.random() * ceiling);
    this.#onState("reconnecting");
  }
}

/** The session of this browser, made at the first visit; where nothing can be stored, of this page. */
export function sessionId() {
  const fresh = uuid4();
  try {
    const kept = localStorage.getItem(SESSION_KEY);
    if (kept && UUID.test(kept)) return kept;
    localStorage.setItem(SESSION_KEY, fresh);
  } catch {
    // Storage is off (private mode, a policy): the caller's copy is the only one.
  }
  return fresh;
}

function uuid4() {
  // Over plain http, other than on loopback, browsers hide randomUUID.
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40; // version 4, RFC 9562 section 5.4
  bytes[8] = (bytes[8] & 0x3f) | 0x80; // variant, section 4.1
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
