import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { CallLog } from '../context/call-context.ts';
import type { TlsFiles } from './tls-paths.ts';

export type { TlsFiles } from './tls-paths.ts';

/** The last valid content of the three files: a certificate, its own key, and the trusted authorities. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
  readonly expiresAt: Date;
}

/** Certificate files that are read again periodically, for users that need the newest. */
export interface TlsWatch {
  current(): TlsMaterial;
  /**
   * Calls the function with each new material; again at each read while it throws. Call the returned function to stop.
   */
  follow(changed: (material: TlsMaterial) => void): () => void;
  stop(): void;
}

const pollMs = 2_000;

/**
 * Reads the files now, and throws when they are not usable. Then reads them every two seconds and uses new content once
 * it is complete. A file that is half written, or a pair of which only one half has been replaced, is left for the next
 * read, and the previous content stays in use.
 */
export function watchTls(
  files: TlsFiles,
  options: { log?: Pick<CallLog, 'info' | 'warn'>; pollMs?: number } = {},
): TlsWatch {
  /** Each with the material that it has taken over. */
  const followers = new Map<(material: TlsMaterial) => void, TlsMaterial>();
  const paths = [files.certFile, files.keyFile, files.caFile] as const;
  let current = material(...(paths.map((path) => readFileSync(path)) as Triple));
  let complaint = '';
  let stopped = false;
  const look = async () => {
    const [cert, key, ca] = (await Promise.all(paths.map((path) => readFile(path)))) as Triple;
    if (stopped) return;
    if (!cert.equals(current.cert) || !key.equals(current.key) || !ca.equals(current.ca)) {
      current = material(cert, key, ca);
      options.log?.info({ expiresAt: current.expiresAt }, 'certificates reloaded');
    }
    pass();
  };
  /** Passes the newest material on. A follower that throws does not keep it from the others, and gets it again later. */
  const pass = () => {
    const failures: unknown[] = [];
    for (const [changed, taken] of followers) {
      if (taken === current) continue;
      try {
        changed(current);
        followers.set(changed, current);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  };
  let timer: NodeJS.Timeout;
  const lookLater = () => {
    timer = setTimeout(async () => {
      try {
        await look();
        complaint = '';
      } catch (error) {
        // Logged once, not every two seconds.
        if (String(error) !== complaint) complain(options.log, error);
        complaint = String(error);
      }
      if (!stopped) lookLater();
    }, options.pollMs ?? pollMs).unref();
  };
  lookLater();
  return {
    current: () => current,
    follow(changed) {
      followers.set(changed, current);
      return () => void followers.delete(changed);
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
      followers.clear();
    },
  };
}

function complain(log: Pick<CallLog, 'warn'> | undefined, error: unknown): void {
  const what = 'certificates not reloaded everywhere; tried again';
  if (log) log.warn({ err: error }, what);
  // Without a logger the problem becomes a process warning of node.
  else process.emitWarning(`${what}: ${error}`, 'CertificateWarning');
}

type Triple = [Buffer, Buffer, Buffer];

/** Throws unless everything parses, the key belongs to the certificate, and OpenSSL accepts the three together. */
function material(cert: Buffer, key: Buffer, ca: Buffer): TlsMaterial {
  const leaf = certificatesIn(cert.toString())[0]!;
  certificatesIn(ca.toString());
  if (!leaf.checkPrivateKey(createPrivateKey(key))) throw new Error('the private key is not that of the certificate');
  createSecureContext({ cert, key, ca });
  return { cert, key, ca, expiresAt: new Date(leaf.validTo) };
}

/**
 * Returns the certificates of a PEM text, at least one. Throws when any is truncated or invalid: OpenSSL would silently
 * use only the ones before it, and half a bundle of authorities refuses good peers.
 */
export function certificatesIn(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  const begun = pem.split('-----BEGIN').length - 1;
  if (blocks.length === 0 || blocks.length !== begun) throw new Error('not whole certificates in PEM');
  return blocks.map((block) => new X509Certificate(block));
}
