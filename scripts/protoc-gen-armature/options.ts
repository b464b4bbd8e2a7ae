// Reads the options of contracts. Looks them up in the descriptors that the compiler sent, so that the generator needs
// no generated code.
import {
  type DescEnum,
  type DescExtension,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescMethod,
  type DescOneof,
  type DescService,
  getOption,
  hasOption,
  type Message,
} from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';

export interface MethodOptions {
  readonly permission: string;
  readonly owner?: {
    readonly rule: { case: 'field'; value: string } | { case: 'loaded'; value: boolean } | { case: undefined };
  };
  readonly idempotency?: { readonly key: string };
  readonly deadline?: { readonly defaultMs: number; readonly maxMs: number };
  readonly audit: boolean;
  readonly reserved: boolean;
  readonly target?: {
    readonly account: { case: 'user' | 'client'; value: string } | { case: undefined };
  };
  readonly auditOthers: boolean;
}

/** A service without a contract, and the permission of all its methods. */
export interface CompanionOptions {
  readonly service: string;
  readonly permission: string;
}

export interface EventOptions {
  readonly aggregate: string;
  readonly idField: string;
  readonly permission: string;
}

export interface TextOptions {
  readonly rule:
    | { case: 'multiline'; value: boolean }
    | { case: 'unrestrictedBecause'; value: string }
    | { case: undefined };
}

/** Each returns undefined if the option is not set. */
export interface Options {
  method(desc: DescMethod): MethodOptions | undefined;
  event(desc: DescMessage): EventOptions | undefined;
  consumes(desc: DescService): readonly string[];
  companions(desc: DescService): readonly CompanionOptions[];
  fieldRules(desc: DescField): ReflectMessage | undefined;
  oneofRules(desc: DescOneof): ReflectMessage | undefined;
  text(desc: DescField): TextOptions | undefined;
}

type Optional = DescMethod | DescMessage | DescService | DescField | DescOneof | DescEnum;

/**
 * Takes all files of the request, imports included. If no file imports the file of an option, the option is set
 * nowhere.
 */
export function optionsOf(files: readonly DescFile[]): Options {
  const extensions = new Map<string, DescExtension>();
  for (const file of files) for (const ext of file.extensions) extensions.set(ext.typeName, ext);

  function read(desc: Optional, typeName: string): Message | undefined {
    const ext = extensions.get(typeName);
    if (!ext || !hasOption(desc as DescMessage, ext)) return undefined;
    return getOption(desc as DescMessage, ext) as Message;
  }
  function readReflected(desc: DescField | DescOneof, typeName: string): ReflectMessage | undefined {
    const value = read(desc, typeName);
    const schema = extensions.get(typeName)?.message;
    return value && schema ? reflect(schema, value) : undefined;
  }
  return {
    method: (desc) => read(desc, 'armature.options.v1.method') as MethodOptions | undefined,
    event: (desc) => read(desc, 'armature.options.v1.event') as EventOptions | undefined,
    consumes: (desc) =>
      (read(desc, 'armature.options.v1.service') as { consumes?: string[] } | undefined)?.consumes ?? [],
    companions: (desc) =>
      (read(desc, 'armature.options.v1.service') as { companions?: CompanionOptions[] } | undefined)?.companions ?? [],
    fieldRules: (desc) => readReflected(desc, 'buf.validate.field'),
    oneofRules: (desc) => readReflected(desc, 'buf.validate.oneof'),
    text: (desc) => read(desc, 'armature.options.v1.text') as TextOptions | undefined,
  };
}
