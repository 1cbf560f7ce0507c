// Accounts whose mail the breaker holds, let go or purged; and all accounts, page by page.
import { confirm, count, el, fill, table, tell } from "./dom.js";
import { get, post } from "./api.js";

const PAGE = 50;
const ACTIONS = {
  release: { title: "Release", line: "It may send again, and its held mail goes.", dangerous: false },
  purge: { title: "Purge", line: "It may send again. Its held mail is removed, and nobody is told.", dangerous: true },
};

async function settle(action, account, again) {
  const { title, line, dangerous } = ACTIONS[action];
  if (!(await confirm(`${title} ${account}?`, [line, "Whoever has its password can send again: set another one first."], title, dangerous))) return;
  try {
    const done = await post("/api/v1/accounts/held", { action, account });
    tell(`${account} may send again; ${count(done.recipients)} recipients ${action === "release" ? "released" : "removed"}.`);
    await again();
  } catch (trouble) {
    tell(trouble.message, true);
  }
}

const standing = (each) => {
  if (each.held) return el("span", { class: "held" }, `held: ${each.held}`);
  return each.enabled ? "enabled" : el("span", { class: "held" }, "disabled");
};

export const accounts = {
  title: "Accounts",
  open(place) {
    const list = el("div", {});
    const pages = el("div", { class: "buttons" });
    const starts = [null];
    let following = null;
    place.append(el("h1", {}, "Accounts"), list, pages);
    const go = (step) => async () => {
      if (step > 0) starts.push(following);
      else starts.pop();
      try {
        await view.refresh();
      } catch (trouble) {
        tell(trouble.message, true);
      }
    };
    const view = {
      seconds: 10,
      async refresh() {
        const none = { accounts: [], next: null };
        const [{ held }, page] = await Promise.all([
          get("/api/v1/accounts/held"),
          get("/api/v1/accounts", { limit: PAGE, after: starts.at(-1) }).catch((trouble) => ({ ...none, detail: trouble.message })),
        ]);
        following = page.next;
        fill(list,
          el("h2", {}, "Held"),
          table("Held accounts", [["account", "address"], ["what it did", "wide"], ["", ""]],
            held.map((each) => [each.account, each.finding, el("div", { class: "actions" },
              Object.entries(ACTIONS).map(([action, { title, dangerous }]) => el("button", {
                type: "button", class: dangerous ? "dangerous" : null, "data-key": `${action}${each.account}`,
                "aria-label": `${title} ${each.account}`, onclick: () => settle(action, each.account, view.refresh),
              }, title)))]),
            "No account is held."),
          el("h2", {}, "All"),
          table("Accounts", [["account", "address"], ["state", ""], ["may also send as", "wide"], ["passwords", ""], ["SCRAM", ""]],
            page.accounts.map((each) => [each.account, standing(each), each.send_as.join(", ") || "–", each.credentials.join(", ") || "–", each.scram ? "yes" : "no"]),
            page.detail || "There are no accounts."));
        fill(pages,
          starts.length > 1 ? el("button", { type: "button", "data-key": "back", onclick: go(-1) }, "Back") : null,
          following ? el("button", { type: "button", "data-key": "further", onclick: go(1) }, "Further") : null);
      },
    };
    return view;
  },
};
