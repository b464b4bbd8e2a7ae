// Writes the contract module of a package.
import type { DescMessage } from '@bufbuild/protobuf';
import type { GeneratedFile, ImportSymbol, Printable, Schema } from '@bufbuild/protoplugin';
import type { ErrorModel, EventModel, MethodModel, PackageModel, ServiceModel } from './model.ts';
import { contractPath, methodName, modulePath, propertyName, typeName } from './names.ts';
import type { Options } from './options.ts';
import { holdsUuid } from './rules.ts';
import { serviceConfig } from './service_config.ts';
import { printValidator, type ValidatorContext, validatorOf } from './validators.ts';

const contractTypes = './../contract.ts';

const quote = (text: string): string => JSON.stringify(text);

/** The domain of a package's error reasons: "orders.armature.local". */
export const domainOf = (model: PackageModel): string => `${model.service}.armature.local`;

/** Whether there is a module to write. */
export function isEmpty(model: PackageModel, { reach }: ValidatorContext): boolean {
  const { services, events, errors, messages } = model;
  return services.length + events.length + errors.length === 0 && !messages.some((message) => reach.has(message));
}

export function printPackage(model: PackageModel, context: ValidatorContext): void {
  const { file } = context;
  file.print('/** The domain of the reasons below in google.rpc.ErrorInfo. */');
  file.print(file.export('const', 'domain'), ' = ', quote(domainOf(model)), ';');
  file.print();
  for (const error of model.errors) printErrors(error, file);
  for (const event of model.events) printEvent(event, model, file);
  for (const service of model.services) printService(service, context);
  for (const message of model.messages) printValidator(message, context);
  for (const line of context.constants.declarations()) file.print(line);
}

/**
 * Prints which service consumes which events, for publishers: their events wait for the queues of these services. Prints
 * all known events too, for consumers: so they can tell events that they do not handle from events of no known contract.
 */
export function printSubscriptions(models: readonly PackageModel[], options: Options, schema: Schema): void {
  const lines = new Set<string>();
  for (const { service, services } of models) {
    for (const desc of services.flatMap(({ consumes }) => consumes)) {
      const source = desc.file.proto.package.split('.')[1] ?? '';
      const aggregate = options.event(desc)?.aggregate ?? '';
      lines.add(`{ service: ${quote(service)}, source: ${quote(source)}, aggregate: ${quote(aggregate)} }`);
    }
  }
  if (lines.size === 0) return;
  const file = schema.generateFile('armature/subscriptions.ts');
  file.print('/** Which service consumes the events of which aggregate. */');
  file.print(file.export('const', 'subscriptions'), ' = [');
  for (const line of lines) file.print('  ', line, ',');
  file.print('] as const;');
  file.print();
  file.print('/** Every event that a contract names, with the aggregate that it is about. */');
  file.print(file.export('const', 'publishedEvents'), ' = [');
  for (const { service, events } of models) {
    for (const { desc, options: event } of events) {
      const of = `source: ${quote(service)}, aggregate: ${quote(event.aggregate)}`;
      file.print('  ', `{ type: ${quote(desc.typeName)}, ${of} }`, ',');
    }
  }
  file.print('] as const;');
}

function printErrors({ desc, reasons }: ErrorModel, file: GeneratedFile): void {
  file.print(file.export('const', desc.name), ' = {');
  for (const reason of reasons) file.print('  ', reason, ': ', quote(reason), ',');
  file.print('} as const;');
  file.print(file.export('type', desc.name), ` = (typeof ${desc.name})[keyof typeof ${desc.name}];`);
  file.print();
}

/** A message of ts-proto: the codec as a value, the interface as a type. */
function messageSymbol(desc: DescMessage, file: GeneratedFile): ImportSymbol {
  return file.import(typeName(desc), modulePath(desc.file));
}

function printEvent({ desc, options }: EventModel, model: PackageModel, file: GeneratedFile): void {
  const message = messageSymbol(desc, file);
  const field = desc.fields.find(({ name }) => name === options.idField);
  if (!field) return; // The model has reported this fault.
  file.print(
    file.export('const', `${desc.name}Event`),
    ': ',
    file.import('EventContract', contractTypes, true),
    '<',
    message,
    '> = {',
  );
  file.print('  type: ', quote(desc.typeName), ',');
  file.print('  source: ', quote(model.service), ',');
  file.print('  aggregate: ', quote(options.aggregate), ',');
  file.print('  routingKey: ', quote(`${model.service}.${options.aggregate}.${desc.name}`), ',');
  file.print('  permission: ', quote(options.permission), ',');
  file.print('  message: ', message, ',');
  file.print(`  aggregateId: (message) => message.${propertyName(field)},`);
  file.print('};');
  file.print();
}

function printService(service: ServiceModel, context: ValidatorContext): void {
  const { file } = context;
  const { desc } = service;
  const methodContract = file.import('MethodContract', contractTypes, true);
  file.print('/** The methods of ', desc.typeName, ', by local name. */');
  file.print(file.export('type', `${desc.name}Methods`), ' = {');
  for (const { desc: method } of service.methods) {
    const types: Printable[] = [messageSymbol(method.input, file), ', ', messageSymbol(method.output, file)];
    file.print(
      `  readonly ${methodName(method)}: `,
      methodContract,
      '<',
      types,
      `, ${quote(kindOf(method.methodKind))}>;`,
    );
  }
  file.print('};');
  file.print();
  const name = `${desc.name}Contract`;
  file.print(
    file.export('const', name),
    ': ',
    file.import('ServiceContract', contractTypes, true),
    `<${desc.name}Methods> = {`,
  );
  file.print('  name: ', quote(desc.typeName), ',');
  file.print('  domain,');
  file.print('  methods: {');
  for (const method of service.methods) printMethod(method, context);
  file.print('  },');
  printConsumes(service, context);
  const config = JSON.stringify(serviceConfig(desc), null, 2).replaceAll('\n', '\n  ');
  file.print('  serviceConfig: ', config, ',');
  file.print('};');
  file.print();
}

const kindOf = (kind: string): string => (kind === 'unary' ? 'unary' : 'server_stream');

function printMethod({ desc, options }: MethodModel, context: ValidatorContext): void {
  const { file } = context;
  const { owner, target, idempotency, deadline, audit, auditOthers } = options;
  const fieldOf = (name: string) => desc.input.fields.find((candidate) => candidate.name === name);
  const access = (name: string): string => {
    const field = fieldOf(name);
    return `message.${field ? propertyName(field) : name}`;
  };
  const fieldRule = (name: string): string => `field: ${quote(name)}, read: (message) => ${access(name)}`;
  const normalize = (name: string): string => {
    const field = fieldOf(name);
    if (!field || !holdsUuid(context.options.fieldRules(field))) return '';
    return `, normalize: (message) => { ${access(name)} = ${access(name)}.toLowerCase(); }`;
  };
  const ownerText = !owner
    ? 'null'
    : owner.rule.case === 'field'
      ? `{ kind: "field", ${fieldRule(owner.rule.value)} }`
      : '{ kind: "loaded" }';
  const targetText = target?.account.case
    ? `{ kind: ${quote(target.account.case)}, ${fieldRule(target.account.value)} }`
    : 'null';
  file.print(`    ${methodName(desc)}: {`);
  file.print(`      service: ${quote(desc.parent.typeName)},`);
  file.print(`      name: ${quote(desc.name)},`);
  file.print(`      path: ${quote(`/${desc.parent.typeName}/${desc.name}`)},`);
  file.print(`      kind: ${quote(kindOf(desc.methodKind))},`);
  file.print(`      permission: ${quote(options.permission)},`);
  file.print(`      owner: ${ownerText},`);
  file.print(`      target: ${targetText},`);
  file.print(
    `      idempotency: ${idempotency ? `{ ${fieldRule(idempotency.key)}${normalize(idempotency.key)} }` : 'null'},`,
  );
  file.print(`      audit: ${audit},`);
  if (auditOthers) file.print('      auditOthers: true,');
  file.print(`      deadline: { defaultMs: ${deadline?.defaultMs}, maxMs: ${deadline?.maxMs} },`);
  file.print('      request: ', messageSymbol(desc.input, file), ',');
  file.print('      response: ', messageSymbol(desc.output, file), ',');
  file.print(
    '      validate: ',
    context.reach.has(desc.input) ? validatorOf(desc.input, context) : 'rules.noRules',
    ',',
  );
  file.print('    },');
}

/** A getter, because two packages may consume each other's events and so import each other. */
function printConsumes({ consumes }: ServiceModel, { file, packageName }: ValidatorContext): void {
  const events = consumes.map((message): Printable => {
    const name = `${message.name}Event`;
    const home = message.file.proto.package;
    return home === packageName ? name : file.import(name, contractPath(home));
  });
  if (events.length === 0) {
    file.print('  consumes: [],');
    return;
  }
  file.print('  get consumes() {');
  file.print(
    '    return [',
    events.flatMap((event, i) => (i === 0 ? [event] : [', ', event])),
    '];',
  );
  file.print('  },');
}
