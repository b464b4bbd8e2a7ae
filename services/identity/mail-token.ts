import type { Sealing } from './sealing.ts';

/** What a link in an e-mail may do. */
export type MailPurpose = 'verify_email' | 'reset_password' | 'address_changing';

const pattern = /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.([\w-]{43})$/;

const proven = (purpose: MailPurpose, emailId: string) => `mail\0${purpose}\0${emailId}`;

/** The token of an e-mail, computed when it is sent: no table, event or log holds one. */
export const mailToken = (sealing: Sealing, purpose: MailPurpose, emailId: string): string =>
  `${emailId}.${sealing.sign(proven(purpose, emailId))}`;

/**
 * The id of the e-mail that a token came with; null when this service has not issued the token for this purpose. The
 * row of the e-mail tells whether the token is still valid.
 */
export function emailIdOf(sealing: Sealing, purpose: MailPurpose, token: string): string | null {
  const [, emailId, given] = pattern.exec(token) ?? [];
  if (!emailId || !given) return null;
  return sealing.verifies(proven(purpose, emailId), given) ? emailId : null;
}
