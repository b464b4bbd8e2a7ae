import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Codec, FieldViolation, ServiceContract } from '@armature/proto/contract.ts';
import * as loadBalancer from '@grpc/grpc-js/build/src/load-balancer.js';
import * as grpcServiceConfig from '@grpc/grpc-js/build/src/service-config.js';
import t from 'tap';
import { violationLimit } from '../../proto/rules.ts';
import { root } from './buf.ts';
import { samples, typesOfSamples } from './samples.ts';
import { generateModule, makeModule } from './workbench.ts';

type Fields = Record<string, unknown>;

const folder = t.testdir();
makeModule(folder, { 'armature/samples/v1/samples.proto': samples });
generateModule(folder);
const contract: Record<string, unknown> = await import(join(folder, 'gen/armature/samples/v1/contract.ts'));
const messages: Record<string, unknown> = await import(join(folder, 'gen/armature/samples/v1/samples.ts'));

/** Encodes and decodes the message, so that the validator sees what a server would. */
function violationsOf(message: string, fields: Fields): FieldViolation[] {
  const codec = messages[message] as Codec<unknown>;
  const validate = contract[`validate${message}`] as (message: unknown, violations: FieldViolation[]) => void;
  const violations: FieldViolation[] = [];
  validate(codec.decode(codec.encode(codec.fromPartial(fields)).finish()), violations);
  return violations;
}

const uuid = '0190e2a4-7c1b-7def-8a3b-0123456789ab';
const eur = { currencyCode: 'EUR', amountMinor: 1n };
const numbers = { small: 1, large: 1n, oneOfThree: 1, fixed: 7n, needed: 1n };
const texts = {
  sized: 'ab',
  bytesSized: 'ab',
  code: 'AB-12',
  path: 'a/"b/c',
  word: 'yes',
  other: 'ada',
  id: uuid,
  mail: 'ada@example.org',
  same: 'x',
  blob: new Uint8Array(1),
  needed: '',
};
const text = { $case: 'text', value: 'abc' };
const choices = { known: 1, red: 1, listed: 5, choice: text };
const lists = { tags: ['a'], needed: [1n] };
const maps = { byName: { a: eur }, byNumber: new Map([[1n, 'x']]), bySmall: { 1: 5 } };
const times = { wait: { seconds: 1n, nanos: 0 }, at: new Date(0) };
const made = { requestId: uuid, ownerId: 'ada', story: '', code: '', wide: 'é', notes: { a: 'b' } };
const many = (count: number) => Array.from({ length: count }, (_, i) => `t${i}`);

// Each row: the message, its difference from a valid one, and the broken rules by field.
const rows: readonly [name: string, message: string, fields: Fields, ...broken: string[]][] = [
  ['numbers that fit', 'Numbers', numbers],
  ['lowest', 'Numbers', { ...numbers, small: -5 }],
  ['highest', 'Numbers', { ...numbers, small: 5, large: 9007199254740992n }],
  ['one too low', 'Numbers', { ...numbers, small: -6 }, 'small int32.gte'],
  ['one too high', 'Numbers', { ...numbers, small: 6 }, 'small int32.lte'],
  ['a forbidden number', 'Numbers', { ...numbers, small: 0 }, 'small int32.not_in'],
  ['at an open lower end', 'Numbers', { ...numbers, large: 0n }, 'large int64.gt'],
  ['at an open upper end past 2^53', 'Numbers', { ...numbers, large: 9007199254740993n }, 'large int64.lt'],
  ['not in a list', 'Numbers', { ...numbers, oneOfThree: 4 }, 'one_of_three uint32.in'],
  ['not the constant', 'Numbers', { ...numbers, fixed: 8n }, 'fixed uint64.const'],
  ['an optional number that is set to zero', 'Numbers', { ...numbers, maybe: 0 }, 'maybe int32.gte'],
  ['ignored only at zero', 'Numbers', { ...numbers, unlessZero: 9 }, 'unless_zero int32.gte'],
  ['a required number that is zero', 'Numbers', { ...numbers, needed: 0n }, 'needed required'],
  ['several fields', 'Numbers', { ...numbers, small: 9, fixed: 0n }, 'small int32.lte', 'fixed uint64.const'],

  ['texts that fit', 'Texts', texts],
  ['longest', 'Texts', { ...texts, sized: 'abcd' }],
  ['four code points in eight units', 'Texts', { ...texts, sized: '😀😀😀😀' }],
  ['five code points', 'Texts', { ...texts, sized: '😀😀😀😀a' }, 'sized string.max_len'],
  ['one code point in two units', 'Texts', { ...texts, sized: '😀' }, 'sized string.min_len'],
  ['too short', 'Texts', { ...texts, sized: 'a' }, 'sized string.min_len'],
  ['too few bytes', 'Texts', { ...texts, bytesSized: 'a' }, 'bytes_sized string.min_bytes'],
  ['five bytes in three characters', 'Texts', { ...texts, bytesSized: 'aéé' }, 'bytes_sized string.max_bytes'],
  ['four bytes in two characters', 'Texts', { ...texts, bytesSized: 'éé' }],
  ['off the pattern', 'Texts', { ...texts, code: 'AB-' }, 'code string.pattern'],
  ['a newline after the pattern', 'Texts', { ...texts, code: 'AB\n' }, 'code string.pattern'],
  ['too long for the pattern to be tried', 'Texts', { ...texts, code: 'A'.repeat(9) }, 'code string.max_len'],
  ['another prefix', 'Texts', { ...texts, path: 'a/b' }, 'path string.prefix'],
  ['not a listed word', 'Texts', { ...texts, word: 'maybe' }, 'word string.in'],
  ['a forbidden word', 'Texts', { ...texts, other: 'root' }, 'other string.not_in'],
  ['an upper-case UUID', 'Texts', { ...texts, id: uuid.toUpperCase() }],
  ['a UUID without dashes', 'Texts', { ...texts, id: uuid.replaceAll('-', '') }, 'id string.uuid'],
  ['a UUID in braces', 'Texts', { ...texts, id: `{${uuid}}` }, 'id string.uuid'],
  ['an empty UUID', 'Texts', { ...texts, id: '' }, 'id string.uuid'],
  ['not a mail address', 'Texts', { ...texts, mail: 'ada@' }, 'mail string.email'],
  ['a mail address with a line end', 'Texts', { ...texts, mail: 'ada@example.org\n' }, 'mail string.email'],
  ['not the constant text', 'Texts', { ...texts, same: 'y' }, 'same string.const'],
  ['no bytes', 'Texts', { ...texts, blob: new Uint8Array() }, 'blob bytes.min_len'],
  ['too many bytes', 'Texts', { ...texts, blob: new Uint8Array(4) }, 'blob bytes.max_len'],
  ['a required text that is missing', 'Texts', { ...texts, needed: undefined }, 'needed required'],

  ['choices that fit', 'Choices', choices],
  ['an undefined enum value', 'Choices', { ...choices, known: 3 }, 'known enum.defined_only'],
  ['a forbidden enum value', 'Choices', { ...choices, known: 0 }, 'known enum.not_in'],
  ['not the constant enum value', 'Choices', { ...choices, red: 5 }, 'red enum.const'],
  ['not a listed enum value', 'Choices', { ...choices, listed: 0 }, 'listed enum.in'],
  ['no member of a oneof', 'Choices', { ...choices, choice: undefined }, 'choice oneof.required'],
  [
    'a broken member of a oneof',
    'Choices',
    { ...choices, choice: { $case: 'text', value: 'ab' } },
    'text string.min_len',
  ],
  [
    'an empty member of a oneof',
    'Choices',
    { ...choices, choice: { $case: 'text', value: '' } },
    'text string.min_len',
  ],
  ['a member without rules', 'Choices', { ...choices, choice: { $case: 'flag', value: false } }],
  [
    'a broken message in a oneof',
    'Choices',
    { ...choices, choice: { $case: 'price', value: { currencyCode: 'EUR', amountMinor: -1n } } },
    'price.amount_minor int64.gte',
  ],

  ['lists that fit', 'Lists', lists],
  ['an empty list', 'Lists', { ...lists, tags: [] }, 'tags repeated.min_items'],
  ['the longest list', 'Lists', { ...lists, tags: many(40) }],
  ['too long a list, not looked into', 'Lists', { ...lists, tags: many(41).map(() => '') }, 'tags repeated.max_items'],
  ['a repeated value', 'Lists', { ...lists, tags: ['a', 'b', 'a'] }, 'tags repeated.unique'],
  ['a repeated value in a long list', 'Lists', { ...lists, tags: [...many(39), 't0'] }, 'tags repeated.unique'],
  ['an empty item', 'Lists', { ...lists, tags: ['a', 'b', ''] }, 'tags[2] string.min_len'],
  [
    'a broken message in a list',
    'Lists',
    { ...lists, prices: [eur, { currencyCode: 'eur', amountMinor: -1n }] },
    'prices[1].currency_code string.pattern',
    'prices[1].amount_minor int64.gte',
  ],
  ['an undefined enum value in a list', 'Lists', { ...lists, colours: [1, 2] }, 'colours[1] enum.defined_only'],
  ['a required list that is empty', 'Lists', { ...lists, needed: [] }, 'needed required'],

  ['maps that fit', 'Maps', maps],
  ['an empty map', 'Maps', { ...maps, byName: {} }, 'by_name map.min_pairs'],
  ['too large a map', 'Maps', { ...maps, byName: { a: eur, b: eur, c: eur, d: eur } }, 'by_name map.max_pairs'],
  ['a long key', 'Maps', { ...maps, byName: { 'a"bc': eur } }, 'by_name["a\\"bc"] string.max_len'],
  [
    'a broken message in a map',
    'Maps',
    { ...maps, byName: { a: { currencyCode: 'EUR', amountMinor: -1n } } },
    'by_name["a"].amount_minor int64.gte',
  ],
  ['a low key', 'Maps', { ...maps, byNumber: new Map([[0n, 'x']]) }, 'by_number[0] int64.gte'],
  ['an empty value', 'Maps', { ...maps, byNumber: new Map([[3n, '']]) }, 'by_number[3] string.min_len'],
  ['an undefined enum value in a map', 'Maps', { ...maps, bySmall: { [-2]: 4 } }, 'by_small[-2] enum.defined_only'],

  ['times that fit', 'Times', times],
  ['longest duration', 'Times', { ...times, wait: { seconds: 60n, nanos: 500_000_000 } }],
  ['a nanosecond too long', 'Times', { ...times, wait: { seconds: 60n, nanos: 500_000_001 } }, 'wait duration.lte'],
  ['too short a duration', 'Times', { ...times, wait: { seconds: 0n, nanos: 999_999_999 } }, 'wait duration.gte'],
  ['missing messages', 'Times', {}, 'wait required', 'at required'],

  ['text that fits', 'MakeSampleRequest', made],
  ['blanks', 'MakeSampleRequest', { ...made, ownerId: ' ' }, 'owner_id text.line'],
  ['a line break in one line', 'MakeSampleRequest', { ...made, ownerId: 'a\r\nb' }, 'owner_id text.line'],
  ['line breaks and a tab in a text of several lines', 'MakeSampleRequest', { ...made, story: 'a\r\n\tb\n' }],
  ['only line breaks', 'MakeSampleRequest', { ...made, story: '\r\n' }, 'story text.lines'],
  ['a null character in several lines', 'MakeSampleRequest', { ...made, story: 'a\n\0' }, 'story text.lines'],
  ['any character where the contract says so', 'MakeSampleRequest', { ...made, secret: '\0 \u202e' }],
  ['an invisible item', 'MakeSampleRequest', { ...made, labels: ['a', '\u200b'] }, 'labels[1] text.line'],
  ['a blank key', 'MakeSampleRequest', { ...made, notes: { ' ': 'a' } }, 'notes[" "] text.line'],
  ['a blank value', 'MakeSampleRequest', { ...made, notes: { a: ' ' } }, 'notes["a"] text.line'],
  ['a pattern without blanks', 'MakeSampleRequest', { ...made, code: ' ' }, 'code string.pattern'],
  ['a pattern that allows too much', 'MakeSampleRequest', { ...made, wide: '\u202e' }, 'wide text.line'],
  ['too long a text, not looked into', 'MakeSampleRequest', { ...made, wide: ' '.repeat(9) }, 'wide string.max_len'],
  ['text inside a message', 'MakeSampleRequest', { ...made, inside: { title: '\t' } }, 'inside.title text.line'],
  ['an optional text that is missing', 'MakeSampleRequest', { ...made, inside: {} }],
  ['text in a oneof', 'MakeSampleRequest', { ...made, also: { $case: 'word', value: '\u2066' } }, 'word text.line'],

  ['a leaf', 'Tree', { name: 'a' }],
  [
    'a message in itself',
    'Tree',
    { name: 'a', left: { name: 'b', left: { name: '' } }, rest: [{ name: 'c' }, { name: 'd', rest: [{ name: '' }] }] },
    'left.left.name string.min_len',
    'rest[1].rest[0].name string.min_len',
  ],
  [
    'three levels down',
    'Deep',
    { middles: [{}, { lists: { ...lists, tags: ['', 'b'] } }] },
    'middles[1].lists.tags[0] string.min_len',
  ],
];

t.test('validators', async (t) => {
  for (const [name, message, fields, ...broken] of rows) {
    t.strictSame(
      violationsOf(message, fields).map(({ field, reason }) => `${field} ${reason}`),
      broken,
      name,
    );
  }
});

t.test('text of violations', async (t) => {
  const says = (message: string, fields: Fields) => violationsOf(message, fields).map(({ description }) => description);
  t.strictSame(says('Numbers', { ...numbers, small: -6 }), ['must be at least -5']);
  t.strictSame(says('Numbers', { ...numbers, oneOfThree: 9 }), ['must be one of 1, 2, 3']);
  t.strictSame(says('Texts', { ...texts, path: 'x' }), ['must start with "a/\\"b"']);
  t.strictSame(says('Lists', { ...lists, tags: [] }), ['must have at least 1 item']);
  t.strictSame(says('Choices', { ...choices, choice: undefined }), ['must have one of text, price, flag']);
  const said = 'must not have the character U+202E: it is invisible or no part of one line';
  t.strictSame(says('MakeSampleRequest', { ...made, ownerId: 'a\u202eb' }), [said]);
  t.strictSame(says('MakeSampleRequest', { ...made, ownerId: ' ' }), ['must not be blank']);
  t.strictSame(says('Times', { ...times, wait: { seconds: 99n, nanos: 0 } }), ['must be at most 60.5 s']);
});

t.test('bounds', async (t) => {
  const prices = Array.from({ length: 100 }, () => ({ currencyCode: 'x', amountMinor: -1n }));
  t.equal(violationsOf('Lists', { ...lists, prices }).length, violationLimit, 'stops at the limit');
  let tree: Fields = { name: '' };
  for (let i = 0; i < 99; i++) tree = { name: 'a', left: tree };
  t.equal(violationsOf('Tree', tree)[0]?.field, `${'left.'.repeat(99)}name`);
  t.throws(() => violationsOf('Tree', { name: 'a', left: tree }), /recursion limit/, 'the decoder bounds the depth');
  t.notOk('validateFree' in contract, 'text that no request holds has no validator');
});

/** A generator of pseudo-random numbers from 0 up to but not including the bound. */
function randomFrom(seed: number): (bound: number) => number {
  let state = seed >>> 0;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

t.test('random texts and numbers get the same result as from another implementation', async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.comment(`seed ${seed}`);
  const random = randomFrom(seed);
  const alphabet = ['a', 'A', '-', '1', 'é', '😀', '\ud83d', '\n', ''];
  const letters = () => Array.from({ length: random(7) }, () => alphabet[random(alphabet.length)]).join('');
  const validate = contract.validateTexts as (message: unknown, violations: FieldViolation[]) => void;
  for (let i = 0; i < 20_000; i++) {
    const [sized, bytesSized, code] = [letters(), letters(), letters()];
    const expected: string[] = [];
    const length = Array.from(sized).length;
    if (length < 2) expected.push('sized string.min_len');
    else if (length > 4) expected.push('sized string.max_len');
    const bytes = new TextEncoder().encode(bytesSized).length;
    if (bytes < 2) expected.push('bytes_sized string.min_bytes');
    else if (bytes > 4) expected.push('bytes_sized string.max_bytes');
    if (!/^[A-Z]+(-\d\d?)?$/.test(code)) expected.push('code string.pattern');
    const violations: FieldViolation[] = [];
    validate({ ...texts, sized, bytesSized, code }, violations);
    const found = violations.map(({ field, reason }) => `${field} ${reason}`);
    if (found.join() !== expected.join())
      t.strictSame(found, expected, JSON.stringify({ seed, i, sized, bytesSized, code }));
  }
  const validateNumbers = contract.validateNumbers as typeof validate;
  for (let i = 0; i < 20_000; i++) {
    const [small, large] = [random(14) - 7, BigInt(random(5)) - 2n + (random(2) === 0 ? 0n : 9_007_199_254_740_991n)];
    const expected =
      (small < -5 || small > 5 || small === 0 ? 1 : 0) + (large > 0n && large < 9_007_199_254_740_993n ? 0 : 1);
    const violations: FieldViolation[] = [];
    validateNumbers({ ...numbers, small, large }, violations);
    if (violations.length !== expected) t.equal(violations.length, expected, `seed ${seed}, ${i}: ${small} ${large}`);
  }
  t.pass('40,000 messages');
});

t.test('generates the contract table', async (t) => {
  const { methods, consumes, ...service } = contract.SampleServiceContract as ServiceContract;
  t.equal(service.name, 'armature.samples.v1.SampleService');
  t.equal(service.domain, 'samples.armature.local');
  t.strictSame(Object.keys(methods), ['makeSample', 'watchSample']);
  t.match(methods.makeSample, {
    service: service.name,
    name: 'MakeSample',
    path: '/armature.samples.v1.SampleService/MakeSample',
    kind: 'unary',
    permission: 'samples.make',
    owner: { kind: 'field', field: 'owner_id' },
    idempotency: { field: 'request_id' },
    target: null,
    audit: false,
    deadline: { defaultMs: 1000, maxMs: 2000 },
  });
  const request = { requestId: uuid, ownerId: 'ada' };
  const owner = methods.makeSample?.owner;
  t.equal(owner?.kind === 'field' && owner.read(request), 'ada');
  t.equal(methods.makeSample?.idempotency?.read(request), uuid);
  const shouted = { ...request, requestId: uuid.toUpperCase() };
  methods.makeSample?.idempotency?.normalize?.(shouted);
  t.equal(shouted.requestId, uuid.toLowerCase(), 'a UUID as a key has one form');
  t.match(methods.watchSample, { kind: 'server_stream', owner: { kind: 'loaded' }, idempotency: null });
  t.match(consumes, [
    {
      type: 'armature.samples.v1.SampleMade',
      source: 'samples',
      aggregate: 'sample',
      routingKey: 'samples.sample.SampleMade',
      permission: 'samples.publish',
    },
  ]);
  t.equal(consumes[0]?.aggregateId({ sampleId: 'one' }), 'one');
  t.strictSame(contract.SampleErrorReason, { BROKEN: 'BROKEN' });
});

t.test('grpc-js accepts the service config', async (t) => {
  const { serviceConfig } = contract.SampleServiceContract as ServiceContract;
  // Clients pass it as JSON.
  const config = grpcServiceConfig.validateServiceConfig(JSON.parse(JSON.stringify(serviceConfig)));
  t.strictSame(
    config.methodConfig.map(({ name, retryPolicy }) => [
      name[0]?.method,
      retryPolicy?.retryableStatusCodes,
      retryPolicy?.maxAttempts,
    ]),
    [
      ['MakeSample', ['UNAVAILABLE'], 4],
      ['WatchSample', ['UNAVAILABLE'], 4],
    ],
  );
  t.strictSame(config.retryThrottling, { maxTokens: 100, tokenRatio: 0.1 });
  await import('@grpc/grpc-js'); // Registers the load balancers.
  const chosen = loadBalancer.selectLbConfigFromList(config.loadBalancingConfig);
  t.equal(chosen?.getLoadBalancerName(), 'outlier_detection');
  t.match(chosen?.toJsonObject(), {
    outlier_detection: {
      interval: { seconds: 10, nanos: 0 },
      max_ejection_percent: 50,
      failure_percentage_ejection: { threshold: 99 },
      child_policy: [{ round_robin: {} }],
    },
  });
});

t.test('generated code compiles with the strict options', async (t) => {
  writeFileSync(join(folder, 'types.ts'), typesOfSamples);
  const options = { extends: join(root, 'tsconfig.json'), include: ['gen/**/*.ts', '*.ts'] };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(options));
  // tap loads its hooks into every Node process of a test by NODE_OPTIONS; the compiler does not start with them.
  const compile = ['-u', 'NODE_OPTIONS', join(root, 'node_modules', '.bin', 'tsc'), '-p', folder];
  const { status, stdout, stderr } = spawnSync('env', compile, { encoding: 'utf8' });
  t.equal(status, 0, `${stdout}${stderr}` || 'no complaints');
});
