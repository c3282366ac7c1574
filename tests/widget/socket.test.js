// @ts-check
/** The connection: when it comes back, when it stays away, which ids it takes. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Socket } from "../../web_client/socket.js";
import { fakeLine, FakeClock, fakeBrowser } from "./fakes.js";

const URL = "wss://chat.example.com/";
const HELLO = { type: "hello", session: "s1", token: "t1", resumed: true, missed: 0, heartbeat: 25, retry: [0, 5000] };

/**
 * A socket, and all that it tells.
 *
 * @param {{classic?: boolean, place?: any, seed?: number, welcome?: () => boolean}} [options]
 */
function dialled({ classic = false, place = { token: "", last: "" }, seed = 1, welcome = () => true } = {}) {
  const clock = new FakeClock({ seed });
  const line = fakeLine();
  const told = /** @type {any} */ ({ states: [], hellos: [], messages: [], typing: [], settled: [], errors: [] });
  const socket = new Socket(
    URL,
    {
      place: () => place,
      state: (state) => told.states.push(state),
      hello: (hello) => (told.hellos.push(hello), welcome()),
      message: (id, data) => told.messages.push([id, data]),
      typing: (ms) => told.typing.push(ms),
      settled: (cid, outcome) => told.settled.push([cid, outcome.ok]),
      error: (code) => told.errors.push(code),
    },
    fakeBrowser({ clock, open: line.open }),
    classic,
  );
  return { clock, line, socket, told };
}

/** A socket that is through with hello. @param {Parameters<typeof dialled>[0]} [options] @param {any} [hello] */
function greeted(options, hello = {}) {
  const all = dialled(options);
  all.socket.start();
  all.line.latest.open();
  all.line.latest.receive({ ...HELLO, ...hello });
  return all;
}

/** How long it waits until it dials again. @param {ReturnType<typeof dialled>} all @param {number} bound  ms */
async function waited({ clock, line }, bound) {
  const [before, dials] = [clock.now(), line.sockets.length];
  while (line.sockets.length === dials) {
    assert.ok(clock.now() - before <= bound, `no try within ${bound} ms`);
    await clock.advance(1);
  }
  return clock.now() - before;
}

/** @param {number} n */
const message = (n, epoch = "k") => ({ type: "message", id: `${epoch}:${n}`, data: { body: `${n}` } });

describe("opening", () => {
  test("the first frame tells token and last, on the subprotocol switchboard.v1", () => {
    const { line, socket } = dialled({ place: { token: "t0", last: "k:41" } });

    socket.start();
    line.latest.open();

    assert.deepEqual(line.latest.protocols, ["switchboard.v1"]);
    assert.deepEqual(line.latest.sent, [{ type: "open", token: "t0", last: "k:41" }]);
  });

  test("with a token but no message yet, last is the empty string, not absent", () => {
    const { line, socket } = dialled({ place: { token: "t0", last: "" } });

    socket.start();
    line.latest.open();

    assert.deepEqual(line.latest.sent, [{ type: "open", token: "t0", last: "" }]);
  });

  test("without a token it opens a new session, whatever came last", () => {
    const { line, socket } = dialled({ place: { token: "", last: "k:41" } });

    socket.start();
    line.latest.open();

    assert.deepEqual(line.latest.sent, [{ type: "open" }]);
  });

  test("it is open after hello, not before, and says nothing until then", () => {
    const { line, socket, told } = dialled();

    socket.start();
    line.latest.open();

    assert.equal(socket.send({ cid: "c1", text: "Hello" }), false);
    line.latest.receive(HELLO);
    assert.equal(socket.send({ cid: "c1", text: "Hello" }), true);
    assert.deepEqual(told.states, ["connecting", "open"]);
    assert.deepEqual(line.latest.sent.at(-1), { type: "message", cid: "c1", message: "Hello" });
  });

  test("starting twice dials once", () => {
    const { line, socket } = greeted();

    socket.start();

    assert.equal(line.sockets.length, 1);
  });

  test("a hello that is not welcome makes it connect again, soon", async () => {
    let welcome = false;
    const { clock, line, socket } = dialled({ welcome: () => welcome });
    socket.start();
    line.latest.open();

    line.latest.receive(HELLO);
    line.latest.receive({ type: "message", id: "k:1", data: {} }); // which is no reason to stay
    welcome = true;
    await clock.advance(200);

    assert.equal(line.sockets.length, 2);
    assert.equal(line.sockets[0].closedWith, 1000);
    line.latest.open();
    line.latest.receive(HELLO);
    assert.equal(socket.state, "open");
  });

  test("a line that says no hello within 10 s is given up", async () => {
    const { clock, line, socket } = dialled();
    socket.start();
    line.latest.open();

    await clock.advance(9_999);
    assert.equal(socket.state, "connecting");
    await clock.advance(1);

    assert.equal(socket.state, "waiting");
    assert.equal(line.latest.closedWith, 1000);
  });

  test("a line that never opens is given up after 10 s too", async () => {
    const { clock, line, socket } = dialled();
    socket.start();

    await clock.advance(10_000);

    assert.equal(socket.state, "waiting");
    assert.equal(line.latest.closedWith, 1000);
  });
});

describe("coming back", () => {
  test("each pause is random up to a bound that doubles from 0.5 s to 30 s", async () => {
    const bounds = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000];
    for (const portion of [0, 0.5, 0.999_999]) {
      const all = dialled();
      all.clock.random = () => portion;
      all.socket.start();

      for (const bound of bounds) {
        all.line.latest.end(1006);
        const pause = await waited(all, bound);
        assert.ok(Math.abs(pause - portion * bound) <= 1, `${pause} ms of ${bound}, at ${portion}`);
      }
    }
  });

  test("the pauses are spread over all of the bound, so that not all come at once", async () => {
    const pauses = [];
    for (let seed = 1; seed <= 60; seed += 1) {
      const all = greeted({ seed });
      all.line.latest.end(1006);
      pauses.push(await waited(all, 500));
    }

    assert.ok(Math.min(...pauses) < 100, `least ${Math.min(...pauses)}`);
    assert.ok(Math.max(...pauses) > 400, `most ${Math.max(...pauses)}`);
    assert.ok(Math.max(...pauses) <= 500);
  });

  test("what is heard after a hello makes the bound small again", async () => {
    const all = dialled();
    all.clock.random = () => 0.999_999;
    all.socket.start();
    for (const bound of [500, 1_000, 2_000, 4_000]) {
      all.line.latest.end(1006);
      await waited(all, bound);
    }

    all.line.latest.open();
    all.line.latest.receive(HELLO);
    all.line.latest.receive({ type: "heartbeat" });
    all.line.latest.end(1006);

    assert.ok((await waited(all, 500)) >= 499);
  });

  test("a line that is closed for what is said right after each hello is tried ever more rarely", async () => {
    const all = dialled();
    all.clock.random = () => 0.999_999;
    all.socket.start();

    for (const bound of [500, 1_000, 2_000, 4_000]) {
      all.line.latest.open();
      all.line.latest.receive(HELLO);
      all.line.latest.end(1009);
      assert.ok((await waited(all, bound)) >= bound - 1);
    }
  });

  test("an open line without a hello does not make the bound small", async () => {
    const all = dialled();
    all.clock.random = () => 0.999_999;
    all.socket.start();
    all.line.latest.end(1006);
    await waited(all, 500);

    all.line.latest.open();
    all.line.latest.end(1006);

    assert.ok((await waited(all, 1_000)) >= 999);
  });

  for (const code of [1001, 1012]) {
    test(`after ${code} the first try is anywhere within the server's window, later ones by back-off`, async () => {
      for (const portion of [0, 0.5, 0.999_999]) {
        const all = greeted({}, { retry: [1_000, 4_000] });
        all.clock.random = () => portion;

        all.line.latest.end(code);
        const first = await waited(all, 4_000);
        all.line.latest.end(code);
        const second = await waited(all, 1_000);

        assert.ok(Math.abs(first - (1_000 + portion * 3_000)) <= 1, `${first} ms at ${portion}`);
        assert.ok(Math.abs(second - portion * 1_000) <= 1, `${second} ms at ${portion}`);
      }
    });
  }

  test("starting while it waits dials at once", () => {
    const { line, socket } = greeted();
    line.latest.end(1006);

    socket.start();

    assert.equal(line.sockets.length, 2);
    assert.equal(socket.state, "connecting");
  });

  test("starting while it waits leaves no second try behind", async () => {
    const { clock, line, socket } = greeted();
    line.latest.end(1006);
    socket.start();
    line.latest.open();
    line.latest.receive(HELLO);

    await clock.advance(20_000);

    assert.equal(line.sockets.length, 2);
    assert.equal(socket.state, "open");
  });

  test("stopping ends the line and all tries", async () => {
    const { clock, line, socket, told } = greeted();

    socket.stop();
    await clock.advance(120_000);

    assert.equal(line.sockets.length, 1);
    assert.equal(line.latest.closedWith, 1000);
    assert.equal(clock.pending, 0);
    assert.deepEqual(told.states, ["connecting", "open", "stopped"]);
  });

  test("stopping while it waits ends all tries", async () => {
    const { clock, line, socket } = greeted();
    line.latest.end(1006);

    socket.stop();
    await clock.advance(120_000);

    assert.equal(line.sockets.length, 1);
    assert.equal(clock.pending, 0);
  });

  test("4003 keeps it away until it is started", async () => {
    const { clock, line, socket } = greeted();

    line.latest.end(4003);
    await clock.advance(600_000);

    assert.equal(socket.state, "replaced");
    assert.equal(line.sockets.length, 1);
    assert.equal(clock.pending, 0);
    socket.start();
    assert.equal(line.sockets.length, 2);
  });

  test("4001 says that the token is bad, and dials again after a pause", async () => {
    const place = { token: "bad", last: "k:3" };
    const all = dialled({ place });
    all.socket.start();
    all.line.latest.open();

    all.line.latest.end(4001);
    place.token = place.last = ""; // as the listener does
    await waited(all, 500);
    all.line.latest.open();

    assert.deepEqual(all.told.errors, ["bad_token"]);
    assert.deepEqual(all.line.latest.sent, [{ type: "open" }]);
  });

  test("frames of a line that was given up are not heard", async () => {
    const { clock, line, told } = greeted();
    const first = line.latest;

    await clock.advance(35_000);
    first.readyState = 1; // as a browser: what was on its way still comes while it closes
    first.receive(message(1));

    assert.deepEqual(told.messages, []);
  });
});

describe("signs of life", () => {
  test("a dead line is found within 35 s by the heartbeat that is missing, not within 30", async () => {
    const { clock, line, socket } = greeted();

    await clock.advance(30_000);
    assert.equal(socket.state, "open");
    await clock.advance(5_000);

    assert.notEqual(socket.state, "open");
    assert.equal(line.sockets[0].closedWith, 1000);
  });

  test("a line with a heartbeat every 25 s is kept", async () => {
    const { clock, line, socket } = greeted();

    for (let beat = 0; beat < 20; beat += 1) {
      await clock.advance(25_000);
      line.latest.receive({ type: "heartbeat" });
    }

    assert.equal(socket.state, "open");
    assert.equal(line.sockets.length, 1);
  });

  test("any frame is as good as a heartbeat", async () => {
    const { clock, line, socket } = greeted();

    for (let n = 1; n <= 5; n += 1) {
      await clock.advance(25_000);
      line.latest.receive(n % 2 ? message(n === 1 ? 1 : (n + 1) / 2) : { type: "of a later version" });
    }

    assert.equal(socket.state, "open");
    assert.equal(line.sockets.length, 1);
  });
});

describe("frames", () => {
  test("acks, typing and errors reach the listener", () => {
    const { line, told } = greeted();

    line.latest.receive({ type: "ack", cid: "c1", ok: true });
    line.latest.receive({ type: "typing", ms: 10_000 });
    line.latest.receive({ type: "error", code: "bad_frame", detail: "" });

    assert.deepEqual(told.settled, [["c1", true]]);
    assert.deepEqual(told.typing, [10_000]);
    assert.deepEqual(told.errors, ["bad_frame"]);
  });

  test("what is no JSON object, or of a type that is not known, is ignored", () => {
    const { line, socket, told } = greeted();

    for (const text of ["", "x", "1", "null", "[]", '"a"', '{"type":"new"}', "{}"]) line.latest.receive(text);

    assert.equal(socket.state, "open");
    assert.deepEqual(told.messages, []);
  });
});

describe("ids", () => {
  test("what came before is dropped, in one connection", () => {
    const { line, told } = greeted();

    for (const n of [1, 2, 2, 1, 3]) line.latest.receive(message(n));

    assert.deepEqual(told.messages.map(([id]) => id), ["k:1", "k:2", "k:3"]);
  });

  test("what came before is dropped, of an earlier connection", () => {
    const { line, told } = greeted({ place: { token: "t", last: "k:2" } });

    for (const n of [1, 2, 3]) line.latest.receive(message(n));

    assert.deepEqual(told.messages.map(([id]) => id), ["k:3"]);
  });

  test("each connection begins at the place that it is told then, however far this socket came", async () => {
    const place = { token: "t", last: "k:2" };
    const all = greeted({ place });
    all.line.latest.receive(message(3));
    place.last = "k:5"; // by another tab
    all.line.latest.end(1006);
    await waited(all, 500);
    all.line.latest.open();
    all.line.latest.receive(HELLO);

    for (const n of [4, 5, 6]) all.line.latest.receive(message(n));

    assert.deepEqual(all.told.messages.map(([id]) => id), ["k:3", "k:6"]);
  });

  test("ids are compared as numbers", () => {
    const { line, told } = greeted({ place: { token: "t", last: "k:9" } });

    for (const n of [9, 10, 11]) line.latest.receive(message(n));

    assert.deepEqual(told.messages.map(([id]) => id), ["k:10", "k:11"]);
  });

  test("a gap makes it connect again and ask from the last id, and what is behind it is not taken", async () => {
    const place = { token: "t", last: "k:2" };
    const all = greeted({ place });

    all.line.latest.receive(message(4));
    await waited(all, 500);
    all.line.latest.open();

    assert.deepEqual(all.told.messages, []);
    assert.deepEqual(all.line.latest.sent, [{ type: "open", token: "t", last: "k:2" }]);
    all.line.latest.receive(HELLO);
    all.line.latest.receive(message(3));
    all.line.latest.receive(message(4));
    assert.deepEqual(all.told.messages.map(([id]) => id), ["k:3", "k:4"]);
  });

  test("a new epoch in the middle of a connection is taken as a gap", () => {
    const { line, socket, told } = greeted({ place: { token: "t", last: "k:2" } });

    line.latest.receive(message(3, "new"));

    assert.equal(socket.state, "waiting");
    assert.deepEqual(told.messages, []);
  });

  test("after resumed:false any id may follow, and then the next", () => {
    for (const first of [message(9), message(5, "new")]) {
      const hello = { resumed: false, why: "trimmed" };
      const { line, socket, told } = greeted({ place: { token: "t", last: "k:2" } }, hello);

      line.latest.receive(first);
      const [epoch, n] = first.id.split(":");
      line.latest.receive(message(Number(n) + 1, epoch));

      assert.equal(told.messages.length, 2);
      assert.equal(socket.state, "open");
    }
  });

  test("after resumed:false a second gap is still a gap", () => {
    const { line, socket } = greeted({ place: { token: "t", last: "k:2" } }, { resumed: false, why: "trimmed" });

    line.latest.receive(message(9));
    line.latest.receive(message(11));

    assert.equal(socket.state, "waiting");
  });

  test("a message without an id is taken, and moves nothing", () => {
    const { line, told } = greeted({ place: { token: "t", last: "k:2" } });

    line.latest.receive({ type: "message", data: { body: "bare" } });
    line.latest.receive(message(3));

    assert.deepEqual(told.messages.map(([id]) => id), ["", "k:3"]);
  });
});

describe("the classic wire", () => {
  test("it asks for no subprotocol, says nothing first, and is open at once", () => {
    const { line, socket } = dialled({ classic: true, place: { token: "t", last: "k:2" } });

    socket.start();
    line.latest.open();

    assert.deepEqual(line.latest.protocols, []);
    assert.deepEqual(line.latest.sent, []);
    assert.equal(socket.state, "open");
  });

  test("its frames are bare: a message without cid or type, a postback without id", () => {
    const { line, socket, told } = dialled({ classic: true });
    socket.start();
    line.latest.open();

    socket.send({ cid: "c1", text: "Yes", payload: { a: [1] } });
    socket.send({ cid: "c2", payload: { b: 2 } });
    line.latest.receive({ to: "u", from: "bot", body: "Hello", type: "button" });

    assert.deepEqual(line.latest.sent, [{ message: "Yes", payload: { a: [1] } }, { payload: { b: 2 } }]);
    assert.deepEqual(told.messages, [["", { to: "u", from: "bot", body: "Hello", type: "button" }]]);
  });

  test("a postback that looks like a frame of v1 is a postback", () => {
    const { line, told, socket } = dialled({ classic: true });
    socket.start();
    line.latest.open();

    line.latest.receive({ type: "hello", token: "x", resumed: false, heartbeat: 1 });
    line.latest.receive({ type: "ack", cid: "x", ok: true });

    assert.equal(told.messages.length, 2);
    assert.equal(told.hellos.length, 1);
    assert.deepEqual(told.settled, []);
  });

  test("silence is no sign of a dead line, since the wire has no heartbeat", async () => {
    const { clock, line, socket } = dialled({ classic: true });
    socket.start();
    line.latest.open();

    await clock.advance(600_000);

    assert.equal(socket.state, "open");
    assert.equal(line.sockets.length, 1);
  });
});
