import type { IncomingHttpHeaders } from 'node:http';
import type { Acquirer, AuthorizationRequest, ChargeRequest, Reply } from './acquirer.ts';
import * as acquirers from './acquirer.ts';
import { logUnavailable, methodNotAllowed, routeUnknown } from './errors.ts';
import { PAGE_LIMIT } from './log.ts';
import { checkFields, readKey, readNumber, readOperationIds } from './request.ts';

/** A request whose body has been read. */
export type Incoming = {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingHttpHeaders;
  body: Record<string, unknown>;
};

type Route = {
  method: 'GET' | 'POST';
  path: RegExp;
  handle: (acquirer: Acquirer, incoming: Incoming, id: string) => Reply | Promise<Reply>;
};

const DEFAULT_PAGE = 100;
const ok = (body: object): Reply => ({ kind: 'response', http_status: 200, body, replayed: false });

const routes: readonly Route[] = [
  {
    method: 'POST',
    path: /^\/v1\/charges$/,
    handle(acquirer, { headers, body }) {
      const key = readKey(headers['idempotency-key']);
      const required = ['order_reference', 'amount_minor', 'currency_code', 'payment_method'] as const;
      checkFields(body, [...required], ['customer_reference']);
      return acquirers.authorize(acquirer, key, body as AuthorizationRequest);
    },
  },
  operationRoute('capture', /^\/v1\/charges\/([a-z0-9_]{1,64})\/capture$/),
  operationRoute('void', /^\/v1\/charges\/([a-z0-9_]{1,64})\/void$/),
  operationRoute('refund', /^\/v1\/charges\/([a-z0-9_]{1,64})\/refund$/),
  {
    method: 'POST',
    path: /^\/v1\/cancellations$/,
    handle(acquirer, { body }) {
      checkFields(body, ['idempotency_key']);
      return acquirers.cancel(acquirer, String(body.idempotency_key));
    },
  },
  {
    method: 'POST',
    path: /^\/v1\/charges\/([a-z0-9_]{1,64})\/expire$/,
    handle(acquirer, { body }, charge_id) {
      checkFields(body, []);
      return acquirers.expireNow(acquirer, charge_id);
    },
  },
  {
    method: 'POST',
    path: /^\/v1\/payment_methods$/,
    handle(acquirer, { body }) {
      checkFields(body, ['customer_reference', 'card']);
      return acquirers.issueMethod(acquirer, String(body.customer_reference), String(body.card));
    },
  },
  {
    method: 'GET',
    path: /^\/v1\/charges\/([a-z0-9_]{1,64})\/operations$/,
    async handle(acquirer, { query }, charge_id) {
      return ok(await acquirers.listOfCharge(acquirer, charge_id, readPage(query)));
    },
  },
  {
    method: 'GET',
    path: /^\/v1\/charges\/([a-z0-9_]{1,64})$/,
    handle: (acquirer, _incoming, charge_id) => ok(acquirers.findCharge(acquirer, charge_id)),
  },
  {
    method: 'GET',
    path: /^\/v1\/operations$/,
    async handle(acquirer, { query }) {
      const key = query.get('idempotency_key');
      if (key !== null) {
        checkFields({ idempotency_key: key }, ['idempotency_key']);
        return ok(await acquirers.findOperation(acquirer, key));
      }
      const ids = query.get('operation_ids');
      if (ids !== null) return ok(await acquirers.listByIds(acquirer, readOperationIds(ids)));
      const { after, limit } = readPage(query);
      return ok(await acquirers.listOperations(acquirer, after, limit));
    },
  },
  { method: 'GET', path: /^\/healthz$/, handle: () => ok({ status: 'ok' }) },
  {
    method: 'GET',
    path: /^\/readyz$/,
    handle({ book }) {
      if (book.failure()) throw logUnavailable();
      return ok({ status: 'ready' });
    },
  },
];

function readPage(query: URLSearchParams): { after: number; limit: number } {
  return {
    after: readNumber(query, 'after', { least: 0, most: Number.MAX_SAFE_INTEGER, or: 0 }),
    limit: readNumber(query, 'limit', { least: 1, most: PAGE_LIMIT, or: DEFAULT_PAGE }),
  };
}

function operationRoute(kind: acquirers.ChargeOperationKind, path: RegExp): Route {
  return {
    method: 'POST',
    path,
    handle(acquirer, { headers, body }, charge_id) {
      const key = readKey(headers['idempotency-key']);
      if (kind === 'void') checkFields(body, []);
      else checkFields(body, ['amount_minor'], ['currency_code']);
      return acquirers.operate(acquirer, kind, charge_id, key, body as ChargeRequest);
    },
  };
}

/** Runs the route of a request. Throws a Problem for every request that it rejects. */
export async function dispatch(acquirer: Acquirer, incoming: Incoming): Promise<Reply> {
  const here = routes.filter(({ path }) => path.test(incoming.path));
  const route = here.find(({ method }) => method === incoming.method);
  if (route === undefined) {
    throw here.length === 0 ? routeUnknown() : methodNotAllowed(here.map(({ method }) => method).join(', '));
  }
  const id = route.path.exec(incoming.path)?.[1] ?? '';
  return route.handle(acquirer, incoming, id);
}
