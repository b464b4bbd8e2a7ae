/** A contract that uses every supported rule, for the tests of the generated code. */
export const samples = `syntax = "proto3";
package armature.samples.v1;

import "armature/options/v1/options.proto";
import "armature/type/v1/money.proto";
import "buf/validate/validate.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/timestamp.proto";

service SampleService {
  option (armature.options.v1.service) = {consumes: ["armature.samples.v1.SampleMade"]};
  rpc MakeSample(MakeSampleRequest) returns (Sample) {
    option (armature.options.v1.method) = {
      permission: "samples.make"
      owner: {field: "owner_id"}
      idempotency: {key: "request_id"}
      deadline: {default_ms: 1000 max_ms: 2000}
    };
  }
  rpc WatchSample(Sample) returns (stream Sample) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (armature.options.v1.method) = {
      permission: "samples.read"
      owner: {loaded: true}
      deadline: {default_ms: 1000 max_ms: 1000}
    };
  }
}

enum SampleErrorReason {
  SAMPLE_ERROR_REASON_UNSPECIFIED = 0;
  SAMPLE_ERROR_REASON_BROKEN = 1;
}

enum Colour {
  COLOUR_UNSPECIFIED = 0;
  COLOUR_RED = 1;
  COLOUR_BLUE = 5;
}

message MakeSampleRequest {
  string request_id = 1 [(buf.validate.field).string.uuid = true];
  string owner_id = 2;
  string story = 3 [(armature.options.v1.text).multiline = true];
  string secret = 4 [(armature.options.v1.text).unrestricted_because = "only its hash is stored"];
  repeated string labels = 5 [(buf.validate.field).repeated.max_items = 3];
  map<string, string> notes = 6;
  string code = 7 [(buf.validate.field).string.pattern = "^[!-~]{0,4}$"];
  string wide = 8 [(buf.validate.field).string = {max_len: 8 pattern: "^[^a]*$"}];
  Inside inside = 9;
  oneof also {
    string word = 10;
    bool flag = 11;
  }
}

message Inside {
  optional string title = 1 [(buf.validate.field).string.max_len = 4];
}

message SampleMade {
  option (armature.options.v1.event) = {aggregate: "sample" id_field: "sample_id" permission: "samples.publish"};
  string sample_id = 1;
}

message Sample {
  string sample_id = 1;
}

message Numbers {
  int32 small = 1 [(buf.validate.field).int32 = {gte: -5 lte: 5 not_in: [0]}];
  int64 large = 2 [(buf.validate.field).int64 = {gt: 0 lt: 9007199254740993}];
  uint32 one_of_three = 3 [(buf.validate.field).uint32 = {in: [1, 2, 3]}];
  uint64 fixed = 4 [(buf.validate.field).uint64.const = 7];
  optional int32 maybe = 5 [(buf.validate.field).int32.gte = 1];
  int32 unless_zero = 6 [(buf.validate.field) = {ignore: IGNORE_IF_ZERO_VALUE int32: {gte: 10}}];
  int64 needed = 7 [(buf.validate.field).required = true];
}

message Texts {
  string sized = 1 [(buf.validate.field).string = {min_len: 2 max_len: 4}];
  string bytes_sized = 2 [(buf.validate.field).string = {min_bytes: 2 max_bytes: 4}];
  string code = 3 [(buf.validate.field).string = {max_len: 8 pattern: "^[A-Z]+(?:-[0-9]{1,2})?$"}];
  string path = 4 [(buf.validate.field).string.prefix = "a/\\"b"];
  string word = 5 [(buf.validate.field).string = {in: ["yes", "no"]}];
  string other = 6 [(buf.validate.field).string = {not_in: ["root"]}];
  string id = 7 [(buf.validate.field).string.uuid = true];
  string mail = 8 [(buf.validate.field).string = {max_len: 40 email: true}];
  string same = 9 [(buf.validate.field).string.const = "x"];
  bytes blob = 10 [(buf.validate.field).bytes = {min_len: 1 max_len: 3}];
  optional string needed = 11 [(buf.validate.field).required = true];
}

message Choices {
  Colour known = 1 [(buf.validate.field).enum = {defined_only: true not_in: [0]}];
  Colour red = 2 [(buf.validate.field).enum.const = 1];
  Colour listed = 3 [(buf.validate.field).enum = {in: [1, 5]}];
  oneof choice {
    option (buf.validate.oneof).required = true;
    string text = 4 [(buf.validate.field).string.min_len = 3];
    armature.type.v1.Money price = 5;
    bool flag = 6;
  }
}

message Lists {
  repeated string tags = 1 [(buf.validate.field).repeated = {min_items: 1 max_items: 40 unique: true items: {string: {min_len: 1}}}];
  repeated armature.type.v1.Money prices = 2 [(buf.validate.field).repeated.max_items = 100];
  repeated Colour colours = 3 [(buf.validate.field).repeated.items.enum.defined_only = true];
  repeated int64 needed = 4 [(buf.validate.field).required = true];
}

message Maps {
  map<string, armature.type.v1.Money> by_name = 1 [(buf.validate.field).map = {min_pairs: 1 max_pairs: 3 keys: {string: {max_len: 3}}}];
  map<int64, string> by_number = 2 [(buf.validate.field).map = {keys: {int64: {gte: 1}} values: {string: {min_len: 1}}}];
  map<int32, Colour> by_small = 3 [(buf.validate.field).map.values.enum.defined_only = true];
}

message Times {
  google.protobuf.Duration wait = 1 [(buf.validate.field) = {required: true duration: {gte: {seconds: 1} lte: {seconds: 60 nanos: 500000000}}}];
  google.protobuf.Timestamp at = 2 [(buf.validate.field).required = true];
}

message Tree {
  string name = 1 [(buf.validate.field).string.min_len = 1];
  Tree left = 2;
  repeated Tree rest = 3;
}

message Deep {
  message Middle {
    Lists lists = 1;
  }
  repeated Middle middles = 1;
}

message Free {
  string anything = 1;
}
`;

/** Checks the types of the generated code with the compiler. */
export const typesOfSamples = `import type { MethodContract, ServiceContract } from './contract.ts';
import { SampleErrorReason, SampleMadeEvent, SampleServiceContract, validateTree } from './gen/armature/samples/v1/contract.ts';
import type { MakeSampleRequest, Sample, SampleMade, Tree } from './gen/armature/samples/v1/samples.ts';
import type { EventContract, Validate } from './contract.ts';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Methods = (typeof SampleServiceContract)['methods'];
const unary: Same<Methods['makeSample'], MethodContract<MakeSampleRequest, Sample, 'unary'>> = true;
const stream: Same<Methods['watchSample'], MethodContract<Sample, Sample, 'server_stream'>> = true;
const names: Same<keyof Methods, 'makeSample' | 'watchSample'> = true;
const event: Same<typeof SampleMadeEvent, EventContract<SampleMade>> = true;
const reason: Same<SampleErrorReason, 'BROKEN'> = true;
const whichever: ServiceContract = SampleServiceContract;
const validate: Validate<Tree> = validateTree;
export { event, names, reason, stream, unary, validate, whichever };
`;
