import { createPrivateKey, webcrypto } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { certificatesIn } from '@armature/runtime/credentials';
import type { GeneralNameType, X509Certificate } from '@peculiar/x509';
import { serviceNames } from '../../services/manifest.ts';
import { type State, writeAtomically } from './state.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const dayMs = 24 * 3600 * 1000;
const leafDays = 30;
const caDays = 3650;
const renewWithinDays = 7;
export const trustDomain = 'armature.local';

type KeyPair = webcrypto.CryptoKeyPair;

/** Loaded only where a certificate is made or taken apart: most commands and tests find theirs as they should be. */
async function x509(): Promise<typeof import('@peculiar/x509')> {
  await import('reflect-metadata');
  return import('@peculiar/x509');
}

/** A certificate and its key, in memory; `pem` and `keyPem` are what files hold. */
export interface Issued {
  certificate: X509Certificate;
  keys: KeyPair;
  pem: string;
  keyPem: string;
}

export interface CertificateRequest {
  /** Who signs; without one the certificate signs itself, which makes a root. */
  ca?: Issued;
  commonName?: string;
  uris?: readonly string[];
  dns?: readonly string[];
  ips?: readonly string[];
  notBefore?: Date;
  notAfter?: Date;
  isCa?: boolean;
  /** What a leaf may be used for: both ends of a connection when left out, anything when empty. */
  usages?: readonly ('server' | 'client')[];
  /** A key to go on with; a new one is made otherwise. */
  keys?: KeyPair;
}

export interface CertificateFiles {
  cert: string;
  key: string;
}

/** Makes one certificate, good or deliberately bad: nothing of the request is checked. */
export async function issueCertificate(request: CertificateRequest): Promise<Issued> {
  const lib = await x509();
  const { ca, commonName = 'armature development', isCa = false, usages = ['server', 'client'] } = request;
  const keys = request.keys ?? ((await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as KeyPair);
  // Clocks of two machines differ, so a certificate is valid from a little before now.
  const notBefore = request.notBefore ?? new Date(Date.now() - 5 * 60 * 1000);
  const notAfter = request.notAfter ?? new Date(Date.now() + leafDays * dayMs);
  const names: { type: GeneralNameType; value: string }[] = [
    ...(request.uris ?? []).map((value) => ({ type: 'url' as const, value })),
    ...(request.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(request.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
  ];
  const extended = usages.map((end) => lib.ExtendedKeyUsage[`${end}Auth`]);
  const usage = isCa
    ? lib.KeyUsageFlags.keyCertSign | lib.KeyUsageFlags.cRLSign | lib.KeyUsageFlags.digitalSignature
    : lib.KeyUsageFlags.digitalSignature;
  const certificate = await lib.X509CertificateGenerator.create({
    serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(16))).toString('hex'),
    subject: `CN=${commonName}`,
    issuer: ca ? ca.certificate.subject : `CN=${commonName}`,
    notBefore,
    notAfter,
    publicKey: keys.publicKey,
    signingKey: ca ? ca.keys.privateKey : keys.privateKey,
    signingAlgorithm: algorithm,
    extensions: [
      new lib.BasicConstraintsExtension(isCa, undefined, true),
      new lib.KeyUsagesExtension(usage, true),
      ...(isCa || extended.length === 0 ? [] : [new lib.ExtendedKeyUsageExtension(extended)]),
      ...(names.length > 0 ? [new lib.SubjectAlternativeNameExtension(names)] : []),
      await lib.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ...(ca ? [await lib.AuthorityKeyIdentifierExtension.create(ca.keys.publicKey)] : []),
    ],
  });
  const exported = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    certificate,
    keys,
    pem: certificate.toString('pem'),
    keyPem: lib.PemConverter.encode(exported, 'PRIVATE KEY'),
  };
}

/** The request of a workload's certificate: one SPIFFE id, and names that ordinary clients accept. */
export function workloadRequest(ca: Issued, id: string): CertificateRequest {
  const name = id.slice(id.lastIndexOf('/') + 1);
  return { ca, commonName: name, uris: [id], dns: ['localhost'], ips: ['127.0.0.1'] };
}

/** Servers that take part in no call, so they have no SPIFFE id: its key identifies no workload. */
export const serverNames = ['mysql', 'rabbitmq'] as const;

function serverRequest(ca: Issued, name: string): CertificateRequest {
  return { ca, commonName: name, dns: ['localhost'], ips: ['127.0.0.1'], usages: ['server'] };
}

export function certificateFiles(state: State, name: string): CertificateFiles {
  const path = join(state.dir, 'certificates', name);
  return { cert: `${path}.pem`, key: `${path}.key` };
}

/** The SPIFFE ids of everything that gets a certificate in development, by file name. */
export function workloadIds(): Record<string, string> {
  const services = serviceNames.map((name) => [name, `spiffe://${trustDomain}/service/${name}`]);
  return Object.fromEntries([...services, ['developer', `spiffe://${trustDomain}/workload/developer`]]);
}

/**
 * Makes what is missing of the development PKI and renews what ends within a week or is signed by another
 * authority than today's. A renewed certificate keeps its key, so a process that reads the two files at any
 * moment finds a pair. Returns the names of the certificates it wrote.
 */
export async function ensureCertificates(state: State, ids: Record<string, string> = workloadIds()): Promise<string[]> {
  if (areFresh(state, ids)) return [];
  const written: string[] = [];
  const ca = await developmentCa(state, written);
  const requests = [
    ...Object.entries(ids).map(([name, id]) => [name, workloadRequest(ca, id)] as const),
    ...serverNames.map((name) => [name, serverRequest(ca, name)] as const),
  ];
  for (const [name, request] of requests) {
    const files = certificateFiles(state, name);
    const current = await readCertificate(files);
    if (current && isFresh(current.certificate.notAfter) && (await signedBy(current, ca))) continue;
    save(files, await issueCertificate({ ...request, keys: current?.keys }));
    written.push(name);
  }
  return written;
}

/** Whether every certificate is there with its key, of today's authority, and ends later than in a week. */
function areFresh(state: State, ids: Record<string, string>): boolean {
  const read = (name: string) => {
    const { cert, key } = certificateFiles(state, name);
    if (!existsSync(cert) || !existsSync(key)) return undefined;
    const privateKey = createPrivateKey(readFileSync(key));
    const found = certificatesIn(readFileSync(cert, 'utf8')).find((one) => one.checkPrivateKey(privateKey));
    return found && isFresh(new Date(found.validTo)) ? found : undefined;
  };
  const ca = read('ca');
  return ca !== undefined && [...Object.keys(ids), ...serverNames].every((name) => read(name)?.verify(ca.publicKey));
}

/** The development CA with its key, for tests that need certificates of their own. */
export async function readCa(state: State): Promise<Issued> {
  const ca = await readAuthority(state, 'ca');
  if (!ca) throw new Error(`${certificateFiles(state, 'ca').cert} is missing; run armature certs`);
  return ca;
}

async function developmentCa(state: State, written: string[]): Promise<Issued> {
  const files = certificateFiles(state, 'ca');
  const current = await readAuthority(state, 'ca');
  if (current && isFresh(current.certificate.notAfter)) return current;
  const ca = await issueCa();
  save(files, ca);
  written.push('ca');
  return ca;
}

export function issueCa(): Promise<Issued> {
  const notAfter = new Date(Date.now() + caDays * dayMs);
  return issueCertificate({ commonName: 'Armature development CA', isCa: true, notAfter });
}

/** The authority whose key is <name>.key. Its certificate is one of those in ca.pem, which every process trusts. */
export async function readAuthority(state: State, name: string): Promise<Issued | undefined> {
  const keyFile = certificateFiles(state, name).key;
  const bundle = certificateFiles(state, 'ca').cert;
  if (!existsSync(keyFile) || !existsSync(bundle)) return undefined;
  const keyPem = readFileSync(keyFile, 'utf8').trim();
  const key = createPrivateKey(keyPem);
  const certificate = certificatesIn(readFileSync(bundle, 'utf8')).find((one) => one.checkPrivateKey(key));
  return certificate && issued(certificate.toString().trim(), keyPem);
}

/** The key goes first: a reader that finds the certificate finds its key too. */
function save(files: CertificateFiles, issued: Issued): void {
  writeAtomically(files.key, `${issued.keyPem}\n`, 0o600);
  writeAtomically(files.cert, `${issued.pem}\n`);
}

/** Writes a certificate of a test's own making under the state folder and names its files. */
export function saveCertificate(state: State, name: string, issued: Issued): CertificateFiles {
  const files = certificateFiles(state, name);
  save(files, issued);
  return files;
}

export async function readCertificate(files: CertificateFiles): Promise<Issued | undefined> {
  if (!existsSync(files.cert) || !existsSync(files.key)) return undefined;
  return issued(readFileSync(files.cert, 'utf8').trim(), readFileSync(files.key, 'utf8').trim());
}

async function issued(pem: string, keyPem: string): Promise<Issued> {
  const { PemConverter, X509Certificate } = await x509();
  const certificate = new X509Certificate(pem);
  const privateKey = await webcrypto.subtle.importKey('pkcs8', PemConverter.decodeFirst(keyPem), algorithm, true, [
    'sign',
  ]);
  const publicKey = (await certificate.publicKey.export(algorithm, ['verify'])) as webcrypto.CryptoKey;
  return { certificate, keys: { privateKey, publicKey }, pem, keyPem };
}

function isFresh(end: Date): boolean {
  return end.getTime() - Date.now() > renewWithinDays * dayMs;
}

export function signedBy({ certificate }: Issued, ca: Issued): Promise<boolean> {
  return certificate.verify({ publicKey: ca.certificate, signatureOnly: true });
}
