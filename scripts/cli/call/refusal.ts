import type { RpcError } from '@armature/runtime/errors';

/** A refusal as lines for a person: code and message, the reason, then every detail that came with it. */
export function renderRefusal(error: RpcError): string[] {
  const { code, reason, message, domain, metadata } = error;
  const { fieldViolations = [], retryDelayMs, quota } = error.details;
  const rows: [string, string][] = [];
  if (reason) rows.push(['reason', domain ? `${reason} (${domain})` : reason]);
  for (const { field, description } of fieldViolations) rows.push(['field', `${field}: ${description}`]);
  rows.push(...Object.entries(metadata));
  if (quota) rows.push(['limit', `${quota.subject}: ${quota.description}`]);
  if (retryDelayMs !== undefined) rows.push(['retry', `after ${retryDelayMs} ms`]);
  if (!reason && hints[code]) rows.push(['hint', hints[code]]);
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return [`${code}: ${message}`, ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`)];
}

/** For statuses that come from the connection rather than from a service. */
const hints: Partial<Record<RpcError['code'], string>> = {
  UNAVAILABLE: 'armature status tells whether the service runs; armature up starts what is missing',
};
