import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type identityClient, RpcError } from '@armature/clients';
import { exportJWK, generateKeyPair, importJWK, type JWK } from 'jose';
import type { CryptoKey } from 'openid-client';
import { v5 as uuidFromName } from 'uuid';
import { type State, writeAtomically } from '../state.ts';

const namespace = '6f1f0b0c-52f4-4d0c-8a55-5b8e8f0a6c11';

/** A program's key pair: the private half to sign with, and the public one that its account has. */
export interface ProgramKey {
  key: CryptoKey;
  publicJwk: string;
}

/** The key of a program, made at the first call and kept where only we may read it. */
export async function programKey(state: State, id: string): Promise<ProgramKey> {
  const file = join(state.dir, 'identity', `${id}.key.json`);
  if (!existsSync(file)) {
    const { privateKey } = await generateKeyPair('ES256', { extractable: true });
    writeAtomically(file, JSON.stringify(await exportJWK(privateKey), null, 2), 0o600);
  }
  const { d: secret, ...publicHalf } = JSON.parse(readFileSync(file, 'utf8')) as JWK;
  const key = await importJWK({ ...publicHalf, d: secret! }, 'ES256');
  if (key instanceof Uint8Array) throw new Error(`${file} holds no key pair; remove it and run again`);
  return { key, publicJwk: JSON.stringify(publicHalf) };
}

/** Makes the account of a program where there is none; it may nothing until access grants it something. */
export async function ensureProgramAccount(
  client: ReturnType<typeof identityClient>,
  id: string,
  publicJwk: string,
  adminToken: string,
): Promise<void> {
  const account = { accountId: id, displayName: `${id} (development)`, publicJwk };
  // The same account with the same key is the same request, so that two commands at once make one.
  const requestId = uuidFromName(JSON.stringify(account), namespace);
  try {
    await client.createServiceAccount({ requestId, ...account }, { token: adminToken });
  } catch (error) {
    if (!(error instanceof RpcError && error.code === 'ALREADY_EXISTS')) throw error;
  }
}
