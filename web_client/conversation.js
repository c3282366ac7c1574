// @ts-check
/** A conversation: what was said, what waits to be sent, and the other tabs it is open in. */

import { Outbox } from "./outbox.js";
import { empty, merge, unread, unsettled } from "./record.js";
import { Socket } from "./socket.js";
import { parse, plain, stringify } from "./wire.js";

const STALE = 86_400_000; // ms after which what was typed is offered, not sent
const ROLLBACK = { type: "rollback", rollback_count: 1 };

export class Conversation {
  #name;
  #watcher;
  #browser;
  #classic;
  /** @type {BroadcastChannel | undefined} */
  #channel;
  #socket;
  #outbox;
  #record = empty();
  #era = 0; // of the record when the line was opened
  #line = ""; // the session that it is of
  #typing = 0; // a timer while the bot types
  #said = 0;
  #tab;

  /** @param {string} url @param {Watcher} watcher @param {Browser} browser @param {boolean} [classic] */
  constructor(url, watcher, browser, classic) {
    this.#name = `switchboard-chat ${url}`;
    this.#watcher = watcher;
    this.#browser = browser;
    this.#classic = classic;
    this.#tab = browser.Math.random().toString(36).slice(2, 10);
    if (browser.BroadcastChannel) {
      // Before the store is read, so that nothing falls in between.
      this.#channel = new browser.BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#learn(parse(data) ?? {});
    }
    this.#socket = new Socket(url, this.#listener(), browser, classic);
    this.#outbox = this.#newOutbox();
    this.#record = merge(this.#record, this.#stored());
    this.#era = this.#record.era;
    this.#takeUp(true);
  }

  /** Whether there is something to come back to. */
  get begun() {
    return Boolean(this.#record.token || this.#record.entries.length);
  }

  get entries() {
    return this.#record.entries;
  }

  get unread() {
    return unread(this.#record);
  }

  get state() {
    return this.#socket.state;
  }

  start() {
    this.#socket.start();
  }

  /** Let go of everything; what is unsent stays in the store. */
  stop() {
    this.#socket.stop();
    this.#outbox.stop();
    this.#quiet();
    this.#channel?.close();
  }

  /** Say something; it is sent as soon as can be. @param {string} [text] @param {unknown} [payload] */
  say(text, payload) {
    this.#learn({}); // another tab may have begun a new conversation just now
    const said = { cid: `${this.#tab}-${(this.#said += 1)}`, text, payload };
    this.#note({ key: said.cid, from: "user", text, payload, state: "sending" });
    this.see();
    this.#outbox.put(said);
    this.start();
  }

  /** Send again what failed or has become old. @param {Entry} entry */
  retry({ key, text, payload }) {
    this.#turn(key, "sending");
    if (this.#outbox.has(key)) this.#outbox.retry();
    else this.#outbox.put({ cid: key, text, payload });
    this.start();
  }

  /** Press a button of the bot's; only the first press of a group counts. @param {Entry} entry @param {any} button */
  press(entry, button) {
    if (this.#find(entry.key)?.used) return;
    this.#change({ entries: [{ ...entry, used: true }] });
    this.say(button.text, button.payload);
  }

  /** The answer that can be taken back, if there is one. */
  get lastAnswer() {
    return this.entries.findLast(
      ({ from, state, undone, payload }) => from === "user" && state === "sent" && !undone && !isRollback(payload),
    );
  }

  /** Take back the last answer, and what it led to. */
  undo() {
    const answer = this.lastAnswer;
    if (!answer) return;
    const undone = this.entries.slice(this.entries.indexOf(answer));
    this.#change({ entries: undone.map((entry) => ({ ...entry, undone: true })) });
    this.say("Rollback Request", ROLLBACK);
  }

  /** Note that the user sees everything now. */
  see() {
    this.#change({ seen: this.entries.at(-1)?.at ?? 0 });
  }

  /** Begin a new conversation, in all tabs. */
  reset() {
    this.#socket.stop();
    this.#change(empty(this.#record.era + 1));
  }

  /** Leave a conversation that is over for the one that has begun, here or in another tab. */
  #follow() {
    this.#era = this.#record.era;
    this.#outbox.stop();
    this.#outbox = this.#newOutbox();
    const away = this.state === "stopped" || this.state === "replaced";
    if (!away) this.#socket.stop();
    this.#takeUp(true);
    if (!away && this.begun) this.#socket.start();
  }

  #newOutbox() {
    return new Outbox((said) => this.#send(said), this.#browser);
  }

  /** @returns {SocketListener} */
  #listener() {
    return {
      place: () => {
        this.#era = this.#record.era;
        return { token: this.#record.token, last: this.#record.last };
      },
      state: (state) => {
        if (state === "open") {
          this.#takeUp();
          this.#outbox.connected();
        }
        this.#watcher.state(state);
      },
      hello: (hello) => this.#greeted(hello),
      message: (id, data) => this.#received(id, data),
      typing: (ms) => this.#type(ms),
      settled: (cid, outcome) => this.#settled(cid, outcome),
      error: (code, detail) => this.#failed(code, detail),
    };
  }

  #greeted({ session, token, resumed, why }) {
    this.#record = merge(this.#record, this.#stored());
    if (this.#record.era !== this.#era) return false; // another tab has begun a new conversation
    this.#line = session ?? "";
    if (token) this.#change({ token, session });
    if (why === "new") return false; // again, by a token that all tabs agree on
    if (!resumed) this.#note({ key: `lost ${this.#now()}`, from: "note" });
    return true;
  }

  #received(id, raw) {
    this.#quiet();
    const data = plain(raw);
    // What a button sends goes back as it came.
    if (Array.isArray(data?.buttons)) data.buttons.forEach((each, at) => each && (each.payload = raw.buttons[at].payload));
    const at = this.#now();
    const last = id ? { last: id, lastAt: at } : {};
    const key = id || `bare ${at}`;
    const shown = data?.type !== "event" || data.body;
    this.#learn({ ...last, entries: shown ? [{ key, at, from: "bot", data }] : [] }, true);
    if (data?.type === "event") this.#watcher.event(data.name, plain(parse(data.payload)) ?? data.payload);
  }

  #settled(cid, outcome) {
    const again = this.#outbox.settled(cid, outcome);
    if (outcome.ok) this.#turn(cid, "sent");
    else if (!again || outcome.code !== "in_progress") {
      this.#turn(cid, "failed");
      this.#watcher.failed();
    }
  }

  #failed(code, detail) {
    if (code === "bad_token") {
      // The session is over. What was said stays in sight, and what waits goes to the next one.
      const { era, entries, seen } = this.#record;
      this.#era = era + 1; // the line comes back by itself
      this.#change({ ...empty(era + 1), entries, seen });
      this.#note({ key: `lost ${this.#now()}`, from: "note" });
    }
    this.#watcher.error(code, detail);
  }

  #send(said) {
    if (!this.#socket.send(said)) return false;
    if (this.#find(said.cid)?.state === "failed") this.#turn(said.cid, "sending");
    if (this.#classic) queueMicrotask(() => this.#settled(said.cid, { ok: true }));
    return true;
  }

  /** Send what an earlier visit left unsent, unless it may have been sent; offer what has waited for too long. */
  #takeUp(fresh = false) {
    for (const { key, at, text, payload, state, turn } of this.entries) {
      if (state !== "sending") continue;
      const old = !turn && this.#browser.Date.now() - at > STALE; // a later turn is what the user wanted
      if (old) this.#outbox.forget(key);
      if (old || (fresh && this.#classic)) this.#turn(key, old ? "old" : "failed");
      else if (fresh) this.#outbox.put({ cid: key, text, payload });
    }
  }

  #type(ms) {
    this.#browser.clearTimeout(this.#typing);
    this.#typing = this.#browser.setTimeout(() => this.#quiet(), ms);
    this.#watcher.typing(true);
  }

  #quiet() {
    if (!this.#typing) return;
    this.#browser.clearTimeout(this.#typing);
    this.#typing = 0;
    this.#watcher.typing(false);
  }

  #find(key) {
    return this.entries.find((entry) => entry.key === key);
  }

  #note(entry) {
    this.#change({ entries: [{ ...entry, at: this.#now() }] });
  }

  #turn(key, state) {
    const entry = this.#find(key);
    if (entry && entry.state !== state) {
      const turn = (entry.turn ?? 0) + (state === "sending" ? 1 : 0);
      this.#change({ entries: [{ ...entry, state, turn }] });
    }
  }

  #now() {
    return Math.max(this.#browser.Date.now(), (this.entries.at(-1)?.at ?? 0) + 1);
  }

  /** Change something, here and in the other tabs. */
  #change(part) {
    this.#learn(part, true);
  }

  #learn(part, tell = false) {
    const known = new Set(this.entries.map(({ key }) => key));
    this.#record = merge(merge(this.#record, this.#stored()), { era: this.#record.era, ...part });
    if (tell) {
      this.#keep();
      this.#channel?.postMessage(stringify({ era: this.#record.era, ...part }));
    }
    if (this.#record.era !== this.#era) this.#follow();
    let stuck = false; // the line lets nothing pass before a message that another tab has sent
    for (const entry of this.entries) {
      if (!unsettled(entry) && this.#outbox.forget(entry.key)) stuck = true;
      if (entry.from === "bot" && !known.has(entry.key)) this.#watcher.arrived(entry);
    }
    if ((stuck || this.#record.session !== this.#line) && this.state === "open") this.#socket.renew();
    this.#watcher.changed();
  }

  #stored() {
    try {
      const kept = parse(this.#browser.localStorage.getItem(this.#name));
      return Array.isArray(kept?.entries) ? kept : {};
    } catch {
      return {}; // a browser that keeps nothing
    }
  }

  /** Keep as much as the browser takes. */
  #keep() {
    for (let kept = this.entries; ; kept = kept.slice(Math.ceil(kept.length / 2))) {
      try {
        this.#browser.localStorage.setItem(this.#name, stringify({ ...this.#record, entries: kept }));
        return;
      } catch {
        if (!kept.length) return;
      }
    }
  }
}

const isRollback = (payload) => payload?.type === "rollback";
