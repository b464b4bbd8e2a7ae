// Collations of the database ignore trailing blanks: 'SKU ' finds 'SKU'. So every method must refuse identifiers with
// blanks at their ends.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { FieldViolation, MethodContract } from '@armature/proto/contract.ts';
import { createFileRegistry, type DescField, type DescMessage, fromBinary, ScalarType } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import t from 'tap';
import { contracts } from './contracts.ts';

/** Fields with free text, secrets or opaque tokens: no lookup uses their value directly. */
const words = new Set([
  'call_id',
  'city',
  'current_password',
  'description',
  'digest',
  'display_name',
  'new_password',
  'note',
  'page_token',
  'password',
  'policy_version',
  'postal_code',
  'public_jwk',
  'reason',
  'recipient',
  'region',
  // The claim of a token: words with blanks between them.
  'scope',
  // Words of that claim; the service refuses those that begin no permission.
  'scopes',
  'street',
  'target',
  'title',
  'token',
  'why',
]);

const file = resolve(import.meta.dirname, '../../proto/gen/descriptors.binpb');
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(file)));

interface Place {
  /** The path as violations name it: "lines[0].sku". */
  path: string;
  /** A request with `value` in this field and nothing else. */
  request(value: string): object;
}

/** Every identifier of a request, also in nested messages. */
function identifiers(message: DescMessage, depth = 0): Place[] {
  if (depth > 4) return [];
  return message.fields.flatMap((field): Place[] => {
    const inside = placesIn(field, depth);
    const list = field.fieldKind === 'list';
    return inside.map(({ path, request }) => ({
      path: `${field.name}${list ? '[0]' : ''}${path === '' ? '' : `.${path}`}`,
      request: (value) => wrap(field, list ? [request(value)] : request(value)),
    }));
  });
}

function placesIn(field: DescField, depth: number): Place[] {
  const scalar = field.fieldKind === 'list' ? field.listKind === 'scalar' && field.scalar : field.scalar;
  if (scalar === ScalarType.STRING && !words.has(field.name)) {
    return [{ path: '', request: (value) => value as unknown as object }];
  }
  if ((field.fieldKind === 'message' || field.fieldKind === 'list') && field.message) {
    if (field.message.typeName.startsWith('google.')) return [];
    return identifiers(field.message, depth + 1);
  }
  return [];
}

/** ts-proto puts a member of a oneof into an object that names it. */
function wrap(field: DescField, value: unknown): object {
  if (!field.oneof || field.proto.proto3Optional) return { [field.localName]: value };
  return { [field.oneof.localName]: { $case: field.localName, [field.localName]: value } };
}

const methods = new Map<string, MethodContract>();
for (const { contract } of contracts) {
  for (const method of Object.values(contract.methods)) methods.set(method.path, method);
}

for (const method of methods.values()) {
  t.test(`${method.path} refuses identifiers with blanks at their ends`, (t) => {
    const input = registry.getService(method.service)?.methods.find(({ name }) => name === method.name)?.input;
    if (!input) throw new Error(`${method.path} is not among the descriptors`);
    for (const { path, request } of identifiers(input)) {
      // Records of decisions are stored as they are.
      if (path.startsWith('decisions[0].')) continue;
      for (const value of ['x ', 'X ', '1 ', ' x', 'a@b.example ']) {
        const violations: FieldViolation[] = [];
        method.validate(method.request.fromPartial(request(value)), violations);
        t.ok(
          violations.some(({ field }) => field === path),
          `${path} = ${JSON.stringify(value)}`,
        );
      }
    }
    t.end();
  });
}
