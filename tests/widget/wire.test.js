// @ts-check
/** JSON that goes back as it came. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

import { parse, stringify } from "../../web_client/wire.js";

const MODULE = fileURLToPath(new URL("../../web_client/wire.js", import.meta.url));
const exact = "rawJSON" in JSON;
const FLAG = "--harmony-json-parse-with-source"; // of engines that have it, but not yet by themselves

const TEXTS = [
  '{"n":12345678901234567890}',
  '{"n":-9007199254740993}',
  '{"n":1.0}',
  '{"n":1e3}',
  '{"n":0.10}',
  '{"n":-0}',
  '{"a":[1.0,{"b":{"c":[10000000000000000000001,2.50]}}],"d":"1.0","e":null,"f":true}',
  '{"__proto__":{"n":1.0}}',
];

/** What becomes of *texts* in an engine that can be exact. @param {string[]} texts @returns {any[] | null} */
function exactly(texts) {
  const program = `
    import { parse, stringify } from ${JSON.stringify(`file://${MODULE}`)};
    if (!JSON.rawJSON) process.exit(3);
    console.log(JSON.stringify(${JSON.stringify(texts)}.map((text) => stringify(parse(text)))));`;
  const flags = exact ? [] : [FLAG];
  try {
    const output = execFileSync(process.execPath, [...flags, "--no-warnings", "--input-type=module", "-e", program], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: 100_000,
    });
    return JSON.parse(output);
  } catch (error) {
    // 3: no such thing here; 9: Node does not know the flag.
    if ([3, 9].includes(/** @type {any} */ (error).status)) return null;
    throw error;
  }
}

describe("every engine", () => {
  test("what holds no unusual number comes back as it was", () => {
    const text = '{"a":[1,2.5,-3,0,"x",null,true,{"b":{}}],"c":"12345678901234567890","d":9007199254740991}';

    assert.equal(stringify(parse(text)), text);
  });

  test("unusual numbers break nothing: the rest is there, and they are about what they were", () => {
    const value = parse('{"big":12345678901234567890,"one":1.0,"nested":[{"n":1.0}],"text":"kept"}');

    const again = JSON.parse(stringify(value));

    assert.equal(again.text, "kept");
    assert.equal(again.one, 1);
    assert.equal(again.nested[0].n, 1);
    assert.ok(Math.abs(again.big - 12345678901234567890) < 1e5);
  });

  const others = ["", "x", "1", "1.0", "12345678901234567890", "null", "true", "[]", "[{}]", '{"a":', '{"a":NaN}'];
  for (const text of others) {
    test(`${JSON.stringify(text)} is no JSON object: null`, () => {
      assert.equal(parse(text), null);
    });
  }

  test("what is no text is no JSON object either", () => {
    for (const value of [undefined, null, 5, new ArrayBuffer(2)]) assert.equal(parse(value), null);
  });

  test("a key named __proto__ is a key like others", () => {
    const value = parse('{"__proto__":{"admin":true}}');

    assert.equal(value.admin, undefined);
    assert.equal(stringify(value), '{"__proto__":{"admin":true}}');
  });
});

describe("engines with JSON.rawJSON", () => {
  const came = exactly(TEXTS);
  const skip = came ? false : "this engine has no JSON.rawJSON: numbers are not exact here, exactness not tested";

  TEXTS.forEach((text, at) => {
    test(`${text} comes back to the letter`, { skip }, () => {
      assert.equal(/** @type {any[]} */ (came)[at], text);
    });
  });

  test("a number alone is no JSON object, however exact", { skip }, () => {
    assert.deepEqual(exactly(["[1.0]", '"1.0"']), ["null", "null"]);
  });

  test("where it was tested", { skip }, (t) => {
    t.diagnostic(exact ? "JSON.rawJSON is in this engine" : `JSON.rawJSON only by ${FLAG}, in a process of its own`);
  });
});
