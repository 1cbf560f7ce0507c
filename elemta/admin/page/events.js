// What happens, as it happens: filtered by the server, held while paused.
import { clock, el, fill, folded } from "./dom.js";
import { get, openEvents, token } from "./api.js";
import { line } from "./words.js";

const KEPT = 500, WAITING = 5000;
const FILTERS = [["type", "Type", "recipient.*"], ["sender", "Sender", "*@example.org"], ["recipient", "Recipient", ""], ["domain", "Domain", ""], ["message", "Message", ""], ["session", "Session", ""], ["listener", "Listener", ""]];
const LEVELS = ["", "info", "warning", "error"];

export const events = {
  title: "Events",
  open(place, _, query) {
    let socket = null, closed = false, paused = false, seen = null, wait = 1, retry = 0, scheduled = false;
    let waiting = [], missed = 0;
    let unheard = 0; // subscriptions that the server has not confirmed: until then it sends what an earlier one asked for
    const state = el("span", { class: "state", role: "status" }, "connecting");
    const list = el("ol", { class: "events", tabindex: "0", "aria-label": "Events, the newest first" });
    const button = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? "Go on" : "Pause";
      if (!paused) show();
      tellState();
    } }, "Pause");
    const form = el("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); list.replaceChildren(); waiting = []; seen = null; subscribe(); } },
      FILTERS.map(([name, title, hint]) => el("label", {}, title, el("input", { name, value: query.get(name) || "", placeholder: hint, autocomplete: "off", spellcheck: "false", maxlength: 320 }))),
      el("label", {}, "Level", el("select", { name: "level" }, LEVELS.map((level) => el("option", { value: level, selected: level === (query.get("level") || "") }, level ? `${level} and above` : "any")))),
      el("button", { class: "main" }, "Filter"), button,
      el("button", { type: "button", onclick: () => { list.replaceChildren(); waiting = []; } }, "Clear"), state);
    place.append(el("h1", {}, "Events"), folded(form, [...query].length), list);

    function wanted() {
      const filter = {};
      for (const [name, value] of new FormData(form)) {
        const values = value.split(/[\s,]+/).filter((each) => each);
        if (values.length) filter[name] = values;
      }
      return filter;
    }

    function subscribe() {
      if (socket?.readyState !== WebSocket.OPEN) return;
      const place = seen === null ? { last: 100 } : { since: seen };
      unheard += 1;
      socket.send(JSON.stringify({ subscribe: { ...wanted(), ...place } }));
    }

    function tellState() {
      const more = paused && waiting.length ? `, ${waiting.length} waiting` : "";
      const lost = missed ? `, ${missed} missed` : "";
      const kind = socket?.readyState === WebSocket.OPEN ? (paused ? "paused" : "live") : "not connected";
      state.textContent = kind + more + lost;
      state.className = `state ${kind.split(" ")[0]}`;
    }

    function show() {
      scheduled = false;
      if (paused || closed) return;
      const fresh = waiting.slice(-KEPT).reverse().map((event) => el("li", { class: event.level || "info" },
        el("time", { datetime: event.time }, clock(Date.parse(event.time) / 1000)), " ",
        el("span", { class: "type" }, event.type), " ", line(event)));
      waiting = [];
      list.prepend(...fresh);
      while (list.children.length > KEPT) list.lastChild.remove();
      tellState();
    }

    function take(event) {
      if (event.type === "subscribed") { unheard -= 1; return; }
      if (event.type === "error") { state.textContent = event.reason; state.className = "state bad"; return; }
      if (unheard) return;
      if (event.seq !== undefined) seen = Math.max(seen ?? 0, event.seq);
      if (event.type === "lagged") missed += event.lost;
      if (!event.type.includes(".")) { tellState(); return; }
      waiting.push(event);
      if (waiting.length > WAITING) { waiting.shift(); missed += 1; }
      if (paused) tellState();
      else if (!scheduled) { scheduled = true; setTimeout(show, 100); }
    }

    function connect() {
      socket = openEvents();
      socket.onopen = () => { wait = 1; unheard = 0; tellState(); subscribe(); };
      socket.onmessage = (message) => { try { take(JSON.parse(message.data)); } catch { /* no event of ours */ } };
      socket.onclose = (end) => {
        if (closed) return;
        if (end.code === 4400) return; // the filter cannot be: it was said why
        tellState();
        retry = setTimeout(async () => {
          if (token()) await get("/api/v1/status").catch(() => {}); // signs out where the token is no longer known
          if (!closed && token()) connect();
        }, wait * 1000);
        wait = Math.min(30, wait * 2);
      };
    }

    connect();
    return { close() { closed = true; clearTimeout(retry); socket.close(); fill(place); } };
  },
};
