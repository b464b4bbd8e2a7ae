export { derivedId, newId, oldestIdOf } from './id.ts';
