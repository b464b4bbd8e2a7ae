import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ServerReflectionResponse } from '@armature/proto/grpc/reflection/v1/reflection.ts';
import { createFileRegistry, type DescFile, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { status } from '@grpc/grpc-js';

export type MessageResponse = NonNullable<ServerReflectionResponse['messageResponse']>;
export type DescriptorIndex = ReturnType<typeof readDescriptors>;

/** Reads the built descriptor set and indexes its files for the queries of reflection. */
export function readDescriptors() {
  const path = fileURLToPath(import.meta.resolve('@armature/proto/descriptors.binpb'));
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(path)));
  const byName = new Map<string, DescFile>();
  for (const file of registry.files) byName.set(`${file.name}.proto`, file);
  const extensions = [...registry].filter((desc) => desc.kind === 'extension');
  return {
    byName,
    bySymbol(name: string): DescFile | undefined {
      const found = registry.get(name);
      if (found) return found.file;
      // A method, a field or an enum value is found through the type that contains it.
      const parent = name.slice(0, name.lastIndexOf('.'));
      return parent ? registry.get(parent)?.file : undefined;
    },
    byExtension: (type: string, number: number) =>
      extensions.find((extension) => extension.extendee.typeName === type && extension.number === number)?.file,
    extensionsOf: (type: string) =>
      extensions.filter((extension) => extension.extendee.typeName === type).map((extension) => extension.number),
    files(file: DescFile | undefined): MessageResponse {
      if (!file) return { $case: 'errorResponse', value: { errorCode: status.NOT_FOUND, errorMessage: 'not found' } };
      const fileDescriptorProto = [...withDependencies(file)].map((one) =>
        Buffer.from(toBinary(FileDescriptorProtoSchema, one.proto)),
      );
      return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
    },
  };
}

function withDependencies(file: DescFile, seen = new Set<DescFile>()): Set<DescFile> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const dependency of file.dependencies) withDependencies(dependency, seen);
  return seen;
}
