// @ts-check
/** A conversation: nothing lost, nothing twice, over drops, reloads, tabs and stores that keep nothing. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Conversation } from "../../web_client/conversation.js";
import { FakeChannels, FakeClock, FakeStore, FakeSwitchboard, seeded, settle, watcher, fakeBrowser } from "./fakes.js";

const ADDRESS = "wss://chat.example.com/";
const HOUR = 3_600_000;
const SOON = 500; // ms in which all that is under way arrives, and the first try to come back is made

/**
 * A browser with one store, and a switchboard.
 *
 * @param {{store?: FakeStore, classic?: boolean, channels?: boolean, latency?: number}} [options]  ms news take
 */
function browser({ store = new FakeStore(), classic = false, channels: joined = true, latency = 1 } = {}) {
  const clock = new FakeClock();
  const channels = new FakeChannels(clock, latency);
  const board = new FakeSwitchboard(clock);
  let seed = 0;
  const tab = () => {
    const { told, ...watch } = watcher();
    seed += 1;
    const parts = { store, channel: joined && channels.channel, clock: clock.tab(seed * 7_919), open: board.open };
    const conversation = new Conversation(ADDRESS, watch, fakeBrowser(parts), classic);
    return { conversation, told };
  };
  return { board, channels, clock, store, tab };
}

/** What the user sees. @param {Conversation} conversation */
const shown = ({ entries }) => entries.map(({ from, text, data }) => `${from}: ${from === "bot" ? data.body : (text ?? "lost")}`);

/** @param {Conversation} conversation */
const states = ({ entries }) => entries.filter(({ from }) => from === "user").map(({ state }) => state);

/** @param {Conversation} conversation @param {string} text */
const find = (conversation, text) => {
  const entry = conversation.entries.find((candidate) => candidate.text === text);
  assert.ok(entry, `no entry ${text}`);
  return entry;
};

/** @param {string} prefix @param {number} count */
const numbered = (prefix, count) => Array.from({ length: count }, (_, n) => `${prefix}${n}`);

/** A browser with one tab that is connected. @param {Parameters<typeof browser>[0]} [options] */
async function talking(options) {
  const world = browser(options);
  const first = world.tab();
  first.conversation.start();
  await world.clock.advance(SOON);
  assert.equal(first.conversation.state, "open");
  return { ...world, ...first };
}

describe("talking", () => {
  test("what is said is sending, then sent, and reaches the Concierge", async () => {
    const { board, clock, conversation } = await talking();

    conversation.say("Hello", { a: 1 });
    assert.deepEqual(states(conversation), ["sending"]);
    await clock.advance(SOON);

    assert.deepEqual(states(conversation), ["sent"]);
    assert.deepEqual(board.only.heard, [{ message: "Hello", payload: { a: 1 } }]);
  });

  test("saying something connects", async () => {
    const { board, clock, tab } = browser();
    const { conversation } = tab();
    assert.equal(conversation.begun, false);

    conversation.say("Hello");
    await clock.advance(SOON);

    assert.equal(conversation.begun, true);
    assert.deepEqual(board.only.heard, ["Hello"]);
  });

  test("what the bot says is shown and announced once", async () => {
    const { board, clock, conversation, told } = await talking();

    board.say({ body: "Hi" });
    await clock.advance(SOON);
    board.drop();
    await clock.advance(SOON * 2);

    assert.deepEqual(shown(conversation), ["bot: Hi"]);
    assert.deepEqual(told.arrived, ["Hi"]);
  });

  test("typing ends after its time, or with the next message", async () => {
    const { board, clock, told } = await talking();
    const [{ ws }] = board.links;

    ws.receive({ type: "typing", ms: 10_000 });
    await clock.advance(9_999);
    assert.deepEqual(told.typing, [true]);
    await clock.advance(1);
    assert.deepEqual(told.typing, [true, false]);
    ws.receive({ type: "typing", ms: 10_000 });
    board.say({ body: "Hi" });
    await clock.advance(20);
    assert.deepEqual(told.typing, [true, false, true, false]);
    await clock.advance(20_000);

    assert.equal(told.typing.length, 4);
  });

  test("an event is told with what its payload holds, and shown only if it has text", async () => {
    const { board, clock, conversation, told } = await talking();

    board.say({ type: "event", name: "bell", payload: '{"rings":3}' });
    board.say({ type: "event", name: "note", payload: "plain", body: "Transferred" });
    await clock.advance(SOON);

    assert.deepEqual(told.events, [["bell", { rings: 3 }], ["note", "plain"]]);
    assert.deepEqual(shown(conversation), ["bot: Transferred"]);
  });

  test("an event without text is not told again after a drop", async () => {
    const { board, clock, told } = await talking();
    board.say({ type: "event", name: "bell", payload: "{}" });
    await clock.advance(SOON);

    board.drop();
    await clock.advance(SOON * 2);

    assert.equal(told.events.length, 1);
  });

  test("a button group is pressed once, and sends label and payload as received", async () => {
    const { board, clock, conversation } = await talking();
    const button = { type: "payload", text: "This", payload: "7" };
    board.say({ body: "Which?", type: "button", buttons: [button] });
    await clock.advance(SOON);
    const [entry] = conversation.entries;

    conversation.press(entry, button);
    conversation.press(entry, button);
    await clock.advance(SOON);

    assert.deepEqual(board.only.heard, [{ message: "This", payload: "7" }]);
    assert.equal(conversation.entries[0].used, true);
  });

  test("undo takes back the last answer and all after it, and says so to the bot", async () => {
    const { board, clock, conversation } = await talking();
    for (const text of ["one", "two"]) {
      conversation.say(text);
      await clock.advance(SOON);
      board.say({ body: `re ${text}` });
      await clock.advance(SOON);
    }

    conversation.undo();
    await clock.advance(SOON);

    const payload = { type: "rollback", rollback_count: 1 };
    assert.deepEqual(board.only.heard.at(-1), { message: "Rollback Request", payload });
    assert.deepEqual(conversation.entries.map(({ undone = false }) => undone), [false, false, true, true, false]);
    assert.equal(conversation.lastAnswer?.text, "one");
  });

  test("stopping leaves no line, no timer and no channel", async () => {
    const { board, channels, clock, conversation } = await talking();
    conversation.say("x");
    board.links[0].ws.receive({ type: "typing", ms: 10_000 });

    conversation.stop();
    await clock.advance(60_000);

    assert.equal(board.links.length, 0);
    assert.equal(board.opened, 2); // a new conversation begins twice: tabs agree on a token first
    assert.equal(channels.count, 0);
    assert.equal(clock.pending, 0);
  });
});

describe("outcomes", () => {
  test("what is refused for good stays failed, over a drop too, until it is retried, with the same cid", async () => {
    const { board, clock, conversation } = await talking();
    /** @type {string[]} */ const cids = [];
    board.fate = ({ cid }) => (cids.push(cid), { code: "concierge_rejected", retry: false });
    conversation.say("no");
    await clock.advance(SOON);
    board.drop();
    await clock.advance(HOUR);
    assert.deepEqual(states(conversation), ["failed"]);
    assert.equal(cids.length, 1);

    board.fate = ({ cid }) => (cids.push(cid), null);
    board.only.outcomes.clear(); // it remembers for 10 minutes
    conversation.retry(find(conversation, "no"));
    assert.deepEqual(states(conversation), ["sending"]);
    await clock.advance(SOON);

    assert.deepEqual(states(conversation), ["sent"]);
    assert.deepEqual(board.only.heard, ["no"]);
    assert.equal(cids[0], cids[1]);
  });

  test("what comes after a message refused for good is sent", async () => {
    const { board, clock, conversation } = await talking();
    board.fate = ({ message }) => (message === "no" ? { code: "concierge_rejected", retry: false } : null);

    for (const text of ["a", "no", "b"]) conversation.say(text);
    await clock.advance(SOON);

    assert.deepEqual(states(conversation), ["sent", "failed", "sent"]);
    assert.deepEqual(board.only.heard, ["a", "b"]);
  });

  test("while the Concierge is away all fails; a retry of any sends all in order", async () => {
    const { board, clock, conversation } = await talking();
    board.fate = () => ({ code: "concierge_unavailable", retry: true });
    for (const text of ["a", "b", "c"]) conversation.say(text);
    await clock.advance(SOON);
    assert.deepEqual(states(conversation), ["failed", "failed", "failed"]);

    board.fate = () => null;
    conversation.retry(find(conversation, "b"));
    await clock.advance(SOON);

    assert.deepEqual(states(conversation), ["sent", "sent", "sent"]);
    assert.deepEqual(board.only.heard, ["a", "b", "c"]);
  });

  test("while the Concierge is away the next message takes the failed ones along, first", async () => {
    const { board, clock, conversation } = await talking();
    board.fate = () => ({ code: "concierge_unavailable", retry: true });
    conversation.say("a");
    await clock.advance(SOON);

    board.fate = () => null;
    conversation.say("b");
    assert.deepEqual(states(conversation), ["sending", "sending"]);
    await clock.advance(SOON);

    assert.deepEqual(states(conversation), ["sent", "sent"]);
    assert.deepEqual(board.only.heard, ["a", "b"]);
  });

  test("in_progress is no failure: it goes again by itself", async () => {
    const { board, clock, conversation, told } = await talking();
    board.fate = () => ({ code: "in_progress", retry: true });
    conversation.say("a");
    conversation.say("b");
    await clock.advance(3_500);
    assert.deepEqual(states(conversation), ["sending", "sending"]);

    board.fate = () => null;
    await clock.advance(1_500);

    assert.deepEqual(states(conversation), ["sent", "sent"]);
    assert.deepEqual(board.only.heard, ["a", "b"]);
    assert.equal(told.failures, 0);
  });
});

describe("away", () => {
  test("50 messages typed offline go out in order", async () => {
    const { board, clock, conversation } = await talking();
    board.up = false;
    board.drop();
    const texts = numbered("m", 50);
    for (const text of texts) conversation.say(text);
    await clock.advance(60_000);
    assert.deepEqual(new Set(states(conversation)), new Set(["sending"]));

    board.up = true;
    await clock.advance(60_000);

    assert.deepEqual(board.only.heard, texts);
    assert.deepEqual(new Set(states(conversation)), new Set(["sent"]));
  });

  test("50 messages typed before there was ever a line go out in order", async () => {
    const { board, clock, tab } = browser();
    board.up = false;
    const { conversation } = tab();
    const texts = numbered("m", 50);
    for (const text of texts) conversation.say(text);
    await clock.advance(60_000);

    board.up = true;
    await clock.advance(60_000);

    assert.deepEqual(board.only.heard, texts);
  });

  test("after a gap in the ids it comes back and has all, once and in order", async () => {
    const { board, clock, conversation, told } = await talking();
    board.say({ body: "1" });
    await clock.advance(SOON);
    board.only.mailbox.push({ body: "2" }); // without telling anybody

    board.say({ body: "3" });
    await clock.advance(2_000);

    assert.deepEqual(shown(conversation), ["bot: 1", "bot: 2", "bot: 3"]);
    assert.deepEqual(told.arrived, ["1", "2", "3"]);
    assert.equal(board.opened, 3);
  });

  test("what was lost on the server leaves a note, and what follows is shown", async () => {
    const { board, clock, conversation } = await talking();
    board.say({ body: "1" });
    await clock.advance(SOON);
    Object.assign(board.only, { epoch: "later", mailbox: [] });
    board.drop();
    await clock.advance(SOON * 2);

    board.say({ body: "2" });
    await clock.advance(SOON);

    assert.deepEqual(shown(conversation), ["bot: 1", "note: lost", "bot: 2"]);
  });

  test("a new session is no loss: no note", async () => {
    const { conversation } = await talking();

    assert.deepEqual(shown(conversation), []);
  });

  for (const seed of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) {
    test(`random drops, refusals and lost acks: all once, in order, both ways (seed ${seed})`, async () => {
      const random = seeded(seed);
      const { board, clock, conversation, told } = await talking();
      let said = 0;
      let answered = 0;
      board.fate = () =>
        random() < 0.15 ? { code: random() < 0.5 ? "in_progress" : "concierge_unavailable", retry: true } : null;

      for (let step = 0; step < 200; step += 1) {
        const kind = random();
        if (kind < 0.2) conversation.say(`u${said++}`);
        else if (kind < 0.4) board.say({ body: `b${answered++}` });
        else if (kind < 0.5) board.drop(random() < 0.5 ? 1006 : 1012);
        else if (kind < 0.55) board.up = !board.up;
        else await clock.advance(random() * 400);
      }
      board.up = true;
      board.fate = () => null;
      await clock.advance(60_000);
      const failed = conversation.entries.find(({ state }) => state === "failed");
      if (failed) conversation.retry(failed);
      await clock.advance(60_000);

      assert.ok(said > 20 && answered > 20);
      assert.deepEqual(board.only.heard, numbered("u", said));
      assert.deepEqual(told.arrived, numbered("b", answered));
      assert.deepEqual(new Set(states(conversation)), new Set(["sent"]));
    });
  }
});

describe("the end of a session", () => {
  test("4001 clears the token, keeps what was said, and what waits goes to the new session", async () => {
    const { board, clock, conversation, told } = await talking();
    conversation.say("before");
    await clock.advance(SOON);
    board.say({ body: "Hi" });
    await clock.advance(SOON);
    const [old] = [...board.sessions.values()];
    board.up = false;
    board.drop();
    conversation.say("waits");
    board.tokens.clear();

    board.up = true;
    await clock.advance(10_000);

    assert.equal(board.sessions.size, 2);
    const [, fresh] = [...board.sessions.values()];
    assert.deepEqual(old.heard, ["before"]);
    assert.deepEqual(fresh.heard, ["waits"]);
    assert.deepEqual(shown(conversation), ["user: before", "bot: Hi", "user: waits", "note: lost"]);
    assert.deepEqual(states(conversation), ["sent", "sent"]);
    assert.deepEqual(told.errors, ["bad_token"]);
  });

  test("the first message of the new session is shown, though its number is one that was", async () => {
    const { board, clock, conversation } = await talking();
    board.say({ body: "old" });
    await clock.advance(SOON);
    board.tokens.clear();
    board.drop();
    await clock.advance(5_000);

    board.say({ body: "new" }, [...board.sessions.values()][1]);
    await clock.advance(SOON);

    assert.deepEqual(shown(conversation), ["bot: old", "note: lost", "bot: new"]);
  });

  test("two tabs whose token has run out end in one session, both times of two", async () => {
    for (const [first, second] of [[0, 0], [0, 200], [200, 0]]) {
      const { board, clock, tab } = browser();
      const [a, b] = [tab(), tab()];
      a.conversation.start();
      await clock.advance(SOON);
      b.conversation.start();
      await clock.advance(SOON);
      a.conversation.say("before");
      await clock.advance(SOON);
      board.tokens.clear();
      const [linkOfA, linkOfB] = board.links;

      clock.setTimeout(() => linkOfA.ws.end(1006), first);
      clock.setTimeout(() => linkOfB.ws.end(1006), second);
      await clock.advance(20_000);

      const open = board.links.filter(({ ws }) => ws.readyState === 1).map(({ session }) => session.id);
      assert.equal(open.length, 2, `${first}, ${second}`);
      assert.equal(new Set(open).size, 1, `${first}, ${second}`);
      assert.deepEqual(shown(a.conversation).filter((line) => line.startsWith("user")), ["user: before"]);
    }
  });

  test("a tab that hears late that its token has run out does not end the session another tab has begun", async () => {
    const { board, clock, tab } = browser();
    const [a, b] = [tab(), tab()];
    a.conversation.start();
    await clock.advance(SOON);
    a.conversation.say("before");
    await clock.advance(SOON);
    /** @type {any} */ let slow = null;
    b.conversation.start();
    slow = board.links.at(-1); // B's open goes nowhere for now
    slow.cut = true;
    slow.ws.open();
    board.tokens.clear();
    board.links[0].ws.end(1006);
    await clock.advance(5_000);
    assert.equal(a.conversation.state, "open");

    slow.ws.end(4001);
    board.links = board.links.filter(({ cut }) => !cut);
    await clock.advance(5_000);

    const talking = board.links.filter(({ ws }) => ws.readyState === 1).map(({ session }) => session.id);
    assert.equal(talking.length, 2);
    assert.equal(new Set(talking).size, 1);
    assert.equal(board.sessions.size, 2);
  });

  test("reset begins anew: another session, nothing of before", async () => {
    const { board, clock, conversation } = await talking();
    conversation.say("before");
    await clock.advance(SOON);

    conversation.reset();
    assert.deepEqual(conversation.entries, []);
    assert.equal(conversation.begun, false);
    conversation.say("after");
    await clock.advance(SOON);

    assert.deepEqual([...board.sessions.values()].map(({ heard }) => heard), [["before"], ["after"]]);
    assert.deepEqual(shown(conversation), ["user: after"]);
  });

  test("what waited when it was reset is never sent", async () => {
    const { board, clock, conversation } = await talking();
    board.up = false;
    board.drop();
    conversation.say("before");

    conversation.reset();
    board.up = true;
    conversation.say("after");
    await clock.advance(20_000);

    assert.deepEqual([...board.sessions.values()].flatMap(({ heard }) => heard), ["after"]);
  });

  test("4003 leaves it replaced until something is said", async () => {
    const { board, clock, conversation } = await talking();

    board.drop(4003);
    await clock.advance(HOUR);
    assert.equal(board.opened, 2);
    conversation.say("here");
    await clock.advance(SOON);

    assert.deepEqual(board.only.heard, ["here"]);
  });
});

describe("reload", () => {
  test("the same conversation is there, nothing is announced, and nothing comes again", async () => {
    const { board, clock, conversation, tab } = await talking();
    conversation.say("Hello");
    await clock.advance(SOON);
    board.say({ body: "Hi" });
    await clock.advance(SOON);
    conversation.stop();

    const again = tab();
    again.conversation.start();
    await clock.advance(SOON);

    assert.deepEqual(shown(again.conversation), ["user: Hello", "bot: Hi"]);
    assert.deepEqual(again.told.arrived, []);
    assert.equal(board.sessions.size, 1);
    assert.deepEqual(board.only.heard, ["Hello"]);
  });

  test("what was said while nobody was there comes, and is announced", async () => {
    const { board, clock, conversation, tab } = await talking();
    conversation.stop();
    board.say({ body: "Where are you?" });
    await clock.advance(SOON);

    const again = tab();
    again.conversation.start();
    await clock.advance(SOON);

    assert.deepEqual(shown(again.conversation), ["bot: Where are you?"]);
    assert.deepEqual(again.told.arrived, ["Where are you?"]);
  });

  test("what was unsent is sent once, with the same cid, and in order", async () => {
    const { board, clock, conversation, tab } = await talking();
    board.up = false;
    board.drop();
    const texts = numbered("m", 5);
    for (const text of texts) conversation.say(text);
    const cids = conversation.entries.map(({ key }) => key);
    conversation.stop();
    board.up = true;

    const again = tab();
    again.conversation.start();
    await clock.advance(SOON);

    assert.deepEqual(board.only.heard, texts);
    assert.deepEqual([...board.only.outcomes.keys()], cids);
    assert.deepEqual(states(again.conversation), Array(5).fill("sent"));
  });

  test("what was sent but had no ack is not posted twice", async () => {
    const { board, clock, conversation, tab } = await talking();
    conversation.say("once");
    await clock.advance(6); // it is there, its ack is on its way
    assert.deepEqual(board.only.heard, ["once"]);
    conversation.stop();

    const again = tab();
    assert.deepEqual(states(again.conversation), ["sending"]);
    again.conversation.start();
    await clock.advance(SOON);

    assert.deepEqual(board.only.heard, ["once"]);
    assert.deepEqual(states(again.conversation), ["sent"]);
  });

  test("what failed is still failed, is not sent by itself, and can be retried", async () => {
    const { board, clock, conversation, tab } = await talking();
    board.fate = () => ({ code: "concierge_rejected", retry: false });
    conversation.say("no");
    await clock.advance(SOON);
    conversation.stop();
    board.fate = () => null;
    board.only.outcomes.clear();

    const again = tab();
    again.conversation.start();
    await clock.advance(SOON);
    assert.deepEqual(states(again.conversation), ["failed"]);
    again.conversation.retry(find(again.conversation, "no"));
    await clock.advance(SOON);

    assert.deepEqual(board.only.heard, ["no"]);
    assert.deepEqual(states(again.conversation), ["sent"]);
  });

  test("what is older than 24 h is offered, not sent; what is younger is sent", async () => {
    const { board, clock, conversation, tab } = await talking();
    board.up = false;
    board.drop();
    conversation.say("yesterday");
    await clock.advance(2 * HOUR);
    conversation.say("today");
    conversation.stop();
    await clock.advance(22 * HOUR + 1_000);
    board.up = true;

    const again = tab();
    assert.deepEqual(states(again.conversation), ["old", "sending"]);
    again.conversation.start();
    await clock.advance(SOON);
    assert.deepEqual(states(again.conversation), ["old", "sent"]);
    assert.deepEqual(board.only.heard, ["today"]);
    again.conversation.retry(find(again.conversation, "yesterday"));
    await clock.advance(SOON);

    assert.deepEqual(board.only.heard, ["today", "yesterday"]);
    assert.deepEqual(states(again.conversation), ["sent", "sent"]);
  });

  test("a tab that was asleep for longer than 24 h offers what waited, too", async () => {
    const { board, clock, conversation } = await talking();
    board.up = false;
    board.drop();
    conversation.say("yesterday");
    await clock.advance(24 * HOUR + 60_000);
    conversation.say("today");

    board.up = true;
    await clock.advance(60_000);
    assert.deepEqual(states(conversation), ["old", "sent"]);
    assert.deepEqual(board.only.heard, ["today"]);
    board.up = false;
    board.drop();
    conversation.retry(find(conversation, "yesterday")); // the user means it, on a line or not
    board.up = true;
    await clock.advance(60_000);

    assert.deepEqual(board.only.heard, ["today", "yesterday"]);
  });

  test("the last 100 entries are kept", async () => {
    const { board, clock, conversation, tab } = await talking();
    for (let n = 0; n < 130; n += 1) board.say({ body: `b${n}` });
    await clock.advance(SOON);
    conversation.stop();

    const again = tab().conversation;

    assert.deepEqual(shown(again), numbered("b", 130).slice(30).map((text) => `bot: ${text}`));
  });
});

describe("two tabs", () => {
  /** Two tabs of one conversation, both connected. @param {Parameters<typeof browser>[0]} [options] */
  async function two(options) {
    const world = await talking(options);
    const other = world.tab();
    other.conversation.start();
    await world.clock.advance(SOON);
    return { ...world, a: { conversation: world.conversation, told: world.told }, b: other };
  }

  test("what is said in one is shown in both, once and in one order, within 300 ms, and sent once", async () => {
    const { a, b, board, clock } = await two();

    a.conversation.say("from A");
    await clock.advance(100);
    b.conversation.say("from B");
    await clock.advance(200);

    for (const { conversation } of [a, b]) {
      assert.deepEqual(shown(conversation), ["user: from A", "user: from B"]);
      assert.deepEqual(states(conversation), ["sent", "sent"]);
    }
    assert.deepEqual(board.only.heard, ["from A", "from B"]);
  });

  test("what is said in both at the same time is in one order in both", async () => {
    const { a, b, board, clock } = await two({ latency: 20 });

    a.conversation.say("from A");
    b.conversation.say("from B");
    await clock.advance(SOON);

    assert.equal(a.conversation.entries.length, 2);
    assert.deepEqual(shown(a.conversation), shown(b.conversation));
    assert.equal(board.only.heard.length, 2);
  });

  test("what the bot says is shown once in each, and announced once in each", async () => {
    const { a, b, board, clock } = await two();

    board.say({ body: "Hi" });
    await clock.advance(SOON);

    for (const { conversation, told } of [a, b]) {
      assert.deepEqual(shown(conversation), ["bot: Hi"]);
      assert.deepEqual(told.arrived, ["Hi"]);
    }
  });

  test("unread counts the same in both, and what is seen in one is seen in the other", async () => {
    const { a, b, board, clock } = await two();
    board.say({ body: "1" });
    board.say({ body: "2" });
    await clock.advance(SOON);
    assert.deepEqual([a.conversation.unread, b.conversation.unread], [2, 2]);

    b.conversation.see();
    await clock.advance(SOON);

    assert.deepEqual([a.conversation.unread, b.conversation.unread], [0, 0]);
    board.say({ body: "3" });
    await clock.advance(SOON);
    assert.deepEqual([a.conversation.unread, b.conversation.unread], [1, 1]);
  });

  test("a button that is pressed in one cannot be pressed in the other", async () => {
    const { a, b, board, clock } = await two();
    const button = { text: "Yes", payload: 1 };
    board.say({ body: "?", type: "button", buttons: [button] });
    await clock.advance(SOON);
    const [entry] = b.conversation.entries;

    a.conversation.press(entry, button);
    await clock.advance(SOON);
    b.conversation.press(entry, button);
    await clock.advance(SOON);

    assert.equal(board.only.heard.length, 1);
  });

  test("a tab that opens while another's message is under way sends it no second time", async () => {
    const { a, board, clock, tab } = await two();
    board.up = false;
    board.drop();
    const texts = numbered("m", 10);
    for (const text of texts) a.conversation.say(text);
    const third = tab();
    third.conversation.start();

    board.up = true;
    await clock.advance(60_000);

    assert.deepEqual(board.only.heard, texts);
    for (const { conversation } of [a, third]) assert.deepEqual(states(conversation), Array(10).fill("sent"));
  });

  test("what failed in one can be retried in the other, and then both go on", async () => {
    const { a, b, board, clock } = await two();
    board.fate = () => ({ code: "concierge_unavailable", retry: true });
    a.conversation.say("first");
    await clock.advance(SOON);
    assert.deepEqual([states(a.conversation), states(b.conversation)], [["failed"], ["failed"]]);

    board.fate = () => null;
    b.conversation.retry(find(b.conversation, "first"));
    await clock.advance(SOON);
    a.conversation.say("second");
    await clock.advance(5_000);

    assert.deepEqual(board.only.heard, ["first", "second"]);
    assert.deepEqual(states(a.conversation), ["sent", "sent"]);
    assert.deepEqual(states(b.conversation), ["sent", "sent"]);
  });

  for (const latency of [0, 1, 50]) {
    test(`two that begin at the same time end in one session (news take ${latency} ms)`, async () => {
      const { board, clock, tab } = browser({ latency });
      const [a, b] = [tab(), tab()];
      a.conversation.start();
      b.conversation.start();
      await clock.advance(10_000);

      a.conversation.say("from A");
      b.conversation.say("from B");
      await clock.advance(10_000);

      const used = [...board.sessions.values()].filter(({ heard }) => heard.length);
      assert.equal(used.length, 1);
      assert.equal(used[0].heard.length, 2);
      assert.equal(new Set(board.links.map(({ session }) => session.id)).size, 1);
    });
  }

  test("reset in one is a reset in both, and both go on in one new session", async () => {
    const { a, b, board, clock } = await two();
    a.conversation.say("before");
    await clock.advance(SOON);

    a.conversation.reset();
    await clock.advance(SOON);
    assert.deepEqual([a.conversation.entries, b.conversation.entries], [[], []]);
    assert.equal(board.links.length, 0); // nobody has said anything yet
    b.conversation.say("from B");
    await clock.advance(5_000);
    a.conversation.say("from A");
    await clock.advance(5_000);

    const [old, fresh, ...more] = [...board.sessions.values()];
    assert.deepEqual(more, []);
    assert.deepEqual(old.heard, ["before"]);
    assert.deepEqual(fresh.heard, ["from B", "from A"]);
    for (const { conversation } of [a, b]) assert.deepEqual(shown(conversation), ["user: from B", "user: from A"]);
  });

  test("a tab that is just connecting when the other is reset does not bring the old session back", async () => {
    const { a, b, board, clock } = await two({ latency: 2_000 });
    a.conversation.say("before");
    await clock.advance(2_000 + SOON);
    board.links[1].ws.end(1006);
    a.conversation.reset();

    await clock.advance(SOON * 2); // B is back before it has heard of it
    b.conversation.say("after");
    await clock.advance(10_000);

    const [old, ...fresh] = [...board.sessions.values()];
    assert.deepEqual(old.heard, ["before"]);
    assert.deepEqual(fresh.flatMap(({ heard }) => heard), ["after"]);
    assert.deepEqual(shown(a.conversation), ["user: after"]);
  });

  test("a session that ends for one tab ends for the other too", async () => {
    const { a, b, board, clock } = await two();
    a.conversation.say("before");
    await clock.advance(SOON);
    board.tokens.clear();
    board.links[0].ws.end(1006); // only A's line

    await clock.advance(10_000);
    b.conversation.say("from B");
    a.conversation.say("from A");
    await clock.advance(10_000);

    const [old, ...fresh] = [...board.sessions.values()];
    assert.deepEqual(old.heard, ["before"]);
    assert.equal(fresh.filter(({ heard }) => heard.length).length, 1);
    assert.equal(fresh.flatMap(({ heard }) => heard).length, 2);
  });

  test("something said in one in the very moment of a reset in the other is not lost from sight", async () => {
    const { a, b, clock } = await two({ latency: 20 });

    a.conversation.reset();
    b.conversation.say("just now");
    await clock.advance(10_000);

    assert.deepEqual(shown(b.conversation), ["user: just now"]);
    assert.deepEqual(shown(a.conversation), ["user: just now"]);
  });

  test("without channels each learns from the store with its next change", async () => {
    const { a, b, board, clock } = await two({ channels: false });

    a.conversation.say("from A");
    await clock.advance(SOON);
    b.conversation.say("from B");
    await clock.advance(SOON);

    assert.deepEqual(shown(b.conversation), ["user: from A", "user: from B"]);
    assert.deepEqual(board.only.heard, ["from A", "from B"]);
  });
});

describe("a store that does not keep", () => {
  test("one that throws: all works, but for the reload", async () => {
    const { board, clock, conversation } = await talking({ store: new FakeStore({ throws: true }) });

    conversation.say("Hello");
    await clock.advance(SOON);
    board.say({ body: "Hi" });
    await clock.advance(SOON);
    board.drop();
    board.say({ body: "Again" });
    await clock.advance(SOON * 2);

    assert.deepEqual(shown(conversation), ["user: Hello", "bot: Hi", "bot: Again"]);
    assert.equal(board.sessions.size, 1);
  });

  test("two tabs without a store share by the channel", async () => {
    const { board, clock, conversation, tab } = await talking({ store: new FakeStore({ throws: true }) });
    const other = tab();
    other.conversation.start();
    await clock.advance(SOON);

    conversation.say("Hello");
    await clock.advance(SOON);

    assert.ok(board);
    assert.deepEqual(shown(other.conversation), ["user: Hello"]);
  });

  test("one that is full keeps the token and the latest that fit; in sight is all", async () => {
    const store = new FakeStore({ room: 1_500 });
    const { board, clock, conversation, tab } = await talking({ store });
    for (let n = 0; n < 60; n += 1) board.say({ body: `b${n}` });
    await clock.advance(SOON);
    assert.equal(conversation.entries.length, 60);

    conversation.stop();
    const again = tab();
    again.conversation.start();
    await clock.advance(SOON);

    const kept = shown(again.conversation);
    assert.ok(kept.length > 3 && kept.length < 60, `${kept.length} kept`);
    assert.equal(kept.at(-1), "bot: b59");
    assert.equal(board.sessions.size, 1);
    assert.deepEqual(again.told.arrived, []);
  });

  test("one without any room: all works, but for the reload", async () => {
    const { board, clock, conversation } = await talking({ store: new FakeStore({ room: 0 }) });

    conversation.say("Hello");
    await clock.advance(SOON);

    assert.deepEqual(states(conversation), ["sent"]);
    assert.deepEqual(board.only.heard, ["Hello"]);
  });

  for (const [what, text] of [
    ["that is no JSON", "{"],
    ["of another kind", "[1]"],
    ["with parts of another kind", '{"era":0,"entries":5}'],
  ]) {
    test(`one that holds something ${what}: it begins anew`, async () => {
      const store = new FakeStore();
      store.setItem(`switchboard-chat ${ADDRESS}`, text);

      const { board, clock, conversation } = await talking({ store });
      conversation.say("Hello");
      await clock.advance(SOON);

      assert.deepEqual(board.only.heard, ["Hello"]);
    });
  }
});

describe("the classic wire", () => {
  test("what is on the line counts as sent", async () => {
    const { board, clock, conversation } = await talking({ classic: true });

    conversation.say("Hello", { a: 1 });
    await settle();

    assert.deepEqual(states(conversation), ["sent"]);
    await clock.advance(SOON);
    assert.deepEqual(board.only.heard, [{ message: "Hello", payload: { a: 1 } }]);
  });

  test("what is said without a line waits, and goes in order when it is there", async () => {
    const { board, clock, conversation } = await talking({ classic: true });
    board.up = false;
    board.drop();
    const texts = numbered("m", 50);
    for (const text of texts) conversation.say(text);
    await clock.advance(10_000);
    assert.deepEqual(new Set(states(conversation)), new Set(["sending"]));

    board.up = true;
    await clock.advance(60_000);

    assert.deepEqual(board.only.heard, texts);
    assert.deepEqual(new Set(states(conversation)), new Set(["sent"]));
  });

  test("after a reload what was unsent is failed, is not sent by itself, and can be retried", async () => {
    const { board, clock, conversation, tab } = await talking({ classic: true });
    board.up = false;
    board.drop();
    conversation.say("unsent");
    conversation.stop();
    board.up = true;

    const again = tab();
    again.conversation.start();
    await clock.advance(SOON);
    assert.deepEqual(states(again.conversation), ["failed"]);
    assert.deepEqual(board.only.heard, []);
    again.conversation.retry(find(again.conversation, "unsent"));
    await clock.advance(SOON);

    assert.deepEqual(board.only.heard, ["unsent"]);
    assert.deepEqual(states(again.conversation), ["sent"]);
  });

  test("what the bot says is shown, twice if it says it twice", async () => {
    const { board, clock, conversation } = await talking({ classic: true });

    board.say({ body: "Hi" });
    board.say({ body: "Hi" });
    await clock.advance(SOON);

    assert.deepEqual(shown(conversation), ["bot: Hi", "bot: Hi"]);
  });
});
