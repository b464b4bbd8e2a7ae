import { caReader, splitCa } from '../credentials/server-trust.ts';

/**
 * TLS as the driver takes it: the server must show a certificate of these authorities, for the name that it is
 * reached under. An object with a getter, because the driver looks at `ca` whenever it connects; that is how new
 * authorities count from the next connection on. Connections that are open stay as they are.
 */
class VerifiedTls {
  readonly rejectUnauthorized = true;
  readonly verifyIdentity = true;
  readonly minVersion = 'TLSv1.2';
  readonly #read: () => string;

  constructor(caFile: string) {
    this.#read = caReader(caFile);
  }

  get ca(): string {
    return this.#read();
  }

  /** The ORM copies its options, and keeps what copies itself so. */
  clone(): this {
    return this;
  }
}

/** A database's URL as the driver takes it. TLS is used, and verified, where the URL has `?ssl-ca=<file>`. */
export function driverUrl(url: string): { url: string; driverOptions: { ssl?: VerifiedTls } } {
  const bare = splitCa(url);
  return { url: bare.url, driverOptions: bare.caFile ? { ssl: new VerifiedTls(bare.caFile) } : {} };
}
