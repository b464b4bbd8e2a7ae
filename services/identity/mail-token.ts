import { timingSafeEqual } from 'node:crypto';
import type { Sealing } from './sealing.ts';

/** What a link in a mail may do. */
export type MailPurpose = 'verify_email' | 'reset_password';

const pattern = /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.([\w-]{43})$/;

const proof = (sealing: Sealing, purpose: MailPurpose, letterId: string) =>
  sealing.sign(`mail\0${purpose}\0${letterId}`);

/** The token of a letter, worked out when it is sent: no table, event or log ever holds one. */
export const mailToken = (sealing: Sealing, purpose: MailPurpose, letterId: string): string =>
  `${letterId}.${proof(sealing, purpose, letterId)}`;

/** The letter that a token came with, if it is ours and for this purpose; else null. Whether it still works is its row's to say. */
export function letterOf(sealing: Sealing, purpose: MailPurpose, token: string): string | null {
  const [, letterId, given] = pattern.exec(token) ?? [];
  if (!letterId || !given) return null;
  return timingSafeEqual(Buffer.from(given), Buffer.from(proof(sealing, purpose, letterId))) ? letterId : null;
}
