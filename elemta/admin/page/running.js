// What runs now: sessions, attempts, and the tree of tasks; and the end of one of them.
import { age, confirm, count, el, fill, link, span, table, tell } from "./dom.js";
import { get, post } from "./api.js";

async function end(path, body, done, again) {
  try {
    await post(path, body);
    tell(done);
    await again();
  } catch (trouble) {
    tell(trouble.message, true);
  }
}

export async function closeSession(id, again) {
  const lines = ["Its client is told to try again later. A message that was taken already is stored and acknowledged first."];
  if (await confirm("End this session?", lines, "End it", true)) await end(`/api/v1/sessions/${encodeURIComponent(id)}`, { action: "close" }, "The session ends.", again);
}

export async function cancelAttempt(id, again) {
  const lines = ["Its recipients are tried again later. If all was sent already, it is left alone, as ending it could deliver the message twice."];
  if (await confirm("End this attempt?", lines, "End it", true)) await end(`/api/v1/attempts/${encodeURIComponent(id)}`, { action: "cancel" }, "The attempt ends.", again);
}

function task(each, path, again) {
  const title = each.text ? `${each.kind} ${each.text}` : each.name;
  const facts = [each.phase, each.seconds === null ? null : `since ${age(each.seconds)}`, each.seconds_left === null ? null : `${age(each.seconds_left)} left`]
    .filter((fact) => fact).join(", ");
  const ending = !each.id ? null : el("button", { type: "button", class: "small", "data-key": `end ${each.id}`,
    onclick: () => (each.kind === "session" ? closeSession : cancelAttempt)(each.id, again) }, "End");
  const label = [el("strong", {}, title), " ", el("span", { class: "facts" }, facts), " ", el("span", { class: "waiting" }, `waits for ${each.waits_for}`), " ", ending];
  const below = [...each.children.map((child, place) => task(child, `${path}/${place}${child.name}`, again)), each.hidden ? el("li", {}, `${count(each.hidden)} more`) : null];
  if (!each.children.length && !each.hidden) return el("li", {}, label);
  return el("li", {}, el("details", { "data-key": path, open: path.split("/").length < 4 }, el("summary", { "data-key": `s${path}` }, label), el("ul", {}, below)));
}

export const running = {
  title: "Running",
  open(place) {
    const tree = el("div", { class: "tree" });
    const rest = el("div", {});
    let drawn = false;
    const look = async () => {
      const seen = await get("/api/v1/tree");
      fill(tree, el("ul", {}, task(seen.tree, "t", view.refresh)));
      drawn = true;
    };
    place.append(el("h1", {}, "Running now"), rest,
      el("h2", {}, "Tree of tasks ", el("button", { type: "button", onclick: () => look().catch((trouble) => tell(trouble.message, true)) }, "Look again")), tree);
    const view = {
      seconds: 3,
      async refresh() {
        const [sessions, attempts] = await Promise.all([get("/api/v1/sessions"), get("/api/v1/attempts")]);
        fill(rest,
          el("h2", {}, `Sessions: ${count(sessions.total)}`),
          table("Sessions", [["client", ""], ["listener", ""], ["account", ""], ["phase", ""], ["age", "number"], ["left", "number"], ["messages", "number"], ["", ""]],
            sessions.sessions.slice(0, 100).map((each) => [each.peer, each.listener, each.account || "–", each.phase, age(each.seconds), age(each.seconds_left), count(each.messages),
              el("button", { type: "button", class: "small", "data-key": `s${each.id}`, onclick: () => closeSession(each.id, view.refresh) }, "End")]),
            "No session is open."),
          el("h2", {}, `Attempts: ${count(attempts.total)}`),
          table("Attempts", [["message", ""], ["recipients", ""], ["destination", ""], ["remote", "wide"], ["phase", ""], ["age", "number"], ["left", "number"], ["", ""]],
            attempts.attempts.slice(0, 100).map((each) => [link(each.message), each.recipients.length > 2 ? `${each.recipients[0]} and ${each.recipients.length - 1} more` : each.recipients.join(", "),
              each.route, each.remote || "–", each.phase, span(each.seconds), age(each.seconds_left),
              el("button", { type: "button", class: "small", "data-key": `a${each.id}`, onclick: () => cancelAttempt(each.id, view.refresh) }, "End")]),
            "No attempt is under way."));
        if (!drawn) await look();
      },
    };
    return view;
  },
};
