import { isIP, isIPv4, isIPv6 } from 'node:net';

/**
 * Where attempts come from, as far as they are told apart: an IPv4 address, or the first 64 bits of an IPv6 address,
 * because a single machine usually has all addresses of such a network.
 */
export function sourceOf(ip: string): string {
  const address = ip.split('%')[0] ?? '';
  if (isIPv4(address)) return address;
  if (!isIPv6(address)) return 'unknown';
  const groups = groupsOf(address);
  const [high = 0, low = 0] = groups.slice(6);
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (mapped) return [high >> 8, high & 255, low >> 8, low & 255].join('.');
  return `${groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`;
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  const read = (part: string): number[] =>
    part
      .split(':')
      .filter((group) => group !== '')
      .flatMap((group) => {
        if (!group.includes('.')) return [Number.parseInt(group, 16)];
        const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
        return [a * 256 + b, c * 256 + d];
      });
  const [head = '', tail] = address.split('::');
  const [first, rest] = [read(head), read(tail ?? '')];
  if (tail === undefined) return first;
  return [...first, ...new Array<number>(8 - first.length - rest.length).fill(0), ...rest];
}

/** Reads a list of addresses and networks, such as "10.0.0.0/8, fd00::1". Throws an Error that names the wrong part. */
export function readNetworks(text: string): string[] {
  const parts = text.split(',').map((part) => part.trim());
  for (const part of parts.filter((part) => part !== '')) {
    const [address = '', prefix, ...rest] = part.split('/');
    const version = isIP(address);
    const bits = prefix === undefined ? 0 : Number(prefix);
    const wellFormed = version !== 0 && rest.length === 0 && (prefix === undefined || /^\d{1,3}$/.test(prefix));
    if (!wellFormed || bits > (version === 4 ? 32 : 128)) {
      throw new Error(`has "${part}", which is no IP address and no network such as 10.0.0.0/8`);
    }
  }
  return parts.filter((part) => part !== '');
}
