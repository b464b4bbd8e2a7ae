import { randomUUID as uuid } from 'node:crypto';
import { Scope } from '@armature/proto/access/v1/access.ts';
import { AccessServiceContract } from '@armature/proto/access/v1/contract.ts';
import { CatalogServiceContract } from '@armature/proto/catalog/v1/contract.ts';
import type { MethodContract } from '@armature/proto/contract.ts';
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
import type { Init } from '@armature/runtime/client';
import type { Code } from '@armature/runtime/errors';
import { wish } from '../../e2e/shop.ts';
import { people } from './principals.ts';
import { type AccessScene, type IdentityScene, password, type Scene } from './scene.ts';

/** A valid request of a method: only the caller may be wrong. All resources that it names exist. */
export interface Asking {
  method: MethodContract;
  /** Builds a new request for each call, for the caller of the column. */
  build(scene: Scene, column: string): Uint8Array;
  /** The same for a resource that does not exist. */
  buildAbsent(scene: Scene, column: string): Uint8Array;
  /** The caller, for methods where the caller is the resource. */
  subject(scene: Scene, column: string): string | undefined;
  /** A code that may come instead of OK for an allowed call, if the scene lacks what OK would need. */
  instead: Code | undefined;
}

interface More {
  /** The field that names the resource, for methods that must not tell other callers whether it exists. */
  thing?: string;
  subject?: (scene: Scene, column: string) => string | undefined;
  instead?: Code;
}

function asking<Req>(
  method: MethodContract<Req>,
  build: (scene: Scene, column: string) => NoInfer<Init<Req>>,
  { thing, subject = () => undefined, instead }: More = {},
): Asking {
  const bytes = (message: object) => method.request.encode(method.request.fromPartial(message)).finish();
  const built = (scene: Scene, column: string): object => ({
    ...(method.idempotency ? { requestId: uuid() } : {}),
    ...(build(scene, column) as object),
  });
  return {
    method,
    build: (scene, column) => bytes(built(scene, column)),
    buildAbsent: (scene, column) => bytes({ ...built(scene, column), ...(thing ? { [thing]: uuid() } : {}) }),
    subject,
    instead,
  };
}

const nothing = () => ({});
const price = { currencyCode: 'EUR', amountMinor: 1n };

const catalog = CatalogServiceContract.methods;
const inventory = InventoryServiceContract.methods;
const orders = OrderServiceContract.methods;
const payments = PaymentServiceContract.methods;
const ledger = LedgerServiceContract.methods;
const paymentOperations = PaymentOperationServiceContract.methods;
const notifications = NotificationServiceContract.methods;
const identity = IdentityServiceContract.methods;
const sessions = SessionServiceContract.methods;
const signingKeys = SigningKeyServiceContract.methods;
const access = AccessServiceContract.methods;
const ops = OpsServiceContract.methods;

/** The scene has no dead letter and no stuck saga in most services, so an allowed call gets NOT_FOUND. */
const absent = { instead: 'NOT_FOUND' } as const;
const why = 'access test';

const ofCatalog = [
  asking(catalog.createCategory, () => ({ slug: uuid(), title: 'More things' })),
  asking(catalog.listCategories, nothing),
  asking(catalog.createProduct, ({ categoryId }) => {
    const sku = `M-${uuid().toUpperCase()}`;
    return { categoryId, title: 'Made', variants: [{ sku, title: 'One size', prices: [price] }] };
  }),
  asking(catalog.updateProduct, ({ productId }) => ({ productId, updateMask: ['title'], title: 'Renamed' })),
  asking(catalog.getProduct, ({ productId }) => ({ productId })),
  asking(catalog.batchGetVariants, ({ sku }) => ({ skus: [sku] })),
  asking(catalog.listProducts, nothing),
  asking(catalog.archiveProduct, ({ spareProductId }) => ({ productId: spareProductId })),
];

const ofInventory = [
  asking(inventory.receiveStock, ({ sku }) => ({ locationId: 'main', lines: [{ sku, quantity: 1n }] })),
  asking(inventory.adjustStock, ({ sku }) => ({ sku, locationId: 'main', delta: 1n, note: 'counted' })),
  asking(inventory.batchGetStock, ({ sku }) => ({ skus: [sku] })),
  asking(inventory.reserveStock, ({ sku }) => ({
    reservationId: uuid(),
    orderId: uuid(),
    lines: [{ sku, quantity: 1n }],
  })),
  asking(inventory.getReservation, ({ reservations }) => ({ reservationId: reservations.reserved })),
  asking(inventory.commitReservation, ({ reservations }) => ({ reservationId: reservations.toCommit })),
  asking(inventory.releaseReservation, ({ reservations }) => ({
    reservationId: reservations.toRelease,
    orderId: uuid(),
  })),
  asking(inventory.watchStock, ({ sku }) => ({ skus: [sku] })),
];

const ofOrders = [
  asking(orders.placeOrder, ({ sku }) => wish(sku, { customerId: people.own })),
  asking(orders.getOrder, ({ orderId }) => ({ orderId }), { thing: 'orderId' }),
  asking(orders.getOrderContact, ({ orderId }) => ({ orderId })),
  asking(orders.listOrders, () => ({ customerId: people.own })),
  asking(orders.cancelOrder, ({ secondOrderId }) => ({ orderId: secondOrderId }), { thing: 'orderId' }),
  asking(orders.watchOrder, ({ orderId }) => ({ orderId }), { thing: 'orderId' }),
  asking(orders.listOrderEvents, ({ orderId }) => ({ orderId }), { thing: 'orderId' }),
];

const ofPayments = [
  asking(payments.authorizePayment, () => ({
    paymentId: uuid(),
    orderId: uuid(),
    customerId: people.own,
    amount: price,
    paymentMethod: 'card_ok',
  })),
  asking(payments.capturePayment, (scene) => ({ paymentId: scene.payments.toCapture })),
  asking(payments.voidPayment, (scene) => ({ paymentId: scene.payments.toVoid, orderId: uuid() })),
  asking(payments.refundPayment, (scene) => ({ paymentId: scene.payments.captured, amount: price })),
  asking(payments.getPayment, ({ paymentId }) => ({ paymentId }), { thing: 'paymentId' }),
  asking(payments.listPayments, () => ({ customerId: people.own })),
  asking(ledger.getAccount, () => ({ account: 'acquirer_receivable', currencyCode: 'EUR' })),
  asking(ledger.listEntries, nothing),
  asking(ledger.getTrialBalance, nothing),
  asking(ledger.reconcileLedger, nothing),
  asking(ledger.listDifferences, nothing),
  asking(paymentOperations.listPaymentOperations, nothing),
  asking(paymentOperations.getPaymentOperation, () => ({ operationId: uuid() }), absent),
  asking(
    paymentOperations.resolvePaymentOperation,
    () => ({ operationId: uuid(), resolution: 1, reason: why }),
    absent,
  ),
  asking(paymentOperations.recordAcquirerOperation, () => ({ externalId: `op_${'0'.repeat(32)}`, reason: why }), {
    instead: 'FAILED_PRECONDITION',
  }),
];

const ofNotifications = [
  asking(notifications.listDeliveries, () => ({ customerId: people.own })),
  asking(notifications.getDelivery, ({ deliveryIds }) => ({ deliveryId: deliveryIds.staff }), { thing: 'deliveryId' }),
  asking(notifications.resendDelivery, ({ deliveryIds }, column) => ({
    deliveryId: column === 'admin' ? deliveryIds.admin : deliveryIds.staff,
  })),
];

const accountsOf = ({ identity: found }: Scene): IdentityScene => present(found, 'identity');
const grantsOf = ({ access: found }: Scene): AccessScene => present(found, 'access');

const theirs = (scene: Scene) => accountsOf(scene).userId;
/**
 * An account that is not used afterwards, for callers who may deactivate or erase it. All others try it on another
 * account.
 */
const spare = (what: 'deactivate' | 'erase') => (scene: Scene, column: string) =>
  column === 'own' || column === 'admin' ? accountsOf(scene).spare[`${what} ${column}`] : theirs(scene);
const forPassword = (scene: Scene, column: string) =>
  column === 'own' ? accountsOf(scene).spare.password : theirs(scene);

/** A request about an account. In the column `own` its own user makes it. */
function askingOf<Req>(
  method: MethodContract<Req>,
  userIdOf: (scene: Scene, column: string) => string,
  build: (userId: string) => NoInfer<Init<Req>>,
): Asking {
  const subject = (scene: Scene, column: string) => (column === 'own' ? userIdOf(scene, column) : undefined);
  return asking(method, (scene, column) => build(userIdOf(scene, column)), { subject });
}

const ofIdentity = [
  asking(identity.registerUser, () => ({ email: `${uuid()}@example.org`, password, displayName: 'Test person' })),
  // Only the recipient of an e-mail knows its token.
  asking(identity.verifyEmail, () => ({ token: 'x'.repeat(80), password }), { instead: 'FAILED_PRECONDITION' }),
  asking(identity.requestPasswordReset, () => ({ email: `${uuid()}@example.org` })),
  asking(identity.resetPassword, () => ({ token: 'x'.repeat(80), newPassword: password }), {
    instead: 'FAILED_PRECONDITION',
  }),
  asking(identity.undoEmailChange, () => ({ token: 'x'.repeat(80), newPassword: password }), {
    instead: 'FAILED_PRECONDITION',
  }),
  askingOf(identity.changePassword, forPassword, (userId) => ({
    userId,
    currentPassword: password,
    newPassword: `${password} ${uuid()}`,
  })),
  askingOf(identity.getUser, theirs, (userId) => ({ userId })),
  asking(identity.listUsers, nothing),
  askingOf(identity.updateUser, theirs, (userId) => ({
    userId,
    displayName: 'Another name',
    updateMask: ['display_name'],
  })),
  askingOf(identity.deactivateUser, spare('deactivate'), (userId) => ({ userId })),
  asking(identity.reactivateUser, (scene) => ({ userId: theirs(scene) })),
  askingOf(identity.exportUserData, theirs, (userId) => ({ userId })),
  askingOf(identity.eraseUser, spare('erase'), (userId) => ({ userId })),
  asking(identity.createServiceAccount, (scene) => ({
    accountId: `program-${uuid()}`,
    displayName: 'A program',
    publicJwk: accountsOf(scene).publicJwk,
  })),
  asking(identity.listServiceAccounts, nothing),
  asking(identity.disableServiceAccount, (scene) => ({ accountId: accountsOf(scene).serviceAccountId })),
  askingOf(sessions.listSessions, theirs, (userId) => ({ userId })),
  asking(sessions.revokeSession, (scene) => ({ userId: theirs(scene), sessionId: 'x'.repeat(43) }), {
    subject: (scene, column) => (column === 'own' ? theirs(scene) : undefined),
    instead: 'NOT_FOUND',
  }),
  asking(signingKeys.listSigningKeys, nothing),
  asking(signingKeys.revokeSigningKey, () => ({ kid: 'x'.repeat(43) }), absent),
];

const question = { workload: 'workload:developer', subject: `user:${people.own}`, permission: 'orders.place' };

const ofAccess = [
  asking(access.listPermissions, nothing),
  asking(access.listRoles, nothing),
  asking(access.putRole, () => ({
    name: `role:made-${uuid()}`,
    rules: [{ permission: 'catalog.read', scope: Scope.SCOPE_ANY }],
  })),
  asking(access.deleteRole, (scene) => ({ name: grantsOf(scene).spareRole })),
  asking(access.listGrants, nothing),
  asking(access.grantRole, () => ({ member: `user:${uuid()}`, role: 'role:staff' })),
  asking(access.revokeRole, (scene) => ({ grantId: grantsOf(scene).grantId })),
  asking(access.checkAccess, () => question),
  asking(access.explainAccess, () => question),
  asking(access.listPolicyVersions, nothing),
  asking(access.listDecisions, nothing),
  asking(access.recordDecisions, () => ({
    decisions: [
      {
        decisionId: uuid(),
        workload: 'workload:developer',
        permission: 'orders.place',
        target: orders.placeOrder.path,
        reason: 'workload:developer may orders.place only on behalf of a user',
        policyVersion: '0123456789abcdef',
        callId: uuid(),
        count: 1,
        decideTime: new Date(),
      },
    ],
  })),
  asking(access.watchPolicy, nothing),
];

const ofOps = [
  asking(ops.listDeadLetters, nothing),
  asking(ops.getDeadLetter, () => ({ deadLetterId: uuid() }), absent),
  asking(ops.redriveDeadLetters, () => ({ deadLetterIds: [uuid()] })),
  asking(ops.dropDeadLetter, () => ({ deadLetterId: uuid(), why }), absent),
  asking(ops.publishBaseline, () => ({ aggregate: 'absent', consumer: 'notifications', dryRun: true }), absent),
  asking(ops.listSagas, nothing),
  asking(ops.getSaga, () => ({ sagaId: uuid() }), absent),
  asking(ops.resumeSaga, () => ({ sagaId: uuid() }), absent),
  asking(ops.resumeSagas, () => ({ filter: { reason: uuid() } })),
  asking(ops.forceCompensateSaga, () => ({ sagaId: uuid(), why }), absent),
];

const all = [
  ...ofOps,
  ...ofCatalog,
  ...ofInventory,
  ...ofOrders,
  ...ofPayments,
  ...ofNotifications,
  ...ofIdentity,
  ...ofAccess,
];

/** The request builder of each method, by path. */
export const askings: ReadonlyMap<string, Asking> = new Map(all.map((one) => [one.method.path, one]));

function present<T>(found: T | null, service: string): T {
  if (!found) throw new Error(`${service} is not in the mesh, but a request needs it`);
  return found;
}
