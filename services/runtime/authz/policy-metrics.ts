import { Counter, Gauge, type Registry } from '../telemetry/metrics.ts';
import type { PolicySource } from './policy-source.ts';

/** The result of a policy that arrived: applied; read from disk; invalid; older than the current one. */
export type UpdateOutcome = 'applied' | 'copied' | 'refused' | 'older';
const outcomes: readonly UpdateOutcome[] = ['applied', 'copied', 'refused', 'older'];

/** Reports the version in force, from any source. Without a policy there is no sample. */
export function reportVersion(registry: Registry, source: Pick<PolicySource, 'current'>): void {
  new Gauge({
    name: 'armature_policy_version',
    help: 'The policy in force, by its version',
    labelNames: ['version'],
    registers: [registry],
    collect() {
      this.reset();
      const policy = source.current();
      if (policy) this.set({ version: policy.version }, 1);
    },
  });
}

export function followerMetrics(registry: Registry, ageMs: () => number): { count(outcome: UpdateOutcome): void } {
  new Gauge({
    name: 'armature_policy_age_seconds',
    help: 'Time since access confirmed the current policy; +Inf before the first one',
    registers: [registry],
    collect() {
      this.set(ageMs() / 1000);
    },
  });
  const updates = new Counter({
    name: 'armature_policy_updates_total',
    help: 'Policies that came, by what became of them',
    labelNames: ['outcome'],
    registers: [registry],
  });
  for (const outcome of outcomes) updates.inc({ outcome }, 0);
  return { count: (outcome) => updates.inc({ outcome }) };
}
