// @ts-check
/** What is remembered of a conversation, as values: any two states of it merge into one that has all of both. */

export const KEPT = 100; // entries
const STATES = ["sending", "old", "failed"];

/** @returns {Saved} */
export const empty = (era = 0) => ({ era, token: "", session: "", last: "", lastAt: 0, seen: 0, entries: [] });

/** Return what both know: in whatever order, and however often. @param {Saved} mine @param {Partial<Saved>} other @returns {Saved} */
export function merge(mine, other) {
  const era = other.era ?? mine.era;
  if (era !== mine.era) return era > mine.era ? { ...empty(era), ...other } : mine;
  // Tabs that begin at the same time all hold to the session whose id comes first.
  const first = mine.token && (other.session ?? "") > mine.session ? mine : other;
  const newer = isNewer(other, mine) ? other : mine;
  return {
    era,
    token: first.token || mine.token,
    session: first.session || mine.session,
    last: newer.last ?? "",
    lastAt: newer.lastAt ?? 0,
    seen: Math.max(mine.seen, other.seen ?? 0),
    entries: united(mine.entries, other.entries ?? []),
  };
}

function isNewer({ last = "", lastAt = 0 }, mine) {
  const [epoch, number] = last.split(":");
  const [mineEpoch, mineNumber] = mine.last.split(":");
  const ahead = epoch === mineEpoch ? +number - +mineNumber : 0;
  return (ahead || lastAt - mine.lastAt || (last > mine.last ? 1 : -1)) > 0;
}

function united(mine, others) {
  const byKey = new Map(mine.map((entry) => [entry.key, entry]));
  for (const other of others) {
    const known = byKey.get(other.key);
    byKey.set(other.key, known ? both(known, other) : other);
  }
  return trimmed([...byKey.values()].sort((a, b) => a.at - b.at || (a.key < b.key ? -1 : 1)));
}

function both(a, b) {
  const [behind, ahead] = rank(b) > rank(a) ? [a, b] : [b, a];
  return { ...behind, ...ahead, at: Math.min(a.at, b.at) };
}

const rank = ({ state = "sending", turn = 0 }) =>
  turn * STATES.length + (state === "sent" ? 1e9 : STATES.indexOf(state));

/** Keep the latest, and whatever has yet to be sent. */
function trimmed(entries) {
  const tooMany = entries.length - KEPT;
  return tooMany > 0 ? entries.filter((entry, at) => at >= tooMany || unsettled(entry)) : entries;
}

/** @param {Entry} entry */
export const unsettled = ({ state }) => state === "sending" || state === "old" || state === "failed";

/** How many messages of the bot the user has not seen. @param {Saved} saved */
export const unread = ({ entries, seen }) =>
  entries.filter(({ from, at }) => from === "bot" && at > seen).length;
