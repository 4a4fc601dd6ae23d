/**
 * Draws one question: three by three examples left and right, the two queries and their buttons in the centre.
 *
 * Each tile of the sprite is drawn on a canvas of its own, a whole number of device pixels on a side and standing on
 * whole device pixels, so that every tile is scaled once and alike.
 */

import { fill } from "./words.js";

const GAP = 6; // CSS px between tiles
const CENTRE = 188; // CSS px, the least width of the centre column: three buttons
const CENTRE_HEIGHT = 112; // CSS px in the centre column that aren't images: two rows of buttons and a line of text
const CAPTION = 26; // CSS px above a side
const BETWEEN = { least: 18, most: 64 }; // CSS px between a side and the centre
const SMALLEST = 24; // CSS px of a tile, in whatever window
const LARGEST = 128; // CSS px to which smaller tiles are scaled up; larger ones are never scaled up
export const ROWS = ["upper", "lower"];

/** CSS px on a side of a tile in this much room: all of a panel fits, and tiles shrink alike. */
export function tileSize(room, tile) {
  const byWidth = (room.width - CENTRE - 2 * BETWEEN.least - 4 * GAP) / 6;
  const byHeight = Math.min((room.height - CAPTION - 2 * GAP) / 3, (room.height - CAPTION - CENTRE_HEIGHT - 2 * GAP) / 2);
  return Math.max(SMALLEST, Math.min(byWidth, byHeight, Math.max(tile, LARGEST)));
}

export class Panel {
  /**
   * `trial`: left and right (nine tile indices each), upper and lower (one each), counted row by row in the sprite.
   * `grid`: columns and rows of the sprite, tile and gutter in its pixels. `words`: the texts of [trial].
   */
  constructor(trial, bitmap, grid, words) {
    this.trial = trial;
    this.bitmap = bitmap;
    this.grid = grid;
    this.tiles = []; // {canvas, index}
    this.buttons = []; // {element, row, confidence}
    this.frames = {}; // row → element around the query
    this.element = make("div", "panel");
    this.element.append(
      this.#side("left", trial.left, words.left, words.left_example),
      this.#centre(trial, words),
      this.#side("right", trial.right, words.right, words.right_example),
    );
  }

  #tile(index, label) {
    const canvas = make("canvas", "tile");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    this.tiles.push({ canvas, index });
    return canvas;
  }

  #side(name, indices, caption, label) {
    const side = make("section", `side ${name}`);
    const examples = make("div", "examples");
    examples.append(...indices.map((index, at) => this.#tile(index, fill(label, { number: at + 1 }))));
    side.append(make("h2", "caption", caption), examples);
    return side;
  }

  #centre(trial, words) {
    const centre = make("section", "centre");
    const scale = make("div", "scale");
    scale.append(make("span", "", words.unsure), make("span", "", words.sure));
    const parts = ROWS.map((row) => {
      const frame = make("div", "frame");
      frame.append(this.#tile(trial[row], words[row]));
      this.frames[row] = frame;
      const levels = make("div", "levels");
      for (const confidence of [1, 2, 3]) {
        const element = make("button", "level", String(confidence));
        element.type = "button";
        element.disabled = true;
        element.setAttribute("aria-label", `${words[row]}: ${confidence}, ${words.levels[confidence - 1]}`);
        this.buttons.push({ element, row, confidence });
        levels.append(element);
      }
      return { frame, levels };
    });
    const [upper, lower] = parts;
    const answers = make("div", "answers");
    answers.append(upper.levels, scale, lower.levels);
    centre.append(upper.frame, answers, lower.frame);
    return centre;
  }

  /** Lay out and draw for this much room (CSS px); returns the tile's size in CSS px. */
  fit(room) {
    const ratio = window.devicePixelRatio || 1;
    const device = Math.max(1, Math.floor(tileSize(room, this.grid.tile) * ratio));
    const tile = device / ratio;
    const gap = Math.round(GAP * ratio) / ratio;
    const free = room.width - 6 * tile - 4 * gap - Math.max(CENTRE, tile);
    const between = Math.max(BETWEEN.least, Math.min(BETWEEN.most, Math.floor(free / 2)));
    const style = this.element.style;
    style.setProperty("--tile", `${tile}px`);
    style.setProperty("--gap", `${gap}px`);
    style.setProperty("--between", `${between}px`);
    for (const { canvas, index } of this.tiles) this.#draw(canvas, index, device);
    this.#standOnWholePixels(ratio);
    return tile;
  }

  #draw(canvas, index, device) {
    const { columns, tile, gutter } = this.grid;
    const x = gutter + (index % columns) * (tile + gutter);
    const y = gutter + Math.floor(index / columns) * (tile + gutter);
    canvas.width = device;
    canvas.height = device;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = device !== tile;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, x, y, tile, tile, 0, 0, device, device);
  }

  #standOnWholePixels(ratio) {
    for (const { canvas } of this.tiles) canvas.style.translate = "none";
    const corners = this.tiles.map(({ canvas }) => canvas.getBoundingClientRect());
    this.tiles.forEach(({ canvas }, at) => {
      const shift = [corners[at].left, corners[at].top].map((edge) => Math.round(edge * ratio) / ratio - edge);
      if (shift.some((by) => Math.abs(by) > 0.001)) canvas.style.translate = `${shift[0]}px ${shift[1]}px`;
    });
  }
}

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
