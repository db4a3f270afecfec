// Keeps a copy equal to the source: a snapshot first, then each change, and after a lost connection only what was missed.
// No dependencies: copy this file and copy.js and make them yours. The contract is docs/protocol.md.

const FINAL = [1000, 4400, 4403, 4406, 4409, 4413]; // close codes after which coming back would not help
const WAIT_MS = 500;
const WAIT_MS_MAX = 30_000;

/**
 * Follows `subscriptions` (as in `hello`) at `url` into `copy`; `changed(state, mode)` is called after each step. Where the service
 * wants a token, `ask(code)` is called for one: `code` says why the one before is not taken. It is kept in memory alone.
 */
export function follow(url, subscriptions, copy, changed, ask = null) {
  let token;
  let pending = null; // what is applied as one and has not ended: the frames of a snapshot, or the parts of a transaction
  let drop = []; // what goes when the snapshot has come; until then the rows are still those of the cursor
  let [state, mode] = ["connecting", null];
  let waitMs = WAIT_MS;
  let heartbeatMs = 15_000;

  function tell(now = state) {
    state = now;
    changed(state, mode);
  }

  function connect() {
    const socket = new WebSocket(url, "waldelta.v1.json");
    let work = Promise.resolve();
    let silence = null;
    socket.onopen = () => socket.send(JSON.stringify({
      type: "hello", client_id: copy.clientId, after: copy.resumable() ? copy.cursor : null, subscriptions, own_changes: "include",
      access: copy.access, token, // what is undefined is left out
    }));
    socket.onmessage = ({ data }) => {
      clearTimeout(silence);
      silence = setTimeout(() => socket.close(), 3 * heartbeatMs); // nobody is there any more
      work = work.then(() => receive(JSON.parse(data))); // one after the other: storing takes time
      work.catch(() => socket.close());
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(silence);
      work.then(() => closed(code, reason), (error) => tell(`stopped: ${error}`));
    };
  }

  function closed(code, reason) {
    if (code === 4401 && ask) return unlock(/"code":"([^"]+)"/.exec(reason)?.[1]);
    if (code === 4401 || FINAL.includes(code)) return tell(`stopped: ${code} ${reason}`);
    if (code === 4410) copy.forget(); // its cursor cannot be resumed
    const told = /"retry_ms":(\d+)/.exec(reason); // the service spreads its clients; who hears nothing spreads itself
    setTimeout(connect, told ? Number(told[1]) : waitMs * (0.5 + Math.random()));
    waitMs = Math.min(2 * waitMs, WAIT_MS_MAX);
    tell("reconnecting");
  }

  async function unlock(why) {
    tell("waiting for a token");
    token = await ask(why);
    waitMs = WAIT_MS;
    connect();
  }

  async function receive(frame) {
    const all = { op: "drop all" };
    switch (frame.type) {
      case "welcome":
        [pending, mode, heartbeatMs, copy.granted] = [null, frame.mode, frame.heartbeat_ms, frame.access];
        drop = mode === "snapshot" ? [all] : [];
        return tell(mode === "snapshot" ? "reading a snapshot" : "catching up");
      case "reset":
        pending = null;
        drop.push(...(frame.tables?.map((table) => ({ op: "truncate", table })) ?? [all]));
        if (frame.reason === "permission_changed") await copy.tear(); // what it may have is known with the snapshot
        return tell("reading a snapshot");
      case "access": copy.granted = frame.access; return; // it goes with the next cursor
      case "snapshot_begin": pending = frame.tables.map(({ table }) => ({ op: "truncate", table })); return;
      case "rows": pending.push(frame); return;
      case "schema": return pending ? void pending.push(frame) : await copy.store([frame], copy.cursor);
      case "snapshot_end":
        copy.torn = false;
        await copy.store([...drop, ...pending], frame.cursor, frame.consistent_at);
        [pending, drop, state] = [null, [], "catching up"];
        break;
      case "tx":
        if (frame.prev > copy.cursor) throw new Error(`a gap before ${frame.cursor}`); // a defect of the service, or ours
        pending = [...(pending ?? []), ...frame.changes];
        if (!frame.last) return; // more of this transaction follows
        await copy.store(pending, frame.cursor);
        pending = null;
        break;
      case "live":
        [state, waitMs] = ["live", WAIT_MS];
        await copy.store([], frame.cursor);
        break;
      case "heartbeat":
        await copy.store([], frame.cursor);
        break;
      case "error": return tell(`${frame.code}: ${frame.message}`);
      default: return; // a later version may send more
    }
    tell();
  }

  connect();
}
