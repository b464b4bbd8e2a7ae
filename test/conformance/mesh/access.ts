// Compares access.matrix.md, which is written by hand, with the whole mesh over the wire: who may call and publish
// what.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MethodContract } from '@armature/proto/contract.ts';
import t from 'tap';
import { presentServices } from '../../../scripts/devmesh/services.ts';
import { serviceNames } from '../../../services/manifest.ts';
import { type CallCode, claims, outsiders, persons, readMatrix, strangers } from '../access/matrix.ts';
import { openPrincipals, type Principals } from '../access/principals.ts';
import { attempt } from '../access/publishing.ts';
import { type Asking, askings } from '../access/requests.ts';
import { type Scene, setScene } from '../access/scene.ts';
import { contracts } from '../contracts.ts';
import { leaksOf } from '../leaks.ts';
import { snapshots } from '../snapshot.ts';
import { standstill } from '../stage.ts';
import type { RawResponse } from '../wire.ts';
import { shop } from './shop.ts';

const text = readFileSync(join(import.meta.dirname, '..', 'access.matrix.md'), 'utf8');
const scope = { contracts, services: serviceNames };

t.test('the matrix must cover every method and event', async (t) => {
  const read = (changed: string) => () => readMatrix(changed, scope);
  t.doesNotThrow(read(text), 'and does');
  const row = /^\| GetOrder .*$/m.exec(text)?.[0] ?? '';
  for (const { name, changed, says } of [
    {
      name: 'a method without a row',
      changed: text.replace(`${row}\n`, ''),
      says: /add:\n\| GetOrder \| orders\.read \| loaded \| \? \| U \| U \|/,
    },
    { name: 'a row twice', changed: text.replace(row, `${row}\n${row}`), says: /stands twice: .*GetOrder/ },
    {
      name: 'a row of no method',
      changed: text.replace(row, `${row}\n${row.replace('GetOrder', 'GetOrders')}`),
      says: /superfluous.*GetOrders/,
    },
    { name: 'a method of another service', changed: text.replace('## orders: ', '## catalog: '), says: /stands under/ },
    {
      name: 'another permission',
      changed: text.replace(row, row.replace('orders.read', 'orders.list')),
      says: /can only be orders\.read/,
    },
    { name: 'an undecided cell', changed: text.replace(row, row.replace('| N ', '| ? ')), says: /says \? as other/ },
    {
      name: "no cell for another's thing",
      changed: text.replace(row, row.replace('| N ', '| - ')),
      says: /says - as other/,
    },
    {
      name: 'a column of an unknown caller',
      changed: text.replaceAll('| revoked |', '| banned |'),
      says: /has no column revoked(.|\n)*has a column banned/,
    },
    {
      name: 'a service without a column',
      changed: text.replaceAll('| catalog ', '| catalogue '),
      says: /has no column catalog\n/,
    },
    {
      name: 'an event without a row',
      changed: text.replace(/^\| armature\.orders\.v1\.OrderCancelled .*\n/gm, ''),
      says: /add:\n\| armature\.orders\.v1\.OrderCancelled \| itself \|/,
    },
  ]) {
    t.throws(read(changed), { message: says }, name);
  }
});

const matrix = readMatrix(text, scope);
const present = new Set<string>(presentServices());
const methods = scope.contracts.flatMap(({ service, contract }) =>
  present.has(service) ? Object.values(contract.methods).map((method) => ({ service, method })) : [],
);
const columns = [...strangers, ...serviceNames, ...persons];

t.test('every method has a request builder', async (t) => {
  const paths = scope.contracts.flatMap(({ contract }) => Object.values(contract.methods).map(({ path }) => path));
  t.strictSame(
    [...askings.keys()].sort(),
    [...new Set(paths)].sort(),
    'a builder in access/requests.ts for each, and no more',
  );
});

t.test('over the wire', async (t) => {
  const scene = await setScene(t, shop);
  const principals = await openPrincipals(t, scene.shop.service);
  const look = await snapshots(t, Object.values(scene.shop.mesh));
  await standstill(look);
  const before = await look();
  const calls = methods.flatMap(({ service, method }) =>
    columns.map((column) => ({ service, method, column, want: matrix.call(method, column) })),
  );
  const started = performance.now();

  const refused = calls.filter(({ want }) => want !== 'A' && want !== '-');
  t.strictSame(await faultsOf(refused, scene, principals), [], 'every caller without access is refused');
  t.strictSame(await look(), before, 'and what is refused leaves nothing behind');
  const allowed = calls.filter(({ want }) => want === 'A');
  t.strictSame(await faultsOf(allowed, scene, principals), [], 'every caller with access gets a response');
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  t.comment(`${refused.length} refusals and ${allowed.length} responses of ${methods.length} methods in ${seconds} s`);

  const consumed = scope.contracts.flatMap(({ service, contract }) =>
    present.has(service) ? contract.consumes.map((event) => ({ consumer: service, event })) : [],
  );
  const attempts = consumed.flatMap(({ consumer, event }) =>
    claims.flatMap((claim) => [...serviceNames, ...outsiders].map((account) => ({ consumer, event, claim, account }))),
  );
  const wrong: string[] = [];
  await concurrently(8, attempts, async ({ consumer, ...one }) => {
    const want = matrix.event(consumer, one.event.type, one.claim, one.account);
    const got = await attempt(one, scene.shop.service(consumer));
    if (got !== want) wrong.push(`${one.event.type} by ${one.account} as ${one.claim}: ${got} instead of ${want}`);
  });
  t.strictSame(wrong, [], 'every event is accepted from its producer only');
  t.comment(`${attempts.length} attempts to publish ${consumed.length} events`);
  for (const { name, process } of Object.values(scene.shop.mesh)) t.equal(process.exitCode, null, `${name} runs`);
});

interface Call {
  service: string;
  method: MethodContract;
  column: string;
  want: CallCode;
}

/** Makes all of these calls, some concurrently, and returns the results that differ from the matrix. */
async function faultsOf(calls: readonly Call[], scene: Scene, principals: Principals): Promise<string[]> {
  const wrong: string[] = [];
  await concurrently(8, calls, async ({ service, method, column, want }) => {
    const how = askings.get(method.path)!;
    const ask = (message: Uint8Array) =>
      principals.call(column, { service, method, message, subject: how.subject(scene, column) });
    const response = await ask(how.build(scene, column));
    const got = codeOf(response, method, how);
    const context = `${method.path} of ${service} by ${column}: ${got} instead of ${want} (${response.code} ${response.message})`;
    if (got !== want) wrong.push(context);
    wrong.push(...leaksOf({ ...response, replies: [] }).map((leak) => `${context} gives away ${leak}`));
    if (want !== 'N' || got !== 'N') return;
    const absent = await ask(how.buildAbsent(scene, column));
    const [there, notThere] = [anonymized(response), anonymized(absent)];
    if (there !== notThere) wrong.push(`${context} says ${there}, and ${notThere} of what does not exist`);
  });
  return wrong;
}

/** The matrix code of a response. Only the intended outcome counts as allowed; any other error is returned as text. */
function codeOf(
  { code, error, replies, refused }: RawResponse,
  method: MethodContract,
  how: Asking,
): CallCode | string {
  const { reason = '', domain = '' } = error ?? {};
  const ours = domain === 'runtime.armature.local';
  if (refused) return 'U';
  if (code === 'UNAUTHENTICATED' && ours && reason === 'TOKEN_MISSING') return 'T';
  if (code === 'PERMISSION_DENIED' && ours && reason === 'SCOPE_INSUFFICIENT') return 'S';
  if (code === 'PERMISSION_DENIED' && ours && reason === 'PERMISSION_DENIED') return 'D';
  if (code === 'NOT_FOUND' && method.owner?.kind === 'loaded') return 'N';
  // An endless stream is cancelled after its first message, so it has no status.
  if (code === 'OK' || (code === '' && replies.length > 0) || code === how.instead) return 'A';
  return `${code || 'nothing'} ${reason}`;
}

/** All of a response except the requested ids and times. */
function anonymized({ http, code, message, error, replies, headers }: RawResponse): string {
  const { 'grpc-status-details-bin': _details, date: _date, ...others } = headers;
  const said = { http, code, message, replies: replies.length, others, ...rest(error) };
  return JSON.stringify(said).replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<id>');
}

const rest = (error: RawResponse['error']) =>
  error && { reason: error.reason, domain: error.domain, metadata: error.metadata, details: error.details };

/** Runs the work for every item, at most `width` at once. */
async function concurrently<T>(width: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
