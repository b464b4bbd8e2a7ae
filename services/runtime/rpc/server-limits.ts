/**
 * Every limit of the gRPC port, in the order in which a caller meets them. ARCHITECTURE.md has a table of them, which a
 * test reads; each is there with what happens beyond it.
 */
export const serverLimits = {
  /** A TLS handshake with a valid certificate has to end within this. */
  handshakeMs: 10_000,
  /** Connections in their handshake. One more ends the oldest of them. */
  handshakesMax: 512,
  /** Open connections. One more is refused. */
  connectionsMax: 2_000,
  /** Open connections with the same certificate. One more ends the one of them that has been idle for longest. */
  connectionsPerCertificateMax: 256,
  /** A connection that floods delays the next ones with its certificate by this; each further flood doubles it. */
  floodPauseMs: 1_000,
  floodPauseMaxMs: 30_000,
  /** A client has to acknowledge the settings of HTTP/2, with the limits of its requests, within this. */
  settingsMs: 10_000,
  /** A connection is closed after this, with a grace for its calls, so that certificates and replicas can change. */
  connectionAgeMaxMs: 60 * 60_000,
  connectionGraceMs: 10_000,
  /** Calls in progress on one connection, as HTTP/2 tells clients. */
  streamsPerConnectionMax: 512,
  /** All headers of a request, as HTTP/2 counts them (32 bytes for each besides name and value), and their number. */
  headerBytesMax: 16 * 1024,
  headerPairsMax: 128,
  /** Memory of one HTTP/2 session: headers, frames that wait to be sent. Megabytes. */
  sessionMegabytesMax: 32,
  /** Frames that break the protocol, and streams that were refused, on one connection, until it is closed. */
  invalidFramesMax: 100,
  rejectedStreamsMax: 1_000,
  /** Resets of streams by a client: so many at once, and then so many a second, until its connection is closed. */
  resetsBurst: 500,
  resetsPerSecond: 50,
  /** The request of a call has to arrive within this, and within its deadline. */
  receiveMs: 10_000,
  /** Calls with one certificate whose request has not arrived. One more ends the oldest, if that is a second old. */
  receivingPerCertificateMax: 256,
  /** Bytes of requests that have arrived in part, with one certificate and altogether. */
  receivingBytesPerCertificateMax: 32 * 1024 * 1024,
  receivingBytesMax: 128 * 1024 * 1024,
  /** One message, in both directions, compressed or not. */
  messageBytesMax: 4 * 1024 * 1024,
  /** Health watches, reflection and other streams outside the contracts with one certificate. */
  standardStreamsPerCertificateMax: 20,
  /** A client that reads nothing of what was sent to it for so long, or half as long, loses the call. */
  sendMs: 10_000,
} as const;
