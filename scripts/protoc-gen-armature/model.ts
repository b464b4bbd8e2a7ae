// Checks the contracts of a package and collects them for printing. Every fault goes to `problems`; if there is one,
// the returned model is not printed.
import {
  type DescEnum,
  type DescFile,
  type DescMessage,
  type DescMethod,
  type DescService,
  ScalarType,
} from '@bufbuild/protobuf';
import { MethodOptions_IdempotencyLevel } from '@bufbuild/protobuf/wkt';
import { RuleError } from './checks.ts';
import { screamingSnake } from './names.ts';
import type { CompanionOptions, EventOptions, MethodOptions, Options } from './options.ts';
import type { Problems } from './problems.ts';
import { refusesEmpty } from './rules.ts';

export interface PackageModel {
  /** "armature.orders.v1" */
  readonly name: string;
  /** "orders" */
  readonly service: string;
  readonly services: readonly ServiceModel[];
  readonly events: readonly EventModel[];
  readonly errors: readonly ErrorModel[];
  readonly messages: readonly DescMessage[];
}

export interface ServiceModel {
  readonly desc: DescService;
  readonly methods: readonly MethodModel[];
  readonly consumes: readonly DescMessage[];
  readonly companions: readonly CompanionOptions[];
}

export interface MethodModel {
  readonly desc: DescMethod;
  readonly options: MethodOptions;
}

export interface EventModel {
  readonly desc: DescMessage;
  readonly options: EventOptions;
}

export interface ErrorModel {
  readonly desc: DescEnum;
  /** Without the prefix, without UNSPECIFIED. */
  readonly reasons: readonly string[];
}

interface CheckContext {
  readonly options: Options;
  readonly problems: Problems;
  readonly messages: ReadonlyMap<string, DescMessage>;
}

const permissionPattern = /^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){1,2}$/;
const aggregatePattern = /^[a-z][a-z0-9_]*$/;

/** One day: no call waits longer, and timers cannot count past 2^31 ms. */
const deadlineCeilingMs = 86_400_000;

export function messagesOf(files: readonly DescFile[]): DescMessage[] {
  const withNested = (message: DescMessage): DescMessage[] => [message, ...message.nestedMessages.flatMap(withNested)];
  return files
    .flatMap((file) => file.messages.flatMap(withNested))
    .filter((message) => !message.proto.options?.mapEntry);
}

/** `files` are the files of one package. */
export function packageModel(name: string, files: readonly DescFile[], context: CheckContext): PackageModel {
  const messages = messagesOf(files);
  return {
    name,
    service: name.split('.')[1] ?? name,
    services: files.flatMap((file) => file.services).map((desc) => serviceModel(desc, context)),
    events: messages.flatMap((desc) => eventModel(desc, context)),
    errors: files
      .flatMap((file) => file.enums.filter((desc) => isErrorEnum(desc, file)))
      .map((desc) => errorModel(desc, context)),
    messages,
  };
}

function serviceModel(desc: DescService, context: CheckContext): ServiceModel {
  const consumes = context.options.consumes(desc).flatMap((typeName) => {
    const message = context.messages.get(typeName);
    if (!message) {
      context.problems.add(desc, `consumes ${typeName}, which no contract defines; name the event in full`);
      return [];
    }
    if (context.options.event(message)) return [message];
    context.problems.add(
      desc,
      `consumes ${typeName}, which is not an event; add option (armature.options.v1.event) to that message`,
    );
    return [];
  });
  const companions = context.options.companions(desc);
  for (const { permission } of companions) checkPermission(desc, permission, context.problems, 'ops.channelz');
  return { desc, methods: desc.methods.flatMap((method) => methodModel(method, context)), consumes, companions };
}

function methodModel(desc: DescMethod, context: CheckContext): MethodModel[] {
  const { problems } = context;
  const options = context.options.method(desc);
  if (desc.methodKind === 'client_streaming' || desc.methodKind === 'bidi_streaming') {
    problems.add(desc, 'takes a stream of requests, which the runtime does not support; take one request');
  }
  if (!options) {
    problems.add(
      desc,
      'promises nothing; add option (armature.options.v1.method) with permission, idempotency and deadline',
    );
    return [];
  }
  checkPermission(desc, options.permission, problems, 'orders.place');
  checkOwner(desc, options, context);
  checkTarget(desc, options, problems);
  checkIdempotency(desc, options, context);
  checkDeadline(desc, options, problems);
  return [{ desc, options }];
}

function checkPermission(
  desc: DescMethod | DescMessage | DescService,
  permission: string,
  problems: Problems,
  example: string,
): void {
  if (permission === '') problems.add(desc, `has no permission; add one such as permission: "${example}"`);
  else if (!permissionPattern.test(permission)) {
    problems.add(
      desc,
      `has the malformed permission "${permission}"; write two or three lower-case words joined by dots, such as "${example}"`,
    );
  }
}

function checkOwner(desc: DescMethod, { owner }: MethodOptions, { problems }: CheckContext): void {
  if (!owner) return;
  const { rule } = owner;
  if (rule.case === 'field') {
    if (!isPlainString(desc.input, rule.value)) {
      problems.add(desc, `has owner.field "${rule.value}", which is not a string field of ${desc.input.typeName}`);
    }
  } else if (rule.case !== 'loaded' || !rule.value) {
    problems.add(
      desc,
      'has an owner that says nothing; write owner: {field: "customer_id"} or owner: {loaded: true}, or leave it out',
    );
  }
}

function checkTarget(desc: DescMethod, { target }: MethodOptions, problems: Problems): void {
  if (!target) return;
  const { account } = target;
  if (account.case === undefined) {
    problems.add(desc, 'has a target that says nothing; write target: {user: "user_id"}, or leave it out');
  } else if (!isPlainString(desc.input, account.value)) {
    problems.add(
      desc,
      `has target.${account.case} "${account.value}", which is not a string field of ${desc.input.typeName}`,
    );
  }
}

function checkIdempotency(desc: DescMethod, { idempotency }: MethodOptions, { options, problems }: CheckContext): void {
  const reads = desc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  if (reads && idempotency) {
    problems.add(desc, 'declares both NO_SIDE_EFFECTS and an idempotency key; keep the one that is true');
  } else if (!reads && !idempotency) {
    problems.add(
      desc,
      'declares no idempotency; add option idempotency_level = NO_SIDE_EFFECTS if it only reads, or else idempotency: {key: "request_id"}',
    );
  }
  if (!idempotency) return;
  if (desc.methodKind === 'server_streaming')
    problems.add(desc, 'has an idempotency key but responds with a stream, which cannot be replayed; make it unary');
  if (!isPlainString(desc.input, idempotency.key)) {
    problems.add(
      desc,
      `has idempotency.key "${idempotency.key}", which is not a string field of ${desc.input.typeName}`,
    );
    return;
  }
  const field = desc.input.fields.find(({ name }) => name === idempotency.key);
  try {
    if (field && refusesEmpty(options.fieldRules(field))) return;
  } catch (error) {
    if (error instanceof RuleError) return; // The validator of the request reports this fault.
    throw error;
  }
  problems.add(
    desc,
    `has idempotency.key "${idempotency.key}", which may be empty, so that all calls without one were the same; add (buf.validate.field).string.uuid = true to ${desc.input.typeName}.${idempotency.key}`,
  );
}

function checkDeadline(desc: DescMethod, { deadline }: MethodOptions, problems: Problems): void {
  const add = (what: string) => problems.add(desc, `${what}; write deadline: {default_ms: 2000 max_ms: 10000}`);
  if (!deadline) add('has no deadline');
  else if (deadline.defaultMs === 0) add('has no deadline.default_ms, or zero');
  else if (deadline.maxMs === 0) add('has no deadline.max_ms, or zero');
  else if (deadline.defaultMs > deadline.maxMs)
    add(`has deadline.default_ms ${deadline.defaultMs} above deadline.max_ms ${deadline.maxMs}`);
  else if (deadline.maxMs > deadlineCeilingMs) add(`has deadline.max_ms ${deadline.maxMs}, more than a day`);
}

function eventModel(desc: DescMessage, { options: read, problems }: CheckContext): EventModel[] {
  const options = read.event(desc);
  if (!options) return [];
  if (desc.parent) problems.add(desc, 'is an event inside another message; move it to the top of its file');
  if (!aggregatePattern.test(options.aggregate)) {
    problems.add(
      desc,
      `has the event aggregate "${options.aggregate}"; add a lower-case word such as aggregate: "order"`,
    );
  }
  if (!isPlainString(desc, options.idField)) {
    problems.add(
      desc,
      `has the event id_field "${options.idField}", which is not a string field of it; add one such as id_field: "order_id"`,
    );
  }
  checkPermission(desc, options.permission, problems, 'orders.publish');
  return [{ desc, options }];
}

function isErrorEnum(desc: DescEnum, file: DescFile): boolean {
  return desc.name.endsWith('ErrorReason') || file.name.endsWith('/errors');
}

function errorModel(desc: DescEnum, { problems }: CheckContext): ErrorModel {
  if (!desc.name.endsWith('ErrorReason'))
    problems.add(desc, 'lists errors but is not named so; name it such as OrderErrorReason');
  const prefix = `${screamingSnake(desc.name)}_`;
  const reasons: string[] = [];
  for (const value of desc.values) {
    if (!value.name.startsWith(prefix)) {
      problems.add(value, `lacks the prefix ${prefix}; name it ${prefix}${value.name}`);
    } else if (value.number === 0) {
      if (value.name !== `${prefix}UNSPECIFIED`)
        problems.add(value, `has the number 0; keep 0 for ${prefix}UNSPECIFIED`);
    } else reasons.push(value.name.slice(prefix.length));
  }
  return { desc, reasons };
}

/** A string field that always has a value: not repeated, not optional, not in a oneof. */
function isPlainString(message: DescMessage, name: string): boolean {
  const field = message.fields.find((candidate) => candidate.name === name);
  return (
    field?.fieldKind === 'scalar' && field.scalar === ScalarType.STRING && !field.oneof && !field.proto.proto3Optional
  );
}
