import { peer, readConfig, text } from '@armature/runtime/config';
import type { ClientCredentialsOptions } from './client-credentials.ts';
import type { ConnectOptions } from './index.ts';

/** The services that have clients; payments also serves the ledger and payment operations. */
export type ServiceName = 'access' | 'catalog' | 'identity' | 'inventory' | 'notifications' | 'orders' | 'payments';

/**
 * Connect options for one service from the environment: ARMATURE_PEER_<SERVICE>, ARMATURE_TLS_CERT_FILE,
 * ARMATURE_TLS_KEY_FILE, ARMATURE_TLS_CA_FILE and, if they are set, ARMATURE_TRUST_DOMAIN and ARMATURE_TOKEN.
 * Throws a ConfigError that lists every missing or invalid variable.
 */
export function clientConfig(
  service: ServiceName,
  env: Readonly<Record<string, string | undefined>> = process.env,
): ConnectOptions {
  const { token, trustDomain, addresses, ...tls } = readConfig(
    {
      addresses: peer(service),
      certFile: text('ARMATURE_TLS_CERT_FILE', 'certificate of this workload, PEM'),
      keyFile: text('ARMATURE_TLS_KEY_FILE', 'its private key, PEM'),
      caFile: text('ARMATURE_TLS_CA_FILE', 'certificates of the authorities to trust, PEM'),
      trustDomain: text('ARMATURE_TRUST_DOMAIN', 'SPIFFE trust domain', { fallback: 'armature.local' }),
      token: text('ARMATURE_TOKEN', 'access token of the user', { fallback: '', secret: true }),
    },
    env,
  );
  return { addresses, tls, trustDomain, token: () => token || undefined };
}

/**
 * Options of `clientCredentials` from the environment: ARMATURE_TOKEN_ISSUER, ARMATURE_CLIENT_ID,
 * ARMATURE_CLIENT_KEY_FILE, ARMATURE_TLS_CA_FILE and, if they are set, ARMATURE_TRUST_DOMAIN and ARMATURE_CLIENT_SCOPE.
 * Throws a ConfigError that lists every missing variable.
 */
export function clientCredentialsConfig(
  env: Readonly<Record<string, string | undefined>> = process.env,
): ClientCredentialsOptions {
  const { scope, ...options } = readConfig(
    {
      issuer: text('ARMATURE_TOKEN_ISSUER', 'issuer of access tokens, such as https://localhost:7408'),
      clientId: text('ARMATURE_CLIENT_ID', 'id of the service account of this program'),
      keyFile: text('ARMATURE_CLIENT_KEY_FILE', 'its private key, PEM or JWK'),
      caFile: text('ARMATURE_TLS_CA_FILE', 'certificates of the authorities to trust, PEM'),
      trustDomain: text('ARMATURE_TRUST_DOMAIN', 'SPIFFE trust domain', { fallback: 'armature.local' }),
      scope: text('ARMATURE_CLIENT_SCOPE', 'scope to ask for', { fallback: '' }),
    },
    env,
  );
  return scope ? { ...options, scope } : options;
}
