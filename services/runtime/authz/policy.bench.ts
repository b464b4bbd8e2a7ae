// Compares decisions over 20,000 rules and 1,000 roles with plain node-casbin, in one run:
// node services/runtime/authz/policy.bench.ts
import { newEnforcer, newModelFromString, StringAdapter } from 'casbin';
import type { Caller, User } from '../context/call-context.ts';
import { modelText } from './enforcer.ts';
import { policyOf } from './policy.ts';

const roles = 1000;
const rulesPerRole = 20;

interface Shape {
  name: string;
  permissions: number;
}

const shapes: Shape[] = [
  { name: '1,000 permissions, 20 rules each', permissions: 1000 },
  { name: '50 permissions, 400 rules each', permissions: 50 },
];

const permissionOf = (role: number, rule: number, { permissions }: Shape) =>
  `a.p${(role * 7 + rule * Math.floor(permissions / rulesPerRole)) % permissions}`;

/** Roles of 20 rules each, two for every user; every workload has one role with every permission on behalf of users. */
function policyText(shape: Shape): string {
  const rows = Array.from({ length: shape.permissions }, (_, index) => `p, role:edge, a.p${index}, on-behalf`);
  for (let role = 0; role < roles; role++) {
    for (let rule = 0; rule < rulesPerRole; rule++) {
      rows.push(`p, role:r${role}, ${permissionOf(role, rule, shape)}, ${rule % 2 ? 'own' : 'any'}`);
    }
    rows.push(`g, service:w${role}, role:edge`);
    rows.push(`g, user:u${role}, role:r${role}`, `g, user:u${role}, role:r${(role + 500) % roles}`);
  }
  return rows.join('\n');
}

/** One query per role and rule, each of another workload, user and permission; every other one is denied. */
function questionsOf(shape: Shape): { caller: Caller; permission: string }[] {
  return Array.from({ length: roles * rulesPerRole }, (_, index) => {
    const role = index % roles;
    const rule = Math.floor(index / roles);
    const user: User = { kind: 'user', subject: `u${index % 2 ? role : (role + 3) % roles}`, token: '', scope: 'all' };
    return { caller: { workload: `service:w${role}`, user }, permission: permissionOf(role, rule, shape) };
  });
}

/** Median and 99th percentile of single runs, and the mean, in microseconds. */
function measure(times: number, run: (index: number) => void): { mean: number; p50: number; p99: number } {
  const taken = new Float64Array(times);
  for (let index = 0; index < times; index++) {
    const start = process.hrtime.bigint();
    run(index);
    taken[index] = Number(process.hrtime.bigint() - start) / 1000;
  }
  taken.sort();
  const mean = taken.reduce((sum, each) => sum + each, 0) / times;
  return { mean, p50: taken[Math.floor(times / 2)]!, p99: taken[Math.floor(times * 0.99)]! };
}

async function bench(shape: Shape): Promise<void> {
  const text = policyText(shape);
  const model = newModelFromString(modelText);
  const plain = await newEnforcer(model, new StringAdapter(text));
  const questions = questionsOf(shape);
  const loaded = measure(5, () => policyOf(text));
  const warm = policyOf(text);
  let allowed = 0;
  for (const { caller, permission } of questions) if (warm.decide(caller, permission).allowed) allowed++;

  // Each query runs once on a policy that has evaluated none; the very first is reported separately.
  const fresh = policyOf(text);
  const first = measure(1, () => fresh.decide(questions[1]!.caller, questions[1]!.permission));
  const cold = measure(questions.length, (index) =>
    fresh.decide(questions[index]!.caller, questions[index]!.permission),
  );
  const few = questions.slice(0, 1000);
  const ask = ({ caller, permission }: (typeof few)[number]) => fresh.decide(caller, permission);
  for (const question of few) ask(question);
  const rounds = 200;
  const batch = measure(rounds, () => few.forEach(ask));
  const hot = batch.p50 / few.length;
  const sync = measure(30, (index) => {
    const { caller, permission } = questions[index * 17]!;
    plain.enforceSync(caller.workload, permission);
    plain.enforceSync(`user:${caller.user!.subject}`, permission);
  });

  const us = (value: number) => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} µs`;
  const times = (value: number) => `${Math.round(sync.p50 / value).toLocaleString('en')} times`;
  console.log(
    `${shape.name} (${text.split('\n').length.toLocaleString('en')} rows, ${Math.round((100 * allowed) / questions.length)} % of the questions allowed)`,
  );
  console.log(`  plain node-casbin, workload and user  p50 ${us(sync.p50)}`);
  console.log(`  hot, remembered                       p50 ${us(hot)}, ${times(hot)} faster (target 3 µs)`);
  console.log(
    `  cold, not asked before                p50 ${us(cold.p50)}, mean ${us(cold.mean)}, p99 ${us(cold.p99)}, ${times(cold.p50)} faster (target 60 µs)`,
  );
  console.log(`  the first decision of a new policy    ${us(first.p50)}`);
  console.log(`  building a policy from its text       ${us(loaded.p50)}`);
}

for (const shape of shapes) await bench(shape);
