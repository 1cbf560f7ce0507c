// Requests to the server that this page came from. The token lives in this tab only, and is never in an address.

const KEY = "elemta.token";

export const token = () => sessionStorage.getItem(KEY);
export const keep = (value) => sessionStorage.setItem(KEY, value);
export const forget = () => sessionStorage.removeItem(KEY);

export class Trouble extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

let signedOut = () => {};
export const onSignedOut = (call) => { signedOut = call; };

async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { authorization: `Bearer ${token()}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch {
    throw new Trouble(0, "The server does not answer.");
  }
  const text = await answer.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    value = { error: text.trim() };
  }
  if (answer.ok) return value;
  if (answer.status === 401) signedOut();
  // RFC 9457, or an older form of it
  throw new Trouble(answer.status, value.detail || value.error || value.title || answer.statusText);
}

export const get = (path, query) => {
  const wanted = new URLSearchParams(Object.entries(query || {}).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return ask("GET", wanted.size ? `${path}?${wanted}` : path);
};
export const post = (path, body) => ask("POST", path, body);

// A WebSocket cannot carry an Authorization header, so the token goes as a subprotocol, which is in no address.
export function openEvents() {
  const bytes = new TextEncoder().encode(token());
  const encoded = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return new WebSocket(`${scheme}://${location.host}/events?last=0`, ["events.elemta", `bearer.elemta.${encoded}`]);
}
