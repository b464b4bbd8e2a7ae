import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII } from 'node:url';

/** Where a server listens or is reached. An IPv6 host has no brackets here. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

const addressPattern = /^(?:\[([^[\]]*)\]|([^[\]:]*)):(\d{1,5})$/;
const labelPattern = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i;
const hostNameMax = 253;

/**
 * Reads "host:port", where the host is a name, an IPv4 address, or an IPv6 address in brackets as in "[::1]:7401".
 * Names are returned in lower case and ASCII (IDNA). Throws an Error that quotes the text and names the rule.
 */
export function splitAddress(text: string): Address {
  try {
    return readAddress(text);
  } catch (error) {
    throw new Error(`${JSON.stringify(text)} ${(error as Error).message}`);
  }
}

/** As `splitAddress`; the message of its Error lacks the text, because readConfig and others put it before. */
export function readAddress(text: string): Address {
  const [, bracketed, plain = '', digits = ''] = addressPattern.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '') throw new Error(`is not host:port${hint(text)}`);
  if (port > 65_535) throw new Error(`is not host:port: the port must be at most 65535 (got ${port})`);
  if (bracketed === undefined) return { host: hostOf(plain), port };
  if (!isIPv6(bracketed)) throw new Error('is not host:port: only an IPv6 address stands in brackets');
  return { host: bracketed, port };
}

/** The most addresses that one client accepts. */
export const addressesMax = 100;

/** As `readAddress`, for an address that a client connects to. */
export function readPeerAddress(text: string): Address {
  const address = readAddress(text);
  if (address.port === 0) throw new Error('is not host:port of a server: the port must not be 0');
  return address;
}

/** Writes an address as `splitAddress` reads it. */
export const joinAddress = ({ host, port }: Address): string =>
  isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;

const hint = (text: string): string =>
  text.split(':').length > 2 && !text.startsWith('[') ? ': an IPv6 address needs brackets, as in [::1]:7401' : '';

function hostOf(text: string): string {
  const name = asciiOf(text);
  const labels = name.replace(/\.$/, '').split('.');
  // A host whose last label is a number is an IPv4 address for every resolver (https://url.spec.whatwg.org/#host-parsing).
  if (/^(\d+|0x[0-9a-f]*)$/i.test(labels.at(-1)!)) {
    if (!isIPv4(name)) throw new Error('is not host:port: the host is not an IPv4 address');
  } else if (name.length > hostNameMax || !labels.every((label) => labelPattern.test(label))) {
    throw new Error('is not host:port: the host is not a host name');
  }
  return name;
}

function asciiOf(text: string): string {
  if (/^[\w.-]*$/.test(text)) return text.toLowerCase();
  // IDNA drops characters that cannot be seen; an address that holds one is a mistake.
  return /^[\p{L}\p{M}\p{N}._-]*$/u.test(text) ? domainToASCII(text) : '';
}
