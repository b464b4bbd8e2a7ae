import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';

const nonceBytes = 12;
const tagBytes = 16;

/** What the service derives from its secret: one key for each purpose, so that none can stand in for another. */
export interface Sealing {
  /** Encrypts so that only the same context opens it (AES-256-GCM). */
  seal(plain: string, context: string): Buffer;
  /** Throws when the box was changed, or sealed with another secret or for another context. */
  open(box: Buffer, context: string): string;
  /** A proof of `text` that only a holder of the secret can make, 43 characters. */
  sign(text: string): string;
  /** Keys for signed cookies. */
  readonly cookieKeys: readonly string[];
}

export function sealing(secret: string): Sealing {
  const derive = (purpose: string) => Buffer.from(hkdfSync('sha256', secret, 'armature.identity', purpose, 32));
  const sealKey = derive('seal');
  const signKey = derive('sign');
  return {
    seal(plain, context) {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv('aes-256-gcm', sealKey, nonce).setAAD(Buffer.from(context));
      return Buffer.concat([nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    },
    open(box, context) {
      const nonce = box.subarray(0, nonceBytes);
      const decipher = createDecipheriv('aes-256-gcm', sealKey, nonce, { authTagLength: tagBytes });
      decipher.setAAD(Buffer.from(context)).setAuthTag(box.subarray(-tagBytes));
      return decipher.update(box.subarray(nonceBytes, -tagBytes), undefined, 'utf8') + decipher.final('utf8');
    },
    sign: (text) => createHmac('sha256', signKey).update(text).digest('base64url'),
    cookieKeys: [derive('cookies').toString('base64url')],
  };
}

/** The stored form of identifiers that are secrets. They are random, so the hash cannot be inverted by guessing. */
export const fingerprint = (text: string): Buffer => createHash('sha256').update(text).digest();
