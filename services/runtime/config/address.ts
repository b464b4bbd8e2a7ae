/** Splits "host:port"; throws on anything else. */
export function splitAddress(address: string): { host: string; port: number } {
  const match = /^(.+):(\d{1,5})$/.exec(address);
  if (!match?.[1] || Number(match[2]) > 65_535) throw new Error(`not a host:port address: ${address}`);
  return { host: match[1], port: Number(match[2]) };
}
