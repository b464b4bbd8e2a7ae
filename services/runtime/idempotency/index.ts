export { setIdempotencyKey } from './key.ts';
export { noHashKeys, type RequestHash, requestHasher, type StoredHash } from './request-hash.ts';
export { eraseStoredResponses } from './stored-responses.ts';
