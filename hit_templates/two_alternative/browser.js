/** What is recorded of the browser: its name, window and pixels. Never an address or the user agent. */

import { tileSize } from "./panel.js";

const NAMES = [
  ["Edge", /Edg\//],
  ["Opera", /OPR\//],
  ["Firefox", /Firefox\//],
  ["Chrome", /(Chrome|Chromium|CriOS)\//],
  ["Safari", /Safari\//],
];
export const FRAME_HEIGHT = 158; // CSS px above and below a panel in a trial: see .head and .foot in style.css
export const FRAME_WIDTH = 32;

/** Sizes in CSS px; pixel_ratio: device pixels per CSS pixel; zoom: the page's, where the browser lets us see it. */
export function describeBrowser(grid) {
  const { innerWidth: width, innerHeight: height } = window;
  return {
    name: NAMES.find(([, pattern]) => pattern.test(navigator.userAgent))?.[0] ?? "other",
    window_width: width,
    window_height: height,
    pixel_ratio: window.devicePixelRatio,
    zoom: Math.round((100 * window.outerWidth) / width) / 100,
    tile_css_px: Math.round(10 * tileSize({ width: width - FRAME_WIDTH, height: height - FRAME_HEIGHT }, grid.tile)) / 10,
    fullscreen: document.fullscreenElement !== null,
  };
}

/** Report what may disturb a trial: the window loses focus, is hidden, resized, leaves fullscreen. */
export function reportEvents(note, describe) {
  window.addEventListener("blur", () => note("blur", describe()));
  window.addEventListener("focus", () => note("focus", describe()));
  document.addEventListener("visibilitychange", () => note(document.hidden ? "hidden" : "visible", describe()));
  document.addEventListener("fullscreenchange", () => note("fullscreen", describe()));
  let timer = null;
  window.addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => note("resize", describe()), 400);
  });
}
