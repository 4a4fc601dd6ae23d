/** Pictures of the instructions: a real question, drawn by the code that draws trials, with all but one part dimmed. */

import { Panel, make } from "./panel.js";

const ROOM = { width: 760, height: 300, margin: 16 }; // CSS px

/**
 * Fill the placeholders (data-picture) of the page that is shown. The picture is the first practice trial; which of
 * its queries is the right one isn't known here, and isn't told.
 */
export async function showPictures(display, { practice, sprites, visit }) {
  const places = [...display.querySelectorAll("[data-picture]:empty")];
  if (places.length === 0 || practice === null) return;
  const [trial] = practice.trials;
  await sprites.all([trial.sprite]);
  for (const place of places) {
    // Somebody may have turned the page meanwhile.
    if (!place.isConnected || place.childElementCount > 0) continue;
    const panel = new Panel(trial, sprites.bitmap(trial.sprite), visit.grid, visit.texts.trial);
    for (const { element } of panel.buttons) element.disabled = false;
    if (place.dataset.picture === "frames") {
      showFrames(place, panel, visit.texts.trial);
    } else {
      panel.element.classList.add(`only-${place.dataset.picture}`);
      panel.element.inert = true;
      place.append(panel.element);
      const { clientWidth, clientHeight } = place;
      panel.fit({
        width: Math.min(ROOM.width, clientWidth - 2 * ROOM.margin),
        height: Math.min(ROOM.height, clientHeight - ROOM.margin),
      });
    }
  }
}

/** The same image with either frame, so that neither says anything about the question. */
function showFrames(place, panel, words) {
  panel.fit({ width: 2 * ROOM.width, height: 2 * ROOM.height });
  const { canvas } = panel.tiles.find(({ index }) => index === panel.trial.upper);
  for (const [name, sign] of [["correct", "✓"], ["wrong", "✗"]]) {
    const copy = make("canvas", "tile");
    copy.width = canvas.width;
    copy.height = canvas.height;
    copy.getContext("2d").drawImage(canvas, 0, 0);
    copy.style.width = panel.element.style.getPropertyValue("--tile");
    copy.style.height = copy.style.width;
    const frame = make("div", `frame ${name}`);
    frame.append(copy);
    const figure = make("figure");
    figure.append(frame, make("figcaption", `verdict ${name}`, `${sign} ${words[name]}`));
    place.append(figure);
  }
}
