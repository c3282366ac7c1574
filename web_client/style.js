// @ts-check
/** How the widget looks: a sheet made by script, which a page's `style-src 'none'` lets pass. */

/** Where the panel fills the screen: phones, and pages zoomed to 400 %. */
export const FULL_SCREEN = "(max-width: 480px), (max-height: 420px)";

// Each colour by day and by night; the page may set it as --switchboard-NAME.
const COLOURS = {
  accent: ["#1d5bd0", "#9cbcff"],
  "on-accent": ["#fff", "#0d1526"],
  background: ["#fff", "#171a20"],
  text: ["#1b1f27", "#e8ebf0"],
  muted: ["#566070", "#aab2bf"],
  border: ["#767e8c", "#868f9d"],
  "bot-bubble": ["#eef1f5", "#262b34"],
  "bot-text": ["#1b1f27", "#e8ebf0"],
  "user-bubble": ["#dbe7ff", "#1f3a6b"],
  "user-text": ["#10223f", "#f0f5ff"],
  danger: ["#b3261e", "#ffb4ab"],
};

const colours = Object.entries(COLOURS).map(
  ([name, [day, night]]) => `--${name}: var(--switchboard-${name}, light-dark(${day}, ${night}));`,
);

const sheet = new CSSStyleSheet();
// Important declarations in a shadow tree win over those of the page, whatever that says of `*`.
sheet.replaceSync(`
:host { all: initial !important }
:host([hidden]), [hidden] { display: none !important }
.root {
  ${colours.join("")}
  color-scheme: light dark; --view-height: 100dvh; --view-top: 0;
  --radius: var(--switchboard-radius, 12px);
  --inset: var(--switchboard-inset, 20px);
  color: var(--text);
  font: var(--switchboard-font-size, 16px)/1.45 var(--switchboard-font, system-ui, sans-serif);
}
:host([theme=light]) .root { color-scheme: light }
:host([theme=dark]) .root { color-scheme: dark }
* { box-sizing: border-box; overflow-wrap: anywhere }
h1, h2, ol, p { margin: 0; padding: 0; font-size: 1em }
button, .button {
  display: inline-flex; align-items: center; justify-content: center; gap: 6px;
  min-height: 44px; min-width: 44px; padding: 5px 12px;
  border: 1px solid var(--border); border-radius: 8px; background: none; color: inherit; font: inherit; cursor: pointer;
}
a { color: inherit }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
svg { width: 1.25em; flex: none; fill: none; stroke: currentColor; stroke-width: 2 }
.unseen { position: fixed; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.launcher, .panel {
  position: fixed; inset-inline-end: var(--inset); bottom: var(--inset);
  z-index: var(--switchboard-z-index, 2147483000); box-shadow: 0 4px 18px #0005;
}
.launcher { width: 56px; height: 56px; border-radius: 50% }
.launcher, .send, .header { border-color: #0000; background: var(--accent); color: var(--on-accent) }
.badge {
  position: absolute; top: -5px; inset-inline-end: -5px; min-width: 24px; border-radius: 12px;
  background: var(--danger); color: var(--background); font: 700 13px/24px system-ui, sans-serif;
}
.panel {
  width: var(--switchboard-width, 384px); height: min(var(--switchboard-height, 608px), 100dvh - var(--inset) - 84px);
  margin-bottom: 68px; display: flex; flex-direction: column; overflow: hidden;
  border: 1px solid var(--border); border-radius: var(--radius); background: var(--background);
}
.full .panel {
  inset: var(--view-top) 0 auto; width: auto; height: var(--view-height); margin: 0; border: 0; border-radius: 0;
}
.launcher:focus-visible { box-shadow: 0 0 0 8px var(--background) }
.full.open .launcher { display: none }
.header, .composer { display: flex; align-items: center; gap: 8px; padding: 8px 16px }
.title, .input, .log { flex: 1 }
.header :focus-visible { outline-color: currentColor; outline-offset: -4px }
.close, .undo { border: 0; align-self: start; margin: 0 4px }
.banner { padding: 8px 16px; background: var(--text); color: var(--background) }
.log { overflow-y: auto; overscroll-behavior: contain; min-height: 56px; padding: 16px; outline-offset: -3px }
ol { display: flex; flex-direction: column; gap: 10px; list-style: none }
li { position: relative; display: flex; flex-direction: column; align-items: start; gap: 5px; max-width: 88% }
.user { align-self: end; align-items: end }
.note { align-self: center }
s { display: contents }
s > * { text-decoration: line-through }
.bubble { padding: 8px 13px; border-radius: var(--radius); white-space: pre-wrap }
.bot-bubble, .image { background: var(--bot-bubble); color: var(--bot-text) }
.user-bubble { background: var(--user-bubble); color: var(--user-text) }
.note, .empty, .state, .undo { color: var(--muted); font-size: .85em }
.state, .buttons, .typing { display: flex; flex-wrap: wrap; align-items: center; gap: 6px }
.failed { color: var(--danger) }
.button { border-color: var(--accent); color: var(--accent); text-decoration: none }
.used { border: 1px dashed var(--border); color: var(--muted); cursor: auto }
.image { width: 256px; max-width: 100%; height: 192px; display: grid; place-items: center; border-radius: var(--radius) }
img { width: 100%; height: 192px; object-fit: scale-down; border-radius: inherit }
.typing { padding: 0 16px 10px }
i { width: 8px; height: 8px; border-radius: 50%; background: var(--muted) }
.composer { align-items: end; border-top: 1px solid var(--border) }
.input {
  min-width: 0; min-height: 44px; max-height: 128px; padding: 10px 12px; resize: none; field-sizing: content;
  border: 1px solid var(--border); border-radius: 8px; background: none; color: inherit; font: inherit; font-size: max(16px, 1em);
}
::placeholder { color: var(--muted); opacity: 1 }
.page :is(.log, .composer, .undo, .typing) { width: 100%; max-width: 768px; margin: 0 auto }
@media (prefers-reduced-motion: no-preference) {
  i { animation: breathe 1.2s infinite }
  @keyframes breathe { 50% { opacity: .25 } }
}
@media (max-height: 420px) {
  .banner { max-height: 25%; overflow: auto }
  .full .header { padding-block: 0 }
}
@media (forced-colors: active) {
  .bubble, .image, .banner, .header { border: 1px solid }
  i { background: CanvasText }
}`);

export default sheet;
