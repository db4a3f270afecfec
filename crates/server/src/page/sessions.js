// The sessions of this process: sorted, searched, let go.

import { byId, bytes, element, fill } from "./dom.js";

const SHOWN = 200;
let sorted = { key: "client_id", down: false };
let all = [];
let disconnect;

export function showSessions(sessions, letGo) {
  [all, disconnect] = [sessions, letGo];
  draw();
}

function draw() {
  const wanted = byId("session-search").value.trim().toLowerCase();
  const found = all.filter((one) => [one.session, one.client_id, one.subject, one.state].some((value) => value?.toLowerCase().includes(wanted)));
  const order = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
  found.sort((one, other) => order(one[sorted.key] ?? "", other[sorted.key] ?? "") * (sorted.down ? -1 : 1));
  const of = found.length === all.length ? "" : ` of ${all.length}`;
  byId("session-count").textContent = `${found.length}${of}${found.length > SHOWN ? `, the first ${SHOWN}` : ""}`;
  fill(byId("sessions"), [
    { name: "client", key: "client_id", of: (one) => one.client_id || "…" },
    { name: "subject", key: "subject", of: (one) => one.subject },
    { name: "state", key: "state", of: (one) => element("span", one.state, one.state === "live" ? "ok" : "warning") },
    { name: "at", key: "cursor", of: (one) => one.cursor },
    { name: "acknowledged", key: "acked", of: (one) => one.acked },
    { name: "sent", key: "sent_bytes", right: true, of: (one) => bytes(one.sent_bytes) },
    { name: "", of: (one) => button(one) },
  ], found.slice(0, SHOWN), { sorted, onSort: sortBy });
}

function sortBy(key) {
  sorted = { key, down: sorted.key === key && !sorted.down };
  draw();
}

function button({ session, client_id: client }) {
  const made = element("button", "let go");
  made.type = "button";
  made.title = `${session}: it may come back`;
  made.onclick = async () => {
    made.disabled = true;
    const answer = await disconnect(session);
    made.textContent = answer.ok ? "let go" : `${client}: ${answer.status}`;
  };
  return made;
}

byId("session-search").oninput = draw;
