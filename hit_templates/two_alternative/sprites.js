/** Fetches and decodes sprites before the trials that need them, in the order in which they were asked for. */

import { pauseBeforeRetry } from "./api.js";

const AT_ONCE = 3;
const PATIENCE_MS = 15000; // for a sprite that is hosted elsewhere
const OWN_PATIENCE_MS = 60000; // for our own; with each further try as much again, so that a slow connection gets there too

export class Sprites {
  #wanted = new Map(); // address → {promise, bitmap}, until it is dropped
  #queue = [];
  #running = 0;
  #elsewhere = true; // until a hosted sprite couldn't be had: some networks block storage services, and the pages have them all

  /** `onTrouble(true)` is called when a sprite can't be loaded and is tried again, `onTrouble(false)` when one came. */
  constructor(onTrouble) {
    this.onTrouble = onTrouble;
  }

  /** Begin to load these, behind those that are already asked for. */
  want(addresses) {
    for (const address of addresses) {
      if (this.#wanted.has(address)) continue;
      const entry = { bitmap: null };
      entry.promise = new Promise((resolve) => this.#queue.push({ address, entry, resolve }));
      this.#wanted.set(address, entry);
    }
    this.#next();
  }

  /** The decoded sprite, or null while it isn't there. */
  bitmap(address) {
    return this.#wanted.get(address)?.bitmap ?? null;
  }

  ready(addresses) {
    return addresses.every((address) => this.bitmap(address) !== null);
  }

  /** Wait for these; `onProgress` gets how many of how many are there. */
  async all(addresses, onProgress = () => {}) {
    this.want(addresses);
    const tell = () => onProgress(addresses.filter((address) => this.bitmap(address)).length, addresses.length);
    tell();
    await Promise.all(addresses.map((address) => this.#wanted.get(address).promise.then(tell)));
  }

  /** Free the memory of sprites that aren't shown any more. */
  drop(addresses) {
    for (const address of addresses) {
      this.#wanted.get(address)?.bitmap?.close();
      this.#wanted.delete(address);
    }
  }

  #next() {
    while (this.#running < AT_ONCE && this.#queue.length > 0) {
      const { address, entry, resolve } = this.#queue.shift();
      this.#running += 1;
      this.#load(address).then((bitmap) => {
        entry.bitmap = bitmap;
        this.#running -= 1;
        this.onTrouble(false);
        resolve();
        this.#next();
      });
    }
  }

  async #load(address) {
    const own = `/sprites/${address.slice(address.lastIndexOf("/") + 1)}`;
    if (address !== own && this.#elsewhere) {
      try {
        return await decoded(address, PATIENCE_MS);
      } catch {
        this.#elsewhere = false;
      }
    }
    for (let attempt = 1; ; attempt += 1) {
      try {
        // A browser may remember a failed address within a page, so that a retry gets another one.
        return await decoded(attempt === 1 ? own : `${own}?again=${attempt}`, OWN_PATIENCE_MS * attempt);
      } catch {
        this.onTrouble(true);
        await pauseBeforeRetry(attempt);
      }
    }
  }
}

/** The sprite at an address as a bitmap; fails when it isn't there after `patience` ms. */
async function decoded(address, patience) {
  const image = new Image();
  // Without it, the canvases couldn't be read once a sprite of another origin is drawn on them.
  image.crossOrigin = "anonymous";
  image.src = address;
  let timer = null;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("late")), patience);
  });
  try {
    await Promise.race([image.decode(), late]);
  } catch (error) {
    image.removeAttribute("src"); // nobody waits for it any more
    throw error;
  } finally {
    clearTimeout(timer);
  }
  // An image's decoded pixels may be thrown away by the browser; a bitmap keeps them until it is closed.
  return createImageBitmap(image);
}
