export { driverUrl } from './driver-url.ts';
export { equalSecrets } from './equal-secrets.ts';
export { keyFile } from './jwks.ts';
export { hashKeyVersion, secretVersion } from './secret-version.ts';
export { caReader, splitCa, withCa } from './server-trust.ts';
export { workloadOf } from './spiffe.ts';
export { certificatesIn, type TlsFiles } from './tls-files.ts';
