import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { equalSecrets, secretVersion } from '@armature/runtime/credentials';

const nonceBytes = 12;
const tagBytes = 16;
const versionBytes = 8;
/** Boxes of releases without versions begin with a random nonce instead. */
const mark = Buffer.from('AS1\x01', 'latin1');

/** The version of boxes that were sealed before versions existed. */
export const unversioned = Buffer.alloc(versionBytes);

/**
 * What the service derives from its secret: one key for each purpose, so that none can stand in for another. While the
 * secret is replaced there are several versions of it: one makes everything, every known one opens and verifies.
 */
export interface Sealing {
  /** Encrypts so that only the same context opens it (AES-256-GCM). */
  seal(plain: string, context: string): Buffer;
  /** Throws when the box was changed, or sealed with a secret that is not known or for another context. */
  open(box: Buffer, context: string): string;
  /** A proof of `text` that only a holder of the secret can make, 43 characters. */
  sign(text: string): string;
  /** Whether a known version has made the proof of `text`. */
  verifies(text: string, proof: string): boolean;
  /** Keys for signed cookies: the first one signs, all of them verify. */
  readonly cookieKeys: readonly string[];
  /** Names the version of the secret that seals and signs. Does not reveal it. */
  readonly version: Buffer;
  /** The other versions that values may be sealed with, `unversioned` among them. */
  readonly otherVersions: readonly Buffer[];
}

/** Seals and signs with the secret `current`; opens and verifies also with the others, the next and earlier ones. */
export function sealing(current: string, others: readonly string[] = []): Sealing {
  const versions = [current, ...others].map(versionOf);
  const [present] = versions as [Version];
  /** Of a box without a version, the box itself with every version that it may be of. */
  const candidates = (box: Buffer): { sealed: Buffer; of: readonly Version[] } => {
    const found = versions.find(({ name }) => box.subarray(0, headOf(name).length).equals(headOf(name)));
    if (found) return { sealed: box.subarray(headOf(found.name).length), of: [found] };
    return { sealed: box, of: versions };
  };
  return {
    seal: (plain, context) => Buffer.concat([headOf(present.name), encrypt(present.sealKey, plain, context)]),
    open(box, context) {
      const { sealed, of } = candidates(box);
      for (const { sealKey } of of) {
        const plain = decrypt(sealKey, sealed, context);
        if (plain !== null) return plain;
      }
      throw new Error(`cannot open what was sealed for ${context}: ${faultOf(box, versions)}`);
    },
    sign: (text) => proofOf(present, text),
    verifies(text, proof) {
      // Every version is compared, and each in constant time.
      return versions.filter((version) => equalSecrets(proof, proofOf(version, text))).length > 0;
    },
    cookieKeys: versions.map(({ cookieKey }) => cookieKey),
    version: present.name,
    otherVersions: [unversioned, ...versions.slice(1).map(({ name }) => name)],
  };
}

/** The version of the secret that a box says it was sealed with. */
export const sealedBy = (box: Buffer): Buffer =>
  box.subarray(0, mark.length).equals(mark) ? box.subarray(mark.length, mark.length + versionBytes) : unversioned;

interface Version {
  name: Buffer;
  sealKey: Buffer;
  signKey: Buffer;
  cookieKey: string;
}

function versionOf(secret: string): Version {
  const derive = (purpose: string) => Buffer.from(hkdfSync('sha256', secret, 'armature.identity', purpose, 32));
  return {
    name: Buffer.from(secretVersion(secret), 'hex'),
    ...{ sealKey: derive('seal'), signKey: derive('sign'), cookieKey: derive('cookies').toString('base64url') },
  };
}

const headOf = (name: Buffer): Buffer => Buffer.concat([mark, name]);

const proofOf = ({ signKey }: Version, text: string): string =>
  createHmac('sha256', signKey).update(text).digest('base64url');

function encrypt(key: Buffer, plain: string, context: string): Buffer {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(context));
  return Buffer.concat([nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]);
}

/** Null when another key or context has sealed it, or when it was changed. */
function decrypt(key: Buffer, sealed: Buffer, context: string): string | null {
  if (sealed.length < nonceBytes + tagBytes) return null;
  const nonce = sealed.subarray(0, nonceBytes);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(context)).setAuthTag(sealed.subarray(-tagBytes));
  const plain = decipher.update(sealed.subarray(nonceBytes, -tagBytes));
  try {
    return Buffer.concat([plain, decipher.final()]).toString('utf8');
  } catch {
    return null;
  }
}

function faultOf(box: Buffer, versions: readonly Version[]): string {
  const known = versions.map(({ name }) => name.toString('hex')).join(', ');
  const name = sealedBy(box).toString('hex');
  if (sealedBy(box).equals(unversioned)) return `it was changed, or its secret is not one of ${known}`;
  return `it names version ${name} of the secret, known are ${known}; was it changed, or that version retired too early?`;
}

/** The stored form of identifiers that are secrets. They are random, so the hash cannot be inverted by guessing. */
export const fingerprint = (text: string): Buffer => createHash('sha256').update(text).digest();
