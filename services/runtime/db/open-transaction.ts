import type { CallContext } from '../context/call-context.ts';
import { contextKey } from '../context/keys.ts';

const openTransaction = contextKey('a database transaction is open', false);

/** Whether a database transaction of this call is open. Network calls throw meanwhile. */
export const inTransaction = (call: CallContext): boolean => call.get(openTransaction);

/** Records that a transaction of this call begins or has ended. */
export const setInTransaction = (call: CallContext, open: boolean): void => call.set(openTransaction, open);
