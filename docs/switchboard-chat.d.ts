/** Types of the chat widget, <switchboard-chat>: copy this file into your project. */

/** The names of all that the widget itself says. */
type SwitchboardStringName =
  | "lang"
  | "open"
  | "close"
  | "unread"
  | "unreads"
  | "title"
  | "log"
  | "message"
  | "send"
  | "empty"
  | "you"
  | "bot"
  | "waiting"
  | "replaced"
  | "back"
  | "sending"
  | "sent"
  | "failed"
  | "retry"
  | "undo"
  | "undone"
  | "typing"
  | "image"
  | "broken"
  | "newTab"
  | "lost";

interface SwitchboardChatElement extends HTMLElement {
  /** How many messages of the bot have not been seen. */
  readonly unread: number;
  /** Words to say in place of the widget's own. */
  strings: Partial<Record<SwitchboardStringName, string>>;
  /** Show the panel; the focus stays where it is. */
  open(): void;
  /** Show the launcher alone. */
  close(): void;
  toggle(): void;
  /** Say something as the user; the payload is any JSON. */
  send(text?: string, payload?: unknown): void;
  /** Forget the conversation, in all tabs, and begin another. */
  reset(): void;
}

/** What the bot said, as the Concierge wrote it: keys beyond these are possible. */
interface SwitchboardPostback {
  to: string;
  from?: string;
  body?: string;
  type?: string;
  [key: string]: unknown;
}

/** The widget's events, by name. They bubble. */
interface SwitchboardEventMap {
  "switchboard:ready": CustomEvent<{}>;
  "switchboard:open": CustomEvent<{}>;
  "switchboard:close": CustomEvent<{}>;
  "switchboard:message": CustomEvent<{ data: SwitchboardPostback }>;
  "switchboard:unread": CustomEvent<{ count: number }>;
  "switchboard:event": CustomEvent<{ name: string; payload: unknown }>;
  "switchboard:error": CustomEvent<{ code: string; detail: string }>;
}

/** One call in `window.switchboard`: a method's name, and what it is given. */
type SwitchboardCall =
  | [name: "open" | "close" | "toggle" | "reset"]
  | [name: "send", text?: string, payload?: unknown];

interface HTMLElementTagNameMap {
  "switchboard-chat": SwitchboardChatElement;
}

interface HTMLElementEventMap extends SwitchboardEventMap {}
interface DocumentEventMap extends SwitchboardEventMap {}
interface WindowEventMap extends SwitchboardEventMap {}

interface Window {
  /** Calls of the widget: an array until it is there, and then whatever has a `push`. */
  switchboard?: SwitchboardCall[] | { push(...calls: SwitchboardCall[]): void };
}
