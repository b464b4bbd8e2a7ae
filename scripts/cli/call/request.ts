import { readFileSync } from 'node:fs';
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromJson,
  type JsonValue,
  type Message,
} from '@bufbuild/protobuf';
import { UsageError } from '../exit-codes.ts';
import { didYouMean } from './nearest.ts';

/** The text of --data: itself, the content of a file (@path), or standard input (-). */
export function readData(data: string): string {
  if (data === '-') return readFileSync(0, 'utf8');
  if (!data.startsWith('@')) return data;
  try {
    return readFileSync(data.slice(1), 'utf8');
  } catch (error) {
    throw new UsageError(`--data ${data}: the file cannot be read`, { cause: error });
  }
}

/** Reads JSON into a message. Fields may be named as in the contract or in camel case; a wrong name is pointed out. */
export function parseRequest(text: string, type: DescMessage, registry: FileRegistry): Message {
  const json = parseJson(text.trim() === '' ? '{}' : text);
  checkMessage(json, type, '');
  try {
    return fromJson(type, json, { registry });
  } catch (error) {
    throw new UsageError(`--data: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Integers too large for a JavaScript number are kept as they were written, which is how 64 bits travel in JSON. */
function parseJson(text: string): JsonValue {
  const keepDigits = (_key: string, value: unknown, context?: { source?: string }) => {
    const source = context?.source;
    return typeof value === 'number' && source && /^-?\d{16,}$/.test(source) ? source : value;
  };
  try {
    return JSON.parse(text, keepDigits);
  } catch (error) {
    throw new UsageError(`--data is not JSON: ${(error as Error).message}`);
  }
}

/** Types of google.protobuf have a JSON form of their own, without fields. */
const hasOwnForm = (type: DescMessage) => type.typeName.startsWith('google.protobuf.');

function checkMessage(json: JsonValue, type: DescMessage, at: string): void {
  if (hasOwnForm(type) || json === null) return;
  if (typeof json !== 'object' || Array.isArray(json)) {
    throw new UsageError(`--data: ${at || 'the request'} must be an object, the fields of ${type.name}`);
  }
  for (const [name, value] of Object.entries(json)) {
    const field = type.fields.find((one) => one.name === name || one.jsonName === name);
    if (!field) throw new UsageError(unknownField(name, type, at));
    checkField(value, field, at ? `${at}.${field.name}` : field.name);
  }
}

function unknownField(name: string, type: DescMessage, at: string): string {
  const names = type.fields.map((field) => field.name);
  const near = didYouMean(snakeCase(name), names);
  const all = names.length > 0 ? `It has: ${names.join(', ')}` : 'It has no fields';
  return `--data: ${type.name}${at ? ` (${at})` : ''} has no field ${JSON.stringify(name)}${near || '.'} ${all}.`;
}

function checkField(value: JsonValue, field: DescField, at: string): void {
  const check = (one: JsonValue, place: string) => {
    if (field.message) checkMessage(one, field.message, place);
    if (field.enum) checkEnum(one, field.enum, place);
  };
  if (field.fieldKind === 'list' && Array.isArray(value)) {
    for (const [index, one] of value.entries()) check(one, `${at}[${index}]`);
  } else if (field.fieldKind === 'map' && value !== null && typeof value === 'object' && !Array.isArray(value)) {
    for (const [key, one] of Object.entries(value)) check(one, `${at}[${JSON.stringify(key)}]`);
  } else if (field.fieldKind === 'message' || field.fieldKind === 'enum') check(value, at);
}

/** Numbers pass, known or not: what a service makes of an unknown one is worth trying. */
function checkEnum(value: JsonValue, type: DescEnum, at: string): void {
  if (typeof value !== 'string' || type.typeName === 'google.protobuf.NullValue') return;
  const names = type.values.map((one) => one.name);
  if (names.includes(value)) return;
  // People leave out the prefix that contracts repeat in every value.
  const prefix = `${type.sharedPrefix ?? ''}`.toUpperCase();
  const near = didYouMean(value.startsWith(prefix) ? value : prefix + value, names);
  throw new UsageError(
    `--data: ${at} has no value ${JSON.stringify(value)}${near || '.'} There are: ${names.join(', ')}.`,
  );
}

const snakeCase = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
