// The program that buf starts: a request on standard input, a response on standard output.
import { buffer } from 'node:stream/consumers';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { CodeGeneratorRequestSchema, CodeGeneratorResponseSchema } from '@bufbuild/protobuf/wkt';
import { respond } from './generator.ts';

const request = fromBinary(CodeGeneratorRequestSchema, await buffer(process.stdin));
process.stdout.write(toBinary(CodeGeneratorResponseSchema, respond(request)));
