// One message: why it waits, and its whole life.
import { clock, el, fill, moment, size, span, table } from "./dom.js";
import { get } from "./api.js";
import { act, buttons } from "./queue.js";
import { cancelAttempt } from "./running.js";
import { line } from "./words.js";
import { flightsOf } from "./flights.js";

function phases(step) {
  const known = Object.entries(step.phases);
  if (!known.length) return null;
  const total = known.reduce((sum, [, seconds]) => sum + seconds, 0);
  return el("ol", { class: "phases", "aria-label": "Phases" }, known.map(([name, seconds]) => el("li", { class: seconds > total / 4 ? "long" : null },
    el("span", {}, name), " ", el("strong", {}, span(seconds)))));
}

function step(each) {
  if (each.kind === "attempt") {
    const became = each.state === "queued" ? "deferred" : each.state;
    return el("li", { class: `step ${became}` }, moment(each.at), el("div", {},
      el("strong", {}, `${each.recipient} ${became}`), each.remote ? ` by ${each.remote}` : null,
      each.tls ? `, over ${each.tls}` : null, each.seconds ? `, in ${span(each.seconds)}` : null,
      each.times > 1 ? `, ${each.times} times alike since ${clock(each.first)}` : null,
      el("p", { class: "reply" }, each.reply, each.detail ? ` [${each.detail}]` : null), phases(each)));
  }
  return el("li", { class: `step ${each.level}` }, moment(each.at), el("div", {},
    el("strong", {}, each.type), " ", line(each.event, { message: true })));
}

function waits(each, again) {
  return el("section", { class: `waits ${each.state}` },
    el("h3", {}, each.recipient), el("p", { class: "headline" }, each.headline),
    el("ul", {}, each.facts.map((fact) => el("li", {}, fact))),
    each.attempt ? el("button", { type: "button", "data-key": `a${each.attempt}`, onclick: () => cancelAttempt(each.attempt, again) }, "End this attempt") : null);
}

export const message = {
  title: "Message",
  open(place, [id]) {
    const view = {
      seconds: 5,
      async refresh() {
        let seen;
        try {
          seen = await get(`/api/v1/messages/${encodeURIComponent(id)}/timeline`);
        } catch (trouble) {
          if (trouble.status !== 404) throw trouble;
          fill(place, el("h1", {}, "Message ", el("span", { class: "id" }, id)), el("p", { class: "none" }, trouble.message));
          return;
        }
        const life = seen.life;
        const run = async (action) => { if (await act(action, { messages: [id] })) await view.refresh(); };
        const waiting = seen.waiting.filter((each) => each.state === "queued" || each.state === "held");
        fill(place,
          el("h1", {}, "Message ", el("span", { class: "id" }, id)),
          life ? el("dl", { class: "facts" },
            el("dt", {}, "Sender"), el("dd", {}, life.sender || "<>"),
            el("dt", {}, "Received"), el("dd", {}, moment(life.received), ` from ${life.origin.peer}`, life.origin.hello ? ` (${life.origin.hello})` : null, ` with ${life.origin.protocol}`),
            el("dt", {}, "Size"), el("dd", {}, size(life.size)),
            el("dt", {}, "State"), el("dd", {}, life.ended ? ["gone since ", moment(life.ended)] : "in the queue")) : null,
          waiting.length ? [el("h2", {}, "Why does it wait?"), waiting.map((each) => waits(each, view.refresh)),
            el("div", { class: "actions", role: "group", "aria-label": "Actions" }, buttons(run, "one"))] : null,
          life ? [el("h2", {}, "Recipients"), table("Recipients", [["recipient", ""], ["state", ""], ["attempts", "number"], ["last reply", "wide"]],
            life.recipients.map((each) => [each.address, each.state, each.attempts, each.reply || each.reason]), "")] : null,
          el("h2", {}, "What happened"),
          el("ol", { class: "timeline" }, seen.steps.map(step)),
          life && !seen.steps.some((each) => each.type === "session.opened")
            ? el("p", { class: "none" }, "What happened in its session is longer ago than the events that are kept.") : null,
          await flightsOf({ message: id, session: life ? life.origin.session : "" }));
      },
    };
    return view;
  },
};
