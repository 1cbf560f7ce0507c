// The plugins: how they stand, what they cost, the slowest first.
import { confirm, count, el, fill, span, table, tell } from "./dom.js";
import { get, post } from "./api.js";

const fails = (failures) => Object.entries(failures).map(([kind, times]) => `${count(times)} ${kind}`).join(", ") || "none";

export const plugins = {
  title: "Plugins",
  open(place) {
    const view = {
      seconds: 5,
      async refresh() {
        const seen = await get("/api/v1/overview", { series: "no" });
        const change = (name, action) => async () => {
          const lines = [action === "disable" ? "It is no longer asked, and decides nothing." : "It is asked again."];
          if (!(await confirm(`${action === "disable" ? "Disable" : "Enable"} ${name}?`, lines, action === "disable" ? "Disable" : "Enable", action === "disable"))) return;
          try {
            await post("/api/v1/plugins", { action, name });
            await view.refresh();
          } catch (trouble) {
            tell(trouble.message, true);
          }
        };
        fill(place, el("h1", {}, "Plugins"),
          table("Plugins", [["plugin", ""], ["standing", ""], ["runs", ""], ["hooks", "wide"], ["calls", "number"], ["now", "number"], ["mean", "number"], ["in all", "number"], ["failures", ""], ["", ""]],
            seen.plugins.map((each) => [each.name, el("span", { class: each.standing === "running" ? "" : "held" }, each.standing, each.shadow ? ", shadow" : null),
              each.isolation === "process" ? "in processes" : "in the loop", each.hooks.join(", "), count(each.calls), count(each.active), span(each.mean_seconds), span(each.seconds), fails(each.failures),
              el("button", { type: "button", "data-key": `e${each.name}`, onclick: change(each.name, each.standing === "disabled" ? "enable" : "disable") }, each.standing === "disabled" ? "Enable" : "Disable")]),
            "There are no plugins in the configuration."));
      },
    };
    return view;
  },
};
