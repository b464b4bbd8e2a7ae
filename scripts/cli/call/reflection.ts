import { ServerReflectionRequest, ServerReflectionResponse } from '@armature/proto/grpc/reflection/v1/reflection.ts';
import {
  create,
  createFileRegistry,
  type DescMethod,
  type FileRegistry,
  fromBinary,
  getExtension,
  hasExtension,
  toJson,
} from '@bufbuild/protobuf';
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import type { Connection } from './connection.ts';

type Question = NonNullable<ServerReflectionRequest['messageRequest']>;
type ReflectionResponse = NonNullable<ServerReflectionResponse['messageResponse']>;

const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const timeoutMs = 5_000;
/** Contracts nest no deeper; a server that keeps naming new files is not one of ours. */
const roundsMax = 20;

/** The full names of the services that the server offers, without those of gRPC itself. */
export async function listServices(connection: Connection): Promise<string[]> {
  const [response] = await ask(connection, [{ $case: 'listServices', value: '' }]);
  if (response?.$case !== 'listServicesResponse') throw unexpected(connection, response);
  const names = response.value.service.map((service) => service.name);
  return names.filter((name) => !name.startsWith('grpc.'));
}

/** Everything that is needed to speak with these services: their files, and all that those import. */
export async function describe(connection: Connection, services: readonly string[]): Promise<FileRegistry> {
  const files = new Map<string, FileDescriptorProto>();
  let questions: Question[] = services.map((value) => ({ $case: 'fileContainingSymbol', value }));
  for (let round = 0; questions.length > 0; round++) {
    if (round === roundsMax) throw new Error(`${connection.service} names ever more files by reflection`);
    for (const response of await ask(connection, questions)) {
      if (response?.$case !== 'fileDescriptorResponse') throw unexpected(connection, response);
      for (const bytes of response.value.fileDescriptorProto) {
        const file = fromBinary(FileDescriptorProtoSchema, bytes);
        files.set(file.name, file);
      }
    }
    // A server may leave out the files that others import.
    const imported = new Set([...files.values()].flatMap((file) => file.dependency));
    questions = [...imported].filter((name) => !files.has(name)).map((value) => ({ $case: 'fileByFilename', value }));
  }
  return createFileRegistry(create(FileDescriptorSetSchema, { file: importsFirst(files) }));
}

async function ask(
  connection: Connection,
  questions: readonly Question[],
): Promise<(ReflectionResponse | undefined)[]> {
  const messages = questions.map((messageRequest) =>
    ServerReflectionRequest.encode({ host: '', messageRequest }).finish(),
  );
  const responses = await connection.converse(path, messages, { timeoutMs });
  return responses.map((bytes) => ServerReflectionResponse.decode(bytes).messageResponse);
}

function unexpected({ service }: Connection, response: ReflectionResponse | undefined): Error {
  const said = response?.$case === 'errorResponse' ? response.value.errorMessage : `${response?.$case ?? 'nothing'}`;
  return new Error(`${service} does not describe itself by reflection: ${said}`);
}

/** A registry takes files only after what they import. */
function importsFirst(files: Map<string, FileDescriptorProto>): FileDescriptorProto[] {
  const sorted = new Set<FileDescriptorProto>();
  const add = (file: FileDescriptorProto) => {
    if (sorted.has(file)) return;
    for (const name of file.dependency) add(files.get(name)!);
    sorted.add(file);
  };
  for (const file of files.values()) add(file);
  return [...sorted];
}

/** What a method's contract promises, as far as a caller cares. */
export interface Promises {
  permission?: string;
  idempotency?: { key?: string };
  deadline?: { defaultMs?: number; maxMs?: number };
}

/** Reads the options of a method through their own descriptor, which came by reflection too. */
export function promisesOf(method: DescMethod, registry: FileRegistry): Promises {
  const option = registry.getExtension('armature.options.v1.method');
  const { options } = method.proto;
  if (!option?.message || !options || !hasExtension(options, option)) return {};
  return toJson(option.message, getExtension(options, option) as never) as Promises;
}
