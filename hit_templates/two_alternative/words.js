/** Turns texts (texts/en.toml) into HTML: %placeholders% filled, everything escaped, **bold** the only markup. */

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Replace %name% by values.name; a placeholder without a value stays as it is. */
export function fill(text, values = {}) {
  return text.replace(/%(\w+)%/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export function toHtml(text, values = {}) {
  const escaped = fill(text, values).replace(/[&<>"']/g, (character) => ESCAPES[character]);
  return escaped.replace(/\*\*(.+?)\*\*/g, "<strong>$1</strong>");
}

export function paragraphs(texts, values = {}) {
  return texts.map((text) => `<p>${toHtml(text, values)}</p>`).join("");
}

/** A page of text: heading and paragraphs, with more HTML behind them. */
export function sheet(heading, texts, { values = {}, more = "" } = {}) {
  return `<div class="sheet"><h1>${toHtml(heading, values)}</h1>${paragraphs(texts, values)}${more}</div>`;
}
