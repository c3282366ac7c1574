// @ts-check
/** The demo's page: controls for the look of the widget, and the snippet that gives a page a widget of that look. */

const BESIDE = "(min-width: 64em) and (min-height: 421px)"; // room for an open panel beside the controls
const LEGIBLE = 4.5; // contrast of text, by WCAG 2.2
const VISIBLE = 3; // contrast of what has to be seen, not read
const PRAISE = 2_000; // ms that "Copied" stays
const ATTRIBUTES = ["title", "theme", "lang", "dir"];
const COLOURS = ["accent", "background", "user-bubble", "bot-bubble"];
const LENGTHS = ["radius", "font-size"];
const REDS = ["#b3261e", "#ffb4ab"];

/** @typedef {Record<string, string>} Colours  by the names of the widget's variables, as #rrggbb */

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);
/** @type {HTMLFormElement} */
const form = byId("controls");
/** @type {HTMLTextAreaElement} */
const snippet = byId("snippet");
const chat = /** @type {HTMLElement} */ (document.querySelector("switchboard-chat"));
/** @type {any} */
const pen = document.createElement("canvas").getContext("2d");
const chosenStyle = new CSSStyleSheet();
/** @type {Colours} */
let chosen = {};
/** @type {{light: Colours, dark: Colours} | undefined} */
let defaults;

// Colours

/** @param {string} colour  #rrggbb @returns {number[]} */
const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** @param {string} a @param {string} b @param {number} share  of b */
function mix(a, b, share) {
  const other = channels(b);
  const mixed = channels(a).map((each, at) => Math.round(each + (other[at] - each) * share));
  return `#${mixed.map((each) => each.toString(16).padStart(2, "0")).join("")}`;
}

/** @param {string} colour */
function luminance(colour) {
  const linear = (/** @type {number} */ each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
  const [red, green, blue] = channels(colour).map((each) => linear(each / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** @param {string} a @param {string} b */
function contrast(a, b) {
  const [darker, lighter] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (lighter + 0.05) / (darker + 0.05);
}

/** Black or white, whichever is read better. @param {string} ground */
const ink = (ground) => (contrast("#000000", ground) > contrast("#ffffff", ground) ? "#000000" : "#ffffff");

/** The nearest to a wish that stands out enough. @param {string} wish @param {string} ground @param {number} [least] */
function readable(wish, ground, least = LEGIBLE) {
  let colour = wish;
  for (let share = 0; share < 1 && contrast(colour, ground) < least; share += 0.04) {
    colour = mix(wish, ink(ground), share);
  }
  return contrast(colour, ground) < least ? ink(ground) : colour;
}

/** What goes with a background. @param {string} background @returns {Colours} */
function surroundings(background) {
  const best = ink(background);
  const text = readable(mix(best, background, 0.1), background);
  const tinted = mix(background, best, 0.08);
  const bubble = contrast(text, tinted) < LEGIBLE ? background : tinted;
  return {
    background,
    text,
    muted: readable(mix(best, background, 0.35), background),
    border: readable(mix(best, background, 0.55), background, VISIBLE),
    "bot-bubble": bubble,
    "bot-text": text,
    danger: readable(REDS[best === "#000000" ? 0 : 1], background),
  };
}

/** All that follows from what was chosen, where these are the defaults. @param {Colours} theme @returns {Colours} */
function palette(theme) {
  const background = chosen.background ?? theme.background;
  const accent = readable(chosen.accent ?? theme.accent, background);
  const isOther = accent !== theme.accent;
  return {
    ...(isOther && { accent, "on-accent": ink(accent) }),
    ...(isOther && { "user-bubble": accent, "user-text": ink(accent) }),
    ...(chosen.background && surroundings(background)),
    ...(chosen["user-bubble"] && paired("user", chosen["user-bubble"])),
    ...(chosen["bot-bubble"] && paired("bot", chosen["bot-bubble"])),
  };
}

/** @param {string} whose @param {string} bubble @returns {Colours} */
const paired = (whose, bubble) => ({ [`${whose}-bubble`]: bubble, [`${whose}-text`]: ink(bubble) });

/** What the widget paints with now. @returns {Colours | undefined} */
function painted() {
  const root = chat.shadowRoot?.querySelector("[part~=root]");
  if (!root) return undefined;
  // The browser works out what a variable comes to, however that is written and whichever theme is on.
  const probe = document.createElement("span");
  root.append(probe);
  const found = COLOURS.map((name) => {
    probe.style.color = `var(--${name})`;
    pen.fillStyle = getComputedStyle(probe).color;
    return [name, pen.fillStyle]; // as #rrggbb
  });
  probe.remove();
  return Object.fromEntries(found);
}

/** What it paints with in a theme, when nothing is chosen. @param {string} theme */
function paintedIn(theme) {
  const before = chat.getAttribute("theme");
  chat.setAttribute("theme", theme);
  const found = painted();
  if (before === null) chat.removeAttribute("theme");
  else chat.setAttribute("theme", before);
  return found;
}

// The snippet

/** @param {string} name @returns {HTMLInputElement} */
const control = (name) => /** @type {any} */ (form.elements.namedItem(name));

/** @param {Colours} values @param {string} indent */
function rule(values, indent) {
  const lines = Object.entries(values).map(([name, value]) => `${indent}  --switchboard-${name}: ${value};`);
  return lines.length ? [`${indent}switchboard-chat {`, ...lines, `${indent}}`] : [];
}

/** The chosen variables as CSS: what the snippet has is what is shown here. @returns {string[]} */
function css() {
  const lengths = LENGTHS.map(control).filter(({ value, defaultValue }) => value !== defaultValue);
  const { light, dark } = palettes();
  const { theme } = values();
  const base = {
    ...(theme === "dark" ? dark : light),
    ...Object.fromEntries(lengths.map(({ name, value }) => [name, `${value}px`])),
  };
  const other = theme ? {} : Object.fromEntries(Object.entries(dark).filter(([name, value]) => light[name] !== value));
  const night = rule(other, "  ");
  return [
    ...rule(base, ""),
    ...(night.length ? ["@media (prefers-color-scheme: dark) {", ...night, "}"] : []),
  ];
}

const palettes = () => ({
  light: defaults ? palette(defaults.light) : {},
  dark: defaults ? palette(defaults.dark) : {},
});

/** The chosen attributes; "" is none. @returns {Record<string, string>} */
const values = () => Object.fromEntries(ATTRIBUTES.map((name) => [name, control(name).value.trim()]));

/** @param {string} text */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");

/** @param {string[]} style */
function markup(style) {
  const source = new URL("./switchboard-chat.js", import.meta.url);
  const attributes = Object.entries(values()).filter(([, value]) => value);
  const written = attributes.map(([name, value]) => ` ${name}="${escaped(value)}"`).join("");
  return [
    `<script type="module" src="${source}"></script>`,
    `<switchboard-chat${written}></switchboard-chat>`,
    ...(style.length ? ["<style>", ...style.map((line) => `  ${line}`), "</style>"] : []),
  ].join("\n");
}

/** Tell where the accent had to become another one. */
function note() {
  const { theme } = values();
  const changed = Object.entries(palettes()).filter(
    ([name, { accent }]) => chosen.accent && accent && accent !== chosen.accent && (!theme || theme === name),
  );
  const places = changed.map(([name, { accent }]) => `${accent} in the ${name} theme`);
  return places.length ? `To stay legible on the background, the accent is ${places.join(" and ")}.` : "";
}

// The page

function update() {
  for (const [name, value] of Object.entries(values())) {
    if (value) chat.setAttribute(name, value);
    else chat.removeAttribute(name);
  }
  document.body.classList.toggle("mirrored", chat.dir === "rtl"); // the panel is at the other side
  const style = css();
  chosenStyle.replaceSync(style.join("\n"));
  snippet.value = markup(style);
  snippet.rows = snippet.value.split("\n").length;
  for (const slider of LENGTHS.map(control)) {
    const shown = /** @type {Element} */ (slider.nextElementSibling); // for the eye: a slider tells its value itself
    shown.textContent = `${slider.value} px`;
  }
  const said = note();
  if (byId("note").textContent !== said) byId("note").textContent = said;
  const now = painted();
  if (now) for (const name of COLOURS) control(name).value = chosen[name] ?? now[name];
}

/** The widget has drawn itself: the defaults can be read off it. */
function drawn() {
  const [light, dark] = [paintedIn("light"), paintedIn("dark")];
  if (!defaults && light && dark) defaults = { light, dark };
  update();
}

async function copy() {
  const [button, status] = [byId("copy"), byId("copied")];
  try {
    await navigator.clipboard.writeText(snippet.value);
    button.textContent = status.textContent = "Copied";
  } catch {
    // Not allowed, or the page came neither by https nor from this machine.
    snippet.focus();
    snippet.select();
    status.textContent = "Copy the selected text with your keyboard or its menu.";
  }
  status.classList.toggle("unseen", button.textContent === "Copied"); // the button shows it
  clearTimeout(praise);
  praise = setTimeout(() => {
    button.textContent = "Copy";
    status.textContent = "";
  }, PRAISE);
}
let praise = 0;

const pageStyle = new CSSStyleSheet();
pageStyle.replaceSync(`
:root {
  color-scheme: light dark;
  --page: #f2f4f8; --card: #fff; --text: #1b1f27; --muted: #566070; --line: #767e8c; --soft: #dfe3ea; --link: #1d5bd0;
  background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1115; --card: #171a20; --text: #e8ebf0; --muted: #aab2bf; --line: #868f9d; --soft: #2a303a; --link: #9cbcff }
}
* { box-sizing: border-box }
body { margin: 0; display: flex; min-height: 100vh }
main { flex: 1; min-width: 0; max-width: 48rem; margin: 0 auto; padding: 24px 20px 104px; display: grid; gap: 20px; align-content: start }
h1, h2, p { margin: 0; line-height: 1.25 }
h1 { font-size: 1.75rem; letter-spacing: -.01em }
h2 { font-size: 1.125rem }
main > header { display: grid; gap: 8px }
main > header p { color: var(--muted); line-height: 1.5; max-width: 60ch }
section { background: var(--card); border: 1px solid var(--soft); border-radius: 14px; padding: 16px 20px 20px; min-width: 0 }
section header { display: flex; align-items: center; justify-content: space-between; gap: 12px; margin-bottom: 12px }
form { display: grid; gap: 14px 20px }
form div { position: relative; display: grid; gap: 5px; align-content: end; min-width: 0 }
label { font-size: .875rem; font-weight: 600 }
small { position: absolute; inset-inline-end: 0; color: var(--muted) }
input, select, button, textarea { font: inherit; color: inherit; accent-color: var(--link) }
input, select { font-size: 1rem; font-weight: 400; width: 100%; min-height: 44px; margin: 0 }
input:not([type=range]), select, button { border: 1px solid var(--line); border-radius: 8px; background: none; padding: 0 10px }
option { background: var(--card); color: var(--text) }
[type=range] { border-radius: 4px; cursor: pointer }
[type=color] { padding: 4px !important; cursor: pointer }
::-webkit-color-swatch-wrapper { padding: 0 }
::-webkit-color-swatch { border: 1px solid #767e8c; border-radius: 5px }
button { min-height: 44px; min-width: 6em; font-weight: 600; cursor: pointer }
button:hover { background: var(--soft) }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
textarea {
  display: block; width: 100%; padding: 14px; border: 1px solid var(--line); border-radius: 8px; resize: none;
  background: var(--page); font: .8125rem/1.6 ui-monospace, monospace; overflow-wrap: anywhere; field-sizing: content;
}
[role=status]:not(:empty) { margin-top: 14px; color: var(--muted); font-size: .875rem }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.stage { display: none }
@media (min-width: 22em) {
  form { grid-template-columns: repeat(2, minmax(0, 1fr)) }
  .wide { grid-column: span 2 }
}
@media (min-width: 40em) {
  .wide { grid-column: auto }
}
@media ${BESIDE} {
  main { flex: 0 1 60rem; margin: 0 auto; max-width: none; padding: 24px 24px 40px }
  .mirrored { flex-direction: row-reverse }
  .stage {
    display: grid; align-content: start; gap: 14px; position: sticky; top: 0; flex: 1 0 28rem; height: 100vh; padding: 28px 24px;
    background: var(--card); border: 0 solid var(--soft); border-width: 0 1px; color: var(--muted); font-weight: 600;
  }
  .stage :is(b, i) { border-radius: 8px; background: var(--soft); max-width: 36rem }
  .stage b { height: 72px; margin-top: 6px }
  .stage i { height: 12px; width: 85% }
  .stage i:nth-of-type(3n) { width: 55% }
}
@media (min-width: 75em) {
  form { grid-template-columns: repeat(4, minmax(0, 1fr)) }
  .wide { grid-column: span 2 }
}
`);
document.adoptedStyleSheets.push(pageStyle, chosenStyle);

form.addEventListener("input", ({ target }) => {
  const { name, value, type } = /** @type {HTMLInputElement} */ (target);
  if (type === "color") chosen[name] = value;
  update();
});
form.addEventListener("submit", (event) => event.preventDefault()); // as Enter in the title would
byId("reset").addEventListener("click", () => {
  form.reset();
  chosen = {};
  update();
});
byId("copy").addEventListener("click", copy);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
if (chat.shadowRoot) new MutationObserver(drawn).observe(chat.shadowRoot, { childList: true });
drawn();
// On a narrow screen it would cover the controls.
chat.toggleAttribute("open", matchMedia(BESIDE).matches);
