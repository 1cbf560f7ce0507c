// Which view is shown, signing in and out, and when things are looked at again.
import { el, fill, tell } from "./dom.js";
import { forget, get, keep, onSignedOut, token } from "./api.js";
import { overview } from "./overview.js";
import { queue } from "./queue.js";
import { message } from "./message.js";
import { events } from "./events.js";
import { destinations } from "./destinations.js";
import { accounts } from "./accounts.js";
import { plugins } from "./plugins.js";
import { running } from "./running.js";
import { search } from "./search.js";

// Each view: a title, and what opens it in a place: it gives back { refresh, seconds, close }.
const VIEWS = { overview, queue, events, destinations, accounts, plugins, running, message, search };
const SHOWN = ["overview", "queue", "events", "destinations", "accounts", "plugins", "running"];

const content = document.getElementById("content");
const nav = document.getElementById("nav");
let opened = null, timer = 0, busy = false;

async function refresh() {
  if (!opened?.refresh || busy || document.hidden) return;
  busy = true;
  const mine = opened;
  try {
    await mine.refresh();
    document.body.classList.remove("lost");
  } catch (trouble) {
    if (mine === opened && token()) {
      tell(trouble.message, true);
      document.body.classList.toggle("lost", trouble.status === 0);
    }
  } finally {
    busy = false;
  }
}

function close() {
  clearInterval(timer);
  opened?.close?.();
  opened = null;
}

async function show() {
  close();
  if (!token()) return signIn();
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const view = VIEWS[name] || overview;
  nav.hidden = document.getElementById("leave").hidden = document.getElementById("search").hidden = false;
  fill(nav, SHOWN.map((each) => el("a", {
    href: `#/${each}`, "data-key": each, "aria-current": VIEWS[each] === view ? "page" : null,
  }, VIEWS[each].title)));
  document.title = `${view.title} · elemta`;
  const place = el("div", { class: `view view-${name}` });
  content.replaceChildren(place);
  opened = view.open(place, rest.map(decodeURIComponent), new URLSearchParams(query || ""));
  busy = false;
  await refresh();
  if (opened?.seconds) timer = setInterval(refresh, opened.seconds * 1000);
}

function signIn(text) {
  nav.hidden = document.getElementById("leave").hidden = document.getElementById("search").hidden = true;
  document.title = "Sign in · elemta";
  document.getElementById("server").textContent = "";
  const field = el("input", { type: "password", name: "token", autocomplete: "off", required: true, id: "token", "aria-describedby": "hint" });
  const form = el("form", {
    class: "sign-in",
    onsubmit: async (event) => {
      event.preventDefault();
      keep(field.value.trim());
      try {
        const status = await get("/api/v1/status");
        document.getElementById("server").textContent = status.hostname;
        await show();
      } catch (trouble) {
        forget();
        signIn(trouble.status === 401 ? "The server does not know this token." : trouble.message);
      }
    },
  }, el("h1", {}, "Sign in"), text ? el("p", { class: "bad", role: "alert" }, text) : null,
  el("label", { for: "token" }, "Token"), field,
  el("p", { id: "hint" }, "It is in the file admin.token in the state folder, or where [admin] token_file says. It stays in this tab."),
  el("button", { class: "main" }, "Sign in"));
  content.replaceChildren(form);
  field.focus();
}

onSignedOut(() => {
  if (!token()) return;
  forget();
  close();
  signIn("The server no longer knows this token.");
});
document.getElementById("leave").addEventListener("click", () => { forget(); close(); signIn(); });
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = event.target.elements.q.value.trim();
  if (!wanted) return;
  location.hash = /^[0-9a-z]{16}$/.test(wanted) ? `#/message/${wanted}` : `#/search?q=${encodeURIComponent(wanted)}`;
  event.target.reset();
});
addEventListener("hashchange", async () => {
  scrollTo(0, 0);
  await show();
  content.focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", refresh);
show();
