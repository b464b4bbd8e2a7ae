// Tests the tools of `make keys` for false results.
import t from 'tap';
import { seeded } from '../../support/random.ts';
import type { KeyRequest, Kind, Kinds } from './key-requests.ts';
import { effectsContradicting, openKeyResponses } from './key-responses.ts';
import { order } from './keys.ts';
import type { CrashMesh } from './mesh.ts';

t.test('sends each key `sends` times: the first two together, the others spread over the run', async (t) => {
  const plan = order(1_000, 5, seeded(1));
  const places = Array.from({ length: 1_000 }, (_, key) => plan.flatMap((one, at) => (one === key ? [at] : [])));
  t.ok(places.every((at) => at.length === 5));
  const distances = places.map(([first, second]) => second! - first!);
  t.ok(Math.max(...distances) < 48, `${Math.max(...distances)} sends at most between the first two of a key`);
  const lengths = places.map((at) => at[4]! - at[0]!).sort((one, other) => one - other);
  t.ok(lengths[500]! > 500, `${lengths[500]} sends at least between first and last of half of the keys`);
});

const request: KeyRequest = { id: 'k', kind: 'adjust stock', message: { requestId: 'k' }, handle: 'h' };
const bytes = Buffer.from('response');
/** One kind that returns the given responses, one after another. */
const kindsWithResponses = (...responses: readonly Buffer[]): Kinds => {
  const left = [...responses];
  const kind: Kind = {
    service: 'inventory',
    method: '/inventory/AdjustStock',
    make: () => request,
    send: async () => left.shift()!,
    effects: [{ what: 'movement', sql: 'movements' }],
  };
  return { 'adjust stock': kind } as Kinds;
};
const mesh = { victim: () => ({ pid: 1 }) } as unknown as CrashMesh;

t.test('reports a response that differs from the first', async (t) => {
  const book = openKeyResponses(mesh, kindsWithResponses(bytes, bytes, Buffer.from('another')), seeded(1));
  await book.send(request);
  await book.send(request);
  t.strictSame(book.problems, []);
  await book.send(request);
  t.match(book.problems, [/^adjust stock k returned OK 726573706f6e7365, then OK 616e6f74686572$/]);
});

t.test('reports everything but one effect', async (t) => {
  const once = [{ handle: 'h', n: 1 }];
  const stored = [{ request_key: 'k', code: 0, body: bytes }];
  for (const [name, movements, responses, expected] of [
    ['one effect', once, stored, []],
    ['no effect', [], stored, [/k: 0 times movement, expected 1/]],
    ['two effects', [{ handle: 'h', n: 2 }], stored, [/k: 2 times movement, expected 1/]],
    ['an effect without a key', [...once, { handle: 'x', n: 1 }], stored, [/movement x that no key has asked for/]],
    ['no stored response', once, [], [/k: 0 stored responses/]],
    ['two stored responses', once, [...stored, ...stored], [/k: 2 stored responses/]],
    ['another stored response', once, [{ ...stored[0]!, body: Buffer.from('x') }], [/the stored response differs/]],
    ['a stored refusal', once, [{ ...stored[0]!, code: 9 }], [/the stored response differs/]],
  ] as const) {
    const kinds = kindsWithResponses(bytes);
    const book = openKeyResponses(mesh, kinds, seeded(1));
    await book.send(request);
    const query = async <Row>(sql: string) =>
      (sql === 'movements' ? movements : responses) as readonly unknown[] as Row[];
    const found = await effectsContradicting({ query }, kinds, [request], book);
    t.equal(found.length, expected.length, `${name}: ${found}`);
    t.match(found, [...expected], name);
  }
});
