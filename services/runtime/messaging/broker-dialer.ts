import { type ChannelModel, connect } from 'amqplib';
import { caReader, splitCa } from '../credentials/server-trust.ts';

/**
 * Returns a function that connects to the broker of a URL. When the URL names a CA bundle, each connection trusts its
 * newest content.
 */
export function brokerDialer(url: string): (options?: DialOptions) => Promise<ChannelModel> {
  const bare = splitCa(url);
  const ca = bare.caFile ? caReader(bare.caFile) : undefined;
  return (options = {}) => connect(bare.url, { ...options, ...(ca ? { ca: ca(), minVersion: 'TLSv1.2' } : {}) });
}

interface DialOptions {
  timeout?: number;
  noDelay?: boolean;
  keepAlive?: boolean;
  clientProperties?: Record<string, string>;
}
