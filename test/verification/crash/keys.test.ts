// The tools that `make keys` stands on, where they could lie.
import t from 'tap';
import { seeded } from '../../support/random.ts';
import { effectsContradicting, openAnswerBook } from './key-answers.ts';
import type { KeyRequest, Kind, Kinds } from './key-requests.ts';
import { order } from './keys.ts';
import type { CrashMesh } from './mesh.ts';

t.test('keys are sent as often as asked, the first two sends at once, the others all over the run', async (t) => {
  const plan = order(1_000, 5, seeded(1));
  const places = Array.from({ length: 1_000 }, (_, key) => plan.flatMap((one, at) => (one === key ? [at] : [])));
  t.ok(places.every((at) => at.length === 5));
  const distances = places.map(([first, second]) => second! - first!);
  t.ok(Math.max(...distances) < 48, `${Math.max(...distances)} sends between the first two of a key at most`);
  const lengths = places.map((at) => at[4]! - at[0]!).sort((one, other) => one - other);
  t.ok(lengths[500]! > 500, `${lengths[500]} sends between first and last of half of the keys at least`);
});

const request: KeyRequest = { id: 'k', kind: 'adjust stock', message: { requestId: 'k' }, handle: 'h' };
const bytes = Buffer.from('answer');
/** One kind whose answers are given here, one after another. */
const kindsAnswering = (...answers: readonly Buffer[]): Kinds => {
  const left = [...answers];
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

t.test('another answer is found', async (t) => {
  const book = openAnswerBook(mesh, kindsAnswering(bytes, bytes, Buffer.from('another')), seeded(1));
  await book.send(request);
  await book.send(request);
  t.strictSame(book.problems, []);
  await book.send(request);
  t.match(book.problems, [/^adjust stock k was answered OK 616e73776572, then OK 616e6f74686572$/]);
});

t.test('whatever is not one effect is found', async (t) => {
  const once = [{ handle: 'h', n: 1 }];
  const stored = [{ request_key: 'k', code: 0, body: bytes }];
  for (const [name, movements, answers, expected] of [
    ['one effect', once, stored, []],
    ['no effect', [], stored, [/k: 0 times movement, which should be 1/]],
    ['two effects', [{ handle: 'h', n: 2 }], stored, [/k: 2 times movement, which should be 1/]],
    ['an effect of nobody', [...once, { handle: 'x', n: 1 }], stored, [/movement x that no key has asked for/]],
    ['no stored answer', once, [], [/k: 0 stored answers/]],
    ['two stored answers', once, [...stored, ...stored], [/k: 2 stored answers/]],
    ['another stored answer', once, [{ ...stored[0]!, body: Buffer.from('x') }], [/is not what was answered/]],
    ['a stored refusal', once, [{ ...stored[0]!, code: 9 }], [/is not what was answered/]],
  ] as const) {
    const kinds = kindsAnswering(bytes);
    const book = openAnswerBook(mesh, kinds, seeded(1));
    await book.send(request);
    const query = async <Row>(sql: string) =>
      (sql === 'movements' ? movements : answers) as readonly unknown[] as Row[];
    const found = await effectsContradicting({ query }, kinds, [request], book);
    t.equal(found.length, expected.length, `${name}: ${found}`);
    t.match(found, [...expected], name);
  }
});
