// Messages of a sender or to a recipient, also those that are gone.
import { el, fill, link, moment, table } from "./dom.js";
import { get } from "./api.js";

export const search = {
  title: "Search",
  open(place, _, query) {
    const wanted = query.get("q") || "";
    return {
      async refresh() {
        const found = new Map();
        const troubles = [];
        for (const by of ["sender", "recipient"]) {
          try {
            for (const life of (await get("/api/v1/trace", { [by]: wanted })).messages) found.set(life.id, life);
          } catch (trouble) {
            troubles.push(trouble.message);
          }
        }
        const lives = [...found.values()].sort((one, other) => other.received - one.received);
        fill(place, el("h1", {}, "Found for ", wanted),
          table("Found", [["message", ""], ["received", ""], ["sender", ""], ["recipients", "wide"], ["state", ""]],
            lives.map((life) => [link(life.id), moment(life.received), life.sender || "<>",
              life.recipients.map((each) => `${each.address} (${each.state})`).join(", "), life.ended ? "gone" : "in the queue"]),
            troubles.length === 2 ? troubles[0] : "No message of that sender or to that recipient is known."));
      },
    };
  },
};
