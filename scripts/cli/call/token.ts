import { runningMesh } from '../../devmesh/running-mesh.ts';
import type { Invocation } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { printJson } from '../json.ts';
import { withNotice } from '../terminal.ts';
import { doubtAbout, parsePrincipal } from './principal.ts';
import { tokenFor } from './tokens.ts';

/**
 * Prints an access token of a person or a program, for buf curl, grpcurl and other programs. Its owner signs in to
 * identity for it. A token lives for ten minutes and is used again while it has a minute left, unless `fresh` is set.
 */
export async function printToken(as: string, fresh: boolean, { json, deadline }: Invocation): Promise<void> {
  const principal = parsePrincipal(as);
  const { owner } = principal;
  if (!owner) {
    throw new UsageError(
      `--as ${as} calls without a token; name a person or a program that signs in, such as customer:ada`,
    );
  }
  const mesh = runningMesh();
  const doubt = doubtAbout(as, principal, mesh);
  if (doubt) console.error(`note: ${doubt}`);
  deadline.waitingFor = 'identity';
  const token = await withNotice('identity', () => tokenFor(owner, mesh, { fresh }));
  if (json) printJson({ token, expiresAt: expiryOf(token) });
  else console.log(token);
}

/** The time until which a token is valid, from its payload. */
function expiryOf(token: string): string {
  const { exp } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { exp: number };
  return new Date(exp * 1000).toISOString();
}
