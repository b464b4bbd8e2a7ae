import { type Background, type CallContext, type Database, newId, principalOf, type Tx } from '@armature/runtime';
import type { FilteredAdapter, Model } from 'casbin';
import * as entities from './entities.ts';
import type { Rule } from './policy.ts';
import type { Change, ChangePolicy } from './policy-store.ts';

/** Rows of one kind that a filter lets through: a field that is empty or left out matches anything. */
export interface PolicyFilter {
  p?: readonly string[];
  g?: readonly string[];
}

export interface AdapterOptions {
  db: Database;
  change: ChangePolicy;
  background: Background;
}

type Kind = 'p' | 'g';
const widths: Record<Kind, number> = { p: 3, g: 2 };
const timeoutMs = 30_000;

/**
 * A Casbin adapter over the tables of this service, for tools that use Casbin: p rows are rules, g rows are live grants.
 * A change by an enforcer makes a new version of the policy, or is refused, like any other change. Denied subjects are
 * left out, because Casbin's rows can only allow.
 *
 * Removing a row that does not exist does nothing, as in Casbin's own adapters. Adding a row that exists is an error.
 */
export function casbinAdapter({ db, change, background }: AdapterOptions): FilteredAdapter {
  let filtered = false;
  const write = async (
    words: string,
    work: (tx: Tx, change: Change, call: CallContext) => Promise<void>,
  ): Promise<void> => {
    const call = background('casbin adapter', timeoutMs);
    try {
      await db.transaction(call, (tx) =>
        change(tx, call, async (made) => {
          await work(tx, made, call);
          return { words, result: undefined, rows: null };
        }),
      );
    } finally {
      call.close();
    }
  };
  const load = async (model: Model, filter: PolicyFilter): Promise<void> => {
    const rows = await db.read(null, async (sql) => ({
      p: (await sql.find(entities.PolicyRule, {}, { orderBy: { subject: 'asc', permission: 'asc' } })).map(ruleFields),
      g: (await sql.find(entities.RoleGrant, { state: 'LIVE' }, { orderBy: { grantId: 'asc' } })).map(grantFields),
    }));
    for (const kind of ['p', 'g'] as const) {
      const definition = model.model.get(kind)?.get(kind);
      if (!definition) throw new Error(`the model has no definition of ${kind}`);
      definition.policy.push(...rows[kind].filter((fields) => matches(fields, 0, filter[kind] ?? [])));
    }
  };
  return {
    async loadPolicy(model) {
      await load(model, {});
      filtered = false;
    },
    async loadFilteredPolicy(model, filter: PolicyFilter) {
      await load(model, filter);
      filtered = true;
    },
    isFiltered: () => filtered,
    async savePolicy(model) {
      // It would delete the rows that the filter left out.
      if (filtered) throw new Error('a policy that was loaded in part cannot be saved as a whole');
      await write('the whole policy was put by a Casbin enforcer', (tx, made, call) =>
        replaceAll(tx, made, call, model),
      );
      return true;
    },
    addPolicy: (section, type, fields) =>
      write(`a Casbin enforcer added ${type}, ${fields.join(', ')}`, async (tx, made, call) => {
        if (kindOf(section, type, fields) === 'p') await addRules(tx, made, [ruleOf(fields)]);
        else await addGrants(tx, made, call, [fields]);
      }),
    async removePolicy(section, type, fields) {
      kindOf(section, type, fields);
      await this.removeFilteredPolicy(section, type, 0, ...fields);
    },
    removeFilteredPolicy: (section, type, start, ...values) =>
      write(`a Casbin enforcer removed ${type}, ${values.join(', ')}`, async (tx, made, call) => {
        const kind = kindOf(section, type);
        if (values.every((value) => value === '')) throw new Error('a filter that matches everything removes nothing');
        if (kind === 'p') await removeRules(tx, start, values);
        else await removeGrants(tx, made, call, start, values);
      }),
  };
}

/** Throws unless the tables can store such a row. */
function kindOf(section: string, type: string, fields?: readonly string[]): Kind {
  if (type !== section || (type !== 'p' && type !== 'g'))
    throw new Error(`there are p and g rows, but no ${type} rows`);
  if (fields && fields.length !== widths[type]) throw new Error(`a ${type} row has ${widths[type]} fields`);
  return type;
}

type RuleFields = Pick<Rule, 'subject' | 'permission' | 'scope'>;
type GrantFields = { member: string; role: string };

const ruleFields = ({ subject, permission, scope }: RuleFields): string[] => [subject, permission, scope];
const grantFields = ({ member, role }: GrantFields): string[] => [member, role];
/** An unknown scope is rejected when the policy is compiled, with the row in the message. */
const ruleOf = ([subject = '', permission = '', scope = '']: readonly string[]): Rule => ({
  subject,
  permission,
  scope: scope as Rule['scope'],
});

const matches = (fields: readonly string[], start: number, values: readonly string[]): boolean =>
  values.every((value, index) => value === '' || fields[start + index] === value);

async function addRoles(tx: Tx, { now }: Change, names: readonly string[]): Promise<void> {
  const known = await tx.em.find(entities.PolicyRole, { name: { $in: [...names] } });
  const missing = new Set(names).difference(new Set(known.map(({ name }) => name)));
  for (const name of [...missing].sort()) tx.em.create(entities.PolicyRole, { name, updatedAt: now });
  await tx.em.flush();
}

async function addRules(tx: Tx, change: Change, rules: readonly Rule[]): Promise<void> {
  await addRoles(
    tx,
    change,
    rules.map(({ subject }) => subject),
  );
  if (rules.length > 0) await tx.em.insertMany(entities.PolicyRule, [...rules]);
}

async function addGrants(tx: Tx, change: Change, call: CallContext, rows: readonly string[][]): Promise<void> {
  const named = rows.flatMap(([member = '', role = '']) => (member.startsWith('role:') ? [member, role] : [role]));
  await addRoles(tx, change, named);
  const live = await tx.em.find(entities.RoleGrant, { state: 'LIVE' });
  for (const [member = '', role = ''] of rows) {
    if (live.some((grant) => grant.member === member && grant.role === role)) {
      throw new Error(`${member} has ${role} already`);
    }
    tx.em.create(entities.RoleGrant, {
      grantId: newId(),
      member,
      role,
      state: 'LIVE',
      startAt: null,
      endAt: null,
      grantedBy: principalOf(call.caller),
      createdAt: change.now,
      revokedAt: null,
      revokedBy: '',
      version: change.version,
    });
  }
}

async function removeRules(tx: Tx, start: number, values: readonly string[]): Promise<void> {
  for (const row of await tx.em.find(entities.PolicyRule, {})) {
    if (matches(ruleFields(row), start, values)) tx.em.remove(row);
  }
}

/** Grants are never deleted: they end, so that the history of who had which role stays. */
async function removeGrants(
  tx: Tx,
  { version, now }: Change,
  call: CallContext,
  start: number,
  values: readonly string[],
): Promise<void> {
  for (const row of await tx.em.find(entities.RoleGrant, { state: 'LIVE' })) {
    if (!matches(grantFields(row), start, values)) continue;
    Object.assign(row, { state: 'ENDED', revokedAt: now, revokedBy: principalOf(call.caller), version });
  }
}

/** Replaces the rows of the tables by those of the model. Grants that are in both keep their ids and times. */
async function replaceAll(tx: Tx, change: Change, call: CallContext, model: Model): Promise<void> {
  const rowsOf = (kind: Kind) => model.model.get(kind)?.get(kind)?.policy ?? [];
  for (const kind of ['p', 'g'] as const) for (const fields of rowsOf(kind)) kindOf(kind, kind, fields);
  await tx.em.nativeDelete(entities.PolicyRule, {});
  await addRules(tx, change, rowsOf('p').map(ruleOf));
  const wanted = new Map(rowsOf('g').map((fields) => [fields.join(), fields]));
  for (const row of await tx.em.find(entities.RoleGrant, { state: 'LIVE' })) {
    if (wanted.delete(grantFields(row).join())) continue;
    Object.assign(row, {
      state: 'ENDED',
      revokedAt: change.now,
      revokedBy: principalOf(call.caller),
      version: change.version,
    });
  }
  await addGrants(tx, change, call, [...wanted.values()]);
}
