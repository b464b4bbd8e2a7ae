import type { Mesh } from '../../devmesh/mesh.ts';
import { addressOf } from '../../devmesh/running-mesh.ts';
import { keepToken, keptToken, type TokenOwner } from '../../devmesh/sign-in/token-cache.ts';
import { openState, runDirectory } from '../../devmesh/state.ts';

/**
 * An access token of a person or a program: one that was kept, or a new one, for which they sign in to identity.
 * `fresh`: always a new one.
 */
export async function tokenFor(owner: TokenOwner, mesh: Mesh, { fresh = false } = {}): Promise<string> {
  const { issuer } = mesh.tokens;
  const kept = fresh ? undefined : keptToken(runDirectory(), issuer, owner);
  if (kept) return kept;
  // Says so, and what to do, where identity is not running.
  addressOf(mesh, 'identity');
  // Loaded only here: it is most of what a call would load, and most calls have a token already.
  const { personToken, programToken } = await import('./signing-in.ts');
  const state = openState();
  try {
    const issued =
      owner.kind === 'user' ? await personToken(owner.id, mesh, state) : await programToken(owner.id, mesh, state);
    keepToken(state.dir, issuer, owner, issued);
    return issued.token;
  } catch (cause) {
    throw new Error(`${owner.id} could not sign in to ${issuer}`, { cause });
  }
}
