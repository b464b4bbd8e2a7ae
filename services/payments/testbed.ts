/**
 * What the tests over the wire share: callers of the running service, and the books that every test must
 * leave in order. Servers are started by the tests themselves.
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
import { type Query, wrongInBooks } from './books.ts';

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
    /** A fresh authorization request; what is given replaces what is made up. */
    wish: (
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

/** Queries over a connection of the test's own; times come as text, as services read them. */
export const queryOf =
  (connection: Connection): Query =>
  async (sql, params = []) =>
    // Rows of any query: each test knows its columns.
    // biome-ignore lint/suspicious/noExplicitAny: rows of any shape, as the driver returns them
    (await connection.query({ sql, values: [...params], dateStrings: true }))[0] as any[];

/** Throws unless the books are in order, saying everything that is wrong. */
export async function booksInOrder(query: Query, acquirer: string, balance: TrialBalance): Promise<void> {
  const wrong = await wrongInBooks(query, acquirer);
  if (!balance.balanced || balance.totals.some((total) => total.differenceMinor !== 0n))
    wrong.push('the trial balance is not zero');
  if (wrong.length > 0) throw new Error(`the books are not in order:\n${wrong.join('\n')}`);
}

type Part = 'requests' | 'responses';

/**
 * Stands between payments and the acquirer. It passes everything on until it is told otherwise.
 *
 * - `gather`: requests that move money wait for so many of them. Their requests never reach the acquirer, or their
 *   responses are sent together, once the acquirer has done them all.
 * - `lose`: no request reaches the acquirer, or no response comes back.
 */
export async function openAcquirerProxy(t: Teardown, acquirer: string) {
  let mode: { does: 'pass' } | { does: 'lose'; part: Part } | { does: 'gather'; part: Part; count: number } = {
    does: 'pass',
  };
  let kept: (() => void)[] = [];
  const server = createServer(async (request, response) => {
    const { method = 'GET' } = request;
    const now = mode;
    const gathers = now.does === 'gather' && method === 'POST';
    const body = await buffer(request);
    if (gathers && now.part === 'requests') return;
    try {
      if (now.does === 'lose' && now.part === 'requests') throw new Error('lost');
      const headers = { 'idempotency-key': String(request.headers['idempotency-key'] ?? '-') };
      const answer = await fetch(`${acquirer}${request.url}`, { method, headers, ...(method === 'POST' && { body }) });
      const text = await answer.text();
      if (now.does === 'lose') throw new Error('lost');
      const send = () => response.writeHead(answer.status, { 'content-type': 'application/json' }).end(text);
      if (!gathers) send();
      else if (kept.push(send) === now.count) for (const one of kept.splice(0)) one();
    } catch {
      // No connection is reset: a client would take that for one that was idle for too long, and send again at once.
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
    },
    lose(part: Part) {
      mode = { does: 'lose', part };
    },
    pass() {
      mode = { does: 'pass' };
    },
  };
}
