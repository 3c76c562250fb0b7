// The first page: asks /status and /v1/search every two seconds while it is looked at, /v1/schemas once.
"use strict";

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(path) {
  const answer = await fetch(path);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || `${path} answered ${answer.status}`);
  return content;
}

function showStatus(status) {
  const books = status.books;
  const sinks = Object.entries(books.sinks);
  const stored = sinks.length ? Math.min(...sinks.map(([, sink]) => sink.indexed + sink.duplicates)) : 0;
  const waiting = Math.max(0, ...sinks.map(([, sink]) => sink.waiting));
  const counts = {
    "Received": books.received,
    "Stored": stored,
    "Waiting": waiting,
    "Refused": books.refused,
    "Dead letters held": books.dead_letters,
    "Missing": books.difference,
  };
  byId("counts").replaceChildren(...Object.entries(counts).map(([name, value]) => {
    const box = element("div");
    box.append(element("dt", name), element("dd", number.format(value)));
    return box;
  }));
  const troubles = Object.entries(status.sinks)
    .filter(([, sink]) => sink.state !== "ok")
    .map(([name, sink]) => `${name} is ${sink.state}: ${sink.last_error || "no reason given"}`);
  if (status.spool.failure || status.spool.full) troubles.push(status.spool.failure || status.spool.full);
  byId("trouble").hidden = troubles.length === 0;
  byId("trouble").textContent = troubles.join(" ");
  byId("state").className = troubles.length ? "bad" : "";
  byId("state").textContent = troubles.length ? "Needs a look" : "All is well";
}

// What a row says in few words: the fields that matter for its kind.
function summary(source) {
  const parts = [];
  const add = (label, value) => {
    if (value !== undefined && value !== null && typeof value !== "object") parts.push(label ? `${label} ${value}` : `${value}`);
  };
  add("", source.message);
  add("class", source.prediction_class);
  add("confidence", source.prediction_confidence);
  add("", source.confidence_level);
  if (source.inference_time_ms !== undefined) add("", `${source.inference_time_ms} ms`);
  add("", source.latency_category);
  if (source.prediction_correct !== undefined) add("", source.prediction_correct ? "correct" : "wrong");
  add("", source.error_type);
  for (const name of ["event_category", "check_name", "operation", "action", "name"]) add("", source[name]);
  for (const name of ["score", "epoch", "status", "true_label"]) add(name.replace("_", " "), source[name]);
  return parts.slice(0, 6).join(" · ") || source.type || "";
}

const open = new Set();

function row(hit) {
  const source = hit._source;
  const made = element("tr");
  const time = (source["@timestamp"] || "").replace("T", " ").replace("Z", "").slice(0, 23);
  const details = element("details");
  const key = `${hit._index}/${hit._id}`;
  details.open = open.has(key);
  details.append(element("summary", summary(source)), element("pre", JSON.stringify(source, null, 1)));
  details.addEventListener("toggle", () => (details.open ? open.add(key) : open.delete(key)));
  const what = element("td");
  what.append(details);
  const who = source.model_name || source.service || source.dataset_name || source.logger || source.actor || source.pipeline || "";
  made.append(element("td", time), element("td", hit._index), element("td", who), what);
  return made;
}

function showEvents(found, filtered) {
  if (found.hits.length === 0) {
    showNoEvents(filtered ? "No event fits." : "No events yet. Paste this into a terminal:");
    byId("paste").hidden = filtered;
    return;
  }
  byId("events").hidden = false;
  byId("empty").hidden = true;
  byId("events").tBodies[0].replaceChildren(...found.hits.map(row));
}

function showNoEvents(text) {
  byId("events").hidden = true;
  byId("empty").hidden = false;
  byId("paste").hidden = true;
  byId("empty").firstElementChild.textContent = text;
}

let listed = false;

async function showIndices() {
  if (listed) return;
  listed = true;
  try {
    const { schemas } = await ask("/v1/schemas");
    const patterns = new Set(schemas.map((kind) => kind.index)); // kinds may share one
    byId("index").append(...[...patterns].map((pattern) => new Option(pattern.replace(/-\*$/, ""), pattern)));
  } catch {
    listed = false; // "all" does until the next refresh asks again
  }
}

async function refresh() {
  try {
    showStatus(await ask("/status"));
  } catch (error) {
    byId("state").className = "bad";
    byId("state").textContent = error instanceof TypeError ? "The gateway does not answer." : error.message;
    return;
  }
  showIndices();
  const index = byId("index").value;
  const words = byId("words").value.trim();
  const query = new URLSearchParams({ index, limit: "25" });
  if (words) query.set("q", words);
  try {
    showEvents(await ask(`/v1/search?${query}`), Boolean(words) || index !== "*");
  } catch (error) {
    showNoEvents(error.message);
  }
}

byId("paste").textContent =
  `curl -d '{"model_name":"fraud_detector","prediction_confidence":0.93,"inference_time_ms":25}' ${location.origin}/v1/events`;
byId("search").addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
byId("index").addEventListener("change", refresh);
setInterval(() => { if (!document.hidden) refresh(); }, 2000);
refresh();
