/**
 * Shared by the tests that call the service over gRPC: clients of the running service, and the check of the books that
 * runs after every test. The tests start the servers.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { type ConnectOptions, ledgerClient, paymentsClient } from '@armature/clients';
import type { TrialBalance } from '@armature/proto/payments/v1/ledger.ts';
import type { Connection } from 'mysql2/promise';
import type { Teardown } from '../../test/support/infra.ts';
import { ledgerViolations, type Query } from '../../test/verification/invariants/ledger-checks.ts';

export interface BedOptions {
  grpc: string;
  acquirer: string;
  ordersTls: ConnectOptions['tls'];
  developerTls: ConnectOptions['tls'];
  /** Access tokens of bo, who is staff, and ada, a customer. */
  tokens: { bo: string; ada: string; admin: string };
}

export type Bed = ReturnType<typeof openBed>;

/** Clients of one running service. */
export function openBed({ grpc, acquirer, ordersTls, developerTls, tokens }: BedOptions) {
  const addresses = [grpc];
  const as = (token: string) => ({ addresses, tls: developerTls, token: () => token });
  const orders = paymentsClient({ addresses, tls: ordersTls });
  const ledger = ledgerClient(as(tokens.bo));
  const people = {
    bo: paymentsClient(as(tokens.bo)),
    ada: paymentsClient(as(tokens.ada)),
    admin: paymentsClient(as(tokens.admin)),
  };
  return {
    orders,
    ledger,
    people,
    acquirer,
    /** A new authorization request. `over` replaces defaults. */
    newAuthorization: (
      over: {
        card?: string;
        amountMinor?: bigint;
        currencyCode?: string;
        paymentId?: string;
        requestId?: string;
        customerId?: string;
      } = {},
    ) => ({
      requestId: over.requestId ?? randomUUID(),
      paymentId: over.paymentId ?? randomUUID(),
      orderId: randomUUID(),
      customerId: over.customerId ?? 'ada',
      amount: { currencyCode: over.currencyCode ?? 'EUR', amountMinor: over.amountMinor ?? 1_000n },
      paymentMethod: over.card ?? 'card_ok',
    }),
    close() {
      for (const client of [orders, ledger, ...Object.values(people)]) client.close();
    },
  };
}

/** Queries over the test's own connection. Times are text, as in services. */
export const queryOf =
  (connection: Connection): Query =>
  async (sql, params = []) =>
    // Rows of any query: each test knows its columns.
    // biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
    (await connection.query({ sql, values: [...params], dateStrings: true }))[0] as any[];

/** Throws unless the books are in order. The error lists every violation. */
export async function booksInOrder(query: Query, acquirer: string, balance: TrialBalance): Promise<void> {
  const wrong = await ledgerViolations(query, acquirer);
  if (!balance.balanced || balance.totals.some((total) => total.differenceMinor !== 0n))
    wrong.push('the trial balance is not zero');
  if (wrong.length > 0) throw new Error(`the books are not in order:\n${wrong.join('\n')}`);
}

type Part = 'requests' | 'responses';

/**
 * A proxy between payments and the acquirer. It forwards everything until a test selects another mode.
 *
 * - `gather`: POST requests wait until `count` of them have arrived. Either none reaches the acquirer, or their responses
 *   are sent together, after the acquirer has processed all of them.
 * - `lose`: no request reaches the acquirer, or no response reaches payments.
 */
export async function openAcquirerProxy(t: Teardown, acquirer: string) {
  let mode: { does: 'pass' } | { does: 'lose'; part: Part } | { does: 'gather'; part: Part; count: number } = {
    does: 'pass',
  };
  let kept: (() => void)[] = [];
  let withheld = 0;
  const server = createServer(async (request, response) => {
    const { method = 'GET' } = request;
    const now = mode;
    const gathers = now.does === 'gather' && method === 'POST';
    const body = await buffer(request);
    if (gathers && now.part === 'requests') {
      withheld += 1;
      return;
    }
    try {
      if (now.does === 'lose' && now.part === 'requests') throw new Error('lost');
      const headers = { 'idempotency-key': String(request.headers['idempotency-key'] ?? '-') };
      const upstream = await fetch(`${acquirer}${request.url}`, {
        method,
        headers,
        ...(method === 'POST' && { body }),
      });
      const text = await upstream.text();
      if (now.does === 'lose') throw new Error('lost');
      const send = () => response.writeHead(upstream.status, { 'content-type': 'application/json' }).end(text);
      if (!gathers) send();
      else if (kept.push(send) === now.count) for (const one of kept.splice(0)) one();
    } catch {
      // Responds instead of resetting the connection: the client retries at once after a reset of an idle connection.
      response.writeHead(502).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    gather(part: Part, count: number) {
      mode = { does: 'gather', part, count };
      kept = [];
      withheld = 0;
    },
    /** Number of requests without a response since `gather('requests', …)`. */
    withheld: () => withheld,
    lose(part: Part) {
      mode = { does: 'lose', part };
    },
    pass() {
      mode = { does: 'pass' };
    },
  };
}
