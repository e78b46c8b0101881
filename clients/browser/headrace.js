// headrace in a browser; docs/CLIENTS.md describes it. The ingress serves this file without its comments, and as an ES
// module with another last line. An event stays in localStorage until an answer confirms it, and keeps its id, so that a retry is no
// second event.
var headrace = ((script) => {
  "use strict";
  const VISITOR = "headrace:anonId";
  const QUEUE_MAX = 1000; // events
  const BATCH_MAX = 50;
  const BATCH_BYTES_MAX = 40000; // browsers bound what outlives a page, at 64 KiB
  const PAUSE_MS_MAX = 60000;
  const RETRY_AFTER_S_MAX = 3600;
  const options = {
    url: script.src.replace(/headrace(\/[^/]*\/headrace)?\.m?js([?#].*)?$/, "collect/event"),
    fields: {},
    flushMs: 1000,
    pingMs: 15000,
    backoffMs: 1000,
    onRefused() {},
  };
  const queue = new Map(); // eventId to the event as JSON, in the order of sending
  let events, page, depth, height, pings, anonId, timer, sending, gone, last = 0;
  let batchMax = BATCH_MAX, failures = 0, notBefore = 0, retryAfterMs = 0;

  // Storage may be full, or forbidden: then the queue lives as long as the page.
  const stored = (use) => { try { return use(localStorage); } catch { return null; } };
  const now = () => performance.now(); // the user may set the clock

  // A UUIDv7. The time rises with each id, so that ids sort in the order of events.
  function newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    last = Math.max(Date.now(), last + 1);
    for (let i = 5, rest = last; i >= 0; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
    bytes[6] = bytes[6] & 15 | 112;
    bytes[8] = bytes[8] & 63 | 128;
    const hex = Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join("");
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }

  // Sec-GPC and DNT: no id of the visitor is kept from page to page.
  function visitor() {
    if (navigator.globalPrivacyControl || navigator.doNotTrack === "1") {
      stored((it) => it.removeItem(VISITOR));
      return newId();
    }
    const id = stored((it) => it.getItem(VISITOR)) || newId();
    stored((it) => it.setItem(VISITOR, id));
    return id;
  }

  function keep(id, event) {
    queue.set(id, event);
    stored((it) => it.setItem(events + id, event));
  }

  function forget(id, reason) {
    const event = queue.get(id);
    queue.delete(id);
    stored((it) => it.removeItem(events + id));
    if (!event || !reason) return;
    try {
      options.onRefused(JSON.parse(event), reason);
    } catch (error) { // the page hears of its mistake, and the other events go on
      setTimeout(() => { throw error; });
    }
  }

  function start() {
    if (anonId) return;
    anonId = visitor();
    // Applications of one origin share its storage, but no queue: their events have other collectors, keys and clientIds.
    events = `headrace:${options.clientId || ""}@${options.url.split("?")[0]}:`;
    const left = stored((it) => Object.keys(it)) || [];
    for (const key of left.filter((it) => it.startsWith(events)).sort().slice(-QUEUE_MAX)) {
      const event = stored((it) => JSON.parse(it.getItem(key)) && it.getItem(key));
      if (event) queue.set(key.slice(events.length), event);
    }
    addEventListener("pagehide", leave);
    addEventListener("pageshow", (event) => { if (event.persisted) page ? view(page.fields) : later(); gone = 0; });
    addEventListener("online", () => { notBefore = now() + (retryAfterMs && notBefore - now()); flush(); });
    addEventListener("visibilitychange", () => document.hidden && !gone && flush());
    addEventListener("scroll", measure, { passive: true });
    setInterval(ping, options.pingMs);
    later();
  }

  function later() {
    clearTimeout(timer);
    timer = queue.size ? setTimeout(flush, Math.max(options.flushMs, notBefore - now())) : 0;
  }

  // The first events of the queue, as [ids, body].
  function batch(skipped = 0) {
    const ids = [], texts = [];
    let bytes = 0;
    for (const [id, event] of [...queue].slice(skipped)) {
      bytes += new Blob([event]).size;
      if (ids.length && (ids.length >= batchMax || bytes > BATCH_BYTES_MAX)) break;
      ids.push(id);
      texts.push(event);
    }
    return [ids, `{"messageBody":[${texts}]}`];
  }

  function flush() {
    sending = sending || deliver().finally(() => { sending = 0; later(); });
    return sending;
  }

  async function deliver() {
    while (queue.size && now() >= notBefore) {
      const [ids, body] = batch();
      let answer, said;
      try {
        // A text body needs no preflight.
        answer = await fetch(options.url, {
          method: "POST", body, credentials: "omit", keepalive: new Blob([body]).size < 60000,
          signal: AbortSignal.timeout && AbortSignal.timeout(30000),
        });
        said = await answer.json();
      } catch {}
      if (answer && answer.status === 201) {
        ids.forEach((id) => forget(id));
        batchMax = BATCH_MAX;
        failures = retryAfterMs = 0;
      } else if (said && said.statusCode === answer.status && (answer.status === 400 || answer.status === 413)) {
        refuse(ids, said);
      } else {
        retryAfterMs = 1000 * Math.min(answer && answer.headers.get("Retry-After") || 0, RETRY_AFTER_S_MAX) || 0;
        const pauseMs = Math.min(options.backoffMs * 2 ** failures++, PAUSE_MS_MAX) * (1 + Math.random()) / 2;
        notBefore = now() + Math.max(pauseMs, retryAfterMs);
      }
    }
  }

  // Nothing of a refused request was taken: drop the events that it names, or find the bad one by halves.
  function refuse(ids, said) {
    const bad = (said.details || []).filter((it) => ids[it.index]);
    if (bad.length) bad.forEach((it) => queue.has(ids[it.index]) && forget(ids[it.index], it.message));
    else if (ids.length > 1) batchMax = ids.length >> 1;
    else forget(ids[0], said.message);
  }

  // A beacon has no answer: what it carries stays in the queue, and is sent again. One too large stops no other.
  function leave() {
    if (page) {
      measure();
      exit();
    }
    gone = 1;
    for (let sent = 0; sent < queue.size;) {
      const [ids, body] = batch(sent);
      navigator.sendBeacon(options.url, body);
      sent += ids.length;
    }
  }

  function measure() {
    height = document.documentElement.scrollHeight;
    depth = Math.max(depth, Math.min(100, Math.round((scrollY + innerHeight) * 100 / height)) || 0);
  }

  const position = () => height && { scrollDepth: depth, pageLength: height };

  function ping() {
    if (!page || document.hidden) return;
    measure();
    track("PING", { active: document.hasFocus() ? 1 : 0, counter: ++pings, ...position() });
  }

  // Of the page as it was: the next one may stand in its place already.
  const exit = () => track("EXIT", { url: page.url, ...position() });

  function init(given) {
    Object.assign(options, given);
    start();
  }

  // A page that a browser prerenders may never be shown: what happens there waits until it is.
  const whenShown = (use) => document.addEventListener("prerenderingchange", use, { once: true });

  function track(eventType, fields) {
    const eventId = fields && fields.eventId || newId();
    if (document.prerendering) {
      whenShown(() => track(eventType, { ...fields, eventId }));
      return eventId;
    }
    start();
    const { clientId, userId } = options;
    const event = {
      eventType, timestamp: Date.now(), clientId, userId, anonId, url: location.href,
      ...(page && { pingId: page.id, eventLocation: page.fields.eventLocation }), ...options.fields,
      ...(page && page.fields.contentId && { contentId: page.fields.contentId }), ...fields, eventId,
    };
    if (queue.size >= QUEUE_MAX) forget(queue.keys().next().value, "the queue is full");
    keep(eventId, JSON.stringify(event));
    if (!sending && queue.size >= BATCH_MAX) flush();
    else if (!timer) later();
    return eventId;
  }

  function view(fields, id = newId()) {
    if (document.prerendering) {
      whenShown(() => view(fields, id));
      return id;
    }
    if (page && !gone) exit();
    page = { id, url: location.href, fields: { eventLocation: "PAGE", ...fields } };
    depth = height = pings = 0;
    return track("VIEW", { ...page.fields, eventId: id });
  }

  const { clientId, key } = script.dataset;
  if (key) options.url += `?key=${encodeURIComponent(key)}`;
  if (clientId) {
    options.clientId = clientId;
    view();
  }
  return { init, track, view: (fields) => view(fields), flush, pending: () => queue.size };
})(document.currentScript);
