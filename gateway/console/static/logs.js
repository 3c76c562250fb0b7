// Follows the log lines as they come in: /v1/tail, a stream of server-sent events.
"use strict";

const MOST_LINES = 200;
const tail = document.getElementById("tail");
const tailLines = document.getElementById("tail-lines");
const tailStart = document.getElementById("tail-start");
const tailPause = document.getElementById("tail-pause");
const tailState = document.getElementById("tail-state");
let following = null, paused = false, waiting = [], came = 0, passed = 0, trouble = "";

const severities = new Map(Object.entries(JSON.parse(tail.dataset.severities)));
const severity = (level) => severities.get(String(level).toLowerCase()) || "";

function part(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text; // never markup
  return made;
}

// The same as templates/logs/lines.html.
function lineOf(sent) {
  const hit = JSON.parse(sent), fields = hit._source, there = (name) => fields[name] !== undefined && fields[name] !== null;
  const line = part("details", `line ${severity(fields.level)}`, "");
  const summary = part("summary", "", "");
  const time = part("time", "", String(fields["@timestamp"]).slice(0, 19).replace("T", " "));
  time.dateTime = fields["@timestamp"];
  summary.append(time, " ");
  if (there("level")) summary.append(part("span", `tag ${severity(fields.level)}`, fields.level), " ");
  if (there("service")) summary.append(part("span", "soft-text", fields.service), " ");
  const message = String(fields.message || "(no message)");
  summary.append(part("span", "text", message.length > 400 ? `${message.slice(0, 400)}…` : message), " ");
  if (there("request_id")) {
    const link = part("a", "id", fields.request_id);
    link.href = `/requests?id=${encodeURIComponent(fields.request_id)}`;
    summary.append(link);
  }
  line.append(summary);
  // Most are never opened.
  // Numbers of so many digits are not what they were once they are read: then it is shown as it came.
  const text = () => (/\d{16}/.test(sent) ? sent : JSON.stringify(fields, null, 2));
  line.addEventListener("toggle", () => line.append(part("pre", "", text())), { once: true });
  showTimes(line);
  return line;
}

function tellTail() {
  const parts = [`${format.whole.format(came)} ${came === 1 ? "line" : "lines"} came`];
  if (passed) parts.push(`${format.whole.format(passed)} events were too many to look at`);
  if (paused) parts.push(`paused, ${waiting.length === MOST_LINES ? "the newest " : ""}${waiting.length} wait`);
  if (came > MOST_LINES) parts.push(`the newest ${MOST_LINES} are kept`);
  tailState.textContent = trouble || `${parts.join("; ")}.`;
}

// Many may come at once: they are shown together, with the next picture.
let drawing = false;
function draw() {
  drawing = false;
  if (!paused && waiting.length) {
    tailLines.prepend(...waiting.splice(0).reverse().map(lineOf));
    while (tailLines.childElementCount > MOST_LINES) tailLines.lastElementChild.remove();
  }
  tellTail();
}
function drawSoon() {
  if (!drawing) setTimeout(draw, 100);
  drawing = true;
}

function follow() {
  following = new EventSource(tail.dataset.address);
  following.addEventListener("document", (event) => {
    came += 1;
    waiting.push(event.data);
    if (waiting.length > MOST_LINES) waiting.shift();
    drawSoon();
  });
  following.addEventListener("passed", (event) => {
    passed += JSON.parse(event.data).documents;
    drawSoon();
  });
  following.onopen = () => { trouble = ""; drawSoon(); };
  following.onerror = () => {
    const over = following.readyState === EventSource.CLOSED;
    trouble = over ? "The gateway does not give new lines now. Try again." : "The connection broke. Connecting again …";
    if (over) end();
    tellTail();
  };
}

function end() {
  following?.close();
  following = null;
  tailStart.textContent = "Follow new lines";
  tailStart.setAttribute("aria-pressed", "false");
  tailPause.hidden = true;
  pause(false);
}

function pause(wanted) {
  paused = wanted;
  tailPause.textContent = wanted ? "Go on" : "Pause";
  tailPause.setAttribute("aria-pressed", String(wanted));
  draw();
}

tailStart.addEventListener("click", () => {
  if (following) return end();
  tailStart.textContent = "Stop";
  tailStart.setAttribute("aria-pressed", "true");
  tailPause.hidden = tailLines.hidden = false;
  trouble = "Connecting …"; // what comes before that is not shown
  follow();
  tellTail();
});
tailPause.addEventListener("click", () => pause(!paused));
addEventListener("pagehide", end);
