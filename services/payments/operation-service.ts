import { PaymentOperationServiceContract } from '@armature/proto/payments/v1/contract.ts';
import {
  type PaymentOperation,
  PaymentOperationKind,
  PaymentOperationState,
  PaymentResolution,
  type ResolvedOperation,
} from '@armature/proto/payments/v1/operations.ts';
import { closePage, implement, openPage, utcDate } from '@armature/runtime';
import { operationNotFound } from './errors.ts';
import type { OperationDependencies } from './operation-dependencies.ts';
import {
  type Listing,
  listOperations,
  type RecordedResolution,
  resolutionsOf,
  type ShownOperation,
  shownOperation,
} from './operation-store.ts';
import type { OperationState } from './payment.ts';
import { recordAcquirerOperation } from './recording.ts';
import { resolutions } from './resolution.ts';
import { resolveOperation } from './resolving.ts';

const pageSizeDefault = 50;

/** The RPCs by which operators list, resolve and record operations. */
export const paymentOperationService = (dependencies: OperationDependencies) =>
  implement(PaymentOperationServiceContract, {
    async listPaymentOperations(request, call) {
      const { paymentId, pending } = request;
      const listing: Listing =
        paymentId !== '' || pending ? { by: 'created_at', paymentId } : { by: 'needs_operator_at' };
      const page = openPage<[string, string]>(request, pageSizeDefault, ['operations', paymentId, pending]);
      const rows = await dependencies.db.read(call, (sql) => listOperations(sql, listing, page.after, page.size + 1));
      const cursorOf = (row: ShownOperation): [string, string] => [
        listing.by === 'created_at' ? row.createdAt : (row.needsOperatorAt ?? ''),
        row.operationId,
      ];
      const { items, nextPageToken } = closePage(rows, page, cursorOf);
      return { operations: items.map(toMessage), nextPageToken };
    },

    async getPaymentOperation({ operationId }, call) {
      return dependencies.db.read(call, async (sql) => {
        const operation = await shownOperation(sql, operationId);
        if (!operation) throw operationNotFound(operationId);
        const resolved = await resolutionsOf(sql, operationId);
        return { operation: toMessage(operation), resolutions: resolved.map(toResolved) };
      });
    },

    async resolvePaymentOperation({ operationId, resolution, reason, externalId }, call) {
      const named = resolutions.find((name) => PaymentResolution[`PAYMENT_RESOLUTION_${name}`] === resolution);
      // The contract's rules let only defined values through.
      if (!named) throw new Error(`resolution ${resolution} has no meaning here`);
      return resolveOperation(dependencies, call, { operationId, resolution: named, reason, externalId }, toMessage);
    },

    async recordAcquirerOperation({ externalId, reason }, call) {
      return recordAcquirerOperation(dependencies, call, { externalId, reason }, toMessage);
    },
  });

const kinds = {
  authorize: PaymentOperationKind.PAYMENT_OPERATION_KIND_AUTHORIZE,
  capture: PaymentOperationKind.PAYMENT_OPERATION_KIND_CAPTURE,
  void: PaymentOperationKind.PAYMENT_OPERATION_KIND_VOID,
  refund: PaymentOperationKind.PAYMENT_OPERATION_KIND_REFUND,
} as const;

const stateOf = (state: OperationState) => PaymentOperationState[`PAYMENT_OPERATION_STATE_${state}`];

function toMessage(operation: ShownOperation): PaymentOperation {
  const { currencyCode, amountMinor, needsOperatorAt } = operation;
  return {
    operationId: operation.operationId,
    paymentId: operation.paymentId,
    orderId: operation.orderId,
    kind: kinds[operation.kind],
    state: stateOf(operation.state),
    amount: currencyCode ? { currencyCode, amountMinor } : undefined,
    externalId: operation.externalId,
    failureCode: operation.failureCode,
    createTime: utcDate(operation.createdAt),
    attemptTime: utcDate(operation.attemptedAt),
    needsOperatorTime: needsOperatorAt === null ? undefined : utcDate(needsOperatorAt),
    acquirerChargeId: operation.chargeId,
  };
}

const toResolved = (one: RecordedResolution): ResolvedOperation => ({
  resolutionId: one.resolutionId,
  resolution: PaymentResolution[`PAYMENT_RESOLUTION_${one.resolution}`],
  reason: one.reason,
  resolvedBy: one.resolvedBy,
  stateBefore: stateOf(one.stateBefore),
  stateAfter: stateOf(one.stateAfter),
  externalId: one.externalId,
  createTime: utcDate(one.createdAt),
});
