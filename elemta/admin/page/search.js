// Messages by what people know of them, also those that are gone.
import { el, fill, link, moment, table } from "./dom.js";
import { get } from "./api.js";

const isAddress = (text) => /^("[^"]+"|[^\s<>"@]+)@[^\s<>"@]+$/.test(text);
// What a text can be, by the name that the API has for it.
const WAYS = [
  ["sender", isAddress],
  ["recipient", isAddress],
  ["message_id", (text) => text.length <= 250],
  ["subject", () => true],
  ["remote_id", (text) => text.trim().length >= 4 && !text.includes("@")],
];

export const search = {
  title: "Search",
  open(place, _, query) {
    const wanted = query.get("q") || "";
    return {
      async refresh() {
        const found = new Map();
        const troubles = [];
        const ways = WAYS.filter(([by, may]) => may(wanted)).map(([by]) => by);
        for (const by of ways) {
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
            troubles.length === ways.length ? troubles[0] : "No message is known with that sender, recipient, Message-ID, subject or words in a reply."));
      },
    };
  },
};
