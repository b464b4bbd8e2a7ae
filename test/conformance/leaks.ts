import { repository } from '../../scripts/devmesh/state.ts';
import type { RawResponse } from './wire.ts';

/** What must never reach a caller, each with the name for failing tests. */
const patterns: Record<string, RegExp> = {
  'a line of a stack': /\bat [\w.<>[\] ]+ \(|\bat (async )?(file|node):|node:internal/,
  'a source file': /\.(ts|mts|js|mjs|cjs)\b(:\d+)?/,
  'a path': /(^|[\s"'(=])\/(home|root|work|tmp|usr|var|etc|opt|proc|run|srv|mnt)\b|node_modules|file:\/\//,
  SQL: /\b(select\s.+\sfrom|insert\s+into|update\s.+\sset|delete\s+from|for update|on duplicate key)\b/i,
  'the database': /\bER_[A-Z_]+|sql(state|message)|errno|mysql|mariadb|kysely|mikro|knex|innodb/i,
  'the broker': /amqp|rabbit|vhost/i,
  'the runtime':
    /(Type|Range|Reference|Syntax|URI|Assertion)Error|grpc-js|protobuf(js)?\b|Cannot read|undefined|\[object /,
  'an internal address': /127\.0\.0\.1|localhost:\d/,
  'a token': /eyJ[\w-]{10,}/,
};

/** The internal details that a response leaks; empty if there are none. */
export function leaksOf(response: RawResponse): string[] {
  const { headers, replies } = response;
  const details = Buffer.from(headers['grpc-status-details-bin'] ?? '', 'base64').toString('latin1');
  const texts = [response.message, details, ...replies.map((reply) => reply.toString('latin1'))];
  for (const [name, value] of Object.entries(headers)) {
    if (name !== 'grpc-status-details-bin' && name !== 'content-type') texts.push(`${name} ${value}`);
  }
  return texts.flatMap((text) => leaksIn(text));
}

export function leaksIn(text: string): string[] {
  const found = Object.entries(patterns).flatMap(([name, pattern]) => {
    const match = pattern.exec(text);
    return match ? [`${name}: ${match[0]}`] : [];
  });
  return text.includes(repository) ? [...found, `the folder of the program: ${repository}`] : found;
}
