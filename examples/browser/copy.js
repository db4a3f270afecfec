// Rows in the browser's own storage (IndexedDB), with the cursor up to which they go. Both move in one transaction: whenever the
// page is closed, it comes back with both or with neither. Rows are found by their primary key; tables without one are not for
// this copy. Browsers have what it uses in pages that come by https, or from this machine.

const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
const rowsOf = (table) => IDBKeyRange.bound([table], [table, []]); // they are stored under [table, key]

/** Opens the copy of this name as soon as no other page has it: two that follow into one would mix their cursors. */
export async function openCopy(name) {
  await new Promise((opened) => {
    navigator.locks.request(`copy ${name}`, () => new Promise(() => opened())); // held as long as the page is there
  });
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = () => ["rows", "kept"].forEach((store) => opening.result.createObjectStore(store));
  const storage = await done(opening);
  const fresh = { clientId: crypto.randomUUID(), cursor: "", consistentAt: "", schemas: {} };
  return new Copy(storage, (await done(storage.transaction("kept").objectStore("kept").get("kept"))) ?? fresh);
}

class Copy {
  constructor(storage, kept) {
    Object.assign(this, { storage, ...kept });
  }

  /** Below `consistent_at` the rows of a snapshot may be ahead of the cursor: then only a new snapshot is right for each table. */
  resumable() {
    return this.cursor !== "" && !this.torn && this.cursor >= this.consistentAt; // the order of cursors is that of their text
  }

  /** Until a snapshot has come the rows are not what may be had now: no cursor goes on from them. */
  async tear() {
    this.torn = true;
    await this.store([], this.cursor);
  }

  forget() {
    this.cursor = "";
  }

  rows(table) {
    return done(this.storage.transaction("rows").objectStore("rows").getAll(rowsOf(table)));
  }

  /** Applies these in order and moves the cursor, as one. */
  async store(items, cursor, consistentAt = "") {
    const transaction = this.storage.transaction(["rows", "kept"], "readwrite");
    let failure = null;
    const end = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(failure ?? transaction.error);
    });
    const latest = consistentAt > this.consistentAt ? consistentAt : this.consistentAt;
    const { clientId, torn, granted: access = this.access } = this;
    const kept = { clientId, cursor, consistentAt: latest, torn, access, schemas: { ...this.schemas } };
    try {
      for (const item of items) await this.apply(item, transaction.objectStore("rows"), kept.schemas);
      transaction.objectStore("kept").put(kept, "kept");
    } catch (error) {
      failure = error;
      transaction.abort();
    }
    await end;
    Object.assign(this, kept);
  }

  /** Applies a change, rows of a snapshot, or a new shape. */
  async apply(item, rows, schemas) {
    const { table } = item;
    const place = (row) => [table, JSON.stringify(schemas[table].columns.filter(({ key }) => key).map(({ name }) => row[name]))];
    switch (item.op ?? item.type) {
      case "insert":
      case "update": {
        // What the source did not send is as it was.
        const before = item.unchanged && (item.moved_from ? this.moved : await done(rows.get(place(item.key))));
        return rows.put({ ...before, ...item.data }, place(item.key));
      }
      case "delete":
        this.moved = await done(rows.get(place(item.key))); // the insert of a key change comes next
        return rows.delete(place(item.key));
      case "truncate": return rows.delete(rowsOf(table));
      case "drop all": return rows.clear();
      case "rows": return item.rows.forEach((row) => rows.put(row, place(row)));
      case "schema": {
        // A column is the same where its number is, whatever its name.
        const same = (a, b) => (a.number && b.number ? a.number === b.number : a.name === b.name);
        const before = schemas[table]?.columns ?? [];
        schemas[table] = item;
        if (JSON.stringify(before) === JSON.stringify(item.columns)) return;
        const names = item.columns.map((column) => [column.name, before.find((other) => same(column, other))?.name]);
        const old = await done(rows.getAll(rowsOf(table)));
        rows.delete(rowsOf(table));
        for (const row of old) {
          const reshaped = Object.fromEntries(names.map(([name, was]) => [name, was === undefined ? null : row[was]]));
          rows.put(reshaped, place(reshaped));
        }
      }
    }
  }
}
