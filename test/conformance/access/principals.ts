import type { MethodContract } from '@armature/proto/contract.ts';
import { readCa } from '../../../scripts/devmesh/certificates.ts';
import { type Teardown, testServers } from '../../support/infra.ts';
import { type RunningService, token, workloadCertificate } from '../../support/service.ts';
import { foreignCertificate, pemOf } from '../stage.ts';
import { openWire, type RawResponse, type Wire, type WireCredentials } from '../wire.ts';
import { persons } from './matrix.ts';

/** People and programs of the matrix, by the subjects of their tokens. `own` owns the resources of the scene. */
export const people = {
  own: 'ada',
  other: 'eve',
  staff: 'bo',
  admin: 'admin',
  client: 'reports',
  revoked: 'mallory',
  operator: 'olga',
  scoped: 'admin',
};

export type Person = keyof typeof people;

export const isPerson = (column: string): column is Person => (persons as readonly string[]).includes(column);

/** What a call sends, without the credentials of the caller. */
export interface Request {
  service: string;
  method: MethodContract;
  message: Uint8Array;
  /** A user other than the column's own, for methods whose resource is a user. */
  subject?: string;
}

/** Makes calls as the columns of the matrix. */
export interface Principals {
  call(column: string, request: Request): Promise<RawResponse>;
}

/** Opens connections on first use, one for each service and certificate, and shares them. */
export async function openPrincipals(t: Teardown, running: (service: string) => RunningService): Promise<Principals> {
  const { state } = await testServers();
  const { pem: ca } = await readCa(state);
  const foreign = pemOf(await foreignCertificate());
  const wires = new Map<string, Promise<Wire>>();
  const tokens = new Map<string, Promise<string>>();
  t.teardown(async () => {
    for (const wire of await Promise.allSettled(wires.values())) if (wire.status === 'fulfilled') wire.value.close();
  });

  async function credentials(column: string): Promise<WireCredentials> {
    if (column === 'none') return { ca };
    if (column === 'foreign') return { ca, ...foreign };
    return workloadCertificate(column === 'anonymous' || isPerson(column) ? 'developer' : column);
  }
  const wireOf = (service: string, column: string) =>
    remember(wires, `${service} ${isPerson(column) ? 'anonymous' : column}`, async () =>
      openWire(running(service).grpc, await credentials(column)),
    );
  const tokenOf = (subject: string, column: string) =>
    remember(tokens, `${column} ${subject}`, () =>
      token(subject, {
        ...(column === 'client' ? { clientId: subject } : {}),
        ...(column === 'scoped' ? { claims: { scope: 'openid catalog.read' } } : {}),
      }),
    );

  async function bearerOf(column: string, subject: string | undefined): Promise<string | undefined> {
    if (isPerson(column)) return tokenOf(subject ?? people[column], column);
    // A caller without a certificate of the mesh must be refused even with a valid token.
    return column === 'none' || column === 'foreign' ? tokenOf(people.admin, 'admin') : undefined;
  }

  return {
    async call(column, { service, method, message, subject }) {
      const wire = await wireOf(service, column);
      const bearer = await bearerOf(column, subject);
      const headers = {
        // The longest deadline of the contract, because the machine may be busy and time is not tested here.
        'grpc-timeout': `${Math.min(method.deadline.maxMs, 30_000)}m`,
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
      };
      return wire.call(method.path, {
        message,
        headers,
        ...(method.kind === 'server_stream' ? { repliesMax: 1 } : {}),
      });
    },
  };
}

function remember<T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  let one = known.get(key);
  if (!one) {
    one = make();
    known.set(key, one);
  }
  return one;
}
