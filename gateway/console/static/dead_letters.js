// Sends dead letters again, or drops them, and says in words what came of it.
"use strict";

const answerPlace = document.getElementById("answer");
let working = false;

const counted = (count, one = "event") => `${format.whole.format(count)} ${count === 1 ? one : `${one}s`}`;

const calls = {
  try: {
    method: "POST", path: "/v1/dead-letters/replay", more: "&dry_run=true",
    told: (found) => `${counted(found.would_pass)} would pass now, ${format.whole.format(found.stay)} would stay.` +
      (found.unknown ? ` ${counted(found.unknown)} would be sent; whether they pass shows only then.` : ""),
  },
  send: {
    method: "POST", path: "/v1/dead-letters/replay", more: "",
    asked: (count, what) => `Replay ${counted(count)} (${what})? Those that pass now are stored and are no dead letters any more.`,
    told: (found) => `${counted(found.replayed)} ${found.replayed === 1 ? "was" : "were"} replayed, ${format.whole.format(found.stay)} ${found.stay === 1 ? "stays" : "stay"}.`,
  },
  drop: {
    method: "DELETE", path: "/v1/dead-letters", more: "",
    asked: (count, what) => `Drop ${counted(count)} for good (${what})? They cannot be brought back.`,
    told: (found) => `${counted(found.dropped, "dead letter")} ${found.dropped === 1 ? "was" : "were"} dropped.`,
  },
};

function tell(text, state, lines = []) {
  const list = document.createElement("ul");
  for (const each of lines) list.append(Object.assign(document.createElement("li"), { textContent: each }));
  const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" });
  close.addEventListener("click", () => { answerPlace.hidden = true; });
  answerPlace.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }), ...(lines.length ? [list] : []), close);
  answerPlace.className = `message whole reply ${state}`;
  answerPlace.hidden = false;
  answerPlace.focus({ preventScroll: true });
}

// What an answer that is none of the expected says.
function refusal(status, found) {
  const why = found?.error ?? found?.errors?.[0]?.message ?? `The gateway answered ${status}.`;
  if (status === 401 || status === 403) return `A key is needed. ${why}`;
  return status === 429 ? `Not now. ${why}` : why;
}

async function call(name, { query, count, what }) {
  const wanted = calls[name];
  if (working || (wanted.asked && !confirm(wanted.asked(Number(count), what)))) return;
  working = true;
  tell("Working …", "");
  try {
    const answer = await fetch(`${ORIGIN}${wanted.path}?${query}${wanted.more}`, { method: wanted.method });
    const found = await answer.json().catch(() => null);
    if (answer.ok) {
      const why = (found.why ?? []).map((each) => `${counted(each.count)}: ${each.path === "$" ? "" : `${each.path}: `}${each.message}`);
      if (found.why_omitted) why.push(`${counted(found.why_omitted)} for other reasons`);
      tell(wanted.told(found), why.length ? "" : "good", why);
    } else tell(refusal(answer.status, found), "bad");
  } catch {
    tell("The gateway does not answer.", "bad");
  }
  working = false;
  document.dispatchEvent(new Event("stale"));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  const place = button?.closest("[data-query]");
  if (place) call(button.dataset.do, place.dataset);
});
