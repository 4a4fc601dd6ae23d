/** Asks for the counts every few seconds and draws them. Everything is put in as text, never as markup. */

const EVERY_MS = 5000;
const PLACES = { valid: "valid", submitted: "waiting for a verdict", under_way: "at it", open: "open", short: "short" };
const CRITERIA = {
  catch_trials: "catch trials",
  total_time: "total time",
  instruction_time: "time on the instructions",
  row_choices: "same row too often",
  practice_blocks: "practice",
};
const SVG = "http://www.w3.org/2000/svg";
const find = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function drawing(attributes, rectangles) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  for (const { title, ...rest } of rectangles) {
    const rectangle = document.createElementNS(SVG, "rect");
    for (const [key, value] of Object.entries(rest)) rectangle.setAttribute(key, value);
    if (title) rectangle.append(Object.assign(document.createElementNS(SVG, "title"), { textContent: title }));
    svg.append(rectangle);
  }
  return svg;
}

function table(headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

const nothing = (text) => element("p", { class: "quiet" }, text);
const money = ({ amount, currency }) => `${(amount / 100).toFixed(2)} ${currency}`;
const words = (name) => CRITERIA[name] ?? name.replaceAll("_", " ");
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");

function figure(name, value, note) {
  return element("dl", {}, element("dt", {}, name), element("dd", {}, value), element("dd", { class: "note" }, note));
}

function drawKey(now) {
  const total = (name) => sum(now.arms.map((arm) => arm.status[name]));
  const flow = (name) => sum(now.arms.map((arm) => arm.flow[name]));
  const committed = now.money.spent.amount + now.money.owed.amount;
  const figures = [
    figure("Tasks done", `${total("valid")} of ${total("tasks")}`, percent(total("valid"), total("tasks"))),
    figure("At it now", total("under_way"), `${total("submitted")} wait for a verdict`),
    figure("Submitted", `${flow("submitted")} of ${flow("arrived")}`, `visits; ${total("excluded")} excluded`),
    figure("Paid", money(now.money.spent), `${money(now.money.owed)} owed`),
    figure("Cap", money(now.money.cap), `${percent(committed, now.money.cap.amount)} paid or owed`),
  ];
  if (now.pay) {
    figures.push(
      figure("Pay per hour", money(now.pay.hourly), `median; ${money(now.pay.promised)} planned`),
      figure("Slowest tenth", money(now.pay.lowest_tenth), "per hour or less"),
      figure("Minutes", now.pay.minutes.toFixed(1), `median; estimated ${now.pay.estimated_minutes}`),
    );
  }
  find("key").replaceChildren(...figures);
}

function bar(status) {
  let x = 0;
  const parts = Object.keys(PLACES).map((place) => {
    const width = (100 * status[place]) / Math.max(1, status.tasks);
    x += width;
    return { class: place, x: x - width, y: 0, width, height: 10 };
  });
  const said = Object.entries(PLACES).map(([place, name]) => `${status[place]} ${name}`).join(", ");
  return drawing({ viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": said }, parts);
}

function tasks(arm) {
  const across = 24;
  const squares = arm.tasks.map((task, index) => ({
    class: task.where,
    x: (index % across) * 14,
    y: Math.floor(index / across) * 14,
    width: 12,
    height: 12,
    title: `task ${task.number}: ${PLACES[task.where]}`,
  }));
  const height = Math.ceil(arm.tasks.length / across) * 14;
  const size = { viewBox: `0 0 ${across * 14} ${height}`, width: across * 14, height, class: "tasks", role: "img" };
  return drawing({ ...size, "aria-label": "tasks in their order" }, squares);
}

function units(arm) {
  const lines = [...arm.units]
    .sort((one, other) => one.valid / one.planned - other.valid / other.planned)
    .map(({ unit, valid, planned }) => {
      return element("li", {}, element("span", { class: "unit" }, unit), element("span", {}, `${valid}/${planned}`));
    });
  return element("ul", { class: "units" }, ...lines);
}

/** What is inside an arm is drawn when it is opened: thousands of units would slow a phone down. */
function fill(details, arm) {
  const inside = details.querySelector(".inside");
  if (!details.open) return inside.replaceChildren();
  return inside.replaceChildren(
    element("h3", {}, "Tasks"), tasks(arm), element("h3", {}, "Units: valid answers of planned ones"), units(arm));
}

const drawn = new Map();

function drawArms(now) {
  for (const arm of now.arms) {
    const { status } = arm;
    let details = drawn.get(status.arm);
    if (!details) {
      details = element("details", {}, element("summary"), element("div", { class: "inside" }));
      details.addEventListener("toggle", () => fill(details, details.arm));
      drawn.set(status.arm, details);
      find("arms").append(details);
    }
    details.arm = arm;
    const count = `${status.valid} of ${status.tasks}${status.short ? `, ${status.short} short` : ""}`;
    details.querySelector("summary").replaceChildren(
      element("span", { class: "name" }, status.arm), element("span", { class: "count" }, count), bar(status));
    fill(details, arm);
  }
}

function drawFlow(now) {
  const steps = ["consented", "instructed", "practised", "submitted"];
  const rows = now.arms.map(({ status, flow }) =>
    [status.arm, flow.arrived, ...steps.map((step) => percent(flow[step], flow.arrived))]);
  find("flow").replaceChildren(table(["arm", "came", "agreed", "read", "ready", "done"], rows));
  const pages = [...new Set(now.arms.flatMap((arm) => Object.keys(arm.flow.left_at)))];
  drawCounts("left", "page", pages, now.arms, (arm, page) => arm.flow.left_at[page] ?? 0, (page) => page);
}

function drawExcluded(now) {
  drawCounts("excluded", "criterion", Object.keys(now.excluded_by), now.arms, (arm, name) => arm.excluded_by[name] ?? 0, words);
}

/** One row for each name: how many in all, and in which arms, which may be two dozen. */
function drawCounts(id, heading, names, arms, count, said) {
  const rows = names.map((name) => {
    const by = arms.filter((arm) => count(arm, name)).map((arm) => `${count(arm, name)} in ${arm.status.arm}`);
    return [said(name), sum(arms.map((arm) => count(arm, name))), element("span", { class: "wrap" }, by.join(", "))];
  });
  find(id).replaceChildren(rows.length ? table([heading, "visits", "where"], rows) : nothing("Nobody so far."));
}

function drawTimes(now) {
  const seconds = (milliseconds) => (milliseconds / 1000).toFixed(2);
  const rows = now.arms
    .filter((arm) => arm.times)
    .map(({ status, times }) =>
      [status.arm, seconds(times.median), `${seconds(times.lower_quartile)}–${seconds(times.upper_quartile)}`, times.answers]);
  const headings = ["arm", "median s", "quartiles", "answers"];
  find("times").replaceChildren(rows.length ? table(headings, rows) : nothing("No answer so far."));
}

function drawProblems(now) {
  find("problems").hidden = now.problems.length === 0;
  find("problem-list").replaceChildren(...now.problems.map((problem) => element("li", {}, problem)));
}

function draw(now) {
  document.title = `${now.study} – dashboard`;
  find("title").textContent = now.title;
  const stands = now.posting === "none" ? "not posted yet" : now.complete ? "complete" : now.posting;
  find("where").textContent = `${now.study} on ${now.platform}, ${stands}${now.kind === "study" ? "" : ` (${now.kind})`}`;
  drawProblems(now);
  drawKey(now);
  drawArms(now);
  drawFlow(now);
  drawExcluded(now);
  drawTimes(now);
}

async function refresh() {
  try {
    const response = await fetch("progress.json", { cache: "no-store", signal: AbortSignal.timeout(30000) });
    if (!response.ok) throw new Error((await response.text()).trim());
    const now = await response.json();
    draw(now);
    find("fresh").textContent = `as of ${new Date(now.at).toLocaleTimeString()}`;
    find("fresh").classList.remove("stale");
  } catch (error) {
    const known = error instanceof TypeError || error.name === "TimeoutError" ? "the dashboard doesn't answer" : error.message;
    find("fresh").textContent = `Not up to date: ${known}`;
    find("fresh").classList.add("stale");
  }
  setTimeout(refresh, EVERY_MS);
}

find("legend").replaceChildren(
  ...Object.entries(PLACES).map(([place, name]) =>
    element("span", {}, drawing({ viewBox: "0 0 10 10" }, [{ class: place, x: 0, y: 0, width: 10, height: 10 }]), name)),
);
refresh();
