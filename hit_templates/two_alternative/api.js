/** Talks to the server: one token per visit, in a header; what doesn't get through is sent again. */

const TIMEOUT_MS = 15000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const TEMPORARY = new Set([408, 425, 429, 500, 502, 503, 504]);

/** The server said no, for good: `code` is its short name for why, `message` is written for the participant. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class Api {
  #stopped = false;

  /** `onTrouble(true)` is called when a request has to be sent again, `onTrouble(false)` once one got through. */
  constructor(token, onTrouble) {
    this.token = token;
    this.onTrouble = onTrouble;
  }

  get(path) {
    return this.#send("GET", path, undefined, Infinity);
  }

  /**
   * Send until the server has answered: without an end, because an answer must not be lost and the participant sees
   * that we are waiting. Throws Refused when the server says no.
   */
  post(path, body) {
    return this.#send("POST", path, body, Infinity);
  }

  /** Send something the visit can do without: tried three times, never an error. */
  async note(path, body) {
    try {
      await this.#send("POST", path, body, 3);
    } catch {
      // What matters of the same visit will meet the same trouble, and shows it.
    }
  }

  /** Send nothing any more, as when the visit goes on in another tab; what is asked for stays without a reply. */
  stop() {
    this.#stopped = true;
  }

  async #send(method, path, body, tries) {
    for (let attempt = 1; ; attempt += 1) {
      if (this.#stopped) return new Promise(() => {});
      try {
        const reply = await this.#once(method, path, body);
        if (tries === Infinity) this.onTrouble(false);
        return reply;
      } catch (error) {
        if (error instanceof Refused || attempt >= tries) throw error;
        if (tries === Infinity) this.onTrouble(true);
        await pauseBeforeRetry(attempt);
      }
    }
  }

  async #once(method, path, body) {
    const response = await fetch(path, {
      method,
      cache: "no-store",
      headers: { "X-Visit-Token": this.token, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (TEMPORARY.has(response.status)) throw new Error(`status ${response.status}`);
    const reply = response.status === 204 ? null : await response.json();
    if (!response.ok) throw new Refused(response.status, reply?.code, reply?.error);
    return reply;
  }
}

/** Wait longer after each failure, and no longer than until the browser says that it is online again. */
export function pauseBeforeRetry(attempt) {
  const longest = Math.min(FIRST_WAIT_MS * 2 ** (attempt - 1), LONGEST_WAIT_MS);
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, longest * (0.75 + Math.random() / 4));
    window.addEventListener("online", done);
  });
}
