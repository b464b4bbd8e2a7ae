// Every string that a client can send follows the rule for text, or is listed here with the reason why not.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FieldViolation, MethodContract } from '@armature/proto/contract.ts';
import { createFileRegistry, type DescField, type DescMessage, fromBinary, ScalarType } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import t from 'tap';
import { repository } from '../../scripts/devmesh/state.ts';
import { contracts } from './contracts.ts';

const registry = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(join(repository, 'proto/gen/descriptors.binpb'))),
);

/** Text that no field of one line accepts. The first three are accepted by fields of several lines. */
const breaks = ['a\nb', 'a\r\nb', 'a\tb'];
const bad = [' ', '\u00a0', '\u200b', 'a\u200bb', 'a\0b', 'a\u202eb', 'a\u2066b', 'a\u2028b', 'a\u0085b', '\ufeffa'];

const severalLines: Readonly<Record<string, string>> = {
  'armature.catalog.v1.CreateProductRequest.description': 'paragraphs about a product',
  'armature.catalog.v1.UpdateProductRequest.description': 'paragraphs about a product',
  'armature.identity.v1.CreateServiceAccountRequest.public_jwk': 'JSON, which may be indented',
};
const onlyHash = 'only a hash of a password is stored, and a person may choose any characters';
const anything: Readonly<Record<string, string>> = {
  'armature.identity.v1.RegisterUserRequest.password': onlyHash,
  'armature.identity.v1.ResetPasswordRequest.new_password': onlyHash,
  'armature.identity.v1.ChangePasswordRequest.current_password': onlyHash,
  'armature.identity.v1.ChangePasswordRequest.new_password': onlyHash,
  'google.protobuf.FieldMask.paths': 'methods refuse a path that they do not know',
};

/** A string somewhere in a request: its field, and the request that holds a text there and nothing else. */
interface Place {
  field: DescField;
  /** As violations name it: "address.street", "lines[0].sku". */
  path: string;
  holding(text: string): Record<string, unknown>;
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const isString = (field: DescField) => field.scalar === ScalarType.STRING;

function placesOf(message: DescMessage, above: readonly DescMessage[] = []): Place[] {
  if (above.includes(message)) return [];
  return message.fields.flatMap((field) => {
    if (field.fieldKind === 'map') throw new Error(`${message.typeName}.${field.name}: this test knows no maps`);
    const isList = field.fieldKind === 'list';
    const path = isList ? `${field.name}[0]` : field.name;
    const put = (value: unknown): Record<string, unknown> => {
      const whole = isList ? [value] : value;
      const { oneof } = field;
      if (!oneof) return { [camel(field.name)]: whole };
      return { [camel(oneof.name)]: { $case: camel(field.name), value: whole } };
    };
    if (isString(field)) return [{ field, path, holding: put }];
    if (!field.message) return [];
    return placesOf(field.message, [...above, message]).map((place) => ({
      field: place.field,
      path: `${path}.${place.path}`,
      holding: (text: string) => put(place.holding(text)),
    }));
  });
}

const nameOf = ({ parent, name }: DescField) => `${parent.typeName}.${name}`;

/** Whether the request is refused for this place. */
function refused(method: MethodContract, { path, holding }: Place, text: string): boolean {
  const violations: FieldViolation[] = [];
  method.validate(method.request.fromPartial(holding(text)), violations);
  return violations.some(({ field }) => field === path);
}

const methods = new Map(
  contracts.flatMap(({ contract }) => Object.values(contract.methods)).map((method) => [method.path, method]),
);

t.test('every text of every request', async (t) => {
  const seen = new Set<string>();
  for (const method of methods.values()) {
    const { input } = registry.getService(method.service)!.methods.find(({ name }) => name === method.name)!;
    for (const place of placesOf(input)) {
      const name = nameOf(place.field);
      seen.add(name);
      if (name in anything) continue;
      const accepted = (name in severalLines ? bad : [...bad, ...breaks]).filter(
        (text) => !refused(method, place, text),
      );
      t.strictSame(accepted, [], `${method.path} ${place.path}`);
      if (name in severalLines)
        t.notOk(
          breaks.some((text) => refused(method, place, `a long text ${text}`)),
          name,
        );
    }
  }
  t.ok(seen.size > 100, `${seen.size} fields`);
  const listed = [...Object.keys(severalLines), ...Object.keys(anything)];
  t.strictSame(
    listed.filter((name) => !seen.has(name)),
    [],
    'every exception exists',
  );
});

t.test('exceptions are those of the contracts', async (t) => {
  const option = registry.getExtension('armature.options.v1.text')!;
  const declared = [...registry]
    .filter((type) => type.kind === 'message')
    .flatMap(({ fields }) => fields)
    .filter(({ proto }) => proto.options?.$unknown?.some(({ no }) => no === option.number))
    .map(nameOf);
  const listed = [...Object.keys(severalLines), ...Object.keys(anything)].filter((name) =>
    name.startsWith('armature.'),
  );
  t.strictSame(declared.toSorted(), listed.toSorted());
});
