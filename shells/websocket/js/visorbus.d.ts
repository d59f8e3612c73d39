/** A client of a Visorbus hub over a WebSocket. See docs/websocket.md, "From JavaScript". */

/** The subprotocol: one envelope in JSON per text message. */
export const SUBPROTOCOL: 'visorbus.v1.json';

/**
 * Connects to a hub, says hello and logs in; gives the client once it is let in. Throws a `VisorbusError` if the first
 * try fails; after that the client comes back by itself.
 *
 * @param url `wss://…` or `ws://…`. Never put a token into it.
 */
export function connect(url: string | URL, options?: ConnectOptions): Promise<Client>;

export interface ConnectOptions {
  /**
   * The name on the bus: the token's subject or the account's name, or one of these followed by a dot and more. Left out, it
   * is one of the latter kind. With other credentials it must be given.
   */
  name?: string;
  /** Short for `credentials: { token }`. */
  token?: string;
  /** Without any, call `authenticate` within five seconds. */
  credentials?: Credentials;
  /** For the connection, the login and each request that says no other time; 5000 by default. */
  timeoutMs?: number;
  /** Milliseconds between heartbeats, as the hub wishes by default. A hub that is silent for two of them is gone; 0: none. */
  heartbeatMs?: number;
  /** How it comes back: first after about `minMs` (250), then ever more slowly up to `maxMs` (10 000); false: not at all. */
  reconnect?: false | { minMs?: number; maxMs?: number };
  /** Listeners that hear of the first connection too, of the token of a login for example. */
  on?: { [E in keyof ClientEvents]?: (detail: ClientEvents[E]) => void };
  /** Node only: the CA to trust, and the certificate to show, in PEM, as `tls.connect` takes them. */
  tls?: { ca?: string | Uint8Array; cert?: string | Uint8Array; key?: string | Uint8Array };
}

export type Credentials =
  | { token: string }
  | { username: string; password: string }
  | { apiKey: string }
  /** The certificate that was shown when the connection was made. */
  | 'certificate';

/** A token that the hub made, and what it says of itself. */
export interface AuthToken {
  value: string;
  /** Unix seconds; null: never. */
  expiration: number | null;
  scope: string[];
  issuer: string;
}

export type ErrorKind =
  | 'Authentication'
  | 'Authorization'
  | 'Connection'
  | 'Message'
  | 'Timeout'
  | 'Serialization'
  | 'Protocol'
  | 'Internal';

/** What went wrong. A handler that throws one answers with it as it is. */
export class VisorbusError extends Error {
  constructor(kind: ErrorKind, text: string);
  readonly kind: ErrorKind;
  /** What, where, and what to do. */
  readonly text: string;
}

/** What goes as a payload: what JSON can say, bytes, or nothing. */
export type Payload = unknown;

export type Priority = 'Low' | 'Normal' | 'High' | 'Critical';

/** What a hub does for a subscriber that does not keep up: only what waits is ever dropped. */
export type Policy = 'latest' | { drop_oldest: number } | 'disconnect';

export interface RequestOptions {
  timeoutMs?: number;
  priority?: Priority;
  /** Gives the request up: the hub and the callee are told. */
  signal?: AbortSignal;
}

export interface SubscribeOptions {
  /** The hub's own choice, `{ drop_oldest: 1024 }`, if left out. */
  policy?: Policy;
  /** How many wait here for who iterates, at most; older ones are dropped and counted. 1024 by default. */
  queue?: number;
}

/** A notification that came. */
export interface Delivery<T = Payload> {
  topic: string;
  payload: T;
  /** Who published it. */
  source: string;
  id: string;
  /** Microseconds since 1970 in the hub's clock, or in the sender's own where there is no uncertainty. */
  timestamp?: number;
  /** By how much the timestamp may be wrong, in microseconds. */
  uncertaintyUs?: number;
  priority: Priority;
}

export class Subscription<T = Payload> implements AsyncIterable<Delivery<T>> {
  readonly pattern: string;
  /** How many the hub has dropped because this end did not read. */
  readonly missed: number;
  /** How many were dropped here because nobody iterated. */
  readonly dropped: number;
  /** Ends it; so does leaving a `for await` loop over it. */
  unsubscribe(): Promise<void>;
  [Symbol.asyncIterator](): AsyncIterator<Delivery<T>>;
}

/** What a handler is told of a call. */
export interface Call {
  id: string;
  /** Who calls. */
  source: string;
  address: string;
  timestamp?: number;
  /** How long the caller still waits. */
  timeoutMs?: number;
  /** Whether an answer goes anywhere: not for a notification. */
  expectsAnswer: boolean;
  /** Aborted when nobody waits for the answer any more. */
  signal: AbortSignal;
}

export type Handler = (payload: any, call: Call) => Payload | Promise<Payload>;

export interface ServeOptions {
  /** What a caller needs: a permission on the address (so by default), a scope, or nothing. */
  access?: 'permission' | { scope: string } | 'open';
}

export interface Service {
  readonly component: string;
  unregister(): Promise<void>;
}

export interface ServiceInfo {
  component: string;
  /** Name of the peer that has it; empty: the hub itself. */
  peer: string;
  /** How that peer is connected, for people. */
  transport: string;
  addresses: AddressInfo[];
}

export interface AddressInfo {
  address: string;
  kind: 'endpoint' | 'publishes' | 'hears';
  /** `open`, `permission` or `scope NAME`. */
  access: string;
  request_hash: string;
  response_hash: string;
}

export interface PeerInfo {
  /** With a question mark behind it while it is not proven. */
  name: string;
  origin: string;
  transport: 'unix' | 'serial' | 'spi' | 'websocket' | 'dbus' | 'unknown';
  authenticated: boolean;
  /** Microseconds since 1970. */
  connected_at_us: number;
  /** 16 hexadecimal digits, different at each start; null before its hello. */
  boot_id: string | null;
  wire_version: number | null;
  /** `requires-authentication`, `lane`, `compression`, `keyed`, `json`. */
  capabilities: string[];
  round_trip_us: number | null;
  frames_in: number;
  frames_out: number;
  bytes_in: number;
  bytes_out: number;
  queued_bytes: number;
  undecodable: number;
  refused: number;
  missed: number;
  late: number;
  sessions: number;
  faults: { name: string; count: number }[];
  clock: ClockInfo | null;
}

export interface ClockInfo {
  offset_us: number | null;
  drift_ppb: number | null;
  bound_us: number | null;
  exchanges: number;
  refused: number;
  restarts: number;
}

export interface Permission {
  operation: string;
  resource: string;
  constraints: Record<string, string> | null;
}

/** What the hub says of itself. */
export interface Hello {
  name: string;
  /** Differs at each start of the hub. */
  boot_id: string;
  requires_authentication: boolean;
  protocol: {
    version: string;
    supported_message_types: string[];
    supported_auth_methods: string[];
    max_message_size: number;
    heartbeat_interval_ms: number;
  };
}

export interface ClientEvents {
  /** The connection is there again, and with it subscriptions and components. */
  up: { hello: Hello };
  /** The connection is lost. */
  down: { reason: VisorbusError };
  /** It is tried again in so many milliseconds. */
  retrying: { delayMs: number; attempt: number; reason: VisorbusError };
  /** It will not come back: it was closed here, or the hub lets this client in no more. */
  closed: { reason: VisorbusError };
  /** The hub gave a token, by login or in place of the one before, which is void now. */
  token: AuthToken;
  /** Notifications of a subscription that were dropped because this end did not read. */
  missed: { pattern: string; count: number };
  /** The hub took something away. */
  revoked: { what: 'subscription' | 'component'; name: string; reason: string };
  /** The types of an address differ from those of who offers it. */
  mismatch: { address: string; text: string };
  /** Something that nobody waits for went wrong: what did not come back, a handler that failed, a renewal. */
  problem: { what: string; error: Error };
}

/** A client: one name on the bus, over as many connections as it takes. Only `connect` makes one. */
export class Client {
  private constructor();
  /** As `connect`. */
  static open(url: string | URL, options?: ConnectOptions): Promise<Client>;
  /** The name on the bus. */
  readonly name: string;
  readonly state: 'connecting' | 'up' | 'down' | 'closed';
  /** What the hub said of itself; null while there is no connection. */
  readonly hello: Hello | null;
  /** Gives a function that takes the listener off again. */
  on<E extends keyof ClientEvents>(event: E, listener: (detail: ClientEvents[E]) => void): () => void;
  /** Logs in; what is refused changes nothing. Gives the token that the hub made; null if a token was shown. */
  authenticate(credentials: Credentials): Promise<AuthToken | null>;
  /** Asks for a new token in the place of the own one, which is void from then on. Of a login it happens by itself. */
  refresh(): Promise<AuthToken>;
  /** Takes the own token back, for everybody who has it, and ends the connection for good. */
  revoke(): Promise<void>;
  /** Gives the answer's payload. Throws a `VisorbusError`; at once if the connection is or gets lost. */
  request<T = any>(address: string, payload?: Payload, options?: RequestOptions): Promise<T>;
  /** Sends a notification; throws if there is no connection. */
  notify(address: string, payload?: Payload, options?: { priority?: Priority }): void;
  /** Patterns select topics: `*` one segment, a last `**` the rest. Comes back with the connection. */
  subscribe<T = any>(pattern: string, callback: (delivery: Delivery<T>) => void): Promise<Subscription<T>>;
  subscribe<T = any>(
    pattern: string,
    options?: SubscribeOptions,
    callback?: (delivery: Delivery<T>) => void,
  ): Promise<Subscription<T>>;
  /** Answers requests, and hears notifications, at `component/KEY` for each key. Comes back with the connection. */
  serve(component: string, handlers: Record<string, Handler>, options?: ServeOptions): Promise<Service>;
  services(): Promise<ServiceInfo[]>;
  peers(): Promise<PeerInfo[]>;
  permissions(): Promise<Permission[]>;
  /**
   * Milliseconds that a heartbeat takes to the hub and back, and what the hub's clock shows more than this machine's, wrong
   * by half of that at most; null where the hub did not say.
   */
  ping(): Promise<{ roundTripMs: number; clockOffsetMs: number | null }>;
  /** Comes back now, if it is waiting to. */
  retryNow(): void;
  /** Ends it for good: what waits fails, subscriptions end. */
  close(): void;
}
