// Names, errors and whatever else is shown here come from servers, clients and
// callers, whom nobody has checked: they are put into the page as text alone.

const api = "admin/v1/";
const tokenKey = "mcpool-admin-token";
const badToken = [400, 403, 431]; // how one is refused besides by 401
const silence = 12_000;       // ms; the gateway says something every 5 s
const retries = [1, 2, 4, 8]; // s between attempts to connect, the last again and again
const rateOver = 6_000;       // ms over which rates are counted
const manyConnections = 40;   // boxes of a pool that are shown at once

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

// makeCell makes a part of a table, which stays one where the style shows it as
// something else.
function makeCell(tag, role, ...content) {
  const element = make(tag, "", ...content);
  element.setAttribute("role", role);
  return element;
}

function makeButton(className, text, press) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", press);
  return button;
}

function makeSVG(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// setText and setAttribute leave alone what is so already: a page of 200 pools is drawn
// each second.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// ---- numbers ----

const none = "–";
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function count(n) {
  if (n >= 1e9) return (n / 1e9).toFixed(2) + " G";
  if (n >= 1e7) return (n / 1e6).toFixed(1) + " M";
  return grouped.format(n);
}

function rate(n) {
  if (n === undefined) return none;
  return n > 0 && n < 10 ? n.toFixed(1) : count(n);
}

function duration(s) {
  if (s < 0.0005) return s > 0 ? Math.ceil(s * 1e6) + " µs" : "0 s";
  if (s < 0.01) return (s * 1e3).toFixed(1) + " ms";
  if (s < 1) return (s * 1e3).toFixed(0) + " ms";
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 60) return s.toFixed(0) + " s";
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${count(Math.floor(s / 86400))} d ${Math.floor((s % 86400) / 3600)} h`;
}

// period is a duration in one word.
function period(s) {
  if (s < 60) return Math.floor(s) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  if (s < 86400) return Math.floor(s / 3600) + " h";
  return Math.floor(s / 86400) + " d";
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share > 0.999 && share < 1) return "> 99.9 %";
  return (share * 100).toFixed(share === 0 || share === 1 ? 0 : 1) + " %";
}

const clock = (when) => when.toLocaleTimeString("en-GB");
const callers = (n) => (n === 1 ? "1 caller waits" : `${count(n)} callers wait`);
const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);

// ---- the API ----

let token = sessionStorage.getItem(tokenKey);

class Fault extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

// ask makes a request. It fails with a Fault if the gateway says no, and with
// another error if it says nothing.
async function ask(method, path, signal) {
  const headers = {};
  if (method !== "GET") headers["X-Mcpool-Admin"] = "1";
  if (token) headers.Authorization = "Bearer " + token;
  const response = await fetch(api + path, { method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  if (response.ok) return response;
  let said = {};
  try {
    said = (await response.json()).error ?? {};
  } catch { /* it is not the gateway that has answered */ }
  throw new Fault(response.status, said.message ?? `The gateway answered with status ${response.status}`, said.hint);
}

const getJSON = async (path) => (await ask("GET", path)).json();
const connectionPath = (id) => "connections/" + encodeURIComponent(id);

let ahead = 0; // ms that this clock is ahead of the gateway's

const unseen = new Error("Nobody looks at the page");

// follow hands on each state that the gateway tells. EventSource would do it, but
// for the token, which it cannot send.
async function follow(tell) {
  const stop = new AbortController();
  const rest = () => document.hidden && stop.abort(unseen);
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(new Error(`Nothing was heard for ${silence / 1000} s`)), silence);
  };
  heard();
  document.addEventListener("visibilitychange", rest);
  try {
    const response = await ask("GET", "events", stop.signal);
    ahead = Date.now() - (Date.parse(response.headers.get("Date")) || Date.now());
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("The gateway has ended the stream");
      heard();
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
        if (data.length > 0) tell(JSON.parse(data.join("\n")));
      }
    }
  } catch (err) {
    throw stop.signal.aborted ? stop.signal.reason : err; // readers are not told the reason
  } finally {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", rest);
  }
}

// seen waits until the page is looked at. A browser has six connections to a
// gateway over HTTP/1.1, of all tabs together, and each stream takes one.
async function seen() {
  while (document.hidden) {
    await new Promise((changed) => document.addEventListener("visibilitychange", changed, { once: true }));
  }
}

let tryNow = () => {};

async function run() {
  for (let failures = 0; ;) {
    await seen();
    let fault;
    try {
      await follow((state) => {
        failures = 0;
        live();
        take(state);
      });
    } catch (err) {
      fault = err;
    }
    if (fault === unseen) {
      link("resting", "not looked at");
      document.title = "mcpool";
      rates.clear();
      failures = 0;
      continue;
    }
    if (fault.status === 401 || token && badToken.includes(fault.status)) {
      await login(fault);
      failures = 0;
      continue;
    }
    lose(fault);
    const wait = retries[Math.min(failures++, retries.length - 1)] * (0.75 + Math.random() / 2);
    await Promise.race([sleep(wait * 1000), new Promise((now) => { tryNow = now; })]);
  }
}

let heardAt; // when the last state came

function live() {
  heardAt = new Date();
  if ($("link").dataset.state === "live") return;
  if ($("link").dataset.state === "lost") say("Connected again");
  link("live", "live");
  $("lost").hidden = true;
  $("login").hidden = true;
  $("shown").hidden = false;
  $("forget").hidden = !token;
  askHistory();
}

function link(state, text) {
  $("link").dataset.state = state;
  setText($("link-text"), text);
  document.body.dataset.link = state;
}

function lose(fault) {
  const refused = fault instanceof Fault;
  link("lost", refused ? "refused" : "connection lost");
  document.title = "lost · mcpool";
  rates.clear();
  setText($("lost").querySelector("strong"), refused ? "The gateway refuses." : "Connection lost.");
  const why = refused ? [fault.message, fault.hint].filter(Boolean).join("; ") + "." : "The gateway does not answer.";
  const since = heardAt ? ` What is shown is of ${clock(heardAt)}.` : "";
  setText($("lost-text"), `${why}${since} It is tried again every few seconds.`);
  $("lost").hidden = false;
}

// login waits for a token.
function login(fault) {
  setText($("login-why"), token ? `The token was not accepted: ${fault.message}.` : "This gateway shows its pools to whoever has its admin token.");
  forget();
  answer(false);
  if ($("story").open) $("story").close();
  link("locked", "token wanted");
  document.title = "mcpool";
  $("lost").hidden = true;
  $("shown").hidden = true;
  $("forget").hidden = true;
  $("login").hidden = false;
  $("token").focus();
  return new Promise((entered) => {
    $("login").onsubmit = (submit) => {
      submit.preventDefault();
      const text = $("token").value.trim();
      if (!/^[\x21-\x7e]+$/.test(text)) {
        setText($("login-why"), "A token has letters, digits and signs alone, and no spaces.");
        return;
      }
      $("token").value = "";
      token = text;
      sessionStorage.setItem(tokenKey, token);
      link("opening", "connecting");
      entered();
    };
  });
}

function forget() {
  token = null;
  sessionStorage.removeItem(tokenKey);
}

// ---- what was said ----

let saidTimer;

// say shows a line at the foot of the page, which screen readers read out.
function say(text, fault) {
  const said = $("said");
  clearTimeout(saidTimer);
  said.replaceChildren(make("span", "muted", clock(new Date())), " " + text);
  said.dataset.fault = Boolean(fault);
  said.dataset.shown = true;
  saidTimer = setTimeout(() => { said.dataset.shown = false; }, fault ? 60_000 : 10_000);
}

function sayFault(what, err) {
  const text = err instanceof Fault ? [err.message, err.hint].filter(Boolean).join("; ") : "the gateway does not answer";
  say(`${what}: ${text}`, true);
}

// announce says what has changed between two states.
function announce(before, now) {
  const was = new Map(before.pools.map((pool) => [pool.server, pool]));
  const news = [];
  for (const pool of now.pools) {
    const old = was.get(pool.server);
    if (!old) continue;
    if (pool.paused !== old.paused) {
      news.push(`${pool.server} ${pool.paused ? "is paused" : "goes on"}`);
    }
    if (away(pool) !== away(old)) {
      news.push(`${pool.server} ${away(pool) ? "is away" : "is back"}`);
    }
    // Callers wait now and then for a moment: that is no news.
    const row = rows.get(pool.server);
    const slow = pool.waiting > 0 && (pool.oldest_wait_seconds >= 1 || row.slow);
    if (slow !== row.slow) {
      news.push(slow ? `${pool.server}: ${callers(pool.waiting)}` : `${pool.server}: nobody waits any more`);
      row.slow = slow;
    }
  }
  if (news.length > 0) {
    say(news.slice(0, 3).join(" · ") + (news.length > 3 ? ` · and ${news.length - 3} more` : ""));
  }
}

// ---- the state ----

let state;             // the last that was told
let takenAt;           // when that was
let chosen = "*";      // whose hour is shown
let kind = "all";      // which pools are
const rates = new Map(); // of each server, the counters in the last seconds
const rows = new Map();  // of each server, what is drawn

// since is how many seconds old the state is. While nothing happens no other is
// told, and what waits goes on to wait.
const since = () => ($("link").dataset.state === "live" ? (performance.now() - takenAt) / 1000 : 0);
const waited = (one) => duration(one.oldest_wait_seconds + since());

const away = (pool) => pool.breaker !== "closed";

const kinds = {
  all: { text: "All", has: () => true },
  waiting: { text: "Waiting", has: (pool) => pool.waiting > 0 },
  paused: { text: "Paused", has: (pool) => pool.paused },
  away: { text: "Away", has: away },
  failing: { text: "Failing", title: "Calls failed in the last minute", has: (pool) => performance.now() - (rates.get(pool.server)?.failed ?? -Infinity) < 60_000 },
};

function measure(pool) {
  const now = { at: performance.now(), calls: pool.calls, errors: pool.errors };
  let r = rates.get(pool.server);
  const last = r?.list.at(-1);
  if (!r || now.calls < last.calls || now.errors < last.errors) { // it is another process
    r = { list: [] };
    rates.set(pool.server, r);
  } else if (now.errors > last.errors) {
    r.failed = now.at;
  }
  r.list.push(now);
  while (r.list.length > 2 && now.at - r.list[1].at >= rateOver) r.list.shift();
  const first = r.list[0];
  const seconds = (now.at - first.at) / 1000;
  if (seconds > 0.5) {
    r.calls = (now.calls - first.calls) / seconds;
    r.errors = (now.errors - first.errors) / seconds;
  }
}

function take(now) {
  const before = state;
  state = now;
  takenAt = performance.now();
  now.pools.forEach(measure);
  if (!document.hidden) draw();
  if (before) announce(before, now);
}

function draw() {
  const connections = Map.groupBy(state.connections, (one) => one.server);
  const waits = Map.groupBy(state.waits, (one) => one.server);
  const servers = new Set(state.pools.map((pool) => pool.server));
  for (const [server, row] of rows) {
    if (servers.has(server)) continue;
    row.body.remove();
    rows.delete(server);
    rates.delete(server);
  }
  if (chosen !== "*" && !servers.has(chosen)) choose("*");
  let at = $("table").tHead;
  for (const pool of state.pools) {
    let row = rows.get(pool.server);
    if (!row) rows.set(pool.server, row = newRow(pool.server));
    if (at.nextElementSibling !== row.body) at.after(row.body);
    at = row.body;
    drawRow(row, pool, connections.get(pool.server) ?? [], waits.get(pool.server) ?? []);
  }
  drawKinds();
  sift();
  drawCards();
  drawTitle();
  if ($("story").open) drawStory();
}

function drawTitle() {
  const waiting = sum(state.pools, (pool) => pool.waiting);
  const gone = state.pools.filter(away).length;
  const paused = state.pools.filter((pool) => pool.paused).length;
  const parts = [];
  if (gone) parts.push(`${gone} away`);
  if (paused) parts.push(`${paused} paused`);
  if (waiting) parts.push(`${waiting} waiting`);
  document.title = [...parts, "mcpool"].join(" · ");
}

// ---- which pools ----

function drawKinds() {
  const group = $("kinds");
  for (const [name, one] of Object.entries(kinds)) {
    let button = group.querySelector(`[data-kind="${name}"]`);
    if (!button) {
      button = makeButton("", "", () => {
        kind = name;
        drawKinds();
        sift();
      });
      button.dataset.kind = name;
      if (one.title) button.title = one.title;
      group.append(button);
    }
    const n = state.pools.filter(one.has).length;
    setText(button, `${one.text} ${count(n)}`);
    setAttribute(button, "aria-pressed", String(kind === name));
    button.dataset.some = n > 0;
  }
}

// sift hides the rows that are not asked for.
function sift() {
  const text = $("find").value.trim().toLowerCase();
  let shown = 0;
  for (const pool of state.pools) {
    const hidden = !kinds[kind].has(pool) || !pool.server.toLowerCase().includes(text);
    rows.get(pool.server).body.hidden = hidden;
    if (!hidden) shown++;
  }
  const many = state.pools.length;
  $("table").hidden = shown === 0;
  $("legend").hidden = shown === 0 || state.connections.length === 0;
  $("empty").hidden = shown > 0;
  setText($("empty"), many === 0 ? "There are no pools: the configuration of this gateway names no server." : `None of the ${count(many)} pools is like that.`);
  for (const id of ["pause-all", "resume-all"]) $(id).disabled = many === 0;
}

// ---- a pool ----

function newRow(server) {
  const row = { server, cells: {}, boxes: new Map(), all: false, slow: false };
  const line = makeCell("tr", "row");
  line.className = "pool";
  row.name = makeButton("name", server, () => choose(chosen === server ? "*" : server));
  row.name.title = "Show the last hour of this pool alone";
  row.marks = make("span", "marks");
  const head = makeCell("th", "rowheader", make("div", "head", row.name, row.marks));
  head.scope = "row";
  line.append(head);
  for (const [name, label] of [["calls", "Calls/s"], ["flight", "In flight"], ["waiting", "Waiting"], ["p50", "p50"], ["p99", "p99"], ["errors", "Errors"], ["reuse", "Reuse"], ["avoided", "Handshakes avoided"]]) {
    const main = make("span", "main");
    const more = make("span", "more");
    const cell = makeCell("td", "cell", main, " ", more);
    cell.className = "n";
    cell.dataset.label = label;
    row.cells[name] = { cell, main, more };
    line.append(cell);
  }
  row.toggle = makeButton("", "Pause", () => (row.paused ? resume(server) : pause(server)));
  row.reset = makeButton("", "Reset", () => reset(server));
  row.reset.title = "Calls go to new connections; the old ones close after their last call";
  row.drain = makeButton("", "Drain…", () => drain(server));
  setAttribute(row.reset, "aria-label", `Reset ${server}`);
  setAttribute(row.drain, "aria-label", `Drain… ${server}`);
  const last = makeCell("td", "cell", make("div", "verbs", row.toggle, row.reset, row.drain));
  last.className = "do";
  line.append(last);

  row.strip = make("div", "strip");
  row.strip.setAttribute("role", "toolbar");
  row.strip.setAttribute("aria-label", `Connections of ${server}`);
  row.strip.addEventListener("keydown", (key) => walk(row, key));
  row.more = makeButton("plain", "", () => {
    row.all = !row.all;
    draw();
  });
  row.opening = make("span", "opening");
  row.waits = make("p", "waits");
  const wide = makeCell("td", "cell", row.strip, row.opening, row.more, row.waits);
  wide.colSpan = 10;
  row.below = makeCell("tr", "row", wide);
  row.below.className = "below";
  row.body = makeCell("tbody", "rowgroup", line, row.below);
  return row;
}

function fill(cell, main, more, level) {
  setText(cell.main, main);
  setText(cell.more, more ?? "");
  cell.cell.dataset.level = level ?? "";
}

function drawRow(row, pool, connections, waits) {
  const { server } = row;
  const r = rates.get(server) ?? {}; // none after nothing was heard for a while
  const c = row.cells;
  row.paused = pool.paused;
  row.body.dataset.chosen = chosen === server;
  setAttribute(row.name, "aria-pressed", String(chosen === server));
  drawMarks(row.marks, pool);
  setText(row.toggle, pool.paused ? "Resume" : "Pause");
  setAttribute(row.toggle, "aria-label", `${pool.paused ? "Resume" : "Pause"} ${server}`);
  row.toggle.classList.toggle("primary", pool.paused);

  const quiet = pool.call.count === 0;
  fill(c.calls, rate(r.calls), "", r.calls ? "" : "none");
  fill(c.flight, count(pool.calls_in_flight), pool.slots ? `of ${count(pool.slots)}` : "", pool.calls_in_flight ? "" : "none");
  fill(c.waiting, count(pool.waiting), pool.waiting ? waited(pool) : "", pool.waiting ? "wait" : "none");
  fill(c.p50, quiet ? none : duration(pool.call.p50_seconds), "", quiet ? "none" : "");
  fill(c.p99, quiet ? none : duration(pool.call.p99_seconds), "", quiet ? "none" : "");
  fill(c.errors, count(pool.errors), pool.errors ? percent(pool.errors / Math.max(pool.calls, pool.errors)) : "", pool.errors ? (kinds.failing.has(pool) ? "bad" : "") : "none");
  const used = pool.opened > 0 && pool.calls > 0; // else calls came to nothing
  fill(c.reuse, used ? percent(pool.reuse_ratio) : none, "", used ? "" : "none");
  fill(c.avoided, used ? count(pool.handshakes_avoided) : none, used ? duration(pool.handshake_seconds_avoided) : "", used ? "" : "none");

  drawStrip(row, connections);
  setText(row.opening, pool.opening ? `${pool.opening} opening` : "");
  row.opening.hidden = pool.opening === 0;
  const names = waits.slice(0, 5).map((w) => `${w.principal || "nobody in particular"} ${count(w.waiting)} (${waited(w)})`);
  if (waits.length > 5) names.push(`${waits.length - 5} more principals`);
  const whom = waits.some((w) => w.principal) ? ": " + names.join(", ") : `, the first for ${waited(pool)}`;
  setText(row.waits, pool.waiting ? callers(pool.waiting) + (pool.paused ? " for the pool to go on" : "") + whom : "");
  row.waits.hidden = pool.waiting === 0;
  row.below.hidden = connections.length === 0 && pool.opening === 0 && pool.waiting === 0;
}

function drawMarks(marks, pool) {
  const wanted = [];
  if (pool.paused) wanted.push(["pause", "paused"]);
  if (pool.breaker === "open") wanted.push(["bad", "server away"]);
  if (pool.breaker === "half-open") wanted.push(["bad", "server away, being tried"]);
  if (pool.health === "failing") wanted.push(["bad", "cannot connect"]);
  const key = JSON.stringify(wanted);
  if (marks.dataset.key === key) return;
  marks.dataset.key = key;
  marks.replaceChildren(...wanted.map(([className, text]) => make("span", "mark " + className, text)));
}

// ---- a connection ----

const numberOf = (one) => (one.id.startsWith(one.server + "-") ? one.id.slice(one.server.length + 1) : one.id);

function drawStrip(row, connections) {
  connections.sort((a, b) => numberOf(a).localeCompare(numberOf(b), "en", { numeric: true }));
  const shown = row.all ? connections : connections.slice(0, manyConnections);
  const ids = new Set(shown.map((one) => one.id));
  const focused = [...row.boxes].find(([, box]) => box.element === document.activeElement)?.[0];
  let lostFocus;
  for (const [id, box] of row.boxes) {
    if (ids.has(id)) continue;
    if (id === focused) lostFocus = [...row.strip.children].indexOf(box.element);
    box.element.remove();
    row.boxes.delete(id);
  }
  shown.forEach((one, i) => {
    let box = row.boxes.get(one.id);
    if (!box) row.boxes.set(one.id, box = newBox(one));
    if (row.strip.children[i] !== box.element) row.strip.insertBefore(box.element, row.strip.children[i] ?? null);
    drawBox(box, one);
  });
  row.strip.hidden = shown.length === 0;
  // Tab goes to one box of a pool, the arrows to the others.
  const boxes = [...row.strip.children];
  const current = boxes.find((box) => box.tabIndex === 0) ?? boxes[0];
  for (const box of boxes) box.tabIndex = box === current ? 0 : -1;
  if (lostFocus !== undefined) (boxes[Math.min(lostFocus, boxes.length - 1)] ?? row.name).focus();
  row.more.hidden = connections.length <= manyConnections;
  setText(row.more, row.all ? "show fewer" : `${count(connections.length - shown.length)} more`);
  setAttribute(row.more, "aria-label", `${row.more.textContent} connections of ${row.server}`);
}

// newBox makes the box of a connection. What its place says to the eye, words that
// are not seen say to a screen reader.
function newBox(one) {
  const box = { id: make("span", "id", "#" + numberOf(one)), load: make("span", "load"), age: make("span", "age"), used: make("span", "used") };
  box.state = make("span", "unseen");
  box.errors = make("span", "unseen");
  box.element = makeButton("box", "", () => openStory(one.id));
  box.element.tabIndex = -1;
  box.element.append(box.id, box.state, box.load, make("span", "unseen", " slots in use, open for "), box.age, make("span", "unseen", ", used "), box.used, box.errors);
  return box;
}

function drawBox(box, one) {
  const ago = one.calls_in_flight > 0 ? 0 : Math.max(0, (Date.now() - ahead - Date.parse(one.last_use)) / 1000);
  setText(box.state, `, ${one.state}, `);
  setText(box.load, `${one.calls_in_flight}/${one.slots}`);
  setText(box.age, period(one.age_seconds + since()));
  setText(box.used, one.state !== "ready" ? one.state : ago < 1 ? "now" : period(ago) + " ago");
  setText(box.errors, one.errors ? `, ${count(one.errors)} of ${count(one.calls)} calls failed` : "");
  box.element.dataset.state = one.state !== "ready" ? one.state : one.calls_in_flight === 0 ? "idle" : one.calls_in_flight >= one.slots ? "full" : "busy";
  box.element.style.setProperty("--load", String(one.slots ? one.calls_in_flight / one.slots : 0));
}

// walk goes along the boxes of a pool.
function walk(row, key) {
  const boxes = [...row.strip.children];
  const at = boxes.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: boxes.length - 1 }[key.key];
  if (at < 0 || to === undefined || key.altKey || key.ctrlKey || key.metaKey) return;
  key.preventDefault();
  const next = boxes[Math.max(0, Math.min(to, boxes.length - 1))];
  boxes[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// ---- the story of a connection ----

let told; // the id, and what is shown of it

function openStory(id) {
  told = { id };
  setText($("story-title"), id);
  $("facts").replaceChildren();
  $("events").replaceChildren();
  setText($("story-when"), "");
  $("story-fault").hidden = true;
  $("kill").hidden = true;
  $("story").showModal();
  drawStory();
}

async function drawStory() {
  const mine = told;
  if (mine.asking) return;
  mine.asking = true;
  let one, fault;
  try {
    one = await getJSON(connectionPath(mine.id));
  } catch (err) {
    fault = err;
  }
  mine.asking = false;
  if (mine !== told) return;
  $("story-fault").hidden = !fault;
  if (fault) {
    setText($("story-fault"), fault instanceof Fault ? fault.message : "The gateway does not answer.");
    return;
  }
  const facts = [
    ["State", one.state],
    ["In flight", `${one.calls_in_flight} of ${one.slots} slots`],
    ["Calls", `${count(one.calls)}, ${one.errors ? count(one.errors) + " failed" : "none failed"}`],
    ["Open for", duration(one.age_seconds)],
    ["Opening took", duration(one.open_took_seconds)],
    ["Last use", one.calls_in_flight > 0 ? "now" : clock(new Date(one.last_use))],
    ["Protocol", [one.era, one.protocol_version].filter(Boolean).join(", ")],
    ["Server", [one.server_name, one.server_version].filter(Boolean).join(" ") || none],
    ["Group", one.group || none],
  ];
  if ($("facts").children.length !== facts.length) {
    $("facts").replaceChildren(...facts.map(([name]) => make("div", "", make("dt", "", name), make("dd", ""))));
  }
  facts.forEach(([, value], i) => setText($("facts").children[i].lastChild, value));
  const key = JSON.stringify(one.story);
  if (mine.key !== key) {
    mine.key = key;
    $("events").replaceChildren(...one.story.toReversed().map((event) => {
      const row = make("tr", "", make("td", "", clock(new Date(event.at))), make("td", "", event.event), make("td", "", event.detail));
      row.dataset.event = event.event;
      return row;
    }));
  }
  setText($("story-when"), one.state === "closed" ? "The connection is closed. Its story is known for an hour." : "The latest first.");
  $("kill").hidden = one.state === "closed";
  mine.inFlight = one.calls_in_flight;
  mine.server = one.server;
}

// ---- the verbs ----

let answer = () => {}; // to the question that is asked

// sure asks before something that cannot be taken back. It does not wait for the
// dialog to tell that it was closed: two of a frame are told as one.
function sure(title, text, verb) {
  answer(false);
  setText($("sure-title"), title);
  setText($("sure-text"), text);
  setText($("sure-yes"), verb);
  $("sure").showModal();
  return new Promise((decide) => {
    answer = (yes) => {
      answer = () => {};
      $("sure").close();
      decide(yes);
    };
  });
}

const named = (server) => (server === "*" ? "All pools" : server);

// verb waits for calls for a moment only: a browser makes six requests to a gateway
// at a time, and those that wait would keep others from being made.
async function verb(server, name, done, goesOn) {
  try {
    const wait = goesOn ? "?timeout_seconds=2" : "";
    const told = await (await ask("POST", `pools/${encodeURIComponent(server)}/${name}${wait}`)).json();
    say(`${named(server)}: ${done(told)}`);
  } catch (err) {
    if (name === "pause" && err.status === 409) return; // it was resumed, which is news of its own
    if (goesOn && err.status === 504) say(`${named(server)}: ${goesOn}`);
    else sayFault(`${named(server)}: ${name} did not end well`, err);
  }
}

async function pause(server) {
  if (server === "*" && !await sure("Pause all pools?", "New calls wait until they are resumed, and fail when they have waited for too long. Calls in flight go on.", "Pause all")) return;
  await verb(server, "pause", () => "paused; new calls wait", "paused; new calls wait, and those in flight still run");
}

function resume(server) {
  return verb(server, "resume", () => "resumed");
}

function reset(server) {
  return verb(server, "reset", (told) => `reset; ${connectionsOf(told)} close after their last call`);
}

async function drain(server) {
  const open = state.connections.filter((one) => one.server === server).length;
  if (!await sure(`Drain ${server}?`, `Its ${count(open)} connections close when their calls have ended. New calls open new ones, so no call fails.`, "Drain")) return;
  await verb(server, "drain", (told) => `drained; ${connectionsOf(told)} closed`, "draining; the connections close after their last call");
}

function connectionsOf(told) {
  const n = sum(told.pools, (pool) => pool.connections);
  return n === 1 ? "1 connection" : `${count(n)} connections`;
}

async function kill() {
  const { id, inFlight } = told;
  const means = inFlight === 0 ? "No call is in flight on it now." :
    inFlight === 1 ? "The call that is in flight on it fails. It may have run, and is not sent again." :
    `The ${count(inFlight)} calls that are in flight on it fail. They may have run, and are not sent again.`;
  if (!await sure(`Kill ${id}?`, `It is closed at once. ${means}`, "Kill")) return;
  try {
    const { calls } = await (await ask("POST", connectionPath(id) + "/kill")).json();
    say(`${id}: killed; ${calls === 1 ? "1 call was" : count(calls) + " calls were"} cut off`);
    $("story-close").focus(); // the other button goes
    drawStory();
  } catch (err) {
    sayFault(`${id}: kill did not end well`, err);
  }
}

// ---- the last hour ----

const hour = 3600; // s
const shortest = 120; // s that the charts are wide at least
const chart = { width: 240, height: 44 };
let past; // the history of what is chosen

// Each card has a number, and all but the last the hour that has led to it.
const cards = [
  { name: "Calls/s", series: (h) => h.series.calls.map((n) => n / h.step_seconds), now: (pools) => total(pools, "calls"), show: rate },
  { name: "Latency, p99", series: (h) => h.series.p99_seconds.map((s, i) => (h.series.calls[i] ? s : null)), now: () => past?.series.p99_seconds.at(-1) || undefined, show: (s) => (s === undefined ? none : duration(s)) },
  { name: "Callers waiting", series: (h) => h.series.waiting, now: (pools) => sum(pools, (pool) => pool.waiting), show: count, level: (n) => (n ? "wait" : "") },
  { name: "Connections", series: (h) => h.series.connections, now: (pools) => sum(pools, (pool) => pool.connections), show: count },
  { name: "Errors/s", series: (h) => h.series.errors.map((n) => n / h.step_seconds), now: (pools) => total(pools, "errors"), show: rate, level: (n) => (n ? "bad" : "") },
  { name: "Handshakes avoided", now: (pools) => sum(pools.filter((pool) => pool.opened > 0), (pool) => pool.handshakes_avoided), show: count },
];

function total(pools, what) {
  const known = pools.map((pool) => rates.get(pool.server)?.[what]).filter((n) => n !== undefined);
  return known.length > 0 || pools.length === 0 ? sum(known, (n) => n) : undefined;
}

function newCards() {
  for (const card of cards) {
    card.value = make("p", "value");
    card.foot = make("p", "foot muted");
    card.element = make("li", "card", make("h3", "", card.name), card.value);
    if (card.series) {
      card.area = makeSVG("path", { class: "area" });
      card.line = makeSVG("path", { class: "line" });
      card.at = makeSVG("line", { class: "at", y1: 0, y2: chart.height, x1: -1, x2: -1 });
      card.svg = makeSVG("svg", { viewBox: `0 0 ${chart.width} ${chart.height}`, preserveAspectRatio: "none", role: "img", "aria-label": card.name });
      card.svg.append(card.area, card.line, card.at);
      card.svg.addEventListener("pointermove", (pointer) => point(card, pointer));
      card.svg.addEventListener("pointerleave", () => point(card));
      card.element.append(card.svg);
    } else {
      card.saved = make("p", "saved");
      card.element.append(card.saved);
    }
    card.element.append(card.foot);
    $("cards").append(card.element);
  }
}

const inScope = () => (chosen === "*" ? state.pools : state.pools.filter((pool) => pool.server === chosen));

function drawCards() {
  const pools = inScope();
  for (const card of cards) {
    const now = card.now(pools);
    setText(card.value, card.show(now));
    card.element.dataset.level = card.level?.(now) ?? "";
    if (card.series) continue;
    const seconds = sum(pools, (pool) => pool.handshake_seconds_avoided);
    const avoided = sum(pools, (pool) => pool.handshakes_avoided);
    const carried = avoided + sum(pools, (pool) => pool.opened);
    const reuse = carried ? avoided / carried : undefined;
    setText(card.saved, seconds ? `${duration(seconds)} that callers would have waited` : "");
    setText(card.foot, reuse === undefined ? "no calls yet" : `${percent(reuse)} of calls went to an open connection`);
  }
}

function drawHistory() {
  for (const card of cards) {
    if (!card.series) continue;
    card.points = card.series(past);
    const most = Math.max(0, ...card.points);
    const top = most || 1;
    const step = chart.width * past.step_seconds / past.span; // the right end is now
    const x = (i) => chart.width - (card.points.length - 1 - i) * step;
    const y = (value) => chart.height - 1 - (value / top) * (chart.height - 4);
    let line = "", area = "", from = null;
    card.points.forEach((value, i) => {
      if (value === null) return;
      const here = `${x(i).toFixed(1)},${y(value).toFixed(1)}`;
      if (from === null) {
        from = x(i);
        line += "M" + here;
        area += `M${from.toFixed(1)},${chart.height}L${here}`;
      } else {
        line += "L" + here;
        area += "L" + here;
      }
      if (i === card.points.length - 1 || card.points[i + 1] === null) {
        line += "h.1"; // so that a single sample is seen
        area += `V${chart.height}Z`;
        from = null;
      }
    });
    card.line.setAttribute("d", line);
    card.area.setAttribute("d", area);
    card.highest = card.points.length > 0 ? `highest ${card.show(most)}` : "no samples yet";
    setAttribute(card.svg, "aria-label", `${card.name}, ${card.highest} in the time shown`);
    if (!card.pointed) setText(card.foot, card.highest);
  }
}

// point shows what was where the pointer is.
function point(card, pointer) {
  if (!past) return;
  const step = past.step_seconds;
  const box = card.svg.getBoundingClientRect();
  const back = pointer ? Math.round((1 - (pointer.clientX - box.left) / box.width) * past.span / step) : 0;
  const value = pointer && card.points?.at(-1 - back);
  card.pointed = value !== undefined && value !== null;
  const at = card.pointed ? chart.width * (1 - back * step / past.span) : -1;
  card.at.setAttribute("x1", at);
  card.at.setAttribute("x2", at);
  setText(card.foot, card.pointed ? `${clock(new Date(Date.now() - back * step * 1000))}  ${card.show(value)}` : card.highest ?? "");
}

let asked = 0; // how often the history was

async function askHistory() {
  const mine = ++asked;
  try {
    const history = await getJSON(`history?seconds=${hour}` + (chosen === "*" ? "" : `&server=${encodeURIComponent(chosen)}`));
    if (mine !== asked) return;
    past = history;
    past.span = Math.max(shortest, (past.series.calls.length - 1) * past.step_seconds);
    drawHour();
    drawHistory();
    if (state) drawCards();
  } catch { /* the stream tells that the gateway is gone */ }
}

function drawHour() {
  const long = !past || past.span > hour - 60 ? "hour" : period(past.span);
  setText($("hour"), `Last ${long}, ${chosen === "*" ? "all pools" : chosen}`);
}

function choose(server) {
  chosen = server;
  drawHour();
  if (server === "*" && document.activeElement === $("all")) $("hour").focus();
  $("all").hidden = server === "*";
  askHistory();
  draw();
}

// ---- the beginning ----

$("again").addEventListener("click", () => tryNow());
$("forget").addEventListener("click", () => {
  forget();
  location.reload();
});
$("find").addEventListener("input", () => state && sift());
$("all").addEventListener("click", () => choose("*"));
$("pause-all").addEventListener("click", () => pause("*"));
$("resume-all").addEventListener("click", () => resume("*"));
$("story-close").addEventListener("click", () => $("story").close());
$("story").addEventListener("close", () => {
  // The box that it was opened from may be gone.
  if (document.activeElement === document.body) rows.get(told.server)?.name.focus();
  told = undefined;
});
$("kill").addEventListener("click", kill);
$("sure-no").addEventListener("click", () => answer(false));
$("sure-yes").addEventListener("click", () => answer(true));
$("sure").addEventListener("cancel", () => answer(false)); // by Esc
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state) draw();
});

newCards();
setInterval(() => {
  if (!document.hidden && $("link").dataset.state === "live") askHistory();
}, 5_000);
setInterval(() => {
  if (!document.hidden && state && since() > 0.9) draw();
}, 1_000);
run();
