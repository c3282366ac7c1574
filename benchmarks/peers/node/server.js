// The gateway's contract as a plain Node program, with the packages that most would use: what the
// benchmark compares with. No mailbox, no ids, no order among a user's messages; a link that breaks
// loses what was on it.
import axios from "axios";
import express from "express";
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { createClient } from "redis";
import { WebSocketServer } from "ws";

const CHANNEL = "bot-message";
const HEARTBEAT = 25_000; // milliseconds
const LONGEST_AGE = 900_000; // milliseconds between a request's Date and our clock
const {
  CONCIERGE_POSTBACK_SECRET_KEY: secret,
  CONCIERGE_URL: concierge,
  REDISCLOUD_URL: redisUrl,
  SWITCHBOARD_HOST: host = "0.0.0.0",
  SWITCHBOARD_PORT: port = "5555",
} = process.env;

const sockets = new Map(); // by session
const publisher = createClient({ url: redisUrl });
const subscriber = publisher.duplicate();
for (const client of [publisher, subscriber]) {
  client.on("error", (error) => console.error("redis:", error.message));
}

function sameText(one, other) {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function sign(method, path, type, body, date) {
  const hash = createHash("sha256").update(body).digest("base64");
  const text = [method, type, hash, path, date].join(",");
  return { hash, signature: createHmac("sha256", secret).update(text).digest("base64") };
}

function isSigned(request) {
  const [scheme, credentials = ""] = (request.get("authorization") ?? "").split(" ");
  const date = request.get("date") ?? "";
  const type = request.get("content-type") ?? "";
  const { hash, signature } = sign("POST", request.originalUrl, type, request.raw ?? "", date);
  return (
    scheme === "APIAuth-HMAC-SHA256" &&
    Math.abs(Date.now() - Date.parse(date)) < LONGEST_AGE &&
    sameText(hash, request.get("x-authorization-content-sha256") ?? "") &&
    sameText(signature, credentials.slice(credentials.indexOf(":") + 1))
  );
}

const app = express();
const keepRaw = (request, _response, buffer) => void (request.raw = buffer);

app.post("/", express.json({ verify: keepRaw }), async (request, response) => {
  if (!isSigned(request)) {
    response.status(401).end();
    return;
  }
  await publisher.publish(CHANNEL, JSON.stringify(request.body));
  response.status(204).end();
});

const lags = new Array(100).fill(0); // seconds that timers of the last 10 s were late
(function look(due) {
  lags.shift(lags.push((performance.now() - due) / 1000));
  setTimeout(look, 100, performance.now() + 100);
})(performance.now());
const lag = () => `switchboard_event_loop_lag_seconds ${Math.max(0, ...lags)}\n`;
app.get("/metrics", (_request, response) => response.type("text").send(lag()));

async function tellConcierge(session, text) {
  const { message, payload } = JSON.parse(text);
  const body = JSON.stringify({ Body: message, From: session, Payload: payload });
  const path = "/incoming/postback";
  const date = new Date().toUTCString();
  const { hash, signature } = sign("POST", path, "application/json", body, date);
  await axios.post(concierge + path, body, {
    headers: {
      "Content-Type": "application/json",
      Date: date,
      "X-Authorization-Content-SHA256": hash,
      Authorization: `APIAuth-HMAC-SHA256 switchboard:${signature}`,
    },
  });
}

const server = createServer(app);
const users = new WebSocketServer({ server });

users.on("connection", (socket, request) => {
  const session = new URL(request.url, "http://localhost").searchParams.get("session");
  socket.alive = true;
  sockets.set(session, socket);
  socket.on("pong", () => {
    socket.alive = true;
  });
  socket.on("error", (error) => console.error("socket:", error.message));
  socket.on("message", (data) => {
    tellConcierge(session, data).catch((error) => console.error("concierge:", error.message));
  });
  socket.on("close", () => {
    if (sockets.get(session) === socket) sockets.delete(session);
  });
});

setInterval(() => {
  for (const socket of users.clients) {
    if (!socket.alive) socket.terminate();
    socket.alive = false;
    socket.ping();
  }
}, HEARTBEAT);

await Promise.all([publisher.connect(), subscriber.connect()]);
await subscriber.subscribe(CHANNEL, (text) => {
  sockets.get(JSON.parse(text).to)?.send(text);
});
server.listen(Number(port), host);
