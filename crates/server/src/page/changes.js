// A client of /v1/stream that begins at the head and keeps no rows: it shows changes as they come, each with what it has changed. It
// resumes by cursor after a lost connection.

import { byId, element, text } from "./dom.js";

const KEPT = 500;
const SHOWN = 100;
const CHANGES_OF_ONE = 20;
const RECONNECT_MS = 1000;
const clientId = `page-${crypto.randomUUID()}`;

let cursor = null;
let pending = []; // changes of a transaction that has not ended
let kept = []; // newest first
let isPaused = false;
let isDue = false;

/** `locked` is called with the code where a token is needed, or another one. */
export function follow(token, locked) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, "waldelta.v1.json");
  socket.onopen = () => {
    socket.send(JSON.stringify({
      type: "hello", client_id: clientId, after: cursor, snapshot: false, own_changes: "include",
      subscriptions: [{ id: "all", table: "*", old: true }], token, // undefined is left out
    }));
  };
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code, reason }) => {
    pending = [];
    if (code === 4401) return locked(/"code":"([^"]+)"/.exec(reason)?.[1]);
    if (code === 4409 || code === 4400 || code === 4406) return state(`closed: ${code} ${reason}`, "bad");
    // What cannot be resumed is not missed here: it goes on at the head.
    if (code === 4410) cursor = null;
    state("connection lost, resuming…", "");
    setTimeout(() => follow(token, locked), RECONNECT_MS);
  };
}

function receive(frame) {
  switch (frame.type) {
    case "tx":
      pending.push(...frame.changes);
      if (frame.last === false) return; // more of this transaction follows
      if (pending.some((change) => change.op)) kept.unshift({ frame, changes: pending.filter((change) => change.op) });
      kept.length = Math.min(kept.length, KEPT);
      [pending, cursor] = [[], frame.cursor];
      return due();
    case "live": state("live", "live"); cursor = frame.cursor; return;
    case "heartbeat": cursor = frame.cursor; return;
    case "error": return state(`${frame.code}: ${frame.message}`, "bad");
  }
}

export function state(words, kind) {
  byId("state").textContent = words;
  byId("state").className = `state ${kind}`;
}

/** Draws once a frame however many changes arrive. */
function due() {
  if (isPaused || isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw();
  });
}

function draw() {
  const wanted = byId("change-search").value.trim().toLowerCase();
  const op = byId("change-op").value;
  const fits = (change) => (!op || change.op === op) && (!wanted || JSON.stringify(change).toLowerCase().includes(wanted));
  const found = kept.map(({ frame, changes }) => ({ frame, changes: changes.filter(fits) })).filter(({ changes }) => changes.length > 0);
  byId("hint").hidden = kept.length > 0;
  byId("changes").replaceChildren(...found.slice(0, SHOWN).map(transaction));
}

function transaction({ frame, changes }) {
  const item = document.createElement("li");
  const author = frame.client_id ? ` by ${frame.client_id}` : "";
  item.append(element("p", `${frame.lsn}  ${new Date(frame.ts).toLocaleTimeString()}${author}`));
  for (const change of changes.slice(0, CHANGES_OF_ONE)) item.append(line(change));
  if (changes.length > CHANGES_OF_ONE) item.append(element("div", `… and ${changes.length - CHANGES_OF_ONE} more`));
  return item;
}

/** A change, with the columns that have another value than before. */
function line({ op, table, key, data, old, unchanged = [] }) {
  const made = element("div");
  made.append(element("span", op, `op ${op}`), ` ${table ?? ""} ${key ? JSON.stringify(key) : ""}`);
  const names = [...new Set([...Object.keys(old ?? {}), ...Object.keys(data ?? {})])];
  const differs = (name) => JSON.stringify(old?.[name]) !== JSON.stringify(data?.[name]);
  for (const name of op === "update" && old ? names.filter((name) => data && name in data && !unchanged.includes(name) && differs(name)) : names) {
    const before = op !== "insert" && old && name in old;
    const after = op !== "delete" && data && name in data;
    if (!before && !after) continue;
    const value = element("span", `${name} `, "value");
    if (before && (op === "delete" || differs(name))) value.append(element("del", text(old[name]) || "null"), " ");
    if (after) value.append(element("ins", text(data[name]) || "null"));
    made.append(" ", value);
  }
  return made;
}

byId("change-search").oninput = draw;
byId("change-op").onchange = draw;
byId("change-pause").onclick = () => {
  isPaused = !isPaused;
  byId("change-pause").textContent = isPaused ? "Go on" : "Pause";
  byId("change-pause").setAttribute("aria-pressed", isPaused);
  draw();
};
