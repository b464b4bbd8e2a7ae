import type { WatchPolicyResponse } from '@armature/proto/access/v1/access.ts';

/** One version of the policy as access names it. */
export interface PolicyLabel {
  readonly version: bigint;
  readonly digest: string;
}

/** The meaning of a message of the stream, once it is complete. */
export type Received =
  /** Nothing yet: more of the text follows. */
  | null
  /** The version is still in force. */
  | ({ readonly kind: 'sign' } & PolicyLabel)
  | ({ readonly kind: 'text'; readonly bytes: Buffer } & PolicyLabel);

/** Assembles the texts of a WatchPolicy stream from their parts. */
export interface PolicyAssembly {
  /** Throws when the stream violates its contract or the text grows too long. */
  take(message: WatchPolicyResponse): Received;
}

const maxChunkBytes = 1024 * 1024;

/** Assembles one stream; every stream needs a new assembly. Never stores more than `maxBytes`. */
export function policyAssembly(maxBytes: number): PolicyAssembly {
  let of: PolicyLabel | null = null;
  let parts: Uint8Array[] = [];
  let length = 0;
  const begin = (label: PolicyLabel | null): void => {
    of = label;
    parts = [];
    length = 0;
  };
  return {
    take({ version, digest, chunk, complete }) {
      // A newer text may replace one that was not sent to its end.
      if (of && (of.digest !== digest || of.version !== version)) begin(null);
      if (chunk.length === 0 && !of) {
        if (!complete) throw new Error('the stream of access sent a message that says nothing');
        return { kind: 'sign', version, digest };
      }
      if (chunk.length === 0 && !complete) throw new Error('the stream of access sent an empty part of a text');
      if (chunk.length > maxChunkBytes) throw new Error(`a part of the policy is longer than ${maxChunkBytes} bytes`);
      if (length + chunk.length > maxBytes) throw new Error(`the policy is longer than ${maxBytes} bytes`);
      of ??= { version, digest };
      parts.push(chunk);
      length += chunk.length;
      if (!complete) return null;
      const bytes = Buffer.concat(parts);
      begin(null);
      return { kind: 'text', bytes, version, digest };
    },
  };
}
