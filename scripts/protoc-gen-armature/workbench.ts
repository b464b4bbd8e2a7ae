// Test bench of the generator tests: a folder with their own contracts, compiled by the real buf.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { create, fromBinary } from '@bufbuild/protobuf';
import { type CodeGeneratorRequest, CodeGeneratorRequestSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { buf, root } from './buf.ts';

const generation = `version: v2
plugins:
  - local: protoc-gen-ts_proto
    out: gen
    include_imports: true
    strategy: all
    opt: [TS_PROTO]
  - local: ["node", "${join(root, 'scripts', 'protoc-gen-armature', 'plugin.ts')}"]
    out: gen
    strategy: all
`;

/** Creates a buf module from files given by path and the options that contracts import. */
export function makeModule(folder: string, files: Readonly<Record<string, string>>): void {
  for (const path of ['armature/options', 'armature/type', 'buf']) {
    cpSync(join(root, 'proto', path), join(folder, 'proto', path), { recursive: true });
  }
  for (const [path, text] of Object.entries(files)) {
    const target = join(folder, 'proto', path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text);
  }
  writeFileSync(join(folder, 'buf.yaml'), 'version: v2\nmodules:\n  - path: proto\n');
}

/** Generates a module as `make gen` does, with the same options. Throws with the output of buf. */
export function generateModule(folder: string): void {
  const options = [...readFileSync(join(root, 'buf.gen.yaml'), 'utf8').matchAll(/^ {6}- (\S+=\S+)$/gm)].map(
    ([, option]) => option,
  );
  writeFileSync(join(folder, 'buf.gen.yaml'), generation.replace('TS_PROTO', options.join(', ')));
  for (const name of ['contract.ts', 'email.ts', 'rules.ts', 'text.ts'])
    cpSync(join(root, 'proto', name), join(folder, name));
  buf(folder, 'generate');
}

/** Compiles a module once. The returned function makes a request to generate some of its files. */
export function compileModule(folder: string): (...fileNames: string[]) => CodeGeneratorRequest {
  const image = join(folder, 'descriptors.binpb');
  buf(folder, 'build', '--as-file-descriptor-set', '--output', image);
  const { file } = fromBinary(FileDescriptorSetSchema, readFileSync(image));
  return (...fileToGenerate) => create(CodeGeneratorRequestSchema, { fileToGenerate, protoFile: file });
}
