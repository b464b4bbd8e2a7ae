import { OpsErrorReason } from '@armature/proto/ops/v1/contract.ts';
import { rpcError } from '../errors/errors.ts';

const id = (deadLetterId: string) => ({ dead_letter_id: deadLetterId });

export const deadLetterNotFound = (deadLetterId: string) =>
  rpcError('NOT_FOUND', OpsErrorReason.DEAD_LETTER_NOT_FOUND, 'no such dead letter', id(deadLetterId));

export const deadLetterRedriven = (deadLetterId: string) =>
  rpcError('FAILED_PRECONDITION', OpsErrorReason.DEAD_LETTER_REDRIVEN, 'it was redriven already', id(deadLetterId));

export const deadLetterDropped = (deadLetterId: string) =>
  rpcError('FAILED_PRECONDITION', OpsErrorReason.DEAD_LETTER_DROPPED, 'it was dropped already', id(deadLetterId));

export const filterMissing = () =>
  rpcError(
    'INVALID_ARGUMENT',
    OpsErrorReason.FILTER_MISSING,
    'says neither which ids nor what to filter by; set filter.all to mean every dead letter',
  );

export const sagaFilterMissing = () =>
  rpcError(
    'INVALID_ARGUMENT',
    OpsErrorReason.FILTER_MISSING,
    'filter is empty: set name, step, reason or older_than_seconds, or filter.all to mean every stuck saga',
  );

export const sagaNotFound = (sagaId: string) =>
  rpcError('NOT_FOUND', OpsErrorReason.SAGA_NOT_FOUND, 'no such saga', { saga_id: sagaId });

export const sagaUndefined = (saga: { sagaId: string; name: string; definitionVersion: number }) =>
  rpcError(
    'FAILED_PRECONDITION',
    OpsErrorReason.SAGA_UNDEFINED,
    `this process does not know version ${saga.definitionVersion} of saga ${saga.name}`,
    { saga_id: saga.sagaId },
  );

export const sagaNotStuck = (sagaId: string, status: string) =>
  rpcError('FAILED_PRECONDITION', OpsErrorReason.SAGA_NOT_STUCK, `only what is stuck is resumed; it is ${status}`, {
    saga_id: sagaId,
  });

export const sagaPastPivot = (sagaId: string, pivot: string) =>
  rpcError(
    'FAILED_PRECONDITION',
    OpsErrorReason.SAGA_PAST_PIVOT,
    `its pivot, ${pivot}, is done: from there it only goes forward`,
    { saga_id: sagaId, pivot },
  );

export const sagaMustComplete = (sagaId: string) =>
  rpcError(
    'FAILED_PRECONDITION',
    OpsErrorReason.SAGA_MUST_COMPLETE,
    'this saga must complete: it only goes forward, from its first step; resume it when it is stuck',
    { saga_id: sagaId },
  );

export const sagaGoingBack = (sagaId: string) =>
  rpcError('FAILED_PRECONDITION', OpsErrorReason.SAGA_GOING_BACK, 'it is going back already', { saga_id: sagaId });

export const sagaEnded = (sagaId: string) =>
  rpcError('FAILED_PRECONDITION', OpsErrorReason.SAGA_ENDED, 'it has ended', { saga_id: sagaId });

export const subscriptionNotFound = (service: string, aggregate: string, consumer: string) =>
  rpcError(
    'NOT_FOUND',
    OpsErrorReason.SUBSCRIPTION_NOT_FOUND,
    `no contract says that ${consumer} consumes events of ${aggregate} from ${service}`,
    { aggregate, consumer },
  );
