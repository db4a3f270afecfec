// The verdict, the way from the source to the clients, the slot, tables and checks: all of one reading of the status.

import { byId, bytes, element, fill, seconds } from "./dom.js";

const STAGES = [
  ["source", "source_lsn", null, "Where the source's WAL ends."],
  ["received", "received_lsn", "receive_lag_bytes", "The furthest place of which something has arrived."],
  ["decoded", "decoded_lsn", "decode_lag_bytes", "Whole transactions, taken apart."],
  ["durable", "durable_lsn", "store_lag_bytes", "Committed in history."],
  ["reported", "reported_lsn", "report_lag_bytes", "What the slot was told: WAL before it may go."],
];

export function showOverview(status) {
  const { capture, slot, sessions, role, version } = status;
  showVerdict(status.checks ?? []);
  byId("version").textContent = `version ${version}`;
  byId("role").textContent = role === "all" ? "" : `role ${role}`;
  byId("served").textContent = role === "capture" ? "serves no clients" : `${sessions.length} session${sessions.length === 1 ? "" : "s"}`;
  byId("lag").textContent = capture ? lagText(capture) : writerText(status.writer);
  showPipeline(capture, sessions);
  byId("slot").textContent = slot ? slotText(slot) : "The source does not tell of a slot.";
  byId("slot").className = `quiet ${slot?.verdict ?? ""}`;
  showTables(status);
  fill(byId("checks"), [
    { name: "of", of: (check) => check.of },
    { name: "found", of: (check) => element("span", check.name, check.severity) },
    { name: "what mends it", of: (check) => check.fix ?? check.message },
  ], status.checks ?? []);
}

/** The worst that there is, with what mends it. */
function showVerdict(checks) {
  const [worst] = checks;
  const isWell = !worst || worst.severity === "ok" || worst.severity === "info";
  byId("severity").textContent = isWell ? "all is well" : worst.severity;
  byId("severity").className = isWell ? "ok" : worst.severity;
  const others = checks.filter((check) => check.severity === "critical" || check.severity === "warning").length - 1;
  const more = others > 0 ? ` (and ${others} more)` : "";
  byId("finding").textContent = isWell ? `${checks.length} checks` : `${worst.of}: ${worst.code ? `${worst.code}: ` : ""}${worst.message ?? worst.name}${more}`;
  byId("fix").hidden = isWell || !worst.fix;
  byId("fix").textContent = worst?.fix ?? "";
  document.title = isWell ? "Waldelta" : `${worst.severity}: Waldelta`;
}

function lagText({ state, name, holder, lag_bytes: lag, lag_seconds: age }) {
  if (holder) return `standby: history is written by ${holder}`;
  return `capture ${state}${name === state ? "" : ` (${name})`}, lag ${bytes(lag)}${age === null ? "" : `, ${seconds(age)}`}`;
}

const writerText = (writer) => (writer ? `history is written by ${writer.holder ?? "nobody"}, ${seconds(writer.unmoved_seconds)} since it moved` : "");

function showPipeline(capture, sessions) {
  const items = [];
  const item = (name, below, behind, about) => {
    const made = element("li", "", behind ? "behind" : "");
    made.title = about;
    made.append(element("b", name), element("span", below), element("small", behind ? `${bytes(behind)} behind` : ""));
    items.push(made);
  };
  for (const [name, lsn, behind, about] of capture ? STAGES : []) item(name, capture[lsn], capture[behind], about);
  const states = sessions.reduce((states, { state }) => ({ ...states, [state]: (states[state] ?? 0) + 1 }), {});
  const below = Object.entries(states).map(([state, count]) => `${count} ${state}`).join(", ");
  item("clients", below || "none", 0, "Sessions of this process, by state.");
  // Cursors are compared as text.
  const slowest = sessions.filter(({ state }) => state === "live" || state === "catching_up").map(({ cursor }) => cursor).sort()[0];
  if (slowest) item("slowest client", slowest, 0, "The cursor of the client that has the least.");
  byId("pipeline").replaceChildren(...items);
}

function slotText({ name, active, retained_bytes: kept, safe_wal_bytes: room, wal_bytes_per_second: rate, seconds_until_lost: left, verdict }) {
  const limit = room === null ? "no limit on what it may keep" : `room for ${bytes(room)} more`;
  const until = left === null || verdict === "ok" ? "" : `, lost in ${seconds(left)} if nobody reads it`;
  return `${name}: ${verdict}, ${active ? "read" : "read by nobody"}; keeps ${bytes(kept)}, ${limit}${until}; the source writes ${bytes(rate)}/s`;
}

function showTables({ tables = [], needs_repair: repairs, joining }) {
  const known = new Map(tables.map((table) => [table.table, table]));
  const unwhole = new Map([...repairs.map((table) => [table.table, ["needs repair", table.explanation]]), ...joining.map((table) => [table.table, ["being added", table.explanation]])]);
  for (const name of unwhole.keys()) if (!known.has(name)) known.set(name, { table: name, changes: 0, changes_per_second: 0 });
  const state = ({ table, warning }) => {
    const [name, why] = unwhole.get(table) ?? (warning ? ["warning", warning] : ["ok", ""]);
    const made = element("span", name, name === "ok" ? "ok" : "warning");
    made.title = why;
    return made;
  };
  fill(byId("tables"), [
    { name: "table", of: (table) => table.table },
    { name: "changes", right: true, of: (table) => table.changes },
    { name: "a second", right: true, of: (table) => table.changes_per_second.toFixed(1) },
    { name: "last", right: true, of: (table) => (table.changed_seconds === undefined ? "" : `${seconds(table.changed_seconds)} ago`) },
    { name: "", of: state },
  ], [...known.values()]);
}
