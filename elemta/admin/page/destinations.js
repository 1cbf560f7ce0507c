// Where mail goes, how each destination does, and what is paused.
import { age, ask, confirm, count, el, fill, moment, table, tell } from "./dom.js";
import { get, post } from "./api.js";

async function resume(pause, again) {
  try {
    await post("/api/v1/pauses", { action: "resume", kind: pause.kind, value: pause.value });
    tell(`Mail for ${pause.value} goes on.`);
    await again();
  } catch (trouble) {
    tell(trouble.message, true);
  }
}

async function pause(kind, value, again) {
  if (!(await confirm(`Pause ${kind} ${value}?`, ["Its mail is still accepted, and waits until you resume it."], "Pause"))) return;
  try {
    await post("/api/v1/pauses", { action: "pause", kind, value, reason: "paused from the dashboard" });
    tell(`Mail for ${value} waits.`);
    await again();
  } catch (trouble) {
    tell(trouble.message, true);
  }
}

const LIMITS = [
  ["concurrency", "Connections at once", "by the configuration"],
  ["connection_rate", "Connections in a time", "10/1m"],
  ["message_rate", "Messages in a time", "600/1h"],
  ["byte_rate", "Octets in a time", "100MiB/1h"],
];
const words = (limits) => Object.entries(limits).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ");
const hasLimits = (route) => route.startsWith("smtp:") || route.startsWith("lmtp:");

async function setLimits(route, limits, lines, again) {
  const clears = !Object.keys(limits).length;
  if (!(await confirm(clears ? `Clear the limits of ${route}?` : `Set limits for ${route}?`, lines, clears ? "Clear" : "Set"))) return;
  await post("/api/v1/destinations/limits", { name: route, limits, reason: "set from the dashboard" });
  tell(clears ? `${route} goes by the configuration again.` : `${route}: ${words(limits)}.`);
  await again();
}

async function limit(route, again) {
  try {
    const seen = await get("/api/v1/destinations/one", { name: route });
    const before = seen.limits_set?.limits || {};
    const now = Object.entries(seen.limits).map(([name, value]) => `${name}: ${value}`).join(", ");
    const said = await ask(`Limits of ${route}`, [now ? `In effect: ${now}.` : "Nothing is under way there.", "What is left empty goes by the configuration."],
      LIMITS.map(([name, title, hint]) => [name, title, before[name], hint]), "Go on");
    if (!said) return;
    const limits = { ...before };
    for (const [name] of LIMITS) {
      delete limits[name];
      const value = said[name].trim();
      if (value) limits[name] = /^\d+$/.test(value) && name === "concurrency" ? Number(value) : value;
    }
    const unchanged = words(limits) === words(before);
    if (unchanged) return tell("Nothing was changed.");
    await setLimits(route, limits, [`Before: ${words(before) || "by the configuration"}.`, `From now on: ${words(limits) || "by the configuration"}.`, "It holds at once, and after a restart."], again);
  } catch (trouble) {
    tell(trouble.message, true);
  }
}

async function clear(each, again) {
  try {
    await setLimits(each.route, {}, [`What is set: ${words(each.limits)}.`, "From now on the configuration says how it is treated."], again);
  } catch (trouble) {
    tell(trouble.message, true);
  }
}

export const destinations = {
  title: "Destinations",
  open(place) {
    const list = el("div", {});
    const form = el("form", { class: "filters", onsubmit: (event) => {
      event.preventDefault();
      const fields = new FormData(form);
      if (fields.get("value").trim()) pause(fields.get("kind"), fields.get("value").trim(), view.refresh);
    } },
    el("label", {}, "Pause a", el("select", { name: "kind" }, ["domain", "sender", "route"].map((each) => el("option", { value: each }, each)))),
    el("label", {}, "Which", el("input", { name: "value", required: true, maxlength: 320, autocomplete: "off", spellcheck: "false" })),
    el("button", {}, "Pause"));
    place.append(el("h1", {}, "Destinations"), list, form);
    const view = {
      seconds: 5,
      async refresh() {
        const [seen, { pauses }, { limits }] = await Promise.all([
          get("/api/v1/overview", { series: "no" }), get("/api/v1/pauses"), get("/api/v1/destinations/limits")]);
        fill(list,
          table("Destinations", [["destination", "address"], ["state", ""], ["ready", "number"], ["connections", "number"], ["delivered", "number"], ["deferred", "number"], ["failed", "number"], ["last error", "wide"], ["", ""]],
            seen.destinations.map((site) => [
              el("a", { href: `#/queue?route=${encodeURIComponent(site.route)}`, "data-key": `d${site.route}` }, site.route),
              site.suspended_for ? el("span", { class: "held" }, `left alone for ${age(site.suspended_for)}: ${site.suspended_because}`) : "open",
              count(site.ready), `${site.dispatchers} of ${site.window}`, count(site.delivered), count(site.deferred), count(site.failed), site.last_error,
              el("div", { class: "actions" },
                hasLimits(site.route) ? el("button", { type: "button", "data-key": `l${site.route}`, "aria-label": `Limits of ${site.route}`, onclick: () => limit(site.route, view.refresh) }, "Limits") : null,
                el("button", { type: "button", "data-key": `p${site.route}`, onclick: () => pause("route", site.route, view.refresh) }, "Pause"))]),
            "Nothing is on its way, and nothing was a moment ago."),
          seen.more_destinations ? el("p", {}, `and ${count(seen.more_destinations)} more`) : null,
          el("h2", {}, "Limits set by hand"),
          table("Limits set by hand", [["destination", "address"], ["limits", "wide"], ["since", ""], ["reason", "wide"], ["", ""]],
            limits.map((each) => [each.route, words(each.limits), moment(each.since), each.reason,
              el("div", { class: "actions" },
                el("button", { type: "button", "data-key": `s${each.route}`, "aria-label": `Change the limits of ${each.route}`, onclick: () => limit(each.route, view.refresh) }, "Change"),
                el("button", { type: "button", "data-key": `c${each.route}`, "aria-label": `Clear the limits of ${each.route}`, onclick: () => clear(each, view.refresh) }, "Clear"))]),
            "All destinations go by the configuration."),
          el("h2", {}, "Paused"),
          table("Paused", [["kind", ""], ["which", ""], ["since", ""], ["until", ""], ["reason", "wide"], ["", ""]],
            pauses.map((each) => [each.kind, each.value, moment(each.since), each.until ? moment(each.until) : "it is resumed", each.reason,
              el("button", { type: "button", "data-key": `r${each.kind}${each.value}`, onclick: () => resume(each, view.refresh) }, "Resume")]),
            "Nothing is paused."));
      },
    };
    return view;
  },
};
