// @ts-check
/** The two wire formats, in JSON whose numbers keep their digits: a payload goes back as it came. */

const { rawJSON, isRawJSON } = /** @type {any} */ (JSON);

function exactly(_key, value, context) {
  // An integer above 2^53, or 1.0, is not what a number makes of it.
  const changed = typeof value === "number" && context && String(value) !== context.source;
  return changed && rawJSON ? rawJSON(context.source) : value;
}

/** Return the JSON object in *text*, null if there is none. @param {any} text */
export function parse(text) {
  try {
    const value = JSON.parse(text, exactly);
    return value && typeof value === "object" && !Array.isArray(value) && !isRawJSON?.(value) ? value : null;
  } catch {
    return null;
  }
}

export const { stringify } = JSON;

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
