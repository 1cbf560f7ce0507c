// What was said over the wire where a session or an attempt failed.
import { clock, el } from "./dom.js";
import { get } from "./api.js";

// A section about one message, or null where nothing is kept of it.
export async function flightsOf({ message, session }) {
  const asked = [get(`/api/v1/flights?message=${encodeURIComponent(message)}`)];
  if (session) asked.push(get(`/api/v1/flights?about=${encodeURIComponent(session)}`));
  const found = new Map();
  for (const { flights } of await Promise.all(asked)) {
    for (const flight of flights) found.set(flight.id, flight);
  }
  if (!found.size) return null;
  const ordered = [...found.values()].sort((a, b) => a.time - b.time);
  return el("section", { class: "flights" }, el("h2", {}, "What was said"), ordered.map(fold));
}

function fold(flight) {
  const title = `${clock(flight.time)} ${flight.kind} ${flight.about} with ${flight.peer}: ${flight.cause}`;
  const text = el("pre", { tabindex: "0" }, "…");
  const details = el("details", { "data-key": `flight-${flight.id}` }, el("summary", {}, title), text);
  details.addEventListener("toggle", async () => {
    if (!details.open || text.dataset.loaded) return;
    text.dataset.loaded = "yes";
    try {
      const whole = await get(`/api/v1/flights/${encodeURIComponent(flight.id)}`);
      text.textContent = whole.said.map(line).join("\n");
    } catch (error) {
      text.textContent = String(error.message || error);
    }
  });
  return details;
}

function line({ seconds, side, text }) {
  return `${seconds.toFixed(3).padStart(9)} ${side} ${text}`;
}
