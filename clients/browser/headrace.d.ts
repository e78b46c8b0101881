/** The browser client of headrace: import it from /headrace.mjs, or use the global of /headrace.js. */

export as namespace headrace;

export type EventType = "PING" | "VIEW" | "CLICK" | "EXIT" | "PURCHASE" | "TRANSACTION" | "REGISTRATION" | (string & {});

/** Members of an event; docs/EVENTS.md lists those with a column. Others are kept in `properties`. */
export interface Fields {
  eventId?: string;
  pingId?: string;
  clientId?: string;
  anonId?: string;
  userId?: string;
  eventLocation?: string;
  clickAction?: string;
  contentId?: string;
  url?: string;
  [name: string]: unknown;
}

export interface Options {
  /** The collector's /collect/event, with ?key= where keys are in use; by default that of the script's own address. */
  url?: string;
  clientId?: string;
  userId?: string;
  /** Members of every event. */
  fields?: Fields;
  /** How long events are gathered before they are sent; 1000. */
  flushMs?: number;
  /** The time between two PINGs; 15000. It counts before the first event. */
  pingMs?: number;
  /** The first pause after a failure; it doubles up to a minute, and is never shorter than a Retry-After. 1000. */
  backoffMs?: number;
  /** Hears of each event that is given up: the collector refused it, or the queue of 1000 was full. What it throws is
   * reported as an error of the page, and changes nothing else. */
  onRefused?: (event: Fields & { eventType: string; eventId: string }, reason: string) => void;
}

/** Set options and send what earlier pages left. Call it before the first event. */
export function init(options?: Options): void;
/** Add an event to the queue; return its eventId. */
export function track(eventType: EventType, fields?: Fields): string;
/** Begin a page view: an EXIT of the one before, a VIEW now, a PING every 15 s, an EXIT at the end. Return its UUID. */
export function view(fields?: Fields): string;
/** Send now, unless a pause after a failure lasts; resolves at the end of the attempt. */
export function flush(): Promise<void>;
/** How many events no answer has confirmed yet. */
export function pending(): number;

declare const headrace: {
  init: typeof init; track: typeof track; view: typeof view; flush: typeof flush; pending: typeof pending;
};
export default headrace;
