// A small client of /v1/stream: it takes a snapshot, follows the changes, and resumes by cursor after a lost
// connection. Rows and cursor are kept in memory, and so only as long as the page is open; and so is the token of whoever looks,
// where the service wants one.

const CHANGES_SHOWN = 50;
const ROWS_SHOWN = 50;
const CLIENTS_SHOWN = 50;
const RECONNECT_MS = 1000;

const byId = (id) => document.getElementById(id);
const clientId = `page-${crypto.randomUUID()}`;

/** Tables by name: `columns` in order, `rows` by the JSON text of their key (or by a number of their own, without key). */
const tables = new Map();
let cursor = null;
let pending = []; // parts of a transaction that has not ended
let staged = null; // tables of a snapshot that has not ended
let rowsNumbered = 0; // of tables without key
let movedRow = null; // the row that the first half of a key change deleted
let redraw = false;
let following = false; // whether there is, or was, a connection
let token; // in no URL and in no storage
let wantsToken = false; // nothing is asked before there is one

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/v1/stream`, "waldelta.v1.json");
  socket.onopen = () => socket.send(JSON.stringify({
    type: "hello", client_id: clientId, after: cursor, own_changes: "include",
    subscriptions: [{ id: "all", table: "*" }], token, // undefined is left out
  }));
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code, reason }) => {
    pending = [];
    staged = null;
    if (code === 4401) return lock(/"code":"([^"]+)"/.exec(reason)?.[1]);
    if (code === 4409 || code === 4400 || code === 4406) return state(`closed: ${code} ${reason}`, "bad");
    state("connection lost, resuming…", "");
    setTimeout(connect, RECONNECT_MS);
  };
}

function receive(frame) {
  switch (frame.type) {
    case "welcome": return state(frame.mode === "resume" ? "catching up…" : "reading a snapshot…", "");
    case "schema":
      if (pending.length > 0) pending.push(frame); // inside a transaction: the changes before it have the shape before
      else reshape(staged ?? tables, frame);
      return;
    case "snapshot_begin": staged = new Map(); return;
    case "rows": return frame.rows.forEach((row) => put(staged, frame.table, keyOf(staged, frame.table, row), row));
    case "snapshot_end":
      for (const [name, table] of staged) tables.set(name, table);
      staged = null;
      return moved(frame.cursor);
    case "tx": {
      pending.push(...frame.changes);
      if (frame.last === false) return; // more of this transaction follows: apply it as one
      pending.forEach((part) => (part.type === "schema" ? reshape(tables, part) : apply(part)));
      const changes = pending.filter((part) => part.type !== "schema");
      if (changes.length > 0) showTransaction(frame, changes);
      pending = [];
      return moved(frame.cursor);
    }
    case "live": state("live", "live"); return moved(frame.cursor);
    case "heartbeat": return moved(frame.cursor);
    case "reset":
      for (const name of frame.tables ?? [...tables.keys()]) tables.delete(name);
      cursor = null;
      return draw();
    case "error": return state(`${frame.code}: ${frame.message}`, "bad");
  }
}

/** Gives a table the shape of a `schema` frame. A column is the same where its number is, whatever its name. */
function reshape(among, schema) {
  const before = among.get(schema.table);
  const was = schema.columns.map(({ name, number }) => before?.shape.find((column) => (
    number && column.number ? number === column.number : name === column.name
  ))?.name);
  const table = {
    shape: schema.columns,
    columns: schema.columns.map((column) => column.name),
    key: schema.columns.filter((column) => column.key).map((column) => column.name),
    rows: new Map(),
  };
  among.set(schema.table, table);
  for (const [place, row] of before?.rows ?? []) {
    const values = was.map((name, index) => [table.columns[index], name === undefined ? null : row[name]]);
    const reshaped = Object.fromEntries(values.filter(([, value]) => value !== undefined));
    table.rows.set(table.key.length > 0 ? keyOf(among, schema.table, reshaped) : place, reshaped);
  }
}

function keyOf(among, name, row) {
  const table = among.get(name);
  return table.key.length > 0 ? JSON.stringify(table.key.map((column) => row[column])) : numbered();
}

const numbered = () => `row ${(rowsNumbered += 1)}`;

/** The key under which a table without key keeps a row that is equal to this one. */
function placeOf(table, row) {
  const wanted = canonical(row);
  for (const [key, other] of table.rows) if (canonical(other) === wanted) return key;
}

/** JSON text that is the same for equal values, whatever the order of their members. */
const canonical = (value) => JSON.stringify(value, (_, part) => (
  part && typeof part === "object" && !Array.isArray(part)
    ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
    : part
));

function put(among, name, key, row) {
  const table = among.get(name);
  table.rows.delete(key); // the newest last
  table.rows.set(key, row);
}

function apply(change) {
  const table = tables.get(change.table);
  if (!table) return;
  if (change.op === "truncate") return table.rows.clear();
  const { op, data, old } = change;
  // A row without key is named by what it was.
  const key = change.key ? JSON.stringify(table.key.map((column) => change.key[column]))
    : op === "insert" ? numbered() : placeOf(table, old) ?? numbered();
  const before = change.moved_from ? movedRow : op === "update" ? table.rows.get(key) ?? old : null;
  movedRow = op === "delete" ? table.rows.get(key) : null;
  if (op === "delete") return table.rows.delete(key);
  if (!data) return;
  const kept = (change.unchanged ?? []).filter((column) => before && column in before);
  put(tables, change.table, key, { ...Object.fromEntries(kept.map((column) => [column, before[column]])), ...data });
}

function moved(to) {
  cursor = to;
  byId("cursor").textContent = `cursor ${to}`;
  draw();
}

function state(text, kind) {
  byId("state").textContent = text;
  byId("state").className = `state ${kind}`;
}

function showTransaction(frame, changes) {
  byId("hint").hidden = true;
  const item = document.createElement("li");
  const author = frame.client_id ? ` by ${frame.client_id}` : "";
  item.append(element("p", `${frame.lsn}  ${new Date(frame.ts).toLocaleTimeString()}${author}`));
  for (const change of changes.slice(0, 20)) {
    const line = element("div", "");
    const operation = element("span", change.op);
    operation.className = `op ${change.op}`;
    line.append(operation, ` ${change.table ?? ""} ${JSON.stringify(change.data ?? change.key ?? {})}`);
    item.append(line);
  }
  if (changes.length > 20) item.append(element("div", `… and ${changes.length - 20} more`));
  const list = byId("changes");
  list.prepend(item);
  while (list.children.length > CHANGES_SHOWN) list.lastChild.remove();
}

/** Draws once a frame however many changes arrive. */
function draw() {
  if (redraw) return;
  redraw = true;
  requestAnimationFrame(() => {
    redraw = false;
    byId("tables").replaceChildren(...[...tables].map(([name, table]) => drawTable(name, table)));
  });
}

function drawTable(name, table) {
  const rows = [...table.rows.values()];
  const box = element("div", "");
  box.className = "table";
  const view = document.createElement("table");
  const more = rows.length > ROWS_SHOWN ? `, the last ${ROWS_SHOWN} changed` : "";
  view.append(element("caption", `${name} (${rows.length} rows${more})`));
  const head = view.createTHead().insertRow();
  for (const column of table.columns) head.append(element("th", column));
  const body = view.createTBody();
  for (const row of rows.slice(-ROWS_SHOWN).reverse()) {
    const line = body.insertRow();
    for (const column of table.columns) line.append(element("td", text(row[column])));
  }
  box.append(view);
  return box;
}

const text = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

function element(name, content) {
  const made = document.createElement(name);
  made.textContent = content;
  return made;
}

/** Asks whoever looks for a token; `why` the one before is not taken. */
function lock(why) {
  [wantsToken, following] = [true, false];
  state("waiting for a token", "");
  byId("why").textContent = why === "WD-TOKEN-MISSING" ? "This service wants a token." : `The service does not take this token: ${why}.`;
  byId("entry").hidden = false;
  byId("token").focus();
}

byId("entry").onsubmit = (event) => {
  event.preventDefault();
  const given = byId("token").value.trim();
  if (given === "") return;
  [token, wantsToken] = [given, false];
  byId("token").value = "";
  byId("entry").hidden = true;
  state("connecting…", "");
  showStatus();
};

const get = (path) => fetch(path, token ? { headers: { Authorization: `Bearer ${token}` } } : {});

async function showStatus() {
  if (wantsToken) return;
  try {
    const answer = await get("/v1/status");
    if (answer.status === 401) return lock((await answer.json()).code);
    if (answer.status === 403) {
      byId("lag").textContent = "how the service is, operators are told";
      return follow("all");
    }
    const { role, capture, writer, slot, sessions, needs_repair: repairs, joining } = await answer.json();
    follow(role);
    const [named, served] = [role !== "all" && `role ${role}`, role !== "capture" && `${sessions.length} sessions`];
    byId("role").textContent = [named, served].filter(Boolean).join(", ");
    note("capture", capture ? captureText(capture) : writerText(writer), capture?.state === "stopped" || writer?.code ? "bad" : "");
    note("repairs", repairs.map(({ table, reason }) => `${table} needs repair: ${reason}`).join("; "), "bad");
    note("joining", joining.map(({ table }) => `${table} is being added`).join("; "), "");
    byId("lag").textContent = capture ? lagText(capture) : writer?.unmoved_seconds == null ? "" : `durable ${writer.unmoved_seconds.toFixed(0)} s ago`;
    byId("slot").textContent = slot ? slotText(slot) : "";
    byId("slot").className = slot?.verdict ?? "";
    if (role !== "capture") await showClients(sessions);
  } catch {
    byId("lag").textContent = "lag unknown";
  }
}

/** Those connected to this process, then those that were here last, on any process. */
async function showClients(sessions) {
  const { clients = [] } = await (await get(`/v1/clients?limit=${CLIENTS_SHOWN}`)).json();
  const here = new Set(sessions.map((session) => session.client_id));
  const lines = [
    ...sessions.slice(0, CLIENTS_SHOWN).map((one) => [one.client_id, one.state, one.cursor, one.acked]),
    ...clients.filter((one) => !here.has(one.client_id))
      .map((one) => [one.client_id, `seen ${new Date(one.seen_at).toLocaleString()}`, "", one.acked]),
  ];
  const view = document.createElement("table");
  const head = view.createTHead().insertRow();
  for (const name of ["client", "state", "at", "acknowledged"]) head.append(element("th", name));
  const body = view.createTBody();
  for (const values of lines) {
    const line = body.insertRow();
    for (const value of values) line.append(element("td", text(value)));
  }
  byId("clients").replaceChildren(view);
}

/** Connects once it is known that clients are served here. */
function follow(role) {
  if (following) return;
  if (role === "capture") return state("this process captures and serves no clients", "");
  following = true;
  connect();
}

function lagText({ state, lag_bytes: lag, lag_seconds: seconds }) {
  return `capture ${state}, lag ${lag} bytes${seconds === null ? "" : `, ${seconds.toFixed(2)} s`}`;
}

/** Of a process that serves clients and does not capture: nothing while another one writes. */
function writerText({ state, code, message, fix }) {
  return state === "writing" ? "" : `${code ? `${code}: ` : ""}${message}${fix ? `. ${fix}` : ""}`;
}

/** What is to be known beside the numbers: nothing while capture streams. */
function captureText({ state, name, holder, message, fix }) {
  if (holder) return `standby: history is written by ${holder}`;
  return message ? `capture ${state} (${name}): ${message}. ${fix}` : "";
}

function slotText({ retained_bytes: retained, safe_wal_bytes: safe, seconds_until_lost: left, verdict, fix }) {
  const room = safe === null ? "no limit" : `${bytes(safe)} left`;
  const hours = left === null || verdict === "ok" ? "" : left < 5400 ? `${Math.ceil(left / 60)} min` : `${Math.round(left / 3600)} h`;
  const time = hours && `, lost in ${hours} if nobody reads it`;
  return `slot ${verdict}: keeps ${bytes(retained)}, ${room}${time}${fix ? ` – ${fix}` : ""}`;
}

const bytes = (count) => (count < 1e6 ? `${Math.ceil(count / 1e3)} kB` : count < 1e9 ? `${Math.round(count / 1e6)} MB` : `${(count / 1e9).toFixed(1)} GB`);

function note(id, content, kind) {
  byId(id).hidden = content === "";
  byId(id).textContent = content;
  byId(id).className = `state ${kind}`;
}

showStatus();
setInterval(showStatus, 5000);
