import { join } from 'node:path';
import { readJson, writeAtomically } from '../state.ts';
import type { IssuedToken } from './flows.ts';

/** Whom a token names: a person, or a program that signed in by itself. */
export interface TokenOwner {
  kind: 'user' | 'client';
  id: string;
}

interface KeptToken extends IssuedToken {
  issuer: string;
}

/** A token that is about to end is not worth starting with. */
const leastLeftMs = 60_000;

const fileOf = (dir: string, { kind, id }: TokenOwner) => join(dir, 'tokens', `${kind}-${id}.json`);

/** The token that was kept under a state folder, while its issuer is the same and it has a minute to live. */
export function keptToken(dir: string, issuer: string, owner: TokenOwner, now = Date.now()): string | undefined {
  const kept = readJson<KeptToken>(fileOf(dir, owner));
  return kept && kept.issuer === issuer && kept.expiresAt - now > leastLeftMs ? kept.token : undefined;
}

/** Keeps a token for later commands. A process that has it may act as its owner, so only the current user may read it. */
export function keepToken(dir: string, issuer: string, owner: TokenOwner, issued: IssuedToken): void {
  const kept: KeptToken = { issuer, ...issued };
  writeAtomically(fileOf(dir, owner), JSON.stringify(kept, null, 2), 0o600);
}
