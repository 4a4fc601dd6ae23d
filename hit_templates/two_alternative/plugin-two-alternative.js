/**
 * jsPsych plugin: a two-alternative question with confidence.
 *
 * Which of two query images fits better with the nine examples on the right than with the nine on the left? One click
 * gives the choice (upper or lower) and how sure somebody is (1 to 3). The answer is handed over at the click; whether
 * it was correct is known only from the reply.
 */

import { KEYS } from "./keys.js";
import { Panel, make, ROWS } from "./panel.js";
import { toHtml } from "./words.js";

const { ParameterType } = window.jsPsychModule;

const info = {
  name: "two-alternative",
  version: "1.0.0",
  parameters: {
    /** The decoded sprite (ImageBitmap) with all the trial's images as tiles. */
    sprite: { type: ParameterType.OBJECT, default: undefined },
    /** How tiles lie in the sprite: columns, rows (counts), tile and gutter (pixels of the sprite). */
    grid: { type: ParameterType.OBJECT, default: undefined },
    /** Which tile goes where: left and right (nine indices each), upper and lower (one each), row by row. */
    tiles: { type: ParameterType.OBJECT, default: undefined },
    /** The texts of the trial: see [trial] and [buttons] in texts/en.toml. */
    words: { type: ParameterType.OBJECT, default: undefined },
    /** What stands above the question, such as "Question 3 of 29". */
    headline: { type: ParameterType.STRING, default: "" },
    /** Share of all trials that are done, 0 to 1. */
    progress: { type: ParameterType.FLOAT, default: 0 },
    /** Gives the running count: called without an argument at the start, with the reply once there is one. */
    count: { type: ParameterType.FUNCTION, default: () => "" },
    /**
     * Stores the answer {row, confidence, rt_ms, shown_ms} and resolves to a reply with `correct` once it is stored,
     * however long that takes.
     */
    store: { type: ParameterType.FUNCTION, default: undefined },
    /** ms from the painted images until the buttons open. */
    unlock_ms: { type: ParameterType.INT, default: 1500 },
    /** Least ms from the click to the verdict. */
    verdict_ms: { type: ParameterType.INT, default: 350 },
    /** ms from the verdict until Continue appears. */
    feedback_ms: { type: ParameterType.INT, default: 1150 },
  },
  data: {
    /** Which query was chosen, by where it stood: "upper" or "lower". */
    row: { type: ParameterType.STRING },
    /** 1 (not sure) to 3 (very sure). */
    confidence: { type: ParameterType.INT },
    /** ms from the painted frame to the click. */
    rt: { type: ParameterType.FLOAT },
    /** ms of `rt` during which the page could be seen: less than `rt` when the tab was in the background. */
    shown_ms: { type: ParameterType.FLOAT },
    /** ms from the click until the reply said that the answer is stored. */
    saving_ms: { type: ParameterType.FLOAT },
    /** ms from the painted frame until the trial was left. */
    displayed_ms: { type: ParameterType.FLOAT },
    /** What the server said; null in a data-only simulation, where nobody is asked. */
    correct: { type: ParameterType.BOOL },
    /** "mouse" (touch and Enter on a button too) or "key" (a digit or letter). */
    input: { type: ParameterType.STRING },
    /** Size of a tile on the screen, CSS px on a side, when the answer was given. */
    tile_css_px: { type: ParameterType.FLOAT },
    /** Device pixels per CSS pixel when the answer was given. */
    pixel_ratio: { type: ParameterType.FLOAT },
  },
};

export default class TwoAlternativePlugin {
  static info = info;

  constructor(jsPsych) {
    this.jsPsych = jsPsych;
  }

  /** Runs until Continue is clicked; resolves to the recorded data. */
  async trial(display, trial, onLoad = () => {}) {
    const screen = new Screen(display, trial);
    const watch = new HiddenTime();
    onLoad();
    const painted = await nextPaintedFrame();
    watch.restart();
    const wait = (ms) => new Promise((resolve) => this.jsPsych.pluginAPI.setTimeout(resolve, ms));

    await wait(trial.unlock_ms);
    const answer = await screen.answer();
    const rt = answer.at - painted;
    const shown = Math.max(0, rt - watch.hiddenMs(answer.at));
    const layout = { tile_css_px: screen.tile, pixel_ratio: window.devicePixelRatio };

    const given = { row: answer.row, confidence: answer.confidence, rt_ms: rt, shown_ms: shown };
    const stored = trial.store(given).then((reply) => ({ reply, at: performance.now() }));
    screen.saving();
    const [{ reply, at }] = await Promise.all([stored, wait(trial.verdict_ms)]);
    screen.verdict(answer.row, reply);

    await wait(trial.feedback_ms);
    await screen.left();
    const left = performance.now();
    screen.close();
    watch.close();
    return {
      row: answer.row,
      confidence: answer.confidence,
      rt,
      shown_ms: shown,
      saving_ms: at - answer.at,
      displayed_ms: left - painted,
      correct: reply.correct,
      input: answer.input,
      ...layout,
    };
  }

  /** jsPsych's simulation: "data-only" makes up an answer, "visual" clicks through the real page. */
  simulate(trial, mode, options, onLoad) {
    const made = this.#madeUp(trial, options);
    if (mode === "data-only") {
      onLoad();
      this.jsPsych.finishTrial(made);
      return undefined;
    }
    const display = this.jsPsych.getDisplayElement();
    return this.trial(display, trial, () => {
      onLoad();
      const button = display.querySelector(`[data-row="${made.row}"][data-confidence="${made.confidence}"]`);
      clickWhenOpen(button, made.rt);
      clickWhenOpen(display.querySelector(".continue"), made.displayed_ms);
    });
  }

  #madeUp(trial, options) {
    const random = this.jsPsych.randomization;
    const rt = random.sampleExGaussian(trial.unlock_ms + 1500, 400, 1 / 800, true);
    const data = {
      row: random.sampleWithoutReplacement(ROWS, 1)[0],
      confidence: random.randomInt(1, 3),
      rt,
      shown_ms: rt,
      saving_ms: 20,
      displayed_ms: rt + trial.verdict_ms + trial.feedback_ms + 300,
      correct: null,
      input: "mouse",
      tile_css_px: trial.grid.tile,
      pixel_ratio: 1,
    };
    return this.jsPsych.pluginAPI.mergeSimulationData(data, options);
  }
}

/** What the participant sees of one trial, and what they do with it. */
class Screen {
  #listeners = new AbortController();

  constructor(display, trial) {
    this.trial = trial;
    this.panel = new Panel(trial.tiles, trial.sprite, trial.grid, trial.words);
    this.head = make("header", "head");
    this.count = make("span", "count", trial.count());
    this.room = make("div", "room");
    this.word = make("p", "verdict");
    this.word.setAttribute("role", "status");
    this.word.setAttribute("aria-live", "polite");
    this.continue = make("button", "button continue", trial.words.continue);
    this.continue.type = "button";
    this.continue.disabled = true;
    display.replaceChildren(this.#build());
    for (const { element, row, confidence } of this.panel.buttons) Object.assign(element.dataset, { row, confidence });
    this.#fit();
    window.addEventListener("resize", () => this.#fit(), { signal: this.#listeners.signal });
  }

  #build() {
    const { trial } = this;
    const bar = make("div", "bar");
    const done = make("div");
    done.style.width = `${100 * trial.progress}%`;
    bar.append(done);
    const line = make("div", "line");
    line.append(make("span", "headline", trial.headline), this.count);
    const question = make("p", "question");
    question.innerHTML = toHtml(trial.words.question);
    this.head.append(bar, line, question);
    const foot = make("footer", "foot");
    const keys = make("p", "keys");
    keys.innerHTML = toHtml(trial.words.keys ?? "");
    foot.append(this.word, this.continue, keys);
    this.room.append(this.panel.element);
    const whole = make("div", "trial");
    whole.append(this.head, this.room, foot);
    return whole;
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.room;
    this.tile = this.panel.fit({ width, height });
  }

  /** Open the buttons and wait for an answer. */
  answer() {
    return new Promise((resolve) => {
      const answering = new AbortController();
      const choose = (button, input, at) => {
        if (!this.panel.element.isConnected) return; // the page has ended, but its keys are still heard
        answering.abort();
        for (const { element } of this.panel.buttons) element.disabled = true;
        button.element.classList.add("chosen");
        this.panel.frames[button.row].classList.add("chosen");
        resolve({ row: button.row, confidence: button.confidence, input, at });
      };
      for (const button of this.panel.buttons) {
        button.element.disabled = false;
        const click = () => choose(button, "mouse", performance.now());
        button.element.addEventListener("click", click, { signal: answering.signal });
      }
      const press = (event) => {
        const button = event.repeat || event.ctrlKey || event.altKey || event.metaKey ? null : this.#buttonOf(event.code);
        if (button) choose(button, "key", performance.now());
      };
      document.addEventListener("keydown", press, { signal: answering.signal });
    });
  }

  #buttonOf(code) {
    return this.panel.buttons.find(({ row, confidence }) => KEYS[row][confidence - 1].includes(code));
  }

  saving() {
    this.word.textContent = this.trial.words.saving;
  }

  verdict(row, reply) {
    const name = reply.correct ? "correct" : "wrong";
    this.panel.frames[row].classList.add(name);
    this.word.classList.add(name);
    this.word.textContent = `${reply.correct ? "✓" : "✗"} ${this.trial.words[name]}`;
    this.count.textContent = this.trial.count(reply);
  }

  /** Show Continue and wait for it. */
  left() {
    this.continue.disabled = false;
    this.continue.focus({ preventScroll: true });
    return new Promise((resolve) => {
      this.continue.addEventListener("click", resolve, { once: true });
    });
  }

  close() {
    this.#listeners.abort();
  }
}

/** Counts the time during which the page couldn't be seen. */
class HiddenTime {
  #total = 0;
  #since = null;
  #listener = () => this.#note();

  constructor() {
    document.addEventListener("visibilitychange", this.#listener);
  }

  restart() {
    this.#total = 0;
    this.#since = document.hidden ? performance.now() : null;
  }

  #note() {
    if (document.hidden) {
      this.#since ??= performance.now();
    } else if (this.#since !== null) {
      this.#total += performance.now() - this.#since;
      this.#since = null;
    }
  }

  hiddenMs(at) {
    return this.#total + (this.#since === null ? 0 : at - this.#since);
  }

  close() {
    document.removeEventListener("visibilitychange", this.#listener);
  }
}

/** The time of the frame after the one in which the images were drawn: they are on the screen. */
function nextPaintedFrame() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())));
  });
}

/** Click after `ms`, or as soon after that as the button opens. */
function clickWhenOpen(button, ms) {
  setTimeout(() => {
    const timer = setInterval(() => {
      if (button.disabled) return;
      clearInterval(timer);
      button.click();
    }, 10);
  }, ms);
}
