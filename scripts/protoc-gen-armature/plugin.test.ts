import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { respond } from './generator.ts';
import { samples } from './samples.ts';
import { compileModule, generateModule, makeModule } from './workbench.ts';

const header = `syntax = "proto3";
package PACKAGE;
import "armature/options/v1/options.proto";
import "armature/type/v1/money.proto";
import "buf/validate/validate.proto";
import "google/protobuf/duration.proto";
`;

const keyed = 'string request_id = 1 [(buf.validate.field).string.uuid = true];';

interface Promises {
  idempotency?: string;
  level?: string;
  permission?: string;
  owner?: string;
  deadline?: string;
  request?: string;
  types?: string;
}

/** A service with one complete method, except for what a row changes. */
const method = (promises: Promises): string => {
  const {
    permission = 'permission: "things.do"',
    owner = '',
    idempotency = 'idempotency: {key: "request_id"}',
    level = '',
    deadline = 'deadline: {default_ms: 1000 max_ms: 2000}',
    request = keyed,
    types = '(Ask) returns (Reply)',
  } = promises;
  return `service ThingService {
    rpc DoThing${types} {
      ${level}
      option (armature.options.v1.method) = {${permission} ${owner} ${idempotency} ${deadline}};
    }
  }
  message Ask { ${request} }
  message Reply {}`;
};

const reads = { idempotency: '', level: 'option idempotency_level = NO_SIDE_EFFECTS;' };
const ruled = (field: string): string => `message Ask { ${field} }`;
const event = (options: string, body = 'string thing_id = 1;'): string =>
  `message ThingDone { option (armature.options.v1.event) = {${options}}; ${body} }`;
const consuming = (type: string): string => `service ThingService {
  option (armature.options.v1.service) = {consumes: ["${type}"]};
}
message Plain { string thing_id = 1; }`;

const aMethod = 'method PACKAGE.ThingService.DoThing';
const aField = 'field PACKAGE.Ask.a';

// Each row: what is wrong, the contract, what the message names, and what it says.
const rows: readonly [name: string, contract: string, names: string, says: RegExp][] = [
  [
    'a text rule that says nothing',
    method({ request: `${keyed} string a = 2 [(armature.options.v1.text).unrestricted_because = " "];` }),
    aField,
    /text rule that says nothing; write \{multiline: true\} or \{unrestricted_because/,
  ],
  [
    'a text rule of a number',
    method({ request: `${keyed} int32 a = 2 [(armature.options.v1.text).multiline = true];` }),
    aField,
    /has \(armature\.options\.v1\.text\), but holds no string/,
  ],
  [
    'a target that is no field',
    method({ owner: 'target: {user: "user_id"}' }),
    aMethod,
    /target\.user "user_id", which is not a string field of/,
  ],
  ['a target that says nothing', method({ owner: 'target: {}' }), aMethod, /has a target that says nothing/],
  [
    'a permission that is reserved for one method and not for another',
    method({ owner: 'reserved: true' }).replace(
      'message Ask',
      `service OtherService { rpc DoThing(Ask) returns (Reply) {
        option (armature.options.v1.method) = {
          permission: "things.do" idempotency: {key: "request_id"} deadline: {default_ms: 1000 max_ms: 2000}
        };
      } }
      message Ask`,
    ),
    'method PACKAGE.OtherService.DoThing',
    /says another reserved for things\.do than \/PACKAGE\.ThingService\/DoThing/,
  ],
  [
    'no option at all',
    'service ThingService { rpc DoThing(Ask) returns (Ask); } message Ask {}',
    aMethod,
    /add option \(armature\.options\.v1\.method\)/,
  ],
  ['no permission', method({ permission: '' }), aMethod, /has no permission; add one such as/],
  [
    'a permission of one word',
    method({ permission: 'permission: "things"' }),
    aMethod,
    /malformed permission "things"/,
  ],
  ['a permission in upper case', method({ permission: 'permission: "Things.Do"' }), aMethod, /malformed permission/],
  ['a permission with a wildcard', method({ permission: 'permission: "things.*"' }), aMethod, /malformed permission/],
  [
    'no idempotency',
    method({ idempotency: '' }),
    aMethod,
    /declares no idempotency; add option idempotency_level = NO_SIDE_EFFECTS/,
  ],
  [
    'IDEMPOTENT, which promises too little',
    method({ idempotency: '', level: 'option idempotency_level = IDEMPOTENT;' }),
    aMethod,
    /declares no idempotency/,
  ],
  ['both idempotencies', method({ level: reads.level }), aMethod, /declares both/],
  [
    'an unknown key',
    method({ idempotency: 'idempotency: {key: "nope"}' }),
    aMethod,
    /idempotency\.key "nope".* not a string field/,
  ],
  ['an empty key', method({ idempotency: 'idempotency: {}' }), aMethod, /idempotency\.key ""/],
  [
    'a key that is a number',
    method({ request: 'int64 request_id = 1;' }),
    aMethod,
    /idempotency\.key "request_id", which is not a string/,
  ],
  ['a repeated key', method({ request: 'repeated string request_id = 1;' }), aMethod, /not a string field/],
  ['an optional key', method({ request: 'optional string request_id = 1;' }), aMethod, /not a string field/],
  ['a key in a oneof', method({ request: 'oneof which { string request_id = 1; }' }), aMethod, /not a string field/],
  [
    'a key that may be empty',
    method({ request: 'string request_id = 1;' }),
    aMethod,
    /may be empty.*string\.uuid = true to/,
  ],
  [
    'a key that may be empty by ignore',
    method({
      request: 'string request_id = 1 [(buf.validate.field) = {ignore: IGNORE_IF_ZERO_VALUE string: {uuid: true}}];',
    }),
    aMethod,
    /may be empty/,
  ],
  [
    'an unknown owner',
    method({ owner: 'owner: {field: "nope"}' }),
    aMethod,
    /owner\.field "nope".* not a string field/,
  ],
  [
    'an owner that is no string',
    method({ ...reads, owner: 'owner: {field: "by"}', request: 'int32 by = 1;' }),
    aMethod,
    /owner\.field "by"/,
  ],
  ['an owner that says nothing', method({ owner: 'owner: {}' }), aMethod, /owner that says nothing/],
  ['an owner that is not loaded', method({ owner: 'owner: {loaded: false}' }), aMethod, /owner that says nothing/],
  ['no deadline', method({ deadline: '' }), aMethod, /has no deadline; write deadline/],
  ['no default deadline', method({ deadline: 'deadline: {max_ms: 10}' }), aMethod, /no deadline\.default_ms/],
  ['no maximum', method({ deadline: 'deadline: {default_ms: 10}' }), aMethod, /no deadline\.max_ms/],
  [
    'a default above the maximum',
    method({ deadline: 'deadline: {default_ms: 11 max_ms: 10}' }),
    aMethod,
    /11 above deadline\.max_ms 10/,
  ],
  [
    'a deadline of years',
    method({ deadline: 'deadline: {default_ms: 1 max_ms: 4000000000}' }),
    aMethod,
    /more than a day/,
  ],
  ['a stream of requests', method({ types: '(stream Ask) returns (Reply)' }), aMethod, /stream of requests/],
  ['streams both ways', method({ types: '(stream Ask) returns (stream Reply)' }), aMethod, /stream of requests/],
  ['a keyed stream', method({ types: '(Ask) returns (stream Reply)' }), aMethod, /cannot be replayed/],

  [
    'an event without aggregate',
    event('id_field: "thing_id" permission: "things.publish"'),
    'message PACKAGE.ThingDone',
    /aggregate ""/,
  ],
  [
    'an event without id field',
    event('aggregate: "thing" permission: "things.publish"'),
    'message PACKAGE.ThingDone',
    /id_field ""/,
  ],
  [
    'an event whose id is a number',
    event('aggregate: "thing" id_field: "thing_id" permission: "things.publish"', 'int64 thing_id = 1;'),
    'message PACKAGE.ThingDone',
    /id_field "thing_id", which is not a string/,
  ],
  [
    'an event without permission',
    event('aggregate: "thing" id_field: "thing_id"'),
    'message PACKAGE.ThingDone',
    /has no permission/,
  ],
  [
    'an event inside a message',
    `message Outer { ${event('aggregate: "thing" id_field: "thing_id" permission: "things.publish"')} }`,
    'message PACKAGE.Outer.ThingDone',
    /inside another message/,
  ],
  [
    'an unknown event consumed',
    consuming('armature.unknown.v1.Nothing'),
    'service PACKAGE.ThingService',
    /armature\.unknown\.v1\.Nothing, which no contract/,
  ],
  [
    'a message consumed that is no event',
    consuming('PACKAGE.Plain'),
    'service PACKAGE.ThingService',
    /PACKAGE\.Plain, which is not an event/,
  ],

  [
    'an error without the prefix',
    'enum ThingErrorReason { THING_ERROR_REASON_UNSPECIFIED = 0; BROKEN = 1; }',
    'enum value PACKAGE.ThingErrorReason.BROKEN',
    /lacks the prefix THING_ERROR_REASON_/,
  ],
  [
    'an error with the number 0',
    'enum ThingErrorReason { THING_ERROR_REASON_BROKEN = 0; }',
    'enum value PACKAGE.ThingErrorReason.THING_ERROR_REASON_BROKEN',
    /keep 0 for THING_ERROR_REASON_UNSPECIFIED/,
  ],

  [
    'a string rule on a number',
    ruled('int64 a = 1 [(buf.validate.field).string.min_len = 1];'),
    aField,
    /rule of string, but its type is int64/,
  ],
  [
    'an int64 rule on an int32',
    ruled('int32 a = 1 [(buf.validate.field).int64.gte = 1];'),
    aField,
    /rule of int64, but its type is int32/,
  ],
  [
    'a string rule on a list',
    ruled('repeated string a = 1 [(buf.validate.field).string.min_len = 1];'),
    aField,
    /write it under repeated\.items/,
  ],
  [
    'a list rule on a string',
    ruled('string a = 1 [(buf.validate.field).repeated.min_items = 1];'),
    aField,
    /rule of repeated/,
  ],
  [
    'a map rule on a list',
    ruled('repeated string a = 1 [(buf.validate.field).map.min_pairs = 1];'),
    aField,
    /rule of map/,
  ],
  [
    'a string rule on a map',
    ruled('map<string, string> a = 1 [(buf.validate.field).string.min_len = 1];'),
    aField,
    /map\.keys or map\.values/,
  ],
  [
    'a wrong rule for items',
    ruled('repeated string a = 1 [(buf.validate.field).repeated.items.int32.gte = 1];'),
    aField,
    /rule of int32/,
  ],
  [
    'a wrong rule for keys',
    ruled('map<int32, string> a = 1 [(buf.validate.field).map.keys.string.uuid = true];'),
    aField,
    /rule of string/,
  ],
  [
    'an enum rule on a string',
    ruled('string a = 1 [(buf.validate.field).enum.defined_only = true];'),
    aField,
    /rule of enum/,
  ],
  [
    'a duration rule on a number',
    ruled('int64 a = 1 [(buf.validate.field).duration.gte.seconds = 1];'),
    aField,
    /rule of duration/,
  ],
  [
    'unique messages',
    ruled('repeated armature.type.v1.Money a = 1 [(buf.validate.field).repeated.unique = true];'),
    aField,
    /repeated\.unique, which is unsupported/,
  ],
  [
    'limits that contradict',
    ruled('int32 a = 1 [(buf.validate.field).int32 = {gte: 5 lte: 4}];'),
    aField,
    /int32\.gte = 5 above int32\.lte = 4/,
  ],
  [
    'an invalid pattern',
    ruled('string a = 1 [(buf.validate.field).string.pattern = "^[a-z"];'),
    aField,
    /string\.pattern = "\^\[a-z" has a "\["/,
  ],
  [
    'a backreference',
    ruled('string a = 1 [(buf.validate.field).string.pattern = "^(a)\\\\1$"];'),
    aField,
    /no backreferences/,
  ],
  ['a lookahead', ruled('string a = 1 [(buf.validate.field).string.pattern = "^(?=a)a$"];'), aField, /no lookaround/],
  [
    'a pattern for hostile input',
    ruled('string a = 1 [(buf.validate.field).string = {max_len: 99 pattern: "^(a+)+$"}];'),
    aField,
    /hostile input/,
  ],
  [
    'a pattern without bound',
    ruled('string a = 1 [(buf.validate.field).string.pattern = "^a+$"];'),
    aField,
    /set max_len/,
  ],
];

const packageOf = (index: number): string => `armature.row${index}.v1`;
const pathOf = (index: number): string => `${packageOf(index).replaceAll('.', '/')}/row.proto`;

t.test('refuses incomplete contracts', async (t) => {
  const folder = t.testdir();
  const files = rows.map(([, contract], i) => [pathOf(i), (header + contract).replaceAll('PACKAGE', packageOf(i))]);
  makeModule(folder, Object.fromEntries(files));
  const request = compileModule(folder);
  for (const [i, [name, , names, says]] of rows.entries()) {
    const response = respond(request(pathOf(i)));
    const expected = new RegExp(says.source.replaceAll('PACKAGE', packageOf(i).replaceAll('.', '\\.')));
    t.match(response.error, expected, name);
    t.ok(
      response.error?.startsWith(`${pathOf(i)}: ${names.replaceAll('PACKAGE', packageOf(i))} `),
      `${name}: is named`,
    );
    t.strictSame(response.file, [], `${name}: nothing is generated`);
    t.equal(response.error?.split('\n').length, 1, `${name}: nothing else is found`);
  }
});

t.test('reports every fault in one run', async (t) => {
  const folder = t.testdir();
  const contract = method({ permission: '', deadline: '', idempotency: '' }).replace(
    'message Reply {}',
    rows.at(-1)?.[1].replace('Ask', 'Reply') ?? '',
  );
  makeModule(folder, { 'armature/row1/v1/row.proto': (header + contract).replaceAll('PACKAGE', packageOf(1)) });
  const { error } = respond(compileModule(folder)(pathOf(1)));
  t.equal(error?.split('\n').length, 4, error);
});

t.test('does not check packages of other projects', async (t) => {
  const folder = t.testdir();
  const plain =
    'syntax = "proto3"; package grpc.some.v1; service Any { rpc Do(stream Ask) returns (Ask); } message Ask {}';
  const ruledOutside = (header + ruled('string a = 1 [(buf.validate.field).string.min_len = 1];')).replace(
    'PACKAGE',
    'other.v1',
  );
  makeModule(folder, { 'grpc/some/v1/some.proto': plain, 'armature/samples/v1/samples.proto': samples });
  const request = compileModule(folder);
  const response = respond(request('grpc/some/v1/some.proto', 'armature/options/v1/options.proto'));
  t.notOk(response.error);
  t.strictSame(response.file, []);
  const names = respond(
    request('armature/samples/v1/samples.proto', 'armature/type/v1/money.proto', 'grpc/some/v1/some.proto'),
  ).file;
  t.strictSame(names.map(({ name }) => name).sort(), [
    'armature/permissions.ts',
    'armature/samples/v1/contract.ts',
    'armature/subscriptions.ts',
    'armature/type/v1/contract.ts',
  ]);
  makeModule(folder, { 'other/v1/other.proto': ruledOutside });
  t.match(respond(compileModule(folder)('other/v1/other.proto')).error, /message other\.v1\.Ask has field rules, but/);
});

t.test('a real run of buf', async (t) => {
  const folder = t.testdir();
  makeModule(folder, {
    'armature/row1/v1/row.proto': (header + method({ permission: '' })).replaceAll('PACKAGE', packageOf(1)),
  });
  t.throws(
    () => generateModule(folder),
    /armature\/row1\/v1\/row\.proto: method armature\.row1\.v1\.ThingService\.DoThing has no permission/,
  );
  const undeclared = header + ruled('string a = 1 [(buf.validate.field).string.hostname = true];');
  writeFileSync(join(folder, 'proto', pathOf(1)), undeclared.replaceAll('PACKAGE', packageOf(1)));
  t.throws(
    () => generateModule(folder),
    /row\.proto:7:.*hostname/s,
    'a rule that is not declared does not even compile',
  );
});

t.test('refuses an official rule that is not supported', async (t) => {
  const folder = t.testdir();
  makeModule(folder, {
    'buf/validate/validate.proto': `syntax = "proto2";
      package buf.validate;
      import "google/protobuf/descriptor.proto";
      extend google.protobuf.FieldOptions { optional FieldRules field = 1159; }
      extend google.protobuf.MessageOptions { optional MessageRules message = 1159; }
      message MessageRules { optional bool disabled = 1; }
      message FieldRules { repeated string cel = 23; oneof type { FloatRules float = 1; StringRules string = 14; } }
      message FloatRules { optional float gte = 5; }
      message StringRules { optional bool hostname = 13; }`,
    'armature/row1/v1/row.proto': `syntax = "proto3";
      package armature.row1.v1;
      import "buf/validate/validate.proto";
      message Ask {
        option (buf.validate.message).disabled = true;
        string a = 1 [(buf.validate.field).string.hostname = true];
        float b = 2 [(buf.validate.field).float.gte = 1];
        string c = 3 [(buf.validate.field).cel = "this != ''"];
      }`,
    'armature/type/v1/money.proto': 'syntax = "proto3"; package armature.type.v1; message Money {}',
    'armature/type/v1/address.proto': 'syntax = "proto3"; package armature.type.v1; message Address {}',
  });
  const { error } = respond(compileModule(folder)('armature/row1/v1/row.proto'));
  t.match(error, /message armature\.row1\.v1\.Ask has \(buf\.validate\.message\), which is unsupported/);
  t.match(error, /field armature\.row1\.v1\.Ask\.a has the rule string\.hostname, which is unsupported/);
  t.match(error, /field armature\.row1\.v1\.Ask\.b has a rule of float, which is unsupported/);
  t.match(error, /field armature\.row1\.v1\.Ask\.c has the rule cel, which is unsupported/);
});
