// @ts-check
/** A connection to the switchboard that comes back by itself; it knows no page and no storage. */

import { CLASSIC, V1 } from "./wire.js";

const FIRST_PAUSE = 500; // ms, the longest before the first try
const LONGEST_PAUSE = 30_000; // ms
const OPENING = 10_000; // ms in which a connection must have said hello
const AGREEING = 200; // ms in which tabs that begin at once hear of each other
const DEAF = 1.3; // heartbeats without any frame: the line is dead
const [GOING, RESTARTING, BAD_TOKEN, REPLACED] = [1000, [1001, 1012], 4001, 4003];

export class Socket {
  #url;
  #listener;
  #browser;
  #wire;
  /** @type {WebSocket | null} */
  #ws = null;
  /** @type {SocketState} */
  #state = "stopped";
  #timer = 0; // to try again, or to give up on this connection
  #failures = 0;
  #silence = 0; // ms without a frame after which the line is dead; 0 if the wire has no heartbeat
  #retry = [0, FIRST_PAUSE]; // ms, when to come back after a restart
  #last = ""; // the id received last
  #jump = true; // the next id may be any

  /** @param {string} url @param {SocketListener} listener @param {Browser} browser @param {boolean} [classic] */
  constructor(url, listener, browser, classic) {
    this.#url = url;
    this.#listener = listener;
    this.#browser = browser;
    this.#wire = classic ? CLASSIC : V1;
  }

  get state() {
    return this.#state;
  }

  /** Connect now, unless it is connected or about to be. */
  start() {
    if (this.#state === "open" || this.#state === "connecting") return;
    this.#failures = 0;
    this.renew();
  }

  /** Let go of the line, and stay away. */
  stop() {
    this.#drop();
    this.#become("stopped");
  }

  /** Say something; false if there is nobody to hear it. @param {Said} said */
  send(said) {
    const ready = this.#state === "open" && this.#ws?.readyState === 1; // not closing
    if (ready) this.#ws?.send(this.#wire.message(said));
    return ready;
  }

  /** Connect now, connected or not. */
  renew() {
    this.#drop();
    this.#become("connecting");
    const ws = (this.#ws = new this.#browser.WebSocket(this.#url, this.#wire.protocols));
    ws.onopen = () => this.#opened();
    ws.onmessage = ({ data }) => this.#take(this.#wire.parse(data));
    ws.onclose = ({ code }) => this.#closed(code);
    this.#set(OPENING, () => this.#lost());
  }

  #opened() {
    const place = this.#listener.place();
    if (place.last !== this.#last) this.#jump = !place.last;
    this.#last = place.last;
    const frame = this.#wire.open(place);
    if (frame) this.#ws?.send(frame);
    else this.#greeted({ resumed: true });
  }

  #take(frame) {
    if (this.#state === "open" && this.#silence) this.#set(this.#silence, () => this.#lost());
    const { type } = frame ?? {};
    if (type !== "hello") this.#failures = 0; // a line that is greeted may still be closed for what is said
    if (type === "hello") this.#greeted(frame);
    if (type === "message") this.#received(frame.id ?? "", frame.data);
    if (type === "ack") this.#listener.settled(frame.cid, frame);
    if (type === "typing") this.#listener.typing(frame.ms);
    if (type === "error") this.#listener.error(frame.code, frame.detail);
  }

  #greeted(hello) {
    this.#browser.clearTimeout(this.#timer);
    if (!hello.resumed) this.#jump = true;
    this.#retry = hello.retry ?? this.#retry;
    if (hello.heartbeat) {
      this.#silence = hello.heartbeat * 1000 * DEAF;
      this.#set(this.#silence, () => this.#lost());
    }
    if (this.#listener.hello(hello)) this.#become("open");
    else this.#set(AGREEING, () => this.renew());
  }

  #received(id, data) {
    const [epoch, number] = id.split(":");
    const [lastEpoch, lastNumber] = this.#last.split(":");
    if (id && epoch === lastEpoch && +number <= +lastNumber) return; // it came before
    if (id && !this.#jump && (epoch !== lastEpoch || +number !== +lastNumber + 1)) {
      // Something is missing: ask for it, once, and then take what there is.
      this.#jump = true;
      this.#lost();
      return;
    }
    if (id) {
      this.#last = id;
      this.#jump = false;
    }
    this.#listener.message(id, data);
  }

  #lost() {
    this.#drop();
    this.#again();
  }

  #closed(code) {
    this.#drop();
    if (code === BAD_TOKEN) this.#listener.error("bad_token", "");
    const [from, to] = this.#retry;
    if (code === REPLACED) this.#become("replaced");
    else if (RESTARTING.includes(code) && !this.#failures) this.#wait(from + this.#browser.Math.random() * (to - from));
    else this.#again();
  }

  /** Try again after a random time, longer with each failure. */
  #again() {
    this.#wait(this.#browser.Math.random() * Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#failures));
  }

  #wait(ms) {
    this.#failures += 1;
    this.#become("waiting");
    this.#set(ms, () => this.renew());
  }

  #drop() {
    this.#browser.clearTimeout(this.#timer);
    this.#silence = 0;
    if (!this.#ws) return;
    this.#ws.onopen = this.#ws.onmessage = this.#ws.onclose = null;
    this.#ws.close(GOING);
    this.#ws = null;
  }

  #set(ms, call) {
    this.#browser.clearTimeout(this.#timer);
    this.#timer = this.#browser.setTimeout(call, ms);
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#listener.state(state);
  }
}
