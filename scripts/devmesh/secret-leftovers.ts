import { hashKeyVersion, secretVersion } from '@armature/runtime/credentials';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { storingServices } from '../../services/manifest.ts';
import { serviceAccounts } from './provision.ts';
import { type Leftover, secretStage, secretVersions } from './secret-rotation.ts';
import type { State } from './state.ts';

/** How long identity keeps a session after the last request that changed it, and its cookie with it. */
const sessionDays = 30;

/** What still needs the earlier version of a secret, by the databases of the services. */
export async function secretLeftovers(
  state: State,
  connection: Connection,
  schemaOf: (service: string) => string | undefined = (service) => serviceAccounts(service).schema,
): Promise<Leftover[]> {
  const { switchedAt } = secretStage(state);
  const since = (switchedAt ?? new Date().toISOString()).slice(0, -1).replace('T', ' ');
  const count = async (schema: string, rest: string, params: unknown[]): Promise<number> => {
    const [[row]] = await connection.query<RowDataPacket[]>(`select count(*) as n from ${schema}.${rest}`, params);
    return Number(row?.n);
  };
  const found: Leftover[] = [];
  const identity = schemaOf('identity');
  if (identity) {
    const version = Buffer.from(secretVersion(secretVersions(state, 'identity')[0]), 'hex');
    const ofOthers = { sealed: true, count: 0 };
    const stillValid = { sealed: false, count: 0 };
    found.push(
      {
        ...ofOthers,
        what: 'sessions, grants and tokens that are sealed with it',
        count: await count(identity, 'artifact where sealed_by <> ? and expires_at > utc_timestamp(6)', [version]),
      },
      {
        ...ofOthers,
        what: 'signing keys that are sealed with it',
        count: await count(identity, 'signing_key where substr(private_jwk, 5, 8) <> ?', [version]),
      },
      {
        ...stillValid,
        what: 'links in e-mails',
        count: await count(
          identity,
          `letter where created_at < ? and expires_at > utc_timestamp(6) and used_at is null
             and kind in ('verify_email', 'reset_password', 'address_changing')`,
          [since],
        ),
      },
      {
        ...stillValid,
        what: 'sessions whose cookie it may have signed',
        count: await count(
          identity,
          `artifact where model = 'Session' and expires_at > utc_timestamp(6)
             and expires_at < ? + interval ${sessionDays} day`,
          [since],
        ),
      },
    );
  }
  for (const service of storingServices) {
    const schema = schemaOf(service);
    if (!schema) continue;
    const [, earlier] = secretVersions(state, `request-hash:${service}`);
    if (earlier === undefined) continue;
    const rows = await count(schema, 'idempotency where hash_key = ?', [hashKeyVersion(earlier)]);
    found.push({ what: `requests of ${service} that may be repeated`, count: rows, sealed: false });
  }
  return found.filter(({ count: rows }) => rows > 0);
}
