// How it goes: what needs a person, rates and their course, the queue at a glance.
import { age, count, el, fill, rate, size, span, table } from "./dom.js";
import { get } from "./api.js";
import { chart } from "./charts.js";

const tile = (title, value, note) => el("div", { class: "tile" }, el("dt", {}, title), el("dd", {}, value), note ? el("dd", { class: "note" }, note) : null);

const perSecond = (series, step, name) => series[name].map((value) => (value === null ? null : value / step));

// The last step is not over yet.
function whole(series) {
  return Object.fromEntries(Object.entries(series).map(([name, values]) => [name, values.length > 1 ? values.slice(0, -1) : values]));
}

export const overview = {
  title: "Overview",
  open(place) {
    return {
      seconds: 5,
      async refresh() {
        const seen = await get("/api/v1/overview");
        const series = whole(seen.series);
        document.getElementById("server").textContent = seen.hostname;
        fill(place,
          el("h1", {}, "Overview", el("small", {}, ` elemta ${seen.version}, up ${age(seen.now - seen.started)}`)),
          seen.attention.length
            ? el("ul", { class: "attention" }, seen.attention.map((each) => el("li", { class: each.level }, each.text)))
            : el("p", { class: "well" }, "Nothing needs your attention."),
          el("dl", { class: "tiles" },
            tile("Accepted", `${rate(seen.rates.accepted)}/s`, `${size(seen.rates.octets || 0)}/s`),
            tile("Delivered", `${rate(seen.rates.delivered)}/s`, `half within ${span(seen.delay.half)}`),
            tile("Deferred", `${rate(seen.rates.deferred)}/s`, `${rate(seen.rates.failed)}/s failed`),
            tile("Queued", count(seen.queue.queued), `${count(seen.queue.held)} held, ${size(seen.queue.octets)}`),
            tile("Oldest", age(seen.oldest_seconds), seen.oldest_seconds === null ? "the queue is empty" : "in the queue"),
            tile("Now", `${count(seen.sessions)} sessions`, `${count(seen.attempts)} attempts`)),
          el("div", { class: "charts" },
            chart("Messages a second", series.time, [
              { name: "accepted", values: perSecond(series, seen.step, "accepted") },
              { name: "delivered", values: perSecond(series, seen.step, "delivered") },
              { name: "deferred", values: perSecond(series, seen.step, "deferred") },
              { name: "failed", values: perSecond(series, seen.step, "failed") }], rate),
            chart("Recipients in the queue", series.time, [
              { name: "queued", values: series.queued }, { name: "held", values: series.held }], count),
            chart("Time to deliver", series.time, [
              { name: "half within", values: series.delay_half }, { name: "95 % within", values: series.delay_most }], span),
            chart("Sessions a second", series.time, [
              { name: "opened", values: perSecond(series, seen.step, "sessions") },
              { name: "turned away", values: perSecond(series, seen.step, "refused") },
              { name: "refusals", values: perSecond(series, seen.step, "rejected") }], rate),
            chart("How far behind", series.time, [
              { name: "event loop", values: series.lag }, { name: "storing", values: series.commit }], span),
            chart("Open now", series.time, [
              { name: "sessions", values: series.open_sessions }, { name: "attempts", values: series.attempts }], count)),
          el("div", { class: "columns" },
            el("section", {}, el("h2", {}, "What waits, by domain"),
              table("Waiting by domain", [["domain", ""], ["recipients", "number"]],
                seen.domains.map((each) => [el("a", { href: `#/queue?domain=${encodeURIComponent(each.value)}` }, each.value), count(each.recipients)]),
                "Nothing waits.")),
            el("section", {}, el("h2", {}, "Why it waits"),
              table("Waiting by cause", [["cause", ""], ["recipients", "number"]],
                seen.causes.map((each) => [el("a", { href: `#/queue?cause=${encodeURIComponent(each.value)}` }, each.value), count(each.recipients)]),
                "Nothing waits.")),
            el("section", {}, el("h2", {}, "Listeners"),
              table("Listeners", [["name", ""], ["role", ""], ["address", ""], ["sessions", "number"]],
                seen.listeners.map((each) => [each.name, each.role, each.address, count(each.sessions)]), "None is open."))));
      },
    };
  },
};
