// @ts-check
/** What waits to be sent: its order, whatever the line and the Concierge do. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Outbox } from "../../web_client/outbox.js";
import { FakeClock, seeded } from "./fakes.js";

const AWAY = { ok: false, code: "concierge_unavailable", retry: true };
const BUSY = { ok: false, code: "in_progress", retry: true };
const REJECTED = { ok: false, code: "concierge_rejected", retry: false };
const DONE = { ok: true };

/** An outbox, and what it has put on the line since it was looked at last. */
function made() {
  const clock = new FakeClock();
  /** @type {string[]} */
  let sent = [];
  const line = { up: true };
  const outbox = new Outbox((said) => line.up && Boolean(sent.push(said.cid)), clock);
  const put = (/** @type {string[]} */ ...cids) => cids.forEach((cid) => outbox.put({ cid, text: cid }));
  const taken = () => sent.splice(0);
  return { clock, line, outbox, put, taken };
}

describe("on a good line", () => {
  test("what is put is sent at once, in order, without waiting for outcomes", () => {
    const { put, taken } = made();

    put("a", "b", "c");

    assert.deepEqual(taken(), ["a", "b", "c"]);
  });

  test("what has its outcome is not sent again", () => {
    const { outbox, put, taken } = made();
    put("a", "b");
    taken();

    outbox.settled("a", DONE);
    outbox.connected();

    assert.equal(outbox.has("a"), false);
    assert.deepEqual(taken(), ["b"]);
  });

  test("no more than 32 are under way, and each outcome lets one more go", () => {
    const { outbox, put, taken } = made();
    const cids = Array.from({ length: 50 }, (_, n) => `m${n}`);

    put(...cids);
    assert.deepEqual(taken(), cids.slice(0, 32));
    for (const cid of cids.slice(0, 18)) outbox.settled(cid, DONE);

    assert.deepEqual(taken(), cids.slice(32));
  });
});

describe("without a line", () => {
  test("50 messages wait and go in order when it is there", () => {
    const { line, outbox, put, taken } = made();
    line.up = false;
    const cids = Array.from({ length: 50 }, (_, n) => `m${n}`);
    put(...cids);
    assert.deepEqual(taken(), []);

    line.up = true;
    outbox.connected();
    const first = taken();
    for (const cid of first) outbox.settled(cid, DONE);

    assert.deepEqual([...first, ...taken()], cids);
  });

  test("what had no outcome goes again with the same cid, before what came meanwhile", () => {
    const { line, outbox, put, taken } = made();
    put("a", "b");
    outbox.settled("a", DONE);
    taken();

    line.up = false;
    put("c");
    line.up = true;
    outbox.connected();

    assert.deepEqual(taken(), ["b", "c"]);
  });
});

describe("a line that is lost", () => {
  test("with as much under way as can be, all of it goes again", () => {
    const { outbox, put, taken } = made();
    const cids = Array.from({ length: 40 }, (_, n) => `m${n}`);
    put(...cids);
    taken();

    outbox.connected();

    assert.deepEqual(taken(), cids.slice(0, 32));
  });
});

describe("refused for now", () => {
  test("it stays, and all that came later, and nothing goes by itself while the Concierge is away", async () => {
    const { clock, outbox, put, taken } = made();
    put("a", "b");
    taken();

    assert.equal(outbox.settled("a", AWAY), true);
    assert.equal(outbox.settled("b", AWAY), true);
    await clock.advance(60_000);

    assert.deepEqual(taken(), []);
    assert.ok(outbox.has("a") && outbox.has("b"));
  });

  test("what is put next takes the refused ones along, first", () => {
    const { outbox, put, taken } = made();
    put("a", "b");
    outbox.settled("a", AWAY);
    outbox.settled("b", AWAY);
    taken();

    put("c");

    assert.deepEqual(taken(), ["a", "b", "c"]);
  });

  test("what is put while an answer is still due goes soon, behind the refused ones", async () => {
    const { clock, outbox, put, taken } = made();
    put("a", "b");
    outbox.settled("a", AWAY);
    taken();

    put("c");
    outbox.settled("b", AWAY);
    await clock.advance(1_000);

    assert.deepEqual(taken(), ["a", "b", "c"]);
  });

  test("retry sends all that was refused, in order", () => {
    const { outbox, put, taken } = made();
    put("a", "b", "c");
    for (const cid of ["a", "b", "c"]) outbox.settled(cid, AWAY);
    taken();

    outbox.retry();

    assert.deepEqual(taken(), ["a", "b", "c"]);
  });

  test("retry while answers are due waits for them", async () => {
    const { clock, outbox, put, taken } = made();
    put("a", "b");
    outbox.settled("a", AWAY);
    taken();

    outbox.retry();
    await clock.advance(2_500);
    assert.deepEqual(taken(), []);
    outbox.settled("b", AWAY);
    await clock.advance(1_000);

    assert.deepEqual(taken(), ["a", "b"]);
  });

  test("a new line takes all along", () => {
    const { outbox, put, taken } = made();
    put("a", "b");
    outbox.settled("a", AWAY);
    taken();

    outbox.connected();

    assert.deepEqual(taken(), ["a", "b"]);
  });

  test("in_progress is tried again after a pause, not before, and as often as it takes", async () => {
    const { clock, outbox, put, taken } = made();
    put("a", "b");
    for (let time = 0; time < 5; time += 1) {
      assert.deepEqual(taken(), ["a", "b"]);
      outbox.settled("a", BUSY);
      outbox.settled("b", BUSY);

      await clock.advance(999);
      assert.deepEqual(taken(), []);
      await clock.advance(1);
    }

    assert.deepEqual(taken(), ["a", "b"]);
  });

  test("stopping ends the tries", async () => {
    const { clock, outbox, put, taken } = made();
    put("a");
    outbox.settled("a", BUSY);
    taken();

    outbox.stop();
    await clock.advance(60_000);

    assert.deepEqual(taken(), []);
    assert.equal(clock.pending, 0);
  });
});

describe("refused for good", () => {
  test("it is gone, and what came later goes on", () => {
    const { outbox, put, taken } = made();
    put("a", "b");
    taken();

    assert.equal(outbox.settled("a", REJECTED), false);
    outbox.connected();

    assert.deepEqual(taken(), ["b"]);
  });

  test("an outcome of something that does not wait changes nothing", () => {
    const { outbox, put, taken } = made();
    put("a");
    taken();

    assert.equal(outbox.settled("x", DONE), false);
    assert.equal(outbox.settled("y", AWAY), false);
    put("b");

    assert.deepEqual(taken(), ["b"]);
  });

  test("what is forgotten goes no more, and moves nothing else", () => {
    const { line, outbox, put, taken } = made();
    put("a");
    line.up = false;
    put("b", "c");
    taken();

    outbox.forget("a");
    outbox.forget("b");
    line.up = true;
    outbox.connected();

    assert.deepEqual(taken(), ["c"]);
  });
});

describe("forgetting", () => {
  test("tells whether the line waits for what was refused on it", () => {
    const { outbox, put } = made();
    put("a", "b", "c");
    outbox.settled("a", AWAY);

    assert.equal(outbox.forget("b"), false); // its answer is due
    assert.equal(outbox.forget("x"), false);
    assert.equal(outbox.forget("a"), true);
  });

  test("what was sent again holds up nothing any more", () => {
    const { outbox, put } = made();
    put("a");
    outbox.settled("a", AWAY);

    outbox.retry();

    assert.equal(outbox.forget("a"), false);
  });
});

describe("a server that lets nothing overtake what it refused", () => {
  /**
   * One run: lines that drop with all that is on them, a server that refuses at random, a user who types and retries.
   * Returns what was put and what the Concierge got.
   *
   * @param {number} seed
   */
  async function run(seed) {
    const random = seeded(seed);
    const clock = new FakeClock({ seed });
    const outcomes = new Set();
    /** @type {string[]} */ const put = [];
    /** @type {string[]} */ const heard = [];
    /** @type {any[]} */ let there = [];
    /** @type {any[]} */ let back = [];
    let up = false;
    let refused = /** @type {any} */ (null);
    let calm = false;
    const outbox = new Outbox((said) => up && Boolean(there.push(said.cid)), clock);

    const serve = () => {
      const cid = there.shift();
      if (refused && cid !== refused.cid) {
        back.push([cid, refused.outcome]);
        return;
      }
      refused = null;
      if (!outcomes.has(cid)) {
        if (!calm && random() < 0.25) {
          refused = { cid, outcome: random() < 0.5 ? AWAY : BUSY };
          back.push([cid, refused.outcome]);
          return;
        }
        outcomes.add(cid);
        heard.push(cid);
      }
      back.push([cid, DONE]);
    };
    const steps = [
      () => put.length < 40 && (put.push(`m${put.length}`), outbox.put({ cid: `m${put.length - 1}` })),
      () => there.length && serve(),
      () => there.length && serve(),
      () => back.length && outbox.settled(...back.shift()),
      () => back.length && outbox.settled(...back.shift()),
      () => random() < 0.3 && ([up, there, back, refused] = [false, [], [], null]),
      () => !up && ((up = true), outbox.connected()),
      () => clock.advance(random() * 1_500),
      () => random() < 0.3 && outbox.retry(),
    ];

    for (let step = 0; step < 250; step += 1) {
      const done = steps[Math.floor(random() * steps.length)]();
      if (done instanceof Promise) await done;
    }
    calm = true;
    if (!up) ((up = true), outbox.connected());
    for (let round = 0; round < 200 && put.some((cid) => outbox.has(cid)); round += 1) {
      while (there.length || back.length) {
        if (there.length) serve();
        if (back.length) outbox.settled(...back.shift());
      }
      if (put.some((cid) => outbox.has(cid))) outbox.retry();
      await clock.advance(1_000);
    }
    return { put, heard, left: put.filter((cid) => outbox.has(cid)) };
  }

  test("gets all once and in order, over random drops, lost acks and refusals", async () => {
    let messages = 0;
    for (let seed = 1; seed <= 400; seed += 1) {
      const { put, heard, left } = await run(seed);
      messages += put.length;

      assert.deepEqual(heard, put, `seed ${seed}`);
      assert.deepEqual(left, [], `seed ${seed}`);
    }

    assert.ok(messages > 5_000, `only ${messages} messages: too few to show anything`);
  });
});
