// @ts-check
/** Messages that wait for their outcome: sent in order, again after each break, each with its own cid. */

const BUSY_PAUSE = 1_000; // ms before a session that is busy elsewhere is asked again
const WINDOW = 32; // messages without an outcome, so that a slow Concierge is not flooded

export class Outbox {
  #send;
  #browser;
  /** @type {Said[]} */
  #waiting = []; // in order; the first #sent of them are on their way
  #sent = 0;
  #held = false; // one was refused: all from there have to come again, once what is under way is answered
  #underWay = new Set(); // cids
  #timer = 0;

  /** @param {(said: Said) => boolean} send  false while there is no line @param {Browser} browser */
  constructor(send, browser) {
    this.#send = send;
    this.#browser = browser;
  }

  /** Whether *cid* waits here. @param {string} cid */
  has(cid) {
    return this.#waiting.some((said) => said.cid === cid);
  }

  /** Put something behind all that waits; all that was held back goes first. @param {Said} said */
  put(said) {
    this.#waiting.push(said);
    if (this.#held) this.retry();
    else this.#pump();
  }

  /** The line is there anew: what has no outcome goes again. */
  connected() {
    this.#underWay.clear();
    this.#rewind();
  }

  /** Take an outcome; return whether the message stays, to be sent again. @param {string} cid @param {Outcome} outcome */
  settled(cid, { ok, code, retry = false }) {
    this.#underWay.delete(cid);
    const again = !ok && retry && this.has(cid);
    if (again) {
      this.#held = true;
      if (code === "in_progress") this.#soon();
    } else {
      this.forget(cid);
      this.#pump();
    }
    return again;
  }

  /** Send again what was held back. */
  retry() {
    if (this.#underWay.size === 0) this.#rewind();
    else this.#soon();
  }

  /** Wait for an outcome no longer; returns whether this line waits for it to come again. @param {string} cid */
  forget(cid) {
    const at = this.#waiting.findIndex((said) => said.cid === cid);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    if (at >= this.#sent) return false;
    this.#sent -= 1;
    return this.#held && !this.#underWay.has(cid);
  }

  stop() {
    this.#browser.clearTimeout(this.#timer);
    this.#timer = 0;
  }

  #soon() {
    this.#timer ||= this.#browser.setTimeout(() => {
      this.#timer = 0;
      this.retry();
    }, BUSY_PAUSE);
  }

  #rewind() {
    this.#sent = 0;
    this.#held = false;
    this.#pump();
  }

  #pump() {
    while (!this.#held && this.#sent < this.#waiting.length && this.#underWay.size < WINDOW) {
      const said = this.#waiting[this.#sent];
      if (!this.#send(said)) return;
      this.#underWay.add(said.cid);
      this.#sent += 1;
    }
  }
}
