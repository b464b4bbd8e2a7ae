// Compiles the field rules of buf.validate into conditions in TypeScript. A rule that is in none of the tables here is
// unsupported: a contract that uses it does not generate.
import { type DescEnum, type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import type { ReflectMessage } from '@bufbuild/protobuf/reflect';
import type { Constants } from './constants.ts';
import { PatternError, translatePattern } from './pattern.ts';

/** The kinds of values: a singular field, an item of a list, a key or a value of a map. */
export type ValueType =
  | { readonly kind: 'scalar'; readonly scalar: ScalarType }
  | { readonly kind: 'enum'; readonly enum: DescEnum }
  | { readonly kind: 'message'; readonly message: DescMessage };

/** `broken` is an expression over the variable `v`, which holds the value. */
export interface Check {
  readonly broken: string;
  readonly description: string;
  readonly reason: string;
  /** An expression for the description, where it depends on the value; `description` is then unused. */
  readonly explained?: string;
}

/** Describes what is wrong with a rule. The caller adds the name of the field. */
export class RuleError extends Error {}

type Rule = (value: unknown, context: RuleContext) => Omit<Check, 'reason'>;

interface RuleContext {
  readonly type: ValueType;
  /** All rules of the value, by name as in the proto file. */
  readonly rules: ReadonlyMap<string, unknown>;
  readonly constants: Constants;
}

const literal = (value: unknown): string => (typeof value === 'bigint' ? `${value}n` : JSON.stringify(value));
const shown = (value: unknown): string => (typeof value === 'bigint' ? String(value) : JSON.stringify(value));
const plural = (count: unknown, noun: string): string => `${count} ${noun}${Number(count) === 1 ? '' : 's'}`;

const equal: Rule = (value) => ({ broken: `v !== ${literal(value)}`, description: `must be ${shown(value)}` });

function listed(values: unknown, context: RuleContext): string {
  const list = values as readonly unknown[];
  if (list.length === 1) return `v === ${literal(list[0])}`;
  return `${context.constants.set(list.map(literal))}.has(v)`;
}
const among: Rule = (values, context) => ({
  broken: `!(${listed(values, context)})`,
  description: `must be ${(values as unknown[]).length === 1 ? '' : 'one of '}${(values as unknown[]).map(shown).join(', ')}`,
});
const notAmong: Rule = (values, context) => ({
  broken: listed(values, context),
  description: `must not be ${(values as unknown[]).map(shown).join(', ')}`,
});

const numberRules: Readonly<Record<string, Rule>> = {
  const: equal,
  lt: (value) => ({ broken: `v >= ${literal(value)}`, description: `must be less than ${value}` }),
  lte: (value) => ({ broken: `v > ${literal(value)}`, description: `must be at most ${value}` }),
  gt: (value) => ({ broken: `v <= ${literal(value)}`, description: `must be greater than ${value}` }),
  gte: (value) => ({ broken: `v < ${literal(value)}`, description: `must be at least ${value}` }),
  in: among,
  not_in: notAmong,
};

const pattern: Rule = (value, { rules, constants }) => {
  const limits = [rules.get('max_len'), rules.get('max_bytes')].filter((limit) => limit !== undefined).map(Number);
  try {
    const source = translatePattern(String(value), Math.min(Number.POSITIVE_INFINITY, ...limits));
    return { broken: `!${constants.pattern(source)}.test(v)`, description: `must match ${value}` };
  } catch (error) {
    if (error instanceof PatternError) throw new RuleError(`string.pattern = ${shown(value)} ${error.message}`);
    throw error;
  }
};

// Order of evaluation: lengths first, before checks whose time grows with the length.
const stringRules: Readonly<Record<string, Rule>> = {
  const: equal,
  min_len: (n) => ({
    broken: Number(n) === 1 ? 'v.length === 0' : `rules.shorterThan(v, ${n})`,
    description: `must have at least ${plural(n, 'character')}`,
  }),
  max_len: (n) => ({ broken: `rules.longerThan(v, ${n})`, description: `must have at most ${plural(n, 'character')}` }),
  min_bytes: (n) => ({ broken: `rules.utf8Bytes(v) < ${n}`, description: `must have at least ${plural(n, 'byte')}` }),
  max_bytes: (n) => ({ broken: `rules.utf8Bytes(v) > ${n}`, description: `must have at most ${plural(n, 'byte')}` }),
  prefix: (value) => ({ broken: `!v.startsWith(${literal(value)})`, description: `must start with ${shown(value)}` }),
  in: among,
  not_in: notAmong,
  uuid: () => ({ broken: '!rules.isUuid(v)', description: 'must be a UUID' }),
  email: () => ({ broken: '!rules.isEmail(v)', description: '', explained: 'rules.emailProblem(v)' }),
  pattern,
};

const bytesRules: Readonly<Record<string, Rule>> = {
  min_len: (n) => ({ broken: `v.length < ${n}`, description: `must have at least ${plural(n, 'byte')}` }),
  max_len: (n) => ({ broken: `v.length > ${n}`, description: `must have at most ${plural(n, 'byte')}` }),
};

const enumRules: Readonly<Record<string, Rule>> = {
  const: equal,
  defined_only: (_value, { type, constants }) => ({
    broken: `!${constants.set(type.kind === 'enum' ? type.enum.values.map((value) => literal(value.number)) : [])}.has(v)`,
    description: 'must be a value that the contract defines',
  }),
  in: among,
  not_in: notAmong,
};

function durationLiteral(value: unknown): string {
  const { seconds, nanos } = (value as ReflectMessage).message as unknown as { seconds: bigint; nanos: number };
  return `{ seconds: ${seconds}n, nanos: ${nanos} }`;
}
function durationShown(value: unknown): string {
  const { seconds, nanos } = (value as ReflectMessage).message as unknown as { seconds: bigint; nanos: number };
  return `${Number(seconds) + nanos / 1e9} s`;
}
const durationRules: Readonly<Record<string, Rule>> = {
  lte: (value, { constants }) => ({
    broken: `rules.compareDurations(v, ${constants.value(durationLiteral(value))}) > 0`,
    description: `must be at most ${durationShown(value)}`,
  }),
  gte: (value, { constants }) => ({
    broken: `rules.compareDurations(v, ${constants.value(durationLiteral(value))}) < 0`,
    description: `must be at least ${durationShown(value)}`,
  }),
};

interface RuleTable {
  readonly fits: (type: ValueType) => boolean;
  readonly rules: Readonly<Record<string, Rule>>;
}

const scalar = (wanted: ScalarType) => (type: ValueType) => type.kind === 'scalar' && type.scalar === wanted;

const tables: Readonly<Record<string, RuleTable>> = {
  int32: { fits: scalar(ScalarType.INT32), rules: numberRules },
  int64: { fits: scalar(ScalarType.INT64), rules: numberRules },
  uint32: { fits: scalar(ScalarType.UINT32), rules: numberRules },
  uint64: { fits: scalar(ScalarType.UINT64), rules: numberRules },
  string: { fits: scalar(ScalarType.STRING), rules: stringRules },
  bytes: { fits: scalar(ScalarType.BYTES), rules: bytesRules },
  enum: { fits: (type) => type.kind === 'enum', rules: enumRules },
  duration: {
    fits: (type) => type.kind === 'message' && type.message.typeName === 'google.protobuf.Duration',
    rules: durationRules,
  },
};

/** Set fields of a rules message, by name as in the proto file. Throws on fields that the descriptor does not have. */
export function setRules(rules: ReflectMessage): Map<string, unknown> {
  if (rules.getUnknown()?.length)
    throw new RuleError('uses a rule that proto/buf/validate/validate.proto does not declare');
  const set = new Map<string, unknown>();
  for (const field of rules.fields) if (rules.isSet(field)) set.set(field.name, plain(field, rules.get(field)));
  return set;
}

function plain(field: DescField, value: unknown): unknown {
  return field.fieldKind === 'list' ? [...(value as Iterable<unknown>)] : value;
}

/** Compiles the rules of one kind, such as "string", for one value. Throws a RuleError. */
export function compileChecks(kind: string, rules: ReflectMessage, type: ValueType, constants: Constants): Check[] {
  const table = tables[kind];
  if (!table) throw new RuleError(`has a rule of ${kind}, which is unsupported`);
  if (!table.fits(type)) throw new RuleError(`has a rule of ${kind}, but its type is ${typeText(type)}`);
  const set = setRules(rules);
  for (const [name, value] of set) {
    if (!Object.hasOwn(table.rules, name)) throw new RuleError(`has the rule ${kind}.${name}, which is unsupported`);
    // A rule with the value false requires nothing.
    if (value === false) set.delete(name);
  }
  refuseContradictions(kind, set);
  return Object.entries(table.rules)
    .filter(([name]) => set.has(name))
    .map(([name, rule]) => ({
      ...rule(set.get(name), { type, rules: set, constants }),
      reason: `${kind}.${name}`,
    }));
}

export function refuseContradictions(kind: string, set: ReadonlyMap<string, unknown>): void {
  const pairsOfLimits = [
    ['gte', 'lte'],
    ['gt', 'lt'],
    ['min_len', 'max_len'],
    ['min_bytes', 'max_bytes'],
    ['min_items', 'max_items'],
    ['min_pairs', 'max_pairs'],
  ] as const;
  for (const [low, high] of pairsOfLimits) {
    const [from, to] = [set.get(low), set.get(high)];
    if (isNumeric(from) && isNumeric(to) && from > to) {
      throw new RuleError(`has ${kind}.${low} = ${from} above ${kind}.${high} = ${to}, which nothing satisfies`);
    }
  }
}

const isNumeric = (value: unknown): value is number | bigint => typeof value === 'number' || typeof value === 'bigint';

export function typeText(type: ValueType): string {
  if (type.kind === 'scalar') return ScalarType[type.scalar]?.toLowerCase() ?? 'unknown';
  return type.kind === 'enum' ? type.enum.typeName : type.message.typeName;
}
