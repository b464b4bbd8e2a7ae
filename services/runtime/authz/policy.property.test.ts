// Decisions through the index equal those of plain node-casbin over the whole policy, on random policies. A failing run
// is repeated with its seed: node services/runtime/authz/policy.property.test.ts <seed>
import { randomInt } from 'node:crypto';
import { type Enforcer, newEnforcer, newModelFromString, StringAdapter } from 'casbin';
import t from 'tap';
import { type Random, seeded } from '../../../test/support/random.ts';
import { type Subject, subjectOf } from '../context/call-context.ts';
import { policyOf } from './policy.ts';

// Independent of enforcer.ts: it queries each scope by name and does not read it from the matched rule.
const plainModel = `
[request_definition]
r = sub, permission, scope
[policy_definition]
p = sub, permission, scope
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.permission == p.permission && r.scope == p.scope
`;

const users = ['ada', 'bo', 'cy', 'dee', 'not-in-policy'];
const clients = ['ada', 'reports', 'sync', 'unnamed'];
const workloads = ['service:a', 'service:b', 'workload:edge', 'service:unnamed'];
const permissions = ['a.read', 'a.write', 'b.read', 'b.c.read', 'z.unused'];
const userRoles = ['role:customer', 'role:u1', 'role:u2', 'role:u3', 'role:u4'];
const workloadRoles = ['role:w1', 'role:w2', 'role:w3'];
const clientRoles = ['role:c1', 'role:c2'];
const sharedRoles = ['role:s1', 'role:s2'];

/** Rows that are valid by construction: roles have only later roles, and each kind only its scopes. */
function randomRows({ next: random, pick }: Random): string[] {
  const density = random() * 0.5;
  const rows: string[] = [];
  const give = (subjects: readonly string[], scopes: readonly string[]) => {
    for (const subject of subjects) {
      for (const permission of permissions.slice(0, -1)) {
        if (random() < density) rows.push(`p, ${subject}, ${permission}, ${pick(scopes)}`);
      }
    }
  };
  const grant = (members: readonly string[], roles: readonly string[]) => {
    for (const member of members) for (const role of roles) if (random() < density) rows.push(`g, ${member}, ${role}`);
  };
  const named = users.slice(0, -1).map((user) => `user:${user}`);
  const namedClients = clients.slice(0, -1).map((client) => `client:${client}`);
  give([...named, ...userRoles], ['any', 'own']);
  give([...workloads.slice(0, -1), ...workloadRoles], ['any', 'on-behalf']);
  give([...namedClients, ...clientRoles, ...sharedRoles], ['any']);
  grant(named, [...userRoles, ...sharedRoles]);
  grant(workloads.slice(0, -1), [...workloadRoles, ...sharedRoles]);
  grant(namedClients, [...clientRoles, ...sharedRoles]);
  for (const chain of [
    [...userRoles, ...sharedRoles],
    [...workloadRoles, ...sharedRoles],
    [...clientRoles, ...sharedRoles],
  ]) {
    for (const [index, role] of chain.entries()) {
      if (!sharedRoles.includes(role)) grant([role], chain.slice(index + 1));
    }
  }
  for (const subject of [...named, ...namedClients, 'user:not-in-policy']) {
    if (random() < density / 2) rows.push(`d, ${subject}`);
  }
  rows.push('p, service:a, z.always, any');
  return rows.sort(() => random() - 0.5);
}

/** Casbin has no denials, so the denied subjects are a separate argument. */
function expected(
  plain: Enforcer,
  denied: ReadonlySet<string>,
  workload: string,
  subject: string | null,
  permission: string,
): string {
  const may = (principal: string, scope: string) => plain.enforceSync(principal, permission, scope);
  if (subject === null) return may(workload, 'any') ? 'any' : 'denied';
  if (!may(workload, 'any') && !may(workload, 'on-behalf')) return 'denied';
  if (denied.has(subject)) return 'denied';
  if (may(subject, 'any')) return 'any';
  return may(subject, 'own') ? 'own' : 'denied';
}

const asked: readonly (Subject | null)[] = [
  null,
  ...users.map((subject): Subject => ({ kind: 'user', subject })),
  ...clients.map((subject): Subject => ({ kind: 'client', subject })),
];

t.test('decisions equal those of plain casbin', async (t) => {
  const seed = process.argv[2] === undefined ? randomInt(2 ** 31) : Number(process.argv[2]);
  t.comment(`seed ${seed}`);
  const random = seeded(seed);
  const seen: Record<string, number> = { any: 0, own: 0, denied: 0 };
  let clientsAllowed = 0;
  for (let round = 0; round < 60; round++) {
    const rows = randomRows(random);
    const denied = new Set(rows.filter((row) => row.startsWith('d, ')).map((row) => row.slice(3)));
    const text = rows.join('\n');
    const policy = policyOf(text);
    const everyUser = users.map((user) => `g, user:${user}, role:customer`);
    const plainRows = new Set([...rows.filter((row) => !row.startsWith('d, ')), ...everyUser]);
    const plainText = [...plainRows].join('\n');
    const plain = await newEnforcer(newModelFromString(plainModel), new StringAdapter(plainText));
    for (const workload of workloads) {
      for (const who of asked) {
        const subject = who && subjectOf(who);
        for (const permission of permissions) {
          const user = who && { ...who, token: '', scope: 'all' as const };
          const decision = policy.decide({ workload, user }, permission);
          const got = decision.allowed ? decision.scope : 'denied';
          const want = expected(plain, denied, workload, subject, permission);
          seen[want]!++;
          if (who?.kind === 'client' && got === 'any') clientsAllowed++;
          if (got === want) continue;
          t.equal(got, want, `seed ${seed}, round ${round}: ${workload}, ${subject}, ${permission}\n${text}`);
          return;
        }
      }
    }
  }
  t.comment(JSON.stringify({ ...seen, clientsAllowed }));
  t.ok(clientsAllowed > 20, `clients were allowed ${clientsAllowed} times`);
  for (const [outcome, times] of Object.entries(seen)) t.ok(times > 20, `${outcome} was decided ${times} times`);
});
