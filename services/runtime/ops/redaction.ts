/** The fields of a message that operators may see: those that its contract does not mark as personal, and no others. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  createFileRegistry,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  type JsonObject,
  type JsonValue,
  toJson,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

export const redacted = '[redacted]';

let read: FileRegistry | null = null;

/** From the built descriptor set, which contains debug_redact; the generated code does not. */
function registry(): FileRegistry {
  const path = fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb'));
  read ??= createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(path)));
  return read;
}

/**
 * Returns the message as JSON without its personal data. Throws when the bytes are not such a message. Fields that the
 * contract does not know are left out, because their content is unknown.
 */
export function redactedJson(type: string, body: Uint8Array): JsonObject {
  const desc = registry().getMessage(type);
  if (!desc) throw new Error(`no contract has ${type}`);
  const message = fromBinary(desc, body, { readUnknownFields: false });
  return redact(desc, toJson(desc, message) as JsonObject);
}

function redact(desc: DescMessage, json: JsonObject): JsonObject {
  // Google's own types have their own JSON form, and no personal data.
  if (desc.typeName.startsWith('google.protobuf.')) return json;
  const shown: JsonObject = {};
  for (const field of desc.fields) {
    const value = json[field.jsonName];
    if (value !== undefined) shown[field.jsonName] = shownValue(field, value);
  }
  return shown;
}

function shownValue(field: DescField, value: JsonValue): JsonValue {
  if (field.proto.options?.debugRedact) return redacted;
  const { message } = field;
  if (!message || message.typeName.startsWith('google.protobuf.')) return value;
  const one = (item: JsonValue) => redact(message, item as JsonObject);
  if (field.fieldKind === 'list') return (value as JsonValue[]).map(one);
  if (field.fieldKind === 'map') {
    return Object.fromEntries(Object.entries(value as JsonObject).map(([key, item]) => [key, one(item)]));
  }
  return one(value);
}
