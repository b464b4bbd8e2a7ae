import { createHmac } from 'node:crypto';

/** The name of a secret's version, 16 hex digits: tells versions apart without revealing the secret. */
export const secretVersion = (secret: string, purpose = 'armature secret version'): string =>
  createHmac('sha256', secret).update(purpose).digest('hex').slice(0, 16);

/** The name of a version of the key of request hashes, as stored with each hash. */
export const hashKeyVersion = (key: string): string => secretVersion(key, 'key id');
