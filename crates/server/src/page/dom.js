// What all parts of the page use to show something.

export const byId = (id) => document.getElementById(id);

export function element(name, content = "", className = "") {
  const made = document.createElement(name);
  made.textContent = content;
  if (className) made.className = className;
  return made;
}

/** A value as people write it; of nothing, nothing. */
export const text = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = count < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  return `${unit === 0 ? count : (count / 1000 ** unit).toFixed(1)} ${units[unit]}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${value.toFixed(1)} s`;
  if (value < 5400) return `${Math.ceil(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} d`;
}

/** A table of these columns (`name`, `of` a row, `right` aligned), in the place of what was there. */
export function fill(place, columns, rows, { sorted, onSort, each } = {}) {
  const view = document.createElement("table");
  const head = view.createTHead().insertRow();
  for (const column of columns) {
    const cell = element("th", "", column.right ? "right" : "");
    if (onSort && column.key) {
      const button = element("button", column.name + (sorted?.key === column.key ? (sorted.down ? " ↓" : " ↑") : ""), "plain");
      button.type = "button";
      button.onclick = () => onSort(column.key);
      cell.append(button);
    } else cell.textContent = column.name;
    head.append(cell);
  }
  const body = view.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const column of columns) {
      const cell = element("td", "", column.right ? "right" : "");
      const shown = column.of(row);
      if (shown instanceof Node) cell.append(shown);
      else {
        cell.textContent = text(shown);
        cell.title = cell.textContent;
      }
      line.append(cell);
    }
    each?.(row, line);
  }
  place.replaceChildren(view);
}
