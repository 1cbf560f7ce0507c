// Small charts: lines over time, drawn as SVG, read with pointer or arrow keys.
import { el, svg, clock } from "./dom.js";

const WIDTH = 480, HEIGHT = 120, LEFT = 4, TOP = 8;

// lines: [{ name, values, kind }]; values may be null where nothing is known.
export function chart(title, times, lines, show) {
  const most = Math.max(1e-9, ...lines.flatMap((line) => line.values.filter((value) => value !== null)));
  const known = lines.some((line) => line.values.some((value) => value !== null));
  const x = (place) => LEFT + (place * (WIDTH - 2 * LEFT)) / Math.max(1, times.length - 1);
  const y = (value) => HEIGHT - TOP - (value * (HEIGHT - 2 * TOP)) / most;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const part of [0, 0.5, 1]) {
    picture.append(svg("line", { x1: LEFT, x2: WIDTH - LEFT, y1: y(part * most), y2: y(part * most), class: "grid" }));
  }
  lines.forEach((line, number) => {
    let path = "", drawing = false;
    line.values.forEach((value, place) => {
      if (value === null) { drawing = false; return; }
      path += `${drawing ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
      if (!drawing && (place + 1 >= line.values.length || line.values[place + 1] === null)) path += "h1";
      drawing = true;
    });
    picture.append(svg("path", { d: path, class: `line line${number}` }));
  });
  const cursor = svg("line", { y1: TOP, y2: HEIGHT - TOP, class: "cursor", visibility: "hidden" });
  picture.append(cursor);
  const at = el("span", { class: "at" });
  const values = lines.map((line, number) => {
    const value = el("strong", {});
    return { value, node: el("span", { class: `key key${number}` }, line.name, " ", value) };
  });
  let chosen = null;
  const look = (place) => {
    chosen = place;
    const shown = place === null ? times.length - 1 : place;
    at.textContent = place === null ? (known ? `at most ${show(most)}` : "nothing yet") : clock(times[place]);
    cursor.setAttribute("visibility", place === null ? "hidden" : "visible");
    if (place !== null) { cursor.setAttribute("x1", x(place)); cursor.setAttribute("x2", x(place)); }
    lines.forEach((line, number) => {
      let last = shown;
      while (place === null && last > 0 && line.values[last] === null) last -= 1;
      values[number].value.textContent = line.values[last] === null || line.values[last] === undefined ? "–" : show(line.values[last]);
    });
  };
  const figure = el("figure", {
    tabindex: "0", "data-key": `chart ${title}`, "aria-label": `${title}: use the arrow keys to read values`,
    onpointermove: (event) => {
      const box = picture.getBoundingClientRect();
      const part = (event.clientX - box.left) / box.width;
      look(Math.min(times.length - 1, Math.max(0, Math.round(part * (times.length - 1)))));
    },
    onpointerleave: () => look(null),
    onblur: () => look(null),
    onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      look(Math.min(times.length - 1, Math.max(0, (chosen === null ? times.length - 1 : chosen) + step)));
    },
  }, el("figcaption", {}, el("span", { class: "title" }, title), at), picture, el("div", { class: "keys" }, values.map((each) => each.node)));
  look(null);
  return figure;
}
