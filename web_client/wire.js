// @ts-check
/** The two wire formats, in JSON whose numbers keep their digits: a payload goes back as it came. */

const { rawJSON } = /** @type {any} */ (JSON);

// An integer above 2^53, or 1.0, is not what a number makes of it.
const exactly = (_key, value, context) =>
  typeof value === "number" && rawJSON && String(value) !== context.source ? rawJSON(context.source) : value;

/** Return the JSON object in *text*, null if there is none. @param {any} text */
export function parse(text) {
  try {
    const value = JSON.parse(text, exactly);
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

export const { stringify } = JSON;

/** Return a copy whose numbers are mere numbers. @param {any} value */
export const plain = (value) => JSON.parse(stringify(value) ?? null);

/** Ids, outcomes, and a conversation that can be resumed. */
export const V1 = {
  protocols: ["switchboard.v1"],
  open: ({ token, last }) => stringify(token ? { type: "open", token, last } : { type: "open" }),
  message: ({ cid, text, payload }) => stringify({ type: "message", cid, message: text, payload }),
  parse,
};

/** Bare postbacks and bare messages, for old switchboards: nothing tells what became of them. */
export const CLASSIC = {
  protocols: [],
  open: () => "",
  message: ({ text, payload }) => stringify({ message: text, payload }),
  parse(text) {
    const data = parse(text);
    return data && { type: "message", id: "", data };
  },
};
