/** A participant's visit from consent to completion, on where the server says it stands. */

import { Api, Refused } from "./api.js";
import { describeBrowser, reportEvents } from "./browser.js";
import { keysOf } from "./keys.js";
import { showPictures } from "./pictures.js";
import TwoAlternativePlugin from "./plugin-two-alternative.js";
import { Sprites } from "./sprites.js";
import { fill, paragraphs, sheet, toHtml } from "./words.js";

const { initJsPsych, jsPsychHtmlButtonResponse, jsPsychInstructions, jsPsychSurveyText } = window;

const TOKEN = "visit-token";
const RESYNCS = "visit-resyncs";
const MOST_RESYNCS = 5;
const UNPAID = new Set(["declined", "incompatible"]); // steps of who never began
const OVER = new Set([...UNPAID, "failed_practice", "done"]);
const AHEAD = 5; // main trials whose sprites are there before they are needed
const SMALLEST_WINDOW = { width: 940, height: 600 }; // CSS px in which images have a good size
const TINY_WINDOW = { width: 640, height: 400 }; // below which they can't be told apart, as on a phone

// What the server's refusals of a whole visit are called → which words say so.
const REASONS = { ended: "ended", "timed-out": "timed_out", "bad-token": "no_visit" };

const stage = document.getElementById("stage");
const notice = document.getElementById("notice");

class VisitPage {
  constructor(api, visit) {
    this.api = api;
    this.visit = visit;
    this.texts = visit.texts;
    this.step = visit.step;
    this.practice = visit.practice;
    this.answered = visit.answered;
    this.correct = visit.correct;
    this.completion = visit.completion;
    this.savingMs = null; // how long the previous answer took to be stored
    this.sprites = new Sprites((trouble) => this.trouble("sprites", trouble));
    this.troubles = new Set();
    api.onTrouble = (trouble) => this.trouble("api", trouble);
  }

  async run() {
    document.documentElement.lang = this.texts.language;
    document.title = this.texts.page.title;
    stage.replaceChildren();
    this.keys = await keysOf(this.texts.trial.keys);
    if (!OVER.has(this.step)) {
      this.preloadBegins();
      reportEvents((kind, detail) => this.api.note("/api/events", { kind, detail }), () => this.situation());
      await this.timeline();
    }
    this.last();
  }

  situation() {
    const { name, ...layout } = describeBrowser(this.visit.grid);
    return { ...layout, step: this.step, position: this.step === "practice" ? this.practice.position : this.answered };
  }

  trouble(what, there) {
    if (there) this.troubles.add(what);
    else this.troubles.delete(what);
    notice.hidden = this.troubles.size === 0;
    notice.textContent = this.troubles.has("api") ? this.texts.reconnecting.text : notice.hidden ? "" : this.texts.preload.trouble;
  }

  /** Ask from a page of text: until the server has answered, the page says that something is saved. */
  async askAndWait(path, body) {
    const display = this.jsPsych.getDisplayElement();
    display.innerHTML = sheet(this.texts.saving.heading, []);
    const reply = await this.ask(path, body);
    display.replaceChildren();
    return reply;
  }

  /** Wait for the server; what it refuses for good ends the page, with the reason in words. */
  async ask(path, body) {
    try {
      return await this.api.post(path, body);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return this.refused(error);
    }
  }

  refused(error) {
    this.api.stop();
    if (error.status === 409 && allowedToResync()) {
      window.location.reload();
    } else if (error.status === 401 || error.status === 410) {
      const { heading, paragraphs: texts } = this.texts[error.status === 410 ? "timed_out" : "ended"];
      this.halt(sheet(heading, texts));
    } else {
      const { heading, paragraphs: texts } = this.texts.problem;
      this.halt(sheet(heading, texts, { more: reloadButton(this.texts.buttons.reload) }));
    }
    return new Promise(() => {});
  }

  /** Show this and nothing else any more. */
  halt(html) {
    this.jsPsych?.pluginAPI.clearAllTimeouts();
    this.jsPsych?.pluginAPI.cancelAllKeyboardResponses();
    notice.hidden = true;
    stage.replaceChildren();
    stage.className = "";
    stage.innerHTML = html;
    beginAtHeading();
    stage.querySelector("[data-reload]")?.addEventListener("click", () => window.location.reload());
  }

  /** Runs every step from where the visit stands; steps that are behind it are left out. */
  async timeline() {
    this.jsPsych = initJsPsych({ display_element: stage });
    await this.jsPsych.run([
      this.during("consent", [this.consentPage()]),
      this.during("instructions", [this.checkPage()]),
      this.during("instructions", [this.instructionPages()]),
      { timeline: [this.fullscreenPage(), this.preloadPage()], conditional_function: () => this.atTrials() },
      this.during("practice", [this.waitForSprite(), this.practiceTrial(), this.practiceAgain(), this.practicePassed()], true),
      this.during("main", [this.waitForSprite(), this.mainTrial()], true),
      this.during("feedback", [this.feedbackPage()]),
    ]);
  }

  during(step, timeline, repeated = false) {
    const here = () => this.step === step;
    return { timeline, conditional_function: here, ...(repeated ? { loop_function: here } : {}) };
  }

  atTrials() {
    return this.step === "practice" || this.step === "main";
  }

  consentPage() {
    const { consent } = this.texts;
    const sections = consent.sections.map(({ heading, text }) => `<h2>${toHtml(heading)}</h2><p>${toHtml(text)}</p>`);
    return {
      type: jsPsychHtmlButtonResponse,
      stimulus: sheet(consent.heading, [consent.lead], { more: sections.join("") }),
      choices: [consent.disagree, consent.agree].map((label) => toHtml(label)),
      button_layout: "flex",
      css_classes: "page",
      on_load: beginAtHeading,
      on_finish: async ({ response }) => {
        const agree = response === 1;
        ({ step: this.step, completion: this.completion } = await this.askAndWait("/api/consent", { agree, version: consent.version }));
      },
    };
  }

  /** Eyesight, and whether the window is large enough, which is said anew while it is changed. */
  checkPage() {
    const { check } = this.texts;
    const listening = new AbortController();
    const look = () => {
      const { innerWidth: width, innerHeight: height } = window;
      const within = (least) => width < least.width || height < least.height;
      const name = within(TINY_WINDOW) ? "tiny" : within(SMALLEST_WINDOW) ? "small" : "fits";
      const line = stage.querySelector("#window");
      line.className = name;
      line.innerHTML = toHtml(check[name], { width, height });
      stage.querySelector("button:last-of-type").disabled = name === "tiny";
    };
    return {
      type: jsPsychHtmlButtonResponse,
      stimulus: sheet(check.heading, check.paragraphs, { more: '<p id="window" role="status"></p>' }),
      choices: [check.cannot, check.go_on].map((label) => toHtml(label)),
      button_layout: "flex",
      css_classes: "page",
      on_load: () => {
        beginAtHeading();
        look();
        window.addEventListener("resize", look, { signal: listening.signal });
      },
      on_finish: async ({ response }) => {
        listening.abort();
        if (response === 1) return;
        ({ step: this.step, completion: this.completion } = await this.askAndWait("/api/incompatible", {}));
      },
    };
  }

  instructionPages() {
    const values = { practice: this.practice?.trials.length };
    const pages = this.texts.instructions.filter(({ condition }) => !condition || condition === this.visit.condition);
    let shownAt = 0;
    let current = 0;
    const shown = (next) => {
      const now = performance.now();
      if (next !== current) this.api.note("/api/page", { page: pages[current].id, shown_ms: now - shownAt });
      current = next;
      shownAt = now;
      if (next === pages.length) return;
      beginAtHeading();
      showPictures(stage, this);
    };
    return {
      type: jsPsychInstructions,
      pages: pages.map(({ heading, picture, alt, paragraphs: texts }) =>
        sheet(heading, texts, { values, more: picture ? place(picture, alt ?? heading) : "" }),
      ),
      show_clickable_nav: true,
      show_page_number: true,
      page_label: "",
      button_label_next: toHtml(this.texts.buttons.next),
      button_label_previous: toHtml(this.texts.buttons.back),
      css_classes: ["page", "instructions"],
      on_load: () => shown(0),
      on_page_change: shown,
      on_finish: async () => {
        ({ step: this.step } = await this.askAndWait("/api/instructions", { browser: describeBrowser(this.visit.grid) }));
      },
    };
  }

  /** Asks for fullscreen at the click, which is when browsers allow it; going on doesn't depend on it. */
  fullscreenPage() {
    const { fullscreen, buttons } = this.texts;
    const again = this.answered > 0 || (this.practice !== null && (this.practice.block > 1 || this.practice.position > 0));
    const [heading, texts] = again
      ? [fullscreen.again_heading, [...fullscreen.again_paragraphs, ...fullscreen.paragraphs]]
      : [fullscreen.heading, fullscreen.paragraphs];
    const small = () => window.innerWidth < SMALLEST_WINDOW.width || window.innerHeight < SMALLEST_WINDOW.height;
    return {
      type: jsPsychHtmlButtonResponse,
      stimulus: () => sheet(heading, small() ? [...texts, fullscreen.small] : texts),
      choices: [toHtml(again ? buttons.continue : buttons.start)],
      css_classes: "page",
      on_load: () => {
        beginAtHeading();
        stage.querySelector("button").addEventListener("click", requestFullscreen);
      },
    };
  }

  /** The sprites without which the trials don't begin: all of practice and the first main trials. */
  neededFirst() {
    const practice = this.step === "main" ? [] : this.practice.trials.slice(this.practice.position);
    return [...practice, ...this.visit.main.slice(this.answered, this.answered + AHEAD)].map(({ sprite }) => sprite);
  }

  preloadBegins() {
    if (this.step !== "feedback") this.sprites.want(this.neededFirst());
  }

  preloadPage() {
    return {
      timeline: [this.bar(() => this.neededFirst())],
      conditional_function: () => !this.sprites.ready(this.neededFirst()),
    };
  }

  /** Usually skipped, because the sprite is there; a slow connection is waited for, with a bar. */
  waitForSprite() {
    return {
      timeline: [this.bar(() => [this.trial().sprite])],
      conditional_function: () => !this.sprites.ready([this.trial().sprite]),
    };
  }

  bar(sprites) {
    const { heading, progress } = this.texts.preload;
    return {
      type: jsPsychHtmlButtonResponse,
      stimulus: sheet(heading, [], {
        more: `<progress class="loading" max="1" value="0" aria-label="${toHtml(heading)}"></progress><p class="loaded"></p>`,
      }),
      choices: [],
      css_classes: "page",
      on_load: async () => {
        const bar = stage.querySelector("progress");
        const line = stage.querySelector(".loaded");
        await this.sprites.all(sprites(), (there, total) => {
          bar.value = there / total;
          line.textContent = fill(progress, { there, total });
        });
        this.jsPsych.finishTrial({});
      },
    };
  }

  /** The trial that is next, as the server described it. */
  trial() {
    return this.step === "practice" ? this.practice.trials[this.practice.position] : this.visit.main[this.answered];
  }

  /** What practice and main trials have in common; parameters are read when the trial begins. */
  twoAlternative() {
    return {
      type: TwoAlternativePlugin,
      sprite: () => this.sprites.bitmap(this.trial().sprite),
      tiles: () => this.trial(),
      grid: this.visit.grid,
      words: { ...this.texts.trial, keys: this.keys, continue: this.texts.buttons.continue },
      ...this.visit.timing,
    };
  }

  practiceTrial() {
    const numbers = () => ({ position: this.practice.position + 1, total: this.practice.trials.length });
    let reply = null;
    return {
      ...this.twoAlternative(),
      headline: () => fill(this.texts.trial.practice, numbers()),
      progress: () => this.practice.position / this.practice.trials.length,
      store: async ({ row, confidence, rt_ms }) => {
        const { block, position } = this.practice;
        reply = await this.ask("/api/practice", { block, position, row, confidence, rt_ms });
        return reply;
      },
      on_finish: () => {
        this.practiceEnded = reply.step === "main" ? "passed" : reply.practice !== null ? "again" : null;
        if (reply.step === "practice" && reply.practice !== null) this.practice = reply.practice;
        else this.practice = { ...this.practice, position: this.practice.position + 1 };
        this.step = reply.step;
        this.completion = reply.completion;
        this.sprites.want(this.step === "failed_practice" ? [] : this.neededFirst());
      },
    };
  }

  practiceAgain() {
    const { again_heading, again_paragraphs } = this.texts.practice;
    return this.betweenPage("again", again_heading, again_paragraphs, { practice: this.practice?.trials.length });
  }

  practicePassed() {
    const { passed_heading, passed_paragraphs } = this.texts.practice;
    return this.betweenPage("passed", passed_heading, passed_paragraphs, {});
  }

  betweenPage(when, heading, texts, values) {
    const page = {
      type: jsPsychHtmlButtonResponse,
      stimulus: sheet(heading, texts, { values }),
      choices: [toHtml(this.texts.buttons.continue)],
      css_classes: "page",
      on_load: beginAtHeading,
      on_finish: () => {
        this.practiceEnded = null;
      },
    };
    return { timeline: [page], conditional_function: () => this.practiceEnded === when };
  }

  mainTrial() {
    const { trials } = this.visit;
    let reply = null;
    return {
      ...this.twoAlternative(),
      headline: () => fill(this.texts.trial.main, { position: this.answered + 1, total: trials }),
      progress: () => this.answered / trials,
      count: (told) =>
        fill(this.texts.trial.count, {
          correct: told ? told.correct_count : this.correct,
          answered: told ? told.answered : this.answered,
        }),
      on_start: () => {
        const next = this.visit.main.slice(this.answered + 1, this.answered + 1 + AHEAD);
        this.sprites.want(next.map(({ sprite }) => sprite));
      },
      store: async (given) => {
        const sent = { position: this.answered, ...given, saving_ms: this.savingMs };
        reply = await this.ask("/api/answers", sent);
        remember(RESYNCS, "0");
        return reply;
      },
      on_finish: ({ saving_ms }) => {
        this.sprites.drop([this.trial().sprite]);
        this.savingMs = saving_ms;
        this.answered = reply.answered;
        this.correct = reply.correct_count;
        this.step = reply.step;
      },
    };
  }

  feedbackPage() {
    const { heading, prompt, send } = this.texts.feedback;
    return {
      type: jsPsychSurveyText,
      preamble: `<h1>${toHtml(heading)}</h1>`,
      questions: [{ prompt: toHtml(prompt), name: "feedback", rows: 5, columns: 60 }],
      button_label: toHtml(send),
      css_classes: ["page", "sheet-form"],
      on_load: () => {
        beginAtHeading();
        const field = stage.querySelector("textarea");
        field.setAttribute("maxlength", "5000");
        field.setAttribute("aria-label", prompt);
      },
      on_finish: async ({ response }) => {
        const done = await this.askAndWait("/api/submit", { feedback: response.feedback });
        this.step = done.step;
        this.completion = done.completion;
      },
    };
  }

  /** The last page: thanks, what it was about, and the way back to the platform. */
  last() {
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
    const { done } = this.texts;
    const { heading, paragraphs: texts } = this.texts[this.step];
    const [click, label] = UNPAID.has(this.step) ? [done.leave, done.back] : [done.click, done.complete];
    const without = UNPAID.has(this.step) ? [] : [done.no_link];
    const link = this.completion ? paragraphs([click]) + wayBack(this.completion, label) : paragraphs(without);
    const debrief = this.step === "done" ? `<h2>${toHtml(done.debrief_heading)}</h2>${paragraphs(done.debrief)}` : "";
    this.halt(sheet(heading, texts, { more: link + debrief }));
    stage.dataset.step = this.step;
  }
}

/** A link, or, where the platform wants a form, a button that sends it. */
function wayBack({ url, form }, label) {
  if (!form) return `<p><a class="button" id="complete" href="${toHtml(url)}">${toHtml(label)}</a></p>`;
  const fields = Object.entries(form).map(([name, value]) => `<input type="hidden" name="${toHtml(name)}" value="${toHtml(value)}">`);
  return `<form method="post" action="${toHtml(url)}">${fields.join("")}<p><button class="button" id="complete">${toHtml(label)}</button></p></form>`;
}

/** Where a picture of the instructions is drawn. */
function place(picture, alt) {
  return `<div class="picture" role="img" aria-label="${toHtml(alt)}" data-picture="${picture}"></div>`;
}

/** Who uses a keyboard or a screen reader is at the beginning of a page that has changed. */
function beginAtHeading() {
  const heading = stage.querySelector("h1");
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function requestFullscreen() {
  if (!document.fullscreenEnabled) return; // as in MTurk's frame, where asking for it is an error
  const asked = document.documentElement.requestFullscreen?.({ navigationUI: "hide" });
  asked?.catch(() => {}); // Refused in many frames and by some people's settings: the study goes on in the window.
}

function reloadButton(label) {
  return `<p><button type="button" class="button" data-reload>${toHtml(label)}</button></p>`;
}

/** A reload gets us what the server has; one that doesn't help isn't repeated for ever. */
function allowedToResync() {
  const resyncs = Number(recall(RESYNCS) ?? 0) + 1;
  return remember(RESYNCS, String(resyncs)) && resyncs <= MOST_RESYNCS;
}

/** Keep something for a reload of this tab; false where a browser lets no frame of another site keep anything. */
function remember(name, value) {
  try {
    sessionStorage.setItem(name, value);
    return true;
  } catch {
    return false;
  }
}

function recall(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/**
 * Take the token out of the address bar, where it would be copied along, and keep it for a reload. Where nothing can be
 * kept it stays in the address: a lost visit would be worse.
 */
function takeToken() {
  const arrived = window.location.hash.slice(1);
  if (arrived && !remember(TOKEN, arrived)) return arrived;
  window.history.replaceState(null, "", window.location.pathname);
  return recall(TOKEN) ?? "";
}

/** Going back by mistake stays here; a new link in the same tab begins anew. */
function guardHistory() {
  const here = window.location.href;
  window.history.pushState(null, "", here);
  window.addEventListener("popstate", () => {
    if (window.location.href !== here) window.location.reload();
    else window.history.pushState(null, "", here);
  });
}

/**
 * A duplicated tab has the same token: the newest goes on, the others end. A browser that keeps nothing for a site may not
 * let its tabs speak to one another either; then the server refuses the later of two answers.
 */
function endWhenDuplicated(token, end) {
  let channel;
  try {
    channel = new BroadcastChannel("visit");
  } catch {
    return;
  }
  channel.postMessage(token);
  channel.addEventListener("message", ({ data }) => {
    if (data !== token) return;
    channel.close();
    end();
  });
}

/** A visit that can't be shown: why, and what to do, in the words that came with the page. */
function notThisVisit(code, words) {
  const { heading, paragraphs: texts } = words[REASONS[code] ?? "problem"];
  const more = REASONS[code] ? "" : reloadButton(words.buttons.reload);
  stage.innerHTML = sheet(heading, texts, { more });
  beginAtHeading();
  stage.querySelector("[data-reload]")?.addEventListener("click", () => window.location.reload());
}

/** A script that didn't come leaves nothing behind; without jspsych.js this one doesn't run, and the page's first words stay. */
function allScriptsCame() {
  const left = [window.studySupport, initJsPsych, jsPsychHtmlButtonResponse, jsPsychInstructions, jsPsychSurveyText];
  return !left.includes(undefined);
}

async function main() {
  const token = takeToken();
  const words = JSON.parse(document.getElementById("words").textContent);
  if (!document.getElementById("unsupported").hidden) return;
  if (!allScriptsCame()) {
    notThisVisit(null, words);
    return;
  }
  if (!(await window.studySupport)) return;
  guardHistory();
  const api = new Api(token, (trouble) => {
    notice.hidden = !trouble;
    notice.textContent = trouble ? words.reconnecting.text : "";
  });
  let visit;
  try {
    visit = await api.get("/api/visit");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    notThisVisit(error.code, words);
    return;
  }
  const page = new VisitPage(api, visit);
  endWhenDuplicated(token, () => page.refused(new Refused(401, "ended", "")));
  await page.run();
}

main();
