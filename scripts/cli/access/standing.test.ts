import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Decision, PolicyError, policyOf } from '@armature/runtime/authz';
import type { Subject } from '@armature/runtime/context';
import t from 'tap';
import { policyFile } from '../../devmesh/environment.ts';
import { type Door, doorsOf } from './doors.ts';
import { type Access, standingOf } from './standing.ts';
import { event, method, standingOn } from './testbed.ts';

const read = method('Read', 'a.read', 'customer_id');
const ownerless = method('Count', 'a.read');
const published = event('Made', 'a.publish');

const rows: { name: string; policy: string[]; who: string; door?: Door; is: Access; by?: string[] }[] = [
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
    door: ownerless,
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
    door: published,
    is: 'any',
  },
  {
    name: 'no workload publishes on behalf of a user',
    policy: ['p, service:a, a.publish, on-behalf'],
    who: 'service:a',
    door: published,
    is: 'deny',
  },
  { name: 'no person publishes', policy: ['p, user:bo, a.publish, any'], who: 'user:bo', door: published, is: 'deny' },
];

t.test('what a principal may, and by which rows', async (t) => {
  for (const { name, policy, who, door = read, is, by } of rows) {
    const { access, because } = standingOn(...policy).find(who, door);
    t.equal(access, is, name);
    const texts = because.map(({ text }) => text);
    if (by) t.same(texts, by, `${name}: by its rows`);
  }
});

t.test('a policy that services would refuse is refused', async (t) => {
  t.throws(() => standingOn('p, service:a, a.read, own'), PolicyError);
  t.throws(() => standingOn('p, role:x, a.read, any', 'g, role:x, role:y', 'g, role:y, role:x'), /test\.csv:[23]: /);
});

const descriptors = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
const doors = doorsOf(descriptors);
const permissions = [...new Set(doors.map(({ permission }) => permission))];

t.test('the doors are those of the contracts', async (t) => {
  const named = (name: string) => doors.find((door) => door.name.endsWith(name));
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
function decided(policy: ReturnType<typeof policyOf>, principal: string, door: Door): Access {
  const [kind, subject] = principal.split(':') as [Subject['kind'], string];
  const user = (of: Subject['kind'], name: string) => ({ kind: of, subject: name, token: '' });
  const scope = (decision: Decision): Access => {
    if (!decision.allowed) return 'deny';
    return decision.scope === 'own' && door.owner === '' ? 'deny' : decision.scope;
  };
  if (door.kind === 'event') {
    return principal.includes('user:') || principal.includes('client:')
      ? 'deny'
      : scope(policy.mayPublish(principal, door.permission));
  }
  if (kind === 'user' || kind === 'client') {
    return scope(policy.decide({ workload: 'workload:through', user: user(kind, subject) }, door.permission));
  }
  const alone = scope(policy.decide({ workload: principal, user: null }, door.permission));
  if (alone !== 'deny') return alone;
  const together = policy.decide({ workload: principal, user: user('user', 'root') }, door.permission);
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
    const [standing, policy] = [standingOf(text, 'part'), policyOf(text)];
    const wrong = standing.principals
      .filter((principal) => !principal.startsWith('role:'))
      .flatMap((principal) =>
        doors.flatMap((door) => {
          const [here, there] = [standing.find(principal, door).access, decided(policy, principal, door)];
          return here === there ? [] : [`${principal} at ${door.name}: ${here}, services say ${there}`];
        }),
      );
    t.same(wrong, [], `round ${round}`);
  }
});
