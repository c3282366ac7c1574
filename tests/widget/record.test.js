// @ts-check
/** What is remembered: two states of it merge into one, whoever merges, and however often. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { empty, KEPT, merge, unread, unsettled } from "../../web_client/record.js";
import { seeded } from "./fakes.js";

/** @typedef {import("../../web_client/record.js").Conversation} Conversation */
/** @typedef {import("../../web_client/record.js").Entry} Entry */

const RUNS = 2_000;
const STATES = /** @type {const} */ (["sending", "old", "failed", "sent"]);

/**
 * A record as a tab may have it: one of few conversations, so that two overlap. What a key holds is the same in all
 * (a tab adds a key, others copy it), what became of it is not.
 *
 * @param {() => number} random
 * @param {{era?: number, size?: number}} [options]
 */
function record(random, { era = Math.floor(random() * 1.2), size = 12 } = {}) {
  const below = (/** @type {number} */ n) => Math.floor(random() * n);
  /** @type {Map<string, Entry>} */
  const entries = new Map();
  for (let count = below(size + 1); count > 0; count -= 1) {
    const n = below(size);
    const key = n % 2 ? `k:${n}` : `tab-${n}`;
    const fromBot = n % 2 === 1;
    entries.set(key, {
      key,
      at: 1_000 + n + below(4), // near each other, and sometimes the same
      from: fromBot ? "bot" : "user",
      ...(fromBot ? { data: { body: key } } : { text: key, state: STATES[below(4)], turn: below(3) }),
      ...(random() < 0.2 && { undone: true }),
      ...(random() < 0.2 && { used: true }),
    });
  }
  const last = below(8);
  const epoch = below(2);
  /** @type {Conversation} */
  const made = {
    era,
    token: random() < 0.7 ? "token" : "",
    session: "",
    last: last ? `e${epoch}:${last}` : "",
    lastAt: last ? 1_000 + last * 10 + epoch : 0,
    seen: 1_000 + below(size),
    entries: [...entries.values()],
  };
  made.session = made.token && "s1";
  return merge(empty(era), made); // in order, as all records are that a tab keeps
}

/** @param {Entry} entry @returns {Conversation} */
const only = (entry) => ({ ...empty(), entries: [entry] });

/** @param {number} n @param {Partial<Entry>} [more] @returns {Entry} */
const bot = (n, more = {}) => ({ key: `k:${n}`, at: n, from: "bot", data: {}, ...more });

/** @param {number} n @param {Partial<Entry>} [more] @returns {Entry} */
const mine = (n, more = {}) => ({ key: `m${n}`, at: n, from: "user", text: `${n}`, state: "sent", ...more });

describe("for all records", () => {
  test("merging is commutative", () => {
    const random = seeded(1);
    for (let run = 0; run < RUNS; run += 1) {
      const [a, b] = [record(random), record(random)];

      assert.deepEqual(merge(a, b), merge(b, a), `run ${run}`);
    }
  });

  test("merging is idempotent", () => {
    const random = seeded(2);
    for (let run = 0; run < RUNS; run += 1) {
      const [a, b] = [record(random), record(random)];

      assert.deepEqual(merge(a, a), a, `run ${run}`);
      assert.deepEqual(merge(merge(a, b), b), merge(a, b), `run ${run}`);
    }
  });

  test("merging is associative", () => {
    const random = seeded(3);
    for (let run = 0; run < RUNS; run += 1) {
      const [a, b, c] = [record(random), record(random), record(random)];

      assert.deepEqual(merge(merge(a, b), c), merge(a, merge(b, c)), `run ${run}`);
    }
  });

  test("merging loses no key and invents none", () => {
    const random = seeded(4);
    for (let run = 0; run < RUNS; run += 1) {
      const [a, b] = [record(random, { era: 1 }), record(random, { era: 1 })];
      const keys = new Set([...a.entries, ...b.entries].map(({ key }) => key));

      assert.deepEqual(new Set(merge(a, b).entries.map(({ key }) => key)), keys, `run ${run}`);
    }
  });

  test("merging changes neither record", () => {
    const random = seeded(5);
    for (let run = 0; run < 200; run += 1) {
      const [a, b] = [record(random), record(random)];
      const before = JSON.stringify([a, b]);

      merge(a, b);

      assert.equal(JSON.stringify([a, b]), before);
    }
  });

  test("entries are in the order of their time", () => {
    const random = seeded(6);
    for (let run = 0; run < RUNS; run += 1) {
      const times = merge(record(random), record(random)).entries.map(({ at }) => at);

      assert.deepEqual(times, [...times].sort((a, b) => a - b));
    }
  });

  test("records that are trimmed merge commutatively too", () => {
    const random = seeded(7);
    for (let run = 0; run < 200; run += 1) {
      const [a, b] = [record(random, { era: 0, size: 400 }), record(random, { era: 0, size: 400 })];

      assert.deepEqual(merge(a, b), merge(b, a), `run ${run}`);
    }
  });
});

describe("one message in two records", () => {
  const order = [
    mine(1, { state: "sending", turn: 0 }),
    mine(1, { state: "old", turn: 0 }),
    mine(1, { state: "failed", turn: 0 }),
    mine(1, { state: "sending", turn: 1 }),
    mine(1, { state: "failed", turn: 1 }),
    mine(1, { state: "sending", turn: 2 }),
    mine(1, { state: "sent", turn: 0 }),
  ];

  test("sent wins over all, then the later turn, then failed over old over sending", () => {
    for (const [less, lower] of order.entries()) {
      for (const higher of order.slice(less)) {
        assert.deepEqual(merge(only(lower), only(higher)).entries, [higher]);
        assert.deepEqual(merge(only(higher), only(lower)).entries, [higher]);
      }
    }
  });

  test("its time is the least of both, whichever state wins", () => {
    const early = only(mine(1, { at: 50, state: "sending" }));
    const late = only(mine(1, { at: 80, state: "sent" }));

    assert.equal(merge(early, late).entries[0].at, 50);
    assert.equal(merge(late, early).entries[0].at, 50);
    assert.equal(merge(early, late).entries[0].state, "sent");
  });

  test("what was taken back or pressed in one is so in both", () => {
    const merged = merge(only(bot(1, { undone: true })), only(bot(1, { used: true }))).entries[0];

    assert.equal(merged.undone, true);
    assert.equal(merged.used, true);
  });
});

describe("the rest of a record", () => {
  test("the later id of one epoch wins, as a number", () => {
    const nine = { ...empty(), last: "k:9", lastAt: 500 };
    const ten = { ...empty(), last: "k:10", lastAt: 400 };

    assert.equal(merge(nine, ten).last, "k:10");
    assert.equal(merge(ten, nine).last, "k:10");
  });

  test("of two epochs the one heard later wins, though its number is lower", () => {
    const before = { ...empty(), last: "old:90", lastAt: 400 };
    const after = { ...empty(), last: "new:1", lastAt: 500 };

    assert.equal(merge(before, after).last, "new:1");
    assert.equal(merge(after, before).last, "new:1");
  });

  test("a part that says nothing of token, session and last leaves them", () => {
    const all = { ...empty(), token: "t", session: "s", last: "k:3", lastAt: 5, seen: 9, entries: [bot(1)] };

    assert.deepEqual(merge(all, { entries: [] }), all);
    assert.deepEqual(merge(all, {}), all);
  });

  test("a token that is told replaces the one before", () => {
    assert.equal(merge({ ...empty(), token: "t1", session: "s" }, { token: "t2", session: "s" }).token, "t2");
  });

  test("what was seen never becomes less", () => {
    assert.equal(merge({ ...empty(), seen: 9 }, { seen: 3 }).seen, 9);
  });

  test("a later era replaces all, and an earlier one adds nothing", () => {
    const entries = [bot(1), mine(2)];
    const first = { ...empty(1), token: "t1", session: "s1", last: "k:3", lastAt: 7, seen: 7, entries };
    const second = { ...empty(2), seen: 1, entries: [mine(9)] };

    assert.deepEqual(merge(first, second), second);
    assert.deepEqual(merge(second, first), second);
    assert.deepEqual(merge(first, { era: 2 }), empty(2));
  });

  test("unread are the bot's messages after what was seen, none of ours and no notes", () => {
    /** @type {Entry} */
    const note = { key: "n", at: 4, from: "note", text: "lost" };
    const entries = [bot(1), mine(2), bot(3), note, bot(5)];

    assert.equal(unread({ ...empty(), entries, seen: 1 }), 2);
    assert.equal(unread({ ...empty(), entries, seen: 5 }), 0);
    assert.equal(unread({ ...empty(), entries }), 3);
  });
});

describe("trimming", () => {
  test("the latest 100 are kept", () => {
    const entries = Array.from({ length: 150 }, (_, n) => bot(n + 1));

    const kept = merge(empty(), { entries }).entries;

    assert.equal(KEPT, 100);
    assert.deepEqual(kept.map(({ at }) => at), Array.from({ length: 100 }, (_, n) => n + 51));
  });

  test("nothing that has yet to be sent is dropped, however old", () => {
    const waiting = STATES.slice(0, 3).map((state, n) => mine(n + 1, { state }));
    const entries = [...waiting, mine(4), ...Array.from({ length: 200 }, (_, n) => bot(n + 10))];

    const kept = merge(empty(), { entries }).entries;

    assert.deepEqual(kept.slice(0, 3), waiting);
    assert.equal(kept.filter(unsettled).length, 3);
    assert.equal(kept.some(({ key }) => key === "m4"), false);
    assert.equal(kept.at(-1)?.at, 209);
  });

  test("150 that wait are all kept", () => {
    const entries = Array.from({ length: 150 }, (_, n) => mine(n + 1, { state: "sending" }));

    assert.equal(merge(empty(), { entries }).entries.length, 150);
  });
});
