// Where mail goes, how each destination does, and what is paused.
import { age, confirm, count, el, fill, moment, table, tell } from "./dom.js";
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
        const [seen, { pauses }] = await Promise.all([get("/api/v1/overview", { series: "no" }), get("/api/v1/pauses")]);
        fill(list,
          table("Destinations", [["destination", ""], ["state", ""], ["ready", "number"], ["connections", "number"], ["delivered", "number"], ["deferred", "number"], ["failed", "number"], ["last error", "wide"], ["", ""]],
            seen.destinations.map((site) => [
              el("a", { href: `#/queue?route=${encodeURIComponent(site.route)}`, "data-key": `d${site.route}` }, site.route),
              site.suspended_for ? el("span", { class: "held" }, `left alone for ${age(site.suspended_for)}: ${site.suspended_because}`) : "open",
              count(site.ready), `${site.dispatchers} of ${site.window}`, count(site.delivered), count(site.deferred), count(site.failed), site.last_error,
              el("button", { type: "button", "data-key": `p${site.route}`, onclick: () => pause("route", site.route, view.refresh) }, "Pause")]),
            "Nothing is on its way, and nothing was a moment ago."),
          seen.more_destinations ? el("p", {}, `and ${count(seen.more_destinations)} more`) : null,
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
