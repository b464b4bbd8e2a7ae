import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ExplainAccessResponse, Scope } from '@armature/proto/access/v1/access.ts';
import { didYouMean } from '../call/nearest.ts';
import type { Invocation } from '../command.ts';
import { UsageError } from '../exit-codes.ts';
import { printJson } from '../json.ts';
import { withAccess } from './access-client.ts';
import { operationsOf } from './operations.ts';

export interface ExplainOptions {
  /** Who asks access. */
  as: string;
  workload: string;
  /** The scope of the subject's token; not given: all. */
  scope?: string;
}

/** Says whether a subject may do something by the policy in force, and why. The exit code is 1 where it may not. */
export async function explainAccess(
  subject: string,
  what: string,
  { as, workload, scope = '' }: ExplainOptions,
  invocation: Invocation,
): Promise<void> {
  const permission = permissionOf(what);
  const asked = { workload, subject: subject === 'nobody' ? '' : subject, permission, scope };
  const response = await withAccess(as, invocation, (client) => client.explainAccess(asked));
  process.exitCode = response.allowed ? 0 : 1;
  if (invocation.json) {
    printJson({ ...asked, ...(ExplainAccessResponse.toJSON(response) as object), allowed: response.allowed });
    return;
  }
  const allowed = Object.entries(Scope).find(([, value]) => value === response.scope)?.[0] ?? '';
  const verdict = response.allowed ? `allowed, scope ${allowed.replace('SCOPE_', '').toLowerCase()}` : 'denied';
  console.log(`${permission} for ${asked.subject || 'no user'} through ${workload}: ${verdict}`);
  for (const reason of response.reasons) console.log(`  ${reason}`);
  console.log(`by version ${response.policyVersion} of the policy`);
}

/** A permission as it is, or the one that a method or an event needs: its name with or without the package. */
function permissionOf(what: string): string {
  const descriptors = readFileSync(fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb')));
  const operations = operationsOf(descriptors);
  const permissions = new Set(operations.map(({ permission }) => permission));
  if (permissions.has(what)) return what;
  const found = operations.find(({ name }) => name === what || name.endsWith(`.${what}`));
  if (found) return found.permission;
  const near = didYouMean(what, [
    ...permissions,
    ...operations.map(({ name }) => name.slice(name.lastIndexOf('.') + 1)),
  ]);
  throw new UsageError(`${what} is no permission, method or event${near || '; armature access matrix lists them'}`);
}
