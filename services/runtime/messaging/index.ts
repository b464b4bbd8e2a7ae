export { openBroker } from './connection.ts';
export { consume } from './consumer.ts';
export { assertInOrder, countForeign } from './dead-letter.ts';
export { eraseDeadLetters } from './dead-letter-erasure.ts';
export { openLease } from './lease.ts';
export { outbox } from './outbox.ts';
export { selectPending } from './relay-batch.ts';
export { retryExchange, retryRoutingKey } from './topology.ts';
