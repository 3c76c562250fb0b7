// Fills the panels of a page and keeps them fresh while somebody looks; shows what comes live.
"use strict";

const ORIGIN = location.origin;
const LEAST_MS = 5000; // between two answers of a panel, where the gateway does not say
const LIVE = "/console/live";
const AGAIN_MS = 10000; // until the stream is asked for again that was refused

const format = {
  whole: new Intl.NumberFormat("en", { maximumFractionDigits: 0 }),
  rate: new Intl.NumberFormat("en", { maximumSignificantDigits: 3 }),
};

// Times are shown in the reader's zone, in the same width as they came.
function showTimes(root) {
  for (const each of root.querySelectorAll("time[datetime]")) {
    const when = new Date(each.dateTime);
    if (Number.isNaN(when.getTime()) || each.dataset.shown) continue;
    each.dataset.shown = "1";
    each.title = each.dateTime.replace("T", " ").replace("Z", " UTC");
    const two = (value) => String(value).padStart(2, "0");
    const day = `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
    each.textContent = `${day} ${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
  }
}

// A time range of one's own is typed in the reader's zone, and stands in the address in UTC.
function typeStretch(form) {
  const typed = [...form.elements].filter((each) => each.type === "datetime-local");
  for (const each of typed) {
    const when = new Date(each.dataset.time);
    each.value = new Date(when - 60000 * when.getTimezoneOffset()).toISOString().slice(0, 16);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const asked = new URLSearchParams(new FormData(form));
    for (const each of typed) {
      if (each.value) asked.set(each.name, new Date(each.value).toISOString());
      else asked.delete(each.name);
    }
    location.assign(`${ORIGIN}${form.getAttribute("action")}?${asked}`);
  });
}

// What has the focus keeps it when it is made anew.
const nameOf = (each) => [each.tagName, each.getAttribute("href"), each.closest("[data-query]")?.dataset.query, each.closest("details, [id]")?.id, each.textContent].join(" ");
const sameIn = (root, name) => [...root.querySelectorAll("a[href], button, summary, [tabindex]")].find((each) => nameOf(each) === name);

function finish(root) {
  showTimes(root);
  for (const each of root.querySelectorAll("[data-origin]")) each.textContent = ORIGIN;
  for (const table of root.querySelectorAll("table[data-sortable]")) makeSortable(table);
}

// Panels: each asked for by itself, again when the gateway says so, not at all while nobody can see it.
const sights = new IntersectionObserver((changes) => {
  for (const each of changes) each.target.panel.isSeen = each.isIntersecting;
}, { rootMargin: "200px" });

class Panel {
  constructor(place) {
    this.place = place;
    place.panel = this;
    sights.observe(place);
    this.load();
  }

  set isSeen(seen) {
    this.seen = seen;
    this.loadIfDue();
  }

  loadIfDue() {
    const looked = !this.filled || (this.seen && !document.hidden);
    if (this.due && this.due <= Date.now() && looked) this.load("max-stale");
  }

  // `age`: "no-cache" for what is made now, "max-stale" for what the gateway has.
  async load(age = "no-cache") {
    clearTimeout(this.timer);
    const turn = this.turn = (this.turn ?? 0) + 1; // what was asked for before this counts no more
    this.due = 0; // it is on its way
    this.place.setAttribute("aria-busy", "true");
    let again = LEAST_MS;
    try {
      const answer = await fetch(ORIGIN + this.place.dataset.panel, // not below an address with a password in it
        { headers: { "cache-control": age }, signal: AbortSignal.timeout(60000) });
      const text = await answer.text();
      if (turn !== this.turn) return;
      if (!/^text\/html/.test(answer.headers.get("content-type") || "")) throw new Error(`It answered ${answer.status}.`);
      again = 1000 * Number(answer.headers.get("retry-after")) || LEAST_MS;
      this.show(text);
      this.filled = answer.headers.has("server-timing"); // else it is told why there is nothing yet
    } catch (error) {
      if (turn !== this.turn) return;
      this.place.classList.add("stale");
      this.place.title = "The gateway does not answer.";
      if (!this.filled) this.place.textContent = "The gateway does not answer. Trying again.";
    }
    this.place.removeAttribute("aria-busy");
    this.due = Date.now() + again;
    this.timer = setTimeout(() => this.loadIfDue(), again);
  }

  show(text) {
    this.place.classList.remove("stale");
    this.place.removeAttribute("title");
    if (text === this.text || (this.filled && this.isInUse())) return;
    this.text = text;
    const made = document.createElement("div");
    made.innerHTML = text; // the server's own template, with every value escaped
    const opened = new Set([...this.place.querySelectorAll("details[open][id]")].map((each) => each.id));
    for (const each of made.querySelectorAll("details[id]")) each.open = opened.has(each.id);
    finish(made);
    // A chart that is there already takes the new values where it stands.
    const old = [...this.place.querySelectorAll("canvas[data-chart]")];
    const fresh = [...made.querySelectorAll("canvas[data-chart]")];
    if (old.length && old.length === fresh.length) {
      fresh.forEach((canvas, at) => {
        old[at].dataset.chart = canvas.dataset.chart;
        canvas.closest(".chart").replaceWith(old[at].closest(".chart"));
      });
    } else old.forEach((canvas) => charts.drop(canvas));
    const focused = this.place.contains(document.activeElement) && nameOf(document.activeElement);
    this.place.replaceChildren(...made.childNodes);
    if (focused) sameIn(this.place, focused)?.focus({ preventScroll: true });
    for (const canvas of this.place.querySelectorAll("canvas[data-chart]")) charts.draw(canvas);
    this.place.dispatchEvent(new CustomEvent("filled", { bubbles: true }));
  }

  // What is being read or typed in is not taken away.
  isInUse() {
    const selection = getSelection();
    const inside = selection && !selection.isCollapsed && this.place.contains(selection.anchorNode);
    const focused = document.activeElement;
    // What is opened in a list of the newest would be gone with its row.
    const opened = this.place.querySelector("[data-newest] details[open]");
    return inside || opened || (this.place.contains(focused) && focused.matches("input, select, textarea"));
  }
}

// Tables are sorted by a click on a column's head; what was chosen stays when the panel is filled anew.
const sorted = new Map();

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const name = table.dataset.sortable;
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const now = sorted.get(name);
      sorted.set(name, { at, down: now && now.at === at ? !now.down : head.classList.contains("n") });
      sort(table, heads, name);
    });
    head.replaceChildren(button);
  });
  sort(table, heads, name);
}

function sort(table, heads, name) {
  const chosen = sorted.get(name);
  if (!chosen) return;
  heads.forEach((head, at) => {
    if (at === chosen.at) head.setAttribute("aria-sort", chosen.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  const value = (row) => row.cells[chosen.at].dataset.value ?? row.cells[chosen.at].textContent;
  const absent = (text) => text.trim() === "" || text.trim() === "–";
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (absent(a) || absent(b)) return absent(a) - absent(b); // last, up and down
    const order = a !== "" && b !== "" && !Number.isNaN(Number(a)) && !Number.isNaN(Number(b)) ? a - b : a.localeCompare(b);
    return chosen.down ? -order : order;
  });
  table.tBodies[0].replaceChildren(...rows);
}

// What is live: one stream for the page, opened again by the browser when it breaks.
let stream = null;

function listen() {
  if (stream?.readyState < EventSource.CLOSED) return;
  const health = document.getElementById("health");
  stream = new EventSource(LIVE);
  stream.addEventListener("now", (event) => {
    const now = JSON.parse(event.data);
    health.className = `health ${now.troubles.length ? "bad" : "good"}`;
    health.textContent = now.troubles.length ? "Needs attention" : "All is well";
    health.title = now.troubles.join("\n");
    for (const each of document.querySelectorAll("[data-live]")) {
      const [group, ...name] = each.dataset.live.split("."); // a name may have dots itself
      const value = name.length ? now[group]?.[name.join(".")] ?? 0 : now[group];
      if (value === undefined || value === null) continue;
      const text = typeof value === "number" ? format[each.dataset.format || "whole"].format(value) : value;
      const unlessZero = each.dataset.unlessZero; // what follows a figure that is told only where there is one
      each.textContent = unlessZero === undefined ? text : value ? text + unlessZero : "";
    }
  });
  stream.onerror = () => {
    health.className = "health bad";
    health.textContent = "The gateway does not answer";
    health.title = "Trying again.";
    // After an answer such as 503, of a proxy too, the browser does not try again.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  };
}

function begin() {
  finish(document);
  const filters = document.getElementById("filters");
  filters?.addEventListener("change", (event) => { if (event.target.form === filters) filters.requestSubmit(); });
  const stretch = document.getElementById("stretch");
  if (stretch) typeStretch(stretch);
  filters?.addEventListener("submit", () => {
    for (const each of filters.elements) if (each.name && each.value === "") each.disabled = true;
  });
  addEventListener("pageshow", () => { for (const each of filters?.elements || []) each.disabled = false; });
  const zone = document.getElementById("zone");
  zone.textContent = `Times: ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  const panels = [...document.querySelectorAll("[data-panel]")].map((place) => new Panel(place));
  document.addEventListener("visibilitychange", () => { for (const each of panels) each.loadIfDue(); });
  document.addEventListener("filled", (event) => {
    // A panel may bring the values that a filter can have.
    for (const list of event.target.querySelectorAll("template[data-values]")) {
      const select = document.querySelector(`select[data-choices="${list.dataset.values}"]`);
      const there = new Set([...select.options].map((option) => option.value || option.text));
      for (const option of [...list.content.querySelectorAll("option")]) if (!there.has(option.value)) select.append(option);
    }
  });
  document.addEventListener("stale", () => { for (const each of panels) each.load(); }); // something was changed
  listen();
  addEventListener("pagehide", () => stream.close());
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
}

begin();
