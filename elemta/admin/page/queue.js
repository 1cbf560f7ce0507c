// The queue: filtered, page by page, with actions on what is chosen or on all that matches.
import { age, confirm, count, el, fill, folded, link, table, tell } from "./dom.js";
import { get, post } from "./api.js";

const FILTERS = [["sender", "Sender"], ["recipient", "Recipient"], ["domain", "Domain"], ["route", "Route"], ["cause", "Cause"]];
const PAGE = 50;
const ACTIONS = {
  retry: { title: "Retry now", verb: "are tried at once", dangerous: false },
  hold: { title: "Hold", verb: "are held until somebody releases them", dangerous: false },
  release: { title: "Release", verb: "are released", dangerous: false },
  bounce: { title: "Return", verb: "are returned to their senders as failed", dangerous: true },
  remove: { title: "Remove", verb: "are removed, and nobody is told", dangerous: true },
};

// Ask how much an action would change, let a person confirm that, do it.
export async function act(action, selection) {
  const { title, verb, dangerous } = ACTIONS[action];
  const would = await post("/api/v1/queue", { action, selection, dry_run: true });
  if (!would.recipients) {
    tell("Nothing that this could be done to.");
    return false;
  }
  const what = `${count(would.recipients)} recipients of ${count(would.messages)} messages ${verb}.`;
  if (!(await confirm(`${title}?`, [what], title, dangerous))) return false;
  const done = await post("/api/v1/queue", { action, selection });
  tell(`Done for ${count(done.recipients)} recipients.`);
  return true;
}

export const buttons = (run, keys) => Object.entries(ACTIONS).map(([action, { title, dangerous }]) => el("button", {
  type: "button", class: dangerous ? "dangerous" : null, "data-key": `${keys}${action}`,
  onclick: async () => {
    try {
      await run(action);
    } catch (trouble) {
      tell(trouble.message, true);
    }
  },
}, title));

function state(recipient, now) {
  if (recipient.state === "held") return el("span", { class: "held" }, `held: ${recipient.reason}`);
  if (recipient.leased) return el("span", { class: "underway" }, "under way");
  if (recipient.state !== "queued") return recipient.state;
  return recipient.due > now ? `again in ${age(recipient.due - now)}` : "due";
}

export const queue = {
  title: "Queue",
  open(place, _, query) {
    const chosen = new Set();
    const starts = [null];
    let following = null;
    const wanted = () => Object.fromEntries([...FILTERS.map(([name]) => name), "state"].map((name) => [name, query.get(name) || ""]).filter(([, value]) => value));
    const form = el("form", {
      class: "filters",
      onsubmit: (event) => {
        event.preventDefault();
        const fields = new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim()).map(([name, value]) => [name, value.trim()]));
        location.hash = `#/queue?${fields}`;
      },
    }, FILTERS.map(([name, title]) => el("label", {}, title, el("input", { name, value: query.get(name) || "", autocomplete: "off", spellcheck: "false", maxlength: 320 }))),
    el("label", {}, "State", el("select", { name: "state" }, ["", "queued", "held"].map((each) => el("option", { value: each, selected: each === (query.get("state") || "") }, each || "any")))),
    el("button", { class: "main" }, "Filter"), el("a", { href: "#/queue" }, "Clear"));
    const actions = el("div", { class: "actions", role: "group", "aria-label": "Actions" });
    const list = el("div", {});
    const pages = el("div", { class: "buttons" });
    place.append(el("h1", {}, "Queue"), folded(form, Object.keys(wanted()).length), actions, list, pages);

    async function run(action) {
      const filter = wanted();
      const selection = chosen.size ? { messages: [...chosen] } : Object.keys(filter).length ? filter : { all: true };
      if (await act(action, selection)) {
        chosen.clear();
        await view.refresh();
      }
    }

    function showActions() {
      const what = chosen.size ? `${count(chosen.size)} chosen messages` : Object.keys(wanted()).length ? "All that matches" : "The whole queue";
      fill(actions, el("span", {}, `${what}: `), buttons(run, "all"));
    }

    const go = (step) => async () => {
      if (step > 0) starts.push(following);
      else starts.pop();
      await view.refresh();
    };

    const view = {
      seconds: 10,
      async refresh() {
        const after = starts.at(-1);
        const page = await get("/api/v1/queue", { ...wanted(), limit: PAGE, after });
        const now = Date.now() / 1000;
        following = page.next;
        showActions();
        fill(list, table("Messages", [["", "check"], ["message", ""], ["age", "number"], ["sender", "address"], ["recipient", "address"], ["state", ""], ["why", "wide"]],
          page.messages.flatMap((message) => message.recipients.map((recipient, place) => [
            place ? "" : el("input", {
              type: "checkbox", checked: chosen.has(message.id), "aria-label": `Choose message ${message.id}`, "data-key": `c${message.id}`,
              onchange: (event) => {
                if (event.target.checked) chosen.add(message.id);
                else chosen.delete(message.id);
                showActions();
              },
            }),
            place ? "" : link(message.id), place ? "" : age(now - message.received), place ? "" : message.sender || "<>",
            recipient.address, state(recipient, now), recipient.reply || recipient.reason])),
          Object.keys(wanted()).length ? "Nothing in the queue matches." : "The queue is empty."));
        fill(pages,
          starts.length > 1 ? el("button", { type: "button", "data-key": "back", onclick: go(-1) }, "Back") : null,
          following ? el("button", { type: "button", "data-key": "further", onclick: go(1) }, "Further") : null);
      },
    };
    return view;
  },
};
