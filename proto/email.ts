// The rule for e-mail addresses, and the one form in which they are compared. Contracts, pages, lookups, throttling and
// mail use it, so that no two of them can take the same text for different addresses.
import { domainToASCII } from 'node:url';

/** The parts of an address. */
export interface EmailAddress {
  /** Where mail goes: the part before the @ as it was written, and the domain in ASCII. */
  readonly mailbox: string;
  /** The form that is compared: `mailbox` in lower case. */
  readonly key: string;
}

const lengthMax = 254;
const localLengthMax = 64;

/** The characters that the HTML standard allows in <input type=email>. All are ASCII: other characters look alike. */
const local = /^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+$/;

/**
 * What a domain may have before it is converted: letters, marks and digits of any script, hyphens, and the characters
 * that UTS #46 reads as dots. `domainToASCII` would take other characters for parts of a URL, or drop them.
 */
const domainCharacters = /^[\p{L}\p{M}\p{N}.\u3002\uff0e\uff61-]+$/u;

/** The labels of a domain in ASCII, by the HTML standard; the last one is no number, because that is an IP address. */
const domainInAscii = /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?!\d+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * Reads an address. Returns what is wrong with it as the end of a sentence when it is not one. Nothing is trimmed: an
 * address with a blank at its end is not an address.
 */
export function parseEmail(text: string): EmailAddress | { readonly problem: string } {
  if (text.length > lengthMax) return { problem: `must have at most ${lengthMax} characters` };
  const at = text.lastIndexOf('@');
  if (at < 1 || at === text.length - 1) return { problem: 'must be an email address, such as name@example.org' };
  const [name, domain] = [text.slice(0, at), text.slice(at + 1)];
  if (!local.test(name)) {
    return { problem: "must have only ASCII letters, digits and .!#$%&'*+/=?^_`{|}~- before the @" };
  }
  if (name.length > localLengthMax) return { problem: `must have at most ${localLengthMax} characters before the @` };
  const ascii = domainCharacters.test(domain) ? domainToASCII(domain) : '';
  if (!domainInAscii.test(ascii)) {
    return { problem: 'must have a domain name after the @: labels of letters, digits and hyphens, separated by dots' };
  }
  const mailbox = `${name}@${ascii}`;
  // The ASCII form of a domain is longer than the other one.
  if (mailbox.length > lengthMax) return { problem: `must have at most ${lengthMax} characters in ASCII` };
  return { mailbox, key: mailbox.toLowerCase() };
}

/** Whether a text is an e-mail address. */
export const isEmail = (text: string): boolean => 'key' in parseEmail(text);

/** What is wrong with a text that should be an e-mail address; empty when nothing is. */
export function emailProblem(text: string): string {
  const parsed = parseEmail(text);
  return 'problem' in parsed ? parsed.problem : '';
}

/** The form in which an address is compared; null for a text that is no address. */
export function emailKey(text: string): string | null {
  const parsed = parseEmail(text);
  return 'key' in parsed ? parsed.key : null;
}
