/** Paths of PEM files: a certificate, its private key, and the authorities to trust. */
export interface TlsFiles {
  certFile: string;
  keyFile: string;
  caFile: string;
}
