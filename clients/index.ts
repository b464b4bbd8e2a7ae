import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { ServiceContract } from '@armature/proto/contract.ts';
import {
  IdentityServiceContract,
  SessionServiceContract,
  SigningKeyServiceContract,
} from '@armature/proto/identity/v1/contract.ts';
import { InventoryServiceContract } from '@armature/proto/inventory/v1/contract.ts';
import { NotificationServiceContract } from '@armature/proto/notifications/v1/contract.ts';
import { OpsServiceContract } from '@armature/proto/ops/v1/contract.ts';
import { OrderServiceContract } from '@armature/proto/orders/v1/contract.ts';
import {
  LedgerServiceContract,
  PaymentOperationServiceContract,
  PaymentServiceContract,
} from '@armature/proto/payments/v1/contract.ts';
import { createClient } from '@armature/runtime/client';
import type { Client, ClientOptions } from '@armature/runtime/client-types';
import type { ServiceName } from './config.ts';

export type { FieldViolation } from '@armature/proto/contract.ts';
/** Reasons that every service may return, such as FIELDS_INVALID; each service's own are in its namespace. */
export { RuntimeErrorReason } from '@armature/proto/runtime/v1/contract.ts';
export { Address } from '@armature/proto/type/v1/address.ts';
export { Money } from '@armature/proto/type/v1/money.ts';
export type {
  CallOptions,
  Client,
  Init,
  TokenFunction,
  TokenOptions,
  TokenSource,
} from '@armature/runtime/client-types';
export { ConfigError } from '@armature/runtime/config';
export type { CallContext, Handler, Interceptor, Reply } from '@armature/runtime/context';
export { type Code, RpcError, type RpcErrorDetails } from '@armature/runtime/errors';
export * as access from './access.ts';
export * as catalog from './catalog.ts';
export {
  type ClientCredentials,
  type ClientCredentialsOptions,
  clientCredentials,
} from './client-credentials.ts';
export { clientConfig, clientCredentialsConfig, type ServiceName } from './config.ts';
export * as identity from './identity.ts';
export * as inventory from './inventory.ts';
export * as ledger from './ledger.ts';
export * as notifications from './notifications.ts';
export * as ops from './ops.ts';
export * as orders from './orders.ts';
export * as paymentOperations from './payment-operations.ts';
export * as payments from './payments.ts';
export * as sessions from './sessions.ts';
export * as signingKeys from './signing-keys.ts';

/** Connect options of a service: addresses of its instances, the client's certificate, optionally a user's token. */
export type ConnectOptions = Omit<ClientOptions, 'expectWorkload'>;

/** A factory for clients that accept only a server with the certificate of `service`. */
const factory =
  <C extends ServiceContract>(contract: C, service: string) =>
  (options: ConnectOptions): Client<C> =>
    createClient(contract, { ...options, expectWorkload: `service:${service}` });

/** Roles, grants and the authorization policy. */
export const accessClient = factory(AccessServiceContract, 'access');

/** Products, their variants (SKUs) and prices, categories. */
export const catalogClient = factory(CatalogServiceContract, 'catalog');

/** Accounts of people and programs. */
export const identityClient = factory(IdentityServiceContract, 'identity');

/** Stock by SKU and location, and its reservations for orders. */
export const inventoryClient = factory(InventoryServiceContract, 'inventory');

/** The double-entry ledger. The payments service serves it: connect with `clientConfig('payments')`. */
export const ledgerClient = factory(LedgerServiceContract, 'payments');

/** E-mails: recipients, attempts and outcomes. */
export const notificationsClient = factory(NotificationServiceContract, 'notifications');

/** Dead letters and sagas of any one service: `opsClient('orders', clientConfig('orders'))`. */
export const opsClient = (service: ServiceName, options: ConnectOptions): Client<typeof OpsServiceContract> =>
  factory(OpsServiceContract, service)(options);

/** Orders: placing, following and cancelling them. */
export const ordersClient = factory(OrderServiceContract, 'orders');

/** Payment operations that need an operator. The payments service serves them: connect with `clientConfig('payments')`. */
export const paymentOperationsClient = factory(PaymentOperationServiceContract, 'payments');

/** Payments: authorizing, capturing, voiding and refunding them. */
export const paymentsClient = factory(PaymentServiceContract, 'payments');

/** The sessions of people. Identity serves them: connect with `clientConfig('identity')`. */
export const sessionsClient = factory(SessionServiceContract, 'identity');

/** The keys that sign tokens, for operators. Identity serves them: connect with `clientConfig('identity')`. */
export const signingKeysClient = factory(SigningKeyServiceContract, 'identity');
