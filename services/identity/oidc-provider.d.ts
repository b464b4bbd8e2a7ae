// The library comes without types. These are the parts of it that are used here, and no more.
declare module 'oidc-provider' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  /** What is stored of a token, session or grant. */
  export interface Payload {
    jti?: string;
    uid?: string;
    kind?: string;
    exp?: number;
    iat?: number;
    grantId?: string;
    accountId?: string;
    clientId?: string;
    userCode?: string;
    consumed?: number | boolean;
    [key: string]: unknown;
  }

  export interface Adapter {
    upsert(id: string, payload: Payload, expiresInS?: number): Promise<void>;
    find(id: string): Promise<Payload | undefined>;
    findByUid(uid: string): Promise<Payload | undefined>;
    findByUserCode(userCode: string): Promise<Payload | undefined>;
    consume(id: string): Promise<void>;
    destroy(id: string): Promise<void>;
    revokeByGrantId(grantId: string): Promise<void>;
  }

  export interface Client {
    clientId: string;
    clientName?: string;
    clientAuthMethod: string;
    redirectUris: string[];
    grantTypeAllowed(type: string): boolean;
    metadata(): Record<string, unknown>;
    [key: string]: unknown;
  }

  export interface Grant {
    jti: string;
    accountId: string;
    clientId: string;
    addOIDCScope(scope: string): void;
    addResourceScope(resource: string, scope: string): void;
    save(): Promise<string>;
  }

  export interface Interaction {
    uid: string;
    exp: number;
    returnTo: string;
    prompt: { name: string; reasons: string[]; details: Record<string, unknown> };
    params: Record<string, unknown>;
    session?: { accountId: string; uid?: string };
    grantId?: string;
  }

  export interface Token extends Payload {
    readonly constructor: { readonly IN_PAYLOAD: readonly string[]; readonly name: string };
    readonly kind: string;
    readonly jti: string;
    readonly remainingTTL: number;
  }

  /** Koa's context, with what the library adds to it. */
  export interface Context {
    req: IncomingMessage;
    res: ServerResponse;
    type: string;
    status: number;
    body: unknown;
    headerSent: boolean;
    oidc: {
      params?: Record<string, unknown>;
      client?: Client;
      route: string;
      session?: { accountId?: string; grantIdFor(clientId: string): string | undefined };
      result?: { consent?: { grantId?: string }; login?: { accountId: string } };
      requestParamOIDCScopes: Set<string>;
      /** What the request has loaded or made so far. */
      entities: { AuthorizationCode?: Token; RefreshToken?: Token; RotatedRefreshToken?: Token };
      provider: Provider;
    };
  }

  export class Check {
    static REQUEST_PROMPT: true;
    static NO_NEED_TO_PROMPT: false;
    constructor(reason: string, description: string, error: string, check: (context: Context) => boolean);
  }

  export interface Checks {
    add(check: Check, index?: number): void;
    remove(reason: string): void;
  }

  export const interactionPolicy: {
    Check: typeof Check;
    base(): { get(prompt: string): { checks: Checks } };
  };

  export const errors: {
    InvalidGrant: new (detail: string) => Error;
    InvalidTarget: new () => Error;
    InvalidScope: new (description: string, scope: string) => Error;
    InvalidClientAuth: new (detail: string) => Error;
    SessionNotFound: new (detail: string) => Error;
    OIDCProviderError: new (status: number, message: string) => Error & { status: number };
  };

  export class Provider {
    constructor(issuer: string, configuration: Record<string, unknown>);
    readonly Grant: {
      new (properties: { accountId: string; clientId: string }): Grant;
      find(id: string): Promise<Grant | undefined>;
    };
    readonly RefreshToken: { prototype: { generateTokenId(this: Token): string } };
    /** The context of the request that is being handled. */
    static readonly ctx: Context | undefined;
    readonly Client: { find(id: string): Promise<Client | undefined> };
    proxy: boolean;
    callback(): (request: IncomingMessage, response: ServerResponse) => Promise<void>;
    interactionDetails(request: IncomingMessage, response: ServerResponse): Promise<Interaction>;
    interactionResult(
      request: IncomingMessage,
      response: ServerResponse,
      result: Record<string, unknown>,
      options?: { mergeWithLastSubmission?: boolean },
    ): Promise<string>;
    on(event: string, listener: (...args: never[]) => void): this;
  }
}
