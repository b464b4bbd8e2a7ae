import { caReader, splitCa } from './server-trust.ts';

/**
 * TLS options of the driver: the server must have a certificate of these authorities, for the host name of the URL.
 * `ca` is a getter, because the driver reads it at every connect, so new authorities apply from the next connection on.
 * Open connections stay unchanged.
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

  /** The ORM copies its options, but uses `clone` where there is one. */
  clone(): this {
    return this;
  }
}

/** Converts a database's URL for the driver. TLS is used, and verified, where the URL has `?ssl-ca=<file>`. */
export function driverUrl(url: string): { url: string; driverOptions: { ssl?: VerifiedTls } } {
  const bare = splitCa(url);
  return { url: bare.url, driverOptions: bare.caFile ? { ssl: new VerifiedTls(bare.caFile) } : {} };
}
