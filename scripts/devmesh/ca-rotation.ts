import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { certificatesIn } from '@armature/runtime/credentials';
import {
  certificateFiles,
  ensureCertificates,
  issueCa,
  readAuthority,
  readCa,
  serverNames,
  workloadIds,
} from './certificates.ts';
import { type State, writeAtomically } from './state.ts';

/**
 * How far a change of the authority has come: nothing under way; both authorities are trusted and the old one
 * signs; both are trusted and the new one signs.
 */
export type RotationStage = 'steady' | 'started' | 'switched';

/** Several times as long as a process takes to notice that a file has changed. */
const noticeMs = 10_000;
/** The broker keeps what it has read for up to two minutes. */
const waitMaxMs = 150_000;

const bundleFile = (state: State) => certificateFiles(state, 'ca').cert;
const nextKey = (state: State) => certificateFiles(state, 'next-ca').key;

/** Read off the files alone, so that a step which was interrupted is simply done again. */
export function rotationStage(state: State): RotationStage {
  const bundle = certificatesIn(readFileSync(bundleFile(state), 'utf8'));
  if (bundle.length < 2) return 'steady';
  if (!existsSync(nextKey(state))) return 'switched';
  const key = createPrivateKey(readFileSync(nextKey(state)));
  return bundle.some((certificate) => certificate.checkPrivateKey(key)) ? 'started' : 'switched';
}

/** First step: makes the new authority, which every process then trusts beside the old one. It signs nothing yet. */
export async function startRotation(state: State): Promise<void> {
  expectStage(state, ['steady']);
  const [current, next] = [await readCa(state), await issueCa()];
  writeAtomically(nextKey(state), `${next.keyPem}\n`, 0o600);
  writeAtomically(bundleFile(state), `${current.pem}\n${next.pem}\n`);
}

/**
 * Second step: the new authority signs from now on, and every certificate is made anew by it. Waits first, until
 * every process has read the new bundle. Deletes the old authority's key. Returns the names of the new certificates.
 */
export async function switchAuthority(state: State): Promise<string[]> {
  if (expectStage(state, ['started', 'switched']) === 'started') {
    await noticed([bundleFile(state)]);
    if (!(await readAuthority(state, 'next-ca'))) throw new Error('the new authority is not in the bundle');
    renameSync(nextKey(state), certificateFiles(state, 'ca').key);
  }
  return ensureCertificates(state);
}

/**
 * Last step: removes the old authority from the bundle. Waits first, until every process has read its new certificate;
 * then until no server shows its clients a certificate of the old authority. Changes nothing and throws if one still
 * does after `waitMs`.
 */
export async function retireAuthority(
  state: State,
  showing: readonly Showing[] = [],
  waitMs: number = waitMaxMs,
): Promise<void> {
  expectStage(state, ['switched']);
  const ca = new X509Certificate((await readCa(state)).pem);
  const leaves = [...Object.keys(workloadIds()), ...serverNames].map((name) => certificateFiles(state, name).cert);
  const isOld = (leaf: X509Certificate) => !leaf.checkIssued(ca) || !leaf.verify(ca.publicKey);
  const left = leaves.filter((file) => isOld(new X509Certificate(readFileSync(file))));
  if (left.length > 0) throw new Error(`${left.join(', ')}: still of the old authority; run STEP=switch again`);
  await noticed(leaves);
  const deadline = Date.now() + waitMs;
  for (;;) {
    const late = await whoShows(isOld, showing);
    if (late.length === 0) break;
    if (Date.now() > deadline) {
      throw new Error(`certificates of the old authority are still shown by ${late.join(', ')}; it stays trusted`);
    }
    await sleep(2_000);
  }
  writeAtomically(bundleFile(state), `${ca.toString().trim()}\n`);
}

/** A server whose certificate can be looked at; undefined when no process listens there. */
export interface Showing {
  name: string;
  certificate(): Promise<X509Certificate | undefined>;
}

async function whoShows(wanted: (leaf: X509Certificate) => boolean, showing: readonly Showing[]): Promise<string[]> {
  const seen = await Promise.all(showing.map(async ({ name, certificate }) => ({ name, leaf: await certificate() })));
  return seen.filter(({ leaf }) => leaf && wanted(leaf)).map(({ name }) => name);
}

function expectStage(state: State, allowed: readonly RotationStage[]): RotationStage {
  const stage = rotationStage(state);
  if (allowed.includes(stage)) return stage;
  const next = { steady: 'start', started: 'switch', switched: 'retire' }[stage];
  throw new Error(`the change of the authority is at "${stage}"; the next step is armature certs ${next}`);
}

/** Waits until the newest of the files is old enough that every process has read it. */
async function noticed(files: readonly string[]): Promise<void> {
  const newest = Math.max(...files.map((file) => statSync(file).mtimeMs));
  await sleep(Math.max(0, newest + noticeMs - Date.now()));
}
