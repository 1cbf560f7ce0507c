// Events in one line, and what leads on from them.
import { el, link } from "./dom.js";

const FIRST = ["reply", "reason", "cause", "sender", "recipient", "recipients", "peer", "listener", "remote", "route", "plugin", "hook", "check", "finding", "verb"];
const SILENT = new Set(["time", "type", "level", "seq", "message", "session"]);

const text = (value) => (Array.isArray(value) ? value.join(", ") : typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));

export function line(event, without = {}) {
  const names = Object.keys(event).filter((name) => !SILENT.has(name) && event[name] !== null && event[name] !== "");
  names.sort((one, other) => (FIRST.includes(one) ? FIRST.indexOf(one) : 99) - (FIRST.includes(other) ? FIRST.indexOf(other) : 99));
  return el("span", { class: "line" },
    event.message && !without.message ? [link(event.message), " "] : null,
    names.map((name) => [el("span", { class: "field" }, name), " ", text(event[name]).slice(0, 400), "  "]));
}
