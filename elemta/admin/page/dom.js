// Nodes and words. Text from strangers goes into text nodes and attributes only, never into markup.

export function el(name, properties, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled" || key === "open") node[key] = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return node;
}

export const svg = (name, properties) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(properties)) node.setAttribute(key, String(value));
  return node;
};

// Replace what is inside, but leave the keyboard where it was: by the attribute data-key.
export function fill(parent, ...children) {
  const active = document.activeElement;
  const key = active && parent.contains(active) ? active.dataset.key : undefined;
  const opened = new Set([...parent.querySelectorAll("details[open][data-key]")].map((each) => each.dataset.key));
  parent.replaceChildren(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  for (const each of parent.querySelectorAll("details[data-key]")) if (opened.has(each.dataset.key)) each.open = true;
  if (key !== undefined) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

// columns: [title, class]; rows: lists of cells. On a narrow screen each row becomes a card with titles.
export function table(caption, columns, rows, none) {
  if (!rows.length) return el("p", { class: "none" }, none);
  return el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    el("table", {},
      el("caption", { class: "hidden" }, caption),
      el("thead", {}, el("tr", {}, columns.map(([title, kind]) => el("th", { scope: "col", class: kind }, title)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, place) =>
        el("td", { class: columns[place][1], "data-title": columns[place][0] || null }, cell)))))));
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.floor(Math.abs(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return age(seconds);
}

export function size(octets) {
  let value = octets;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return `${value >= 100 || unit === "B" ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? value.toFixed(0) : value >= 10 || value === 0 ? value.toFixed(value === 0 ? 0 : 1) : value.toFixed(2);
}

export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

const two = (value) => String(value).padStart(2, "0");

export function clock(seconds) {
  const at = new Date(seconds * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function when(seconds) {
  const at = new Date(seconds * 1000);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${clock(seconds)}`;
}

export const moment = (seconds) =>
  el("time", { datetime: new Date(seconds * 1000).toISOString(), title: new Date(seconds * 1000).toISOString() }, when(seconds));

export const link = (message) => el("a", { href: `#/message/${encodeURIComponent(message)}`, class: "id", "data-key": `m${message}` }, message);

// A form of filters: folded away on a narrow screen, unless it is in use.
export const folded = (form, used) =>
  el("details", { class: "folded", open: Boolean(used) || matchMedia("(min-width: 701px)").matches }, el("summary", {}, "Filter"), form);

let clearing = 0;

export function tell(text, bad) {
  const told = document.getElementById("told");
  told.className = bad ? "bad" : "";
  told.textContent = text;
  clearTimeout(clearing);
  clearing = setTimeout(() => { told.textContent = ""; }, bad ? 15000 : 6000);
}

// Ask a person for values, by name; resolves to what was entered, or to null where he thinks better of it.
// fields: [name, title, value, hint]
export function ask(title, lines, fields, action) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    const form = el("form", { method: "dialog", class: "asked" },
      el("h2", { id: "dialog-title" }, title),
      lines.map((line) => el("p", {}, line)),
      fields.map(([name, label, value, hint]) => el("label", {}, label,
        el("input", { name, value: value ?? "", placeholder: hint, maxlength: 200, autocomplete: "off", spellcheck: "false" }))),
      el("div", { class: "buttons" },
        el("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel"),
        el("button", { value: "yes", class: "main" }, action)));
    dialog.replaceChildren(form);
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? Object.fromEntries(new FormData(form)) : null);
    dialog.returnValue = "no";
    dialog.showModal();
    form.querySelector("input").focus();
  });
}

// Ask a person; resolves to true, or to false where he thinks better of it.
export function confirm(title, lines, action, dangerous) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    const form = el("form", { method: "dialog" },
      el("h2", { id: "dialog-title" }, title),
      lines.map((line) => el("p", {}, line)),
      el("div", { class: "buttons" },
        el("button", { value: "no" }, "Cancel"),
        el("button", { value: "yes", class: dangerous ? "dangerous" : "main" }, action)));
    dialog.replaceChildren(form);
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.returnValue = "no";
    dialog.showModal();
    form.querySelector("button").focus();
  });
}
