import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Decision, PolicyError, policyOf } from '@armature/runtime/authz';
import type { Subject } from '@armature/runtime/context';
import t from 'tap';
import { policyFile } from '../../devmesh/environment.ts';
import { type Access, effectiveAccessOf } from './effective-access.ts';
import { type Operation, operationsOf } from './operations.ts';
import { effectiveAccessOn, event, method } from './testbed.ts';

const read = method('Read', 'a.read', 'customer_id');
const ownerless = method('Count', 'a.read');
const published = event('Made', 'a.publish');

const rows: { name: string; policy: string[]; who: string; operation?: Operation; is: Access; by?: string[] }[] = [
  { name: 'what no row names is denied', policy: ['p, role:x, b.read, any'], who: 'role:x', is: 'deny', by: [] },
  {
    name: 'a rule of its own',
    policy: ['p,service:a ,a.read,  any'],
    who: 'service:a',
    is: 'any',
    by: ['p, service:a, a.read, any'],
  },
  {
    name: 'by the shortest way',
    policy: [
      'g, user:bo, role:z',
      'g, role:z, role:y',
      'g, user:bo, role:y',
      'g, role:y, role:x',
      'p, role:x, a.read, any',
    ],
    who: 'user:bo',
    is: 'any',
    by: ['p, role:x, a.read, any', 'g, user:bo, role:y', 'g, role:y, role:x'],
  },
  {
    name: 'the widest of several',
    policy: ['p, user:bo, a.read, own', 'p, role:x, a.read, any', 'g, user:bo, role:x'],
    who: 'user:bo',
    is: 'any',
    by: ['p, role:x, a.read, any', 'g, user:bo, role:x'],
  },
  {
    name: 'a user is a customer',
    policy: ['p, role:customer, a.read, own', 'p, user:bo, b.read, any'],
    who: 'user:bo',
    is: 'own',
    by: ['p, role:customer, a.read, own'],
  },
  {
    name: 'so is who has a role of people',
    policy: ['p, role:customer, a.read, own', 'g, user:bo, role:x', 'p, role:x, b.read, any'],
    who: 'role:x',
    is: 'own',
  },
  {
    name: 'a role that no principal has is taken for one of people',
    policy: ['p, role:customer, a.read, own', 'p, role:x, b.read, any'],
    who: 'role:x',
    is: 'own',
  },
  {
    name: 'but not one for calls on behalf of others',
    policy: ['p, role:customer, a.read, own', 'p, role:x, b.read, on-behalf'],
    who: 'role:x',
    is: 'deny',
  },
  {
    name: 'a workload is no customer',
    policy: ['p, role:customer, a.read, any', 'p, service:a, b.read, any'],
    who: 'service:a',
    is: 'deny',
  },
  {
    name: 'nor is a client',
    policy: ['p, role:customer, a.read, any', 'p, client:c, b.read, any'],
    who: 'client:c',
    is: 'deny',
  },
  {
    name: 'own things need an owner',
    policy: ['p, role:customer, a.read, own'],
    who: 'role:customer',
    operation: ownerless,
    is: 'deny',
  },
  {
    name: 'a principal that is denied may nothing',
    policy: ['p, user:bo, a.read, any', 'd, user:bo'],
    who: 'user:bo',
    is: 'deny',
    by: ['d, user:bo'],
  },
  {
    name: 'a service publishes',
    policy: ['p, service:a, a.publish, any'],
    who: 'service:a',
    operation: published,
    is: 'any',
  },
  {
    name: 'no workload publishes on behalf of a user',
    policy: ['p, service:a, a.publish, on-behalf'],
    who: 'service:a',
    operation: published,
    is: 'deny',
  },
  {
    name: 'no person publishes',
    policy: ['p, user:bo, a.publish, any'],
    who: 'user:bo',
    operation: published,
    is: 'deny',
  },
];

t.test('what a principal may, and by which rows', async (t) => {
  for (const { name, policy, who, operation = read, is, by } of rows) {
    const { access, because } = effectiveAccessOn(...policy).find(who, operation);
    t.equal(access, is, name);
    const texts = because.map(({ text }) => text);
    if (by) t.same(texts, by, `${name}: by its rows`);
  }
});

t.test('a policy that services would refuse is refused', async (t) => {
  t.throws(() => effectiveAccessOn('p, service:a, a.read, own'), PolicyError);
  t.throws(
    () => effectiveAccessOn('p, role:x, a.read, any', 'g, role:x, role:y', 'g, role:y, role:x'),
    /test\.csv:[23]: /,
  );
});

const descriptors = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
const operations = operationsOf(descriptors);
const permissions = [...new Set(operations.map(({ permission }) => permission))];

t.test('the operations are those of the contracts', async (t) => {
  const named = (name: string) => operations.find((operation) => operation.name.endsWith(name));
  t.match(named('OrderService/PlaceOrder'), { kind: 'method', permission: 'orders.place', owner: 'customer_id' });
  t.match(named('OrderService/GetOrder'), { owner: 'loaded', audit: false });
  t.match(named('PaymentService/RefundPayment'), { owner: '', audit: true });
  t.match(named('.OrderPlaced'), { kind: 'event', permission: 'orders.publish' });
  t.match(named('Channelz/*'), { permission: 'ops.channelz' });
});

// Any part of a good policy is one, as long as these rows are in it: a workload that lets everything through, and a
// user who may everything, so that a decision about two principals is one about the other.
const throughThis = permissions.map((permission) => `p, workload:through, ${permission}, any`);
const onBehalfOfThis = permissions.map((permission) => `p, user:root, ${permission}, any`);
const everything = [
  ...readFileSync(policyFile, 'utf8').split('\n'),
  'p, client:reports, orders.read, any',
  'p, role:reader, ledger.read, any',
  'g, client:reports, role:reader',
  'g, user:eve, role:staff',
  'd, user:eve',
  'd, client:reports',
  'p, user:carl, payments.refund, any',
];

/** What the runtime decides about one principal, when nothing depends on the other one. */
function decided(policy: ReturnType<typeof policyOf>, principal: string, operation: Operation): Access {
  const [kind, subject] = principal.split(':') as [Subject['kind'], string];
  const user = (of: Subject['kind'], name: string) => ({ kind: of, subject: name, token: '', scope: 'all' }) as const;
  const scope = (decision: Decision): Access => {
    if (!decision.allowed) return 'deny';
    return decision.scope === 'own' && operation.owner === '' ? 'deny' : decision.scope;
  };
  if (operation.kind === 'event') {
    return principal.includes('user:') || principal.includes('client:')
      ? 'deny'
      : scope(policy.mayPublish(principal, operation.permission));
  }
  if (kind === 'user' || kind === 'client') {
    return scope(policy.decide({ workload: 'workload:through', user: user(kind, subject) }, operation.permission));
  }
  const alone = scope(policy.decide({ workload: principal, user: null }, operation.permission));
  if (alone !== 'deny') return alone;
  const together = policy.decide({ workload: principal, user: user('user', 'root') }, operation.permission);
  return together.allowed ? 'on-behalf' : 'deny';
}

t.test('agrees with what services decide, on parts of the deployed policy', async (t) => {
  const seed = randomInt(2 ** 31);
  t.comment(`seed ${seed}`);
  let state = seed;
  // A linear congruential generator: poor, but the same on every machine, and good enough to leave out rows.
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  for (let round = 0; round < 20; round++) {
    const kept = round === 0 ? everything : everything.filter(() => random() < 0.7);
    const text = [...throughThis, ...onBehalfOfThis, ...kept].join('\n');
    const [effective, policy] = [effectiveAccessOf(text, 'part'), policyOf(text)];
    const wrong = effective.principals
      .filter((principal) => !principal.startsWith('role:'))
      .flatMap((principal) =>
        operations.flatMap((operation) => {
          const [here, there] = [effective.find(principal, operation).access, decided(policy, principal, operation)];
          return here === there ? [] : [`${principal} at ${operation.name}: ${here}, services say ${there}`];
        }),
      );
    t.same(wrong, [], `round ${round}`);
  }
});
