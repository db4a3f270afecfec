// Shows a table as the copy has it, and how the connection is.

import { openCopy } from "./copy.js";
import { follow } from "./waldelta.js";

const ROWS_SHOWN = 200;

const parameters = new URLSearchParams(location.search);
const table = parameters.get("table") ?? "public.demo_todos";
const own = location.origin.replace(/^http/, "ws");
const service = parameters.get("service") ?? own;

const byId = (id) => document.getElementById(id);

function cell(kind, value) {
  const made = document.createElement(kind);
  made.textContent = typeof value === "object" && value !== null ? JSON.stringify(value) : (value ?? "");
  return made;
}

function line(cells) {
  const made = document.createElement("tr");
  made.append(...cells);
  return made;
}

async function draw(copy) {
  const columns = copy.schemas[table]?.columns.map(({ name }) => name) ?? [];
  const [rows, cursor] = [await copy.rows(table), copy.cursor];
  const order = new Intl.Collator(undefined, { numeric: true }).compare;
  rows.sort((a, b) => order(a[columns[0]], b[columns[0]]));
  byId("columns").replaceChildren(...columns.map((name) => cell("th", name)));
  byId("rows").replaceChildren(...rows.slice(0, ROWS_SHOWN).map((row) => line(columns.map((name) => cell("td", row[name])))));
  byId("cursor").textContent = cursor || "–";
}

/** A token from whoever looks. It is in no URL and in no storage: a page that is loaded again asks again. */
function ask(why) {
  byId("why").textContent = why === "WD-TOKEN-MISSING" ? "This service wants a token." : `The service does not take this token: ${why}.`;
  byId("entry").hidden = false;
  byId("token").focus();
  return new Promise((given) => {
    byId("entry").onsubmit = (event) => {
      event.preventDefault();
      const token = byId("token").value.trim();
      if (token === "") return;
      byId("token").value = "";
      byId("entry").hidden = true;
      given(token);
    };
  });
}

byId("name").textContent = table;
byId("state").textContent = "waiting until no other page has this copy";
// Numbers above 2^53 would lose digits in JSON.parse: they come as strings.
const subscriptions = [{ id: "shown", table, big_numbers: "string" }];
// With other subscriptions the cursor could not be resumed: they are another copy.
const copy = await openCopy(`${service} ${JSON.stringify(subscriptions)}`);
await draw(copy); // what is there from last time, before the service is reached
let drawing = Promise.resolve();
follow(`${service}/v1/stream`, subscriptions, copy, (state, mode) => {
  byId("state").textContent = state;
  byId("state").className = state === "live" ? "live" : "";
  byId("began").textContent = { resume: "went on from its cursor", snapshot: "began with a snapshot" }[mode] ?? "";
  drawing = drawing.then(() => draw(copy));
}, service === own ? ask : null); // a link to this page must not lead a token elsewhere
