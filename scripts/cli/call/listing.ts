import type { FileRegistry } from '@bufbuild/protobuf';
import { type DescField, type DescMessage, type DescMethod, type DescService, ScalarType } from '@bufbuild/protobuf';
import { getComments } from '@bufbuild/protoplugin';
import { promisesOf } from './reflection.ts';

/** A service and its methods, a line each. */
export function listService(service: DescService, width: number): string[] {
  const longest = Math.max(...service.methods.map((method) => method.name.length));
  return [
    cut(`${service.typeName}  ${about(service)}`, width),
    ...service.methods.map((method) => cut(`  ${method.name.padEnd(longest)}  ${about(method)}`, width)),
  ];
}

/** The methods of a service with the fields of their requests. */
export function showService(service: DescService, registry: FileRegistry, width: number): string[] {
  const methods = service.methods.flatMap((method) => ['', ...showMethod(method, registry, width)]);
  return [service.typeName, cut(`  ${about(service)}`, width), ...methods];
}

function showMethod(method: DescMethod, registry: FileRegistry, width: number): string[] {
  const { permission, idempotency } = promisesOf(method, registry);
  const facts = [
    ...(permission ? [`needs ${permission}`] : []),
    ...(idempotency?.key ? [`keyed by ${idempotency.key}`] : []),
    ...(method.methodKind === 'server_streaming' ? ['streams'] : []),
  ];
  const { fields } = method.input;
  const longest = Math.max(0, ...fields.map((field) => field.name.length));
  return [
    `${method.name}  (${facts.join(', ')})`,
    cut(`  ${about(method)}`, width),
    ...fields.map((field) => cut(`    ${field.name.padEnd(longest)}  ${typeOf(field)}`, width)),
    ...(fields.length === 0 ? ['    no fields'] : []),
  ];
}

/** The first sentence of the comment in the contract. */
function about(desc: DescService | DescMethod): string {
  const text = (getComments(desc).leading ?? '').replace(/\s+/g, ' ').trim();
  return /^.*?[.:](?= |$)/.exec(text)?.[0].replace(/:$/, '.') ?? text;
}

/** How deep messages inside messages are written out. */
const depthMax = 2;

function typeOf(field: DescField, depth = 0): string {
  const single = field.message
    ? messageType(field.message, depth)
    : field.enum
      ? enumType(field)
      : ScalarType[field.scalar!].toLowerCase();
  if (field.fieldKind === 'list') return `repeated ${single}`;
  if (field.fieldKind === 'map') return `map of ${single}`;
  return single;
}

function messageType(type: DescMessage, depth: number): string {
  if (type.typeName.startsWith('google.protobuf.') || depth === depthMax) return type.name;
  return `{${type.fields.map((field) => `${field.name} ${typeOf(field, depth + 1)}`).join(', ')}}`;
}

function enumType({ enum: type }: DescField): string {
  return type!.values
    .filter((value) => value.number !== 0)
    .map((value) => value.name)
    .join(' | ');
}

function cut(line: string, width: number): string {
  return line.length <= width ? line.trimEnd() : `${line.slice(0, width - 1).trimEnd()}…`;
}
