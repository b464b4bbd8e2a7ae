import { generateKeyPairSync } from 'node:crypto';
import { type SqlReader, type Tx, utcDate } from '@armature/runtime';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { signingKeyNotFound } from './errors.ts';
import { type KeyPeriods, type KeyPhase, type KeyTimes, phasesOf, planKeys, planRevocation } from './key.ts';
import { type Sealing, sealedBy } from './sealing.ts';

/** A signing key with its private part. */
export interface SigningKey {
  kid: string;
  phase: KeyPhase;
  privateJwk: JWK;
}

/** The public part of a key. */
export const publicPart = ({ privateJwk: { kty, crv, x, y, kid } }: SigningKey): JWK => ({
  ...{ kty, crv, x, y, kid },
  ...{ alg: 'ES256', use: 'sig' },
});

interface KeyRow {
  kid: string;
  private_jwk: Buffer;
  activates_at: string;
}

/**
 * Reads the signing keys, and makes and removes what time has made due. Instances take turns by a row lock and go by
 * the database's clock, so that all of them have the same keys.
 */
export async function turnKeys(tx: Tx, sealing: Sealing, periods: KeyPeriods): Promise<SigningKey[]> {
  const now = await takeTurn(tx);
  const rows = await tx.query<KeyRow>('select kid, private_jwk, activates_at from signing_key');
  const keys = rows.map((row) => ({
    kid: row.kid,
    activatesAt: utcDate(row.activates_at),
    privateJwk: JSON.parse(sealing.open(row.private_jwk, `key:${row.kid}`)) as JWK,
  }));
  for (const { kid, private_jwk } of rows) {
    if (!sealedBy(private_jwk).equals(sealing.version)) {
      const jwk = sealing.open(private_jwk, `key:${kid}`);
      await tx.execute('update signing_key set private_jwk = ? where kid = ?', [sealing.seal(jwk, `key:${kid}`), kid]);
    }
  }
  const plan = planKeys(keys, periods, now);
  if (plan.make) keys.push(await insertKey(tx, sealing, plan.make));
  if (plan.remove.length > 0) await tx.execute('delete from signing_key where kid in (?)', [plan.remove]);
  const phases = phasesOf(keys, now);
  return keys
    .filter(({ kid }) => !plan.remove.includes(kid))
    .map(({ kid, privateJwk }) => ({ kid, privateJwk, phase: phases.get(kid) ?? 'retired' }));
}

/** A signing key without its private part. */
export interface ListedKey extends KeyTimes {
  phase: KeyPhase;
}

/** All signing keys, the newest first. */
export async function listKeys(sql: SqlReader): Promise<ListedKey[]> {
  const rows = await sql.query<{ kid: string; activates_at: string; now: string }>(
    'select kid, activates_at, cast(utc_timestamp(6) as char) as now from signing_key order by activates_at desc, kid',
  );
  const keys = rows.map((row) => ({ kid: row.kid, activatesAt: utcDate(row.activates_at) }));
  const phases = phasesOf(keys, utcDate(rows[0]?.now ?? ''));
  return keys.map((key) => ({ ...key, phase: phases.get(key.kid) ?? 'retired' }));
}

/** Deletes a key, and sees to it that another one signs. Throws SIGNING_KEY_NOT_FOUND. */
export async function revokeKey(tx: Tx, sealing: Sealing, kid: string): Promise<void> {
  const now = await takeTurn(tx);
  const keys = await listKeys(tx);
  if (!keys.some((key) => key.kid === kid)) throw signingKeyNotFound(kid);
  const { activate, make } = planRevocation(keys, kid, now);
  await tx.execute('delete from signing_key where kid = ?', [kid]);
  if (activate) {
    await tx.execute('update signing_key set activates_at = ? where kid = ?', [utcText(now), activate]);
  }
  if (make) await insertKey(tx, sealing, now);
}

/** Waits for other instances that change the keys. Returns the time of the database. */
async function takeTurn(tx: Tx): Promise<Date> {
  await tx.query('select turn from signing_key_turn where turn = 1 for update');
  const [{ now } = { now: '' }] = await tx.query<{ now: string }>('select cast(utc_timestamp(6) as char) as now');
  return utcDate(now);
}

const utcText = (time: Date): string => time.toISOString().slice(0, -1).replace('T', ' ');

async function insertKey(tx: Tx, sealing: Sealing, activatesAt: Date) {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const published = publicKey.export({ format: 'jwk' }) as JWK;
  const kid = await calculateJwkThumbprint(published);
  const privateJwk = { ...(privateKey.export({ format: 'jwk' }) as JWK), kid, alg: 'ES256', use: 'sig' };
  await tx.execute(
    `insert into signing_key (kid, public_jwk, private_jwk, activates_at, created_at)
     values (?, ?, ?, ?, utc_timestamp(6))`,
    [kid, JSON.stringify(published), sealing.seal(JSON.stringify(privateJwk), `key:${kid}`), utcText(activatesAt)],
  );
  return { kid, activatesAt, privateJwk };
}
