export { event, eventually, openTestbed, quick, type RunningConsumer } from './messaging.ts';
export { scriptedAccess, until } from './policy.ts';
export * from './purchase-saga.ts';
export { open } from './saga.ts';
