/** Which keys answer a question, and what is written on them. */

import { fill } from "./words.js";

// Physical keys: the digits for the upper row of buttons, the letters right below them for the lower one.
export const KEYS = {
  upper: [["Digit1", "Numpad1"], ["Digit2", "Numpad2"], ["Digit3", "Numpad3"]],
  lower: [["KeyQ"], ["KeyW"], ["KeyE"]],
};
const USUAL = { KeyQ: "Q", KeyW: "W", KeyE: "E" };

/** A text with the letters of this keyboard filled in; where the browser doesn't say, those that most have. */
export async function keysOf(text) {
  let layout = new Map();
  try {
    layout = (await navigator.keyboard?.getLayoutMap()) ?? layout;
  } catch {
    // In another site's frame browsers don't tell.
  }
  const lower = KEYS.lower.map(([code]) => (layout.get(code) ?? USUAL[code]).toUpperCase()).join(" ");
  return fill(text, { upper: "1 2 3", lower });
}
