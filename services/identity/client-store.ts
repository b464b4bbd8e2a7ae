import { isDuplicateKey, type Page, type SqlReader, type Tx, utcDate } from '@armature/runtime';
import type { JWK } from 'jose';
import type { Payload } from 'oidc-provider';
import { serviceAccountExists, serviceAccountNotFound } from './errors.ts';

export interface ServiceAccount {
  accountId: string;
  displayName: string;
  publicJwk: JWK;
  /** The scopes that it is registered for. */
  scopes: readonly string[];
  disabled: boolean;
  createdBy: string;
  createdAt: Date;
}

/** A program that people sign in to. It can keep no secret, so it proves itself by PKCE. */
export interface PublicClient {
  clientId: string;
  displayName: string;
  redirectUris: readonly string[];
  postLogoutRedirectUris: readonly string[];
  /** People are not asked whether our own programs may act for them. */
  firstParty: boolean;
  /** The scopes that it is registered for; undefined: all where it is first-party, else none. */
  scopes?: readonly string[] | undefined;
}

export type ClientStore = ReturnType<typeof clientStore>;

export function clientStore() {
  return {
    /** What the provider knows of a client; undefined for one that is unknown or disabled. */
    async metadata(sql: SqlReader, clientId: string): Promise<Payload | undefined> {
      const rows = await sql.query<{ metadata_json: string }>(
        'select metadata_json from oidc_client where client_id = ? and disabled = false',
        [clientId],
      );
      return rows[0] && (JSON.parse(rows[0].metadata_json) as Payload);
    },

    /** False when there is a client of this id already; it is left as it is. */
    async addPublic(tx: Tx, client: PublicClient): Promise<boolean> {
      return insert(tx, 'public', client.clientId, client.displayName, publicMetadata(client), 'bootstrap');
    },

    /** Throws SERVICE_ACCOUNT_EXISTS for an id that any client or person has: a token's subject must be one of them. */
    async addServiceAccount(tx: Tx, account: Omit<ServiceAccount, 'disabled' | 'createdAt'>): Promise<ServiceAccount> {
      const { accountId, displayName, publicJwk, scopes, createdBy } = account;
      const people = await tx.query('select user_id from account where user_id = ?', [accountId]);
      if (people.length > 0) throw serviceAccountExists(accountId);
      const metadata = serviceMetadata(accountId, displayName, publicJwk, scopes);
      if (!(await insert(tx, 'service', accountId, displayName, metadata, createdBy))) {
        throw serviceAccountExists(accountId);
      }
      return this.serviceAccount(tx, accountId);
    },

    async serviceAccount(sql: SqlReader, accountId: string): Promise<ServiceAccount> {
      const [row] = await select(sql, 'client_id = ?', [accountId]);
      if (!row) throw serviceAccountNotFound(accountId);
      return row;
    },

    /** By id; one row more than the page, when there is one. */
    listServiceAccounts: (sql: SqlReader, page: Page<[string]>): Promise<ServiceAccount[]> =>
      select(sql, 'client_id > ? order by client_id limit ?', [page.after?.[0] ?? '', page.size + 1]),

    async disable(tx: Tx, accountId: string): Promise<ServiceAccount> {
      await tx.execute("update oidc_client set disabled = true where client_id = ? and kind = 'service'", [accountId]);
      return this.serviceAccount(tx, accountId);
    },

    /** Whether a client has this id, of whatever kind. */
    async exists(sql: SqlReader, clientId: string): Promise<boolean> {
      return (await sql.query('select client_id from oidc_client where client_id = ?', [clientId])).length > 0;
    },
  };
}

async function insert(
  tx: Tx,
  kind: 'public' | 'service',
  clientId: string,
  displayName: string,
  metadata: object,
  createdBy: string,
): Promise<boolean> {
  try {
    await tx.execute(
      `insert into oidc_client (client_id, kind, display_name, metadata_json, created_by, created_at)
       values (?, ?, ?, ?, ?, utc_timestamp(6))`,
      [clientId, kind, displayName, JSON.stringify(metadata), createdBy.slice(0, 80)],
    );
    return true;
  } catch (error) {
    if (isDuplicateKey(error)) return false;
    throw error;
  }
}

interface ClientRow {
  client_id: string;
  display_name: string;
  metadata_json: string;
  disabled: number;
  created_by: string;
  created_at: string;
}

async function select(sql: SqlReader, where: string, params: (string | number)[]): Promise<ServiceAccount[]> {
  const rows = await sql.query<ClientRow>(
    `select client_id, display_name, metadata_json, disabled, created_by, cast(created_at as char) as created_at
     from oidc_client where kind = 'service' and ${where}`,
    params,
  );
  return rows.map((row) => {
    const { jwks, permission_scopes: scopes = ['all'] } = JSON.parse(row.metadata_json) as ServiceMetadata;
    return {
      accountId: row.client_id,
      displayName: row.display_name,
      publicJwk: jwks.keys[0],
      scopes,
      disabled: Boolean(row.disabled),
      createdBy: row.created_by,
      createdAt: utcDate(row.created_at),
    };
  });
}

/** Accounts of the release before were registered without scopes, and have all. */
interface ServiceMetadata {
  jwks: { keys: [JWK] };
  permission_scopes?: string[];
}

const loopback = /^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)([:/]|$)/;

/**
 * A client with a loopback address is a program on the machine of a person, which listens on whatever port is free
 * (RFC 8252); every other address must match to the letter.
 */
function publicMetadata(client: PublicClient) {
  return {
    client_id: client.clientId,
    client_name: client.displayName,
    application_type: client.redirectUris.some((uri) => loopback.test(uri)) ? 'native' : 'web',
    redirect_uris: client.redirectUris,
    post_logout_redirect_uris: client.postLogoutRedirectUris,
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
    token_endpoint_auth_method: 'none',
    first_party: client.firstParty,
    ...(client.scopes ? { permission_scopes: client.scopes } : {}),
  };
}

function serviceMetadata(clientId: string, displayName: string, publicJwk: JWK, scopes: readonly string[]) {
  return {
    client_id: clientId,
    client_name: displayName,
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [publicJwk] },
    permission_scopes: scopes,
  };
}
