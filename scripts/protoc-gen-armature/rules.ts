// Which messages need a validator, and which rules of a field apply besides the checks of its value.
import { type DescField, type DescFile, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import type { ReflectMessage } from '@bufbuild/protobuf/reflect';
import { RuleError, setRules, type ValueType } from './checks.ts';
import { isContractPackage } from './names.ts';
import type { Options } from './options.ts';

/** The rules of one value, sorted. */
export interface ValueRules {
  readonly required: boolean;
  /** The other rules do not apply to the zero value. */
  readonly ignoreZero: boolean;
  /** At most one kind of rules, such as "string", with its message. */
  readonly typed: readonly [kind: string, rules: ReflectMessage] | undefined;
}

const ignoreIfZeroValue = 1;

/** Throws a RuleError for unsupported rules. */
export function valueRules(rules: ReflectMessage | undefined): ValueRules {
  const set = rules ? setRules(rules) : new Map<string, unknown>();
  const ignore = set.get('ignore') ?? 0;
  if (ignore !== 0 && ignore !== ignoreIfZeroValue) throw new RuleError(`has ignore: ${ignore}, which is unsupported`);
  const required = set.get('required') === true;
  for (const name of ['ignore', 'required']) set.delete(name);
  const typed = [...set].map(([kind, value]) => {
    if (typeof value !== 'object' || Array.isArray(value))
      throw new RuleError(`has the rule ${kind}, which is unsupported`);
    return [kind, value as ReflectMessage] as const;
  });
  if (typed.length > 1) throw new RuleError(`has rules of several kinds: ${typed.map(([kind]) => kind).join(', ')}`);
  return { required, ignoreZero: ignore === ignoreIfZeroValue, typed: typed[0] };
}

/** The type of a singular field, of a list's items or of a map's values. */
export function valueType(field: DescField): ValueType {
  const kind =
    field.fieldKind === 'list' ? field.listKind : field.fieldKind === 'map' ? field.mapKind : field.fieldKind;
  if (kind === 'message' && field.message) return { kind, message: field.message };
  if (kind === 'enum' && field.enum) return { kind, enum: field.enum };
  if (field.scalar === undefined) throw new Error(`${field.parent.typeName}.${field.name} has no type`);
  return { kind: 'scalar', scalar: field.scalar };
}

/** Whether a missing value differs from zero. Members of a oneof are checked only if they are set. */
export function hasPresence(field: DescField): boolean {
  return field.fieldKind === 'message' || field.proto.proto3Optional;
}

/** Returns which messages have rules themselves or in a nested message. */
export interface RuleReach {
  has(message: DescMessage): boolean;
  /** Whether a client can send the message: the rule for text applies to these. */
  isSent(message: DescMessage): boolean;
}

export function ruleReach(files: readonly DescFile[], messages: readonly DescMessage[], options: Options): RuleReach {
  const sent = sentMessages(files);
  const hasText = (message: DescMessage) => sent.has(message) && message.fields.some(holdsText);
  const ruled = new Set<DescMessage>(messages.filter((message) => hasOwnRules(message, options) || hasText(message)));
  for (let grew = true; grew; ) {
    grew = false;
    for (const message of messages) {
      if (ruled.has(message) || !below(message).some((child) => ruled.has(child))) continue;
      ruled.add(message);
      grew = true;
    }
  }
  return { has: (message) => ruled.has(message), isSent: (message) => sent.has(message) };
}

/** The requests of all contracts and the messages inside them. */
function sentMessages(files: readonly DescFile[]): Set<DescMessage> {
  const sent = new Set<DescMessage>();
  const add = (message: DescMessage): void => {
    if (sent.has(message) || !isContractPackage(message.file.proto.package)) return;
    sent.add(message);
    for (const child of below(message)) add(child);
  };
  const services = files.flatMap((file) => file.services);
  for (const { input } of services.flatMap(({ methods }) => methods)) add(input);
  return sent;
}

/** Whether a field, an item of it or a key or value of it is a string. */
export function holdsText(field: DescField): boolean {
  if (field.fieldKind === 'map' && field.mapKey === ScalarType.STRING) return true;
  return field.scalar === ScalarType.STRING;
}

function hasOwnRules(message: DescMessage, options: Options): boolean {
  return (
    message.fields.some((field) => options.fieldRules(field) !== undefined) ||
    message.oneofs.some((oneof) => options.oneofRules(oneof) !== undefined)
  );
}

function below(message: DescMessage): DescMessage[] {
  return message.fields.flatMap((field) => (field.message ? [field.message] : []));
}

/** Whether the rules of a string field require a UUID. */
export function holdsUuid(options: ReflectMessage | undefined): boolean {
  const { typed } = valueRules(options);
  return typed?.[0] === 'string' && setRules(typed[1]).get('uuid') === true;
}

/** Whether the rules of a string field refuse the empty string. */
export function refusesEmpty(options: ReflectMessage | undefined): boolean {
  const rules = valueRules(options);
  if (rules.required) return true;
  if (rules.ignoreZero || rules.typed?.[0] !== 'string') return false;
  const set = setRules(rules.typed[1]);
  if (set.get('uuid') === true || set.get('email') === true) return true;
  return Number(set.get('min_len') ?? 0) > 0 || Number(set.get('min_bytes') ?? 0) > 0;
}
