// Refusals that the acquirer does not record under the key: final only once nothing is recorded under it.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { childTrace, openCall, silentLog } from '@armature/runtime/context';
import { Registry } from '@armature/runtime/telemetry';
import t from 'tap';
import { acquirer as openAcquirer } from './acquirer.ts';

type Response = readonly [status: number, body: object];
const refused = (status: number, code: string): Response => [status, { error: { code, message: 'no' } }];
const authorized = { operation_id: 'op_1', charge_id: 'ch_1', kind: 'authorization', status: 'authorized' };

/** A fake acquirer: the responses to each mutation and to each status request. */
let responses: { request: Response; status: Response };
const server = createServer((request, response) => {
  request.resume();
  const [status, body] = request.method === 'GET' ? responses.status : responses.request;
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;
const options = { timeoutMs: 2_000, connectionsMax: 2, registry: new Registry() };
const acquirer = openAcquirer({ url: `http://127.0.0.1:${port}`, ...options });
t.teardown(() => {
  acquirer.close();
  server.close();
});

const unknown = refused(404, 'operation_unknown');
for (const { name, request, status, outcome } of [
  {
    name: 'a token that is refused although the key has acted',
    request: refused(422, 'payment_method_unknown'),
    status: [200, authorized] as Response,
    outcome: { kind: 'acted', externalId: 'op_1' },
  },
  {
    name: 'a token that is refused, and a key that was cancelled',
    request: refused(422, 'payment_method_not_owned'),
    status: [200, { kind: 'cancellation', status: 'cancelled' }] as Response,
    outcome: { kind: 'cancelled' },
  },
  {
    name: 'a token that is refused, and nothing is recorded',
    request: refused(422, 'payment_method_unknown'),
    status: unknown,
    outcome: { kind: 'refused', code: 'payment_method_unknown' },
  },
  {
    name: 'a token that is refused, and no certain status',
    request: refused(422, 'field_invalid'),
    status: refused(503, 'log_unavailable'),
    outcome: 'ACQUIRER_UNAVAILABLE',
  },
] as const) {
  t.test(name, async (t) => {
    responses = { request, status };
    const call = openCall<null>({
      ...{ kind: 'background', name: 'a test', message: null, deadline: Date.now() + 5_000, log: silentLog },
      trace: childTrace(undefined),
    });
    const authorization = {
      orderId: 'o',
      customerId: 'ada',
      amountMinor: 1n,
      currencyCode: 'EUR',
      paymentMethod: 'card_ok',
    };
    const result = acquirer.authorize(call, 'key', authorization).catch((error: { reason: string }) => error.reason);
    t.match(await result, outcome);
    call.close();
  });
}
