import type { Http2Server, ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { logVerbosity, Server, ServerCredentials, setLogVerbosity } from '@grpc/grpc-js';
import type { Connections } from './connections.ts';
import { serverLimits } from './server-limits.ts';
import { guardStreams } from './stream-guard.ts';

// For a header that is not ASCII, of any client, grpc-js writes all raw headers to standard error, tokens included.
setLogVerbosity(logVerbosity.NONE);

/** What this module uses of grpc-js beyond its interface. A test fails when a version changes it. */
interface ServerInside {
  commonServerOptions: object;
  http2Servers: Map<Http2Server, unknown>;
}

/** A server of grpc-js with its limits; it serves no connection yet. */
export function limitedServer(): Server {
  const server = new Server({
    'grpc.max_receive_message_length': serverLimits.messageBytesMax,
    'grpc.max_send_message_length': serverLimits.messageBytesMax,
    'grpc.max_connection_age_ms': serverLimits.connectionAgeMaxMs,
    'grpc.max_connection_age_grace_ms': serverLimits.connectionGraceMs,
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
  });
  const inside = server as unknown as ServerInside;
  if (!inside.commonServerOptions) throw new Error('grpc-js has no commonServerOptions: its limits cannot be set');
  // grpc-js passes only two settings on to HTTP/2, and raises the limit of memory to infinity.
  Object.assign(inside.commonServerOptions, {
    settings: {
      maxConcurrentStreams: serverLimits.streamsPerConnectionMax,
      maxHeaderListSize: serverLimits.headerBytesMax,
      enablePush: false,
    },
    maxHeaderListPairs: serverLimits.headerPairsMax,
    maxSessionMemory: serverLimits.sessionMegabytesMax,
    maxSessionInvalidFrames: serverLimits.invalidFramesMax,
    maxSessionRejectedStreams: serverLimits.rejectedStreamsMax,
    // The guard counts first, and knows whose they are; this is for streams that it does not see.
    streamResetBurst: 2 * serverLimits.resetsBurst,
    streamResetRate: 2 * serverLimits.resetsPerSecond,
  });
  return server;
}

/** Returns what passes connections to a server, behind the guard of its streams. */
export function connectionInjector(
  server: Server,
  connections: Connections,
  isOfContract: (path: string) => boolean,
): (socket: Socket) => void {
  const inside = server as unknown as ServerInside;
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const http2 = [...inside.http2Servers.keys()].at(-1);
  const serve = http2?.listeners('stream');
  if (!http2 || serve?.length !== 1)
    throw new Error('grpc-js does not show its HTTP/2 server: streams cannot be guarded');
  http2.removeAllListeners('stream');
  const { guard, stop } = guardStreams(connections, serve[0] as Parameters<typeof guardStreams>[1], isOfContract);
  http2.on('stream', guard);
  http2.once('close', stop);
  http2.on('session', (session: ServerHttp2Session) => {
    const late = setTimeout(() => session.pendingSettingsAck && session.destroy(), serverLimits.settingsMs).unref();
    session.once('close', () => clearTimeout(late));
  });
  return (socket) => injector.injectConnection(socket);
}
