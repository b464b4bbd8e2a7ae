import type { CallContext } from '@armature/runtime';
import { type LoggedOperation, type LoggedPage, readOperations, readPage } from './acquirer-page.ts';
import type { AcquirerTransport } from './acquirer-transport.ts';
import { acquirerUnavailable } from './errors.ts';
import { certainOutcome, readCharge, readOperationStatus } from './operation-status.ts';
import type { HoldEnd, OperationKind, Outcome } from './payment.ts';

/** What is done to a charge. */
export type ChargeOperation = Exclude<OperationKind, 'authorize'>;

/** Reads of the acquirer's log and charges. Each throws ACQUIRER_UNAVAILABLE without a complete response. */
export interface AcquirerLogReader {
  /**
   * The outcome of a key, from the operations of its charge, which the acquirer keeps longer than keys. Null where none
   * of them has the key.
   */
  findOnCharge(call: CallContext, kind: ChargeOperation, key: string, chargeId: string): Promise<Outcome | null>;
  /**
   * How the hold of a charge ended without a capture; null where it did not. The key is that of the void; empty where
   * the hold expired.
   */
  holdEnd(call: CallContext, chargeId: string): Promise<{ end: HoldEnd; key: string } | null>;
  /** The capture of a charge, under any key. Null where the charge was not captured, or was refunded since. */
  captureOf(call: CallContext, chargeId: string): Promise<{ externalId: string; amountMinor: bigint } | null>;
  /** The status of a charge, such as "captured"; null where the acquirer has no such charge. */
  chargeStatus(call: CallContext, chargeId: string): Promise<string | null>;
  /** Those of up to 100 operations that are in the acquirer's log. */
  lookUp(call: CallContext, externalIds: readonly string[]): Promise<LoggedOperation[]>;
  /** The operations of the acquirer's log after a position, in the order of the log. */
  page(call: CallContext, after: number, limit: number): Promise<LoggedPage>;
}

const pageLimit = 500;

/** The records that end a hold without a capture. */
const holdEnds: Readonly<Record<string, 'expired' | 'voided_externally'>> = {
  'expiration expired': 'expired',
  'void voided': 'voided_externally',
};

export function acquirerLogReader({ get, read }: AcquirerTransport): AcquirerLogReader {
  async function* operationsOf(call: CallContext, chargeId: string): AsyncGenerator<LoggedOperation> {
    for (let after = 0; ; ) {
      const path = `/v1/charges/${encodeURIComponent(chargeId)}/operations?after=${after}&limit=${pageLimit}`;
      const page = await read(call, path, readPage);
      yield* page.operations;
      if (!page.hasMore) return;
      after = page.nextAfter;
    }
  }

  return {
    async findOnCharge(call, kind, key, chargeId) {
      for await (const operation of operationsOf(call, chargeId)) {
        if (operation.key !== key) continue;
        return certainOutcome(readOperationStatus(kind, { status: 200, body: operation.body }));
      }
      return null;
    },

    async holdEnd(call, chargeId) {
      for await (const { kind, status, key, externalId } of operationsOf(call, chargeId)) {
        const how = holdEnds[`${kind} ${status}`];
        if (how) return { end: { how, externalId }, key: kind === 'void' ? key : '' };
      }
      return null;
    },

    async captureOf(call, chargeId) {
      let capture: { externalId: string; amountMinor: bigint } | null = null;
      for await (const { kind, status, externalId, amountMinor } of operationsOf(call, chargeId)) {
        if (kind === 'refund' && status === 'refunded') return null;
        if (kind === 'capture' && status === 'captured')
          capture = { externalId, amountMinor: BigInt(amountMinor ?? 0) };
      }
      return capture;
    },

    async chargeStatus(call, chargeId) {
      const path = `/v1/charges/${encodeURIComponent(chargeId)}`;
      const response = await get(call, path);
      const { status, unknown } = readCharge(response);
      if (status === '' && !unknown) {
        throw acquirerUnavailable(new Error(`GET ${path} returned status ${response.status} without a charge`));
      }
      return unknown ? null : status;
    },

    lookUp: (call, externalIds) =>
      read(call, `/v1/operations?operation_ids=${externalIds.map(encodeURIComponent).join(',')}`, readOperations),

    page: (call, after, limit) => read(call, `/v1/operations?after=${after}&limit=${limit}`, readPage),
  };
}
