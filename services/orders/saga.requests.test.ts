// Compares the requests of every saga version with recorded ones. A running saga may repeat a request under the same
// idempotency key, so the requests of a version never change: a changed request needs a new version.
import { readFileSync, writeFileSync } from 'node:fs';
import type { RemoteStep, SagaDefinition, StepContext } from '@armature/runtime';
import { stepKey } from '@armature/runtime/saga';
import t from 'tap';
import type { CancellationData } from './cancellation.ts';
import type { CheckoutData } from './checkout.ts';
import { orderSagas } from './saga.ts';
import { orderStore } from './store.ts';

const file = new URL('saga.requests.json', import.meta.url);
const [sagaId, subjectId] = ['00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002'];

const checkout: CheckoutData = {
  customerId: 'ada',
  lines: [
    { sku: 'A-1', quantity: '2' },
    { sku: 'B-2', quantity: '1' },
  ],
  currencyCode: 'EUR',
  totalMinor: '15490',
  paymentMethod: 'card_ok',
  reservationId: '00000000-0000-7000-8000-000000000003',
  paymentId: '00000000-0000-7000-8000-000000000004',
};
const { currencyCode, totalMinor, reservationId, paymentId } = checkout;
const cancellation: CancellationData = { currencyCode, totalMinor, reservationId, paymentId };
const unchargedData = { ...cancellation, uncharged: { reason: 'PAYMENT_DECLINED', detail: 'do_not_honor' } as const };

/** The data that PlaceOrder and CancelOrder create, one entry for each case. */
const variants: Record<string, Record<string, object>> = {
  checkout: { paid: checkout },
  'free-checkout': { free: { ...checkout, totalMinor: '0', paymentId: '' } },
  cancellation: { charged: cancellation, uncharged: unchargedData, free: { ...cancellation, paymentId: '' } },
};

type Sent = Record<string, Record<string, string>>;

/** Runs every action of every step with clients that record the request and throw. */
async function requestsOf(definition: SagaDefinition, sent: string[]): Promise<Sent> {
  const found: Sent = {};
  for (const [variant, data] of Object.entries(variants[definition.name] ?? {})) {
    const requests: Record<string, string> = {};
    for (const step of definition.steps) {
      if (step.local) continue;
      for (const action of ['run', 'query', 'compensate'] as const) {
        sent.length = 0;
        await step[action]?.(context(step, action, data)).catch(() => null);
        if (step[action]) requests[`${action} ${step.name}`] = sent.join(' ') || 'nothing';
      }
    }
    found[variant] = requests;
  }
  return found;
}

function context(step: RemoteStep, action: 'run' | 'query' | 'compensate', data: object): StepContext {
  const key = stepKey(sagaId, step.name, action === 'compensate' ? 'compensate' : 'run', 0);
  const runKey = stepKey(sagaId, step.name, 'run', 0);
  return { sagaId, subjectId, data, results: {}, call: {} as never, key, runKey };
}

t.test('every version of every saga sends what it has always sent', async (t) => {
  const sent: string[] = [];
  const note = (service: string) =>
    new Proxy(
      {},
      {
        get: (_, method) => async (request: object) => {
          const text = JSON.stringify(request, (_key, value) => (typeof value === 'bigint' ? `${value}n` : value));
          sent.push(`${service}.${String(method)} ${text}`);
          throw new Error('no response');
        },
      },
    );
  const config = { inventory: [], payments: [], checkoutLimitMs: 1_000, checkoutVersion: 2, cancellationVersion: 2 };
  const connect = (_: unknown, service: string) => note(service) as never;
  const { definitions } = orderSagas({ config, connect, store: orderStore() });
  const now: Record<string, Sent> = {};
  for (const one of definitions) now[`${one.name} ${one.version}`] = await requestsOf(one, sent);
  if (process.env.RECORD === '1') writeFileSync(file, `${JSON.stringify(now, null, 2)}\n`);
  const then = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Sent>;
  t.strictSame(Object.keys(now), Object.keys(then), 'versions stay until no saga of them is left');
  for (const [version, requests] of Object.entries(then)) t.strictSame(now[version], requests, version);
});
