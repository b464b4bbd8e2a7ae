import { generateKeyPairSync } from 'node:crypto';
import { type Tx, utcDate } from '@armature/runtime';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { type KeyPeriods, type KeyPhase, phasesOf, planKeys } from './key.ts';
import type { Sealing } from './sealing.ts';

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
  await tx.query('select turn from signing_key_turn where turn = 1 for update');
  const [{ now: text } = { now: '' }] = await tx.query<{ now: string }>('select cast(utc_timestamp(6) as char) as now');
  const now = utcDate(text);
  const rows = await tx.query<KeyRow>('select kid, private_jwk, activates_at from signing_key');
  const keys = rows.map((row) => ({
    kid: row.kid,
    activatesAt: utcDate(row.activates_at),
    privateJwk: JSON.parse(sealing.open(row.private_jwk, `key:${row.kid}`)) as JWK,
  }));
  const plan = planKeys(keys, periods, now);
  if (plan.make) keys.push(await insertKey(tx, sealing, plan.make));
  if (plan.remove.length > 0) await tx.execute('delete from signing_key where kid in (?)', [plan.remove]);
  const phases = phasesOf(keys, now);
  return keys
    .filter(({ kid }) => !plan.remove.includes(kid))
    .map(({ kid, privateJwk }) => ({ kid, privateJwk, phase: phases.get(kid) ?? 'retired' }));
}

async function insertKey(tx: Tx, sealing: Sealing, activatesAt: Date) {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const published = publicKey.export({ format: 'jwk' }) as JWK;
  const kid = await calculateJwkThumbprint(published);
  const privateJwk = { ...(privateKey.export({ format: 'jwk' }) as JWK), kid, alg: 'ES256', use: 'sig' };
  await tx.execute(
    `insert into signing_key (kid, public_jwk, private_jwk, activates_at, created_at)
     values (?, ?, ?, ?, utc_timestamp(6))`,
    [
      kid,
      JSON.stringify(published),
      sealing.seal(JSON.stringify(privateJwk), `key:${kid}`),
      activatesAt.toISOString().slice(0, -1).replace('T', ' '),
    ],
  );
  return { kid, activatesAt, privateJwk };
}
