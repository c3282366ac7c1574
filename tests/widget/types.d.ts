/** Types that the widget's modules share, so that browsers need not load a word of them. */

type Strings = typeof import("../../web_client/strings.js").english;

/** One thing that was said. */
interface Entry {
  key: string; // the id of a message of the bot, the cid of one of ours
  at: number; // ms since 1970, growing within a conversation
  from: "user" | "bot" | "note";
  data?: any; // the bot's postback
  text?: string; // of ours
  payload?: any; // of ours
  state?: "sending" | "old" | "failed" | "sent"; // of ours
  turn?: number; // how often it was sent; a later turn counts more, and "sent" most of all
  undone?: boolean; // taken back
  used?: boolean; // one of its buttons was pressed
}

/** What is remembered of a conversation. */
interface Saved {
  era: number; // a later one replaces all of an earlier one
  token: string;
  session: string;
  last: string; // the id received last
  lastAt: number; // when
  seen: number; // the user has seen all up to this time
  entries: Entry[];
}

interface Said {
  cid: string;
  text?: string;
  payload?: unknown;
}

interface Outcome {
  ok: boolean;
  code?: string;
  retry?: boolean;
}

type SocketState = "connecting" | "open" | "waiting" | "replaced" | "stopped";

interface SocketListener {
  place(): { token: string; last: string }; // where the conversation was left; asked whenever a connection opens
  state(state: SocketState): void;
  hello(hello: any): boolean; // false if it is to connect again
  message(id: string, data: any): void; // id is "" for a message without one
  typing(ms: number): void;
  settled(cid: string, outcome: Outcome): void;
  error(code: string, detail: string): void;
}

/** Who is told of a conversation. */
interface Watcher {
  changed(): void; // something that is shown is other than before
  state(state: SocketState): void;
  arrived(entry: Entry): void; // a new message of the bot
  failed(): void; // something could not be sent
  typing(typing: boolean): void;
  event(name: string, payload: unknown): void; // an event of the bot
  error(code: string, detail: string): void;
}

/** What of a browser a conversation needs: the window, or what a test puts in its place. */
interface Browser {
  WebSocket: { new (url: string, protocols: string[]): WebSocket };
  BroadcastChannel?: { new (name: string): BroadcastChannel };
  localStorage: Pick<Storage, "getItem" | "setItem">; // the mere name may throw
  setTimeout(call: () => void, ms: number): any;
  clearTimeout(timer: any): void;
  Date: { now(): number };
  Math: { random(): number };
}

interface Chat {
  open(): void;
  close(): void;
  toggle(): void;
}

/** How `element` is called. */
type MakeElement = <T extends keyof HTMLElementTagNameMap>(
  tag: T,
  attributes?: Record<string, any>,
  ...children: (Node | string)[]
) => HTMLElementTagNameMap[T];
