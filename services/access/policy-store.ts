import {
  type CallContext,
  newId,
  type Param,
  principalOf,
  type SqlReader,
  type Tx,
  utcDate,
  type Watchers,
} from '@armature/runtime';
import type { RuleScope } from '@armature/runtime/authz';
import { lastAdministrator } from './errors.ts';
import { assertMayGive, type ChangedRows, type GivingOptions } from './giving.ts';
import { type Compiled, type Contents, compile, type GrantRow, type Rule, withDenials } from './policy.ts';

/** The key that wakes watchers of the policy. */
export const policyKey = 'policy';

/** The policy in force. Version 0: there is none yet. */
export interface Head {
  version: bigint;
  digest: string;
}

/** A change in progress: the version that it makes, and the database's time. */
export interface Change {
  version: bigint;
  /** The previous version. */
  before: bigint;
  now: Date;
}

/** The text of a change for the history, and the result of the method that made it. */
export interface Changed<T> {
  words: string;
  result: T;
  /** What the change gives and takes; null where nothing is given that was not given before. */
  rows: ChangedRows | null;
}

export interface ChangeOptions {
  /** The change denies these subjects, or ends their denials, and changes the grants of no other subject. */
  denials?: Denials;
  /** Called instead of a refusal when no administrator is left; for changes that cannot be refused. */
  onUnadministered?: () => void;
}

export interface Denials {
  subjects: readonly string[];
  denied: boolean;
}

export type ChangePolicy = <T>(
  tx: Tx,
  call: CallContext,
  work: (change: Change) => Promise<Changed<T>>,
  options?: ChangeOptions,
) => Promise<T>;

const changedLength = 500;

/**
 * Makes every change of the policy. The head row is locked, so that changes run one after another. `work` writes the
 * rows of the change; then the policy is compiled from all rows and becomes the new version, or the change is refused.
 * Throws what `work` and `compile` throw, LAST_ADMINISTRATOR, and for changes that a caller asks for what
 * `assertMayGive` throws.
 */
export function policyChanges(watching: Watchers, giving: GivingOptions = { reservedGrantable: false }): ChangePolicy {
  const whole = async (tx: Tx, call: CallContext, rows: ChangedRows | null) => {
    const contents = await readContents(tx);
    const compiled = compile(contents);
    if (rows && call.kind === 'server') assertMayGive(principalOf(call.caller), contents, rows, giving);
    return compiled;
  };
  return async (tx, call, work, { onUnadministered, denials } = {}) => {
    // sysdate() is the time after the lock was acquired; utc_timestamp() would be the time before the wait for it.
    const [head] = await tx.query<{ version: string; administered: number; at: string }>(
      'select version, administered, sysdate(6) as at from policy_head where id = 1 for update',
    );
    if (!head) throw new Error('table policy_head has no row');
    const before = BigInt(head.version);
    const version = before + 1n;
    const patched = denials && before > 0n && !(await anyNamed(tx, denials.subjects)) ? denials : null;
    const { words, result, rows } = await work({ version, before, now: utcDate(head.at) });
    await tx.em.flush();
    const compiled = patched ? await patch(tx, patched, head.administered === 1) : await whole(tx, call, rows);
    // Where no lasting administrator was left before, one whose grant ends must still be able to make changes.
    if (!compiled.administered && (head.administered === 1 || before === 0n)) {
      if (!onUnadministered) throw lastAdministrator();
      onUnadministered();
    }
    await writeVersion(tx, version, compiled, principalOf(call.caller), words);
    watching.wakeAfter(tx, [policyKey]);
    return result;
  };
}

/** Whether rules or grants name one of the subjects, so that denying it may change who administers. */
async function anyNamed(tx: Tx, subjects: readonly string[]): Promise<boolean> {
  const rows = await tx.query(
    `(select 1 from role_grant where member in (?) and state in ('LIVE', 'WAITING') limit 1)
     union all (select 1 from policy_rule where subject in (?) limit 1)`,
    [subjects, subjects],
  );
  return rows.length > 0;
}

/** Rules and grants do not change, so only the denials of the text are replaced and nothing is compiled. */
async function patch(tx: Tx, { subjects, denied }: Denials, administered: boolean): Promise<Compiled> {
  const { text } = await readPolicy(tx);
  return { ...withDenials(text, subjects, denied), administered };
}

async function writeVersion(tx: Tx, version: bigint, compiled: Compiled, by: string, words: string): Promise<void> {
  const { text, digest, administered } = compiled;
  await tx.execute('update policy_head set version = ?, digest = ?, administered = ?, text = ? where id = 1', [
    version,
    digest,
    administered ? 1 : 0,
    text,
  ]);
  await tx.execute(
    `insert into policy_version (version, digest, changed_by, changed, changed_at)
     values (?, ?, ?, ?, utc_timestamp(6))`,
    [version, digest, by, words.length > changedLength ? `${words.slice(0, changedLength - 1)}…` : words],
  );
}

type ContentsRow =
  | { kind: 'p'; a: string; b: string; c: RuleScope }
  | { kind: 'g'; a: string; b: string; c: GrantRow['state']; lasting: number }
  | { kind: 'd'; a: string };

/** One statement, to keep the lock of the head short. */
async function readContents(sql: SqlReader): Promise<Contents> {
  const rows = await sql.query<ContentsRow>(
    `select 'p' as kind, subject as a, permission as b, scope as c, 1 as lasting from policy_rule
     union all select 'g', member, role, state, end_at is null from role_grant where state in ('LIVE', 'WAITING')
     union all select 'd', subject, '', '', 1 from denied_subject where ended_at is null`,
  );
  const contents = { rules: [] as Rule[], grants: [] as GrantRow[], denied: [] as string[] };
  for (const row of rows) {
    if (row.kind === 'p') contents.rules.push({ subject: row.a, permission: row.b, scope: row.c });
    else if (row.kind === 'd') contents.denied.push(row.a);
    else contents.grants.push({ member: row.a, role: row.b, state: row.c, lasting: Number(row.lasting) === 1 });
  }
  return contents;
}

/** The version and digest of the policy in force. */
export async function readHead(sql: SqlReader): Promise<Head> {
  const [row] = await sql.query<{ version: string; digest: string }>(
    'select version, digest from policy_head where id = 1',
  );
  return row ? { version: BigInt(row.version), digest: row.digest } : { version: 0n, digest: '' };
}

/** The policy in force with its text, both of the same version. */
export async function readPolicy(sql: SqlReader): Promise<Head & { text: string }> {
  const [row] = await sql.query<{ version: string; digest: string; text: string }>(
    'select version, digest, text from policy_head where id = 1',
  );
  return row ? { ...row, version: BigInt(row.version) } : { version: 0n, digest: '', text: '' };
}

const seedBatch = 500;

/** Makes the first version of the policy. Returns false when there is one: instances that start together seed once. */
export async function seed(tx: Tx, call: CallContext, change: ChangePolicy, contents: Contents): Promise<boolean> {
  const [head] = await tx.query<{ version: string }>('select version from policy_head where id = 1 for update');
  if (!head || BigInt(head.version) !== 0n) return false;
  await change(tx, call, async ({ version, now }) => {
    const { rules, grants, denied } = contents;
    // Grants may name roles without rules; these get a row as well.
    const subjects = new Set([...rules.map(({ subject }) => subject), ...grants.flatMap(rolesOf)]);
    await insertRows(
      tx,
      'policy_role (name, updated_at)',
      [...subjects].sort().map((name) => [name, now]),
    );
    await insertRows(
      tx,
      'policy_rule (subject, permission, scope)',
      rules.map(({ subject, permission, scope }) => [subject, permission, scope]),
    );
    const by = principalOf(call.caller);
    await insertRows(
      tx,
      'role_grant (grant_id, member, role, state, granted_by, created_at, version)',
      grants.map(({ member, role }) => [newId(), member, role, 'LIVE', by, now, version]),
    );
    await insertRows(
      tx,
      'denied_subject (subject, created_at)',
      denied.map((subject) => [subject, now]),
    );
    return { words: 'the policy that a new schema begins with', result: undefined, rows: null };
  });
  return true;
}

const rolesOf = ({ member, role }: GrantRow): string[] => (member.startsWith('role:') ? [member, role] : [role]);

async function insertRows(tx: Tx, into: string, rows: readonly (readonly Param[])[]): Promise<void> {
  for (let start = 0; start < rows.length; start += seedBatch) {
    const batch = rows.slice(start, start + seedBatch);
    const values = batch.map((row) => `(${row.map(() => '?').join(', ')})`).join(', ');
    await tx.execute(`insert into ${into} values ${values}`, batch.flat());
  }
}
