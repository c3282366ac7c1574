// @ts-check
/** Every word that the widget itself says. Other languages are files beside this one, loaded where they are spoken. */

export const english = {
  lang: "en",
  open: "Open chat",
  close: "Close chat",
  unread: "unread message",
  unreads: "unread messages",
  title: "Chat",
  log: "Conversation",
  message: "Message",
  send: "Send",
  empty: "Say hello to begin.",
  you: "You",
  bot: "Reply",
  waiting: "No connection. What you write is sent once it is back.",
  replaced: "This chat goes on in another window.",
  back: "Connected again.",
  sending: "Sending",
  sent: "Sent",
  failed: "Not sent",
  retry: "Retry",
  undo: "Undo my last answer",
  undone: "Taken back",
  typing: "Typing",
  image: "Image",
  broken: "The image could not be loaded.",
  newTab: "new tab",
  lost: "Earlier messages may be missing.",
};

const TRANSLATED = ["es", "fr"];

/** Return the words of the first of these languages that is spoken here. @param {string[]} tags */
export async function stringsFor(tags) {
  const spoken = tags.map((tag) => tag.toLowerCase().split("-")[0]).find((tag) => tag === "en" || TRANSLATED.includes(tag));
  if (!spoken || spoken === "en") return english;
  const found = await import(String(new URL(`strings_${spoken}.js`, import.meta.url))).catch(() => ({ default: english }));
  return /** @type {typeof english} */ (found.default);
}
