export { scriptedAccess, until } from './policy.ts';
export * from './purchase-saga.ts';
export { open } from './saga.ts';
