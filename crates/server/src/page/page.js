// Asks the status every two seconds and the last hour every five, and has the parts show them. The token of whoever looks is kept in memory
// alone, as long as the page is open.

import { byId } from "./dom.js";
import { follow, state } from "./changes.js";
import { showOverview } from "./overview.js";
import { showPlots } from "./plots.js";
import { showSessions } from "./sessions.js";

const STATUS_MS = 2000;
const RECENT_MS = 5000;
let token; // in no URL and in no storage
let wantsToken = false; // nothing is asked before there is one
let following = false; // whether there is, or was, a connection
let isOpen = false; // the status is told to whoever is here, and only changes need a token

const ask = (path, options = {}) => fetch(path, { ...options, headers: token ? { Authorization: `Bearer ${token}` } : {} });

/** Asks whoever looks for a token; `why` the one before is not taken. */
function lock(why) {
  wantsToken = !isOpen;
  state("waiting for a token", "");
  const missing = isOpen ? "Changes are for who has a token." : "This service wants a token.";
  byId("why").textContent = why === "WD-TOKEN-MISSING" ? missing : `The service does not take this token: ${why}.`;
  byId("entry").hidden = false;
  if (!isOpen) byId("token").focus();
}

byId("entry").onsubmit = (event) => {
  event.preventDefault();
  const given = byId("token").value.trim();
  if (given === "") return;
  [token, wantsToken, following] = [given, false, false];
  byId("token").value = "";
  byId("entry").hidden = true;
  state("connecting…", "");
  showStatus();
  showRecent();
};

async function showStatus() {
  if (wantsToken) return;
  try {
    const answer = await ask("v1/status");
    if (answer.status === 401) return lock((await answer.json()).code);
    if (answer.status === 403) {
      byId("lag").textContent = "how the service is, operators are told";
      byId("finding").textContent = "changes alone";
      byId("severity").textContent = "";
      return begin("all");
    }
    const status = await answer.json();
    isOpen ||= token === undefined;
    begin(status.role);
    showOverview(status);
    showSessions(status.sessions, (session) => ask(`v1/sessions/${session}/disconnect`, { method: "POST" }));
  } catch {
    byId("severity").textContent = "no answer";
    byId("severity").className = "critical";
    byId("finding").textContent = "the service does not answer";
  }
}

async function showRecent() {
  if (wantsToken) return;
  const answer = await ask("v1/recent").catch(() => null);
  if (answer?.ok) showPlots(await answer.json());
}

/** Connects once it is known that clients are served here. */
function begin(role) {
  if (following) return;
  following = true;
  if (role === "capture") return state("this process captures and serves no clients", "");
  follow(token, lock);
}

showStatus();
showRecent();
setInterval(showStatus, STATUS_MS);
setInterval(showRecent, RECENT_MS);
