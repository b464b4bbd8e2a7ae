// What callers of a client see. The published clients declare their API with this file, so it names no type of Node or
// of grpc-js: consumers compile it without @types/node.
import type { MethodContract, ServiceContract } from '@armature/proto/contract.ts';
import type { CallContext, Interceptor } from '../context/call-context.ts';
import type { TlsFiles } from '../credentials/tls-paths.ts';
import type { CompatibleAbortSignal } from '../time/abort-signal.ts';

type Builtin = Date | Uint8Array | string | number | bigint | boolean | undefined;
/** A message whose optional fields may be missing; ts-proto fills in the zero values. */
export type Init<T> = T extends Builtin
  ? T
  : T extends (infer U)[]
    ? Init<U>[]
    : T extends { $case: string }
      ? { [K in keyof Omit<T, '$case'>]?: Init<T[K]> | undefined } & { $case: T['$case'] }
      : { [K in keyof T]?: Init<T[K]> | undefined };

/** One promise method per unary RPC, one async iterable per stream. */
export type Client<C extends ServiceContract> = {
  [M in keyof C['methods']]: C['methods'][M] extends MethodContract<infer Request, infer Response, infer Kind>
    ? Kind extends 'unary'
      ? (message: Init<Request>, options?: CallOptions) => Promise<Response>
      : (message: Init<Request>, options?: CallOptions) => AsyncIterable<Response>
    : never;
} & {
  /**
   * Ends the calls in progress with CANCELLED, and the connections within a second. A call that is made later is
   * refused with CANCELLED. Closing twice does nothing.
   */
  close(): void;
};

export interface CallOptions {
  /**
   * The call on whose behalf this one is made: its deadline and cancellation cascade, and its user's token is
   * forwarded.
   */
  parent?: CallContext | undefined;
  /**
   * Milliseconds for the whole call; the contract's default when left out. More than the contract's maximum means the
   * maximum, 0 or less that the call ends with DEADLINE_EXCEEDED.
   */
  timeoutMs?: number | undefined;
  /** An access token of the user, when there is no parent that has one. */
  token?: string | undefined;
  signal?: CompatibleAbortSignal | undefined;
}

/** What a token source is told of a call that needs a token. */
export interface TokenOptions {
  /** Aborted when the call ends without a token. */
  readonly signal: CompatibleAbortSignal;
}

/** Returns the token of a call, or undefined for none. */
export type TokenFunction = (options: TokenOptions) => string | undefined | PromiseLike<string | undefined>;

/** Keeps an access token and gets a new one in time. */
export interface TokenSource {
  token(options: TokenOptions): string | undefined | PromiseLike<string | undefined>;
  /** Called when a server has refused the token: the next call needs another one. */
  refused?(token: string): void;
}

export interface ClientOptions {
  /**
   * host:port of every instance; calls are distributed round robin. Host names, IPv4 addresses and IPv6 addresses in
   * brackets may be mixed. A host name stands for all addresses that it resolves to.
   */
  addresses: readonly string[];
  /** Files are read every two seconds, and new certificates are used without a failed call. */
  tls: TlsFiles;
  /** The workload that must serve the connection, such as "service:orders". */
  expectWorkload: string;
  trustDomain?: string | undefined;
  /** The token of every call that has none of its own. The time that it takes counts against the deadline. */
  token?: TokenFunction | TokenSource | undefined;
  /** Additional interceptors, outermost first; services add their metrics here. */
  interceptors?: ((method: MethodContract) => readonly Interceptor[]) | undefined;
}
