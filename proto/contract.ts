// The types of the contract tables that scripts/protoc-gen-armature generates: the options of
// methods and events, as data that the runtime reads once at start.

/** Encodes and decodes messages of one type. ts-proto's message objects are codecs. */
export interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  /** Throws on bytes that are not such a message. */
  decode(bytes: Uint8Array): T;
  /** Fills in default values for fields that are left out. */
  // biome-ignore lint/suspicious/noExplicitAny: ts-proto types this parameter as a deep partial of T, which differs by message
  fromPartial(value: any): T;
  fromJSON(value: unknown): T;
  toJSON(message: T): unknown;
}

/** One broken rule: the path of the field as in the proto file, a sentence, and the rule's id. */
export interface FieldViolation {
  field: string;
  description: string;
  reason: string;
}

/**
 * Appends a violation for each field that breaks a rule, at most `violationLimit` of rules.ts in all;
 * never throws. A message that keeps every rule costs no allocation.
 */
export type Validate<T> = (message: T, violations: FieldViolation[]) => void;

export type MethodKind = 'unary' | 'server_stream';

export type OwnerRule<Req> =
  | { readonly kind: 'field'; readonly field: string; readonly read: (message: Req) => string }
  | { readonly kind: 'loaded' };

/** The account that a method changes: a user or a client, by the field that holds its id. */
export interface TargetRule<Req> {
  readonly kind: 'user' | 'client';
  readonly field: string;
  readonly read: (message: Req) => string;
}

export interface IdempotencyRule<Req> {
  /** The field that holds the idempotency key. */
  readonly field: string;
  readonly read: (message: Req) => string;
  /** Returns the canonical form of a key: UUIDs in upper and lower case are equal. */
  readonly normalize?: (message: Req) => void;
}

// biome-ignore-start lint/suspicious/noExplicitAny: a table of methods holds every type; any stands for "whichever".
export interface MethodContract<Req = any, Res = any, Kind extends MethodKind = MethodKind> {
  /** Full name of the service, such as "armature.orders.v1.OrderService". */
  readonly service: string;
  /** As in the proto file: "PlaceOrder". */
  readonly name: string;
  /** "/armature.orders.v1.OrderService/PlaceOrder" */
  readonly path: string;
  readonly kind: Kind;
  /** "orders.place" */
  readonly permission: string;
  /** Null: the scope "own" never applies. */
  readonly owner: OwnerRule<Req> | null;
  /** The account that it changes; null: none. A caller must administer the rights of the target. */
  readonly target: TargetRule<Req> | null;
  /** Null: the method has no side effects. */
  readonly idempotency: IdempotencyRule<Req> | null;
  /** Whether every decision about it is recorded, not only denials. */
  readonly audit: boolean;
  /** Whether every response with data of another person is recorded. */
  readonly auditOthers?: boolean;
  readonly deadline: { readonly defaultMs: number; readonly maxMs: number };
  readonly request: Codec<Req>;
  readonly response: Codec<Res>;
  readonly validate: Validate<Req>;
}

export interface EventContract<E = any> {
  /** Full name of the message: "armature.orders.v1.OrderConfirmed". */
  readonly type: string;
  /** The service that publishes it: "orders". */
  readonly source: string;
  /** "order" */
  readonly aggregate: string;
  /** "orders.order.OrderConfirmed" */
  readonly routingKey: string;
  /** The permission that the publisher needs: "orders.publish". */
  readonly permission: string;
  readonly message: Codec<E>;
  readonly aggregateId: (message: E) => string;
}
// biome-ignore-end lint/suspicious/noExplicitAny: as above.

export interface ServiceContract<
  Methods extends Readonly<Record<string, MethodContract>> = Readonly<Record<string, MethodContract>>,
> {
  /** Full name: "armature.orders.v1.OrderService". */
  readonly name: string;
  /** Domain of its error reasons: "orders.armature.local". */
  readonly domain: string;
  /** By local name: "placeOrder". */
  readonly methods: Methods;
  readonly consumes: readonly EventContract[];
  /** A gRPC service config: retries, throttling, load balancing. */
  readonly serviceConfig: Readonly<Record<string, unknown>>;
}
