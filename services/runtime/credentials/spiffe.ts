import { X509Certificate } from 'node:crypto';

/** A certificate as node's TLS sockets and grpc-js return it. */
export type LeafCertificate = X509Certificate | { readonly raw?: Uint8Array };

const maxNamesLength = 4096;
// One entry of node's text form: "DNS:localhost, URI:spiffe://…". A value that holds a comma, a quote or
// anything else that could forge an entry comes as a JSON string (CVE-2021-44532), which is kept as it is.
const nameEntry = /([A-Za-z0-9 ]+):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y;
const pathPattern = /^(service|workload)\/([a-z0-9-]{1,63})$/;

const known = new WeakMap<object, { trustDomain: string; workload: string | null }>();

/**
 * Returns the Casbin subject of a certificate: "service:orders" for spiffe://<trust domain>/service/orders,
 * "workload:developer" for …/workload/developer. Null unless the certificate is a leaf whose only URI name is a SPIFFE
 * id of this trust domain. The TLS layer has verified chain and validity before. The result is cached per certificate
 * object.
 */
export function workloadOf(certificate: LeafCertificate, trustDomain: string): string | null {
  const before = known.get(certificate);
  if (before && before.trustDomain === trustDomain) return before.workload;
  const workload = read(certificate, trustDomain);
  known.set(certificate, { trustDomain, workload });
  return workload;
}

function read(certificate: LeafCertificate, trustDomain: string): string | null {
  const parsed = parse(certificate);
  if (!parsed || parsed.ca || !parsed.subjectAltName) return null;
  const uris = uriNames(parsed.subjectAltName);
  if (uris?.length !== 1) return null;
  const prefix = `spiffe://${trustDomain}/`;
  const uri = uris[0]!;
  if (!uri.startsWith(prefix)) return null;
  const match = pathPattern.exec(uri.slice(prefix.length));
  return match ? `${match[1]}:${match[2]}` : null;
}

function parse(certificate: LeafCertificate): X509Certificate | null {
  if (certificate instanceof X509Certificate) return certificate;
  if (!certificate.raw) return null;
  try {
    return new X509Certificate(certificate.raw);
  } catch {
    // Bytes that are not a certificate identify no workload; the caller logs that.
    return null;
  }
}

/** Returns the URI names in node's text form of subjectAltName; null when the text is not in that form. */
export function uriNames(subjectAltName: string): string[] | null {
  if (subjectAltName.length > maxNamesLength) return null;
  const uris: string[] = [];
  nameEntry.lastIndex = 0;
  while (nameEntry.lastIndex < subjectAltName.length) {
    const match = nameEntry.exec(subjectAltName);
    if (!match) return null;
    if (match[1] === 'URI') uris.push(match[2]!);
  }
  return uris;
}
