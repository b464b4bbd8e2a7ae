import { accessClient } from '@armature/clients';
import type { Rule } from '@armature/proto/access/v1/access.ts';
import { Scope } from '@armature/proto/access/v1/access.ts';
import { type RunningService, token, workloadCertificate } from '../../test/support/service.ts';

export type AccessClient = ReturnType<typeof accessClient>;

/** A client of a developer who carries a user's token. */
export async function clientOf(service: RunningService, user: string): Promise<AccessClient> {
  const bearer = await token(user);
  return accessClient({
    addresses: [service.grpc],
    tls: await workloadCertificate('developer'),
    token: () => bearer,
  });
}

/** A client of another service, on its own account. */
export async function serviceClient(service: RunningService, name: string): Promise<AccessClient> {
  return accessClient({ addresses: [service.grpc], tls: await workloadCertificate(name) });
}

export const any = (permission: string): Rule => ({ permission, scope: Scope.SCOPE_ANY });

/** Asks again until it is so. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined | false>, withinMs = 15_000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await ask();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${withinMs} ms`);
  }
}
