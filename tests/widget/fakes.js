// @ts-check
/** What the widget's core needs of the world, in a test's hands: a clock, sockets, a store, channels, a switchboard. */

/** Random numbers that a seed repeats (mulberry32). @param {number} seed @returns {() => number} */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Let all that waits for a microtask run. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A clock that stands still until a test advances it. */
export class FakeClock {
  #time;
  #count = 0;
  /** @type {Map<number, {due: number, call: () => void}>} */
  #timers = new Map();

  /** @param {{seed?: number, start?: number}} [options] */
  constructor({ seed = 1, start = 1_700_000_000_000 } = {}) {
    this.#time = start;
    this.random = seeded(seed);
  }

  now() {
    return this.#time;
  }

  /** @param {() => void} call @param {number} [ms] */
  setTimeout(call, ms = 0) {
    this.#count += 1;
    this.#timers.set(this.#count, { due: this.#time + Math.max(0, ms), call });
    return this.#count;
  }

  /** @param {any} timer */
  clearTimeout(timer) {
    this.#timers.delete(timer);
  }

  /** How many timers are set. */
  get pending() {
    return this.#timers.size;
  }

  /** The same time with other random numbers, for another tab. @param {number} seed */
  tab(seed) {
    return {
      now: () => this.now(),
      setTimeout: (/** @type {() => void} */ call, /** @type {number} */ ms) => this.setTimeout(call, ms),
      clearTimeout: (/** @type {any} */ timer) => this.clearTimeout(timer),
      random: seeded(seed),
    };
  }

  /** Let *ms* pass: all that falls due is called, in order, and what it sets too. @param {number} ms */
  async advance(ms) {
    const end = this.#time + ms;
    await settle();
    for (let next = this.#next(end); next; next = this.#next(end)) {
      const [timer, { due, call }] = next;
      this.#timers.delete(timer);
      this.#time = Math.max(this.#time, due);
      call();
      await settle();
    }
    this.#time = end;
  }

  /** @param {number} end */
  #next(end) {
    let first = null;
    for (const entry of this.#timers) if (entry[1].due <= end && (!first || entry[1].due < first[1].due)) first = entry;
    return first;
  }
}

/** A WebSocket whose other end is the test. */
export class FakeWebSocket {
  protocol = "";
  readyState = 0;
  /** @type {any} */ onopen = null;
  /** @type {any} */ onmessage = null;
  /** @type {any} */ onclose = null;
  /** @type {any} */ onerror = null;
  /** @type {any[]} */ sent = [];
  /** @type {number | undefined} */ closedWith = undefined; // by the client
  /** @type {((text: string) => void) | null} */ hear = null; // the other end, if it is a program
  /** @type {(() => void) | null} */ hangUp = null;

  /** @param {string} url @param {string[]} protocols */
  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  /** @param {string} text */
  send(text) {
    if (this.readyState === 0) throw new Error("InvalidStateError: still connecting");
    if (this.readyState !== 1) return; // as a browser: it is lost without a word
    this.sent.push(JSON.parse(text));
    this.hear?.(text);
  }

  /** @param {number} [code] */
  close(code) {
    if (this.readyState > 1) return;
    this.readyState = 2;
    this.closedWith = code;
    this.hangUp?.();
  }

  /** The other end accepts. */
  open() {
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.protocol = this.protocols[0] ?? "";
    this.onopen?.({});
  }

  /** The other end says *frame*, an object or a text. @param {unknown} frame */
  receive(frame) {
    if (this.readyState !== 1) return;
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  /** The other end closes, or the line is cut. @param {number} code */
  end(code = 1006) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

/** What opens sockets, and remembers them. */
export function fakeLine() {
  /** @type {FakeWebSocket[]} */
  const sockets = [];
  return {
    sockets,
    get latest() {
      return /** @type {FakeWebSocket} */ (sockets.at(-1));
    },
    open: (/** @type {string} */ url, /** @type {string[]} */ protocols) => {
      sockets.push(new FakeWebSocket(url, protocols));
      return /** @type {FakeWebSocket} */ (sockets.at(-1));
    },
  };
}

/** A localStorage that may be broken. */
export class FakeStore {
  /** @type {Map<string, string>} */
  #items = new Map();

  /** @param {{throws?: boolean, room?: number}} [options]  room in characters */
  constructor({ throws = false, room = Infinity } = {}) {
    this.throws = throws;
    this.room = room;
  }

  /** @param {string} key */
  getItem(key) {
    if (this.throws) throw new Error("SecurityError");
    return this.#items.get(key) ?? null;
  }

  /** @param {string} key @param {string} value */
  setItem(key, value) {
    if (this.throws) throw new Error("SecurityError");
    if (value.length > this.room) throw new Error("QuotaExceededError");
    this.#items.set(key, value);
  }

  /** All that is kept, parsed. */
  get values() {
    return [...this.#items.values()].map((text) => JSON.parse(text));
  }
}

/** BroadcastChannels: what one posts, the others of its name get a little later, in order. */
export class FakeChannels {
  #clock;
  #latency;
  /** @type {Set<any>} */
  #open = new Set();

  /** @param {FakeClock} clock @param {number} [latency]  ms */
  constructor(clock, latency = 1) {
    this.#clock = clock;
    this.#latency = latency;
  }

  get count() {
    return this.#open.size;
  }

  channel = (/** @type {string} */ name) => {
    const mine = {
      name,
      /** @type {any} */ onmessage: null,
      postMessage: (/** @type {string} */ data) => {
        if (!this.#open.has(mine)) throw new Error("InvalidStateError: the channel is closed");
        for (const other of this.#open) {
          if (other === mine || other.name !== name) continue;
          this.#clock.setTimeout(() => this.#open.has(other) && other.onmessage?.({ data }), this.#latency);
        }
      },
      close: () => void this.#open.delete(mine),
    };
    this.#open.add(mine);
    return mine;
  };
}

/**
 * A switchboard with one Concierge behind it, as docs/protocol.md has it: sessions by token, a mailbox with ids,
 * outcomes remembered by cid, and on each socket the rule that nothing overtakes a refused message.
 */
export class FakeSwitchboard {
  #clock;
  #latency;
  #count = 0;
  up = true;
  /** @type {Map<string, any>} */ sessions = new Map();
  /** @type {Map<string, string>} */ tokens = new Map(); // the session of each
  /** @type {any[]} */ links = []; // those that are open
  opened = 0;
  /** What is to become of a message. @type {(frame: any) => {code: string, retry: boolean} | null} */
  fate = () => null;

  /** @param {FakeClock} clock @param {{latency?: number}} [options] */
  constructor(clock, { latency = 5 } = {}) {
    this.#clock = clock;
    this.#latency = latency;
  }

  open = (/** @type {string} */ url, /** @type {string[]} */ protocols) => {
    const ws = new FakeWebSocket(url, protocols);
    const v1 = protocols.includes("switchboard.v1");
    const link = { ws, v1, cut: false, session: /** @type {any} */ (null), refused: "", code: "" };
    this.opened += 1;
    ws.hear = (text) => {
      const frame = JSON.parse(text);
      this.#later(link, () => (v1 ? this.#hear(link, frame) : this.#classic(frame)));
    };
    ws.hangUp = () => this.#forget(link);
    if (this.up) {
      this.links.push(link);
      this.#later(link, () => ws.open());
      if (!link.v1) link.session = this.#session("cookie");
    } else {
      this.#clock.setTimeout(() => ws.end(1006), this.#latency);
    }
    return ws;
  };

  /** Cut all lines, with all that is on its way either way. @param {number} [code] */
  drop(code = 1006) {
    for (const link of [...this.links]) {
      this.#forget(link);
      link.ws.end(code);
    }
  }

  /** The bot says something. @param {any} data @param {any} [session]  the only one there is, unless given */
  say(data, session = this.only) {
    session.mailbox.push(data);
    for (const link of this.links) if (link.session === session) this.#deliver(link, session.mailbox.length);
  }

  /** The only session. */
  get only() {
    if (this.sessions.size !== 1) throw new Error(`${this.sessions.size} sessions`);
    return [...this.sessions.values()][0];
  }

  /** @param {any} link @param {number} number */
  #deliver(link, number) {
    const data = link.session.mailbox[number - 1];
    this.#tell(link, link.v1 ? { type: "message", id: `${link.session.epoch}:${number}`, data } : data);
  }

  /** @param {string} id */
  #session(id) {
    if (!this.sessions.has(id)) {
      this.sessions.set(id, { id, epoch: `e${id}`, mailbox: [], heard: [], outcomes: new Map() });
    }
    return this.sessions.get(id);
  }

  /** @param {any} frame */
  #classic(frame) {
    this.only.heard.push(content(frame));
  }

  /** @param {any} link @param {any} frame */
  #hear(link, frame) {
    if (frame.type === "open") this.#greet(link, frame);
    else this.#message(link, frame);
  }

  /** @param {any} link @param {{token?: string, last?: string}} frame */
  #greet(link, { token, last }) {
    if (token && !this.tokens.has(token)) {
      this.#forget(link);
      this.#clock.setTimeout(() => link.ws.end(4001), this.#latency);
      return;
    }
    this.#count += 1;
    link.session = this.#session((token && this.tokens.get(token)) || `s${this.#count}`);
    const renewed = `token ${this.#count}`;
    this.tokens.set(renewed, link.session.id);
    const { id, epoch, mailbox } = link.session;
    const got = last?.startsWith(`${epoch}:`) ? Number(last.split(":")[1]) : 0;
    const why = !token ? "new" : last && !last.startsWith(`${epoch}:`) ? "epoch" : undefined;
    this.#tell(link, {
      type: "hello", session: id, token: renewed, last: mailbox.length ? `${epoch}:${mailbox.length}` : "",
      resumed: !why, missed: mailbox.length - got, heartbeat: 25, retry: [0, 5000], why,
    });
    for (let number = got + 1; number <= mailbox.length; number += 1) this.#deliver(link, number);
  }

  /** @param {any} link @param {any} frame */
  #message(link, frame) {
    const { cid } = frame;
    if (link.refused && cid !== link.refused) {
      this.#tell(link, { type: "ack", cid, ok: false, code: link.code, retry: true });
      return;
    }
    link.refused = "";
    const { outcomes, heard } = link.session;
    if (!outcomes.has(cid)) {
      const refusal = this.fate(frame);
      if (refusal?.retry) {
        [link.refused, link.code] = [cid, refusal.code];
        this.#tell(link, { type: "ack", cid, ok: false, ...refusal });
        return;
      }
      outcomes.set(cid, refusal ? { ok: false, ...refusal } : { ok: true });
      if (!refusal) heard.push(content(frame));
    }
    this.#tell(link, { type: "ack", cid, ...outcomes.get(cid) });
  }

  /** @param {any} link @param {any} frame */
  #tell(link, frame) {
    this.#later(link, () => link.ws.receive(frame));
  }

  /** What is on a line that is cut arrives nowhere. @param {any} link @param {() => void} call */
  #later(link, call) {
    this.#clock.setTimeout(() => link.cut || call(), this.#latency);
  }

  /** @param {any} link */
  #forget(link) {
    link.cut = true;
    this.links = this.links.filter((other) => other !== link);
  }
}

/** What the Concierge gets of a frame; of a plain one, its text. @param {any} frame */
const content = ({ message, payload }) => (payload === undefined ? message : { message, payload });

/** A Watcher that writes down what it is told. */
export function watcher() {
  const told = {
    /** @type {string[]} */ states: [],
    /** @type {any[]} */ arrived: [],
    /** @type {boolean[]} */ typing: [],
    /** @type {any[]} */ events: [],
    /** @type {string[]} */ errors: [],
    failures: 0,
    changes: 0,
  };
  return {
    told,
    changed: () => void (told.changes += 1),
    state: (/** @type {string} */ state) => void told.states.push(state),
    arrived: (/** @type {any} */ entry) => void told.arrived.push(entry.data.body),
    failed: () => void (told.failures += 1),
    typing: (/** @type {boolean} */ typing) => void told.typing.push(typing),
    event: (/** @type {string} */ name, /** @type {unknown} */ payload) => void told.events.push([name, payload]),
    error: (/** @type {string} */ code) => void told.errors.push(code),
  };
}

/** A browser made of fakes, to be had by a conversation or a socket. @param {any} parts @returns {any} */
export function fakeBrowser({ clock, open, store = new FakeStore(), channel }) {
  return {
    WebSocket: function (/** @type {string} */ url, /** @type {string[]} */ protocols) {
      return open(url, protocols);
    },
    BroadcastChannel:
      channel &&
      function (/** @type {string} */ name) {
        return channel(name);
      },
    localStorage: store,
    setTimeout: (/** @type {() => void} */ call, /** @type {number} */ ms) => clock.setTimeout(call, ms),
    clearTimeout: (/** @type {any} */ timer) => clock.clearTimeout(timer),
    Date: { now: () => clock.now() },
    Math: { random: () => clock.random() },
  };
}
