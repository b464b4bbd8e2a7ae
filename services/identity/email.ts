import type { MailPurpose } from './mail-token.ts';

/** The kinds of e-mails. Those with a purpose have a link that can be used once. */
export type EmailKind = MailPurpose | 'address_taken' | 'address_restored' | 'password_changed';

/** E-mails that only the owner of an account, or a person with a token or password of it, can cause. */
export const securityKinds: readonly EmailKind[] = ['address_changing', 'address_restored', 'password_changed'];

export interface Mail {
  subject: string;
  text: string;
  html: string;
}

/** The texts contain no input: a stranger who enters an address cannot send it a message of their own. */
const wording: Record<EmailKind, { subject: string; lines: string[]; link?: { path: string; label: string } }> = {
  verify_email: {
    subject: 'Verify your address',
    lines: [
      'This address was entered for an account of Armature Shop.',
      'If it was you, follow the link to verify that it is yours; you need your password.',
      'If it was not you, do nothing: without the link the address is not used.',
    ],
    link: { path: '/verify-email', label: 'Verify my address' },
  },
  reset_password: {
    subject: 'Reset your password',
    lines: [
      'A new password was requested for your account.',
      'Follow the link to choose one. If it was not you, do nothing: your password stays as it is.',
    ],
    link: { path: '/reset-password', label: 'Choose a new password' },
  },
  address_taken: {
    subject: 'You have an account already',
    lines: [
      'This address was entered for a new account, but an account with it exists already.',
      'If you have forgotten your password, ask for a new one. If it was not you, there is nothing to do.',
    ],
  },
  address_changing: {
    subject: 'Your address is being changed',
    lines: [
      'Your account is to get another address. This one stays in use until the other one is verified.',
      'If it was you, there is nothing to do. If it was not you, another person uses your account: follow the link.',
      'It returns this address to your account, signs everyone out and lets you choose a new password.',
    ],
    link: { path: '/undo-email-change', label: 'Undo the change' },
  },
  address_restored: {
    subject: 'The change of your address was undone',
    lines: [
      'Your account has its former address again: the change was undone by a link in an e-mail to it.',
      'This address no longer signs in. If it was not you, another person reads the e-mails of the former address.',
    ],
  },
  password_changed: {
    subject: 'Your password was changed',
    lines: [
      'Your password was changed, and you were signed out everywhere.',
      'If it was not you, ask for a new password at once.',
    ],
  },
};

/** The purpose of the link in an e-mail of this kind; null when it has no link. */
export const purposeOf = (kind: EmailKind): MailPurpose | null =>
  kind === 'verify_email' || kind === 'reset_password' || kind === 'address_changing' ? kind : null;

/** Writes an e-mail, as plain text and as HTML without images or scripts. `token` goes into its link. */
export function render(kind: EmailKind, issuer: string, token: string | null): Mail {
  const { subject, lines, link } = wording[kind];
  const address = link && token ? `${issuer.replace(/\/$/, '')}${link.path}?token=${encodeURIComponent(token)}` : null;
  const text = [...lines, ...(address ? ['', address] : []), ''].join('\n');
  const anchor = address && link ? `<p><a href="${address}">${link.label}</a></p>` : '';
  const paragraphs = lines.map((line) => `<p>${line}</p>`).join('');
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${subject}</title><body>${paragraphs}${anchor}</body></html>`;
  return { subject, text, html };
}
