// Writes the validator of a message: straight-line TypeScript, one block per field that has rules.
import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import type { ReflectMessage } from '@bufbuild/protobuf/reflect';
import type { GeneratedFile, Printable } from '@bufbuild/protoplugin';
import {
  type Check,
  compileChecks,
  RuleError,
  refuseContradictions,
  setRules,
  typeText,
  type ValueType,
} from './checks.ts';
import type { Constants } from './constants.ts';
import { contractPath, modulePath, propertyName, typeName } from './names.ts';
import type { Options } from './options.ts';
import type { Problems } from './problems.ts';
import { hasPresence, holdsText, type RuleReach, type ValueRules, valueRules, valueType } from './rules.ts';
import { type TextRule, textChecks, textRuleOf } from './text-rule.ts';

export interface ValidatorContext {
  readonly file: GeneratedFile;
  readonly packageName: string;
  readonly options: Options;
  readonly reach: RuleReach;
  readonly constants: Constants;
  readonly problems: Problems;
}

/** Refers to the validator of a message, wherever it is generated. */
export function validatorOf(message: DescMessage, { file, packageName }: ValidatorContext): Printable {
  const name = `validate${typeName(message)}`;
  const home = message.file.proto.package;
  return home === packageName ? name : file.import(name, contractPath(home));
}

/** Writes nothing for a message without rules, including nested messages. */
export function printValidator(message: DescMessage, context: ValidatorContext): void {
  if (!context.reach.has(message)) return;
  const { file } = context;
  const type = file.import(typeName(message), modulePath(message.file), true);
  const violation = file.import('FieldViolation', './../contract.ts', true);
  file.print(file.export('function', `validate${typeName(message)}`), [
    '(message: ',
    type,
    ', violations: ',
    violation,
    '[]): void {',
  ]);
  for (const line of bodyOf(message, context)) file.print('  ', line);
  file.print('}');
  file.print();
}

function bodyOf(message: DescMessage, context: ValidatorContext): Printable[] {
  const lines: Printable[] = [];
  for (const oneof of message.oneofs) {
    const rules = context.options.oneofRules(oneof);
    if (!rules) continue;
    try {
      const set = setRules(rules);
      for (const name of set.keys())
        if (name !== 'required') throw new RuleError(`has the rule oneof.${name}, which is unsupported`);
      const names = oneof.fields.map((field) => field.name).join(', ');
      const check = { description: `must have one of ${names}`, reason: 'oneof.required' };
      if (set.get('required'))
        lines.push(`if (message.${propertyName(oneof)} === undefined) ${reportLine(quote(oneof.name), check)}`);
    } catch (error) {
      if (!(error instanceof RuleError)) throw error;
      context.problems.add(oneof, error.message);
    }
  }
  for (const field of message.fields) {
    try {
      lines.push(...fieldBlock(field, context));
    } catch (error) {
      if (!(error instanceof RuleError)) throw error;
      context.problems.add(field, error.message);
    }
  }
  return lines;
}

function fieldBlock(field: DescField, context: ValidatorContext): Printable[] {
  const optionRules = context.options.fieldRules(field);
  const text = context.reach.isSent(field.parent) ? textRuleOf(field, context.options.text(field)) : 'unrestricted';
  if (!optionRules && !holdsText(field) && !(field.message && context.reach.has(field.message))) return [];
  const rules = valueRules(optionRules);
  const body = blockOf(field, rules, { ...context, text });
  if (body.length === 0) return [];
  const oneof = field.oneof;
  if (!oneof) return ['{', ...indent([`const ${declared(field)} = message.${propertyName(field)};`, ...body]), '}'];
  const holder = `message.${propertyName(oneof)}`;
  return [
    `if (${holder}?.$case === ${quote(propertyName(field))}) {`,
    ...indent([`const ${declared(field)} = ${holder}.value;`, ...body]),
    '}',
  ];
}

/** Enums are numbers in TypeScript: a value that the contract does not define is still accepted. */
function declared(field: DescField): string {
  if (field.fieldKind !== 'enum') return 'v';
  return hasPresence(field) ? 'v: number | undefined' : 'v: number';
}

/** The context of one field. */
type FieldContext = ValidatorContext & { readonly text: TextRule };

function blockOf(field: DescField, rules: ValueRules, context: FieldContext): Printable[] {
  if (field.fieldKind === 'list') return listBlock(field, rules, context);
  if (field.fieldKind === 'map') return mapBlock(field, rules, context);
  return valueBlock(valueType(field), rules, hasPresence(field) && !field.oneof, quote(field.name), context);
}

/** Lines over the variable `v`; `path` is an expression for the field's path, evaluated only for a violation. */
function valueBlock(
  type: ValueType,
  rules: ValueRules,
  presence: boolean,
  path: string,
  context: FieldContext,
): Printable[] {
  const checks = rules.typed ? compileChecks(rules.typed[0], rules.typed[1], type, context.constants) : [];
  checks.push(...textChecks(context.text, type, rules));
  const inner: Printable[] = checks.map(
    (check, i) => `${i > 0 ? 'else ' : ''}if (${check.broken}) ${reportLine(path, check)}`,
  );
  if (type.kind === 'message') inner.push(...nestedLines(type.message, path, context));
  const absent = presence ? 'v === undefined' : zeroTest(type);
  const requiredLine = rules.required
    ? [`if (${absent}) ${reportLine(path, { description: 'must be set', reason: 'required' })}`]
    : [];
  if (inner.length === 0) return requiredLine;
  const guards = [];
  if (presence && !rules.required) guards.push('v !== undefined');
  if (rules.ignoreZero && type.kind !== 'message') guards.push(`!(${zeroTest(type)})`);
  const guarded = guards.length > 0 ? [`if (${guards.join(' && ')}) {`, ...indent(inner), '}'] : inner;
  if (requiredLine.length === 0) return guarded;
  return [...requiredLine, 'else {', ...indent(guarded), '}'];
}

function nestedLines(message: DescMessage, path: string, context: ValidatorContext): Printable[] {
  if (!context.reach.has(message)) return [];
  return [
    'const before = violations.length;',
    [validatorOf(message, context), '(v, violations);'],
    `if (violations.length > before) rules.nest(violations, before, ${path});`,
  ];
}

function listBlock(field: DescField, rules: ValueRules, context: FieldContext): Printable[] {
  const limits: Check[] = [];
  let items = valueRules(undefined);
  let unique = false;
  const type = valueType(field);
  if (rules.typed) {
    const [kind, message] = rules.typed;
    if (kind !== 'repeated')
      throw new RuleError(`has a rule of ${kind}, but it is repeated; write it under repeated.items`);
    const set = setRules(message);
    for (const [name, value] of set) {
      if (name === 'items') items = valueRules(value as ReflectMessage);
      else if (name === 'unique') unique = value === true;
      else limits.push(sizeCheck('repeated', name, value, 'v.length', 'item'));
    }
    refuseContradictions(kind, set);
  }
  if (unique && (type.kind === 'message' || (type.kind === 'scalar' && type.scalar === ScalarType.BYTES))) {
    throw new RuleError(`has the rule repeated.unique, which is unsupported for items of type ${typeText(type)}`);
  }
  const each = valueBlock(type, items, false, `\`${field.name}[\${i}]\``, context);
  const body: Printable[] = [];
  if (unique) {
    const check = { description: 'must not repeat a value', reason: 'repeated.unique' };
    body.push(`if (rules.firstRepeat(v) !== -1) ${reportLine(quote(field.name), check)}`);
  }
  if (each.length > 0) {
    const item = `const v${type.kind === 'enum' ? ': number' : ''} = list[i]!;`;
    body.push('const list = v;', 'for (let i = 0; i < list.length && violations.length < rules.violationLimit; i++) {');
    body.push(...indent([item, ...each]), '}');
  }
  return collectionBlock(field, rules, 'v.length', limits, body);
}

function mapBlock(field: DescField & { fieldKind: 'map' }, rules: ValueRules, context: FieldContext): Printable[] {
  const limits: Check[] = [];
  let keys = valueRules(undefined);
  let values = valueRules(undefined);
  if (rules.typed) {
    const [kind, message] = rules.typed;
    if (kind !== 'map')
      throw new RuleError(`has a rule of ${kind}, but it is a map; write it under map.keys or map.values`);
    const set = setRules(message);
    for (const [name, value] of set) {
      if (name === 'keys') keys = valueRules(value as ReflectMessage);
      else if (name === 'values') values = valueRules(value as ReflectMessage);
      else limits.push(sizeCheck('map', name, value, 'rules.pairs(v)', 'entry'));
    }
    refuseContradictions(kind, set);
  }
  const type = valueType(field);
  const path = `rules.entryPath(${quote(field.name)}, key)`;
  const keyLines = valueBlock({ kind: 'scalar', scalar: field.mapKey }, keys, false, path, context);
  const valueLines = valueBlock(type, values, false, path, context);
  const inner: Printable[] = [];
  if (keyLines.length > 0) inner.push('{', ...indent(['const v = key;', ...keyLines]), '}');
  if (valueLines.length > 0)
    inner.push(
      'if (item !== undefined) {',
      ...indent([`const v${type.kind === 'enum' ? ': number' : ''} = item;`, ...valueLines]),
      '}',
    );
  const body =
    inner.length === 0
      ? []
      : [
          'const map = v;',
          ...mapLoop(field.mapKey),
          ...indent(['if (violations.length >= rules.violationLimit) break;', ...inner]),
          '}',
        ];
  return collectionBlock(field, rules, 'rules.pairs(v)', limits, body);
}

/** ts-proto makes a Map of what cannot be a property name, and an object of the rest. */
function mapLoop(key: ScalarType): Printable[] {
  const text = ScalarType[key] ?? '';
  if (text === 'BOOL' || text.includes('64')) return ['for (const [key, item] of map) {'];
  if (key === ScalarType.STRING) return ['for (const key in map) {', '  const item = map[key];'];
  return ['for (const property in map) {', '  const key = Number(property);', '  const item = map[key];'];
}

function sizeCheck(kind: string, name: string, value: unknown, size: string, noun: string): Check {
  const many = `${value} ${noun === 'entry' ? (value === 1n ? 'entry' : 'entries') : value === 1n ? 'item' : 'items'}`;
  if (name.startsWith('min_'))
    return { broken: `${size} < ${value}`, description: `must have at least ${many}`, reason: `${kind}.${name}` };
  if (name.startsWith('max_'))
    return { broken: `${size} > ${value}`, description: `must have at most ${many}`, reason: `${kind}.${name}` };
  throw new RuleError(`has the rule ${kind}.${name}, which is unsupported`);
}

/** The items of a list or map of the wrong size are not checked: the sender must correct the size first. */
function collectionBlock(
  field: DescField,
  rules: ValueRules,
  size: string,
  limits: readonly Check[],
  body: readonly Printable[],
): Printable[] {
  const path = quote(field.name);
  const checks = [...limits];
  if (rules.required) checks.unshift({ broken: `${size} === 0`, description: 'must be set', reason: 'required' });
  const chain: Printable[] = checks.map(
    (check, i) => `${i > 0 ? 'else ' : ''}if (${check.broken}) ${reportLine(path, check)}`,
  );
  const whole = body.length === 0 ? chain : chain.length === 0 ? [...body] : [...chain, 'else {', ...indent(body), '}'];
  return rules.ignoreZero && whole.length > 0 ? [`if (${size} !== 0) {`, ...indent(whole), '}'] : whole;
}

function zeroTest(type: ValueType): string {
  if (type.kind === 'message') return 'v === undefined';
  if (type.kind === 'enum') return 'v === 0';
  const name = ScalarType[type.scalar] ?? '';
  if (name === 'STRING') return "v === ''";
  if (name === 'BYTES') return 'v.length === 0';
  if (name === 'BOOL') return '!v';
  return name.includes('64') ? 'v === 0n' : 'v === 0';
}

const quote = (text: string): string => JSON.stringify(text);

function reportLine(path: string, { description, reason, explained }: Omit<Check, 'broken'>): string {
  return `rules.report(violations, ${path}, ${explained ?? quote(description)}, ${quote(reason)});`;
}

const indent = (lines: readonly Printable[]): Printable[] => lines.map((line) => ['  ', line]);
